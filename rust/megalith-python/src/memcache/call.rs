//! A call as bytes: the arguments that are plain immutable values, in the form they were given.
//!
//! Two calls with the same bytes mean the same; two with different bytes may mean the same too (`f(1, 2)`, `f(1, b=2)`),
//! which is for the canonical key to find out. Each value is its type's tag and its content, lengths before what has
//! one, so that no two calls have the same bytes; 1, 1.0 and True differ by their tags. Only exact types are taken:
//! nothing in here runs code of a user's class.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple, PyType};

/// Bytes of a call at most; longer ones are left to the canonical key.
const CALL_BYTES: usize = 512;

/// Tuples inside of each other.
const MOST_LEVELS: u8 = 8;

/// The bytes of a call.
pub(crate) struct Call {
    bytes: [u8; CALL_BYTES],
    len: usize,
}

impl Call {
    /// The bytes of a call; None if an argument is of another type, or too long.
    pub(crate) fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Option<Self> {
        let mut call = Self { bytes: [0; CALL_BYTES], len: 0 };
        for value in args.iter_borrowed() {
            call.value(&value, 0)?;
        }
        if let Some(kwargs) = kwargs {
            for (name, value) in kwargs {
                call.text(b'=', &name)?;
                call.value(&value, 0)?;
            }
        }
        Some(call)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn value(&mut self, value: &Bound<'_, PyAny>, level: u8) -> Option<()> {
        if value.is_exact_instance_of::<PyInt>() {
            self.number(b'i', value.extract::<i64>().ok()?.cast_unsigned())
        } else if value.is_exact_instance_of::<PyString>() {
            self.text(b's', value)
        } else if let Ok(float) = value.cast_exact::<PyFloat>() {
            self.float(b'f', float.value())
        } else if let Ok(bool) = value.cast_exact::<PyBool>() {
            self.put(&[if bool.is_true() { b'T' } else { b'F' }])
        } else if value.is_none() {
            self.put(b"N")
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.content(b'b', bytes.as_bytes())
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            if level == MOST_LEVELS {
                return None;
            }
            self.number(b'(', tuple.len() as u64)?;
            tuple.iter_borrowed().try_for_each(|item| self.value(&item, level + 1).ok_or(())).ok()
        } else {
            self.numpy(value)
        }
    }

    /// A scalar of NumPy's.
    fn numpy(&mut self, value: &Bound<'_, PyAny>) -> Option<()> {
        let types = numpy_types(value.py()).ok()?;
        let kind = value.get_type_ptr();
        let i = types.iter().position(|known| known.as_ptr().cast() == kind)?;
        let tag = b'0' + i as u8;
        match NUMPY_TYPES[i].1 {
            Content::Float => self.float(tag, value.extract().ok()?),
            Content::Int => self.number(tag, value.extract::<i64>().ok()?.cast_unsigned()),
            Content::Truth => self.number(tag, value.is_truthy().ok()?.into()),
        }
    }

    fn float(&mut self, tag: u8, value: f64) -> Option<()> {
        // One NaN for all, so that they hit; 0.0 and -0.0 differ.
        self.number(tag, if value.is_nan() { f64::NAN } else { value }.to_bits())
    }

    fn number(&mut self, tag: u8, bits: u64) -> Option<()> {
        self.put(&[tag])?;
        self.put(&bits.to_le_bytes())
    }

    /// A str, unless it has lone surrogates.
    fn text(&mut self, tag: u8, value: &Bound<'_, PyAny>) -> Option<()> {
        self.content(tag, value.cast_exact::<PyString>().ok()?.to_str().ok()?.as_bytes())
    }

    fn content(&mut self, tag: u8, bytes: &[u8]) -> Option<()> {
        let len = u16::try_from(bytes.len()).ok()?;
        self.put(&[tag])?;
        self.put(&len.to_le_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}

#[derive(Clone, Copy)]
enum Content {
    Float,
    Int,
    Truth,
}

/// The scalars that stand in calls most often. The tag of each is its place, from '0' on.
const NUMPY_TYPES: [(&str, Content); 6] = [
    ("float64", Content::Float),
    ("int64", Content::Int),
    ("float32", Content::Float),
    ("int32", Content::Int),
    ("uint8", Content::Int),
    ("bool_", Content::Truth),
];

fn numpy_types(py: Python<'_>) -> PyResult<&'static [Py<PyType>]> {
    static TYPES: PyOnceLock<Vec<Py<PyType>>> = PyOnceLock::new();
    let find = || {
        let numpy = py.import("numpy")?;
        NUMPY_TYPES.iter().map(|(name, _)| Ok(numpy.getattr(*name)?.cast_into::<PyType>()?.unbind())).collect()
    };
    TYPES.get_or_try_init(py, find).map(Vec::as_slice)
}
