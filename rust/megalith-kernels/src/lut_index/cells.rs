//! What is summed: four kinds of cells, one loop.

use megalith_core::Bool8;
use megalith_core::dtype::{Integer, Pod, Real};

/// Sums that grow side by side: eight SSE2 registers of 32-bit cells.
pub(super) const WIDTH: usize = 32;
/// Sums that are looked up at once where they are equal.
const RUN: usize = 16;

/// A way to sum.
pub(super) trait Arithmetic {
    /// A number, or a mask for one.
    type Cell: Copy + Default + PartialEq + Send + Sync + 'static;
    /// `sum + weight * cell`.
    fn add(sum: Self::Cell, weight: Self::Cell, cell: Self::Cell) -> Self::Cell;
    /// The sum as an index.
    fn index(sum: Self::Cell) -> i64;
}

/// Truth values as 0 or -1, all bits: the product is an *and*.
pub(super) struct Masks;
/// Integers whose sums fit 32 bits.
pub(super) struct Narrow;
/// All other integers, modulo 2^64.
pub(super) struct Wide;
/// Everything in double precision.
pub(super) struct Doubles;

impl Masks {
    pub(super) fn cell(value: Bool8) -> i32 {
        -i32::from(value.0 != 0)
    }
}

impl Narrow {
    pub(super) fn cell<T: Integer>(value: T) -> i32 {
        value.to_wrapped_i64() as i32
    }
}

impl Wide {
    pub(super) fn cell<T: Integer>(value: T) -> i64 {
        value.to_wrapped_i64()
    }
}

macro_rules! arithmetic {
    ($($name:ident $cell:ty, |$sum:ident, $weight:ident, $value:ident| $add:expr, $index:expr;)*) => {$(
        impl Arithmetic for $name {
            type Cell = $cell;
            #[inline(always)]
            #[allow(clippy::inline_always)]
            fn add($sum: $cell, $weight: $cell, $value: $cell) -> $cell { $add }
            #[inline(always)]
            #[allow(clippy::inline_always)]
            fn index(sum: $cell) -> i64 { $index(sum) }
        }
    )*};
}

arithmetic! {
    Masks i32, |sum, weight, mask| sum.wrapping_add(weight & mask), i64::from;
    Narrow i32, |sum, weight, cell| sum.wrapping_add(weight.wrapping_mul(cell)), i64::from;
    Wide i64, |sum, weight, cell| sum.wrapping_add(weight.wrapping_mul(cell)), i64::from;
    Doubles f64, |sum, weight, cell| sum + weight * cell, i64::from_double;
}

/// `sums[p] = sum over the taps of weight * cells[p + offset]`; the length of `sums` is a multiple of [`WIDTH`].
#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn correlate<A: Arithmetic>(cells: &[A::Cell], taps: &[(usize, A::Cell)], sums: &mut [A::Cell]) {
    for (k, out) in sums.chunks_exact_mut(WIDTH).enumerate() {
        let cells = &cells[k * WIDTH..];
        let mut sums = [A::Cell::default(); WIDTH];
        for &(offset, weight) in taps {
            for (sum, &cell) in sums.iter_mut().zip(&cells[offset..offset + WIDTH]) {
                *sum = A::add(*sum, weight, cell);
            }
        }
        out.copy_from_slice(&sums);
    }
}

/// `out = lut[sums]`; the first sum that is no index, if there is one.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn look_up<A: Arithmetic, L: Pod>(sums: &[A::Cell], lut: &[L], out: &mut [L]) -> Option<usize> {
    // A negative index becomes one that no table is long enough for.
    let entry = |sum: A::Cell| lut.get(A::index(sum) as usize).copied();
    for (k, (sums, out)) in sums.chunks(RUN).zip(out.chunks_mut(RUN)).enumerate() {
        // Counted, not searched, so that it is a loop without branches.
        if sums.iter().map(|&sum| usize::from(sum != sums[0])).sum::<usize>() == 0 {
            let Some(value) = entry(sums[0]) else { return Some(k * RUN) };
            out.fill(value);
            continue;
        }
        for (x, (slot, &sum)) in out.iter_mut().zip(sums).enumerate() {
            let Some(value) = entry(sum) else { return Some(k * RUN + x) };
            *slot = value;
        }
    }
    None
}
