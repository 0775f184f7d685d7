//! Lists in which most ids differ: positions sorted by id, digit by digit.
//!
//! ```text
//! a word for each position: its id less the smallest, and behind it the position
//! for each digit of the ids, the last first:   a stable counting sort of the words by it, parts in parallel
//! ```
//!
//! 1. Counters of all ids would be as many as the ids, and each position would be written to a line of its own. A digit
//!    has 256 values, whose counters and lines stay in the first-level cache.
//! 2. There are as many digits as the largest word has. A list that is sorted already is left as it is.
//! 3. Ids that are not too far from each other leave room for the position in a word of 64 bits.

use std::ops::Range;
use std::slice::IterMut;

use megalith_core::blocks::{BLOCK, ranges, split_mut, zeros};
use megalith_core::dtype::Integer;
use megalith_core::{Result, SourceView, Workers};

use super::slots::key_of;
use super::{changed, cut};

/// Bits of a digit, and how many values it has.
const DIGIT: u32 = 8;
const VALUES: usize = 1 << DIGIT;

/// A number that holds an id and a position.
pub(super) trait Word: Copy + Default + Ord + Send + Sync {
    fn pack(offset: u64, position: u64, bits: u32) -> Self;

    fn offset(self, bits: u32) -> u64;

    fn position(self, bits: u32) -> u64;
}

macro_rules! impl_word {
    ($($word:ty),*) => {$(
        impl Word for $word {
            #[inline]
            fn pack(offset: u64, position: u64, bits: u32) -> Self {
                (offset as $word) << bits | position as $word
            }

            #[inline]
            fn offset(self, bits: u32) -> u64 {
                (self >> bits) as u64
            }

            #[inline]
            fn position(self, bits: u32) -> u64 {
                (self & ((1 << bits) - 1)) as u64
            }
        }
    )*};
}

impl_word!(u64, u128);

/// The smallest and the largest key of a list that is not empty.
pub(super) fn span<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>) -> Result<(u64, u64)> {
    let spans = workers.map(ranges(ids.len(), BLOCK).collect(), |block| {
        let mut scratch = Vec::new();
        let keys = ids.values::<T>(block, &mut scratch).iter().map(|&id| key_of(id));
        Ok(keys.fold((u64::MAX, 0), |(low, high), key| (low.min(key), high.max(key))))
    })?;
    spans.into_iter().reduce(|(low, high), (a, b)| (low.min(a), high.max(b))).ok_or_else(changed)
}

/// Bits of the positions of a list.
pub(super) fn position_bits(len: usize) -> u32 {
    usize::BITS - len.leading_zeros()
}

/// The positions of a list by their keys, rising; those of a key rise too.
#[derive(Debug)]
pub(super) struct Order<W> {
    low: u64,
    bits: u32,
    words: Vec<W>,
}

impl<W: Word> Order<W> {
    /// Sort a list whose keys lie between two.
    pub(super) fn of<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>, (low, high): (u64, u64)) -> Result<Self> {
        let bits = position_bits(ids.len());
        let mut words = zeros::<W>(ids.len())?;
        let items = ranges(ids.len(), BLOCK).zip(words.chunks_mut(BLOCK)).collect();
        workers.for_each_with(items, Vec::new, |scratch, (block, words)| {
            for ((word, &id), position) in words.iter_mut().zip(ids.values::<T>(block.clone(), scratch)).zip(block) {
                let key = key_of(id);
                if key < low || key > high {
                    return Err(changed());
                }
                *word = W::pack(key - low, position as u64, bits);
            }
            Ok(())
        })?;
        // A pass of its own: a list that is not sorted shows it soon.
        if !words.is_sorted() {
            let parts: Vec<_> = cut(workers, words.len()).collect();
            let mut sorted = zeros::<W>(words.len())?;
            let end = bits + u64::BITS - (high - low).leading_zeros();
            for shift in (bits..end).step_by(DIGIT as usize) {
                sort_by_digit(workers, &words, &mut sorted, &parts, |word| word.offset(shift) as usize % VALUES)?;
                std::mem::swap(&mut words, &mut sorted);
            }
        }
        Ok(Self { low, bits, words })
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// The keys, rising, and how often each is there.
    pub(super) fn totals(&self, workers: &Workers<'_>) -> Result<(Vec<u64>, Vec<usize>)> {
        let pieces = self.pieces();
        let lengths = workers.map(pieces.clone(), |piece| Ok(self.runs(piece).count()))?;
        let n = lengths.iter().sum();
        let (mut keys, mut counts) = (zeros(n)?, zeros(n)?);
        let sinks = split_mut(&mut keys, &lengths).into_iter().zip(split_mut(&mut counts, &lengths));
        workers.for_each(pieces.into_iter().zip(sinks).collect(), |(piece, (keys, counts))| {
            for (run, (key, count)) in self.runs(piece).zip(keys.iter_mut().zip(counts)) {
                (*key, *count) = (self.key(run[0]), run.len());
            }
            Ok(())
        })?;
        Ok((keys, counts))
    }

    /// Write the positions, from `first` on, where the cursors of their keys say.
    pub(super) fn write(
        &self,
        workers: &Workers<'_>,
        (keys, counts): (&[u64], &[usize]),
        first: usize,
        cursors: &mut [i64],
        sink: &mut [i64],
    ) -> Result<()> {
        let (mut items, mut start) = (Vec::new(), 0);
        let (mut keys, mut counts, mut cursors, mut sink) = (keys, counts, cursors, sink);
        for piece in self.pieces() {
            // All keys up to the last of the piece, with their counts, their cursors and their part of the sink.
            let last = self.key(self.words[piece.end - 1]);
            let n = keys.partition_point(|&key| key <= last);
            let (own_keys, more_keys) = keys.split_at(n);
            let (own_counts, more_counts) = counts.split_at(n);
            let (own_cursors, more_cursors) = cursors.split_at_mut(n);
            let (own_sink, more_sink) = sink.split_at_mut(own_counts.iter().sum());
            let len = own_sink.len();
            items.push((piece, start, own_keys, own_counts, own_cursors, own_sink));
            (keys, counts, cursors, sink) = (more_keys, more_counts, more_cursors, more_sink);
            start += len;
        }
        workers.for_each(items, |(piece, begin, keys, counts, cursors, sink)| {
            let (mut i, mut start) = (0, 0);
            for run in self.runs(piece) {
                let key = self.key(run[0]);
                while keys.get(i).is_some_and(|&other| other < key) {
                    start += counts[i];
                    i += 1;
                }
                if keys.get(i) != Some(&key) {
                    return Err(changed());
                }
                let end = start + counts[i];
                let at = usize::try_from(cursors[i]).ok().and_then(|cursor| cursor.checked_sub(begin));
                let slots = at.filter(|&at| at >= start).and_then(|at| sink[..end].get_mut(at..at + run.len()));
                for (slot, word) in slots.ok_or_else(changed)?.iter_mut().zip(run) {
                    *slot = first as i64 + word.position(self.bits) as i64;
                }
                cursors[i] += run.len() as i64;
            }
            Ok(())
        })
    }

    fn key(&self, word: W) -> u64 {
        self.low + word.offset(self.bits)
    }

    /// The words of each key of a piece.
    fn runs(&self, piece: Range<usize>) -> impl Iterator<Item = &[W]> {
        self.words[piece].chunk_by(|a, b| a.offset(self.bits) == b.offset(self.bits))
    }

    /// Cut into pieces, each with all words of its keys.
    fn pieces(&self) -> Vec<Range<usize>> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        while start < self.words.len() {
            let least = (start + BLOCK).min(self.words.len());
            let last = self.words[least - 1].offset(self.bits);
            let end = least + self.words[least..].partition_point(|word| word.offset(self.bits) == last);
            pieces.push(start..end);
            start = end;
        }
        pieces
    }
}

/// Sort by one digit, keeping what is equal as it stands.
fn sort_by_digit<W: Word>(
    workers: &Workers<'_>,
    words: &[W],
    sink: &mut [W],
    parts: &[Range<usize>],
    digit: impl Fn(W) -> usize + Sync,
) -> Result<()> {
    let counts = workers.map(parts.to_vec(), |part| {
        let mut counts = [0usize; VALUES];
        for block in words[part].chunks(BLOCK) {
            workers.check()?;
            for &word in block {
                counts[digit(word)] += 1;
            }
        }
        Ok(counts)
    })?;
    let mut slices: Vec<Vec<IterMut<'_, W>>> = parts.iter().map(|_| Vec::with_capacity(VALUES)).collect();
    let mut rest = sink;
    for value in 0..VALUES {
        for (slices, counts) in slices.iter_mut().zip(&counts) {
            let (slice, behind) = rest.split_at_mut(counts[value]);
            slices.push(slice.iter_mut());
            rest = behind;
        }
    }
    workers.for_each(parts.iter().cloned().zip(slices).collect(), |(part, mut slices)| {
        for block in words[part].chunks(BLOCK) {
            workers.check()?;
            for &word in block {
                if let Some(slot) = slices[digit(word)].next() {
                    *slot = word;
                }
            }
        }
        Ok(())
    })
}
