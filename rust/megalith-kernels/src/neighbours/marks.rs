//! The pairs of a list that rises, without a branch that anybody could guess wrong.
//!
//! Entries moved by the offset and the entries themselves are two rising lists, and a pair is a value that both have.
//! The merge of the two is cut into parts of equal length, each part into some walks that are made side by side, so
//! that the processor has something to do while one of them waits for its comparison:
//!
//! ```text
//! corners of parts and walks: by bisection along a diagonal, "merge path"
//! for each part, in parallel:  repeat:  for each of its walks at (i, j):
//!     v = list[i] + offset;  u = list[j]
//!     mark_i[i] = mark_j[j] = (u == v)        written again and again, until the walk moves on
//!     i += (u >= v);  j += (u <= v)
//! ```
//!
//! The k-th marked i and the k-th marked j are the k-th pair of a part: two bits an entry are all that is kept until
//! the pairs are written.

use std::ops::Range;

use megalith_core::blocks::{BLOCK, ranges};
use megalith_core::dtype::Integer;
use megalith_core::{Result, Workers};

use super::pack::{WORD, pack};
use super::rises;
use crate::simd::multiversion;

#[cfg(target_arch = "x86_64")]
mod avx512;

/// Steps of a part: marks, as bytes, stay in the second-level cache.
const PART: usize = 1 << 17;
/// Walks that are made side by side.
const WALKS: usize = 3;
/// Positions of marks that are found at once.
const CHUNK: usize = 2048;

/// The pairs of a part of the merge.
#[derive(Debug)]
pub(super) struct Part {
    /// Where the marks begin in the list.
    first: [usize; 2],
    /// 64 in a word: of the entries that have a partner, and of the partners.
    marks: [Vec<u64>; 2],
    pub(super) count: usize,
}

/// The two lists that are merged.
struct Merge<'a, T> {
    /// Entries whose partner is neither below nor above all entries, and the entries that may be partners.
    entries: &'a [T],
    partners: &'a [T],
    offset: i64,
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn moved<T: Integer>(value: T, offset: i64) -> T {
    T::from_index(value.to_wrapped_i64().wrapping_add(offset) as usize)
}

/// Find all pairs of a list; None if it does not rise.
pub(super) fn find<T: Integer>(workers: &Workers<'_>, values: &[T], offset: i128) -> Result<Option<Vec<Part>>> {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return Ok(Some(Vec::new())) };
    let (first, last) = (first.to_i128(), last.to_i128());
    let place = |from: i128| values.partition_point(|value| value.to_i128() < from);
    let i = place(first.saturating_sub(offset))..place(last.saturating_sub(offset).saturating_add(1));
    let j = place(first.saturating_add(offset))..place(last.saturating_add(offset).saturating_add(1));
    // The parts look at the order of the entries in `i`.
    let inside = if i.is_empty() || j.is_empty() { 0..0 } else { i.clone() };
    let outside = [0..inside.start, inside.end..values.len()];
    let blocks = outside
        .into_iter()
        .flat_map(|list| ranges(list.len(), BLOCK).map(move |r| list.start + r.start..list.start + r.end));
    let is_rising =
        |range: Range<usize>| rises(&values[range.start.min(values.len())..values.len().min(range.end + 1)]);
    if workers.map(blocks.collect(), |range| Ok(is_rising(range)))?.contains(&false) {
        return Ok(None);
    }
    if i.is_empty() || j.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let merge = Merge { entries: &values[i.clone()], partners: &values[j.clone()], offset: offset as i64 };
    let steps = merge.entries.len() + merge.partners.len();
    let parts = (0..steps.div_ceil(PART)).collect();
    let parts = workers.map(parts, |part| {
        let (from, to) = (part * PART, ((part + 1) * PART).min(steps));
        let mut corners: [_; WALKS + 1] = std::array::from_fn(|k| merge.corner(from + (to - from) * k / WALKS));
        for k in 0..WALKS {
            // They rise by themselves, unless somebody writes into the list.
            corners[k + 1] = [corners[k + 1][0].max(corners[k][0]), corners[k + 1][1].max(corners[k][1])];
        }
        let ([i0, j0], [i1, j1]) = (corners[0], corners[WALKS]);
        if !is_rising(i.start + i0..i.start + i1) {
            return Ok(None);
        }
        let mut marks = [vec![0; i1 - i0], vec![0; j1 - j0]];
        walk(merge.entries, merge.partners, merge.offset, &corners, &mut marks);
        let marks = marks.map(|marks| packed(&marks));
        // As many of the ones as of the others, unless somebody writes into the list.
        let ones = |marks: &[u64]| marks.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        let count = ones(&marks[0]).min(ones(&marks[1]));
        Ok(Some(Part { first: [i.start + i0, j.start + j0], marks, count }))
    })?;
    Ok(parts.into_iter().collect())
}

impl<T: Integer> Merge<'_, T> {
    /// How many entries and partners are behind when `steps` are made; both of a pair, or none.
    fn corner(&self, steps: usize) -> [usize; 2] {
        let (mut low, mut high) = (steps.saturating_sub(self.partners.len()), steps.min(self.entries.len()));
        while low < high {
            let i = low + (high - low) / 2;
            if moved(self.entries[i], self.offset) <= self.partners[steps - i - 1] {
                low = i + 1;
            } else {
                high = i;
            }
        }
        let mut corner = [low, steps - low];
        if low > 0 && self.partners.get(corner[1]) == Some(&moved(self.entries[low - 1], self.offset)) {
            corner[1] += 1;
        }
        corner
    }
}

multiversion!(fn walk[T: Integer](
    entries: &[T], partners: &[T], offset: i64, corners: &[[usize; 2]; WALKS + 1], marks: &mut [Vec<u8>; 2],
) -> () = plain_walk);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_walk<T: Integer>(
    entries: &[T],
    partners: &[T],
    offset: i64,
    corners: &[[usize; 2]; WALKS + 1],
    marks: &mut [Vec<u8>; 2],
) {
    let [marks_i, marks_j] = marks;
    let (entries, partners) = (&entries[corners[0][0]..corners[WALKS][0]], &partners[corners[0][1]..corners[WALKS][1]]);
    let (marks_i, marks_j) = (&mut marks_i[..entries.len()], &mut marks_j[..partners.len()]);
    let mut at: [[usize; 2]; WALKS] =
        std::array::from_fn(|k| [corners[k][0] - corners[0][0], corners[k][1] - corners[0][1]]);
    let ends: [[usize; 2]; WALKS] =
        std::array::from_fn(|k| [corners[k + 1][0] - corners[0][0], corners[k + 1][1] - corners[0][1]]);
    let mut step = |at: &mut [usize; 2]| {
        let [i, j] = *at;
        let (v, u) = (moved(entries[i], offset), partners[j]);
        let is_pair = u8::from(u == v);
        marks_i[i] = is_pair;
        marks_j[j] = is_pair;
        *at = [i + usize::from(u >= v), j + usize::from(u <= v)];
    };
    loop {
        // So many steps lead none of the walks to its end.
        let left = at.iter().zip(&ends).map(|(at, end)| (end[0] - at[0]).min(end[1] - at[1])).min().unwrap_or(0);
        if left < 16 {
            break;
        }
        for _ in 0..left {
            let [a, b, c] = &mut at;
            step(a);
            step(b);
            step(c);
        }
    }
    for (at, end) in at.iter_mut().zip(&ends) {
        while at[0] < end[0] && at[1] < end[1] {
            step(at);
        }
    }
}

/// The bits of bytes of 0 and 1, 64 in a word.
fn packed(marks: &[u8]) -> Vec<u64> {
    let mut words = vec![0; marks.len().div_ceil(WORD)];
    let (whole, rest) = marks.as_chunks::<WORD>();
    pack(whole, 1, &mut words);
    if let Some(word) = words.get_mut(whole.len()) {
        *word = rest.iter().enumerate().map(|(bit, &mark)| u64::from(mark) << bit).sum();
    }
    words
}

/// The positions of marks, a few thousand at a time.
struct Positions<'a> {
    words: &'a [u64],
    /// The position that the words begin with.
    first: usize,
    found: Vec<u32>,
    len: usize,
}

impl<'a> Positions<'a> {
    fn new(words: &'a [u64]) -> Self {
        Self { words, first: 0, found: vec![0; 2 * CHUNK], len: 0 }
    }

    /// Find more, until there are enough or no marks are left.
    fn more(&mut self) {
        while self.len + 64 <= self.found.len() && !self.words.is_empty() {
            let n = ((self.found.len() - self.len) / 64).min(self.words.len());
            let (words, rest) = self.words.split_at(n);
            self.len += expand(words, self.first as u32, &mut self.found[self.len..]);
            (self.words, self.first) = (rest, self.first + 64 * n);
        }
    }

    /// Forget the first `n`.
    fn drop(&mut self, n: usize) {
        self.found.copy_within(n..self.len, 0);
        self.len -= n;
    }
}

#[cfg(target_arch = "x86_64")]
multiversion!(fn expand[](words: &[u64], first: u32, found: &mut [u32]) -> usize
    = plain_expand, avx512 = avx512::expand);
#[cfg(not(target_arch = "x86_64"))]
use plain_expand as expand;

/// The positions of the bits, where the first has the position `first`; returns how many. There is room for 64 a word.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_expand(words: &[u64], first: u32, found: &mut [u32]) -> usize {
    let mut len = 0;
    for (k, &word) in words.iter().enumerate() {
        let mut left = word;
        let base = first + 64 * k as u32;
        let count = word.count_ones() as usize;
        for slot in &mut found[len..len + count] {
            *slot = base + left.trailing_zeros();
            left &= left.wrapping_sub(1);
        }
        len += count;
    }
    len
}

multiversion!(fn zip[](i: &[u32], j: &[u32], first: [usize; 2], out: &mut [[i64; 2]]) -> () = plain_zip);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_zip(i: &[u32], j: &[u32], first: [usize; 2], out: &mut [[i64; 2]]) {
    let [first_i, first_j] = first.map(|first| first as i64);
    for ((&i, &j), out) in i.iter().zip(j).zip(out) {
        *out = [first_i + i64::from(i), first_j + i64::from(j)];
    }
}

impl Part {
    /// Write the pairs; there is room for as many as were counted.
    pub(super) fn fill(&self, mut out: &mut [[i64; 2]]) {
        let [mut i, mut j] = [Positions::new(&self.marks[0]), Positions::new(&self.marks[1])];
        while !out.is_empty() {
            i.more();
            j.more();
            let n = i.len.min(j.len).min(out.len());
            let (now, rest) = out.split_at_mut(n);
            zip(&i.found[..n], &j.found[..n], self.first, now);
            i.drop(n);
            j.drop(n);
            out = rest;
        }
    }
}
