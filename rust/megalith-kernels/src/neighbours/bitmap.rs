//! The pairs of a list that rises and has few gaps: 64 values at once, without a search or a comparison of entries.
//!
//! The list becomes a map with a bit for each value from its first, or a little before, to its last. The values that have
//! a partner are then the map *and* the same map moved by the offset, and the place of a value in the list is the number
//! of bits before it:
//!
//! ```text
//! for each item of entries, in parallel:   flags[value] = mark, a byte each;  words = bits of flags
//!                                          rank = number of entries before each line of words
//! for each block of words, in parallel:    count = popcount(low & high),  high = the word `distance` bits further
//! for each block of words, in parallel:    for each bit of low & high:
//!     pair = rank + popcount(low below the bit),  rank of high + popcount(high below the bit)
//! ```
//!
//! 1. An item begins with a word, so that no two write the same one; its first entries may stand before its own.
//! 2. Each entry is compared with the next on the way. If one is not below the next, the map is given up.
//! 3. An offset below zero is the same with both places exchanged.
//! 4. What an item has both partners of is counted while it is in the cache, the rest when all of the map is made.
//! 5. The pairs are written from the map alone, so that a list that another thread changes is read no second time.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use megalith_core::blocks::{split_mut, zeros};
use megalith_core::dtype::Integer;
use megalith_core::{Result, Workers};

use super::pack::{WORD, pack};
use super::plain_rises;
use crate::scratch::Mask;
use crate::simd::{multiversion, prefetch};

#[cfg(target_arch = "x86_64")]
mod avx512;

/// Words whose bits are flags at first: 8 KiB of them, which stay in the first-level cache.
const LINE: usize = 128;
/// Words of a line of memory.
const WORDS: usize = 8;
/// Values of a line.
const VALUES: usize = LINE * WORD;
/// Entries that make flags without a look at the end of the line.
const STEP: usize = 16;
/// Entries of an item.
const ITEM: usize = 1 << 15;
/// Bytes ahead that memory is asked for: processors do not read on by themselves beyond the end of a page.
const AHEAD: usize = 4096;
/// Words of a block that is counted, some lines.
const BLOCK: usize = 32 * LINE;
/// A map is made where there are no more bits than so many an entry.
const BITS: usize = 24;
/// Bytes of the result that one item writes: two huge pages.
const PART: usize = 1 << 22;
/// Items for a result of fewer bytes than so many parts.
const PARTS: usize = 16;

/// The flags of a line, and the words made of them. Vectors of flags lie in one line of memory each.
#[derive(Debug)]
#[repr(C, align(64))]
struct Flags {
    bytes: [u8; VALUES],
    words: [u64; LINE],
    /// What a flag of the line is: of each line something else, so that flags need not be cleared before all have been.
    mark: u8,
}

impl Flags {
    fn new() -> Box<Self> {
        Box::new(Self { bytes: [0; VALUES], words: [0; LINE], mark: 0 })
    }

    /// Begin a line: no flag is set.
    fn clear(&mut self) {
        self.mark = self.mark.checked_add(1).unwrap_or_else(|| {
            self.bytes.fill(0);
            1
        });
    }
}

/// A bit for each value from the first, or somewhat before, to the last.
#[derive(Debug)]
pub(super) struct Bitmap {
    /// One more than there are values for.
    mask: Mask,
    /// How many entries lie before each line.
    ranks: Vec<usize>,
    /// How far partners lie apart.
    apart: Apart,
    /// Whether the partner is the higher one.
    is_forward: bool,
    /// Words that may have a partner.
    n_low: usize,
}

/// Words and bits that partners lie apart.
#[derive(Clone, Copy, Debug)]
struct Apart {
    words: usize,
    bits: u32,
}

impl Apart {
    /// The words of a range, and those that have their partners: so far further on, and one more.
    fn pair(self, words: &[u64], range: Range<usize>) -> (&[u64], &[u64]) {
        let high = &words[range.start + self.words..=range.end + self.words];
        (&words[range], high)
    }
}

/// The value of the first bit of a map: a multiple of a line's, so that a flag's place in its line is a part of its value.
#[inline(always)]
#[allow(clippy::inline_always)]
fn base_of<T: Integer>(first: T) -> i64 {
    first.to_wrapped_i64() & !(VALUES as i64 - 1)
}

/// Which bit the value is.
#[inline(always)]
#[allow(clippy::inline_always)]
fn bit_of<T: Integer>(value: T, base: i64) -> u64 {
    value.to_wrapped_i64().wrapping_sub(base).cast_unsigned()
}

/// Which flag of its line the value is.
#[inline(always)]
#[allow(clippy::inline_always)]
fn flag_of<T: Integer>(value: T) -> usize {
    value.to_wrapped_i64() as usize % VALUES
}

/// The map of a list, and how many pairs each of its blocks has; None if the list is empty, does not rise or has too many
/// gaps, or if no two values lie so far apart.
pub(super) fn find<T: Integer>(
    workers: &Workers<'_>,
    values: &[T],
    offset: i128,
) -> Result<Option<(Bitmap, Vec<usize>)>> {
    let (Some(&first), Some(&last)) = (values.first(), values.last()) else { return Ok(None) };
    let base = base_of(first);
    let (span, distance) = (bit_of(last, base), offset.unsigned_abs());
    let n_words = (span / WORD as u64) as usize + 1;
    if last < first || distance > u128::from(span) || n_words > (values.len() / WORD * BITS).max(2 * LINE) {
        return Ok(None);
    }
    let distance = distance as u64;
    let mut starts: Vec<usize> =
        values.iter().step_by(ITEM).map(|&value| (bit_of(value, base) / WORD as u64) as usize).collect();
    starts[0] = 0;
    starts.push(n_words);
    if !starts.is_sorted() {
        return Ok(None);
    }
    let (mut mask, mut ranks) = (Mask::new(n_words + 1)?, zeros(n_words.div_ceil(LINE))?);
    mask.words_mut()[n_words] = 0;
    let lengths: Vec<_> = starts.windows(2).map(|ends| ends[1] - ends[0]).collect();
    let lines: Vec<_> = starts.windows(2).map(|ends| ends[1].div_ceil(LINE) - ends[0].div_ceil(LINE)).collect();
    let mut made = vec![None; lengths.len()];
    let n_low = ((span - distance) / WORD as u64) as usize + 1;
    let apart = Apart { words: (distance / WORD as u64) as usize, bits: (distance % WORD as u64) as u32 };
    let counts = Counts { blocks: (0..n_low.div_ceil(BLOCK)).map(|_| AtomicUsize::new(0)).collect(), apart };
    // The last words of an item have partners in the next one.
    let inner = |words: usize| words.saturating_sub(apart.words + 1);
    let items = split_mut(mask.words_mut(), &lengths).into_iter().zip(split_mut(&mut ranks, &lines));
    let items = items.zip(&mut made).enumerate().map(|(k, ((words, ranks), made))| (k, words, ranks, made)).collect();
    workers.for_each_with(items, Flags::new, |flags, (k, words, ranks, made)| {
        *made = make(values, base, k * ITEM, starts[k], words, ranks, flags);
        if made.is_some() {
            counts.add(words, starts[k], 0..inner(words.len()));
        }
        Ok(())
    })?;
    let mut end = 0;
    for range in made {
        match range {
            Some(range) if range.start == end => end = range.end,
            _ => return Ok(None),
        }
    }
    if end != values.len() {
        return Ok(None);
    }
    let words = mask.words();
    let outer = starts.windows(2).map(|ends| ends[0] + inner(ends[1] - ends[0])..ends[1].min(n_low)).collect();
    workers.for_each(outer, |range| {
        counts.add(words, 0, range);
        Ok(())
    })?;
    let counts = counts.blocks.into_iter().map(AtomicUsize::into_inner).collect();
    Ok(Some((Bitmap { mask, ranks, apart, is_forward: offset >= 0, n_low }, counts)))
}

/// How many pairs each block has.
struct Counts {
    blocks: Vec<AtomicUsize>,
    apart: Apart,
}

impl Counts {
    /// Add the pairs whose lower bits are in a range of `words`, the first of which has the number `start`.
    fn add(&self, words: &[u64], start: usize, mut range: Range<usize>) {
        while !range.is_empty() {
            let block = (start + range.start) / BLOCK;
            let part = range.start..range.end.min((block + 1) * BLOCK - start);
            range.start = part.end;
            let (low, high) = self.apart.pair(words, part);
            self.blocks[block].fetch_add(count(low, high, self.apart.bits), Ordering::Relaxed);
        }
    }
}

multiversion! {
    /// Set the bits of the entries from that at `at`, and those before it in the same word; returns which entries, or
    /// None if they do not rise. The words begin with that of number `start`, the first of all with the value `base`.
    fn make[T: Integer](
        values: &[T], base: i64, at: usize, start: usize, words: &mut [u64], ranks: &mut [usize], flags: &mut Flags,
    ) -> Option<Range<usize>> = plain_make
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_make<T: Integer>(
    values: &[T],
    base: i64,
    at: usize,
    start: usize,
    mut words: &mut [u64],
    ranks: &mut [usize],
    flags: &mut Flags,
) -> Option<Range<usize>> {
    let place = |value: T| bit_of(value, base);
    let mut begin = at;
    while begin > 0 && at - begin < WORD && place(values[begin - 1]) / WORD as u64 == start as u64 {
        begin -= 1;
    }
    // More entries than bits cannot rise.
    let most = words.len() * WORD;
    let list = &values[begin..values.len().min(begin + most + 1)];
    let (mut done, mut word, mut ranks) = (0, start, ranks.iter_mut());
    while !words.is_empty() {
        if word.is_multiple_of(LINE)
            && let Some(rank) = ranks.next()
        {
            *rank = begin + done;
        }
        let (line, rest) = words.split_at_mut(words.len().min(LINE - word % LINE));
        // Stores to memory that is not there yet would hold up those of the flags.
        rest.chunks(WORDS).take(LINE / WORDS).for_each(|line| prefetch::<false>(line.as_ptr().addr()));
        let end = ((word + line.len()) * WORD) as u64;
        let before = done;
        flags.clear();
        while let Some(step) = list[done..].first_chunk::<STEP>()
            && place(step[STEP - 1]) < end
        {
            for next in step.chunks(WORDS * size_of::<u64>() / size_of::<T>()) {
                prefetch::<true>(next.as_ptr().addr() + AHEAD);
            }
            for &value in step {
                flags.bytes[flag_of(value)] = flags.mark;
            }
            done += STEP;
        }
        while done < list.len() && place(list[done]) < end {
            flags.bytes[flag_of(list[done])] = flags.mark;
            done += 1;
        }
        if done > before {
            // Not where they belong at once: so many stores would wait for few lines of memory.
            let made = &mut flags.words[..line.len()];
            pack(&flags.bytes.as_chunks().0[word % LINE..], flags.mark, made);
            line.copy_from_slice(made);
            if !plain_rises(&list[before..list.len().min(done + 1)]) || done > most {
                return None;
            }
        } else {
            line.fill(0);
        }
        (word, words) = (word + line.len(), rest);
    }
    Some(begin..begin + done)
}

/// 64 bits from the bit `shift` of a word and the next.
#[inline(always)]
#[allow(clippy::inline_always)]
fn moved(word: u64, next: u64, shift: u32) -> u64 {
    word >> shift | next << 1 << (63 - shift)
}

multiversion!(fn count[](low: &[u64], high: &[u64], shift: u32) -> usize = plain_count);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_count(low: &[u64], high: &[u64], shift: u32) -> usize {
    let (high, next) = (&high[..low.len()], &high[1..=low.len()]);
    (0..low.len()).map(|k| u64::from((low[k] & moved(high[k], next[k], shift)).count_ones())).sum::<u64>() as usize
}

#[cfg(target_arch = "x86_64")]
multiversion! {
    /// Write the pairs of a block, whose words begin with so many entries before them.
    fn write[](low: &[u64], high: &[u64], shift: u32, ranks: [usize; 2], is_forward: bool, out: &mut [[i64; 2]]) -> ()
        = plain_write, avx512 = avx512::write
}
#[cfg(not(target_arch = "x86_64"))]
use plain_write as write;

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_write(low: &[u64], high: &[u64], shift: u32, ranks: [usize; 2], is_forward: bool, out: &mut [[i64; 2]]) {
    let (high, next) = (&high[..low.len()], &high[1..=low.len()]);
    let [mut rank_low, mut rank_high] = ranks;
    let mut done = 0;
    for k in 0..low.len() {
        let (low, high) = (low[k], moved(high[k], next[k], shift));
        let mut left = low & high;
        while left != 0 {
            let Some(slot) = out.get_mut(done) else { return };
            *slot = lowest_pair(left, [low, high], [rank_low, rank_high], is_forward);
            left &= left - 1;
            done += 1;
        }
        rank_low += low.count_ones() as usize;
        rank_high += high.count_ones() as usize;
    }
}

/// The pair of the lowest bit of `hits` in two words that have so many entries before them.
#[inline(always)]
#[allow(clippy::inline_always)]
fn lowest_pair(hits: u64, words: [u64; 2], ranks: [usize; 2], is_forward: bool) -> [i64; 2] {
    let below = (hits & hits.wrapping_neg()).wrapping_sub(1);
    let place = |k: usize| (ranks[k] + (words[k] & below).count_ones() as usize) as i64;
    if is_forward { [place(0), place(1)] } else { [place(1), place(0)] }
}

impl Bitmap {
    /// How many entries lie before a bit.
    fn rank(&self, word: usize, bit: u32) -> usize {
        let words = &self.mask.words()[word - word % LINE..=word];
        let (last, before) = words.split_last().map_or((0, words), |(&last, before)| (last, before));
        let bits: u32 = before.iter().map(|word| word.count_ones()).sum();
        self.ranks[word / LINE] + (bits + (last & ((1 << bit) - 1)).count_ones()) as usize
    }

    /// Write the pairs, of which each block has so many.
    pub(super) fn fill(&self, workers: &Workers<'_>, counts: &[usize], mut out: &mut [[i64; 2]]) -> Result<()> {
        let enough = (size_of_val(out) / PARTS).min(PART) / size_of::<[i64; 2]>();
        let (mut items, mut first) = (Vec::new(), 0);
        let mut n = 0;
        for (block, count) in counts.iter().enumerate() {
            n += count;
            if n > enough || block + 1 == counts.len() {
                let (part, rest) = out.split_at_mut(n);
                items.push((first..block + 1, part));
                (out, first, n) = (rest, block + 1, 0);
            }
        }
        workers.for_each(items, |(blocks, mut out)| {
            for block in blocks {
                let (part, rest) = out.split_at_mut(counts[block]);
                if !part.is_empty() {
                    let (word, Apart { words: far, bits }) = (block * BLOCK, self.apart);
                    let (low, high) = self.apart.pair(self.mask.words(), word..self.n_low.min(word + BLOCK));
                    write(low, high, bits, [self.rank(word, 0), self.rank(word + far, bits)], self.is_forward, part);
                }
                out = rest;
            }
            Ok(())
        })
    }
}
