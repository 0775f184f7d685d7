//! Lines as vectors.

use bytemuck::cast;

use super::super::sums::{LANES, LINE, ROWS};
use super::{Behind, ITEMSIZE};
use crate::simd::avx512::stream;

/// Write the lines that fall due when [`LANES`] lanes of [`ROWS`] rows of `D` have been made.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in super::super) fn go_on<D>(behind: &mut Behind<'_>) {
    if size_of::<D>() >= ITEMSIZE {
        write(behind, LANES * ROWS * size_of::<D>() / LINE);
    }
}

/// Write the next lines, at most `n`.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
fn write(behind: &mut Behind<'_>, n: usize) {
    let Some((lines, slots)) = behind.next(n) else { return };
    for (slot, &line) in slots.iter_mut().zip(lines) {
        // SAFETY: each line is written once, and whoever added it saw to it that nobody looks at it before the fence.
        unsafe { stream(slot, cast(line)) };
    }
}

/// See [`super::finish`].
#[target_feature(enable = "avx512f")]
pub(super) fn finish(behind: &mut Behind<'_>) {
    while !behind.0.is_empty() {
        write(behind, usize::MAX);
    }
}
