//! The one door into Rust: every kernel and every parallel read or write goes through [`run`].
//!
//! `run` decides where the work happens. Small work stays on the calling thread. Anything larger leaves the interpreter
//! and enters our pool, while the calling thread looks up every 50 ms to poll Python's signals and to move the progress
//! bar. An exception raised there (Ctrl-C above all) cancels the work, waits until its blocks have ended, and goes on
//! as what it was. A panic becomes `InternalError`.
//!
//! Views are made before `run` and moved into it; no Python object is touched inside.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use megalith_core::{Result, Workers, pool};
use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

use crate::error::{argument_error, to_python};

/// Work of fewer bytes is done on the calling thread: entering a pool costs 17 to 57 microseconds.
const SERIAL_BYTES: usize = 1 << 20;

/// Work of fewer bytes does not even leave the interpreter: giving up its lock and taking it again costs about as much
/// as touching this many.
const ATTACHED_BYTES: usize = 1 << 15;

/// To be given as `work` for calls of the system that may wait: they run on the calling thread, detached.
pub(crate) const SYSTEM_CALL: usize = ATTACHED_BYTES;

/// More threads than this are never started: `processes` is an upper bound, and no machine gains from them.
const MOST_THREADS: usize = 256;

/// What a caller may say about how work runs.
#[derive(Default)]
pub(crate) struct Call<'py> {
    /// Upper bound on threads; None for the default.
    pub(crate) processes: Option<usize>,
    /// Called with the share done, about every 50 ms.
    pub(crate) progress: Option<Bound<'py, PyAny>>,
}

/// Run `f` on about `work` bytes.
pub(crate) fn run<R: Send>(
    py: Python<'_>,
    call: &Call<'_>,
    work: usize,
    f: impl FnOnce(&Workers<'_>) -> Result<R> + Send,
) -> PyResult<R> {
    if work < ATTACHED_BYTES {
        return pool::execute_here(f).map_err(|error| to_python(py, error));
    }
    if work < SERIAL_BYTES {
        return py.detach(|| pool::execute_here(f)).map_err(|error| to_python(py, error));
    }
    let threads = match call.processes {
        Some(threads) => threads,
        None => default_threads(py)?,
    };
    let progress = call.progress.clone().map(Bound::unbind);
    let mut interrupt = None;
    let result = py.detach(|| {
        let tick = |fraction| {
            if interrupt.is_some() {
                // The first exception is the one that is raised; the work is ending.
                return false;
            }
            let seen = Python::attach(|py| {
                py.check_signals()?;
                progress.as_ref().map_or(Ok(()), |callback| callback.call1(py, (fraction,)).map(drop))
            });
            seen.map_err(|error| interrupt = Some(error)).is_ok()
        };
        pool::execute(threads.clamp(1, MOST_THREADS), tick, f)
    });
    match interrupt {
        Some(error) => Err(error),
        None => result.map_err(|error| to_python(py, error)),
    }
}

/// The pauses between two looks of [`wait`]: short at first, and never longer than a waiter notices.
const PAUSES: [Duration; 2] = [Duration::from_micros(250), Duration::from_millis(4)];

/// Look until there is something, until `deadline`, or until a signal's handler raises; None when the time is up.
///
/// `look` runs detached; between two looks the thread sleeps, and Python's signals are polled.
pub(crate) fn wait<R: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut look: impl FnMut() -> Result<Option<R>> + Send,
) -> PyResult<Option<R>> {
    let [mut pause, longest] = PAUSES;
    loop {
        let found = py.detach(&mut look).map_err(|error| to_python(py, error))?;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if found.is_some() || left.is_some_and(|left| left.is_zero()) {
            return Ok(found);
        }
        py.detach(|| std::thread::sleep(left.map_or(pause, |left| left.min(pause))));
        py.check_signals()?;
        pause = (pause * 2).min(longest);
    }
}

/// The number of threads where nothing in Python says otherwise: `MEGALITH_NUM_THREADS`, `OMP_NUM_THREADS` (set by
/// loky and dask for their workers), or what affinity and the cgroup's quota leave.
#[pyfunction]
pub(crate) fn default_threads(py: Python<'_>) -> PyResult<usize> {
    if let Some(value) = std::env::var("MEGALITH_NUM_THREADS").ok().filter(|value| !value.trim().is_empty()) {
        return match value.trim().parse() {
            Ok(threads) if threads > 0 => Ok(threads),
            _ => Err(argument_error(py, "MEGALITH_NUM_THREADS", &format!("{value:?}"), "a whole number of 1 or more")),
        };
    }
    // OpenMP allows a list for nested levels; what is no positive number is for OpenMP to complain about.
    let omp = std::env::var("OMP_NUM_THREADS").ok();
    let omp = omp.and_then(|list| list.split(',').next()?.trim().parse().ok()).filter(|&threads: &usize| threads > 0);
    Ok(omp.unwrap_or_else(available_threads))
}

/// What affinity and the cgroup's quota leave.
///
/// The quota is in files that take 30 microseconds to read; it is read once, and again when the affinity or the process
/// is another.
fn available_threads() -> usize {
    static KNOWN: Mutex<Option<(u32, u32, usize)>> = Mutex::new(None);
    let measure = || std::thread::available_parallelism().map_or(1, usize::from);
    let Some(affinity) = affinity() else { return measure() };
    let key = (std::process::id(), affinity);
    // Held by a thread that is attached to the interpreter, as is one that forks: never both at once.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match *known {
        Some((pid, mask, threads)) if (pid, mask) == key => threads,
        _ => {
            let threads = measure();
            *known = Some((key.0, key.1, threads));
            threads
        }
    }
}

/// Processors this thread may run on, where the system says so.
fn affinity() -> Option<u32> {
    #[cfg(target_os = "linux")]
    return rustix::thread::sched_getaffinity(None).ok().map(|set| set.count());
    #[cfg(not(target_os = "linux"))]
    None
}

/// Refuse to be imported by a sub-interpreter: pools, caches and exception classes belong to the main one.
pub(crate) fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: called while a module is initialised, with an interpreter attached to this thread.
    #[allow(unsafe_code)]
    let id = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    if id == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "megalith cannot be imported in a sub-interpreter; import it in the main interpreter, or use processes",
    ))
}
