//! Places where a test may kill a writer.
//!
//! A promise such as "a killed writer leaves nothing visible" is only tested by killing writers, between every two file
//! operations. [`step`] stands there. It is nothing at all in a normal build; in unit tests, and with the feature
//! `crash-points` for the fault tests of crates above, the process that finds its step in `MEGALITH_CRASH_AT` sends
//! itself SIGKILL: no destructor runs, as when the OOM killer or a batch system ends it.

/// Every step there is, in the order in which a draft passes them; a path through the code passes some.
#[cfg(any(test, feature = "crash-points"))]
pub(crate) const STEPS: [&str; 9] =
    ["reaped", "opened", "locked", "reserved", "synced", "linked", "renamed", "unlinked", "recorded"];

/// Die here if the test says so.
#[cfg(any(test, feature = "crash-points"))]
pub(crate) fn step(name: &str) {
    assert!(STEPS.contains(&name), "a step that tests know");
    if std::env::var_os("MEGALITH_CRASH_AT").is_some_and(|at| at == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(any(test, feature = "crash-points")))]
#[inline]
pub(crate) fn step(_name: &str) {}
