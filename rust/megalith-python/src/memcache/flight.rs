//! One computation that several threads want.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

enum Outcome {
    Awaited,
    Value(Py<PyAny>),
    Failed,
}

/// A key that a thread is computing.
pub(crate) struct Flight {
    outcome: Mutex<Outcome>,
    ended: Condvar,
    /// A forked child has the marker, and not the thread.
    pid: u32,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self { outcome: Mutex::new(Outcome::Awaited), ended: Condvar::new(), pid: std::process::id() }
    }

    /// Whether the thread that computes is of this process.
    pub(crate) fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Say what came out of it; None for an exception.
    pub(crate) fn end(&self, value: Option<Py<PyAny>>) {
        // In a child that the computing thread has forked nobody waits, and a waiter of the parent's may have held the
        // lock.
        if self.is_here() {
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) =
                value.map_or(Outcome::Failed, Outcome::Value);
            self.ended.notify_all();
        }
    }

    /// Wait for a while; whether it has ended. To be called detached.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, _) = self
            .ended
            .wait_timeout_while(outcome, timeout, |outcome| matches!(outcome, Outcome::Awaited))
            .unwrap_or_else(PoisonError::into_inner);
        !matches!(*outcome, Outcome::Awaited)
    }

    /// The value, once it has ended with one.
    pub(crate) fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &*self.outcome.lock().unwrap_or_else(PoisonError::into_inner) {
            Outcome::Value(value) => Some(value.clone_ref(py)),
            Outcome::Awaited | Outcome::Failed => None,
        }
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
