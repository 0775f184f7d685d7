//! Lines turned into rows, and back.

use crate::simd::multiversion;

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(not(target_arch = "x86_64"))]
use self::plain as avx512;

/// Lines and columns are turned in squares of this side.
pub(super) const SIDE: usize = 8;

multiversion!(
    /// `to[c * SIDE + l] = from[l * columns + c]`: [`SIDE`] lines become rows of as many lanes, for a multiple of
    /// [`SIDE`] columns.
    pub(super) fn to_rows[](from: &[f64], columns: usize, to: &mut [f64]) -> () = plain_to_rows, avx512 = avx512::to_rows
);

multiversion!(
    /// `to[l * columns + c] = from[c * SIDE + l]`: the way back.
    pub(super) fn to_lines[](from: &[f64], columns: usize, to: &mut [f64]) -> () = plain_to_lines, avx512 = avx512::to_lines
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_to_rows(from: &[f64], columns: usize, to: &mut [f64]) {
    let lines: [&[f64]; SIDE] = std::array::from_fn(|l| &from[l * columns..][..columns]);
    for (c, row) in to.as_chunks_mut::<SIDE>().0.iter_mut().take(columns).enumerate() {
        for (slot, line) in row.iter_mut().zip(lines) {
            *slot = line[c];
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_to_lines(from: &[f64], columns: usize, to: &mut [f64]) {
    for (l, line) in to.chunks_exact_mut(columns).take(SIDE).enumerate() {
        for (slot, row) in line.iter_mut().zip(from.as_chunks::<SIDE>().0) {
            *slot = row[l];
        }
    }
}
