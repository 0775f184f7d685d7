//! The memory cache: a function that remembers its results.
//!
//! ```text
//! call as bytes ── known, and what the function reaches unchanged ──> the value       (Rust alone, no allocation)
//!    │ unknown, or arguments that are not plain
//! canonical key (Python) ── known ──> the value, and the bytes of the call lead to it from now on
//!    │ unknown
//! in flight elsewhere ──> wait for it, unless this thread is computing something itself
//!    │
//! compute, let Python freeze and measure the value, put it into the store, hand it to those who wait
//! ```
//!
//! The lock of the store is held between two lines here only, never while Python code runs, and by threads that are
//! attached to the interpreter only: a fork, which needs the interpreter too, never meets it held. Values that leave are
//! dropped after it.

mod call;
mod flight;
mod store;
mod watched;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::guard::wait;
use call::Call;
use flight::{Computing, Flight};
use store::Store;
use watched::Watched;

/// How long a thread waits for another before it looks for signals.
const LOOK: Duration = Duration::from_millis(50);

/// Keys are 128 bits, given as hexadecimal digits.
const DIGITS: usize = 32;

struct State {
    store: Store<Py<PyAny>>,
    flights: HashMap<u128, Arc<Flight>>,
    /// Counts how often it was cleared: what was begun before is not kept.
    clearings: u64,
    hits: u64,
    misses: u64,
    /// What the function reaches, as it was when the aliases were seen; None while that is not known.
    watched: Option<Arc<Watched>>,
}

impl State {
    /// The value of a key, if it is there; the bytes of the call lead to it from now on.
    fn lookup(&mut self, py: Python<'_>, key: &Key, call: Option<&Call>) -> Option<Py<PyAny>> {
        let value = self.store.get(key.digest)?.clone_ref(py);
        self.hits += 1;
        self.alias(key, call);
        Some(value)
    }

    fn alias(&mut self, key: &Key, call: Option<&Call>) {
        let Some(call) = call else { return };
        // After a change the old key is not what the call means any more.
        let is_current = match (&self.watched, &key.watched) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            _ => false,
        };
        if is_current {
            self.store.alias(key.digest, call.bytes());
        }
    }
}

/// The canonical key of a call, and what the function reached then; None if that cannot be said.
struct Key {
    digest: u128,
    watched: Option<Arc<Watched>>,
}

/// What a look at the store has found.
enum Found {
    Value(Py<PyAny>),
    Flight(Arc<Flight>),
    /// This thread shall compute, and others wait for it.
    Ours(Arc<Flight>),
    /// This thread shall compute for itself.
    Alone,
}

/// A function that remembers its results. Subclasses give the methods `_key(args, kwargs)`, 32 hexadecimal digits and
/// what is watched (or None), and `_keep(value, is_alone)`, the value as it is kept and given out, and its bytes;
/// `is_alone` says that nobody else holds the value.
#[pyclass(frozen, subclass, module = "megalith._core")]
pub(crate) struct Memoized {
    function: Py<PyAny>,
    state: Mutex<State>,
}

#[pymethods]
impl Memoized {
    #[new]
    #[pyo3(signature = (function, max_bytes))]
    fn new(function: Py<PyAny>, max_bytes: u64) -> Self {
        let state = State {
            store: Store::new(max_bytes),
            flights: HashMap::new(),
            clearings: 0,
            hits: 0,
            misses: 0,
            watched: None,
        };
        Self { function, state: Mutex::new(state) }
    }

    /// Bytes that an entry counts beside its value.
    #[classattr]
    const ENTRY_BYTES: u64 = store::ENTRY_BYTES;

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let call = Call::new(args, kwargs);
        if let Some(value) = call.as_ref().and_then(|call| slf.get().known(slf.py(), call)) {
            return Ok(value);
        }
        Self::miss(slf, args, kwargs, call.as_ref())
    }

    /// Whether the result of a call is there, the result, and its key if it had to be computed.
    fn _find(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<(Option<Py<PyAny>>, Option<String>)> {
        let (py, this) = (slf.py(), slf.get());
        let call = Call::new(args, Some(kwargs));
        if let Some(value) = call.as_ref().and_then(|call| this.known(py, call)) {
            return Ok((Some(value), None));
        }
        let key = Self::key(slf, args, kwargs)?;
        let found = this.lock().lookup(py, &key, call.as_ref());
        Ok(match found {
            Some(value) => (Some(value), None),
            None => (None, Some(digits(key.digest))),
        })
    }

    /// Put a value in, the newest; the first of a key stays, and is what is returned. `clearings`: as it was when the
    /// computation began.
    #[pyo3(signature = (key, value, nbytes, clearings=None))]
    fn _insert(
        &self,
        py: Python<'_>,
        key: &str,
        value: Py<PyAny>,
        nbytes: u64,
        clearings: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        let key = Key { digest: parse(key)?, watched: None };
        Ok(self.insert(py, &key, value, nbytes, None, clearings))
    }

    /// Count a result that was not there; how often the store was cleared.
    #[pyo3(name = "_begin")]
    fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.misses += 1;
        state.clearings
    }

    /// Keys and values, the least recently used first.
    fn _entries(&self, py: Python<'_>) -> Vec<(String, Py<PyAny>)> {
        let state = self.lock();
        state.store.iter().map(|(key, value)| (digits(key), value.clone_ref(py))).collect()
    }

    /// Hits, misses, entries, bytes, and the most bytes.
    fn _numbers(&self) -> (u64, u64, usize, u64, u64) {
        let state = self.lock();
        (state.hits, state.misses, state.store.len(), state.store.bytes(), state.store.max_bytes())
    }

    /// Forget all results. What is being computed is given to those who wait for it, and not kept.
    #[pyo3(name = "_clear")]
    fn clear(&self) {
        let mut state = self.lock();
        let empty = Store::new(state.store.max_bytes());
        let full = (std::mem::replace(&mut state.store, empty), std::mem::take(&mut state.flights));
        (state.hits, state.misses) = (0, 0);
        state.clearings += 1;
        drop(state);
        drop(full);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        // A lock that is held means that a thread is at work in here: nothing to collect now.
        if let Ok(state) = self.state.try_lock() {
            for (_, value) in state.store.iter() {
                visit.call(value)?;
            }
            if let Some(watched) = &state.watched {
                watched.traverse(&visit)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.clear();
        let watched = self.lock().watched.take();
        drop(watched);
    }
}

impl Memoized {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a call, if these very bytes were seen.
    fn known(&self, py: Python<'_>, call: &Call) -> Option<Py<PyAny>> {
        let mut state = self.lock();
        let value = state.store.find(call.bytes())?.clone_ref(py);
        let watched = state.watched.clone();
        state.hits += 1;
        drop(state);
        if watched.is_some_and(|watched| watched.is_unchanged(py)) {
            return Some(value);
        }
        let mut state = self.lock();
        state.hits = state.hits.saturating_sub(1);
        None
    }

    /// Put a value in, unless there is one or the store was cleared meanwhile; the value to give out.
    fn insert(
        &self,
        py: Python<'_>,
        key: &Key,
        value: Py<PyAny>,
        nbytes: u64,
        call: Option<&Call>,
        clearings: Option<u64>,
    ) -> Py<PyAny> {
        let mut gone = Vec::new();
        let mut state = self.lock();
        if clearings.is_some_and(|clearings| clearings != state.clearings) {
            return value;
        }
        let value = if let Some(first) = state.store.get(key.digest) {
            gone.push(value);
            first.clone_ref(py)
        } else {
            state.store.insert(key.digest, value.clone_ref(py), nbytes, &mut gone);
            value
        };
        state.alias(key, call);
        drop(state);
        drop(gone);
        value
    }

    /// A method of the class: the object itself may have attributes of any name, those of the function.
    fn method<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        slf.get_type().getattr(name)
    }

    fn key(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>, kwargs: &Bound<'_, PyDict>) -> PyResult<Key> {
        let key = Self::method(slf, intern!(slf.py(), "_key"))?.call1((slf, args, kwargs))?;
        let (digits, source): (Bound<'_, PyString>, Option<Bound<'_, PyTuple>>) = key.extract()?;
        let watched = source.map(|source| slf.get().watch(source)).transpose()?;
        Ok(Key { digest: parse(digits.to_str()?)?, watched })
    }

    /// Watch what a key was made from. If that is new, no call that was seen before is known any more.
    fn watch(&self, source: Bound<'_, PyTuple>) -> PyResult<Arc<Watched>> {
        if let Some(watched) = &self.lock().watched
            && watched.is_made_from(&source)
        {
            return Ok(Arc::clone(watched));
        }
        let watched = Arc::new(Watched::new(source)?);
        let mut state = self.lock();
        state.store.forget_aliases();
        let before = state.watched.replace(Arc::clone(&watched));
        drop(state);
        drop(before);
        Ok(watched)
    }

    fn miss(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        call: Option<&Call>,
    ) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let kwargs = kwargs.map_or_else(|| PyDict::new(py), Clone::clone);
        let key = Self::key(slf, args, &kwargs)?;
        loop {
            match this.turn(py, &key, call) {
                Found::Value(value) => return Ok(value),
                Found::Alone => return Self::compute(slf, &key, args, &kwargs, call),
                Found::Ours(flight) => {
                    let mut ending = Ending { this, key: key.digest, flight, value: None };
                    let value = Self::compute(slf, &key, args, &kwargs, call)?;
                    ending.value = Some(value.clone_ref(py));
                    return Ok(value);
                }
                Found::Flight(flight) => {
                    wait(py, None, || Ok(flight.wait(LOOK).then_some(())))?;
                    // Given even if it is not kept. None after an exception: then it is this thread's turn, or
                    // another's.
                    if let Some(value) = flight.value(py) {
                        this.lock().hits += 1;
                        return Ok(value);
                    }
                }
            }
        }
    }

    /// Who gives the value of a key.
    fn turn(&self, py: Python<'_>, key: &Key, call: Option<&Call>) -> Found {
        let mut state = self.lock();
        if let Some(value) = state.lookup(py, key, call) {
            return Found::Value(value);
        }
        match state.flights.get(&key.digest) {
            Some(flight) if flight.is_here() => {
                if Computing::is_here() {
                    return Found::Alone;
                }
                Found::Flight(Arc::clone(flight))
            }
            _ => {
                let flight = Arc::new(Flight::new());
                let inherited = state.flights.insert(key.digest, Arc::clone(&flight));
                drop(state);
                drop(inherited);
                Found::Ours(flight)
            }
        }
    }

    fn compute(
        slf: &Bound<'_, Self>,
        key: &Key,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
        call: Option<&Call>,
    ) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let clearings = this.begin();
        let value = {
            let _computing = Computing::begin();
            this.function.bind(py).call(args, Some(kwargs))?
        };
        // SAFETY: reads the count of an object that is alive.
        #[allow(unsafe_code)]
        let is_alone = unsafe { ffi::Py_REFCNT(value.as_ptr()) } == 1;
        let kept = Self::method(slf, intern!(py, "_keep"))?.call1((slf, value, is_alone))?;
        let (value, nbytes): (Py<PyAny>, u64) = kept.extract()?;
        Ok(this.insert(py, key, value, nbytes, call, Some(clearings)))
    }
}

/// Ends a flight, also after an exception.
struct Ending<'a> {
    this: &'a Memoized,
    key: u128,
    flight: Arc<Flight>,
    value: Option<Py<PyAny>>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.this.lock();
        if state.flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            state.flights.remove(&self.key);
        }
        drop(state);
        self.flight.end(self.value.take());
    }
}

fn parse(key: &str) -> PyResult<u128> {
    let number = (key.len() == DIGITS).then(|| u128::from_str_radix(key, 16).ok()).flatten();
    number.ok_or_else(|| PyValueError::new_err(format!("key: got {key:?}, expected {DIGITS} hexadecimal digits")))
}

fn digits(key: u128) -> String {
    format!("{key:032x}")
}
