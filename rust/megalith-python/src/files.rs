//! Files as Python objects: parallel reads and writes of boxes, and drafts that appear when they are complete.
//!
//! Paths come checked and headers made from `megalith/arrays`. A [`File`] is opened once and keeps its descriptor, so
//! that all boxes of an operation come from one file even if its name is given to another meanwhile.

use std::ops::Range;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use megalith_core::Error;
use megalith_files::crash::step;
use megalith_files::header::plain;
use megalith_files::publish;
use megalith_files::{Stored, books, read_box, write_box};
use megalith_shm::Name;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{Order, items, sink};
use crate::error::{layout_error, to_python};
use crate::guard::{Call, SYSTEM_CALL, run};
use crate::shm;

type Array<'a, 'py> = &'a Bound<'py, PyUntypedArray>;

/// Permissions of new files, before the umask.
const MODE: u32 = 0o666;

fn ranges(spans: &[(usize, usize)]) -> Vec<Range<usize>> {
    spans.iter().map(|&(start, stop)| start..stop).collect()
}

/// Write `source` into a box of an array in a file.
#[allow(clippy::too_many_arguments)]
fn put(
    py: Python<'_>,
    file: &std::fs::File,
    path: &Path,
    offset: u64,
    shape: &[usize],
    spans: &[(usize, usize)],
    source: Array<'_, '_>,
    call: &Call<'_>,
) -> PyResult<()> {
    let stored = Stored { offset, shape, itemsize: source.dtype().itemsize() };
    let view = items(source);
    let work = (view.len() * view.itemsize()).max(SYSTEM_CALL);
    run(py, call, work, |workers| write_box(workers, file, path, &stored, &ranges(spans), &view))
}

/// An open file.
#[pyclass(frozen, module = "megalith._core")]
pub(crate) struct File {
    file: std::fs::File,
    path: PathBuf,
}

#[pymethods]
impl File {
    #[new]
    #[pyo3(signature = (path, *, writable=false))]
    fn new(py: Python<'_>, path: PathBuf, writable: bool) -> PyResult<Self> {
        let file = std::fs::OpenOptions::new().read(true).write(writable).open(&path);
        file.map(|file| Self { file, path: path.clone() }).map_err(|source| to_python(py, Error::Io { path, source }))
    }

    /// Read a box of the C-order array of `shape` at `offset` into `sink`, which is C-contiguous.
    #[pyo3(signature = (offset, shape, spans, sink, processes=None, progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn read_box(
        &self,
        py: Python<'_>,
        offset: u64,
        shape: Vec<usize>,
        spans: Vec<(usize, usize)>,
        sink: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let stored = Stored { offset, shape: &shape, itemsize: sink.dtype().itemsize() };
        let work = (sink.len() * stored.itemsize).max(SYSTEM_CALL);
        let out = self::sink(sink, Order::Raw, &[])?;
        let out = out.into_mut_bytes().map_err(|_| layout_error(py, "sink", "it is not contiguous"))?;
        run(py, &Call { processes, progress }, work, |workers| {
            read_box(workers, &self.file, &self.path, &stored, &ranges(&spans), out)
        })
    }

    /// Write `source` into a box of the C-order array of `shape` at `offset`.
    #[pyo3(signature = (offset, shape, spans, source, processes=None, progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn write_box(
        &self,
        py: Python<'_>,
        offset: u64,
        shape: Vec<usize>,
        spans: Vec<(usize, usize)>,
        source: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        put(py, &self.file, &self.path, offset, &shape, &spans, source, &Call { processes, progress })
    }
}

/// A file that becomes visible when it is published, and vanishes if it is not.
#[pyclass(frozen, module = "megalith._core")]
pub(crate) struct Draft {
    /// None once it is published or discarded.
    draft: Mutex<Option<publish::Draft>>,
    path: PathBuf,
}

impl Draft {
    /// A second descriptor of the file.
    fn file(&self, py: Python<'_>) -> PyResult<std::fs::File> {
        // Made into an exception when the mutex is free again: that may wait for the interpreter.
        let clone = {
            let draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
            // A forked child has no descriptor of its parent's draft: what it wrote to it would be lost.
            draft.as_ref().filter(|draft| draft.is_ours()).map(|draft| draft.file().try_clone())
        };
        let clone = clone.ok_or_else(|| to_python(py, ended()))?;
        clone.map_err(|source| to_python(py, Error::Io { path: self.path.clone(), source }))
    }
}

fn ended() -> Error {
    Error::Internal("a draft was used after its end, or by a forked child".to_owned())
}

#[pymethods]
impl Draft {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, size: u64) -> PyResult<Self> {
        // Reserving room takes as long as writing as many zeros, on some file systems.
        let work = usize::try_from(size).unwrap_or(usize::MAX).max(SYSTEM_CALL);
        let call = Call { processes: Some(1), progress: None };
        let draft = run(py, &call, work, |_| publish::Draft::create(&path, size, MODE))?;
        Ok(Self { draft: Mutex::new(Some(draft)), path })
    }

    /// A draft of a shared array's file, in the directory `directory`.
    #[staticmethod]
    #[pyo3(signature = (directory, prefix, id, suffix, size, mode, *, reserve))]
    #[allow(clippy::too_many_arguments)]
    fn shared(
        py: Python<'_>,
        directory: PathBuf,
        prefix: &str,
        id: &str,
        suffix: &str,
        size: u64,
        mode: u32,
        reserve: bool,
    ) -> PyResult<Self> {
        let name = Name::new(prefix, id).map_err(|error| to_python(py, error))?;
        let work = if reserve { usize::try_from(size).unwrap_or(usize::MAX) } else { 0 };
        let call = Call { processes: Some(1), progress: None };
        let (draft, path) =
            run(py, &call, work.max(SYSTEM_CALL), |_| shm::draft(&directory, &name, suffix, size, mode, reserve))?;
        Ok(Self { draft: Mutex::new(Some(draft)), path })
    }

    /// Map the reserved bytes of the file, to be filled.
    fn map(&self, py: Python<'_>, nbytes: usize) -> PyResult<shm::Segment> {
        let file = self.file(py)?;
        let segment = megalith_shm::Segment::writable(&file, nbytes).map_err(|error| to_python(py, error))?;
        Ok(shm::Segment::new(segment))
    }

    /// A descriptor of the file, the caller's to close.
    fn duplicate(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.file(py)?.into_raw_fd())
    }

    /// Write bytes at an offset.
    fn write(&self, py: Python<'_>, offset: u64, data: &[u8]) -> PyResult<()> {
        let file = self.file(py)?;
        std::os::unix::fs::FileExt::write_all_at(&file, data, offset)
            .map_err(|source| to_python(py, Error::Io { path: self.path.clone(), source }))
    }

    /// Write `source` into a box of the C-order array of `shape` at `offset`.
    #[pyo3(signature = (offset, shape, spans, source, processes=None, progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn write_box(
        &self,
        py: Python<'_>,
        offset: u64,
        shape: Vec<usize>,
        spans: Vec<(usize, usize)>,
        source: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let file = self.file(py)?;
        put(py, &file, &self.path, offset, &shape, &spans, source, &Call { processes, progress })
    }

    /// Give the file its name; with `books`, counted in the total that this file holds, which is returned.
    #[pyo3(signature = (*, replace, books=None))]
    fn publish(&self, py: Python<'_>, replace: bool, books: Option<PathBuf>) -> PyResult<Option<i64>> {
        let draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner).take();
        let draft = draft.ok_or_else(|| to_python(py, ended()))?;
        step("written");
        run(py, &Call::default(), SYSTEM_CALL, |_| match &books {
            None => draft.publish(replace).map(|()| None),
            Some(books) => books::publish(draft, replace, books),
        })
    }

    /// Forget the file.
    fn discard(&self) {
        drop(self.draft.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Remove a file, and its bytes from a total: whether it was there, and the new total, None if there is none.
#[pyfunction]
pub(crate) fn books_remove(py: Python<'_>, path: PathBuf, books: PathBuf) -> PyResult<(bool, Option<i64>)> {
    run(py, &Call::default(), SYSTEM_CALL, |_| books::remove(&path, &books))
}

/// The bytes ever added to a total, to be asked for before all files are counted.
#[pyfunction]
pub(crate) fn books_added(py: Python<'_>, books: PathBuf) -> PyResult<i64> {
    run(py, &Call::default(), SYSTEM_CALL, |_| books::added(&books))
}

/// Make a count of all files the total: the new one.
#[pyfunction]
pub(crate) fn books_settle(py: Python<'_>, books: PathBuf, counted: i64, added: i64) -> PyResult<i64> {
    run(py, &Call::default(), SYSTEM_CALL, |_| books::settle(&books, counted, added))
}

/// Note that a file was used now; whether the system let us.
#[pyfunction]
pub(crate) fn touch(path: PathBuf) -> bool {
    books::touch(&path)
}

/// What a plain header says: shape, type, whether in Fortran order, and where the elements begin.
pub(crate) type Header<'py> = (Bound<'py, PyTuple>, String, bool, usize);

/// Parse the header at the start of a `.npy` file; None if NumPy must.
pub(crate) fn header<'py>(py: Python<'py>, file: &[u8]) -> PyResult<Option<Header<'py>>> {
    let Some(found) = plain(file) else { return Ok(None) };
    Ok(Some((PyTuple::new(py, &found.shape)?, found.descr.to_owned(), found.is_fortran, found.offset)))
}

/// Parse the header at the start of a `.npy` file; None if NumPy must.
#[pyfunction]
pub(crate) fn plain_header<'py>(py: Python<'py>, file: &[u8]) -> PyResult<Option<Header<'py>>> {
    header(py, file)
}
