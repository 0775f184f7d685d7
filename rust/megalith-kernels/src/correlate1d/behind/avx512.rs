//! Lines as vectors.

use super::super::sums::{LANES, LINE, ROWS};
use super::{Behind, ITEMSIZE};
use crate::simd::avx512::stream_all;

/// Write the lines that fall due when [`LANES`] lanes of [`ROWS`] rows of `D` have been made.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in super::super) fn go_on<D>(behind: &mut Behind<'_>) {
    if size_of::<D>() >= ITEMSIZE {
        write(behind, LANES * ROWS * size_of::<D>() / LINE);
    }
}

/// Write the next lines, at most `n`; returns whether there were any.
#[inline]
#[target_feature(enable = "avx512f")]
fn write(behind: &mut Behind<'_>, n: usize) -> bool {
    let (Some(fence), Some((lines, slots))) = (behind.fence, behind.next(n)) else { return false };
    stream_all(slots, lines, fence);
    true
}

/// See [`super::finish`].
#[target_feature(enable = "avx512f")]
pub(super) fn finish(behind: &mut Behind<'_>) {
    while write(behind, usize::MAX) {}
}
