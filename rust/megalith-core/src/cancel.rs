//! A request to stop, and how far the work has come.
//!
//! Kernels look at [`Cancel`] once a block, never in an inner loop: one relaxed load per block costs nothing. Work whose
//! blocks can take long (long kernels, many partners) looks at it on the way, by `Workers::check`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// A flag set once, by the thread that waits for the work.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Ask the work to stop at its next block.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// `Err(Cancelled)` once [`Cancel::set`] was called.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Blocks done and blocks known of, for a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicUsize,
    known: AtomicUsize,
}

impl Progress {
    /// Announce `n` more blocks.
    pub fn expect(&self, n: usize) {
        self.known.fetch_add(n, Ordering::Relaxed);
    }

    /// Record one finished block.
    #[inline]
    pub fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// The share of the known blocks that is done, 0 to 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let known = self.known.load(Ordering::Relaxed);
        if known == 0 { 0.0 } else { self.done.load(Ordering::Relaxed) as f64 / known as f64 }
    }
}
