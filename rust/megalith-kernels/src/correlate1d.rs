//! Correlation of all lines along one axis with a row of weights, bit for bit as SciPy does it.
//!
//! # The idea
//! Each output is a weighted sum of its neighbours along the axis. SciPy walks one line after the other, and one sum
//! after the other: each addition waits for the one before it. Here many sums grow side by side. The rows of a *strip*
//! of lanes (neighbouring lines) are summed as vectors (`correlate1d/sums.rs`):
//!
//! ```text
//! for each row r, all lanes side by side:         acc = x[r + c] * w[c]
//!     for each pair of taps (j, K-1-j):           acc += (x[r + j] + x[r + K-1-j]) * w[j]
//! ```
//!
//! Wide strips whose rows are slices of memory are summed straight from there (`correlate1d/direct.rs`), or from
//! copies of rows that crowd the caches (`correlate1d/packed.rs`). All others are copied as doubles into a small
//! buffer first, row after row along the axis (`correlate1d/sweep.rs`). Lines along an axis that is contiguous in
//! memory are turned on the way into the buffer and on the way out of it, eight at a time, so that they are lanes
//! too, but for few taps (`correlate1d/lines.rs`); a line that is alone is a strip of one lane. Those who ask for
//! speed instead of SciPy's bits get sums in single precision (`correlate1d/single.rs`).
//!
//! # Tricks
//! 1. The order of the additions is SciPy's, so the vectors hold independent sums rather than parts of one.
//! 2. The buffer is a window that slides along the axis: the last `K - 1` rows are kept, each source row is converted
//!    once. The rows beyond the ends come from a map of positions (`correlate1d/extension.rs`).
//! 3. Lanes are taken along the smallest stride of the sink. A strip has many, for the sake of memory. What is read
//!    next, and the memory that is going to be written, are fetched while sums are made: on one thread that takes a
//!    third off the time of three taps.
//! 4. Large results are written past the caches where that pays: columns as wide as lines of memory, of rows of some pages
//!    or of narrow elements; long rows of which lines cannot be written so, a line of memory of each at a time
//!    (`correlate1d/sums/avx512.rs`); shorter ones of elements of eight bytes (`correlate1d/behind.rs`).
//! 5. In place costs nothing more: what lies behind the window is never needed again, and the rows beyond the ends are
//!    read before the first result is written.
//!
//! # Limits
//! Work in place is not cut along the axis, so a single line is done by a single thread, and cancelled only before it
//! or after it.

/// `$f::<S, D>` for the types of a source and of a sink, and whether `D` is the sink's: sums become elements of it at
/// once where these are the source's, or doubles, or singles of narrow integers and truth values; all others are doubles
/// first.
macro_rules! match_types {
    ($source:expr, $sink:expr, $f:ident) => {
        match ($source, $sink) {
            (DType::Bool, DType::F32) => ($f::<Bool8, f32> as _, true),
            (DType::I8, DType::F32) => ($f::<i8, f32> as _, true),
            (DType::I16, DType::F32) => ($f::<i16, f32> as _, true),
            (DType::U8, DType::F32) => ($f::<u8, f32> as _, true),
            (DType::U16, DType::F32) => ($f::<u16, f32> as _, true),
            (source, sink) if source == sink => match_dtype!(real source, T => ($f::<T, T> as _, true),
                else return Err(not_real("source", source))),
            (source, sink) => match_dtype!(real source, T => ($f::<T, f64> as _, sink == DType::F64),
                else return Err(not_real("source", source))),
        }
    };
}

mod behind;
mod direct;
mod extension;
mod lines;
mod packed;
mod single;
mod sums;
mod sweep;
mod taps;
mod writer;

#[cfg(test)]
mod tests;

use megalith_core::{DType, Error, Result, SinkView, SourceView, Workers};

use self::direct::LONG;
use self::sums::ROWS;
use self::sweep::{Form, Place, Scratch, Sweep, WINDOW};
use self::taps::{Taps, WIDTH};
use crate::rows::{SIDE, by_stride};
use crate::simd::{Fence, LARGE, Level, level};

/// What a line is taken to be beyond its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// This value: `k k k | a b c d | k k k`. It stays a double whatever the types of the arrays.
    Constant(f64),
    /// The last entry: `a a a | a b c d | d d d`.
    Nearest,
    /// Mirrored about the edge of the last entry: `c b a | a b c d | d c b`.
    Reflect,
    /// Mirrored about the centre of the last entry: `d c b | a b c d | c b a`.
    Mirror,
    /// Periodic: `b c d | a b c d | a b c`.
    Wrap,
}

/// Where the lines come from.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// An array that shares no memory with the sink.
    Array {
        /// The elements.
        view: SourceView<'a>,
        /// Their type.
        dtype: DType,
    },
    /// The sink itself, which is overwritten.
    Sink,
}

/// Outputs times taps of an item of work, about; some tenths of a millisecond, where strips are not long.
const WORK: usize = 1 << 22;
/// Rows of an item, at least, where the axis has them: each item reads `K - 1` rows of its neighbours.
const MIN_ROWS: usize = 256;
/// Lanes of a strip that is not long, at most: whole pages of memory are read and written at once.
const STRIP: usize = 512;
/// Bytes of the rows that a long strip needs at once, about, where blocks are not tall: a quarter of a second-level cache.
const CACHED: usize = 1 << 18;
/// Items there are at least where strips could be longer.
const ITEMS: usize = if cfg!(test) { 1 } else { 64 };
/// A strip of fewer lanes is narrow.
const WIDE: usize = 64;
/// An axis shorter than this is not worth being walked line by line.
const SHORT: usize = 32;

/// `sink[.., l, ..] = sum over i of kernel[i] * source[.., l + i - K / 2 - origin, ..]` along `axis`.
///
/// Sums are in double precision, converted once. `fast` allows single precision, fused additions and other orders of
/// them, where the sink is of the source's type, float32 or an integer of up to 16 bits, or float32 for such integers
/// or truth values (`correlate1d/single.rs`): each sum is off by at most `(K + 3) * 2^-24` of the sum of its `|x * w|`, as
/// long as these are in the range of float32, and an integer by one.
///
/// # Shapes
/// `source` and `sink` (n0..nk), at least one axis; `kernel` (K), of any length from 1 on, longer than the axis too.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ or there is no such axis; [`Error::Argument`] for an empty kernel, or an
/// origin that moves its centre outside of it; [`Error::DType`] for types that are not real; [`Error::Cancelled`].
///
/// # Cost
/// One pass over the source and one over the sink. Scratch of each thread: up to a MiB, or three times the kernel's
/// memory where that is more; in place not more.
///
/// # Source
/// `scipy.ndimage.correlate1d` (1.17), equal to it bit by bit. It has no float16, which is converted as the other
/// types are. `ArrayProcessing.correlate1d` of `ClearMap2` (behaviour; there modes are missing).
#[allow(clippy::too_many_arguments)]
pub fn correlate1d(
    workers: &Workers<'_>,
    input: Input<'_>,
    sink: SinkView<'_>,
    sink_dtype: DType,
    axis: usize,
    kernel: &[f64],
    origin: isize,
    mode: Mode,
    fast: bool,
) -> Result<()> {
    let (source, source_dtype) = match input {
        Input::Array { view, dtype } => (Some(view), dtype),
        Input::Sink => (None, sink_dtype),
    };
    check(source.as_ref(), &sink, axis, kernel, origin)?;
    let make = || Scratch::new(source_dtype, sink_dtype);
    // Once here, so that a wrong type is an error for empty arrays too.
    make()?;
    if sink.is_empty() {
        return Ok(());
    }
    // Of what a row is read, summed and written in.
    let itemsize = match sink_dtype {
        _ if source_dtype == sink_dtype => sink_dtype.itemsize(),
        DType::F32 => source_dtype.itemsize().max(size_of::<f32>()),
        _ => size_of::<f64>(),
    };
    let plan = Plan::new(&sink, itemsize, source.is_none(), axis, Taps::new(kernel, origin, fast), mode);
    let items = plan.items(source, sink);
    workers.for_each_with(
        items,
        || None,
        |scratch, item| {
            let scratch = match scratch {
                Some(scratch) => scratch,
                None => scratch.insert(make()?),
            };
            plan.run(workers, item, scratch)
        },
    )
}

fn check(
    source: Option<&SourceView<'_>>,
    sink: &SinkView<'_>,
    axis: usize,
    kernel: &[f64],
    origin: isize,
) -> Result<()> {
    let shape = sink.shape();
    if let Some(source) = source
        && source.shape() != shape
    {
        let (got, expected) = (format!("{shape:?}"), format!("{:?}, the shape of the source", source.shape()));
        return Err(Error::Shape { name: "sink", got, expected });
    }
    if axis >= shape.len() {
        let expected = format!("an axis of an array of {} axes", shape.len());
        return Err(Error::Shape { name: "axis", got: axis.to_string(), expected });
    }
    if kernel.is_empty() {
        let expected = "at least one weight".to_owned();
        return Err(Error::Argument { name: "kernel", got: "no weights".to_owned(), expected });
    }
    let (half, last) = ((kernel.len() / 2) as isize, kernel.len() as isize - 1);
    if origin < -half || origin > last - half {
        let expected = format!("{} to {} for {} weights", -half, last - half, kernel.len());
        return Err(Error::Argument { name: "origin", got: origin.to_string(), expected });
    }
    Ok(())
}

/// A box of lines and the rows of them that are to be computed.
struct Part<'a, 'b> {
    /// All rows of the lines; None in place.
    source: Option<SourceView<'a>>,
    /// The rows from `first` on.
    sink: SinkView<'b>,
    first: usize,
}

/// Cut the axes `from..to` of a part into boxes of at most `cap` lanes (at least one).
fn cut<'a, 'b>(part: Part<'a, 'b>, from: usize, to: usize, cap: usize, parts: &mut Vec<Part<'a, 'b>>) {
    let lanes = |axis: usize| part.sink.shape()[axis..to].iter().product::<usize>();
    if from == to || lanes(from) <= cap {
        return parts.push(part);
    }
    let inner = lanes(from + 1);
    let n = part.sink.shape()[from];
    let pieces = n.div_ceil((cap / inner).max(1));
    let mut start = 0;
    for sink in part.sink.split(from, n.div_ceil(pieces)) {
        let stop = start + sink.shape()[from];
        let source = part.source.clone().map(|source| source.slice(from, start..stop));
        cut(Part { source, sink, first: part.first }, from + 1, to, cap, parts);
        start = stop;
    }
}

/// Lanes of a row that follow each other in memory, or all if those of the last axis do not: then every row is moved
/// element by element.
fn run_of_lanes(sink: &SinkView<'_>, axes: &[usize]) -> usize {
    let (shape, strides) = (sink.shape(), sink.strides());
    let mut run = 1;
    for (k, &axis) in axes.iter().enumerate().rev() {
        if shape[axis] > 1 && strides[axis] != (run * sink.itemsize()) as isize {
            let is_first = k + 1 == axes.len();
            return if is_first { usize::MAX } else { run };
        }
        run *= shape[axis];
    }
    run
}

/// How the work is cut; nothing in it depends on the number of threads.
struct Plan {
    taps: Taps,
    mode: Mode,
    /// Length of the axis.
    n: usize,
    /// The order of the axes in which parts are seen: lines have the axis last, strips have it first.
    axes: Vec<usize>,
    by_lines: bool,
    /// Lanes and rows of an item, and lanes of a strip.
    item_lanes: usize,
    item_rows: usize,
    strip: usize,
    /// Lanes of a strip that is computed straight from the source, if that can be: the longer the stretches of memory that are
    /// written past the caches, the faster.
    long: usize,
    /// Whether the result may be written past the caches.
    is_large: bool,
}

impl Plan {
    fn new(sink: &SinkView<'_>, itemsize: usize, in_place: bool, axis: usize, taps: Taps, mode: Mode) -> Self {
        let count = taps.weights.len();
        let n = sink.shape()[axis];
        let lanes = sink.len() / n;
        let mut axes = by_stride(sink.shape(), sink.strides());
        let by_lines = lanes == 1 || (n >= SHORT && axes.last() == Some(&axis));
        axes.retain(|&a| a != axis);
        axes.insert(if by_lines { axes.len() } else { 0 }, axis);

        let grain = (WORK / (count + 28)).max(1 << 12);
        let mut strip = if by_lines { 1 } else { (2 * WINDOW / 3 / count).clamp(1, STRIP) };
        if in_place && !by_lines {
            // Whole lines are one item, so that few long lines still make work for all threads.
            strip = strip.min((lanes / 64).next_multiple_of(WIDTH).max(WIDTH));
        }
        let is_large = !in_place && level() == Level::Avx512 && sink.len() * sink.itemsize() >= LARGE;
        let blocks = (n / MIN_ROWS).max(1);
        let stretch = CACHED / (count + ROWS);
        let is_long = is_large && !by_lines && stretch >= LONG;
        let long = (stretch / itemsize).min(run_of_lanes(sink, &axes[1..])).min(lanes * blocks / ITEMS);
        let long = if is_long { long.max(strip) } else { strip };
        let item_rows = if in_place {
            n
        } else if long > strip {
            n.div_ceil(blocks)
        } else {
            n.min((grain / strip.min(lanes)).max(MIN_ROWS))
        };
        let item_lanes = (grain / item_rows).max(long);
        Self { taps, mode, n, axes, by_lines, item_lanes, item_rows, strip, long, is_large }
    }

    fn items<'a, 'b>(&self, source: Option<SourceView<'a>>, sink: SinkView<'b>) -> Vec<Part<'a, 'b>> {
        let source = source.map(|source| source.permute(&self.axes));
        let whole = Part { source, sink: sink.permute(&self.axes), first: 0 };
        let last = self.axes.len() - 1;
        let (axis, from, to) = if self.by_lines { (last, 0, last) } else { (0, 1, last + 1) };
        let mut boxes = Vec::new();
        cut(whole, from, to, self.item_lanes, &mut boxes);
        let mut items = Vec::new();
        for Part { source, sink, .. } in boxes {
            let mut first = 0;
            for sink in sink.split(axis, self.item_rows) {
                let rows = sink.shape()[axis];
                items.push(Part { source: source.clone(), sink, first });
                first += rows;
            }
        }
        items
    }

    fn run(&self, workers: &Workers<'_>, item: Part<'_, '_>, scratch: &mut Scratch) -> Result<()> {
        // SAFETY: nobody else has the item's part of the sink until this returns, and a sweep that has a source of its own
        // does not look at it; each row is written once.
        #[allow(unsafe_code)]
        let fence = self.is_large.then(|| unsafe { Fence::new() });
        let sweep = Sweep { taps: &self.taps, mode: self.mode, n: self.n, fence: fence.as_ref() };
        scratch.writer.forget();
        if self.by_lines {
            let Part { source, sink, first } = item;
            let rows = sink.shape()[self.axes.len() - 1];
            let lines = sink.len() / rows;
            let (source, mut sink) = (source.map(SourceView::coalesce), sink.coalesce());
            if let (Some(source), Some(few)) = (&source, scratch.lines)
                && few(&sweep, workers, source, &mut sink, first..first + rows)?
            {
                return Ok(());
            }
            for line in (0..lines).step_by(SIDE) {
                let lanes = SIDE.min(lines - line);
                let (form, step) = if lanes > SIDE / 2 { (Form::Turned, SIDE) } else { (Form::Narrow, 1) };
                for line in (line..line + lanes).step_by(step) {
                    let lanes = step.min(lanes);
                    let place = Place { form, source_base: line * self.n, sink_base: line * rows, lanes, first, rows };
                    sweep.run(workers, source.as_ref(), &mut sink, &place, scratch)?;
                }
            }
            if let Some(fence) = &fence {
                (scratch.writer.flush)(&mut scratch.writer, &mut sink, fence);
            }
            return Ok(());
        }
        let mut strips = Vec::new();
        cut(item, 1, self.axes.len(), self.long, &mut strips);
        strips.into_iter().try_for_each(|part| self.run_strip(&sweep, workers, part, scratch))
    }

    fn run_strip(
        &self,
        sweep: &Sweep<'_>,
        workers: &Workers<'_>,
        part: Part<'_, '_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Part { source, mut sink, first } = part;
        let rows = sink.shape()[0];
        let lanes = sink.len() / rows;
        let form = if lanes < WIDE { Form::Narrow } else { Form::Wide };
        let place = Place { form, source_base: 0, sink_base: 0, lanes, first, rows };
        let (entries, mut outputs) = (source.clone().map(SourceView::coalesce), sink.reborrow().coalesce());
        if lanes <= self.strip {
            return sweep.run(workers, entries.as_ref(), &mut outputs, &place, scratch);
        }
        if let (Form::Wide, Some(entries)) = (form, entries)
            && (scratch.direct)(sweep, workers, &entries, &mut outputs, &place, scratch)?
        {
            return Ok(());
        }
        // It needs a window, for which it is too long.
        let mut strips = Vec::new();
        cut(Part { source, sink, first }, 1, self.axes.len(), self.strip, &mut strips);
        strips.into_iter().try_for_each(|part| self.run_strip(sweep, workers, part, scratch))
    }
}
