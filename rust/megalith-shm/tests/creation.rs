//! Making a shared array from the first look to the last, by real processes that race and are killed.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use megalith_files::Draft;
use megalith_files::crash::{DRAFT_STEPS, LOCK_STEPS, step};
use megalith_shm::turn::{Turn, take};
use megalith_shm::{Name, Segment, directory};

/// What is stored under each name.
const BYTES: &[u8] = &[7; 100_000];

/// This test program again, with one function of it.
fn rerun(function: &str, dir: &Path, task: &str) -> Command {
    // Where there is no `/proc` a program does not know its own name.
    let this = std::env::var_os("MEGALITH_TEST_EXE").map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from);
    let mut command = Command::new(this);
    command.args([function, "--exact"]).env("MEGALITH_TEST_DIR", dir).env("MEGALITH_TEST_TASK", task);
    command.stdout(Stdio::null());
    command
}

/// The directory and the task of a function that another test runs by itself; None if it is run as a test.
fn task() -> Option<(PathBuf, String)> {
    Some((PathBuf::from(std::env::var_os("MEGALITH_TEST_DIR")?), std::env::var("MEGALITH_TEST_TASK").ok()?))
}

/// Look until there is something to see.
fn until<R>(what: &str, mut look: impl FnMut() -> Option<R>) -> R {
    let start = Instant::now();
    loop {
        if let Some(result) = look() {
            return result;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Make the array `name`, or be served; whether it was made here.
fn create(dir: &Path, name: &Name, reserve: bool) -> bool {
    until("turn", || {
        let _claim = match take(dir, name).unwrap() {
            Turn::Published => return Some(false),
            Turn::Busy => return None,
            Turn::Ours(claim) => claim,
        };
        let (path, own) = (dir.join(name.array()), directory::own(dir).unwrap());
        let draft = Draft::create_in(&path, &own, BYTES.len() as u64, 0o600, reserve).unwrap();
        if reserve {
            let segment = Segment::writable(draft.file(), BYTES.len()).unwrap();
            let sink = segment.as_mut_ptr().unwrap();
            // SAFETY: the mapping has as many bytes, and nobody else has it.
            unsafe { sink.copy_from_nonoverlapping(BYTES.as_ptr(), BYTES.len()) };
        } else {
            for (i, half) in BYTES.chunks(BYTES.len() / 2).enumerate() {
                draft.file().write_all_at(half, (i * BYTES.len() / 2) as u64).unwrap();
            }
        }
        step("written");
        draft.publish(false).unwrap();
        Some(true)
    })
}

/// The array `name` is not there, or as it should be.
fn check(dir: &Path, name: &Name) -> bool {
    let segment = Segment::open(&dir.join(name.array()), false).unwrap();
    segment.is_some_and(|segment| {
        assert!(segment.as_slice() == Some(BYTES), "a part of an array is visible: {} bytes", segment.len());
        true
    })
}

/// Nothing is in the directory but the own directory, empty, and these files.
fn assert_only(dir: &Path, files: &[String]) {
    let own = directory::own(dir).unwrap();
    let mut expected = [files, &[own.file_name().unwrap().to_str().unwrap().to_owned()]].concat();
    expected.sort();
    assert_eq!((names(dir), names(&own)), (expected, vec![]));
}

/// Run `body` where `/proc` is empty, so that there are no nameless files and drafts have temporary names.
fn without_proc(test: &str, body: impl FnOnce()) {
    if std::env::var_os("MEGALITH_TEST_MOUNT").is_some() {
        assert!(!Path::new("/proc/self").exists());
        return body();
    }
    if std::env::var_os("MEGALITH_NO_MOUNT").is_some() {
        return eprintln!("{test}: not run, MEGALITH_NO_MOUNT is set");
    }
    let script = "mount -t tmpfs -o size=1m none /proc && exec \"$1\" \"$2\" --exact --nocapture";
    let mut command = Command::new("unshare");
    command.args([if rustix::process::getuid().is_root() { "-m" } else { "-rm" }, "sh", "-c", script, "sh"]);
    command.arg(std::env::current_exe().unwrap()).arg(test).env("MEGALITH_TEST_MOUNT", "/proc");
    command.env("MEGALITH_TEST_EXE", std::env::current_exe().unwrap());
    let output = command.output().expect("unshare(1), for a mount namespace; or set MEGALITH_NO_MOUNT");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "in a private mount (MEGALITH_NO_MOUNT skips it):\n{out}\n{err}");
}

/// Makes one array.
#[test]
fn creator() {
    let Some((dir, task)) = task() else { return };
    create(&dir, &Name::new("p_", "a").unwrap(), task == "reserve");
}

/// Kill creators at every step; the steps that were on their way.
fn kill_creators() -> HashSet<&'static str> {
    let mut met = HashSet::new();
    let name = Name::new("p_", "a").unwrap();
    let steps = || DRAFT_STEPS.into_iter().chain(LOCK_STEPS);
    for (at, is_first, form) in steps()
        .flat_map(|at| [(at, true, "write"), (at, false, "write"), (at, true, "reserve"), (at, false, "reserve")])
    {
        let dir = tempfile::tempdir().unwrap();
        if !is_first {
            // An own directory, with what creators of two other arrays left when they were killed: of another host and
            // days ago, since names of this one cannot be made from here.
            let own = directory::own(dir.path()).unwrap();
            let days_ago = SystemTime::now() - Duration::from_hours(48);
            for leftover in [".p_b.npy.7-0123456700000000.megalith-tmp", "p_b.lock"] {
                File::create(own.join(leftover)).unwrap().set_modified(days_ago).unwrap();
            }
        }
        let output = rerun("creator", dir.path(), form).env("MEGALITH_CRASH_AT", at).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{at} {form}: {output:?}");
        let is_there = check(dir.path(), &name);
        assert!(is_there || killed);
        let visible: Vec<_> = names(dir.path()).into_iter().filter(|name| !name.starts_with("megalith-")).collect();
        assert_eq!(visible, if is_there { vec![name.array()] } else { vec![] }, "{at} {form}");
        // The next one is served at once, or makes it.
        assert_eq!(create(dir.path(), &name, form == "reserve"), !is_there, "{at} {form}");
        assert!(check(dir.path(), &name));
        // Whoever is served does not look for leftovers of others; whoever makes something does.
        create(dir.path(), &Name::new("p_", "c").unwrap(), false);
        assert_only(dir.path(), &[name.array(), "p_c.npy".to_owned()]);
        if killed {
            met.insert(at);
        }
    }
    met
}

fn all_steps_but(without: &[&str]) -> HashSet<&'static str> {
    DRAFT_STEPS.into_iter().chain(LOCK_STEPS).filter(|at| !without.contains(at)).collect()
}

#[test]
fn a_creator_killed_at_any_step_leaves_nothing_or_the_complete_array() {
    // Nothing is replaced and nothing is synced, and a file without a name has no temporary one to remove.
    assert_eq!(kill_creators(), all_steps_but(&["synced", "renamed", "recorded", "unlinked"]));
}

#[test]
fn a_creator_without_nameless_files_killed_at_any_step_leaves_nothing_or_the_complete_array() {
    without_proc("a_creator_without_nameless_files_killed_at_any_step_leaves_nothing_or_the_complete_array", || {
        assert_eq!(kill_creators(), all_steps_but(&["synced", "renamed", "recorded"]));
    });
}

/// Makes arrays until it is killed.
#[test]
fn busy_creator() {
    let Some((dir, _)) = task() else { return };
    std::fs::write(dir.join("started"), "").unwrap();
    for i in 0.. {
        create(&dir, &Name::new("p_", &format!("{i}")).unwrap(), i % 2 == 0);
    }
}

#[test]
fn creators_killed_at_random_leave_only_complete_arrays() {
    let is_record_or_own = |name: &str| name.starts_with("megalith-") || name == "started";
    for i in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let mut creators: Vec<Child> =
            (0..2).map(|_| rerun("busy_creator", dir.path(), "-").spawn().unwrap()).collect();
        until("creator", || dir.path().join("started").exists().then_some(()));
        std::thread::sleep(Duration::from_micros(i * 137));
        for creator in &mut creators {
            creator.kill().unwrap();
            creator.wait().unwrap();
        }
        std::fs::remove_file(dir.path().join("started")).unwrap();
        let made = names(dir.path()).into_iter().filter(|name| !is_record_or_own(name)).collect::<Vec<_>>();
        for id in 0..=made.len() {
            let name = Name::new("p_", &format!("{id}")).unwrap();
            let was_there = check(dir.path(), &name);
            assert_eq!(create(dir.path(), &name, false), !was_there);
        }
        assert_eq!(names(dir.path()).len(), made.len() + 2, "{made:?}");
        assert_only(dir.path(), &(0..=made.len()).map(|id| format!("p_{id}.npy")).collect::<Vec<_>>());
    }
}

/// A line that all processes see.
fn note(dir: &Path, line: &str) {
    let mut file = File::options().append(true).create(true).open(dir.join("notes")).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn notes(dir: &Path) -> Vec<String> {
    std::fs::read_to_string(dir.join("notes")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Takes part in a race for many names, all at their turn.
#[test]
fn racer() {
    let Some((dir, rounds)) = task() else { return };
    for i in 0..rounds.parse().unwrap() {
        let name = Name::new("p_", &format!("{i}")).unwrap();
        if create(&dir, &name, false) {
            note(&dir, &format!("{i}"));
        }
        assert!(check(&dir, &name));
    }
}

#[test]
fn of_eight_processes_exactly_one_makes_each_array() {
    let dir = tempfile::tempdir().unwrap();
    let rounds = 200;
    let mut racers: Vec<Child> =
        (0..8).map(|_| rerun("racer", dir.path(), &format!("{rounds}")).spawn().unwrap()).collect();
    assert!(racers.iter_mut().all(|racer| racer.wait().unwrap().success()));
    let mut made: Vec<u32> = notes(dir.path()).iter().map(|line| line.parse().unwrap()).collect();
    made.sort_unstable();
    assert_eq!(made, (0..rounds).collect::<Vec<_>>());
    assert_eq!(names(&directory::own(dir.path()).unwrap()), Vec::<String>::new());
}

/// Gets the turn and keeps it.
#[test]
fn holder() {
    let Some((dir, _)) = task() else { return };
    let _claim = until("turn", || match take(&dir, &Name::new("p_", "a").unwrap()).unwrap() {
        Turn::Ours(claim) => Some(claim),
        _ => None,
    });
    note(&dir, "held");
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn of_those_who_wait_for_a_killed_holder_exactly_one_takes_over() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let start = || rerun("holder", dir.path(), "-").spawn().unwrap();
        let mut all: Vec<Child> = vec![start()];
        until("holder", || (notes(dir.path()).len() == 1).then_some(()));
        all.extend((0..6).map(|_| start()));
        std::thread::sleep(Duration::from_millis(20));
        // Everybody's turn comes, one after another: nobody else has it while one does.
        for turn in 1..4 {
            let name = Name::new("p_", "a").unwrap();
            let pid = until("known holder", || megalith_shm::turn::holder(dir.path(), &name));
            assert_eq!(notes(dir.path()).len(), turn);
            let at = all.iter().position(|child| child.id() == pid).expect("one of ours");
            let mut holder = all.swap_remove(at);
            holder.kill().unwrap();
            holder.wait().unwrap();
            until("successor", || (notes(dir.path()).len() > turn).then_some(()));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(notes(dir.path()).len(), 4);
        for mut child in all {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(create(dir.path(), &Name::new("p_", "a").unwrap(), false));
        assert_only(dir.path(), &["notes".to_owned(), "p_a.npy".to_owned()]);
    }
}
