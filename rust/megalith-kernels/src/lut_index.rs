//! The weighted sum of each element's neighbourhood, looked up in a table.
//!
//! # The idea
//! A boolean kernel of powers of two turns the neighbourhood of a voxel into a number, and a table says what becomes of
//! it: thinning, erosion, end points. Done in two steps the sums are an array of 64-bit integers eight times the size
//! of the mask. Here they live for one row only:
//!
//! ```text
//! for each box of the sink:                      read the box and its rim as cells, zeros outside of the array
//!     for each row of the box:
//!         for each block of 32 positions p:      sum = 0; for each tap (offset, weight): sum += weight * cell[p + offset]
//!         sink row = table[sum], checked
//! ```
//!
//! # Tricks
//! 1. In the box of cells a tap is one number, the offset, whatever the number of axes: the box has the same strides
//!    for each position, and zeros take the place of a test for the borders.
//! 2. A cell is as narrow as the sums allow: three booleans in a row become one byte (`lut_index/patterns.rs`), small
//!    integers are summed in 32 bits where the sum of all weights proves that nothing overflows.
//! 3. A block of sums stays in registers while the taps go by; each tap adds to 32 neighbours at once.
//! 4. Axes are permuted so that rows go along the smallest stride of the sink; the taps keep their order, which matters
//!    for doubles.
//! 5. Sixteen equal sums (most of a mask is empty or full) are looked up once.
//!
//! 6. Small kernels over masks in three dimensions are walked plane by plane, so that what planes have in common is
//!    worked out once: `lut_index/octets.rs` for 2 x 2 x 2, `lut_index/ring.rs` for 3 x 3 x 3.
//!
//! # Limits
//! A kernel whose reach is larger than the box re-reads the rim for each box. Separable kernels are not recognised.

mod boxes;
mod cells;
mod octets;
mod patterns;
mod ring;
mod strips;
mod table;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use megalith_core::blocks::zeros;
use megalith_core::{Bool8, DType, Error, Result, SinkView, SourceView, Workers, match_dtype};

use self::boxes::{Grid, for_each_index, linear};
use self::cells::{Arithmetic, Doubles, Narrow, WIDTH, Wide};
use self::patterns::{Bytes, Patterns};
pub use self::table::Entry;
use self::table::{Sum, Table};
use crate::rows::{Converter, Load, by_stride, loader, not_real};

/// The weights of a kernel in C order.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Sums over integers are exact, modulo 2^64.
    Integer(&'a [i64]),
    /// Sums are doubles, truncated at the end.
    Float(&'a [f64]),
}

/// Weights with a shape; the centre is at `shape / 2` of each axis.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// Lengths of the axes.
    pub shape: &'a [usize],
    /// As many weights as the shape says.
    pub weights: Weights<'a>,
}

/// Cells of a box of numbers, and of one of patterns, so that it stays in the second-level cache.
const BOX: usize = 1 << 16;
const PATTERN_BOX: usize = 1 << 18;
/// Cells of an item of work: a few boxes.
const ITEM: usize = 1 << 19;

/// `sink[p] = lut[sum over k of weights[k] * source[start + p + k - shape / 2]]`, with zeros beyond the borders.
///
/// Sums of integers by integer weights are exact (modulo 2^64), all others are doubles, added in the C order of the
/// kernel and truncated once. Entries of the table are moved, whatever they mean.
///
/// # Shapes
/// `source` (n0..nk), at least one axis; `sink` of as many, all of the source or a part of it that begins at `start`,
/// no later than the centre of the kernel; `kernel` of as many axes, each at least 1; `lut` (m).
///
/// # Errors
/// [`Error::IndexRange`] with the first position of the sink, in C order, whose sum is no index of the table (negative ones
/// included), the content of the sink is then unspecified; [`Error::Shape`] for shapes that do not fit each other;
/// [`Error::Argument`] for a kernel without weights; [`Error::DType`] for a source that is not real;
/// [`Error::Cancelled`].
///
/// # Cost
/// One pass over the source and one over the sink; each element is read about 1.1 times for a mask and a kernel of
/// 3 x 3 x 3, 1.6 times for others. A large table of zeros and ones is read once, if many sums are looked up far apart.
/// Scratch of each thread: 64 Ki cells of 4 or 8 bytes, or one row's neighbourhood where that is more; and one bit for
/// each entry of such a table.
///
/// # Source
/// `scipy.ndimage.correlate(source, kernel, mode='constant', output=int64)` and `numpy.take`.
/// `ArrayProcessing.apply_lut_to_index` of `ClearMap2` (behaviour; differs: any number of axes, each index is checked).
pub fn apply_lut_to_index<L: Entry>(
    workers: &Workers<'_>,
    source: SourceView<'_>,
    dtype: DType,
    kernel: &Kernel<'_>,
    lut: &[L],
    sink: SinkView<'_>,
    start: &[usize],
) -> Result<()> {
    check(&source, kernel, &sink, start)?;
    let is_integer = match_dtype!(integer dtype, T => { let _ = T::default(); true }, else false);
    loader("source", dtype)?;
    if sink.is_empty() {
        return Ok(());
    }
    let before: Vec<usize> = kernel.shape.iter().zip(start).map(|(k, start)| k / 2 - start).collect();
    let axes = by_stride(sink.shape(), sink.strides());
    let are_patterns =
        matches!(kernel.weights, Weights::Integer(weights) if fits_i32(dtype, weights)) && dtype == DType::Bool;
    let cells = if are_patterns { PATTERN_BOX } else { BOX };
    let grid = Grid::new(sink.shape(), axes, kernel.shape, &before, cells, ITEM);
    let table = Table::new(lut);
    let mut work = Work { workers, source: source.permute(&grid.axes), sink: sink.permute(&grid.axes), grid, table };
    match kernel.weights {
        Weights::Integer(weights) if are_patterns => {
            let is_wide = work.sink.shape().last().is_some_and(|&n| n >= strips::WIDTH / 2);
            if let Some(table) = octets::table(&work.grid, weights, lut).filter(|_| is_wide) {
                return octets::run(workers, &work.source, &work.grid, &table, work.sink);
            }
            let load = || Ok(Box::new(Converter::<Bool8, _>::new(patterns::cell)) as _);
            let taps = patterns::triples(&work.grid, weights);
            if weights.iter().all(|w| *w >= 0) && weights.iter().sum::<i64>() <= u8::MAX.into() {
                let taps: Vec<_> =
                    taps.into_iter().map(|(offset, worth)| (offset, patterns::in_bytes(worth))).collect();
                work.run(Bytes, load, &taps)
            } else if let Some(kernel) = ring::Kernel::new(&work.grid, weights, lut.len()).filter(|_| is_wide) {
                let mut table = Table::new(&lut[..=kernel.full]);
                let (n, is_far) = ring::estimate(&work.source, &work.grid, &kernel, work.sink.shape());
                table.prepare(workers, n, is_far)?;
                ring::run(workers, &work.source, &work.grid, &kernel, &table, work.sink)
            } else {
                work.table.prepare(workers, work.sink.len() / 4, true)?;
                work.run(Patterns, load, &taps)
            }
        }
        Weights::Integer(weights) if is_integer => {
            let grid = &work.grid;
            let taps = weights.iter().enumerate().filter(|(_, w)| **w != 0).map(|(k, w)| (grid.offset(k), *w));
            if fits_i32(dtype, weights) {
                let load = || {
                    match_dtype!(integer dtype, T => Ok(Box::new(Converter::<T, _>::new(Narrow::cell::<T>)) as _),
                    else Err(not_real("source", dtype)))
                };
                let taps: Vec<_> = taps.map(|(offset, w)| (offset, w as i32)).collect();
                work.run(Narrow, load, &taps)
            } else {
                let load = || {
                    match_dtype!(integer dtype, T => Ok(Box::new(Converter::<T, _>::new(Wide::cell::<T>)) as _),
                    else Err(not_real("source", dtype)))
                };
                let taps: Vec<_> = taps.collect();
                work.run(Wide, load, &taps)
            }
        }
        Weights::Integer(weights) => work.run_doubles(dtype, weights.iter().map(|&w| w as f64)),
        Weights::Float(weights) => work.run_doubles(dtype, weights.iter().copied()),
    }
}

fn check(source: &SourceView<'_>, kernel: &Kernel<'_>, sink: &SinkView<'_>, start: &[usize]) -> Result<()> {
    let shape = source.shape();
    let is_inside = |((n, start), whole): ((&usize, &usize), &usize)| n.saturating_add(*start) <= *whole;
    if [sink.shape().len(), start.len()] != [shape.len(); 2]
        || !sink.shape().iter().zip(start).zip(shape).all(is_inside)
    {
        let (got, expected) = (format!("{:?}", sink.shape()), format!("a part of {shape:?} from {start:?} on"));
        return Err(Error::Shape { name: "sink", got, expected });
    }
    if kernel.shape.len() != shape.len() || shape.is_empty() {
        let (got, expected) = (format!("{:?}", kernel.shape), format!("{} axes, at least one", shape.len()));
        return Err(Error::Shape { name: "kernel", got, expected });
    }
    let len = match kernel.weights {
        Weights::Integer(weights) => weights.len(),
        Weights::Float(weights) => weights.len(),
    };
    if kernel.shape.iter().product::<usize>() != len {
        let (got, expected) = (format!("{len} weights"), format!("those of the shape {:?}", kernel.shape));
        return Err(Error::Shape { name: "kernel", got, expected });
    }
    if len == 0 {
        let expected = "at least one weight".to_owned();
        return Err(Error::Argument { name: "kernel", got: "no weights".to_owned(), expected });
    }
    if start.iter().zip(kernel.shape).any(|(start, k)| *start > k / 2) {
        let expected = "no more than half the kernel's shape".to_owned();
        return Err(Error::Argument { name: "start", got: format!("{start:?}"), expected });
    }
    Ok(())
}

/// Whether no sum of values of the type, nor a part of it, leaves 32 bits.
fn fits_i32(dtype: DType, weights: &[i64]) -> bool {
    let largest: u128 = match dtype {
        DType::Bool => 1,
        DType::I8 => 1 << 7,
        DType::U8 => u8::MAX.into(),
        DType::I16 => 1 << 15,
        DType::U16 => u16::MAX.into(),
        _ => return false,
    };
    let sum: u128 = weights.iter().map(|w| u128::from(w.unsigned_abs())).sum();
    sum * largest <= i32::MAX as u128
}

/// A problem whose axes are in the order of the sink's memory.
struct Work<'a, 'b, 'w, L> {
    workers: &'w Workers<'w>,
    source: SourceView<'a>,
    sink: SinkView<'b>,
    grid: Grid,
    table: Table<'w, L>,
}

/// The memory of one thread.
struct Scratch<A: Arithmetic, L> {
    arithmetic: A,
    load: Box<dyn Load<A::Cell>>,
    /// A box and its rim.
    cells: Vec<A::Cell>,
    sums: Vec<A::Sum>,
    out: Vec<L>,
}

/// A value that is no index of the table, and its position in the original C order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bad {
    position: usize,
    index: i64,
}

impl<L: Entry> Work<'_, '_, '_, L> {
    fn run_doubles(self, dtype: DType, weights: impl Iterator<Item = f64>) -> Result<()> {
        // As SciPy, which drops a weight of NaN too.
        let taps = weights.enumerate().filter(|(_, w)| w.abs() > f64::EPSILON);
        let taps: Vec<_> = taps.map(|(k, w)| (self.grid.offset(k), w)).collect();
        self.run(Doubles, || loader("source", dtype), &taps)
    }

    /// `taps` are offsets in a box of cells and weights, in the order of the sum.
    fn run<A: Arithmetic>(
        self,
        arithmetic: A,
        load: impl Fn() -> Result<Box<dyn Load<A::Cell>>> + Sync,
        taps: &[(usize, A::Weight)],
    ) -> Result<()> {
        let Self { workers, source, sink, grid, table } = self;
        let make = || {
            let cells = zeros(grid.cells() + WIDTH)?;
            Ok(Scratch { arithmetic, load: load()?, cells, sums: Vec::new(), out: Vec::new() })
        };
        let first = Mutex::new(None::<Bad>);
        workers.for_each_with(
            grid.items(sink),
            || None,
            |scratch, (start, mut sink)| {
                let known = *first.lock().unwrap_or_else(PoisonError::into_inner);
                if known.is_some_and(|bad| bad.position < grid.position(&start)) {
                    return Ok(());
                }
                let scratch = match scratch {
                    Some(scratch) => scratch,
                    None => scratch.insert(make()?),
                };
                let mut found = None;
                for_each_box(&grid.small, sink.shape().to_vec().as_slice(), |corner, extents| {
                    if workers.check().is_err() {
                        return;
                    }
                    let origin: Vec<usize> = start.iter().zip(corner).map(|(a, b)| a + b).collect();
                    fill(&grid, &source, &origin, extents, scratch);
                    let bad = compute(&grid, taps, &table, (&origin, corner, extents), &mut sink, scratch);
                    found = [found, bad].into_iter().flatten().min();
                });
                workers.check()?;
                if found.is_some() {
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    *first = [*first, found].into_iter().flatten().min();
                }
                Ok(())
            },
        )?;
        match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Bad { position, index }) => {
                Err(Error::IndexRange { index: index.into(), size: table.len(), position: grid.unravel(position) })
            }
        }
    }
}

/// Call `f(corner, extents)` for each box of at most `step` in `shape`.
fn for_each_box(step: &[usize], shape: &[usize], mut f: impl FnMut(&[usize], &[usize])) {
    let counts: Vec<usize> = shape.iter().zip(step).map(|(n, s)| n.div_ceil(*s)).collect();
    for_each_index(&counts, |index| {
        let corner: Vec<usize> = index.iter().zip(step).map(|(i, s)| i * s).collect();
        let extents: Vec<usize> = corner.iter().zip(step).zip(shape).map(|((c, s), n)| (*s).min(n - c)).collect();
        f(&corner, &extents);
    });
}

/// Read the box of `extents` at `origin`, with its rim, as cells.
fn fill<A: Arithmetic, L>(
    grid: &Grid,
    source: &SourceView<'_>,
    origin: &[usize],
    extents: &[usize],
    scratch: &mut Scratch<A, L>,
) {
    let shape = source.shape();
    let last = shape.len() - 1;
    let rim: Vec<usize> = extents.iter().zip(&grid.kernel).map(|(e, k)| e + k - 1).collect();
    // The part of a row that lies inside of the array, counted from the row's first cell.
    let left = grid.before[last].saturating_sub(origin[last]).min(rim[last]);
    let right = (shape[last] + grid.before[last]).saturating_sub(origin[last]).clamp(left, rim[last]);
    for_each_index(&rim[..last], |index| {
        let at = linear(index, &grid.strides);
        let row = &mut scratch.cells[at..at + rim[last]];
        let mut start = Some(0);
        for (axis, &i) in index.iter().enumerate() {
            let position = (origin[axis] + i).checked_sub(grid.before[axis]).filter(|&p| p < shape[axis]);
            start = start.zip(position).map(|(start, p)| start * shape[axis] + p);
        }
        let Some(start) = start.filter(|_| left < right) else {
            return row.fill(A::Cell::default());
        };
        let start = start * shape[last] + origin[last] + left - grid.before[last];
        row[..left].fill(A::Cell::default());
        row[right..].fill(A::Cell::default());
        scratch.load.load(source, start..start + right - left, &mut row[left..right]);
        scratch.arithmetic.join(row);
    });
}

/// Sum, look up and write the rows of a box (`origin` in the array, `corner` in the sink, `extents`).
fn compute<A: Arithmetic, L: Entry>(
    grid: &Grid,
    taps: &[(usize, A::Weight)],
    table: &Table<'_, L>,
    (origin, corner, extents): (&[usize], &[usize], &[usize]),
    sink: &mut SinkView<'_>,
    scratch: &mut Scratch<A, L>,
) -> Option<Bad> {
    let Scratch { arithmetic, cells, sums, out, .. } = scratch;
    let last = extents.len() - 1;
    let width = extents[last];
    // Rows shorter than a block are summed together, with the cells between them, which nobody looks at.
    let together = if last > 0 && width < 2 * WIDTH { extents[last - 1] } else { 1 };
    let pitch = if last > 0 { grid.strides[last - 1] } else { 0 };
    let span = ((together - 1) * pitch + width).next_multiple_of(WIDTH);
    sums.resize(span.max(sums.len()), A::Sum::default());
    out.resize(width.max(out.len()), L::default());

    let mut found: Option<Bad> = None;
    let mut outer = extents[..last].to_vec();
    if let Some(n) = outer.last_mut() {
        *n /= together;
    }
    let mut place = corner.to_vec();
    for_each_index(&outer, |index| {
        let at = linear(index, &grid.strides);
        arithmetic.correlate(&cells[at..], taps, &mut sums[..span]);
        for (place, (corner, index)) in place.iter_mut().zip(corner.iter().zip(index)) {
            *place = corner + index;
        }
        for k in 0..together {
            let sums = &sums[k * pitch..k * pitch + width];
            let missing = if let Some(row) = sink.row_raw::<L>(&place) {
                A::Sum::look_up(sums, table, &mut row[..width])
            } else {
                let missing = A::Sum::look_up(sums, table, &mut out[..width]);
                let start = place.iter().zip(sink.shape()).fold(0, |start, (p, n)| start * n + p);
                sink.scatter_raw(start, &out[..width]);
                missing
            };
            if let Some(x) = missing {
                let mut place: Vec<usize> =
                    place.iter().zip(origin.iter().zip(corner)).map(|(p, (o, c))| p + o - c).collect();
                place[last] += x;
                let bad = Bad { position: grid.position(&place), index: sums[x].index() };
                found = Some(found.map_or(bad, |found| found.min(bad)));
            }
            if last > 0 {
                place[last - 1] += 1;
            }
        }
    });
    found
}
