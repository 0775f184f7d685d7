//! Drafts and locks across a real fork. Here, and not beside the code, because forking is unsafe and the crate has next
//! to no unsafe code.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use megalith_core::Error;
use megalith_files::{Draft, Lock};

/// Run `body` in a forked child of this process, and wait for it.
fn in_child(mut body: impl FnMut() -> bool + Send + Sync + 'static) {
    let mut command = Command::new("true");
    // SAFETY: the child runs `body` on its only thread; it allocates, which the C library allows after its own fork,
    // and takes no lock that another thread of the parent could have held.
    unsafe {
        command.pre_exec(move || if body() { Ok(()) } else { Err(std::io::ErrorKind::Other.into()) });
    }
    assert!(command.status().expect("the child saw what it should").success());
}

/// Run `body` where `/proc` is empty, so that nameless files cannot be published and drafts have temporary names.
///
/// `test` is the name of the calling test, which is run again by itself in a mount namespace.
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
    let output = command.output().expect("unshare(1), for a mount namespace; or set MEGALITH_NO_MOUNT");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "in a private mount (MEGALITH_NO_MOUNT skips it):\n{out}\n{err}");
}

/// A draft of `dir/a`.
fn draft(dir: &Path) -> Draft {
    let draft = Draft::create(&dir.join("a"), 4, 0o600).unwrap();
    draft.file().write_all_at(b"text", 0).unwrap();
    draft
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn drop_in_child() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let shared = Arc::new(Mutex::new(Some(draft(dir.path()))));
    let inherited = Arc::clone(&shared);
    in_child(move || inherited.lock().unwrap().take().is_some());
    // Neither the name nor the lock is gone: another draft of the same name does not reap this one.
    let before = count(dir.path());
    drop(draft(dir.path()));
    assert_eq!(count(dir.path()), before);
    let draft = shared.lock().unwrap().take().expect("the parent's memory is its own");
    draft.publish(false).unwrap();
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"text");
    assert_eq!(count(dir.path()), 1);
    dir
}

#[test]
fn a_child_that_drops_a_nameless_draft_does_not_harm_it() {
    drop_in_child();
}

#[test]
fn a_child_that_drops_a_named_draft_does_not_remove_it() {
    without_proc("a_child_that_drops_a_named_draft_does_not_remove_it", || {
        let dir = tempfile::tempdir().unwrap();
        let named = draft(dir.path());
        assert_eq!(count(dir.path()), 1, "without /proc a draft has a name");
        drop(named);
        assert_eq!(count(dir.path()), 0);
        drop_in_child();
    });
}

#[test]
fn a_child_may_not_publish() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Arc::new(Mutex::new(Some(draft(dir.path()))));
    let inherited = Arc::clone(&shared);
    in_child(move || matches!(inherited.lock().unwrap().take().unwrap().publish(false), Err(Error::Internal(_))));
    assert_eq!(count(dir.path()), 0);
}

#[test]
fn a_child_that_drops_a_lock_does_not_free_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    std::fs::write(&path, "").unwrap();
    let shared = Arc::new(Mutex::new(Lock::try_exclusive(&path).unwrap()));
    let inherited = Arc::clone(&shared);
    in_child(move || inherited.lock().unwrap().take().is_some());
    assert!(Lock::try_exclusive(&path).unwrap().is_none());
    shared.lock().unwrap().take();
    assert!(Lock::try_exclusive(&path).unwrap().is_some());
}

#[test]
fn a_child_that_lets_go_of_its_locks_does_not_free_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.lock");
    let shared = Arc::new(Mutex::new(Some((Lock::at(&path).unwrap().unwrap(), draft(dir.path())))));
    let (inherited, other) = (Arc::clone(&shared), dir.path().join("b.lock"));
    in_child(move || {
        megalith_files::lock::after_fork_in_child();
        let Some((lock, draft)) = inherited.lock().unwrap().take() else { return false };
        let is_nothing = draft.file().metadata().unwrap().len() == 0;
        // The numbers are still taken: giving the old guards up closes no file of the child's own.
        let mine = Lock::at(&other).unwrap().unwrap();
        drop((lock, draft));
        let is_mine = mine.is_at(&other);
        mine.remove(&other);
        is_nothing && is_mine
    });
    assert!(Lock::at(&path).unwrap().is_none());
    let (lock, draft) = shared.lock().unwrap().take().unwrap();
    assert!(lock.is_at(&path));
    lock.remove(&path);
    draft.publish(false).unwrap();
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"text");
    assert_eq!(count(dir.path()), 1);
}

/// Wait for what another process does.
fn until<R>(what: &str, look: impl Fn() -> Option<R>) -> R {
    let start = Instant::now();
    loop {
        if let Some(result) = look() {
            return result;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the killed holder does: takes the lock of `a.lock` and a draft, forks, and waits to be killed. Its child lets go
/// of what it inherited if told so, says who it is, and lives on.
#[test]
fn holder_with_a_child() {
    unsafe extern "C" {
        safe fn fork() -> i32;
    }
    let Some(dir) = std::env::var_os("MEGALITH_TEST_HOLDER").map(PathBuf::from) else { return };
    let _held = (Lock::at(&dir.join("a.lock")).unwrap().unwrap(), draft(&dir));
    if fork() == 0 {
        if std::env::var_os("MEGALITH_TEST_LETS_GO").is_some() {
            megalith_files::lock::after_fork_in_child();
        }
        std::fs::write(dir.join("child.new"), std::process::id().to_string()).unwrap();
        std::fs::rename(dir.join("child.new"), dir.join("child")).unwrap();
    }
    std::thread::sleep(Duration::from_secs(30));
    std::process::exit(1);
}

/// A holder with a living child, killed; and the child's id.
fn killed_holder(dir: &Path, lets_go: bool) -> rustix::process::Pid {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["holder_with_a_child", "--exact"]).env("MEGALITH_TEST_HOLDER", dir);
    if lets_go {
        command.env("MEGALITH_TEST_LETS_GO", "1");
    }
    let mut holder: Child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let child = until("a child", || std::fs::read_to_string(dir.join("child")).ok());
    assert!(Lock::at(&dir.join("a.lock")).unwrap().is_none(), "held while the holder lives");
    assert_eq!(Lock::holder(&dir.join("a.lock")), Some(holder.id()));
    holder.kill().unwrap();
    holder.wait().unwrap();
    rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap()
}

#[test]
fn the_lock_of_a_killed_holder_is_free_although_its_child_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.lock");
    let child = killed_holder(dir.path(), true);
    let lock = Lock::at(&path).unwrap();
    rustix::process::test_kill_process(child).expect("the child lives");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    lock.expect("nobody else has the lock").remove(&path);
    assert_eq!(count(dir.path()), 1, "the file that says who the child is");
}

#[test]
fn a_child_that_does_not_let_go_keeps_the_lock_of_its_killed_parent() {
    // Why there is `after_fork_in_child`; if this fails the test above says nothing.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.lock");
    let child = killed_holder(dir.path(), false);
    let lock = Lock::at(&path).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    assert!(lock.is_none());
    until("a free lock", || Lock::at(&path).unwrap()).remove(&path);
}
