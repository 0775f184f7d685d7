//! Drafts and locks across a real fork. Here, and not beside the code, because forking is unsafe and the crate has no
//! unsafe code.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

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
