//! Pairs of entries that lie a given offset apart: the edges of a graph whose vertices are voxels.
//!
//! In a sorted list the partners of rising entries rise too, so one walk with two hands finds all pairs. The walk is cut
//! into blocks of entries; each block finds where its partners begin by bisection:
//!
//! ```text
//! for each block of entries i, in parallel:
//!     j = first entry not below indices[first i] + offset
//!     for each i:  advance j while indices[j] < indices[i] + offset;  every equal entry from j on makes a pair
//! ```
//!
//! Walked twice: once to count, once to write, each block into its own rows. A list without equal entries, the common
//! case, is walked once and in a faster way: as a map of bits where its gaps are few (`neighbours/bitmap.rs`), and as
//! a merge without branches where they are wide (`neighbours/marks.rs`). A list that is not sorted is sorted once,
//! with each value beside its position; the walk then gives, for each entry that has partners, where they stand, and
//! those records are brought back into the order of the list.
//!
//! Equal entries make all their pairs. An offset that leads out of the type of the indices leads to no partner.

use std::ops::Range;

use megalith_core::blocks::{BLOCK, ranges, split_mut, zeros};
use megalith_core::dtype::Integer;
use megalith_core::{Error, Result, SinkView, SourceView, Workers};

use self::bitmap::Bitmap;
use self::marks::Part;
use crate::simd::multiversion;
use crate::sort::sort;

mod bitmap;
mod marks;
mod pack;

/// Elements a strided list is looked at through.
const WINDOW: usize = 4096;

/// Random access to the entries of a list.
trait List<T> {
    fn at(&mut self, i: usize) -> T;
}

impl<T: Copy> List<T> for &[T] {
    #[inline]
    fn at(&mut self, i: usize) -> T {
        self[i]
    }
}

/// A list whose memory is no slice, seen through a window that follows the walk.
struct Window<'a, T> {
    view: &'a SourceView<'a>,
    start: usize,
    values: Vec<T>,
}

impl<T: Integer> List<T> for Window<'_, T> {
    fn at(&mut self, i: usize) -> T {
        if i < self.start || i >= self.start + self.values.len() {
            self.start = i - i % WINDOW;
            self.values.resize(WINDOW.min(self.view.len() - self.start), T::default());
            self.view.gather(self.start..self.start + self.values.len(), &mut self.values);
        }
        self.values[i - self.start]
    }
}

/// An entry with partners in a list that had to be sorted, and where they stand in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    i: usize,
    start: usize,
    end: usize,
}

/// The pairs of a list, counted but not yet written.
#[derive(Debug)]
pub struct Pairs {
    offset: i128,
    counts: Vec<usize>,
    found: Found,
}

/// What is known of the pairs.
#[derive(Debug)]
enum Found {
    /// How many each block of the list has; they are walked again.
    Counted,
    /// The list rises and has few gaps: its values.
    Mapped(Bitmap),
    /// The list rises: which entries make pairs.
    Marked(Vec<Part>),
    /// The list was not sorted.
    Unsorted(Unsorted),
}

#[derive(Debug)]
struct Unsorted {
    /// Positions in the list, in the order of the values.
    order: Vec<usize>,
    /// In the order of the list.
    matches: Vec<Match>,
}

/// Find all pairs `(i, j)` with `indices[j] == indices[i] + offset`.
///
/// # Shapes
/// `indices (n)`, sorted or not.
///
/// # Errors
/// [`Error::Memory`], [`Error::Cancelled`].
///
/// # Cost
/// Rising: one pass over the list; scratch of 24 bits an entry at most, two where the gaps are wide. Sorted: one pass to
/// see that, one to count. Not sorted: a sort, 48 bytes an entry, and 72 for
/// each that has partners.
///
/// # Source
/// ClearMap's `neighbours`, which compares positions with a rising list only.
pub fn find<T: Integer>(workers: &Workers<'_>, indices: &SourceView<'_>, offset: i128) -> Result<Pairs> {
    if let Some(values) = indices.as_slice::<T>() {
        if let Some((map, counts)) = bitmap::find(workers, values, offset)? {
            return Ok(Pairs { offset, counts, found: Found::Mapped(map) });
        }
        if let Some(parts) = marks::find(workers, values, offset)? {
            let counts = parts.iter().map(|part| part.count).collect();
            return Ok(Pairs { offset, counts, found: Found::Marked(parts) });
        }
    }
    let order = order::<T>(workers, indices)?;
    if order <= Order::Sorted {
        let counts = workers.map(ranges(indices.len(), BLOCK).collect(), |block| {
            let mut count = 0;
            walk::<T>(indices, offset, block, |_, partners| count += partners.len());
            Ok(count)
        })?;
        return Ok(Pairs { offset, counts, found: Found::Counted });
    }
    let mut entries: Vec<(T, usize)> = zeros(indices.len())?;
    let blocks = ranges(indices.len(), BLOCK).zip(entries.chunks_mut(BLOCK)).collect();
    workers.for_each_with(blocks, Vec::new, |values, (range, entries)| {
        for ((slot, &value), i) in entries.iter_mut().zip(indices.values(range.clone(), values)).zip(range) {
            *slot = (value, i);
        }
        Ok(())
    })?;
    sort(workers, &mut entries)?;
    let (mut values, mut order) = (zeros::<T>(entries.len())?, zeros::<usize>(entries.len())?);
    for ((value, i), entry) in values.iter_mut().zip(&mut order).zip(&entries) {
        (*value, *i) = *entry;
    }
    drop(entries);
    let sorted = SourceView::from_slice(&values, &[values.len()]);
    let found = workers.map(ranges(values.len(), BLOCK).collect(), |block| {
        let mut matches = Vec::new();
        walk::<T>(&sorted, offset, block, |k, partners| {
            matches.push(Match { i: order[k], start: partners.start, end: partners.end });
        });
        Ok(matches)
    })?;
    let mut matches = zeros::<Match>(found.iter().map(Vec::len).sum())?;
    for (slot, one) in matches.iter_mut().zip(found.into_iter().flatten()) {
        *slot = one;
    }
    sort(workers, &mut matches)?;
    let counts = matches.chunks(BLOCK).map(|block| block.iter().map(|m| m.end - m.start).sum()).collect();
    Ok(Pairs { offset, counts, found: Found::Unsorted(Unsorted { order, matches }) })
}

impl Pairs {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Write the pairs, sorted by i, then j.
    ///
    /// # Shapes
    /// `indices (n)`, unchanged since [`find`]; `sink (n_pairs, 2)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sink has another shape; [`Error::Argument`] if the list has changed since it was
    /// counted; [`Error::Cancelled`].
    ///
    /// # Cost
    /// One pass over indices and sink.
    pub fn fill<T: Integer>(&self, workers: &Workers<'_>, indices: &SourceView<'_>, sink: SinkView<'_>) -> Result<()> {
        let expected = [self.len(), 2];
        let shape_error = |got: &[usize]| Error::Shape {
            name: "sink",
            got: format!("shape {got:?}"),
            expected: format!("a contiguous {expected:?} of int64"),
        };
        if sink.shape() != expected {
            return Err(shape_error(sink.shape()));
        }
        let out = sink.into_mut_slice::<i64>().map_err(|view| shape_error(view.shape()))?;
        let (out, _) = out.as_chunks_mut::<2>();
        if let Found::Mapped(map) = &self.found {
            return map.fill(workers, &self.counts, out);
        }
        let parts = split_mut(out, &self.counts);
        let blocks: Vec<_> = parts.into_iter().enumerate().collect();
        workers.for_each(blocks, |(block, out)| {
            if let Found::Marked(parts) = &self.found {
                parts[block].fill(out);
                return Ok(());
            }
            let mut slots = out.iter_mut();
            let mut complete = true;
            let mut put = |i: usize, j: usize| match slots.next() {
                Some(slot) => *slot = [i as i64, j as i64],
                None => complete = false,
            };
            if let Found::Unsorted(Unsorted { order, matches }) = &self.found {
                for found in matches.iter().skip(block * BLOCK).take(BLOCK) {
                    workers.check()?;
                    order[found.start..found.end].iter().for_each(|&j| put(found.i, j));
                }
            } else {
                let range = block * BLOCK..((block + 1) * BLOCK).min(indices.len());
                walk::<T>(indices, self.offset, range, |i, partners| {
                    if workers.check().is_ok() {
                        partners.for_each(|j| put(i, j));
                    }
                });
                workers.check()?;
            }
            if complete && slots.next().is_none() {
                return Ok(());
            }
            let got = "a list that was changed by another thread".to_owned();
            Err(Error::Argument { name: "indices", got, expected: "one that stays as it is".to_owned() })
        })
    }
}

/// How the entries of a list follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Each is above the one before.
    Rising,
    /// None is below the one before.
    Sorted,
    Unsorted,
}

fn order<T: Integer>(workers: &Workers<'_>, indices: &SourceView<'_>) -> Result<Order> {
    let blocks = ranges(indices.len(), BLOCK).map(|r| r.start..(r.end + 1).min(indices.len())).collect();
    let orders = workers.map(blocks, |range| Ok(order_of(indices.values::<T>(range, &mut Vec::new()))))?;
    Ok(orders.into_iter().max().unwrap_or(Order::Rising))
}

multiversion!(fn order_of[T: Integer](values: &[T]) -> Order = plain_order_of);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_order_of<T: Integer>(values: &[T]) -> Order {
    let (mut equal, mut falling) = (false, false);
    // In short parts, so that a list that is not sorted is soon left, each without branches.
    for first in (0..values.len().saturating_sub(1)).step_by(1024) {
        let part = &values[first..values.len().min(first + 1025)];
        for (a, b) in part.iter().zip(&part[1..]) {
            equal |= a == b;
            falling |= a > b;
        }
        if falling {
            return Order::Unsorted;
        }
    }
    if equal { Order::Sorted } else { Order::Rising }
}

multiversion!(fn rises[T: Integer](values: &[T]) -> bool = plain_rises);

/// Whether each is below the next.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_rises<T: Integer>(values: &[T]) -> bool {
    // No end before the last one, so that it becomes comparisons of vectors.
    let mut rises = true;
    for k in 1..values.len() {
        rises &= values[k - 1] < values[k];
    }
    rises
}

/// Call `f(i, partners)` for each `i` of `block` that has partners in the sorted list.
fn walk<T: Integer>(indices: &SourceView<'_>, offset: i128, block: Range<usize>, f: impl FnMut(usize, Range<usize>)) {
    let n = indices.len();
    if let Some(values) = indices.as_slice::<T>() {
        walk_lists(values, values, n, offset, block, f);
    } else {
        let window = || Window { view: indices, start: 0, values: Vec::<T>::new() };
        walk_lists(window(), window(), n, offset, block, f);
    }
}

fn walk_lists<T: Integer>(
    mut entries: impl List<T>,
    mut partners: impl List<T>,
    n: usize,
    offset: i128,
    block: Range<usize>,
    mut f: impl FnMut(usize, Range<usize>),
) {
    // The partners found last, and the value they were found for: equal entries have the same.
    let mut found: Option<(T, Range<usize>)> = None;
    for i in block {
        let Some(target) = entries.at(i).offset(offset) else { continue };
        let range = match found.take() {
            Some((value, range)) if value == target => range,
            last => {
                let mut j = last.map_or_else(|| bisect(&mut partners, n, target), |(_, range)| range.end);
                while j < n && partners.at(j) < target {
                    j += 1;
                }
                let mut end = j;
                while end < n && partners.at(end) == target {
                    end += 1;
                }
                j..end
            }
        };
        if !range.is_empty() {
            f(i, range.clone());
        }
        found = Some((target, range));
    }
}

/// The first position whose entry is not below `target`.
fn bisect<T: Integer>(list: &mut impl List<T>, n: usize, target: T) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if list.at(middle) < target {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};
    use megalith_core::pool::execute;
    use proptest::prelude::*;

    fn naive(indices: &[i32], offset: i64) -> Vec<i64> {
        let mut out = Vec::new();
        for (i, &a) in indices.iter().enumerate() {
            for (j, &b) in indices.iter().enumerate() {
                if i64::from(b) == i64::from(a) + offset {
                    out.extend([i as i64, j as i64]);
                }
            }
        }
        out
    }

    fn pairs(threads: usize, view: &SourceView<'_>, offset: i64) -> Vec<i64> {
        execute(
            threads,
            |_| true,
            |w| {
                let found = find::<i32>(w, view, i128::from(offset))?;
                let mut out = vec![0; 2 * found.len()];
                found.fill::<i32>(w, view, SinkView::from_slice(&mut out, &[found.len(), 2]))?;
                Ok(out)
            },
        )
        .unwrap()
    }

    proptest! {
        #[test]
        fn pairs_match_the_naive_twin(
            mut indices in prop::collection::vec(-20i32..20, 0..80), offset in -25i64..25, sort in any::<bool>(),
        ) {
            if sort {
                indices.sort_unstable();
            }
            let doubled: Vec<i32> = indices.iter().flat_map(|&v| [v, 99]).collect();
            // SAFETY: every second of the `2 * n` elements of `doubled`.
            #[allow(unsafe_code)]
            let strided = unsafe {
                SourceView::from_raw_parts(doubled.as_ptr().cast(), &[indices.len()], &[8], 4, false)
            };
            for (threads, level) in [1, 2, 8].into_iter().zip(Level::ALL) {
                set_level(level);
                let view = SourceView::from_slice(&indices, &[indices.len()]);
                prop_assert_eq!(pairs(threads, &view, offset), naive(&indices, offset));
                prop_assert_eq!(pairs(threads, &strided, offset), naive(&indices, offset));
            }
        }

        #[test]
        fn pairs_of_rising_lists_match_a_search(
            len in prop::sample::select(vec![0usize, 1, 63, 64, 65, 1000, 70_000, 140_000]),
            step in prop::sample::select(vec![1u64, 2, 3, 9, 1000]),
            seed in any::<u64>(), offset in prop::sample::select(vec![-70_001i64, -64, -3, -1, 0, 1, 2, 17, 65_000, 1 << 40]),
        ) {
            let mut value = -50_000i64;
            let next = |i: u64| 1 + (seed | 1).wrapping_mul(i * 2 + 1).rotate_left(29).wrapping_mul(0x9E37_79B9) % step;
            let indices: Vec<i64> = (0..len as u64).map(|i| { value += next(i) as i64; value }).collect();
            let found = |(i, v): (usize, &i64)| indices.binary_search(&(v + offset)).ok().map(|j| [i as i64, j as i64]);
            let expected: Vec<i64> = indices.iter().enumerate().filter_map(found).flatten().collect();
            let view = SourceView::from_slice(&indices, &[len]);
            for (threads, level) in [2, 1, 2].into_iter().zip(Level::ALL) {
                set_level(level);
                let got = execute(threads, |_| true, |w| {
                    let found = find::<i64>(w, &view, offset.into())?;
                    let mut out = vec![0; 2 * found.len()];
                    found.fill::<i64>(w, &view, SinkView::from_slice(&mut out, &[found.len(), 2]))?;
                    Ok(out)
                });
                prop_assert!(got.unwrap() == expected);
            }
        }
    }

    fn pairs_of<T: Integer>(threads: usize, indices: &[T], offset: i128) -> Vec<[i64; 2]> {
        let view = SourceView::from_slice(indices, &[indices.len()]);
        let pairs = execute(
            threads,
            |_| true,
            |w| {
                let found = find::<T>(w, &view, offset)?;
                let mut out = vec![[0; 2]; found.len()];
                found.fill::<T>(w, &view, SinkView::from_slice(out.as_flattened_mut(), &[found.len(), 2]))?;
                Ok(out)
            },
        );
        pairs.unwrap()
    }

    fn searched<T: Integer>(indices: &[T], offset: i128) -> Vec<[i64; 2]> {
        let place = |value: i128| indices.partition_point(|v| v.to_i128() < value);
        let partners = |value: T| place(value.to_i128() + offset)..place(value.to_i128() + offset + 1);
        indices.iter().enumerate().flat_map(|(i, &v)| partners(v).map(move |j| [i as i64, j as i64])).collect()
    }

    #[test]
    fn maps_of_every_length_around_words_and_lines_give_all_pairs() {
        for span in [1i64, 2, 63, 64, 65, 127, 128, 129, 8191, 8192, 8193, 20_000] {
            let indices: Vec<i64> = (-7..span - 7).filter(|v| v % 3 != 0 || v + 8 == span || *v == -7).collect();
            for offset in [0, 1, 63, 64, 65, 8192, span - 1, span, span + 1, span * 2] {
                for level in Level::ALL {
                    set_level(level);
                    assert_eq!(pairs_of(2, &indices, offset.into()), searched(&indices, offset.into()));
                    assert_eq!(pairs_of(2, &indices, (-offset).into()), searched(&indices, (-offset).into()));
                }
            }
        }
    }

    #[test]
    fn maps_of_more_lines_than_there_are_marks_give_all_pairs() {
        let noise = |i: i64| (i.wrapping_mul(0x9E37_79B9) >> 7) % 6;
        let indices: Vec<i64> = (0..700_000).map(|i| i * 6 + noise(i) - 1_000_003).collect();
        for (level, threads) in Level::ALL.into_iter().zip([1, 2, 1]) {
            set_level(level);
            for offset in [5, 1_000_000] {
                assert!(pairs_of(threads, &indices, offset) == searched(&indices, offset));
            }
        }
    }

    #[test]
    fn dense_lists_with_voids_and_lists_with_equal_entries_give_all_pairs() {
        let island = |first: i32| (first..first + 40_000).filter(|v| v % 5 != 1);
        let mut indices: Vec<i32> = island(-50_000).chain(island(700_000)).chain(island(1_000_000)).collect();
        for equal in [false, true] {
            if equal {
                // At the border of two items.
                indices[1 << 15] = indices[(1 << 15) - 1];
            }
            for offset in [0, 1, -1, 7, -750_000, 300_003, 1_049_999] {
                for level in Level::ALL {
                    set_level(level);
                    assert!(pairs_of(2, &indices, offset) == searched(&indices, offset));
                }
            }
        }
    }

    #[test]
    fn lists_out_of_order_anywhere_are_sorted() {
        for k in [1, 1000, 8191, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 69_998] {
            for step in [1, 100] {
                let mut indices: Vec<i64> = (0..70_000).map(|v| v * step).collect();
                let sorted = searched(&indices, (3 * step).into());
                indices.swap(k, k + 1);
                let back = |i: i64| {
                    if i == k as i64 {
                        i + 1
                    } else if i == k as i64 + 1 {
                        i - 1
                    } else {
                        i
                    }
                };
                let mut expected: Vec<_> = sorted.into_iter().map(|pair| pair.map(back)).collect();
                expected.sort_unstable();
                assert!(pairs_of(2, &indices, (3 * step).into()) == expected);
            }
        }
    }

    #[test]
    fn the_ends_of_the_types_are_values_as_any_other() {
        let low: Vec<i64> = (0..300).map(|k| i64::MIN + k * 2).collect();
        let high: Vec<u64> = (0..300).map(|k| u64::MAX - 600 + k * 2).collect();
        let both = [i64::MIN, -1, 0, i64::MAX];
        let bytes: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        for level in Level::ALL {
            set_level(level);
            for offset in
                [0, 2, -2, 64, -128, 255, 256, -255, i128::from(u64::MAX), -i128::from(u64::MAX), 1 << 63, 1 << 64]
            {
                assert_eq!(pairs_of(2, &low, offset), searched(&low, offset));
                assert_eq!(pairs_of(2, &high, offset), searched(&high, offset));
                assert_eq!(pairs_of(1, &both, offset), searched(&both, offset));
                assert_eq!(pairs_of(1, &bytes, offset), searched(&bytes, offset));
                assert_eq!(pairs_of(1, &bytes[3..4], offset), searched(&bytes[3..4], offset));
                assert_eq!(pairs_of::<u16>(1, &[], offset), [[0; 2]; 0]);
            }
        }
    }

    #[test]
    fn partners_in_another_block_are_found() {
        let indices: Vec<i32> = (0..300_000).map(|i| i * 2).collect();
        let view = SourceView::from_slice(&indices, &[indices.len()]);
        let expected: Vec<i64> = (0..100_000).flat_map(|i| [i, i + 200_000]).collect();
        assert_eq!(pairs(2, &view, 400_000), expected);
        let expected: Vec<i64> = (200_000..300_000).flat_map(|i| [i, i - 200_000]).collect();
        assert_eq!(pairs(2, &view, -400_000), expected);
    }

    #[test]
    fn an_offset_out_of_the_type_leads_to_no_partner() {
        let indices = [i32::MAX - 1, i32::MAX];
        assert_eq!(pairs(1, &SourceView::from_slice(&indices, &[2]), 2), [0i64; 0]);
        assert_eq!(pairs(1, &SourceView::from_slice(&indices, &[2]), i64::from(u32::MAX)), [0i64; 0]);
    }
}
