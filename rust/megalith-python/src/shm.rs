//! Shared memory as Python objects: mappings that arrays show, turns to make a value, and what is in the directory.
//!
//! Names come checked from `megalith/shared`; headers and records are parsed there. A [`Segment`] gives its bytes by the
//! buffer protocol, read-only unless it is being filled, and is the base of every array that shows it: the mapping ends
//! with the last of them.

use std::ffi::{OsString, c_int};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use megalith_core::Error;
use megalith_shm::{Claim, Identity, Name, Turn, directory, list, turn};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::error::to_python;
use crate::files::{Header, header};
use crate::guard::{Call, SYSTEM_CALL, run, wait};

/// Device, inode, size and time of a file.
type Stamp = (u64, u64, u64, i64);

fn stamp(identity: Identity) -> Stamp {
    (identity.dev, identity.ino, identity.size, identity.mtime_ns)
}

/// A mapping of shared memory.
#[pyclass(frozen, weakref, module = "megalith._core")]
pub(crate) struct Segment {
    segment: megalith_shm::Segment,
}

impl Segment {
    pub(crate) fn new(segment: megalith_shm::Segment) -> Self {
        Self { segment }
    }
}

#[pymethods]
impl Segment {
    /// Map a published file; None if there is none.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, trust_owner: bool) -> PyResult<Option<Self>> {
        let segment = megalith_shm::Segment::open(&path, trust_owner).map_err(|error| to_python(py, error))?;
        Ok(segment.map(Self::new))
    }

    /// Writable zeros that no file name leads to.
    #[staticmethod]
    fn anonymous(py: Python<'_>, directory: PathBuf, nbytes: u64) -> PyResult<Self> {
        let work = usize::try_from(nbytes).unwrap_or(usize::MAX).max(SYSTEM_CALL);
        let call = Call { processes: Some(1), progress: None };
        run(py, &call, work, |_| megalith_shm::Segment::anonymous(&directory, nbytes)).map(Self::new)
    }

    /// The file, None for anonymous memory and while it is being filled.
    #[getter]
    fn path(&self) -> Option<OsString> {
        self.segment.path().map(|path| path.as_os_str().to_owned())
    }

    /// What tells the file from others of its name.
    #[getter]
    fn identity(&self) -> Option<Stamp> {
        self.segment.identity().map(stamp)
    }

    /// The bytes.
    #[getter]
    fn memory(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyMemoryView>> {
        PyMemoryView::from(slf.as_any())
    }

    /// What the plain header at the start says; None if there is none, and while it is being filled.
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> PyResult<Option<Header<'py>>> {
        self.segment.as_slice().map_or(Ok(None), |file| header(py, file))
    }

    /// Where it is mapped.
    #[getter]
    fn address(&self) -> usize {
        self.segment.as_ptr().addr()
    }

    /// Whether the file belongs to another user.
    #[getter]
    fn is_foreign(&self) -> bool {
        self.segment.is_foreign()
    }

    /// Whether the name still leads to this memory; never for a foreign file that is not trusted.
    fn is_current(&self, trust_owner: bool) -> bool {
        (trust_owner || !self.segment.is_foreign()) && self.segment.is_current()
    }

    /// Give out no writable memory any more: the file is published.
    fn seal(&self, path: PathBuf) {
        self.segment.seal(&path);
    }

    fn __len__(&self) -> usize {
        self.segment.len()
    }

    /// The bytes.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let segment = &slf.get().segment;
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let readonly = c_int::from(segment.is_sealed());
        let (address, len) = (segment.as_ptr().cast_mut().cast(), segment.len() as isize);
        // SAFETY: `view` is the caller's, and not null. The memory is mapped for as long as `slf` lives, of which the
        // view holds a reference; it is given out writable only where it is mapped so.
        let status = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), address, len, readonly, flags) };
        if status == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// The right to make the value of a name.
#[pyclass(frozen, module = "megalith._core")]
pub(crate) struct Turned {
    /// None once it is given back.
    claim: Mutex<Option<Claim>>,
}

#[pymethods]
impl Turned {
    /// Give it back.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
        run(py, &Call::default(), SYSTEM_CALL, |_| {
            drop(claim);
            Ok(())
        })
    }
}

fn name_of(py: Python<'_>, prefix: &str, id: &str) -> PyResult<Name> {
    Name::new(prefix, id).map_err(|error| to_python(py, error))
}

/// Wait until a name is published or this thread may make it, or for `timeout` seconds (for ever if negative):
/// whether it is published, and the right to make it.
#[pyfunction]
pub(crate) fn shared_turn(
    py: Python<'_>,
    directory: PathBuf,
    prefix: &str,
    id: &str,
    timeout: f64,
) -> PyResult<(bool, Option<Turned>)> {
    let name = name_of(py, prefix, id)?;
    let deadline = match Duration::try_from_secs_f64(timeout) {
        Ok(timeout) => Instant::now().checked_add(timeout),
        Err(_) => None,
    };
    let found = wait(py, deadline, || {
        Ok(match turn::take(&directory, &name)? {
            Turn::Busy => None,
            Turn::Published => Some(None),
            Turn::Ours(claim) => Some(Some(claim)),
        })
    })?;
    Ok(match found {
        None => (false, None),
        Some(None) => (true, None),
        Some(Some(claim)) => (false, Some(Turned { claim: Mutex::new(Some(claim)) })),
    })
}

/// The process that is making the value of a name, if that is known.
#[pyfunction]
pub(crate) fn shared_holder(py: Python<'_>, directory: PathBuf, prefix: &str, id: &str) -> PyResult<Option<u32>> {
    Ok(turn::holder(&directory, &name_of(py, prefix, id)?))
}

/// Take a name away; whether there was one.
#[pyfunction]
pub(crate) fn shared_remove(py: Python<'_>, directory: PathBuf, prefix: &str, id: &str) -> PyResult<bool> {
    let name = name_of(py, prefix, id)?;
    run(py, &Call::default(), SYSTEM_CALL, |_| list::remove(&directory, &name))
}

/// What there is to say of an array.
type Row = (String, String, u64, u64, u32, f64);

/// File name, id, bytes, bytes allocated, user and time of each array in a directory.
#[pyfunction]
pub(crate) fn shared_list(py: Python<'_>, directory: PathBuf, prefix: &str) -> PyResult<Vec<Row>> {
    let entries = run(py, &Call::default(), SYSTEM_CALL, |_| list::list(&directory, prefix))?;
    let seconds = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let row = |e: list::Entry| -> Row { (e.file_name, e.id, e.size, e.allocated, e.uid, seconds(e.modified)) };
    Ok(entries.into_iter().map(row).collect())
}

/// The effective user.
#[pyfunction]
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Give up the locks that a forked child has inherited; called by `os.register_at_fork`.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    megalith_files::lock::after_fork_in_child();
}

/// A draft of a shared array's file.
pub(crate) fn draft(
    directory: &std::path::Path,
    name: &Name,
    suffix: &str,
    size: u64,
    mode: u32,
    reserve: bool,
) -> megalith_core::Result<(megalith_files::publish::Draft, PathBuf)> {
    let file = match suffix {
        ".npy" => name.array(),
        ".npz" => name.record(),
        _ => return Err(Error::Internal(format!("a shared file that ends in {suffix}"))),
    };
    let path = directory.join(file);
    let scratch = directory::own(directory)?;
    let draft = megalith_files::publish::Draft::create_in(&path, &scratch, size, mode, reserve)?;
    Ok((draft, path))
}
