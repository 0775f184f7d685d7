//! The kernels as Python functions. Each is four steps: views, dispatch, `guard::run`, wrap.
//!
//! Arguments come checked and sinks come allocated from `megalith/arrays`; docstrings live there.

use std::num::NonZeroUsize;

use megalith_core::blocks::{boundary, zeros};
use megalith_core::dtype::{DType, Element, Integer, Pod};
use megalith_core::error::{Error, Result};
use megalith_core::{SinkView, SourceView, Workers, match_dtype};
use megalith_kernels::correlate1d::{Input, Mode};
use megalith_kernels::lut_index::{self, Kernel, Weights};
use megalith_kernels::{block_sums as sums, checksum, correlate1d as correlation, digest as digests};
use megalith_kernels::{lut, neighbours, probe, where_};
use numpy::{PyArrayDescrMethods, PyReadwriteArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::{Order, Source, is_same, items, sink, source};
use crate::error::{argument_error, layout_error, to_python};
use crate::guard::{Call, run};

pub(crate) mod groups;

type Array<'a, 'py> = &'a Bound<'py, PyUntypedArray>;

const INTEGERS: &str = "bool, int8 to int64 and uint8 to uint64";
const REALS: &str = "bool, integers and floats";
const NUMBERS: &str = "bool, integers, floats and complex numbers";

fn unsupported(name: &'static str, dtype: DType, supported: &'static str) -> Error {
    Error::DType { name, got: dtype.name().to_owned(), supported }
}

fn bytes_of(source: &Source<'_>) -> usize {
    source.view.len() * source.view.itemsize()
}

/// The elements of a contiguous array of a type.
fn plain<'a, T: Element>(array: Array<'a, '_>, name: &'static str) -> PyResult<&'a [T]> {
    let source = source(array, name)?;
    if source.dtype != T::DTYPE {
        return Err(to_python(array.py(), unsupported(name, source.dtype, T::DTYPE.name())));
    }
    source.view.as_slice().ok_or_else(|| layout_error(array.py(), name, "it is not contiguous"))
}

/// A number to compare with.
#[derive(FromPyObject)]
pub(crate) enum Bound_ {
    Integer(i128),
    Float(f64),
}

/// Hits that are counted but not written.
#[pyclass(frozen, module = "megalith._core")]
pub(crate) struct Hits(where_::Hits);

#[pymethods]
impl Hits {
    /// How many.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Write the positions into `sink`.
    #[pyo3(signature = (sink, processes=None, progress=None))]
    fn fill(
        &self,
        py: Python<'_>,
        sink: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let dtype = source(sink, "sink")?.dtype;
        let work = sink.len() * sink.dtype().itemsize();
        let sink = self::sink(sink, Order::Dtype, &[])?;
        run(
            py,
            &Call { processes, progress },
            work,
            |workers| match_dtype!(number dtype, O => self.0.fill::<O>(workers, sink), else Err(unsupported("sink", dtype, INTEGERS))),
        )
    }
}

/// See `megalith.where`.
#[pyfunction]
#[pyo3(signature = (source, above=None, processes=None, progress=None))]
pub(crate) fn find(
    py: Python<'_>,
    source: Array<'_, '_>,
    above: Option<Bound_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<Hits> {
    let source = self::source(source, "source")?;
    run(py, &Call { processes, progress }, bytes_of(&source), |workers| {
        let (view, dtype) = (&source.view, source.dtype);
        match above {
            None => match_dtype!(all dtype, T => where_::find_nonzero::<T>(workers, view)),
            Some(Bound_::Integer(bound)) => match_dtype!(
                integer dtype, T => where_::find_above_integer::<T>(workers, view, bound),
                else Err(unsupported("source", dtype, INTEGERS))
            ),
            Some(Bound_::Float(bound)) => match_dtype!(
                real dtype, T => where_::find_above_float::<T>(workers, view, bound),
                else Err(unsupported("source", dtype, REALS))
            ),
        }
    })
    .map(Hits)
}

/// The entries of a table as items of one size: its memory where it is aligned, otherwise a copy.
fn entries<'t, L: Pod>(table: &SourceView<'t>, copy: &'t mut Vec<L>) -> Result<&'t [L]> {
    if let Some(entries) = table.as_slice() {
        return Ok(entries);
    }
    *copy = zeros(table.len())?;
    table.gather_raw(0..table.len(), copy);
    Ok(copy)
}

/// The look-up for a source type and an item size.
fn look_up<S: Integer>(
    workers: &Workers<'_>,
    input: lut::Input<'_>,
    table: &SourceView<'_>,
    sink: SinkView<'_>,
    mode: lut::Mode,
) -> Result<()> {
    macro_rules! by_size {
        ($L:ty) => {
            lut::apply_lut::<S, $L>(workers, input, entries(table, &mut Vec::new())?, sink, mode)
        };
    }
    match table.itemsize() {
        1 => by_size!(u8),
        2 => by_size!(u16),
        4 => by_size!(u32),
        8 => by_size!(u64),
        16 => by_size!([u64; 2]),
        _ => {
            let mut bytes = zeros(table.len() * table.itemsize())?;
            table.gather_bytes(0..table.len(), &mut bytes);
            lut::apply_lut_bytes::<S>(workers, input, &bytes, sink, mode)
        }
    }
}

/// See `megalith.apply_lut`; `lut` has the sink's dtype.
#[pyfunction]
#[pyo3(signature = (source, lut, sink, mode, processes=None, progress=None))]
pub(crate) fn apply_lut(
    py: Python<'_>,
    source: Array<'_, '_>,
    lut: Array<'_, '_>,
    sink: Array<'_, '_>,
    mode: &str,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let mode = match mode {
        "raise" => lut::Mode::Raise,
        "clip" => lut::Mode::Clip,
        "wrap" => lut::Mode::Wrap,
        _ => return Err(argument_error(py, "mode", &format!("{mode:?}"), "'raise', 'clip' or 'wrap'")),
    };
    same_shape(py, source, sink)?;
    let in_place = is_same(source, sink);
    let input = self::source(source, "source")?;
    let (dtype, work) = (input.dtype, bytes_of(&input) + sink.len() * sink.dtype().itemsize());
    let sources = [("source", source), ("lut", lut)];
    let (order, sources) = if in_place { (Order::Dtype, &sources[1..]) } else { (Order::Raw, &sources[..]) };
    let sink = self::sink(sink, order, sources)?;
    let input = if in_place { lut::Input::Sink } else { lut::Input::Array(input.view) };
    let table = items(lut);
    if table.shape().len() != 1 || table.itemsize() != sink.itemsize() {
        return Err(argument_error(
            py,
            "lut",
            &format!("shape {:?}", table.shape()),
            "one dimension, the sink's dtype",
        ));
    }
    run(py, &Call { processes, progress }, work, |workers| {
        match_dtype!(
            integer dtype, S => look_up::<S>(workers, input, &table, sink, mode),
            else Err(unsupported("source", dtype, INTEGERS))
        )
    })
}

/// See `megalith.apply_lut_to_index`; `kernel` is contiguous int64 or float64, `lut` as in `apply_lut`. The sink begins
/// at `start` in the source, no later than the centre of the kernel.
#[pyfunction]
#[pyo3(signature = (source, kernel, lut, sink, start, processes=None, progress=None))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn apply_lut_to_index(
    py: Python<'_>,
    source: Array<'_, '_>,
    kernel: Array<'_, '_>,
    lut: Array<'_, '_>,
    sink: Array<'_, '_>,
    start: Vec<usize>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let input = self::source(source, "source")?;
    let weights = self::source(kernel, "kernel")?;
    let shape = weights.view.shape().to_vec();
    let not_contiguous = || layout_error(py, "kernel", "it is not contiguous");
    let weights = match weights.dtype {
        DType::I64 => Weights::Integer(weights.view.as_slice().ok_or_else(not_contiguous)?),
        DType::F64 => Weights::Float(weights.view.as_slice().ok_or_else(not_contiguous)?),
        other => return Err(to_python(py, unsupported("kernel", other, "int64 and float64"))),
    };
    let work = input.view.len().saturating_mul(8 + kernel.len());
    let sink = self::sink(sink, Order::Raw, &[("source", source), ("kernel", kernel), ("lut", lut)])?;
    let table = items(lut);
    let kernel = Kernel { shape: &shape, weights };
    run(py, &Call { processes, progress }, work, |workers| {
        let misfit = || Error::Internal("a table of an item size without a kernel".to_owned());
        macro_rules! by_size {
            ($L:ty) => {
                lut_index::apply_lut_to_index::<$L>(
                    workers,
                    input.view,
                    input.dtype,
                    &kernel,
                    entries(&table, &mut Vec::new())?,
                    sink,
                    &start,
                )
            };
        }
        match table.itemsize() {
            1 => by_size!(u8),
            2 => by_size!(u16),
            4 => by_size!(u32),
            8 => by_size!(u64),
            16 => by_size!([u64; 2]),
            _ => Err(misfit()),
        }
    })
}

/// See `megalith.correlate1d`; `kernel` is contiguous float64, `axis` not negative.
#[pyfunction]
#[pyo3(signature = (source, kernel, sink, axis, mode, cval, origin, fast, processes=None, progress=None))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn correlate1d(
    py: Python<'_>,
    source: Array<'_, '_>,
    kernel: Array<'_, '_>,
    sink: Array<'_, '_>,
    axis: usize,
    mode: &str,
    cval: f64,
    origin: isize,
    fast: bool,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let mode = match mode {
        "constant" | "grid-constant" => Mode::Constant(cval),
        "nearest" => Mode::Nearest,
        "reflect" | "grid-mirror" => Mode::Reflect,
        "mirror" => Mode::Mirror,
        "wrap" | "grid-wrap" => Mode::Wrap,
        _ => {
            let expected = "'constant', 'nearest', 'reflect', 'mirror', 'wrap' (or 'grid-constant', 'grid-mirror', \
                            'grid-wrap')";
            return Err(argument_error(py, "mode", &format!("{mode:?}"), expected));
        }
    };
    same_shape(py, source, sink)?;
    // A copy: the sink may be the kernel's own memory.
    let weights: Vec<f64> = plain(kernel, "kernel")?.to_vec();
    let in_place = is_same(source, sink) && source.dtype().is_equiv_to(&sink.dtype());
    let input = self::source(source, "source")?;
    let sink_dtype = self::source(sink, "sink")?.dtype;
    for (name, dtype) in [("source", input.dtype), ("sink", sink_dtype)] {
        if matches!(dtype, DType::C64 | DType::C128) {
            return Err(to_python(py, unsupported(name, dtype, REALS)));
        }
    }
    let work = input.view.len().saturating_mul(8 + weights.len());
    let sources: &[_] = if in_place { &[] } else { &[("source", source)] };
    let sink = self::sink(sink, Order::Dtype, sources)?;
    let input = if in_place { Input::Sink } else { Input::Array { view: input.view, dtype: input.dtype } };
    run(py, &Call { processes, progress }, work, |workers| {
        correlation::correlate1d(workers, input, sink, sink_dtype, axis, &weights, origin, mode, fast)
    })
}

/// Boundaries, which are contiguous int64, as positions; negative ones become positions no array has. Without any, those
/// that cut `len` elements into even blocks.
fn positions(boundaries: Option<Array<'_, '_>>, len: usize, blocks: usize) -> PyResult<Vec<usize>> {
    match (boundaries, NonZeroUsize::new(blocks)) {
        (Some(boundaries), _) => {
            let positions = plain(boundaries, "boundaries")?;
            Ok(positions.iter().map(|&b: &i64| usize::try_from(b).unwrap_or(usize::MAX)).collect())
        }
        (None, Some(count)) => Ok((0..=blocks).map(|b| boundary(len, count, b)).collect()),
        (None, None) => Ok(vec![0]),
    }
}

/// Read all 64-bit words of an array, for the bandwidth of memory; their sum.
#[pyfunction]
#[pyo3(signature = (source, processes=None))]
pub(crate) fn probe_read(py: Python<'_>, source: Array<'_, '_>, processes: Option<usize>) -> PyResult<u64> {
    let source = self::source(source, "source")?;
    let work = bytes_of(&source);
    run(py, &Call { processes, progress: None }, work, |workers| probe::read(workers, &source.view))
}

/// Write a 64-bit word to all places of an array, for the bandwidth of memory.
#[pyfunction]
#[pyo3(signature = (sink, word, processes=None))]
pub(crate) fn probe_write(py: Python<'_>, sink: Array<'_, '_>, word: u64, processes: Option<usize>) -> PyResult<()> {
    let sink = self::sink(sink, Order::Raw, &[])?;
    let work = sink.len() * sink.itemsize();
    run(py, &Call { processes, progress: None }, work, |workers| probe::write(workers, sink, word))
}

/// Where the blocks from `first` on begin, of so many that an array of `size` elements is cut into.
#[pyfunction]
pub(crate) fn block_boundaries(
    size: usize,
    blocks: NonZeroUsize,
    first: usize,
    mut sink: PyReadwriteArray1<'_, i64>,
) -> PyResult<()> {
    for (k, slot) in sink.as_slice_mut()?.iter_mut().enumerate() {
        *slot = boundary(size, blocks, first + k) as i64;
    }
    Ok(())
}

/// See `megalith.block_sums`: the sums between given boundaries, or of as many even blocks as the sink has room for.
#[pyfunction]
#[pyo3(signature = (source, boundaries, sink, processes=None, progress=None))]
pub(crate) fn block_sums(
    py: Python<'_>,
    source: Array<'_, '_>,
    boundaries: Option<Array<'_, '_>>,
    sink: Array<'_, '_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let input = self::source(source, "source")?;
    let (dtype, work) = (input.dtype, bytes_of(&input));
    let boundaries = positions(boundaries, input.view.len(), sink.len())?;
    let sink_dtype = self::source(sink, "sink")?.dtype;
    let sink = self::sink(sink, Order::Dtype, &[("source", source)])?;
    run(py, &Call { processes, progress }, work, |workers| {
        match_dtype!(all dtype, T => {
            type Total = <T as sums::Sum>::Total;
            if <Total as megalith_core::Element>::DTYPE != sink_dtype {
                return Err(unsupported("sink", sink_dtype, NUMBERS));
            }
            let sink = sink.into_mut_slice::<Total>().map_err(|_| Error::Internal("sums need a plain sink".to_owned()))?;
            sums::block_sums::<T>(workers, &input.view, &boundaries, sink)
        })
    })
}

/// See `megalith.block_counts`: the non-zero entries between given boundaries, or of even blocks.
#[pyfunction]
#[pyo3(signature = (source, boundaries, sink, processes=None, progress=None))]
pub(crate) fn block_counts(
    py: Python<'_>,
    source: Array<'_, '_>,
    boundaries: Option<Array<'_, '_>>,
    sink: Array<'_, '_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let input = self::source(source, "source")?;
    let (dtype, work) = (input.dtype, bytes_of(&input));
    let boundaries = positions(boundaries, input.view.len(), sink.len())?;
    let sink = self::sink(sink, Order::Dtype, &[("source", source)])?;
    run(py, &Call { processes, progress }, work, |workers| {
        let sink = sink.into_mut_slice::<i64>().map_err(|_| Error::Internal("counts need a plain sink".to_owned()))?;
        match_dtype!(all dtype, T => sums::block_counts::<T>(workers, &input.view, &boundaries, sink))
    })
}

/// Pairs that are counted but not written.
#[pyclass(frozen, module = "megalith._core")]
pub(crate) struct Pairs(neighbours::Pairs);

#[pymethods]
impl Pairs {
    /// How many.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Write the pairs of `indices`, the array they were counted in, into `sink`.
    #[pyo3(signature = (indices, sink, processes=None, progress=None))]
    fn fill(
        &self,
        py: Python<'_>,
        indices: Array<'_, '_>,
        sink: Array<'_, '_>,
        processes: Option<usize>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let input = source(indices, "indices")?;
        let (dtype, work) = (input.dtype, bytes_of(&input) + sink.len() * sink.dtype().itemsize());
        let sink = self::sink(sink, Order::Dtype, &[("indices", indices)])?;
        run(py, &Call { processes, progress }, work, |workers| {
            match_dtype!(
                number dtype, T => self.0.fill::<T>(workers, &input.view, sink),
                else Err(unsupported("indices", dtype, INTEGERS))
            )
        })
    }
}

/// See `megalith.neighbours`.
#[pyfunction]
#[pyo3(signature = (indices, offset, processes=None, progress=None))]
pub(crate) fn find_pairs(
    py: Python<'_>,
    indices: Array<'_, '_>,
    offset: i128,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<Pairs> {
    let input = source(indices, "indices")?;
    let dtype = input.dtype;
    run(py, &Call { processes, progress }, bytes_of(&input), |workers| {
        match_dtype!(
            number dtype, T => neighbours::find::<T>(workers, &input.view, offset),
            else Err(unsupported("indices", dtype, INTEGERS))
        )
    })
    .map(Pairs)
}

/// CRC-32 and XXH3-64 of bytes and the items of an array of any type behind them, in C order; see `megalith.records`.
#[pyfunction]
#[pyo3(signature = (prefix, source, processes=None, progress=None))]
pub(crate) fn checksums(
    py: Python<'_>,
    prefix: &[u8],
    source: Array<'_, '_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<(u32, u64)> {
    let view = items(source);
    let work = prefix.len() + view.len() * view.itemsize();
    let found = run(py, &Call { processes, progress }, work, |workers| checksum::checksums(workers, prefix, &view))?;
    Ok((found.crc32, found.xxh3))
}

/// XXH3-64 of bytes and the items of an array of any type behind them, in C order; see `megalith.records`.
#[pyfunction]
#[pyo3(signature = (prefix, source, processes=None, progress=None))]
pub(crate) fn xxh3(
    py: Python<'_>,
    prefix: &[u8],
    source: Array<'_, '_>,
    processes: Option<usize>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<u64> {
    let view = items(source);
    let work = prefix.len() + view.len() * view.itemsize();
    run(py, &Call { processes, progress }, work, |workers| checksum::xxh3(workers, prefix, &view))
}

/// The digest of the bytes of an array's items in C order: 16 bytes, whatever the memory order; see `megalith.context`.
#[pyfunction]
#[pyo3(signature = (source, processes=None, progress=None))]
pub(crate) fn digest<'py>(
    py: Python<'py>,
    source: Array<'_, 'py>,
    processes: Option<usize>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    if source.dtype().has_object() {
        let got = source.dtype().to_string();
        return Err(to_python(py, Error::DType { name: "source", got, supported: "types without Python objects" }));
    }
    digest_of(py, &items(source), Call { processes, progress })
}

/// The digest of bytes: that of an array of these bytes.
#[pyfunction]
pub(crate) fn digest_bytes<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    digest_of(py, &SourceView::from_slice(data, &[data.len()]), Call { processes: Some(1), progress: None })
}

fn digest_of<'py>(py: Python<'py>, view: &SourceView<'_>, call: Call<'_>) -> PyResult<Bound<'py, PyBytes>> {
    let work = view.len() * view.itemsize();
    let digest = run(py, &call, work, |workers| digests::digest(workers, view))?;
    Ok(PyBytes::new(py, &digest))
}

/// An error if the sink has not the shape of the source.
fn same_shape(py: Python<'_>, source: Array<'_, '_>, sink: Array<'_, '_>) -> PyResult<()> {
    if source.shape() == sink.shape() {
        return Ok(());
    }
    let (got, expected) = (format!("shape {:?}", sink.shape()), format!("the source's {:?}", source.shape()));
    Err(to_python(py, Error::Shape { name: "sink", got, expected }))
}
