//! How work is cut: always by size, never by the number of threads, so that results do not depend on it.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::error::{Error, Result};

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

/// Where block `b` of `blocks` even ones begins: `b * len / blocks`, without a product that is too large.
#[must_use]
pub fn boundary(len: usize, blocks: NonZeroUsize, b: usize) -> usize {
    match len.checked_mul(b) {
        Some(product) => product / blocks,
        None => (len as u128 * b as u128 / blocks.get() as u128) as usize,
    }
}

/// `n` zeros, or an error where the system has no memory for them: `vec!` would end the process.
///
/// # Errors
/// [`Error::Memory`].
pub fn zeros<T: Copy + Default>(n: usize) -> Result<Vec<T>> {
    // Asked for and given back first: `vec!` knows how to get zeros that are not touched, but not how to be refused.
    let mut probe = Vec::<T>::new();
    probe.try_reserve_exact(n).map_err(|_| Error::Memory { wanted: n.saturating_mul(size_of::<T>()) })?;
    drop(probe);
    Ok(vec![T::default(); n])
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
    fn boundaries_of_even_blocks_are_exact_at_any_size() {
        let three = NonZeroUsize::new(3).unwrap();
        assert_eq!((0..=3).map(|b| boundary(10, three, b)).collect::<Vec<_>>(), [0, 3, 6, 10]);
        assert_eq!(boundary(usize::MAX, three, 2), usize::MAX / 3 * 2);
        assert_eq!(boundary(usize::MAX, three, 3), usize::MAX);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert_eq!(zeros::<u16>(3).unwrap(), [0; 3]);
        assert!(matches!(zeros::<u64>(usize::MAX / 8), Err(Error::Memory { .. })));
    }
}
