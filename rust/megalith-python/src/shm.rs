//! What `megalith info` says of the place where shared arrays live.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_python;

/// The directory of shared arrays.
#[pyfunction]
pub(crate) fn shared_directory() -> PathBuf {
    megalith_shm::directory::directory()
}

/// Room on the file system of a directory, in bytes; what is not known is None.
#[pyfunction]
pub(crate) fn capacity(py: Python<'_>, directory: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let space = megalith_shm::directory::capacity(&directory).map_err(|error| to_python(py, error))?;
    let found = PyDict::new(py);
    found.set_item("free", space.free)?;
    found.set_item("memory_backed", space.memory_backed)?;
    found.set_item("room", space.room())?;
    Ok(found)
}
