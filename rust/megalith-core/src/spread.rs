//! A processor of its own for each thread of a pool that has as many threads as there are processors.
//!
//! Threads wake each other, and Linux may let a woken thread run where the one that woke it does: two threads that
//! begin after a pause share one processor for some ten milliseconds, the whole length of most kernels, while another
//! one idles. Work is handed out in small pieces, so that a thread whose processor is busy with something else holds
//! nobody up.

/// Bind this thread, the `i`th of `threads`, to the `i`th processor it may use, if there are just as many.
#[cfg(target_os = "linux")]
pub(crate) fn settle(i: usize, threads: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    // Where the system does not tell, or does not let us, threads stay free.
    let Ok(allowed) = sched_getaffinity(None) else { return };
    if allowed.count() as usize == threads
        && let Some(cpu) = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(i)
    {
        let mut own = CpuSet::new();
        own.set(cpu);
        let _ = sched_setaffinity(None, &own);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn settle(_: usize, _: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity};

    #[test]
    fn each_thread_of_a_full_pool_gets_one_processor_and_no_other_thread_does() {
        let allowed = sched_getaffinity(None).unwrap();
        let threads = allowed.count() as usize;
        let settled = |i, threads| std::thread::spawn(move || (settle(i, threads), sched_getaffinity(None).unwrap()).1);
        let mut all = CpuSet::new();
        for i in 0..threads {
            let own = settled(i, threads).join().unwrap();
            assert_eq!(own.count(), 1);
            (0..CpuSet::MAX_CPU).filter(|&cpu| own.is_set(cpu)).for_each(|cpu| all.set(cpu));
        }
        assert!(all == allowed);
        assert!(settled(0, threads + 1).join().unwrap() == allowed);
    }
}
