//! How work is cut: always by size, never by the number of threads, so that results do not depend on it.

use std::ops::Range;

/// Elements of a block of work: 64 Ki, so that a block of any type fits the second-level cache.
pub const BLOCK: usize = 1 << 16;

/// The ranges `0..step, step..2*step, ...` that cover `0..len`; the last may be shorter.
///
/// # Panics
/// If `step` is zero.
#[must_use]
pub fn ranges(len: usize, step: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    assert!(step > 0, "a block has at least one element");
    (0..len.div_ceil(step)).map(move |i| i * step..((i + 1) * step).min(len))
}

/// The start of block `i` of `blocks` even blocks of `size` elements: `i * size // blocks`.
///
/// Even to within one element, in integers, so that no rounding moves a boundary at large sizes.
#[must_use]
#[inline]
pub fn boundary(i: usize, size: usize, blocks: usize) -> usize {
    ((i as u128 * size as u128) / blocks.max(1) as u128) as usize
}

/// The coordinates of a C-order position.
#[must_use]
#[inline]
pub fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut position = vec![0; shape.len()];
    for (coordinate, &n) in position.iter_mut().zip(shape).rev() {
        *coordinate = flat % n;
        flat /= n;
    }
    position
}

/// Cut a slice into parts of the given lengths.
///
/// # Panics
/// If the lengths add up to more than the slice.
pub fn split_mut<'a, T>(mut slice: &'a mut [T], lengths: &[usize]) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (part, rest) = slice.split_at_mut(length);
        parts.push(part);
        slice = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_element_once() {
        for len in [0, 1, 7, 8, 9, 64] {
            let all: Vec<usize> = ranges(len, 8).flatten().collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn boundaries_are_even_to_within_one_element() {
        let (size, blocks) = (1_000_003, 7);
        let starts: Vec<usize> = (0..=blocks).map(|i| boundary(i, size, blocks)).collect();
        assert_eq!((starts[0], starts[blocks]), (0, size));
        assert!(starts.windows(2).all(|w| (w[1] - w[0]).abs_diff(size / blocks) <= 1));
    }

    #[test]
    fn boundaries_do_not_overflow_at_the_largest_size() {
        assert_eq!(boundary(3, usize::MAX, 3), usize::MAX);
    }
}
