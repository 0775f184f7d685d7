//! Which descriptors a forked child must let go of.
//!
//! A lock belongs to an open description, and a forked child has all of them: as long as it lives, the lock of its
//! killed parent stays locked, and the memory of a file without a name stays taken. So descriptors of locks are noted
//! here, and the child puts `/dev/null` in their places first of all. It does not close them: their numbers would go to
//! other files, and the guards that came with the memory of the parent would close those.
//!
//! One bit for each descriptor number, set and cleared by atomic operations: another thread may hold any lock of this
//! process at the moment of a fork, and the child has no thread to give it back.
//!
//! # Limits
//! A fork by another thread between opening a file and [`note`], a few instructions later, is not covered; nor are
//! descriptors above `nr_open`'s default of 2^20.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One bit for each descriptor; pages that nobody writes to occupy no memory.
static NOTED: [AtomicU64; 1 << 14] = [const { AtomicU64::new(0) }; 1 << 14];

/// How many words of [`NOTED`] were ever used, so that a child need not look at all of them.
static USED: AtomicUsize = AtomicUsize::new(0);

fn place(fd: BorrowedFd<'_>) -> Option<(usize, u64)> {
    let number = usize::try_from(fd.as_raw_fd()).ok()?;
    (number / 64 < NOTED.len()).then_some((number / 64, 1 << (number % 64)))
}

/// A forked child shall not keep this descriptor. Whoever notes it calls [`forget`] before it is closed.
pub(crate) fn note(fd: BorrowedFd<'_>) {
    if let Some((word, bit)) = place(fd) {
        USED.fetch_max(word + 1, Ordering::SeqCst);
        NOTED[word].fetch_or(bit, Ordering::SeqCst);
    }
}

/// The descriptor is about to be closed, or may be kept.
pub(crate) fn forget(fd: BorrowedFd<'_>) {
    if let Some((word, bit)) = place(fd) {
        NOTED[word].fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Put `/dev/null` in the place of every descriptor that is noted, and forget them.
///
/// Only system calls and atomics: it allocates nothing and takes no lock.
pub(crate) fn release() {
    let used = USED.load(Ordering::SeqCst).min(NOTED.len());
    if NOTED[..used].iter().all(|word| word.load(Ordering::SeqCst) == 0) {
        return;
    }
    let Some(nothing) = nothing() else { return };
    for (i, word) in NOTED[..used].iter().enumerate() {
        let mut bits = word.swap(0, Ordering::SeqCst);
        while bits != 0 {
            replace(i32::try_from(i * 64).unwrap_or(i32::MAX) + bits.trailing_zeros() as i32, &nothing);
            bits &= bits - 1;
        }
    }
}

/// Something harmless to have open; where there is no `/dev/null` the root directory.
fn nothing() -> Option<rustix::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    let null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.or_else(|_| open(c"/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())).ok()
}

/// Have the number `fd` mean what `nothing` is.
#[allow(unsafe_code)]
fn replace(fd: i32, nothing: &rustix::fd::OwnedFd) {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: `fd` is open: its bit was set, and `forget` clears that before the file is closed. It is owned by a guard
    // in memory inherited from the parent; ManuallyDrop leaves it its only owner. That its content changes under the
    // guard is harmless: a guard of another process (`Lock::is_ours`) neither unlocks nor publishes.
    let mut taken = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
    // A failure leaves what was there.
    let _ = rustix::io::dup2(nothing, &mut taken);
}
