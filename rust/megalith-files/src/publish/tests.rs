//! Drafts under real faults: killed writers, full file systems, races.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::sync::Barrier;

use super::*;
use crate::crash::DRAFT_STEPS;
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

#[test]
fn a_directory_of_temporary_names_is_cleared_of_all_leftovers_but_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (host(), !host());
    let go = [format!(".b.7-{ours:08x}00000000{SUFFIX}"), format!(".a.npy.7-{ours:08x}00000000{SUFFIX}")];
    let stay = [
        format!(".b.7-{theirs:08x}00000000{SUFFIX}"),
        format!("b.7-{ours:08x}00000000{SUFFIX}"),
        format!("..7-{ours:08x}00000000{SUFFIX}"),
        format!(".b.x-{ours:08x}00000000{SUFFIX}"),
        format!(".b.7-{ours:08x}0{SUFFIX}"),
        SUFFIX.to_owned(),
        "b.lock".to_owned(),
    ];
    let held = dir.path().join(format!(".c.8-{ours:08x}00000000{SUFFIX}"));
    for name in go.iter().chain(&stay) {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    std::fs::write(&held, "").unwrap();
    let _lock = Lock::try_exclusive(&held).unwrap().unwrap();
    drop(Draft::create_in(&dir.path().join("a"), dir.path(), 0, 0o600, false).unwrap());
    assert!(go.iter().all(|name| !dir.path().join(name).exists()));
    assert!(held.exists() && stay.iter().all(|name| dir.path().join(name).exists()));
}

#[test]
fn temporary_names_of_a_draft_with_a_scratch_directory_are_there() {
    for (kind, replace) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("a"), dir.path().join("own"));
        std::fs::create_dir(&scratch).unwrap();
        for reserve in [false, true] {
            let draft = Draft::create_in_as(&path, &scratch, 4, 0o600, reserve, kind).unwrap();
            assert_eq!(draft.file().metadata().unwrap().len(), if reserve { 4 } else { 0 });
            assert_eq!((names(dir.path()).len(), names(&scratch).len()), (1, usize::from(kind == Kind::Named)));
        }
        let draft = Draft::create_in_as(&path, &scratch, 4, 0o600, false, kind).unwrap();
        draft.file().write_all_at(b"text", 0).unwrap();
        draft.publish(replace).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names(&scratch)), (b"text".to_vec(), vec![]));
    }
}

#[test]
fn the_mode_with_a_scratch_directory_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, mode) in KINDS.into_iter().flat_map(|kind| [0o666, 0o640, 0o400].map(|mode| (kind, mode))) {
        let path = dir.path().join("a");
        Draft::create_in_as(&path, dir.path(), 1, mode, true, kind).unwrap().publish(true).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn a_draft_that_reserves_nothing_is_refused_where_it_would_not_fit() {
    private_tmpfs("publish::tests::a_draft_that_reserves_nothing_is_refused_where_it_would_not_fit", "2m", |dir| {
        let path = dir.join("a");
        for (kind, reserve) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let result = Draft::create_in_as(&path, dir, 3 << 20, 0o600, reserve, kind);
            let Err(Error::FileWrite { path: named, wanted, done: 0, .. }) = &result else { panic!("{result:?}") };
            assert_eq!((named, *wanted), (&path, 3 << 20));
            assert_eq!(kind_of(result), io::ErrorKind::StorageFull);
            assert!(names(dir).is_empty());
            assert_eq!(space::available(dir).unwrap().free, Some(2 << 20));
        }
        // Nothing is taken before it is written, and a file system that fills up meanwhile says so.
        let draft = Draft::create_in(&path, dir, 2 << 20, 0o600, false).unwrap();
        assert_eq!(space::available(dir).unwrap().free, Some(2 << 20));
        std::fs::write(dir.join("other"), vec![1; 1 << 20]).unwrap();
        let error = draft.file().write_all_at(&vec![1; 2 << 20], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        drop(draft);
        assert_eq!((names(dir), space::available(dir).unwrap().free), (vec!["other".to_owned()], Some(1 << 20)));
    });
}

#[test]
fn drafts_in_one_scratch_directory_survive_the_reapers_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("own");
    std::fs::create_dir(&scratch).unwrap();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (dir, scratch) = (dir.path(), &scratch);
            scope.spawn(move || {
                for n in 0..200 {
                    let (path, kind) = (dir.join(format!("a{i}")), KINDS[(i + n) % 2]);
                    Draft::create_in_as(&path, scratch, 1, 0o600, n % 3 == 0, kind).unwrap().publish(true).unwrap();
                }
            });
        }
    });
    assert_eq!((names(dir.path()).len(), names(&scratch)), (9, vec![]));
}

/// What the killed child does, given by the environment of the test below: kind, replace, form, directory.
#[test]
fn child_that_publishes() {
    let Ok(task) = std::env::var("MEGALITH_TEST_TASK") else { return };
    let ([kind, replace, form], dir) = task.as_bytes().split_first_chunk().unwrap();
    let (kind, dir) = (KINDS[usize::from(kind - b'0')], Path::new(OsStr::from_bytes(dir)));
    let (path, text) = (dir.join("a"), "new and complete");
    let draft = if *form == b'0' {
        draft_of(&path, text, kind)
    } else {
        let size = text.len() as u64;
        let draft = Draft::create_in_as(&path, &dir.join("own"), size, 0o600, *form == b'2', kind).unwrap();
        draft.file().write_all_at(text.as_bytes(), 0).unwrap();
        draft
    };
    step("written");
    draft.durable().publish(*replace == b'1').unwrap();
}

/// Kill the child at `at`; whether it was on its way.
fn kill_writer(kind: usize, replace: usize, form: usize, at: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (path, own) = (dir.path().join("a"), dir.path().join("own"));
    std::fs::create_dir(&own).unwrap();
    if replace == 1 {
        std::fs::write(&path, "old").unwrap();
    }
    // With a directory of temporary names a leftover of any target is in the way.
    let (scratch, stem) = if form == 0 { (dir.path(), ".a.") } else { (own.as_path(), ".b.") };
    std::fs::write(scratch.join(format!("{stem}7-{:08x}00000000{SUFFIX}", host())), "").unwrap();
    let mut child = rerun("publish::tests::child_that_publishes");
    let task = format!("{kind}{replace}{form}{}", dir.path().display());
    let output = child.env("MEGALITH_CRASH_AT", at).env("MEGALITH_TEST_TASK", task).output().unwrap();
    let killed = output.status.signal() == Some(9);
    assert!(killed || output.status.success(), "{output:?}");
    let found = std::fs::read_to_string(&path).ok();
    let allowed = ["new and complete", "old"];
    let has_old_or_nothing = found.as_deref().map_or(replace == 0, |text| allowed[..=replace].contains(&text));
    let is_new = found.as_deref() == Some("new and complete");
    assert!(is_new || (killed && has_old_or_nothing), "{kind} {replace} {form} {at}: {found:?}");
    let visible = |name: &String| name != "own" && (form != 0 || !name.ends_with(SUFFIX));
    assert!(names(dir.path()).iter().filter(|name| visible(name)).all(|name| name == "a"), "{:?}", names(dir.path()));
    match form {
        0 => drop(draft_of(&path, "next", Kind::Nameless)),
        _ => drop(Draft::create_in(&dir.path().join("c"), &own, 0, 0o600, false).unwrap()),
    }
    let left = [names(dir.path()), names(&own)].concat();
    assert!(left.iter().all(|name| ["a", "own"].contains(&name.as_str())), "{kind} {replace} {form} {at}: {left:?}");
    killed
}

#[test]
fn a_killed_writer_leaves_nothing_or_the_complete_file() {
    let mut met = std::collections::HashSet::new();
    for (kind, replace, form) in (0..12).map(|i| (i % 2, i / 2 % 2, i / 4)) {
        let on_the_way = DRAFT_STEPS.into_iter().filter(|at| kill_writer(kind, replace, form, at));
        met.extend(on_the_way.map(|at| (form, at)));
    }
    // Each step is on some path of each form that has it.
    for (form, without) in [&["permitted"] as &[_], &["reserved"], &[]].into_iter().enumerate() {
        let expected = DRAFT_STEPS.into_iter().filter(|at| !without.contains(at));
        assert!(expected.clone().all(|at| met.contains(&(form, at))), "{form}: {met:?}");
        assert_eq!(met.iter().filter(|(of, _)| *of == form).count(), expected.count());
    }
}
