//! Large memory that is used again: what one result gave back, the next one takes.
//!
//! The system gives memory in pages of zeros, made at the first touch of each. For results of many megabytes that costs
//! more than the work of most kernels. So memory that is given back stays mapped, up to a [`limit`] of bytes, and the
//! next [`Memory::take`] of about its length has it. Meanwhile the system is told that the content is worthless
//! (`MADV_FREE`): it takes the pages where it is short of memory, and makes zeros for those it took. A page that it did
//! not take is written again without a fault. Until it is taken it counts as memory of this process, and as cache of
//! files in what the system says is available.
//!
//! Forks. What is kept is not copied to children (`MADV_DONTFORK`): a child forgets it, and neither side copies pages
//! at its next write. What is in use is copied, as all memory is; memory taken before a fork is unmapped when it is
//! given back, in parent and child. The lock of the store is only ever tried: a child whose parent's thread held it
//! maps and unmaps.
//!
//! Elsewhere than on Linux nothing is kept.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// A huge page. Large memory begins and ends with one.
const HUGE: usize = 1 << 21;

/// The most that is kept where nothing is said.
const MOST_KEPT: usize = 1 << 31;

/// What is kept is at most this part of the machine's memory where nothing is said, and of the addresses that this
/// process may use (`RLIMIT_AS`) in any case: others ask for those too.
const SHARE: usize = 8;

/// Forks of this process and of those it comes from, as far as [`after_fork`] was told.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// What nobody uses, in the order in which it was given back.
static STORE: Mutex<Store> = Mutex::new(Store { pid: 0, kept: Vec::new() });

struct Store {
    /// The process that kept it.
    pid: u32,
    kept: Vec<Block>,
}

/// Whole huge pages in a mapping of no file.
#[derive(Debug)]
struct Block {
    map: MmapMut,
    start: usize,
    len: usize,
}

/// Memory of unspecified content: what was there before, or zeros. Dropped, it is kept for the next.
#[derive(Debug)]
pub struct Memory {
    /// None only while it is dropped.
    block: Option<Block>,
    /// Forks at the time it was taken.
    forks: u32,
}

impl Memory {
    /// Memory of at least `len` bytes, which begins with a huge page.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system gives none, not even for what is kept.
    pub fn take(len: usize) -> Result<Self> {
        let wanted = len.max(1).checked_next_multiple_of(HUGE).ok_or(Error::Memory { wanted: len })?;
        let forks = FORKS.load(Ordering::Relaxed);
        let block = match find(wanted) {
            Some(block) => block,
            None => Block::map(wanted)
                .or_else(|_| {
                    give_all_back();
                    Block::map(wanted)
                })
                .map_err(|_| Error::Memory { wanted: len })?,
        };
        Ok(Self { block: Some(block), forks })
    }

    /// The bytes, as many as were asked for or more.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block.map[block.start..block.start + block.len])
    }

    /// The bytes, to be written.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block.map[block.start..block.start + block.len])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        let most = limit().unwrap_or(0).min(address_space() / SHARE);
        if block.len <= most && self.forks == FORKS.load(Ordering::Relaxed) && block.rest().is_ok() {
            keep(block, most);
        }
    }
}

impl Block {
    /// New memory, in huge pages where the system has any.
    fn map(len: usize) -> std::io::Result<Self> {
        let is_aligned = |map: &MmapMut| map.as_ptr().addr().is_multiple_of(HUGE);
        // Linux aligns long mappings of its own accord, from 6.7 on.
        let mut map = MmapMut::map_anon(len)?;
        if !is_aligned(&map) {
            drop(map);
            map = MmapMut::map_anon(len.saturating_add(HUGE))?;
        }
        let start = map.as_ptr().addr().next_multiple_of(HUGE) - map.as_ptr().addr();
        #[cfg(target_os = "linux")]
        // A system without huge pages gives small ones.
        let _ = map.advise_range(memmap2::Advice::HugePage, start, len);
        Ok(Self { map, start, len })
    }

    /// Tell the system that it may have the pages, and that children need none.
    #[cfg(target_os = "linux")]
    fn rest(&self) -> std::io::Result<()> {
        self.map.advise(memmap2::Advice::DontFork)?;
        // SAFETY: the pages of a private mapping that only this block can reach, which nobody has a reference to:
        // `Memory` has just given it up. They hold their bytes or zeros from now on, and the content of `Memory` is
        // unspecified.
        #[allow(unsafe_code)]
        unsafe {
            self.map.unchecked_advise(memmap2::UncheckedAdvice::Free)
        }
    }

    /// Take the pages into use again.
    #[cfg(target_os = "linux")]
    fn wake(&self) -> std::io::Result<()> {
        self.map.advise(memmap2::Advice::DoFork)
    }

    #[cfg(not(target_os = "linux"))]
    fn rest(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(target_os = "linux"))]
    fn wake(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// The most bytes that are kept: `MEGALITH_REUSE_BYTES`, or 2 GiB, but no more than an eighth of the machine's memory.
///
/// # Errors
/// [`Error::Argument`] if the variable is no number.
pub fn limit() -> Result<usize> {
    static LIMIT: OnceLock<std::result::Result<usize, String>> = OnceLock::new();
    let limit = LIMIT.get_or_init(|| match std::env::var("MEGALITH_REUSE_BYTES") {
        Ok(value) if !value.trim().is_empty() => value.trim().parse().map_err(|_| format!("{value:?}")),
        _ => Ok(MOST_KEPT.min(machine() / SHARE)),
    });
    limit.clone().map_err(|got| Error::Argument {
        name: "MEGALITH_REUSE_BYTES",
        got,
        expected: "a number of bytes, 0 to keep none".into(),
    })
}

/// Memory of the machine, in bytes.
#[cfg(target_os = "linux")]
fn machine() -> usize {
    let info = rustix::system::sysinfo();
    usize::try_from(info.totalram).unwrap_or(usize::MAX).saturating_mul(info.mem_unit as usize)
}

/// Bytes that this process may map; the limit may change.
#[cfg(target_os = "linux")]
fn address_space() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    limit.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
}

#[cfg(not(target_os = "linux"))]
fn machine() -> usize {
    0
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> usize {
    0
}

/// Bytes that are kept now.
#[must_use]
pub fn kept() -> usize {
    store().iter().flat_map(|store| &store.kept).map(|block| block.len).sum()
}

/// To be called after a fork, in parent and child: what was in use then has pages that both have.
pub fn after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The store, unless somebody has it: there is nothing in it that is worth a wait.
fn store() -> Option<MutexGuard<'static, Store>> {
    let mut store = match STORE.try_lock() {
        Ok(store) => store,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    let pid = std::process::id();
    if store.pid != pid {
        store.pid = pid;
        // It was not copied to this child: something else may be where it was.
        store.kept.drain(..).for_each(std::mem::forget);
    }
    Some(store)
}

/// Take out the shortest block of at least `wanted` bytes, if it is not much longer.
fn find(wanted: usize) -> Option<Block> {
    let mut store = store()?;
    let fits = |block: &&Block| (wanted..=wanted.saturating_add(wanted / 4)).contains(&block.len);
    let best = store.kept.iter().filter(fits).map(|block| block.len).min()?;
    // Of several, the one that was given back last: its pages are the likeliest to be there.
    let at = store.kept.iter().rposition(|block| block.len == best)?;
    let block = store.kept.remove(at);
    drop(store);
    block.wake().is_ok().then_some(block)
}

/// Keep a block, and unmap the oldest ones that are too much then.
fn keep(block: Block, most: usize) {
    let Some(mut store) = store() else { return };
    store.kept.push(block);
    let mut total = 0;
    let fits = |block: &&Block| {
        total += block.len;
        total <= most
    };
    let n_kept = store.kept.iter().rev().take_while(fits).count();
    let n_old = store.kept.len() - n_kept;
    let old: Vec<_> = store.kept.drain(..n_old).collect();
    drop(store);
    drop(old);
}

fn give_all_back() {
    let kept = store().map(|mut store| std::mem::take(&mut store.kept));
    drop(kept);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Tests share the store, so they take turns, and each begins with nothing kept.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        give_all_back();
        turn
    }

    fn lengths() -> Vec<usize> {
        store().iter().flat_map(|store| &store.kept).map(|block| block.len / HUGE).collect()
    }

    #[test]
    fn memory_begins_with_a_huge_page_and_is_long_enough() {
        let _turn = turn();
        for len in [0, 1, HUGE - 1, HUGE, HUGE + 1, 5 * HUGE] {
            let memory = Memory::take(len).unwrap();
            assert!(memory.bytes().as_ptr().addr().is_multiple_of(HUGE));
            assert_eq!(memory.bytes().len(), len.max(1).next_multiple_of(HUGE));
        }
    }

    #[test]
    fn the_shortest_that_is_not_much_too_long_is_taken_again() {
        let _turn = turn();
        drop([12, 10, 9, 40].map(|n| Memory::take(n * HUGE).unwrap()));
        assert_eq!(lengths(), [12, 10, 9, 40]);
        assert_eq!(kept(), 71 * HUGE);
        let taken = [10, 10, 10, 10].map(|n| Memory::take(n * HUGE - 5).unwrap().bytes().len() / HUGE);
        assert_eq!(taken, [10; 4]);
        let all = [10, 10, 10].map(|n| Memory::take(n * HUGE).unwrap());
        assert_eq!(all.each_ref().map(|memory| memory.bytes().len() / HUGE), [10, 12, 10]);
        assert_eq!(lengths(), [9, 40]);
    }

    #[test]
    fn memory_in_use_is_nobody_elses() {
        let _turn = turn();
        let mut first = Memory::take(HUGE).unwrap();
        let mut second = Memory::take(HUGE).unwrap();
        first.bytes_mut().fill(1);
        second.bytes_mut().fill(2);
        assert!(first.bytes().iter().all(|&byte| byte == 1));
        let address = first.bytes().as_ptr();
        drop(first);
        assert_eq!(Memory::take(HUGE).unwrap().bytes().as_ptr(), address);
    }

    #[test]
    fn the_oldest_go_when_there_is_too_much() {
        let _turn = turn();
        let n = limit().unwrap() / HUGE / 3 + 1;
        let three = [n, n, n + 1].map(|n| Memory::take(n * HUGE).unwrap());
        drop(three);
        assert_eq!(lengths(), [n, n + 1]);
        drop(Memory::take(limit().unwrap() + HUGE).unwrap());
        assert_eq!(lengths(), [n, n + 1]);
    }

    #[test]
    fn memory_from_before_a_fork_is_not_kept() {
        let _turn = turn();
        let memory = Memory::take(HUGE).unwrap();
        after_fork();
        drop(memory);
        assert_eq!(lengths(), [0; 0]);
        drop(Memory::take(HUGE).unwrap());
        assert_eq!(lengths(), [1]);
    }

    #[test]
    fn a_store_that_somebody_has_is_gone_without() {
        let _turn = turn();
        drop(Memory::take(HUGE).unwrap());
        let held = store().unwrap();
        let memory = Memory::take(HUGE).unwrap();
        drop(memory);
        drop(held);
        assert_eq!(lengths(), [1]);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_and_takes_what_is_kept() {
        let _turn = turn();
        drop(Memory::take(HUGE).unwrap());
        assert!(matches!(Memory::take(usize::MAX), Err(Error::Memory { wanted: usize::MAX })));
        assert!(matches!(Memory::take(1 << 60), Err(Error::Memory { .. })));
        assert_eq!(lengths(), [0; 0]);
    }
}
