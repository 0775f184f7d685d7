//! Every error as its Python exception, in one exhaustive match.
//!
//! The classes live in `megalith/exceptions.py`; here only their names and fields appear.

use megalith_core::Error;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

/// An exception class of ours, called with a message and fields.
fn ours(py: Python<'_>, class: &str, message: &str, fields: PyResult<Bound<'_, PyDict>>) -> PyErr {
    let error =
        fields.and_then(|fields| py.import("megalith.exceptions")?.getattr(class)?.call((message,), Some(&fields)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// `ArgumentError` for a wrong option.
pub(crate) fn argument_error(py: Python<'_>, name: &'static str, got: &str, expected: &str) -> PyErr {
    to_python(py, Error::Argument { name, got: got.to_owned(), expected: expected.to_owned() })
}

/// `LayoutError` for memory that cannot be used as asked.
pub(crate) fn layout_error(py: Python<'_>, name: &str, reason: &str) -> PyErr {
    let fields = [("name", name), ("reason", reason)].into_py_dict(py);
    ours(py, "LayoutError", &format!("{name}: {reason}"), fields)
}

/// The Python exception of an error.
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        // The exception that asked for the end is raised by `guard::run`; this is for work nobody waited for.
        Error::Cancelled => PyKeyboardInterrupt::new_err(()),
        Error::Shape { name, got, expected } => {
            let fields = [("name", name), ("got", &got), ("expected", &expected)].into_py_dict(py);
            ours(py, "ShapeError", &message, fields)
        }
        Error::DType { name, got, supported } => {
            let fields = [("name", name), ("got", &got), ("supported", supported)].into_py_dict(py);
            ours(py, "DTypeError", &message, fields)
        }
        Error::Argument { name, got, expected } => {
            let fields = [("name", name), ("got", &got), ("expected", &expected)].into_py_dict(py);
            ours(py, "ArgumentError", &message, fields)
        }
        Error::IndexRange { index, size, position } => {
            let fields = PyDict::new(py);
            let filled = fields
                .set_item("index", index)
                .and_then(|()| fields.set_item("size", size))
                .and_then(|()| fields.set_item("position", pyo3::types::PyTuple::new(py, position)?));
            ours(py, "IndexRangeError", &message, filled.map(|()| fields))
        }
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::FileRead { path, offset, wanted, done } => {
            let fields = PyDict::new(py);
            let filled = fields
                .set_item("path", path)
                .and_then(|()| fields.set_item("offset", offset))
                .and_then(|()| fields.set_item("wanted", wanted))
                .and_then(|()| fields.set_item("done", done));
            ours(py, "FileReadError", &message, filled.map(|()| fields))
        }
        Error::FileWrite { path, offset, wanted, done, source } => {
            let fields = PyDict::new(py);
            let filled = fields
                .set_item("path", path)
                .and_then(|()| fields.set_item("offset", offset))
                .and_then(|()| fields.set_item("wanted", wanted))
                .and_then(|()| fields.set_item("done", done))
                .and_then(|()| fields.set_item("errno", source.raw_os_error()));
            ours(py, "FileWriteError", &message, filled.map(|()| fields))
        }
        // Called with (errno, text, path), OSError makes itself the subclass the number means.
        Error::Io { path, source } => match source.raw_os_error() {
            Some(errno) => PyOSError::new_err((errno, source.to_string(), path)),
            None => source.into(),
        },
        Error::Ownership { path, owner } => {
            let fields = PyDict::new(py);
            let filled = fields.set_item("path", path).and_then(|()| fields.set_item("owner", owner));
            ours(py, "OwnershipError", &message, filled.map(|()| fields))
        }
        Error::Format { path, field, got } => {
            let fields = PyDict::new(py);
            let filled = fields
                .set_item("path", path)
                .and_then(|()| fields.set_item("field", field))
                .and_then(|()| fields.set_item("got", got));
            ours(py, "FormatError", &message, filled.map(|()| fields))
        }
        Error::Internal(_) => {
            let message = format!("{message}. This is a bug in megalith: please report it with what led to it.");
            ours(py, "InternalError", &message, Ok(PyDict::new(py)))
        }
    }
}
