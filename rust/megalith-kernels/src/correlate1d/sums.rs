//! Sums down rows, in SciPy's order.
//!
//! ```text
//! for each block of rows and W lanes:             acc[r] = x[r + half] * w[half]
//!     for each pair of taps (i, K-1-i):           acc[r] += (x[r + i] + x[r + K-1-i]) * w[i]
//! ```
//!
//! 1. Some rows of sums grow side by side. From one pair to the next the rows they need move by one, so that their
//!    entries stay in registers and two vectors are loaded for all of them.
//! 2. No product is fused with the sum it goes into: that would round once instead of twice. But a processor that
//!    adds and multiplies in different units has more to add than to multiply, so every other `a + b` is written as
//!    `a * 1 + b`, fused, which rounds exactly once as well.
//! 3. Sums become elements while they are in registers.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::hint::black_box;

use megalith_core::dtype::Real;

use super::behind::Behind;
use super::taps::{Kind, Taps};
use crate::simd::{Fence, multiversion, prefetch};

/// Rows of sums that are made together.
pub(super) const ROWS: usize = 8;
/// Lanes come in multiples of this.
pub(super) const LANES: usize = 8;
/// Sums along a line come in multiples of this.
pub(super) const ALONG: usize = PART * LANES;
/// Rows of sums whose entries are in registers at once, where there are few registers.
pub(super) const PART: usize = 4;
/// Bytes of a line of memory.
pub(super) const LINE: usize = 64;

multiversion!(
    /// `out[r * pitch + l] = sum over i of weights[i] * x[(r + i) * pitch + l]` for whole blocks of [`ROWS`] rows and
    /// [`LANES`] lanes; `out` has as many rows as there are to be made.
    pub(super) fn down[](taps: &Taps, x: &[f64], pitch: usize, out: &mut [f64]) -> ()
        = window::<2, false>, avx512 = avx512::down, avx2 = window::<4, true>
);

multiversion!(
    /// `out[r * pitch + l] = sum over i of weights[i] * rows[r + i][l]` for [`ROWS`] rows of as many lanes as each of
    /// `rows` has, at least [`LANES`].
    ///
    /// `ahead` are rows that are going to be needed; they are fetched while the sums are made. Outputs are written past the
    /// caches if there is a `fence`; more than [`ROWS`] rows of them must lie alike for that. With [`ROWS`] rows that are
    /// not, some of what is `behind` is written.
    pub(super) fn down_rows[S: Real, D: Real](
        taps: &Taps, rows: &[&[S]], out: &mut [&mut [D]], ahead: &Ahead, fence: Option<&Fence>, behind: &mut Behind<'_>
    ) -> () = straight::<S, D, 2, false>, avx512 = avx512::down_rows, avx2 = straight::<S, D, 4, true>
);

multiversion!(
    /// `out[l * columns + c] = sum over i of weights[i] * x[(c + i) * LANES + l]` for [`LANES`] lines and a multiple of
    /// [`ROWS`] columns; what `ahead` has from column `first` on is fetched, and some of what is `behind` is written.
    pub(super) fn down_lines[D: Real](
        taps: &Taps, x: &[f64], columns: usize, out: &mut [D], ahead: &Ahead, first: usize, behind: &mut Behind<'_>
    ) -> () = turned::<D, 2, false>, avx512 = avx512::down_lines, avx2 = turned::<D, 4, true>
);

multiversion!(
    /// `out[p] = sum over i of weights[i] * x[LANES + p + i]` for a multiple of [`ALONG`] outputs. It is fastest where
    /// what the last weight of the first output belongs to begins a line of memory.
    pub(super) fn along[](taps: &Taps, x: &[f64], out: &mut [f64]) -> ()
        = plain_along::<2, false>, avx512 = avx512::along, avx2 = plain_along::<4, true>
);

multiversion!(
    /// `out[l] = sum over i of weights[i] * rows[i][l]` for at least [`ALONG`] outputs and as many rows as weights, all
    /// of the length of `out`, which is written past the caches if `is_past`.
    pub(super) fn row[S: Real, D: Real](taps: &Taps, rows: &[&[S]], out: &mut [D], is_past: bool) -> ()
        = plain_row::<S, D, 2, false>, avx512 = avx512::row, avx2 = plain_row::<S, D, 4, true>
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_row<S: Real, D: Real, const W: usize, const FUSED: bool>(
    taps: &Taps,
    rows: &[&[S]],
    out: &mut [D],
    _is_past: bool,
) {
    let one = if FUSED { black_box(1.0) } else { 1.0 };
    rows_of_outputs(taps, rows, out);
    for (at, _) in parts(out.len(), out.as_ptr().align_offset(LINE), PART * W) {
        let part = |i: usize| each_row(|r| converted(rows, i, at + r * W));
        let sums = match taps.kind {
            Kind::Symmetric => pairs_along::<W, FUSED, false>(part, &taps.weights, one),
            Kind::Antisymmetric => pairs_along::<W, FUSED, true>(part, &taps.weights, one),
            Kind::General => singles_along::<W>(part, &taps.weights),
        };
        for (slot, &sum) in out[at..][..PART * W].iter_mut().zip(sums.as_flattened()) {
            *slot = D::from_double(sum);
        }
    }
}

/// Where parts of `width` of `len` elements begin, such that each but the first and the last begins a line of memory,
/// as the element at `aligned` does; the second covers some of the first again, and the last some of the one before it.
/// And whether no part after it covers some of it again.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn parts(len: usize, aligned: usize, width: usize) -> impl Iterator<Item = (usize, bool)> {
    let (aligned, last) = (aligned.min(width), len - width);
    let second = if aligned == 0 { width } else { aligned };
    let more = if last == 0 { 0 } else { last.saturating_sub(second).div_ceil(width) + 1 };
    let start = move |k: usize| if k == 0 { 0 } else { (second + (k - 1) * width).min(last) };
    (0..=more).map(move |k| (start(k), k == more || start(k) + width <= start(k + 1)))
}

/// The parts of rows of outputs that are made of `rows`, aligned for the outputs if these are to be written past the
/// caches, and otherwise for the entries.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn columns_of<S, D, const C: usize>(
    weights: usize,
    rows: &[&[S]],
    out: &[&mut [D]],
    is_past: bool,
) -> impl Iterator<Item = (usize, bool)> + use<S, D, C> {
    let lanes = rows_alike::<_, _, C>(weights, rows, out);
    assert!(!is_past || lie_alike(out), "lines of memory one below the other");
    let entries = rows[rows.len() / 2].as_ptr();
    let aligned = if is_past { out[0].as_ptr().align_offset(LINE) } else { entries.align_offset(LINE) };
    parts(lanes, aligned, C)
}

/// Look whether there is a row for each weight, as long as the outputs, which are a part or more.
#[inline(always)]
#[allow(clippy::inline_always)]
fn rows_of_outputs<S, D>(taps: &Taps, rows: &[&[S]], out: &[D]) {
    assert!(rows.len() == taps.weights.len() && rows.iter().all(|row| row.len() == out.len()), "rows alike");
    assert!(ALONG <= out.len(), "a part or more");
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_along<const W: usize, const FUSED: bool>(taps: &Taps, x: &[f64], out: &mut [f64]) {
    let x = &x[LANES..][..out.len() + taps.weights.len() - 1];
    let one = if FUSED { black_box(1.0) } else { 1.0 };
    for (k, out) in out.chunks_exact_mut(PART * W).enumerate() {
        // The rows that are summed together are vectors that follow each other.
        let row = |i: usize| each_row(|r| window_row(x, (k * PART + r) * W + i));
        let sums = match taps.kind {
            Kind::Symmetric => pairs_along::<W, FUSED, false>(row, &taps.weights, one),
            Kind::Antisymmetric => pairs_along::<W, FUSED, true>(row, &taps.weights, one),
            Kind::General => singles_along::<W>(row, &taps.weights),
        };
        out.copy_from_slice(sums.as_flattened());
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn pairs_along<const W: usize, const FUSED: bool, const MINUS: bool>(
    rows: impl Fn(usize) -> [[f64; W]; PART],
    weights: &[f64],
    one: f64,
) -> [[f64; W]; PART] {
    let last = weights.len() - 1;
    let mut sums = rows(last / 2);
    for sum in &mut sums {
        *sum = times(*sum, weights[last / 2]);
    }
    for (i, &weight) in weights[..last / 2].iter().enumerate() {
        add_pairs::<W, FUSED, MINUS>(&mut sums, &rows(i), &rows(last - i), weight, one);
    }
    sums
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn singles_along<const W: usize>(rows: impl Fn(usize) -> [[f64; W]; PART], weights: &[f64]) -> [[f64; W]; PART] {
    let last = weights.len() - 1;
    let mut sums = rows(last);
    for sum in &mut sums {
        *sum = times(*sum, weights[last]);
    }
    for (i, &weight) in weights[..last].iter().enumerate() {
        add_singles(&mut sums, &rows(i), weight);
    }
    sums
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn window<const W: usize, const FUSED: bool>(taps: &Taps, x: &[f64], pitch: usize, out: &mut [f64]) {
    let last = taps.weights.len() - 1;
    assert!(pitch.is_multiple_of(LANES), "whole vectors");
    for (k, out) in out.chunks_exact_mut(ROWS * pitch).enumerate() {
        let x = &x[k * ROWS * pitch..][..(last + ROWS) * pitch];
        let vector = |i: usize, lane: usize| window_row(x, i * pitch + lane);
        block::<W, FUSED>(taps, pitch, &Ahead::default(), vector, |r, lane, sums: [f64; W]| {
            out[r * pitch + lane..][..W].copy_from_slice(&sums);
        });
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn turned<D: Real, const W: usize, const FUSED: bool>(
    taps: &Taps,
    x: &[f64],
    columns: usize,
    out: &mut [D],
    ahead: &Ahead,
    first: usize,
    _behind: &mut Behind<'_>,
) {
    let last = taps.weights.len() - 1;
    for c in (0..columns).step_by(ROWS) {
        ahead.fetch(first + c);
        let x = &x[c * LANES..][..(last + ROWS) * LANES];
        let vector = |i: usize, lane: usize| window_row(x, i * LANES + lane);
        block::<W, FUSED>(taps, LANES, &Ahead::default(), vector, |r, lane, sums: [f64; W]| {
            for (l, sum) in sums.into_iter().enumerate() {
                out[(lane + l) * columns + c + r] = D::from_double(sum);
            }
        });
    }
}

/// The entries of a window from `at` on.
#[inline(always)]
#[allow(clippy::inline_always)]
fn window_row<const W: usize>(x: &[f64], at: usize) -> [f64; W] {
    debug_assert!(at + W <= x.len());
    // SAFETY: `window`, `turned` and their twins cut `x` to the rows of whole vectors that whole blocks need (asserted
    // there), and `block` asks for no row beyond them and for no lane from which on less than a vector is left;
    // `columns` has a row for each that its blocks need; `plain_along` and its twin cut `x` to as many entries as their
    // outputs need.
    #[allow(unsafe_code)]
    unsafe {
        x.as_ptr().add(at).cast::<[f64; W]>().read_unaligned()
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn straight<S: Real, D: Real, const W: usize, const FUSED: bool>(
    taps: &Taps,
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    _fence: Option<&Fence>,
    _behind: &mut Behind<'_>,
) {
    let lanes = rows_alike::<_, _, W>(taps.weights.len(), rows, out);
    for first in (0..out.len()).step_by(ROWS) {
        let vector = |i: usize, lane: usize| converted(rows, first + i, lane);
        let ahead = if first == 0 { ahead } else { &Ahead::default() };
        block::<W, FUSED>(taps, lanes, ahead, vector, |r, lane, sums: [f64; W]| {
            for (slot, sum) in out[first + r][lane..][..W].iter_mut().zip(sums) {
                *slot = D::from_double(sum);
            }
        });
    }
}

/// The lanes of all rows, of which there are as many as whole blocks of [`ROWS`] outputs need.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn rows_alike<S, D, const W: usize>(weights: usize, rows: &[&[S]], out: &[&mut [D]]) -> usize {
    let lanes = rows[0].len();
    assert!(out.len().is_multiple_of(ROWS) && rows.len() == out.len() + weights - 1, "whole blocks");
    let are_alike = rows.iter().all(|row| row.len() == lanes) && out.iter().all(|row| row.len() == lanes);
    assert!(W <= lanes && are_alike, "rows alike, of a vector or more");
    lanes
}

/// Whether all rows begin at the same place of a line of memory.
pub(super) fn lie_alike<D>(rows: &[&mut [D]]) -> bool {
    let place = |row: &[D]| row.as_ptr().addr() % LINE;
    rows.windows(2).all(|rows| place(rows[0]) == place(rows[1]))
}

/// The entries of row `i` from `lane` on.
#[inline(always)]
#[allow(clippy::inline_always)]
fn converted<S: Real, const W: usize>(rows: &[&[S]], i: usize, lane: usize) -> [f64; W] {
    debug_assert!(i < rows.len() && lane + W <= rows[i].len());
    // SAFETY: there are so many rows and entries: `rows_alike` has compared what `block` asks for,
    // `rows_of_outputs` what `plain_row` does.
    #[allow(unsafe_code)]
    let values = unsafe { rows.get_unchecked(i).as_ptr().add(lane).cast::<[S; W]>().read_unaligned() };
    let mut doubles = [0.0; W];
    for (double, value) in doubles.iter_mut().zip(values) {
        *double = value.to_double();
    }
    doubles
}

/// The `N` bytes of the entries of row `i` from `lane` on.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn bytes<S: Real, const N: usize>(rows: &[&[S]], i: usize, lane: usize) -> [u8; N] {
    debug_assert!(i < rows.len() && lane * size_of::<S>() + N <= size_of_val(rows[i]));
    // SAFETY: there are so many rows, and entries of a vector from `lane` on: `rows_alike` has compared what blocks of
    // rows ask for, `rows_of_outputs` what `row` does. `N` are the bytes of the entries of a vector: each arm of
    // `doubles` and of `floats` names the vector that has the bytes of its type.
    #[allow(unsafe_code)]
    unsafe {
        rows.get_unchecked(i).as_ptr().add(lane).cast::<[u8; N]>().read_unaligned()
    }
}

/// The sums of [`ROWS`] rows; `vector(i, lane)` are the entries of row `i` from `lane` on, `put(r, lane, sums)` takes
/// the sums.
#[inline(always)]
#[allow(clippy::inline_always)]
fn block<const W: usize, const FUSED: bool>(
    taps: &Taps,
    lanes: usize,
    ahead: &Ahead,
    vector: impl Fn(usize, usize) -> [f64; W],
    mut put: impl FnMut(usize, usize, [f64; W]),
) {
    let (weights, last) = (&taps.weights[..], taps.weights.len() - 1);
    // Not known to the compiler, which would make a plain addition of it.
    let one = if FUSED { black_box(1.0) } else { 1.0 };
    for start in (0..lanes).step_by(W) {
        ahead.fetch(start);
        // The last vector covers a part of the one before it again.
        let lane = start.min(lanes - W);
        for part in (0..ROWS).step_by(PART) {
            let row = |i: usize| vector(part + i, lane);
            let sums = match taps.kind {
                // Three taps are so few that what comes before and after the loop counts.
                Kind::Symmetric if last == 2 => pairs::<W, FUSED, false>(row, weights, 1, one),
                Kind::Symmetric => pairs::<W, FUSED, false>(row, weights, last / 2, one),
                Kind::Antisymmetric => pairs::<W, FUSED, true>(row, weights, last / 2, one),
                Kind::General => singles::<W>(row, weights),
            };
            for (r, sum) in sums.into_iter().enumerate() {
                put(part + r, lane, sum);
            }
        }
    }
}

/// Rows in memory that are fetched line by line, as the lanes go by.
#[derive(Default)]
pub(super) struct Ahead {
    /// Whether those that are summed meanwhile are mostly no nearer than the second-level cache.
    pub(super) keeps_waiting: bool,
    /// The addresses at which rows begin, and the bytes of a lane there.
    pub(super) rows: Vec<(usize, usize)>,
}

impl Ahead {
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Fetch what belongs to the vector at `lane`.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    pub(super) fn fetch(&self, lane: usize) {
        for &(row, itemsize) in &self.rows {
            prefetch::<true>(row + lane * itemsize);
        }
    }

    /// Fetch what belongs to so many lanes from `lane` on.
    pub(super) fn fetch_all(&self, lane: usize, lanes: usize) {
        for &(row, itemsize) in &self.rows {
            for byte in (0..lanes * itemsize).step_by(LINE) {
                prefetch::<true>(row + lane * itemsize + byte);
            }
        }
    }
}

/// `std::array::from_fn`, which is not always inlined: vectors would go by way of memory.
#[inline(always)]
#[allow(clippy::inline_always)]
fn each_row<const W: usize>(f: impl Fn(usize) -> [f64; W]) -> [[f64; W]; PART] {
    [f(0), f(1), f(2), f(3)]
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn add_pairs<const W: usize, const FUSED: bool, const MINUS: bool>(
    sums: &mut [[f64; W]; PART],
    left: &[[f64; W]; PART],
    right: &[[f64; W]; PART],
    weight: f64,
    one: f64,
) {
    for r in 0..PART {
        for l in 0..W {
            let (a, b) = (left[r][l], if MINUS { -right[r][l] } else { right[r][l] });
            let joined = if FUSED && r % 2 == 0 { a.mul_add(one, b) } else { a + b };
            sums[r][l] += joined * weight;
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn add_singles<const W: usize>(sums: &mut [[f64; W]; PART], next: &[[f64; W]; PART], weight: f64) {
    for r in 0..PART {
        for l in 0..W {
            sums[r][l] += next[r][l] * weight;
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn times<const W: usize>(mut vector: [f64; W], weight: f64) -> [f64; W] {
    for value in &mut vector {
        *value *= weight;
    }
    vector
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn pairs<const W: usize, const FUSED: bool, const MINUS: bool>(
    row: impl Fn(usize) -> [f64; W],
    weights: &[f64],
    half: usize,
    one: f64,
) -> [[f64; W]; PART] {
    let mut sums = each_row(|r| times(row(half + r), weights[half]));
    let mut left = each_row(&row);
    let mut right = each_row(|r| row(2 * half + r));
    for (i, &weight) in weights[..half].iter().enumerate() {
        add_pairs::<W, FUSED, MINUS>(&mut sums, &left, &right, weight, one);
        left = [left[1], left[2], left[3], row(i + PART)];
        right = [row(2 * half - 1 - i), right[0], right[1], right[2]];
    }
    sums
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn singles<const W: usize>(row: impl Fn(usize) -> [f64; W], weights: &[f64]) -> [[f64; W]; PART] {
    let last = weights.len() - 1;
    let mut sums = each_row(|r| times(row(last + r), weights[last]));
    let mut next = each_row(&row);
    for (i, &weight) in weights[..last].iter().enumerate() {
        add_singles(&mut sums, &next, weight);
        next = [next[1], next[2], next[3], row(i + PART)];
    }
    sums
}
