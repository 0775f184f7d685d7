//! One computation that several threads want.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

/// A key that a thread is computing.
pub(crate) struct Flight {
    /// None while it is computed, then the value, or that there is none.
    outcome: Mutex<Option<Option<Py<PyAny>>>>,
    ended: Condvar,
    /// A forked child has the marker, and not the thread.
    pid: u32,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self { outcome: Mutex::new(None), ended: Condvar::new(), pid: std::process::id() }
    }

    /// Whether the thread that computes is of this process.
    pub(crate) fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Say what came out of it.
    pub(crate) fn end(&self, value: Option<Py<PyAny>>) {
        // In a child that the computing thread has forked nobody waits, and a waiter of the parent's may have held the
        // lock.
        if self.is_here() {
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            self.ended.notify_all();
        }
    }

    /// Wait for a while; whether it has ended. To be called detached.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, _) =
            self.ended.wait_timeout_while(outcome, timeout, |o| o.is_none()).unwrap_or_else(PoisonError::into_inner);
        outcome.is_some()
    }

    /// The value, once it has ended with one.
    pub(crate) fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.as_ref()?.as_ref().map(|value| value.clone_ref(py))
    }
}

thread_local! {
    static COMPUTING: Cell<usize> = const { Cell::new(0) };
}

/// Held while this thread computes a key. Such a thread never waits for another key: two of them could wait for each
/// other.
pub(crate) struct Computing;

impl Computing {
    pub(crate) fn begin() -> Self {
        COMPUTING.set(COMPUTING.get() + 1);
        Self
    }

    pub(crate) fn is_here() -> bool {
        COMPUTING.get() > 0
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        COMPUTING.set(COMPUTING.get() - 1);
    }
}
