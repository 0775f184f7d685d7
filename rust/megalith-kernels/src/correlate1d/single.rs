//! Sums in single precision, for those who ask for speed rather than for SciPy's bits.
//!
//! ```text
//! for each block of rows and W lanes:             acc[r] = 0
//!     for each tap i:                             acc[r] += x[r + i] * w[i]         fused
//! ```
//!
//! 1. A vector holds twice as many lanes, and a tap is one step: a third of the work of pairs of doubles.
//! 2. From one tap to the next the rows that a block needs move by one: nine vectors are loaded for two taps.
//! 3. A line that is contiguous in memory is converted once, with what it is taken to be beyond its ends. Its vectors
//!    that begin at entry i, i+W, .. are rows too, for the taps i, i+W, ...
//!
//! Only for elements that single precision holds exactly.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use megalith_core::dtype::Real;
use megalith_core::{DType, Result, SinkView, SourceView, Workers};

use super::Mode;
#[cfg(doc)]
use super::WIDE;
use super::extension::entry;
#[cfg(doc)]
use super::sums::ROWS;
use super::sums::{Ahead, PART, rows_alike};
use super::sweep::Sweep;
use super::taps::Taps;
use crate::rows::convert;
use crate::simd::{Fence, multiversion};

/// Sums along a line that are made together.
const OUTPUTS: usize = 128;
/// Outputs of a line whose entries are converted at once, about: they stay in the first-level cache.
const PIECE: usize = 1 << 12;

/// The weights, if sums of `S` for a sink of `D` may be in single precision: what is truncated to an integer must be
/// off by less than one.
pub(super) fn weights<S: Real, D: Real>(taps: &Taps) -> Option<&[f32]> {
    let weights = taps.singles.as_deref()?;
    let largest = match S::DTYPE {
        DType::Bool if D::DTYPE == DType::F32 => 1.0,
        DType::I8 | DType::U8 => f32::from(u8::MAX),
        DType::I16 | DType::U16 => f32::from(u16::MAX),
        DType::F32 if D::DTYPE == DType::F32 => return Some(weights),
        _ => return None,
    };
    let sum = weights.iter().map(|weight| weight.abs()).sum::<f32>();
    let error = largest * sum * (weights.len() + 3) as f32 * (f32::EPSILON / 2.0);
    (D::DTYPE == DType::F32 || D::DTYPE == S::DTYPE && error < 1.0).then_some(weights)
}

multiversion!(
    /// `out[r][l] = sum over i of weights[i] * rows[r + i][l]` for a multiple of [`ROWS`] rows of as many lanes as each
    /// of `rows` has, at least [`WIDE`].
    ///
    /// `ahead` are rows that are going to be needed; they are fetched while the sums are made. Rows of outputs that lie
    /// alike are written past the caches if there is a `fence`.
    pub(super) fn down_rows[S: Real, D: Real](
        weights: &[f32], rows: &[&[S]], out: &mut [&mut [D]], ahead: &Ahead, fence: Option<&Fence>
    ) -> () = plain_rows::<S, D, 8, false>, avx512 = avx512::down_rows, avx2 = plain_rows::<S, D, 16, true>
);

multiversion!(
    /// `out[p] = sum over i of weights[i] * x[p + i]` for at least [`OUTPUTS`] outputs; what is `ahead` is fetched, as
    /// the outputs go by.
    fn along[D: Real](weights: &[f32], x: &[f32], out: &mut [D], ahead: &Ahead) -> ()
        = plain_along::<D, 8, false>, avx512 = avx512::along, avx2 = plain_along::<D, 16, true>
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_rows<S: Real, D: Real, const W: usize, const FUSED: bool>(
    weights: &[f32],
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    _fence: Option<&Fence>,
) {
    let lanes = rows_alike::<_, _, W>(weights.len(), rows, out);
    for start in (0..lanes).step_by(W) {
        ahead.fetch(start);
        // The last vector covers a part of the one before it again.
        let lane = start.min(lanes - W);
        for (k, out) in out.chunks_exact_mut(PART).enumerate() {
            let mut sums = [[0.0; W]; PART];
            for (i, &weight) in weights.iter().enumerate() {
                for (row, sums) in rows[k * PART + i..].iter().zip(&mut sums) {
                    add::<_, FUSED>(sums, &row[lane..][..W], weight);
                }
            }
            for (out, sums) in out.iter_mut().zip(sums) {
                put(&sums, &mut out[lane..][..W]);
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_along<D: Real, const W: usize, const FUSED: bool>(weights: &[f32], x: &[f32], out: &mut [D], ahead: &Ahead) {
    let len = entries_of_outputs(weights, x, out);
    for start in (0..len).step_by(PART * W) {
        ahead.fetch_all(start, PART * W);
        let at = start.min(len - PART * W);
        let mut sums = [[0.0; W]; PART];
        for (&weight, x) in weights.iter().zip(x[at..].windows(PART * W)) {
            for (sums, x) in sums.iter_mut().zip(x.chunks_exact(W)) {
                add::<_, FUSED>(sums, x, weight);
            }
        }
        put(sums.as_flattened(), &mut out[at..][..PART * W]);
    }
}

/// The number of outputs, for which there are as many entries as they need.
#[inline(always)]
#[allow(clippy::inline_always)]
fn entries_of_outputs<D>(weights: &[f32], x: &[f32], out: &[D]) -> usize {
    assert!(OUTPUTS <= out.len() && x.len() == out.len() + weights.len() - 1, "entries for some outputs");
    out.len()
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn add<S: Real, const FUSED: bool>(sums: &mut [f32], row: &[S], weight: f32) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        let value = value.to_double() as f32;
        *sum = if FUSED { value.mul_add(weight, *sum) } else { *sum + value * weight };
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn put<D: Real>(sums: &[f32], out: &mut [D]) {
    for (slot, &sum) in out.iter_mut().zip(sums) {
        *slot = D::from_double(f64::from(sum));
    }
}

/// Where in memory so many elements further on are, and the bytes of one, where these are wide enough for memory to take
/// more time than sums do.
fn further<T>(elements: &[T], n: usize) -> Option<(usize, usize)> {
    let itemsize = size_of::<T>();
    (itemsize >= 4).then(|| (elements.as_ptr().addr() + n * itemsize, itemsize))
}

/// Compute some rows, counted from the first of the axis, of all lines of a part, which lie in memory one after the
/// other; or say that it cannot be done, and what has been written until then is not right.
pub(super) fn lines<S: Real, D: Real>(
    sweep: &Sweep<'_>,
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    sink: &mut SinkView<'_>,
    rows: Range<usize>,
) -> Result<bool> {
    let Some(weights) = weights::<S, D>(sweep.taps) else { return Ok(false) };
    let (n, length) = (sweep.n, rows.len());
    let (before, after) = sweep.taps.reach();
    let constant = if let Mode::Constant(value) = sweep.mode { value } else { 0.0 };
    let beyond = constant as f32;
    if length < OUTPUTS || constant.is_finite() != beyond.is_finite() {
        return Ok(false);
    }
    let pieces = length.div_ceil(PIECE.max(2 * weights.len()));
    let piece = length.div_ceil(pieces).max(OUTPUTS);
    let mut x = vec![0.0; piece + before + after];
    let mut ahead = Ahead::default();
    for line in 0..sink.len() / length {
        if line % 64 == 0 {
            workers.check()?;
        }
        let Some(entries) = source.slice_of::<S>(line * n..(line + 1) * n) else { return Ok(false) };
        let Some(out) = sink.slice_of_mut::<D>(line * length..(line + 1) * length) else { return Ok(false) };
        for start in (0..length).step_by(piece) {
            // The last piece covers a part of the one before it again.
            let start = start.min(length - piece);
            let first = (rows.start + start) as isize - before as isize;
            let stop = first + x.len() as isize;
            let (from, to) = (first.max(0), stop.min(n as isize));
            let there = (from - first) as usize..(to - first) as usize;
            convert(&entries[from as usize..to as usize], &mut x[there.clone()], &|value: S| value.to_double() as f32);
            for k in (0..there.start).chain(there.end..x.len()) {
                let entry = entry(sweep.mode, first + k as isize, n);
                x[k] = entry.map_or(beyond, |entry| entries[entry].to_double() as f32);
            }
            let out = &mut out[start..start + piece];
            // The entries of the next piece are converted before it is summed, so it is those of the one after it.
            ahead.rows.clear();
            ahead.rows.extend(further(&entries[from as usize..], 2 * piece).into_iter().chain(further(out, piece)));
            along(weights, &x, out, &ahead);
        }
    }
    Ok(true)
}
