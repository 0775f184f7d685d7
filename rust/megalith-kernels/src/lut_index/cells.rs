//! What is summed: numbers of three kinds here, patterns of truth values in `patterns.rs`.

use megalith_core::dtype::Integer;

use super::table::Sum;
use crate::simd::multiversion;

/// Sums that grow side by side.
pub(super) const WIDTH: usize = 64;

/// A way to sum.
pub(super) trait Arithmetic: Copy + Sync {
    /// What an element of the source is kept as.
    type Cell: Copy + Default + Send + Sync + 'static;
    /// What one tap of the kernel knows beside its offset.
    type Weight: Copy + Send + Sync;
    /// What the taps add up to.
    type Sum: Sum;
    /// Make the cells of a row of those that were loaded.
    fn join(self, _row: &mut [Self::Cell]) {}
    /// `sums[p] = sum over the taps of weight * cells[p + offset]`; the length of `sums` is a multiple of [`WIDTH`].
    fn correlate(self, cells: &[Self::Cell], taps: &[(usize, Self::Weight)], sums: &mut [Self::Sum]);
}

/// A cell that is multiplied and added.
trait Number: Sum + Send + Sync + 'static {
    /// `sum + weight * cell`.
    fn add(sum: Self, weight: Self, cell: Self) -> Self;
}

/// Integers whose sums fit 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Narrow;
/// All other integers, modulo 2^64.
#[derive(Clone, Copy)]
pub(super) struct Wide;
/// Everything in double precision.
#[derive(Clone, Copy)]
pub(super) struct Doubles;

impl Narrow {
    #[inline]
    pub(super) fn cell<T: Integer>(value: T) -> i32 {
        value.to_wrapped_i64() as i32
    }
}

impl Wide {
    #[inline]
    pub(super) fn cell<T: Integer>(value: T) -> i64 {
        value.to_wrapped_i64()
    }
}

macro_rules! numbers {
    ($($name:ident $cell:ty, |$sum:ident, $weight:ident, $value:ident| $add:expr;)*) => {$(
        impl Number for $cell {
            #[inline(always)]
            #[allow(clippy::inline_always)]
            fn add($sum: $cell, $weight: $cell, $value: $cell) -> $cell { $add }
        }
        impl Arithmetic for $name {
            type Cell = $cell;
            type Weight = $cell;
            type Sum = $cell;
            fn correlate(self, cells: &[$cell], taps: &[(usize, $cell)], sums: &mut [$cell]) {
                correlate(cells, taps, sums);
            }
        }
    )*};
}

numbers! {
    Narrow i32, |sum, weight, cell| sum.wrapping_add(weight.wrapping_mul(cell));
    Wide i64, |sum, weight, cell| sum.wrapping_add(weight.wrapping_mul(cell));
    Doubles f64, |sum, weight, cell| sum + weight * cell;
}

multiversion!(fn correlate[N: Number](cells: &[N], taps: &[(usize, N)], sums: &mut [N]) -> () = plain_correlate);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_correlate<N: Number>(cells: &[N], taps: &[(usize, N)], sums: &mut [N]) {
    /// Eight SSE2 registers of 32-bit cells.
    const STEP: usize = WIDTH / 2;
    for (k, out) in sums.chunks_exact_mut(STEP).enumerate() {
        let cells = &cells[k * STEP..];
        let mut sums = [N::default(); STEP];
        for &(offset, weight) in taps {
            for (sum, &cell) in sums.iter_mut().zip(&cells[offset..offset + STEP]) {
                *sum = N::add(*sum, weight, cell);
            }
        }
        out.copy_from_slice(&sums);
    }
}
