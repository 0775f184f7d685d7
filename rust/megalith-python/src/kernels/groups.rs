//! Ids that are counted and grouped, and the means of their rows.

use megalith_core::dtype::Integer;
use megalith_core::match_dtype;
use megalith_kernels::groups;
use numpy::{PyArrayMethods, PyReadwriteArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::{Array, INTEGERS, bytes_of, unsupported};
use crate::arrays::{Order, sink, source};
use crate::error::to_python;
use crate::guard::{Call, run};

/// The ids of a list, counted; see `megalith.select.spikes_per_cluster`.
#[pyclass(module = "megalith._core")]
pub(crate) struct Tally(groups::Tally);

#[pymethods]
impl Tally {
    /// How many different ids there are.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Write the ids, rising (as the bits that they are), and how often each is there.
    fn write(&self, mut ids: PyReadwriteArray1<'_, i64>, mut counts: PyReadwriteArray1<'_, i64>) -> PyResult<()> {
        ids.as_slice_mut()?.iter_mut().zip(self.0.ids()).for_each(|(slot, id)| *slot = id);
        counts.as_slice_mut()?.iter_mut().zip(self.0.counts()).for_each(|(slot, &count)| *slot = count as i64);
        Ok(())
    }

    /// Add what was counted in the next stretch of the same list.
    fn merge(&mut self, other: PyRef<'_, Self>) {
        self.0.merge(&other.0);
    }

    /// Write the positions of `ids`, a list or the next stretch of it, into `sink`, from `cursors` on.
    #[pyo3(signature = (ids, first, cursors, sink, processes=None, progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn positions(
        &self,
        py: Python<'_>,
        ids: Array<'_, '_>,
        first: usize,
        mut cursors: PyReadwriteArray1<'_, i64>,
        sink: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let input = source(ids, "ids")?;
        let (dtype, work) = (input.dtype, ids.len() * (input.dtype.itemsize() + size_of::<i64>()));
        let sink = self::sink(sink, Order::Dtype, &[("ids", ids), ("cursors", cursors.as_untyped())])?;
        let cursors = cursors.as_slice_mut()?;
        run(py, &Call { processes, progress }, work, |workers| {
            match_dtype!(
                number dtype, T => self.0.positions::<T>(workers, &input.view, first, cursors, sink),
                else Err(unsupported("ids", dtype, INTEGERS))
            )
        })
    }
}

/// Count the ids of a list.
#[pyfunction]
#[pyo3(signature = (ids, processes=None, progress=None))]
pub(crate) fn count_ids(
    py: Python<'_>,
    ids: Array<'_, '_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<Tally> {
    let input = source(ids, "ids")?;
    let dtype = input.dtype;
    run(py, &Call { processes, progress }, bytes_of(&input), |workers| {
        match_dtype!(
            number dtype, T => groups::count::<T>(workers, &input.view),
            else Err(unsupported("ids", dtype, INTEGERS))
        )
    })
    .map(Tally)
}

/// See `megalith.select.index_of`: the place of each id in `table`, or -1.
#[pyfunction]
#[pyo3(signature = (ids, table, sink, processes=None, progress=None))]
pub(crate) fn index_of(
    py: Python<'_>,
    ids: Array<'_, '_>,
    table: Array<'_, '_>,
    sink: Array<'_, '_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let input = source(ids, "ids")?;
    let (dtype, work) = (input.dtype, ids.len() * (input.dtype.itemsize() + size_of::<i64>()));
    let known = source(table, "table")?;
    let sink = self::sink(sink, Order::Dtype, &[("ids", ids), ("table", table)])?;
    run(py, &Call { processes, progress }, work, |workers| {
        let table: Vec<i128> = match_dtype!(
            number known.dtype, T => {
                known.view.values::<T>(0..known.view.len(), &mut Vec::new()).iter().map(|id| id.to_i128()).collect()
            },
            else return Err(unsupported("table", known.dtype, INTEGERS))
        );
        match_dtype!(
            number dtype, T => groups::index_of::<T>(workers, &input.view, &table, sink),
            else Err(unsupported("ids", dtype, INTEGERS))
        )
    })
}

/// Sums of rows by id; see `megalith.select.grouped_mean`.
#[pyclass(module = "megalith._core")]
pub(crate) struct Means(groups::Means);

#[pymethods]
impl Means {
    #[new]
    fn new(columns: usize) -> Self {
        Self(groups::Means::new(columns))
    }

    /// Rows of a block of so many columns: windows hold whole blocks.
    #[staticmethod]
    fn block_rows(columns: usize) -> usize {
        groups::block_rows(columns)
    }

    /// How many different ids there are.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Add the rows of `values`, those of the first axis, to the sums of their ids.
    #[pyo3(signature = (ids, values, processes=None, progress=None))]
    fn add(
        &mut self,
        py: Python<'_>,
        ids: Array<'_, '_>,
        values: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (input, values) = (source(ids, "ids")?, source(values, "values")?);
        let (dtype, work) = (input.dtype, bytes_of(&input) + bytes_of(&values));
        run(py, &Call { processes, progress }, work, |workers| {
            match_dtype!(
                number dtype, T => self.0.add::<T>(workers, &input.view, &values.view, values.dtype),
                else Err(unsupported("ids", dtype, INTEGERS))
            )
        })
    }

    /// Write the ids, rising (as the bits that they are), and the mean of the rows of each.
    fn write(
        &self,
        py: Python<'_>,
        mut ids: PyReadwriteArray1<'_, i64>,
        mut means: PyReadwriteArray1<'_, f64>,
    ) -> PyResult<()> {
        self.0.write(ids.as_slice_mut()?, means.as_slice_mut()?).map_err(|error| to_python(py, error))
    }
}
