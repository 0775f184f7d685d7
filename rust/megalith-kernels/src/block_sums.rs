//! Sums and counts over stretches of an array in C order.
//!
//! ```text
//! for each piece of 64 Ki elements of each stretch, in parallel:   partial[piece] = sum of its elements
//! for each stretch:                                                sum = pairwise sum of its partials
//! ```
//!
//! 1. Pieces are cut from the start of their stretch, by size, and partials are added by a tree that depends on their
//!    number alone: a float sum is the same to the last bit for any number of threads.
//! 2. Floats are added pairwise in double precision: 16 lanes over runs of 128, halves above, so that the rounding
//!    error grows with the logarithm of the length, as in `numpy.sum`.
//! 3. The sum of the partials of a stretch is again a block sum, so a caller who cuts a file into windows of whole
//!    pieces gets the same bits as one who has it in memory ([`PIECE`]).
//!
//! Integers and truth values wrap in 64 bits, as `numpy.sum` does.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use megalith_core::blocks::{BLOCK, zeros};
use megalith_core::dtype::Real;
use megalith_core::{Bool8, Element, Error, Result, SourceView, Workers, c64, c128, f16};

use crate::simd::multiversion;

/// Elements that are summed into one partial.
pub const PIECE: usize = BLOCK;

/// Length below which floats are added in lanes.
const LEAF: usize = 128;

/// Lanes of a leaf.
const LANES: usize = 16;

/// Counters that are raised together, each a byte.
const COUNTERS: usize = 64;

/// An element type whose values can be added up.
pub trait Sum: Element {
    /// The type of the sum.
    type Total: Element;
    /// The sum of a piece.
    fn sum(values: &[Self]) -> Self::Total;
}

macro_rules! integer_sums {
    ($($type:ty => $narrow:ty, $total:ty;)*) => {$(
        impl Sum for $type {
            type Total = $total;
            fn sum(values: &[Self]) -> $total {
                values.chunks(PIECE).fold(0, |sum: $total, piece| {
                    let piece = add_up(piece, |sum: $narrow, value: $type| sum.wrapping_add(<$narrow>::from(value)));
                    sum.wrapping_add(<$total>::from(piece))
                })
            }
        }
    )*};
}

// The sum of a piece of 8 or 16-bit integers fits 32 bits.
integer_sums! {
    i8 => i32, i64; i16 => i32, i64; i32 => i64, i64; i64 => i64, i64;
    u8 => u32, u64; u16 => u32, u64; u32 => u64, u64; u64 => u64, u64;
}

impl Sum for Bool8 {
    type Total = i64;
    fn sum(values: &[Self]) -> i64 {
        count_nonzero(values)
    }
}

macro_rules! float_sums {
    ($($type:ty;)*) => {$(
        impl Sum for $type {
            type Total = f64;
            fn sum(values: &[Self]) -> f64 { pairwise(values, |value| value.to_double()) }
        }
    )*};
}

float_sums! { f16; f32; f64; }

macro_rules! complex_sums {
    ($($type:ty;)*) => {$(
        impl Sum for $type {
            type Total = c128;
            fn sum(values: &[Self]) -> c128 {
                c128::new(pairwise(values, |v| v.re.to_double()), pairwise(values, |v| v.im.to_double()))
            }
        }
    )*};
}

complex_sums! { c64; c128; }

multiversion! {
    fn add_up[T: Copy, A: Default, F: Fn(A, T) -> A](values: &[T], add: F) -> A = plain_add_up
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_add_up<T: Copy, A: Default>(values: &[T], add: impl Fn(A, T) -> A) -> A {
    values.iter().fold(A::default(), |sum, &value| add(sum, value))
}

/// Leaves, added up by halves: of whole leaves, so that most leaves are full.
fn pairwise<T: Copy, F: Fn(T) -> f64 + Copy>(values: &[T], value: F) -> f64 {
    if values.len() > PIECE {
        let (low, high) = values.split_at((values.len() / 2).next_multiple_of(LEAF));
        return pairwise(low, value) + pairwise(high, value);
    }
    let mut leaves = [0.0; PIECE / LEAF];
    add_leaves(values, &mut leaves, value);
    add_halves(&mut leaves[..values.len().div_ceil(LEAF).max(1)], values.len())
}

/// The sum of leaves of `len` elements together.
fn add_halves(leaves: &mut [f64], len: usize) -> f64 {
    let n = leaves.len();
    if n == 1 {
        return leaves[0];
    }
    if n.is_power_of_two() && len == n * LEAF {
        // Halves of halves down to neighbours: all pairs at once.
        let mut width = n / 2;
        while width > 0 {
            for k in 0..width {
                leaves[k] = leaves[2 * k] + leaves[2 * k + 1];
            }
            width /= 2;
        }
        return leaves[0];
    }
    let half = (len / 2).next_multiple_of(LEAF);
    let (low, high) = leaves.split_at_mut(half / LEAF);
    add_halves(low, half) + add_halves(high, len - half)
}

multiversion! {
    /// The sum of each leaf.
    fn add_leaves[T: Copy, F: Fn(T) -> f64 + Copy](values: &[T], leaves: &mut [f64], value: F) -> ()
        = plain_add_leaves, avx512 = avx512::add_leaves
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_add_leaves<T: Copy>(values: &[T], leaves: &mut [f64], value: impl Fn(T) -> f64 + Copy) {
    // Leaves of a length that is known would be turned into vectors of leaves, which are slow to gather.
    for (sum, leaf) in leaves.iter_mut().zip(values.chunks(LEAF)) {
        *sum = leaf_sum(leaf, value);
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn leaf_sum<T: Copy>(values: &[T], value: impl Fn(T) -> f64) -> f64 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += value(x);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            lanes[k] += lanes[k + width];
        }
        width /= 2;
    }
    rest.iter().fold(lanes[0], |sum, &x| sum + value(x))
}

multiversion! {
    fn count_nonzero[T: Element](values: &[T]) -> i64 = plain_count_nonzero
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_count_nonzero<T: Element>(values: &[T]) -> i64 {
    let (whole, rest) = values.as_chunks::<COUNTERS>();
    let mut count = 0;
    // As many as a byte can count.
    for run in whole.chunks(255) {
        let mut counters = [0u8; COUNTERS];
        for chunk in run {
            for (counter, value) in counters.iter_mut().zip(chunk) {
                *counter += u8::from(value.is_nonzero());
            }
        }
        count += counters.iter().map(|&n| i64::from(n)).sum::<i64>();
    }
    count + rest.iter().map(|value| i64::from(value.is_nonzero())).sum::<i64>()
}

/// The sum of each stretch `boundaries[b]..boundaries[b + 1]` of the elements in C order.
///
/// # Shapes
/// `source (n0..nk)`, `boundaries (n_blocks + 1)`, `sums (n_blocks)`.
///
/// # Errors
/// [`Error::Shape`] if the boundaries do not rise from 0 or more to the number of elements or less, or `sums` has
/// another length; [`Error::Cancelled`].
///
/// # Cost
/// One pass over the source; a partial for each 64 Ki elements.
///
/// # Source
/// `numpy.add.reduceat` on the flattened array; ClearMap's `block_sums`.
pub fn block_sums<T: Sum>(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    boundaries: &[usize],
    sums: &mut [T::Total],
) -> Result<()>
where
    T::Total: Sum<Total = T::Total>,
{
    reduce(workers, source, boundaries, sums, T::sum, <T::Total as Sum>::sum)
}

/// The number of non-zero entries of each stretch; see [`block_sums`].
///
/// # Errors
/// As [`block_sums`].
///
/// # Cost
/// As [`block_sums`].
pub fn block_counts<T: Element>(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    boundaries: &[usize],
    counts: &mut [i64],
) -> Result<()> {
    reduce(workers, source, boundaries, counts, count_nonzero::<T>, <i64 as Sum>::sum)
}

fn reduce<T: Element, A: Element>(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    boundaries: &[usize],
    sink: &mut [A],
    piece: impl Fn(&[T]) -> A + Sync,
    combine: impl Fn(&[A]) -> A,
) -> Result<()> {
    let len = source.len();
    if boundaries.len() != sink.len() + 1 || !boundaries.is_sorted() || boundaries.last().is_none_or(|&last| last > len)
    {
        let got = format!("{} positions, the last {:?}", boundaries.len(), boundaries.last());
        let expected = format!("{} rising positions up to {len}", sink.len() + 1);
        return Err(Error::Shape { name: "boundaries", got, expected });
    }
    let view = source.clone().coalesce();
    if len <= PIECE {
        // Each stretch is a piece, or empty.
        let mut scratch = Vec::new();
        for (slot, stretch) in sink.iter_mut().zip(boundaries.windows(2)) {
            let range = stretch[0]..stretch[1];
            *slot = if range.is_empty() { A::default() } else { piece(view.values(range, &mut scratch)) };
        }
        return Ok(());
    }
    let mut pieces = Vec::new();
    let mut ends = Vec::with_capacity(sink.len());
    for stretch in boundaries.windows(2) {
        pieces.extend((stretch[0]..stretch[1]).step_by(PIECE).map(|start| start..(start + PIECE).min(stretch[1])));
        ends.push(pieces.len());
    }
    let mut partials = zeros::<A>(pieces.len())?;
    let items: Vec<(Range<usize>, &mut A)> = pieces.into_iter().zip(&mut partials).collect();
    workers.for_each_with(items, Vec::new, |scratch, (range, partial)| {
        *partial = piece(view.values(range, scratch));
        Ok(())
    })?;
    let mut start = 0;
    for (slot, end) in sink.iter_mut().zip(ends) {
        *slot = total(&partials[start..end], &combine);
        start = end;
    }
    Ok(())
}

/// The sum of partials, cut as a source of that many elements would be.
fn total<A: Element>(partials: &[A], combine: &impl Fn(&[A]) -> A) -> A {
    match partials {
        [] => A::default(),
        [one] => *one,
        _ => total(&partials.chunks(PIECE).map(combine).collect::<Vec<_>>(), combine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;

    fn sums<T: Sum>(threads: usize, values: &[T], boundaries: &[usize]) -> Vec<T::Total>
    where
        T::Total: Sum<Total = T::Total>,
    {
        let source = SourceView::from_slice(values, &[values.len()]);
        let mut out = vec![T::Total::default(); boundaries.len() - 1];
        execute(threads, |_| true, |w| block_sums::<T>(w, &source, boundaries, &mut out)).unwrap();
        out
    }

    proptest! {
        #[test]
        fn integer_sums_match_the_naive_twin(len in 0usize..3000, a in 0usize..3000, b in 0usize..3000) {
            let values: Vec<i32> = (0..len).map(|i| (i as i32).wrapping_mul(0x9E37_79B9_u32 as i32)).collect();
            let mut boundaries = [0, a.min(len), b.min(len), len];
            boundaries.sort_unstable();
            let naive: Vec<i64> =
                boundaries.windows(2).map(|w| values[w[0]..w[1]].iter().map(|&v| i64::from(v)).sum()).collect();
            for (level, threads) in Level::ALL.into_iter().zip([1, 2, 8]) {
                set_level(level);
                prop_assert_eq!(&sums(threads, &values, &boundaries), &naive);
            }
        }
    }

    #[test]
    fn float_sums_are_the_same_for_any_number_of_threads_and_close_to_exact() {
        let values: Vec<f32> = (0..1_000_000).map(|i| ((i % 1009) * 7919 % 1009) as f32 * 0.1).collect();
        let exact: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let one = sums(1, &values, &[0, values.len()]);
        assert!((one[0] - exact).abs() < exact * 1e-12);
        for threads in [2, 3, 8] {
            assert_eq!(sums(threads, &values, &[0, values.len()])[0].to_bits(), one[0].to_bits());
        }
    }

    /// The tree of additions as its definition reads.
    fn halves(values: &[f64]) -> f64 {
        if values.len() > LEAF {
            let (low, high) = values.split_at((values.len() / 2).next_multiple_of(LEAF));
            return halves(low) + halves(high);
        }
        let (whole, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in whole {
            (0..LANES).for_each(|k| lanes[k] += chunk[k]);
        }
        for width in [8, 4, 2, 1] {
            (0..width).for_each(|k| lanes[k] += lanes[k + width]);
        }
        rest.iter().fold(lanes[0], |sum, x| sum + x)
    }

    #[test]
    fn float_sums_have_the_bits_of_their_tree_at_each_level() {
        let values: Vec<f64> = (0..PIECE).map(|i| 1.0 / (i as f64 - 777.5)).collect();
        let lengths = [0, 1, 15, 127, 128, 129, 255, 256, 257, 258, 300, 384, 385, 4095, 4096, 4097, PIECE - 1, PIECE];
        for (level, n) in Level::ALL.into_iter().flat_map(|level| lengths.map(|n| (level, n))) {
            set_level(level);
            let values = &values[PIECE - n..];
            assert_eq!(sums(1, values, &[0, n])[0].to_bits(), halves(values).to_bits(), "{level:?}, {n}");
            let single: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let double: Vec<f64> = single.iter().map(|&v| f64::from(v)).collect();
            assert_eq!(sums(1, &single, &[0, n])[0].to_bits(), halves(&double).to_bits(), "{level:?}, {n}");
        }
    }

    #[test]
    fn the_largest_values_of_each_type_add_up() {
        for (level, n) in Level::ALL.into_iter().flat_map(|level| [63, PIECE, PIECE + 1].map(|n| (level, n))) {
            set_level(level);
            let (signed, unsigned) = (n as i64, n as u64);
            assert_eq!(sums(1, &vec![u8::MAX; n], &[0, n]), [unsigned * 255]);
            assert_eq!(sums(1, &vec![u16::MAX; n], &[0, n]), [unsigned * 65_535]);
            assert_eq!(sums(1, &vec![u32::MAX; n], &[0, n]), [unsigned * u64::from(u32::MAX)]);
            assert_eq!(sums(1, &vec![i8::MIN; n], &[0, n]), [signed * -128]);
            assert_eq!(sums(1, &vec![i16::MIN; n], &[0, n]), [signed * -32_768]);
            assert_eq!(sums(1, &vec![i32::MIN; n], &[0, n]), [signed * i64::from(i32::MIN)]);
            assert_eq!(sums(1, &vec![Bool8(255); n], &[0, n]), [signed]);
        }
    }

    #[test]
    fn sums_of_whole_pieces_add_up_to_the_same_bits() {
        let values: Vec<f64> = (0..5 * PIECE + 77).map(|i| 1.0 / (i as f64 + 1.0)).collect();
        let cuts: Vec<usize> = (0..6).map(|i| i * PIECE).chain([values.len()]).collect();
        let partials = sums(2, &values, &cuts);
        let (whole, again) = (sums(2, &values, &[0, values.len()]), sums(2, &partials, &[0, partials.len()]));
        assert_eq!(whole[0].to_bits(), again[0].to_bits());
    }

    #[test]
    fn counts_take_nan_and_negative_values_for_nonzero() {
        let values = [0.0f32, -0.0, f32::NAN, -2.0, 1.0];
        let mut counts = [0];
        let source = SourceView::from_slice(&values, &[5]);
        execute_here(|w| block_counts::<f32>(w, &source, &[0, 5], &mut counts)).unwrap();
        assert_eq!(counts, [3]);
    }

    #[test]
    fn an_empty_stretch_sums_to_zero() {
        assert_eq!(sums(1, &[1.0f64, 2.0], &[0, 0, 2, 2]), [0.0, 3.0, 0.0]);
    }

    #[test]
    fn boundaries_outside_of_the_array_are_refused() {
        let source = SourceView::from_slice(&[1u8, 2], &[2]);
        let result = execute_here(|w| block_sums::<u8>(w, &source, &[0, 3], &mut [0]));
        assert!(matches!(result, Err(Error::Shape { .. })));
    }
}
