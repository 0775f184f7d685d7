//! Sums down the rows of a window, in SciPy's order.
//!
//! ```text
//! for each block of four rows and W lanes:        acc[r] = x[r + half] * w[half]
//!     for each pair of taps (i, K-1-i):           acc[r] += (x[r + i] + x[r + K-1-i]) * w[i]
//! ```
//!
//! 1. Four rows of sums grow side by side. From one pair to the next the rows they need move by one, so that eight
//!    vectors stay in registers and two are loaded for four steps.
//! 2. No product is fused with the sum it goes into: that would round once instead of twice. But a processor that
//!    adds and multiplies in different units has more to add than to multiply, so every other `a + b` is written as
//!    `a * 1 + b`, fused, which rounds exactly once as well.

use std::array::from_fn;
use std::hint::black_box;

use super::taps::{Kind, Taps};
use crate::simd::multiversion;

/// Rows of sums that are made together.
pub(super) const ROWS: usize = 4;
/// Lanes come in multiples of this.
pub(super) const LANES: usize = 8;

multiversion!(
    /// `out[r * pitch + l] = sum over i of weights[i] * x[(r + i) * pitch + l]` for whole blocks of [`ROWS`] rows and
    /// [`LANES`] lanes; `out` has as many rows as there are to be made.
    ///
    /// `ahead` is memory that is going to be needed; it is fetched while the sums are made.
    pub(super) fn down[](taps: &Taps, x: &[f64], pitch: usize, out: &mut [f64], ahead: &[&[u8]]) -> ()
        = plain::<2, false>, avx512 = plain::<8, true>, avx2 = plain::<4, true>
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain<const W: usize, const FUSED: bool>(taps: &Taps, x: &[f64], pitch: usize, out: &mut [f64], ahead: &[&[u8]]) {
    let last = taps.weights.len() - 1;
    assert!(pitch.is_multiple_of(LANES), "whole vectors");
    for (k, out) in out.chunks_exact_mut(ROWS * pitch).enumerate() {
        let x = &x[k * ROWS * pitch..][..(last + ROWS) * pitch];
        let ahead = Ahead { ranges: ahead, at: k * pitch / W * LINE };
        match taps.kind {
            // Three taps are so few that what comes before and after the loop counts.
            Kind::Symmetric if last == 2 => pairs::<W, FUSED, false>(x, pitch, &taps.weights, 1, out, ahead),
            Kind::Symmetric => pairs::<W, FUSED, false>(x, pitch, &taps.weights, last / 2, out, ahead),
            Kind::Antisymmetric => pairs::<W, FUSED, true>(x, pitch, &taps.weights, last / 2, out, ahead),
            Kind::General => singles::<W>(x, pitch, &taps.weights, out, ahead),
        }
    }
}

/// Bytes of a line of memory.
const LINE: usize = 64;

/// Memory that is fetched line by line.
struct Ahead<'a> {
    ranges: &'a [&'a [u8]],
    at: usize,
}

impl Ahead<'_> {
    /// Fetch the next line of each range.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn fetch(&mut self) {
        for range in self.ranges {
            #[cfg(target_arch = "x86_64")]
            if self.at < range.len() {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint, which reads nothing; the address lies inside of the range (just checked).
                #[allow(unsafe_code)]
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(range.as_ptr().add(self.at).cast());
                }
            }
        }
        self.at += LINE;
    }
}

/// The vector at `at`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn vector<const W: usize>(x: &[f64], at: usize) -> [f64; W] {
    debug_assert!(at + W <= x.len());
    // SAFETY: `plain` gives the loops `last + ROWS` rows of whole vectors (both checked there), and no loop looks at a
    // row beyond these: with the checks here, three taps take half as long again.
    #[allow(unsafe_code)]
    unsafe {
        x.as_ptr().add(at).cast::<[f64; W]>().read_unaligned()
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn pairs<const W: usize, const FUSED: bool, const MINUS: bool>(
    x: &[f64],
    pitch: usize,
    weights: &[f64],
    half: usize,
    out: &mut [f64],
    mut ahead: Ahead<'_>,
) {
    // Not known to the compiler, which would make a plain addition of it.
    let one = if FUSED { black_box(1.0) } else { 1.0 };
    for lane in (0..pitch).step_by(W) {
        ahead.fetch();
        let row = |i: usize| vector::<W>(x, i * pitch + lane);
        let mut sums: [[f64; W]; ROWS] = from_fn(|r| row(half + r).map(|c| c * weights[half]));
        let mut left: [_; ROWS] = from_fn(row);
        let mut right: [_; ROWS] = from_fn(|r| row(2 * half + r));
        for (i, &weight) in weights[..half].iter().enumerate() {
            for r in 0..ROWS {
                for l in 0..W {
                    let (a, b) = (left[r][l], if MINUS { -right[r][l] } else { right[r][l] });
                    let joined = if FUSED && r % 2 == 0 { a.mul_add(one, b) } else { a + b };
                    sums[r][l] += joined * weight;
                }
            }
            left = [left[1], left[2], left[3], row(i + ROWS)];
            right = [row(2 * half - 1 - i), right[0], right[1], right[2]];
        }
        for (r, sum) in sums.iter().enumerate() {
            out[r * pitch + lane..][..W].copy_from_slice(sum);
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn singles<const W: usize>(x: &[f64], pitch: usize, weights: &[f64], out: &mut [f64], mut ahead: Ahead<'_>) {
    let last = weights.len() - 1;
    for lane in (0..pitch).step_by(W) {
        ahead.fetch();
        let row = |i: usize| vector::<W>(x, i * pitch + lane);
        let mut sums: [[f64; W]; ROWS] = from_fn(|r| row(last + r).map(|c| c * weights[last]));
        let mut next: [_; ROWS] = from_fn(row);
        for (i, &weight) in weights[..last].iter().enumerate() {
            for r in 0..ROWS {
                for l in 0..W {
                    sums[r][l] += next[r][l] * weight;
                }
            }
            next = [next[1], next[2], next[3], row(i + ROWS)];
        }
        for (r, sum) in sums.iter().enumerate() {
            out[r * pitch + lane..][..W].copy_from_slice(sum);
        }
    }
}
