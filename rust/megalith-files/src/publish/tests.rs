//! Drafts under real faults: killed writers, full file systems, races.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::sync::Barrier;

use super::*;
use crate::crash::STEPS;
use crate::testing::{private_tmpfs, rerun};

const KINDS: [Kind; 2] = [Kind::Nameless, Kind::Named];

/// Every name in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn draft_of(path: &Path, text: &str, kind: Kind) -> Draft {
    let draft = Draft::create_as(path, text.len() as u64, 0o600, kind).unwrap();
    draft.file().write_all_at(text.as_bytes(), 0).unwrap();
    draft
}

fn kind_of(result: Result<impl std::fmt::Debug>) -> io::ErrorKind {
    match result {
        Err(Error::Io { source, .. } | Error::FileWrite { source, .. }) => source.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_draft_is_visible_only_once_published() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let draft = draft_of(&path, "complete", kind);
        assert_eq!(draft.name.is_none(), kind == Kind::Nameless, "this file system has O_TMPFILE");
        assert!(names(dir.path()).iter().all(|name| name.ends_with(SUFFIX)));
        draft.publish(false).unwrap();
        assert_eq!(
            (names(dir.path()), std::fs::read(&path).unwrap()),
            (vec!["a.npy".to_owned()], b"complete".to_vec())
        );
        assert!(Lock::try_exclusive(&path).unwrap().is_some(), "a published file is not locked");
        assert_eq!(std::fs::metadata(&path).unwrap().nlink(), 1);
    }
}

#[test]
fn a_dropped_draft_leaves_nothing() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        drop(draft_of(&dir.path().join("a"), "text", kind));
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn an_existing_file_is_replaced_only_on_request() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        draft_of(&path, "first", kind).publish(false).unwrap();
        assert_eq!(kind_of(draft_of(&path, "second", kind).publish(false)), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        draft_of(&path, "third", kind).durable().publish(true).unwrap();
        assert_eq!((names(dir.path()), std::fs::read(&path).unwrap()), (vec!["a".to_owned()], b"third".to_vec()));
    }
}

#[test]
fn errors_are_the_systems_with_the_path_of_the_user() {
    for kind in KINDS {
        let missing = Path::new("/no/such/directory/a");
        let Err(Error::Io { path, source }) = Draft::create_as(missing, 0, 0o600, kind) else { panic!() };
        assert_eq!((path.as_path(), source.kind()), (missing, io::ErrorKind::NotFound));
        assert_eq!(kind_of(Draft::create_as(Path::new("/"), 0, 0o600, kind)), io::ErrorKind::InvalidInput);
        assert_eq!(kind_of(Draft::create_as(Path::new("a/.."), 0, 0o600, kind)), io::ErrorKind::InvalidInput);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kind_of(draft_of(dir.path(), "x", kind).publish(true)), io::ErrorKind::IsADirectory);
        let long = dir.path().join("é".repeat(126));
        draft_of(&long, "x", kind).publish(true).unwrap();
        let longer = dir.path().join("é".repeat(128));
        assert_eq!(kind_of(draft_of(&longer, "x", kind).publish(true)), io::ErrorKind::InvalidFilename);
        assert_eq!(names(dir.path()).len(), 1);
    }
}

#[test]
fn the_mode_is_subject_to_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    std::fs::File::create(dir.path().join("plain")).unwrap();
    for (kind, name) in KINDS.into_iter().zip(["a", "b"]) {
        Draft::create_as(&dir.path().join(name), 0, 0o666, kind).unwrap().publish(false).unwrap();
        assert_eq!(mode(name), mode("plain"));
        Draft::create_as(&dir.path().join(name), 0, 0o400, kind).unwrap().publish(true).unwrap();
        assert_eq!(mode(name), 0o400);
    }
}

#[test]
fn of_many_publishers_of_one_name_exactly_one_wins() {
    for kind in KINDS {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            let barrier = Barrier::new(8);
            let publish = |i: usize| {
                let draft = draft_of(&path, &format!("{i}").repeat(1000), kind);
                barrier.wait();
                draft.publish(false).map(|()| i)
            };
            let results: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || publish(i))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let winners: Vec<usize> = results.iter().flatten().copied().collect();
            assert_eq!(winners.len(), 1);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}", winners[0]).repeat(1000));
            assert_eq!(names(dir.path()), ["a"]);
            assert!(results.into_iter().filter(Result::is_err).all(|r| kind_of(r) == io::ErrorKind::AlreadyExists));
        }
    }
}

#[test]
fn drafts_survive_the_reapers_of_their_neighbours() {
    // Creating, reaping and publishing the same name all at once: nobody may lose a draft.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            scope.spawn(move || {
                for n in 0..200 {
                    draft_of(path, &format!("{i} {n}"), KINDS[(i + n) % 2]).publish(true).unwrap();
                }
            });
        }
    });
    assert_eq!(names(dir.path()), ["a"]);
}

#[test]
fn a_full_file_system_leaves_no_name() {
    private_tmpfs("publish::tests::a_full_file_system_leaves_no_name", "2m", |dir| {
        for kind in KINDS {
            let result = Draft::create_as(&dir.join("a"), 3 << 20, 0o600, kind);
            let Err(Error::FileWrite { done: 0, wanted, .. }) = &result else { panic!("{result:?}") };
            assert_eq!(*wanted, 3 << 20);
            assert_eq!(kind_of(result), io::ErrorKind::StorageFull);
            assert!(names(dir).is_empty());
            assert_eq!(space::available(dir).unwrap().free, Some(2 << 20));
            Draft::create_as(&dir.join("a"), 2 << 20, 0o600, kind).unwrap().publish(true).unwrap();
            std::fs::remove_file(dir.join("a")).unwrap();
        }
    });
}

#[test]
fn only_leftovers_of_the_same_target_are_reaped() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (host(), !host());
    let stay = [
        format!(".b.7-{ours:08x}00000000{SUFFIX}"),
        format!(".a.b.7-{ours:08x}00000000{SUFFIX}"),
        format!(".a.7-{theirs:08x}00000000{SUFFIX}"),
        format!(".a.x-{ours:08x}00000000{SUFFIX}"),
        format!(".a.7-{ours:08x}0{SUFFIX}"),
        ".a".to_owned(),
    ];
    let old = dir.path().join(format!(".a.7-{theirs:08x}00000001{SUFFIX}"));
    let go = [dir.path().join(format!(".a.7-{ours:08x}00000000{SUFFIX}")), old.clone()];
    let held = dir.path().join(format!(".a.8-{ours:08x}00000000{SUFFIX}"));
    for path in go.iter().chain([&held]).cloned().chain(stay.iter().map(|name| dir.path().join(name))) {
        std::fs::write(path, "").unwrap();
    }
    let yesterday = std::time::SystemTime::now() - 2 * FOREIGN;
    File::options().write(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    let lock = Lock::try_exclusive(&held).unwrap().unwrap();
    drop(draft_of(&dir.path().join("a"), "x", Kind::Nameless));
    assert!(go.iter().all(|path| !path.exists()));
    assert!(held.exists() && stay.iter().all(|name| dir.path().join(name).exists()));
    drop(lock);
    drop(draft_of(&dir.path().join("a"), "x", Kind::Nameless));
    assert!(!held.exists());
}

/// What the killed child does, given by the environment of the test below.
#[test]
fn child_that_publishes() {
    let Ok(task) = std::env::var("MEGALITH_TEST_TASK") else { return };
    let (kind, task) = task.split_at(1);
    let (replace, dir) = task.split_at(1);
    let draft = draft_of(&Path::new(dir).join("a"), "new and complete", KINDS[usize::from(kind == "1")]).durable();
    draft.publish(replace == "1").unwrap();
}

#[test]
fn a_killed_writer_leaves_nothing_or_the_complete_file() {
    let mut met = std::collections::HashSet::new();
    for (kind, replace, at) in
        [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().flat_map(|(kind, replace)| STEPS.map(|at| (kind, replace, at)))
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        if replace == 1 {
            std::fs::write(&path, "old").unwrap();
        }
        let leftover = dir.path().join(format!(".a.7-{:08x}00000000{SUFFIX}", host()));
        std::fs::write(&leftover, "").unwrap();
        let mut child = rerun("publish::tests::child_that_publishes");
        child
            .env("MEGALITH_CRASH_AT", at)
            .env("MEGALITH_TEST_TASK", format!("{kind}{replace}{}", dir.path().display()));
        let output = child.output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{output:?}");
        let found = std::fs::read_to_string(&path).ok();
        let allowed = ["new and complete", "old"];
        let has_old_or_nothing = found.as_deref().map_or(replace == 0, |text| allowed[..=replace].contains(&text));
        let is_new = found.as_deref() == Some("new and complete");
        assert!(is_new || (killed && has_old_or_nothing), "{kind} {replace} {at}: {found:?}");
        let visible = names(dir.path()).into_iter().filter(|name| !name.ends_with(SUFFIX)).collect::<Vec<_>>();
        assert!(visible.iter().all(|name| name == "a"), "{visible:?}");
        drop(draft_of(&path, "next", Kind::Nameless));
        assert!(names(dir.path()).iter().all(|name| name == "a"), "{kind} {replace} {at}: {:?}", names(dir.path()));
        if killed {
            met.insert(at);
        }
    }
    assert_eq!(met.len(), STEPS.len(), "each step is on some path: {met:?}");
}
