//! Positions grouped by the id that stands at each: a stable counting sort.
//!
//! ```text
//! cut the ids into parts
//! for each part, in parallel:   count[part][id] = how often the id is in it
//! for each id, rising, for each part in order:   the next count[part][id] entries of the sink are that part's
//! for each part, in parallel:   write each position to the next entry of its part and id
//! ```
//!
//! 1. The entries of an id in a part are a slice of their own, so that threads write without locks. Positions rise
//!    inside of each slice and slices follow each other as the parts do, so that the result is stable and does not
//!    depend on how many parts there are: there may be as many as suit the threads.
//! 2. Ids need not be small, or near each other, or positive: each part gives those it meets numbers ([`slots`]), and
//!    only the list of ids is sorted. Where they are near each other, as they mostly are, an id less the smallest is its
//!    number.
//! 3. Ids are taken four by four: four that are equal are counted, and written, at once, so that an id that is repeated
//!    does not wait each time for its own last count.
//! 4. Nothing is known of ids before they are counted, and nothing is trusted after: an id that another thread has
//!    changed meanwhile is an error, never a write to another place.
//!
//! A list that does not fit in memory is counted window by window ([`Tally::merge`]) and written window by window
//! ([`Tally::positions`]), each behind what the windows before it wrote.

mod means;
mod slots;

use std::ops::Range;
use std::slice::IterMut;

use megalith_core::blocks::{BLOCK, ranges, zeros};
use megalith_core::dtype::Integer;
use megalith_core::{Error, Result, SinkView, SourceView, Workers};

pub use means::{Means, block_rows};
use slots::{BUFFER, Near, Slots, flip, key_of, near};

use crate::sort::sort;

/// Ids in a part at least: fewer are counted sooner than they are divided.
const PART: usize = 1 << 18;

/// Ids in a part at most: counters have 32 bits.
const LONGEST_PART: usize = 1 << 31;

/// Parts for each thread, so that one whose processor is taken away holds up the others by a quarter of its work.
const PARTS_PER_THREAD: usize = 4;

/// Ids that are looked at together.
const QUAD: usize = 4;

/// How often an id is in a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: u64,
    part: u32,
    slot: u32,
    count: u32,
}

/// A list cut into parts, and the ids of each counted.
#[derive(Debug, Default)]
struct Parts {
    len: usize,
    ranges: Vec<Range<usize>>,
    slots: Vec<Slots>,
    /// By id, then by part.
    entries: Vec<Entry>,
}

/// The ids of a list and how often each is there.
#[derive(Debug)]
pub struct Tally {
    /// Rising, as [`key_of`] makes them.
    keys: Vec<u64>,
    counts: Vec<usize>,
    flip: u64,
    /// How a list that was counted at once is cut, so that it need not be counted again.
    parts: Option<Parts>,
}

/// Count the ids of a list.
///
/// # Shapes
/// `ids (n)`.
///
/// # Errors
/// [`Error::Memory`], [`Error::Cancelled`].
///
/// # Cost
/// One pass; 64 bytes for each different id of each part, and 4 MiB at most of tables for each part, with up to four
/// parts for each thread.
///
/// # Source
/// `numpy.unique(ids, return_counts=True)`.
pub fn count<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>) -> Result<Tally> {
    let parts = Parts::count::<T>(workers, ids)?;
    let (mut keys, mut counts) = (Vec::new(), Vec::new());
    for entries in parts.entries.chunk_by(|a, b| a.key == b.key) {
        keys.push(entries[0].key);
        counts.push(entries.iter().map(|entry| entry.count as usize).sum());
    }
    Ok(Tally { keys, counts, flip: flip::<T>(), parts: Some(parts) })
}

impl Parts {
    fn count<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>) -> Result<Self> {
        let len = ids.len();
        let most = if workers.threads() == 1 { 1 } else { PARTS_PER_THREAD * workers.threads() };
        let n = (len / PART).clamp(1, most).max(len.div_ceil(LONGEST_PART));
        // Whole blocks, so that each block of a strided list is gathered once.
        let ranges: Vec<_> = ranges(len, len.div_ceil(n).next_multiple_of(BLOCK).max(1)).collect();
        let counted = workers.map(ranges.clone(), |range| count_part::<T>(workers, ids, range))?;
        let mut entries = zeros::<Entry>(counted.iter().map(|(_, counts)| counts.len()).sum())?;
        let mut rest = entries.iter_mut();
        for (part, (slots, counts)) in counted.iter().enumerate() {
            for (slot, (&key, &count)) in slots.keys().iter().zip(counts).enumerate() {
                if let Some(entry) = rest.next() {
                    *entry = Entry { key, part: part as u32, slot: slot as u32, count };
                }
            }
        }
        sort(workers, &mut entries)?;
        let slots = counted.into_iter().map(|(slots, _)| slots).collect();
        Ok(Self { len, ranges, slots, entries })
    }
}

/// The ids of a part and how often each is there.
fn count_part<T: Integer>(
    workers: &Workers<'_>,
    ids: &SourceView<'_>,
    part: Range<usize>,
) -> Result<(Slots, Vec<u32>)> {
    let (mut slots, mut scratch, mut numbers) = (Slots::default(), Vec::new(), [0; BUFFER]);
    let mut counts: Vec<u32> = Vec::new();
    for block in blocks(part) {
        workers.check()?;
        let ids = ids.values::<T>(block, &mut scratch);
        // Where the ids of the blocks before are, then where these are: to see that costs half as much as counting.
        let attempt = |near| Some((near, count_near(ids, near)?));
        let counted = slots.near().and_then(attempt).or_else(|| near(ids).and_then(attempt));
        if let Some((near, block)) = counted {
            for (i, count) in block.into_iter().enumerate().filter(|&(_, count)| count > 0) {
                let slot = slots.find(near.base + i as u64)?;
                counts.resize(slots.keys().len(), 0);
                counts[slot] += count;
            }
            continue;
        }
        for ids in ids.chunks(BUFFER) {
            let numbers = &mut numbers[..ids.len()];
            slots.find_all(ids, numbers)?;
            counts.resize(slots.keys().len(), 0);
            for &number in &*numbers {
                counts[number as usize] += 1;
            }
        }
    }
    Ok((slots, counts))
}

/// How often each of the keys is there, None if others are there too.
fn count_near<T: Integer>(ids: &[T], near: Near) -> Option<Vec<u32>> {
    let mut counts = vec![0; near.len];
    let (quads, last) = ids.as_chunks::<QUAD>();
    for &[a, b, c, d] in quads {
        if a == b && c == d && b == c {
            *counts.get_mut(near.number_of(a))? += QUAD as u32;
        } else {
            for id in [a, b, c, d] {
                *counts.get_mut(near.number_of(id))? += 1;
            }
        }
    }
    for &id in last {
        *counts.get_mut(near.number_of(id))? += 1;
    }
    Some(counts)
}

/// Blocks of a part.
fn blocks(part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    ranges(part.len(), BLOCK).map(move |block| part.start + block.start..part.start + block.end)
}

impl Tally {
    /// How many different ids there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How often each id is there, in their order.
    #[must_use]
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The ids, rising; those of unsigned 64-bit lists as the bits that they are.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        self.keys.iter().map(|key| (key ^ self.flip) as i64)
    }

    /// Add the ids of another stretch of the same list.
    ///
    /// # Cost
    /// A pass over both lists of ids.
    pub fn merge(&mut self, other: &Self) {
        let (mut keys, mut counts) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        while i < self.len() || j < other.len() {
            let (a, b) = (self.keys.get(i), other.keys.get(j));
            let mut count = 0;
            let key = match (a, b) {
                (Some(&a), Some(&b)) => a.min(b),
                (Some(&key), None) | (None, Some(&key)) => key,
                (None, None) => break,
            };
            if a == Some(&key) {
                count += self.counts[i];
                i += 1;
            }
            if b == Some(&key) {
                count += other.counts[j];
                j += 1;
            }
            keys.push(key);
            counts.push(count);
        }
        (self.keys, self.counts, self.parts) = (keys, counts, None);
    }

    /// Write the positions of each id, rising, one id after the other.
    ///
    /// `ids` are the list that was counted, or the next stretch of it; `first` is the position of its first entry, and
    /// `cursors` where in the sink the next position of each id goes, moved on for the stretch behind.
    ///
    /// # Shapes
    /// `ids (n)`, `cursors (n_ids)`, `sink (n_all)`, as long as all that was counted.
    ///
    /// # Errors
    /// [`Error::Shape`] if sink or cursors have another length; [`Error::Argument`] if the list has changed since it was
    /// counted; [`Error::Memory`], [`Error::Cancelled`].
    ///
    /// # Cost
    /// One pass over the ids (two for a stretch of a list), one over the sink; as [`count`], and 16 bytes for each id of
    /// each part.
    ///
    /// # Source
    /// `numpy.argsort(ids, kind="stable")`; phylib's `_spikes_per_cluster`.
    pub fn positions<T: Integer>(
        &self,
        workers: &Workers<'_>,
        ids: &SourceView<'_>,
        first: usize,
        cursors: &mut [i64],
        sink: SinkView<'_>,
    ) -> Result<()> {
        let total = self.counts.iter().sum::<usize>();
        let misfit = |name, got: &[usize], n: usize| Error::Shape {
            name,
            got: format!("shape {got:?}"),
            expected: format!("a contiguous ({n},) of int64"),
        };
        if cursors.len() != self.len() {
            return Err(misfit("cursors", &[cursors.len()], self.len()));
        }
        if sink.shape() != [total] {
            return Err(misfit("sink", sink.shape(), total));
        }
        let mut rest = sink.into_mut_slice::<i64>().map_err(|view| misfit("sink", view.shape(), total))?;
        let again;
        let parts = match &self.parts {
            Some(parts) if parts.len == ids.len() => parts,
            _ => {
                again = Parts::count::<T>(workers, ids)?;
                &again
            }
        };
        let near: Vec<_> = parts.slots.iter().map(Slots::near).collect();
        let lengths =
            near.iter().zip(&parts.slots).map(|(near, slots)| near.map_or(slots.keys().len(), |near| near.len));
        let mut slices: Vec<Vec<IterMut<'_, i64>>> =
            lengths.map(|n| std::iter::repeat_with(IterMut::default).take(n).collect()).collect();
        // Where `rest` begins in the sink, the id that is being dealt with, and where its entries end.
        let (mut done, mut i, mut end) = (0, 0, self.counts.first().copied().unwrap_or(0));
        for entry in &parts.entries {
            while self.keys.get(i).is_some_and(|&key| key < entry.key) {
                i += 1;
                end += self.counts.get(i).copied().unwrap_or(0);
            }
            let count = entry.count as usize;
            let start = cursors.get(i).and_then(|&cursor| usize::try_from(cursor).ok()).unwrap_or(usize::MAX);
            let is_known = self.keys.get(i) == Some(&entry.key);
            if !is_known || start < done || start > end || count > end - start {
                return Err(changed());
            }
            let (slice, behind) = std::mem::take(&mut rest)[start - done..].split_at_mut(count);
            let part = entry.part as usize;
            let number = near[part].map_or(entry.slot as usize, |near| near.number(entry.key));
            slices[part][number] = slice.iter_mut();
            (rest, done) = (behind, start + count);
            cursors[i] = done as i64;
        }
        let items = parts.ranges.iter().zip(&parts.slots).zip(near).zip(slices).collect();
        workers.for_each(items, |(((part, slots), near), mut slices)| {
            let (mut scratch, mut numbers) = (Vec::new(), [0; BUFFER]);
            let mut position = (first + part.start) as i64;
            for block in blocks(part.clone()) {
                workers.check()?;
                let ids = ids.values::<T>(block, &mut scratch);
                if let Some(near) = near {
                    write_near(ids, near, &mut slices, &mut position).ok_or_else(changed)?;
                    continue;
                }
                for ids in ids.chunks(BUFFER) {
                    slots.look_up(ids, &mut numbers[..ids.len()]);
                    for &number in &numbers[..ids.len()] {
                        let slot = slices.get_mut(number as usize).and_then(Iterator::next);
                        *slot.ok_or_else(changed)? = position;
                        position += 1;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Write positions from `position` on into the slices of their keys, None if one of these is full.
fn write_near<T: Integer>(ids: &[T], near: Near, slices: &mut [IterMut<'_, i64>], position: &mut i64) -> Option<()> {
    let (quads, last) = ids.as_chunks::<QUAD>();
    for &[a, b, c, d] in quads {
        if a == b && c == d && b == c {
            let slice = slices.get_mut(near.number_of(a))?;
            let (slots, rest) = std::mem::take(slice).into_slice().split_first_chunk_mut::<QUAD>()?;
            *slots = [*position, *position + 1, *position + 2, *position + 3];
            *slice = rest.iter_mut();
        } else {
            for (i, id) in (0..).zip([a, b, c, d]) {
                *slices.get_mut(near.number_of(id))?.next()? = *position + i;
            }
        }
        *position += QUAD as i64;
    }
    for &id in last {
        *slices.get_mut(near.number_of(id))?.next()? = *position;
        *position += 1;
    }
    Some(())
}

fn changed() -> Error {
    let got = "a list that was changed by another thread".to_owned();
    Error::Argument { name: "ids", got, expected: "one that stays as it is".to_owned() }
}

/// Where each id is in a table of ids: its position there, the last if it is there more than once, or -1.
///
/// # Shapes
/// `ids (n0..nk)`, `table (n)`, `sink (n0..nk)` of int64.
///
/// # Errors
/// [`Error::Shape`] if the sink has another shape or is not contiguous; [`Error::Memory`], [`Error::Cancelled`].
///
/// # Cost
/// One pass over ids and sink; 32 bytes for each entry of the table, and 4 MiB at most.
///
/// # Source
/// phylib's `_index_of`, which does not check.
pub fn index_of<T: Integer>(
    workers: &Workers<'_>,
    ids: &SourceView<'_>,
    table: &[i128],
    sink: SinkView<'_>,
) -> Result<()> {
    let mut slots = Slots::default();
    let mut places: Vec<i64> = Vec::new();
    for (i, id) in table.iter().enumerate() {
        // An id that the type cannot hold is not in the list.
        let Some(id) = T::from_i128(*id) else { continue };
        let slot = slots.find(key_of(id))?;
        if slot == places.len() {
            places.push(0);
        }
        places[slot] = i as i64;
    }
    let shape_error = |got: &[usize]| Error::Shape {
        name: "sink",
        got: format!("shape {got:?}"),
        expected: format!("a contiguous {:?} of int64", ids.shape()),
    };
    if sink.shape() != ids.shape() {
        return Err(shape_error(sink.shape()));
    }
    let out = sink.into_mut_slice::<i64>().map_err(|view| shape_error(view.shape()))?;
    let view = ids.clone().coalesce();
    let items = ranges(view.len(), BLOCK).zip(out.chunks_mut(BLOCK)).collect();
    workers.for_each_with(items, Vec::new, |scratch, (range, out)| {
        let mut numbers = [0; BUFFER];
        for (ids, out) in view.values::<T>(range, scratch).chunks(BUFFER).zip(out.chunks_mut(BUFFER)) {
            let numbers = &mut numbers[..ids.len()];
            slots.look_up(ids, numbers);
            for (place, &number) in out.iter_mut().zip(&*numbers) {
                *place = places.get(number as usize).copied().unwrap_or(-1);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
