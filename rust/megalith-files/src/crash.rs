//! Places where a test may kill a writer.
//!
//! A promise such as "a killed writer leaves nothing visible" is only tested by killing writers, between every two file
//! operations. [`step`] stands there. It is nothing at all in a normal build; in unit tests, and with the feature
//! `crash-points` for the fault tests of crates above, the process that finds its step in `MEGALITH_CRASH_AT` sends
//! itself SIGKILL: no destructor runs, as when the OOM killer or a batch system ends it.

/// The steps of a draft, in the order in which it passes them; a path through the code passes some. `written` is for
/// the caller to place, once the bytes are in the file.
#[cfg(any(test, feature = "crash-points"))]
pub const DRAFT_STEPS: [&str; 11] = [
    "reaped",
    "opened",
    "locked",
    "permitted",
    "reserved",
    "written",
    "synced",
    "linked",
    "renamed",
    "unlinked",
    "recorded",
];

/// The steps around a draft of who takes a named lock for it, in order.
#[cfg(any(test, feature = "crash-points"))]
pub const LOCK_STEPS: [&str; 5] = ["directory-made", "lock-opened", "lock-held", "lock-removed", "lock-released"];

/// The steps of books that are kept of files.
#[cfg(any(test, feature = "crash-points"))]
pub const BOOKS_STEPS: [&str; 3] = ["counted", "removed", "settled"];

/// Every step there is.
#[cfg(any(test, feature = "crash-points"))]
pub const STEPS: [&[&str]; 3] = [&DRAFT_STEPS, &LOCK_STEPS, &BOOKS_STEPS];

/// Die here if the test says so.
///
/// # Panics
/// On a name that is not one of [`STEPS`].
#[cfg(any(test, feature = "crash-points"))]
pub fn step(name: &str) {
    assert!(STEPS.iter().any(|steps| steps.contains(&name)), "a step that tests know");
    if std::env::var_os("MEGALITH_CRASH_AT").is_some_and(|at| at == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(any(test, feature = "crash-points")))]
#[inline]
pub fn step(_name: &str) {}
