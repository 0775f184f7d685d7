//! Our own threads, and the one way to use them.
//!
//! Rayon's global pool must not be touched: a child forked after its first use inherits a pool without threads and
//! waits for it for ever. Here a pool belongs to a process id. A child finds a set of pools that is not its own, makes
//! a new one, and *leaks* the inherited one, whose mutexes may have been held when the process was copied.
//!
//! No two callers share a pool: each takes one out and puts it back. A caller never waits for the work of another, and
//! cannot be made to run it.
//!
//! Work is given to [`Workers::for_each`] as a list of items whose cut does not depend on the number of threads, so
//! that results never do. Each item is one block: the cancel flag is looked at before it, progress is counted after it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rayon::ThreadPool;

use crate::cancel::{Cancel, Progress};
use crate::error::{Error, Result};
use crate::spread::settle;

/// How often the thread that waits looks up: Python's signals are polled then.
const TICK: Duration = Duration::from_millis(50);

/// Idle pools kept for the next caller.
const KEPT_POOLS: usize = 4;

/// The pools of one process.
struct Pools {
    pid: u32,
    /// Pools nobody works in, most recently used last. A fork may find the mutex held; the child never touches it.
    idle: Mutex<Vec<(usize, ThreadPool)>>,
}

/// The pools of the process that last asked; never freed.
static POOLS: AtomicPtr<Pools> = AtomicPtr::new(std::ptr::null_mut());

impl Pools {
    /// The pools of this process, made anew after a fork.
    fn current() -> &'static Self {
        let pid = std::process::id();
        loop {
            let found = POOLS.load(Ordering::Acquire);
            // SAFETY: null, or a `Box` that was leaked below and is never freed or changed but through its mutex.
            #[allow(unsafe_code)]
            if let Some(pools) = unsafe { found.as_ref() }
                && pools.pid == pid
            {
                return pools;
            }
            let fresh = Box::into_raw(Box::new(Self { pid, idle: Mutex::default() }));
            if POOLS.compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: made above, and shown to nobody: another thread came first.
                #[allow(unsafe_code)]
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    /// Take out a pool of `threads` threads, of fewer where the system gives no more, or None where it gives none.
    fn take(&self, mut threads: usize) -> Option<(usize, ThreadPool)> {
        while threads > 0 {
            let mut idle = lock(&self.idle);
            if let Some(i) = idle.iter().position(|(n, _)| *n == threads) {
                return Some(idle.remove(i));
            }
            drop(idle);
            let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let builder = builder.thread_name(|i| format!("megalith-{i}")).start_handler(move |i| settle(i, threads));
            if let Ok(pool) = builder.build() {
                return Some((threads, pool));
            }
            threads /= 2;
        }
        None
    }

    /// Put a pool back.
    fn put_back(&self, threads: usize, pool: ThreadPool) {
        let mut idle = lock(&self.idle);
        if idle.len() == KEPT_POOLS {
            idle.remove(0);
        }
        idle.push((threads, pool));
    }
}

/// The threads a kernel may use, its cancel flag and its progress.
#[derive(Debug)]
pub struct Workers<'a> {
    threads: usize,
    cancel: &'a Cancel,
    progress: &'a Progress,
}

impl Workers<'_> {
    /// How many threads there are: for work that is cut in another way for one than for more, with the same result.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The same work on the calling thread alone: for items that threads would only wait for each other with.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { threads: 1, cancel: self.cancel, progress: self.progress }
    }

    /// `Err(Cancelled)` once the work is to stop; for items that take long.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        self.cancel.check()
    }

    /// `f` for each item, on all threads, in no particular order; the first error ends the work.
    ///
    /// # Errors
    /// What `f` gave, or [`Error::Cancelled`].
    pub fn for_each<I: Send>(&self, items: Vec<I>, f: impl Fn(I) -> Result<()> + Sync) -> Result<()> {
        self.for_each_with(items, || (), |(), item| f(item))
    }

    /// [`Workers::for_each`] with scratch memory made by `scratch`, once for each thread.
    ///
    /// # Errors
    /// What `f` gave, or [`Error::Cancelled`].
    pub fn for_each_with<I: Send, S>(
        &self,
        items: Vec<I>,
        scratch: impl Fn() -> S + Sync + Send,
        f: impl Fn(&mut S, I) -> Result<()> + Sync,
    ) -> Result<()> {
        self.progress.expect(items.len());
        let step = |scratch: &mut S, item| {
            self.cancel.check()?;
            f(scratch, item)?;
            self.progress.advance();
            Ok(())
        };
        if self.threads == 1 || items.len() < 2 {
            let mut scratch = scratch();
            return items.into_iter().try_for_each(|item| step(&mut scratch, item));
        }
        // Threads take a few items at a time from the front, so that memory is walked in order and a thread whose core
        // is taken away holds nobody up.
        let batch = (items.len() / (self.threads * 32)).clamp(1, 16);
        let workers = self.threads.min(items.len());
        let queue = Mutex::new(items.into_iter());
        let failed = OnceLock::new();
        let work = || {
            let mut scratch = scratch();
            while failed.get().is_none() {
                let taken: Vec<I> = lock(&queue).by_ref().take(batch).collect();
                if taken.is_empty() {
                    return;
                }
                if let Err(error) = caught(|| taken.into_iter().try_for_each(|item| step(&mut scratch, item))) {
                    // The first error is the one that is told.
                    let _ = failed.set(error);
                }
            }
        };
        // Inside of the pool, where `execute` has put us: its threads, not the global ones.
        #[allow(clippy::disallowed_methods)]
        rayon::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|_| work());
            }
            work();
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// `f` of each item, in the order of the items.
    ///
    /// # Errors
    /// What `f` gave, or [`Error::Cancelled`].
    pub fn map<I: Send, R: Send>(&self, items: Vec<I>, f: impl Fn(I) -> Result<R> + Sync) -> Result<Vec<R>> {
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        self.for_each(items.into_iter().zip(&mut results).collect(), |(item, slot)| {
            *slot = Some(f(item)?);
            Ok(())
        })?;
        Ok(results.into_iter().flatten().collect())
    }
}

/// Run `f` on the calling thread alone.
///
/// # Errors
/// What `f` gave; [`Error::Internal`] if it panicked.
pub fn execute_here<R>(f: impl FnOnce(&Workers<'_>) -> Result<R>) -> Result<R> {
    let (cancel, progress) = (Cancel::default(), Progress::default());
    caught(|| f(&Workers { threads: 1, cancel: &cancel, progress: &progress }))
}

/// Run `f` inside of a pool of `threads` threads while the calling thread waits, calling `tick` every 50 ms.
///
/// `tick` gets the share done; when it returns false the work is cancelled, waited for, and ends with
/// [`Error::Cancelled`] (unless it was finished already).
///
/// # Errors
/// What `f` gave; [`Error::Cancelled`]; [`Error::Internal`] if it panicked.
pub fn execute<R: Send>(
    threads: usize,
    mut tick: impl FnMut(f64) -> bool,
    f: impl FnOnce(&Workers<'_>) -> Result<R> + Send,
) -> Result<R> {
    let pools = Pools::current();
    let Some((threads, pool)) = pools.take(threads) else {
        // No threads to be had (a limit on processes): slower, but right, and not interruptible.
        return execute_here(f);
    };
    let (cancel, progress) = (Cancel::default(), Progress::default());
    let workers = Workers { threads, cancel: &cancel, progress: &progress };
    let (sender, receiver) = sync_channel(1);
    let result = pool.in_place_scope(|scope| {
        scope.spawn(|_| {
            // The receiver lives until it has an answer.
            let _ = sender.send(caught(|| f(&workers)));
        });
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {
                    if !tick(progress.fraction()) {
                        cancel.set();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("a worker ended without an answer".to_owned()));
                }
            }
        }
    });
    pools.put_back(threads, pool);
    result
}

/// What a mutex guards, also after a panic: all that is guarded here is whole at each moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of `f`, with a panic as an error.
fn caught<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(Error::Internal(panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn sum_of(workers: &Workers<'_>, n: usize) -> Result<usize> {
        Ok(workers.map((0..n).collect(), |i| Ok(i * 2))?.into_iter().sum())
    }

    #[test]
    fn map_keeps_the_order_of_items_for_any_number_of_threads() {
        for threads in [1, 2, 8] {
            let squares = execute(threads, |_| true, |w| w.map((0..1000).collect(), |i: usize| Ok(i * i)));
            assert_eq!(squares.unwrap(), (0..1000).map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_becomes_an_error_and_the_pool_works_on() {
        let result: Result<()> = execute(2, |_| true, |w| w.for_each(vec![1, 2, 3], |_| panic!("broken promise")));
        assert!(matches!(result, Err(Error::Internal(text)) if text == "broken promise"));
        assert_eq!(execute(2, |_| true, |w| sum_of(w, 10)).unwrap(), 90);
    }

    #[test]
    fn cancelled_work_stops_at_the_next_block() {
        let done = AtomicUsize::new(0);
        let result = execute(
            2,
            |_| false,
            |w| {
                w.for_each((0..10_000).collect(), |_: usize| {
                    std::thread::sleep(Duration::from_millis(1));
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                })
            },
        );
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(done.into_inner() < 1000);
    }

    #[test]
    fn many_callers_share_the_pools() {
        std::thread::scope(|scope| {
            for n in 0..16 {
                scope.spawn(move || assert_eq!(execute(1 + n % 7, |_| true, |w| sum_of(w, 100)).unwrap(), 9900));
            }
        });
    }
}
