//! What `megalith info` says of this machine: the processor, and the place where shared arrays live.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_python;

/// The directory of shared arrays.
#[pyfunction]
pub(crate) fn shared_directory() -> OsString {
    megalith_shm::directory::directory().into_os_string()
}

/// Room on the file system of a directory and in memory, in bytes; what is not known is None.
#[pyfunction]
pub(crate) fn capacity(py: Python<'_>, directory: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let space = megalith_shm::directory::capacity(&directory).map_err(|error| to_python(py, error))?;
    let found = PyDict::new(py);
    found.set_item("free", space.free)?;
    found.set_item("memory_backed", space.memory_backed)?;
    found.set_item("room", space.room())?;
    found.set_item("memory", [space.memory_available, space.cgroup_headroom].into_iter().flatten().min())?;
    Ok(found)
}

/// The vector instructions that kernels use: `avx512`, `avx2`, `neon` or `baseline`.
#[pyfunction]
pub(crate) fn cpu_level() -> &'static str {
    if cfg!(target_arch = "aarch64") { "neon" } else { megalith_kernels::simd::level().name() }
}
