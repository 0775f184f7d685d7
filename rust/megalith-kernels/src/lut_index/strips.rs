//! Arrays of truth values in three dimensions that are walked plane by plane, in strips that stay in the cache.
//!
//! What neighbours in a row, and rows that are neighbours, have in common is worked out once for a plane, and used by
//! all planes that it is a neighbour of.

use megalith_core::{Result, SinkView, SourceView, Workers};

use super::boxes::Grid;
use crate::simd::multiversion;

/// Elements that are worked on side by side; rows of scratch are as many times as long.
pub(super) const WIDTH: usize = 64;
/// Rows that are read before they are used: what has just been written in one place is slow to read from another.
pub(super) const AHEAD: usize = 8;
/// Rows that are longer are cut.
const ROW: usize = 1 << 12;
/// Positions of an item of work.
const ITEM: usize = 1 << 21;

/// Truth values with zeros around them, seen from the first entry of a kernel.
pub(super) struct Volume<'a> {
    source: SourceView<'a>,
    /// All of it, where memory is in the order of the rows.
    bytes: Option<&'a [u8]>,
    shape: [usize; 3],
    before: [usize; 3],
}

impl<'a> Volume<'a> {
    /// The source, its axes in the order of the grid already; `None` if there are not three.
    pub(super) fn new(source: &SourceView<'a>, grid: &Grid) -> Option<Self> {
        let shape = source.shape().try_into().ok()?;
        let before = grid.before.as_slice().try_into().ok()?;
        Some(Self { source: source.clone(), bytes: source.as_slice(), shape, before })
    }

    /// [`Volume::read`] for as many rows as `out` has of `pitch` bytes, `n` of each.
    pub(super) fn read_rows(&self, [z, y, x]: [usize; 3], out: &mut [u8], pitch: usize, n: usize) {
        for (k, row) in out.chunks_exact_mut(pitch).enumerate() {
            self.read([z, y + k, x], &mut row[..n]);
        }
    }

    /// Zeros and ones under the first entry of a kernel that stands on `at` and on those behind it.
    pub(super) fn read(&self, at: [usize; 3], out: &mut [u8]) {
        let inside = |axis: usize| at[axis].checked_sub(self.before[axis]).filter(|&p| p < self.shape[axis]);
        let [_, high, wide] = self.shape;
        let left = self.before[2].saturating_sub(at[2]).min(out.len());
        let right = (wide + self.before[2]).saturating_sub(at[2]).clamp(left, out.len());
        let (Some(z), Some(y)) = (inside(0), inside(1)) else { return out.fill(0) };
        out[..left].fill(0);
        out[right..].fill(0);
        if left == right {
            return;
        }
        let start = (z * high + y) * wide + at[2] + left - self.before[2];
        let (range, out) = (start..start + right - left, &mut out[left..right]);
        let bytes = match self.bytes {
            Some(bytes) => Some(&bytes[range.clone()]),
            None => self.source.slice_of(range.clone()),
        };
        if let Some(bytes) = bytes {
            truths(bytes, out);
        } else {
            self.source.gather_raw(range, out);
            for out in out {
                *out = (*out).min(1);
            }
        }
    }
}

multiversion!(fn truths[](bytes: &[u8], out: &mut [u8]) -> () = plain_truths);

/// Ones for what is not zero.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_truths(bytes: &[u8], out: &mut [u8]) {
    let whole = |bytes: &[u8; WIDTH], out: &mut [u8; WIDTH]| {
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = (*byte).min(1);
        }
    };
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        whole(bytes, out);
    }
    // The last block begins before the end of the one before it.
    if let (Some(bytes), Some(out)) = (bytes.last_chunk(), out.last_chunk_mut()) {
        whole(bytes, out);
    } else {
        out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = (*byte).min(1));
    }
}

/// Call `f` for each strip of a sink, and the position where it begins; `budget` is for the positions of a strip's plane.
pub(super) fn for_each_strip<S>(
    workers: &Workers<'_>,
    sink: SinkView<'_>,
    budget: usize,
    scratch: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, [usize; 3], SinkView<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let [deep, high, wide] = [0, 1, 2].map(|axis| sink.shape()[axis]);
    let even = |n: usize, most: usize| n.div_ceil(n.div_ceil(most.max(1)));
    let x_step = even(wide, ROW);
    let y_step = even(high, budget / x_step.next_multiple_of(WIDTH));
    let z_step = even(deep, ITEM / (x_step * y_step));
    let mut items = Vec::new();
    // The first axis last: of memory that is touched for the first time threads take pages that are far apart.
    for (j, sink) in sink.split(1, y_step).into_iter().enumerate() {
        for (k, sink) in sink.split(0, z_step).into_iter().enumerate() {
            for (i, sink) in sink.split(2, x_step).into_iter().enumerate() {
                items.push(([k * z_step, j * y_step, i * x_step], sink));
            }
        }
    }
    workers.for_each_with(items, scratch, |scratch, (start, sink)| f(scratch, start, sink))
}

/// Give `write` the row of a sink, or, where memory is none, a buffer that is moved to the sink then.
pub(super) fn write_row<L: super::Entry>(
    sink: &mut SinkView<'_>,
    [z, y]: [usize; 2],
    buffer: &mut [L],
    write: impl FnOnce(&mut [L]),
) {
    let [high, wide] = [1, 2].map(|axis| sink.shape()[axis]);
    if let Some(row) = sink.row_raw::<L>(&[z, y, 0]) {
        return write(&mut row[..wide]);
    }
    write(&mut buffer[..wide]);
    sink.scatter_raw((z * high + y) * wide, &buffer[..wide]);
}
