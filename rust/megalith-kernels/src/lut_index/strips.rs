//! Arrays of truth values in three dimensions that are walked plane by plane, in strips that stay in the cache.
//!
//! What neighbours in a row, and rows that are neighbours, have in common is worked out once for a plane, and used by
//! all planes that it is a neighbour of.

use std::ops::Range;

use megalith_core::{Result, SinkView, SourceView, Workers};

use super::boxes::Grid;
use crate::simd::{multiversion, prefetch};

/// Elements that are worked on side by side; rows of scratch are as many times as long.
pub(super) const WIDTH: usize = 64;
/// Bytes of a cache line, and of a page, beyond whose end processors do not read ahead by themselves.
const LINE: usize = 64;
pub(super) const PAGE: usize = 4096;
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

    /// Which part of the source `n` positions in a row see, by kernels that take `N` truth values in a row, where the first
    /// position is the one under the first entry of a kernel that stands on `at`; and how many places outside come
    /// before that part. `None` where all lie outside.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn range<const N: usize>(&self, at: [usize; 3], n: usize) -> Option<(Range<usize>, usize)> {
        let inside = |axis: usize| at[axis].checked_sub(self.before[axis]).filter(|&p| p < self.shape[axis]);
        let [_, high, wide] = self.shape;
        let (z, y) = (inside(0)?, inside(1)?);
        let left = self.before[2].saturating_sub(at[2]);
        let right = (wide + self.before[2]).saturating_sub(at[2]).min(n + N - 1);
        if left >= right {
            return None;
        }
        let start = (z * high + y) * wide + at[2] + left - self.before[2];
        Some((start..start + right - left, left))
    }

    /// Ask for the memory of a range one page further on.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn fetch(&self, range: Range<usize>) {
        let Some(bytes) = self.bytes else { return };
        for at in range.step_by(LINE) {
            prefetch::<true>(bytes.as_ptr().addr() + at + PAGE);
        }
    }

    /// Whether a sink with rows of `wide` positions, and kernels of 2 x 2 x 2, see planes that lie as they are in memory.
    pub(super) fn has_planes(&self, wide: usize) -> bool {
        self.bytes.is_some() && self.shape[2] == wide && self.before == [1; 3]
    }

    /// Of such planes, the truth values of `n` rows from `at` on, the row before them and the value before that.
    pub(super) fn rows(&self, [z, y]: [usize; 2], n: usize) -> &'a [u8] {
        let [_, high, wide] = self.shape;
        let start = (z * high + y) * wide;
        &self.bytes.unwrap_or_default()[start - wide - 1..start + n * wide]
    }

    /// `N` truth values in a row as a number, for the position under the first entry of a kernel that stands on `at`,
    /// and for those behind it.
    pub(super) fn read<const N: usize>(&self, at: [usize; 3], scratch: &mut Vec<u8>, out: &mut [u8]) {
        let Some((range, left)) = self.range::<N>(at, out.len()) else { return out.fill(0) };
        let right = left + range.len();
        self.fetch(range.clone());
        let whole = self.bytes.map(|bytes| &bytes[range.clone()]);
        let bytes = if let Some(bytes) = whole.or_else(|| self.source.slice_of(range.clone())) {
            bytes
        } else {
            scratch.resize(range.len().max(scratch.len()), 0);
            self.source.gather_raw(range.clone(), &mut scratch[..range.len()]);
            &scratch[..range.len()]
        };
        let inner = left.min(out.len())..(right + 1).saturating_sub(N).max(left).min(out.len());
        let n = inner.len();
        if n > 0 {
            join(std::array::from_fn::<_, N, _>(|k| &bytes[k..k + n]), &mut out[inner.clone()]);
        }
        for x in (0..inner.start).chain(inner.end..out.len()) {
            let truth = |k: usize| bytes.get((x + k).wrapping_sub(left)).map_or(0, |byte| (*byte).min(1) << k);
            out[x] = (0..N).map(truth).sum();
        }
    }

    /// The truth values that `n` positions in a row see, by kernels that take at most two in a row: as they lie in memory
    /// where that is possible, or in `row`; as many as that has, at least `n + 1`. And whether the first of them lies
    /// outside: it is anything then.
    ///
    /// What lies outside behind the last is anything too. A kernel that takes two in a row sees nothing there, as no sink
    /// is longer than the rows below its first entry; one that takes one must not look at the second.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    pub(super) fn truths<'b>(&'b self, at: [usize; 3], n: usize, row: &'b mut [u8]) -> (&'b [u8], bool) {
        let Some((range, left)) = self.range::<2>(at, n) else {
            row.fill(0);
            return (row, false);
        };
        self.fetch(range.clone());
        let around = range.start.checked_sub(left).zip(self.bytes);
        if let Some(bytes) = around.and_then(|(start, bytes)| bytes.get(start..start + row.len())) {
            return (bytes, left > 0);
        }
        let inside = &mut row[left..left + range.len()];
        self.source.gather_raw(range, inside);
        (row, left > 0)
    }
}

multiversion!(fn join[const N: usize](parts: [&[u8]; N], out: &mut [u8]) -> () = plain_join);

/// Bit k of the result says whether the byte of part k is not zero.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_join<const N: usize>(parts: [&[u8]; N], out: &mut [u8]) {
    let block = |parts: [&[u8; WIDTH]; N], out: &mut [u8; WIDTH]| {
        for x in 0..WIDTH {
            out[x] = 0;
            for (k, part) in parts.iter().enumerate() {
                out[x] |= part[x].min(1) << k;
            }
        }
    };
    let n = out.len();
    let parts = parts.map(|part| &part[..n]);
    let blocks = parts.map(|part| part.as_chunks().0);
    for (k, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        block(blocks.map(|blocks| &blocks[k]), out);
    }
    // The last block begins before the end of the one before it.
    if let Some(out) = out.last_chunk_mut() {
        block(parts.map(|part| part.last_chunk().unwrap_or(&[0; WIDTH])), out);
    } else {
        for x in 0..n {
            out[x] = parts.iter().enumerate().map(|(k, part)| part[x].min(1) << k).sum();
        }
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
