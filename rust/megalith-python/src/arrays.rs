//! NumPy arrays as views: the one place where pointers of Python's become views of ours.
//!
//! What NumPy guarantees of an array, and this file relies on: its pointer, shape and strides describe memory that is
//! alive as long as the array, except where the caller built them by hand (`as_strided`) or resized the array from
//! another thread with `refcheck=False`. What other threads can do to the *content* meanwhile is said at the head of
//! `megalith_core::view`.
//!
//! A sink must be writeable, must not overlap itself, and must not share memory with what is read; all three are
//! checked here, which is what makes [`SinkView`]s of it sound.

use megalith_core::{DType, SinkView, SourceView};
use numpy::npyffi::NPY_ARRAY_WRITEABLE;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{layout_error, to_python};

/// Units of work `numpy.shares_memory` may spend before we take "maybe" for yes.
const OVERLAP_WORK: i64 = 100_000;

/// An array that is read.
pub(crate) struct Source<'a> {
    pub(crate) view: SourceView<'a>,
    pub(crate) dtype: DType,
}

/// Element type and foreign byte order of an array, or None for types that are only moved.
fn dtype_of(array: &Bound<'_, PyUntypedArray>) -> (Option<DType>, bool) {
    let descr = array.dtype();
    let dtype = match (descr.kind(), descr.itemsize()) {
        (b'b', 1) => DType::Bool,
        (b'i', 1) => DType::I8,
        (b'i', 2) => DType::I16,
        (b'i', 4) => DType::I32,
        (b'i' | b'm' | b'M', 8) => DType::I64,
        (b'u', 1) => DType::U8,
        (b'u', 2) => DType::U16,
        (b'u', 4) => DType::U32,
        (b'u', 8) => DType::U64,
        (b'f', 2) => DType::F16,
        (b'f', 4) => DType::F32,
        (b'f', 8) => DType::F64,
        (b'c', 8) => DType::C64,
        (b'c', 16) => DType::C128,
        _ => return (None, false),
    };
    let foreign = if cfg!(target_endian = "little") { b'>' } else { b'<' };
    (Some(dtype), descr.byteorder() == foreign)
}

/// Pointer to the first element, and whether NumPy lets it be written.
fn memory(array: &Bound<'_, PyUntypedArray>) -> (*mut u8, bool) {
    let object = array.as_array_ptr();
    // SAFETY: a live array, whose fields are read while attached to the interpreter.
    #[allow(unsafe_code)]
    unsafe {
        ((*object).fields.data.cast(), (*object).fields.flags & NPY_ARRAY_WRITEABLE != 0)
    }
}

fn view_of<'a>(array: &'a Bound<'_, PyUntypedArray>, swapped: bool) -> SourceView<'a> {
    let (pointer, _) = memory(array);
    // SAFETY: NumPy's own description of the array, which the borrow keeps alive for `'a`.
    #[allow(unsafe_code)]
    unsafe {
        SourceView::from_raw_parts(pointer, array.shape(), array.strides(), array.dtype().itemsize(), swapped)
    }
}

/// An array as a source of elements.
pub(crate) fn source<'a>(array: &'a Bound<'_, PyUntypedArray>, name: &'static str) -> PyResult<Source<'a>> {
    let (dtype, swapped) = dtype_of(array);
    let Some(dtype) = dtype else {
        let supported = "bool, int8 to int64, uint8 to uint64, float16 to float64, complex64, complex128, datetime64, \
                         timedelta64";
        let error = megalith_core::Error::DType { name, got: array.dtype().to_string(), supported };
        return Err(to_python(array.py(), error));
    };
    Ok(Source { view: view_of(array, swapped), dtype })
}

/// An array as items that are moved without a look at them.
pub(crate) fn items<'a>(array: &'a Bound<'_, PyUntypedArray>) -> SourceView<'a> {
    view_of(array, false)
}

/// How a sink's bytes are to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As numbers: in the byte order the dtype says.
    Dtype,
    /// As items: bytes moved as they are.
    Raw,
}

/// An array as a sink that shares no memory with `sources`.
pub(crate) fn sink<'a>(
    array: &'a Bound<'_, PyUntypedArray>,
    order: Order,
    sources: &[(&'static str, &Bound<'_, PyUntypedArray>)],
) -> PyResult<SinkView<'a>> {
    let py = array.py();
    let (pointer, writeable) = memory(array);
    let (shape, strides, itemsize) = (array.shape(), array.strides(), array.dtype().itemsize());
    if !writeable {
        return Err(layout_error(py, "sink", "it is read-only; give an array that can be written"));
    }
    // Soon said of most arrays.
    if !array.is_contiguous() && overlaps_itself(shape, strides, itemsize) {
        let reason = "several of its positions share memory (a broadcast or overlapping view); give a plain array";
        return Err(layout_error(py, "sink", reason));
    }
    for (name, source) in sources {
        if share_memory(array, source)? {
            let reason = format!("it shares memory with {name}; give a sink of its own");
            return Err(layout_error(py, "sink", &reason));
        }
    }
    let swapped = order == Order::Dtype && dtype_of(array).1;
    // SAFETY: NumPy's own description of a writeable array, kept alive by the borrow; no two positions share a byte and
    // nothing that is read lies in it, as just checked.
    #[allow(unsafe_code)]
    Ok(unsafe { SinkView::from_raw_parts(pointer, shape, strides, itemsize, swapped) })
}

/// `LayoutError` if a sink shares memory with a source.
#[pyfunction]
pub(crate) fn refuse_overlap(sink: &Bound<'_, PyUntypedArray>, source: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    self::sink(sink, Order::Raw, &[("source", source)]).map(drop)
}

/// Whether two arrays are the same memory seen in the same way: positions, item size and byte order.
pub(crate) fn is_same(a: &Bound<'_, PyUntypedArray>, b: &Bound<'_, PyUntypedArray>) -> bool {
    memory(a).0 == memory(b).0
        && a.shape() == b.shape()
        && a.strides() == b.strides()
        && a.dtype().itemsize() == b.dtype().itemsize()
        && dtype_of(a).1 == dtype_of(b).1
}

/// Whether positions may share bytes: false if each stride steps over all that the smaller ones reach.
fn overlaps_itself(shape: &[usize], strides: &[isize], itemsize: usize) -> bool {
    if shape.contains(&0) {
        return false;
    }
    let mut axes: Vec<(usize, usize)> =
        strides.iter().zip(shape).filter(|&(_, &n)| n > 1).map(|(s, &n)| (s.unsigned_abs(), n)).collect();
    axes.sort_unstable();
    let mut reach = itemsize;
    for (stride, n) in axes {
        if stride < reach {
            return true;
        }
        reach += stride * (n - 1);
    }
    false
}

/// The addresses an array lies between.
fn extent(array: &Bound<'_, PyUntypedArray>) -> Option<(usize, usize)> {
    let (shape, itemsize) = (array.shape(), array.dtype().itemsize());
    if shape.contains(&0) || itemsize == 0 {
        return None;
    }
    let first = memory(array).0 as usize;
    let (mut low, mut high) = (first, first + itemsize);
    for (&n, &stride) in shape.iter().zip(array.strides()) {
        let reach = stride.unsigned_abs() * (n - 1);
        if stride < 0 {
            low -= reach;
        } else {
            high += reach;
        }
    }
    Some((low, high))
}

/// Whether two arrays have a byte in common; where that is too hard to tell, true.
fn share_memory(a: &Bound<'_, PyUntypedArray>, b: &Bound<'_, PyUntypedArray>) -> PyResult<bool> {
    let (Some((a_low, a_high)), Some((b_low, b_high))) = (extent(a), extent(b)) else { return Ok(false) };
    if a_high <= b_low || b_high <= a_low {
        return Ok(false);
    }
    let py = a.py();
    let numpy = py.import("numpy")?;
    let options = PyDict::new(py);
    options.set_item("max_work", OVERLAP_WORK)?;
    match numpy.call_method("shares_memory", (a, b), Some(&options)) {
        Ok(answer) => answer.is_truthy(),
        Err(error) if error.is_instance(py, &numpy.getattr("exceptions")?.getattr("TooHardError")?) => Ok(true),
        Err(error) => Err(error),
    }
}
