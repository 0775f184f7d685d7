//! Arrays whose memory is taken from, and given back to, `megalith_core::memory`.
//!
//! NumPy lets an array be made with functions of ours for its memory (NEP 49): the array owns its data as any other does,
//! and calls these functions when it is resized or freed, by whatever thread, up to the end of the interpreter.
//!
//! Where the memory is, and how much, is in a table. Only threads that are attached to the interpreter come here, as is
//! one that forks, and nothing is waited for while the table is locked: no child finds it locked.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use megalith_core::{Memory, memory};
use numpy::{PyArrayDescr, PyArrayDescrMethods};
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyTuple, PyTupleMethods};

use crate::error::to_python;

/// Arrays of fewer bytes are left to NumPy, whose allocator uses memory of that size again as it is. Measured: at 8 MiB
/// both are as fast, at 40 this is faster by half.
const LARGE: usize = 1 << 23;

/// The memory of arrays that are alive, by its address.
static LIVE: Mutex<BTreeMap<usize, Memory>> = Mutex::new(BTreeMap::new());

fn live() -> MutexGuard<'static, BTreeMap<usize, Memory>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `numpy.empty`, with memory that an array of before had where there is much of it.
#[pyfunction]
#[pyo3(signature = (shape, dtype, order=None))]
pub(crate) fn empty<'py>(
    shape: Bound<'py, PyAny>,
    dtype: Bound<'py, PyAny>,
    order: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = shape.py();
    let empty = EMPTY.import(py, "numpy", "empty")?;
    let _installed = if is_ours(&shape, &dtype)? { Some(Installed::new(py)?) } else { None };
    empty.call1((shape, dtype, order))
}

/// Whether an array is large, and may have any content at first.
fn is_ours(shape: &Bound<'_, PyAny>, dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let dtype = match dtype.cast::<PyArrayDescr>() {
        Ok(dtype) => dtype.clone(),
        Err(_) => PyArrayDescr::new(dtype.py(), dtype)?,
    };
    let mut bytes = dtype.itemsize();
    let mut multiply = |length: &Bound<'_, PyAny>| -> PyResult<()> {
        bytes = bytes.saturating_mul(length.extract()?);
        Ok(())
    };
    match shape.cast::<PyTuple>() {
        Ok(shape) => shape.iter_borrowed().try_for_each(|length| multiply(&length))?,
        Err(_) => shape.try_iter()?.try_for_each(|length| multiply(&length?))?,
    }
    let is_large = bytes >= LARGE && !dtype.has_object();
    Ok(is_large && memory::limit().map_err(|error| to_python(dtype.py(), error))? > 0)
}

/// To be called by `os.register_at_fork`, in parent and child.
#[pyfunction]
pub(crate) fn after_fork() {
    memory::after_fork();
}

/// NumPy's function that says where memory comes from, and its place in the table of NumPy's functions.
type SetHandler = unsafe extern "C" fn(*mut PyObject) -> *mut PyObject;
const SET_HANDLER: usize = 304;

/// Our functions as those that NumPy uses in this thread, until it is dropped.
struct Installed<'py> {
    set: SetHandler,
    before: Bound<'py, PyAny>,
}

impl<'py> Installed<'py> {
    fn new(py: Python<'py>) -> PyResult<Self> {
        static FOUND: PyOnceLock<(SetHandler, Py<PyCapsule>)> = PyOnceLock::new();
        // Neither is ever given up: arrays are freed after all else.
        let (set, ours) = FOUND.get_or_try_init(py, || {
            Ok::<_, PyErr>((set_handler(py)?, PyCapsule::new_with_value(py, HANDLER, c"mem_handler")?.unbind()))
        })?;
        Ok(Self { set: *set, before: exchange(*set, ours.bind(py))? })
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // It refuses nothing but what is no handler, and this was one.
        let _ = exchange(self.set, &self.before);
    }
}

/// Set NumPy's handler, and return the one before.
fn exchange<'py>(set: SetHandler, handler: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: NumPy's function, called while attached to the interpreter with a live object; it takes a reference of
    // its own, and returns a new one or null with an exception set.
    #[allow(unsafe_code)]
    unsafe {
        Bound::from_owned_ptr_or_err(handler.py(), set(handler.as_ptr()))
    }
}

fn set_handler(py: Python<'_>) -> PyResult<SetHandler> {
    let table = py.import("numpy._core._multiarray_umath")?.getattr("_ARRAY_API")?.cast_into::<PyCapsule>()?;
    let table = table.pointer_checked(None)?.cast::<SetHandler>();
    // SAFETY: NumPy's table of pointers, which lives as long as the process. Since 1.22 this one is
    // `PyDataMem_SetHandler`, and we need 2.1.
    #[allow(unsafe_code)]
    Ok(unsafe { table.add(SET_HANDLER).read() })
}

/// `PyDataMem_Handler` of `numpy/ndarraytypes.h`, with its `PyDataMemAllocator`.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    context: usize,
    malloc: extern "C" fn(usize, usize) -> *mut c_void,
    calloc: extern "C" fn(usize, usize, usize) -> *mut c_void,
    realloc: extern "C" fn(usize, *mut c_void, usize) -> *mut c_void,
    free: extern "C" fn(usize, *mut c_void, usize),
}

const HANDLER: Handler = Handler { name: name(), version: 1, context: 0, malloc, calloc, realloc, free };

const fn name() -> [c_char; 127] {
    let (mut name, bytes) = ([0; 127], b"megalith");
    let mut i = 0;
    while i < bytes.len() {
        name[i] = bytes[i] as c_char;
        i += 1;
    }
    name
}

/// Enter memory in the table; the address, or null for none.
fn enter(memory: megalith_core::Result<Memory>) -> *mut c_void {
    let Ok(mut memory) = memory else { return null_mut() };
    let address = memory.bytes_mut().as_mut_ptr();
    live().insert(address.addr(), memory);
    address.cast()
}

extern "C" fn malloc(_: usize, len: usize) -> *mut c_void {
    enter(Memory::take(len))
}

extern "C" fn calloc(_: usize, n: usize, size: usize) -> *mut c_void {
    enter(Memory::take(n.saturating_mul(size)).map(|mut memory| {
        memory.bytes_mut().fill(0);
        memory
    }))
}

extern "C" fn realloc(_: usize, pointer: *mut c_void, len: usize) -> *mut c_void {
    let before = live().get(&pointer.addr()).map(|memory| memory.bytes().len());
    if before.is_some_and(|before| (len..=len.saturating_mul(2)).contains(&before)) {
        return pointer;
    }
    let Ok(mut memory) = Memory::take(len) else { return null_mut() };
    let before = live().remove(&pointer.addr());
    if let Some(before) = before {
        let n = len.min(before.bytes().len());
        memory.bytes_mut()[..n].copy_from_slice(&before.bytes()[..n]);
    }
    enter(Ok(memory))
}

extern "C" fn free(_: usize, pointer: *mut c_void, _: usize) {
    let memory = live().remove(&pointer.addr());
    drop(memory);
}
