//! Lists in which ids repeat: those of each part are counted, and each position is written where its id goes.

use std::ops::Range;
use std::slice::IterMut;

use megalith_core::blocks::zeros;
use megalith_core::dtype::Integer;
use megalith_core::{Result, SourceView, Workers};

use super::slots::{BUFFER, Near, Slots, near};
use super::{QUAD, blocks, changed, cut};
use crate::simd::prefetch_entry;
use crate::sort::sort;

/// Counting is given up where more than one in so many ids of a part is different from all before...
const SHARE: usize = 8;

/// ... but for so many, of which there are counters in the first-level cache.
const FEW: usize = 1 << 12;

/// Entries behind the one that is written to that whose memory is asked for: many lines are waited for at a time then,
/// where stores would wait for few.
const AHEAD: usize = 8;

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
pub(super) struct Parts {
    len: usize,
    ranges: Vec<Range<usize>>,
    slots: Vec<Slots>,
    /// By id, then by part.
    entries: Vec<Entry>,
}

impl Parts {
    /// Count the ids of a list; None if too many of them are different.
    pub(super) fn count<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>) -> Result<Option<Self>> {
        let len = ids.len();
        let ranges: Vec<_> = cut(workers, len).collect();
        let most = (ranges.first().map_or(0, Range::len) / SHARE).max(FEW);
        let counted = workers.map(ranges.clone(), |range| count_part::<T>(workers, ids, range, most))?;
        let Some(counted) = counted.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
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
        Ok(Some(Self { len, ranges, slots, entries }))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The keys, rising, and how often each is there.
    pub(super) fn totals(&self) -> (Vec<u64>, Vec<usize>) {
        let entries = self.entries.chunk_by(|a, b| a.key == b.key);
        entries
            .map(|entries| (entries[0].key, entries.iter().map(|entry| entry.count as usize).sum::<usize>()))
            .collect()
    }

    /// Write the positions, from `first` on, where the cursors of their keys say.
    pub(super) fn write<T: Integer>(
        &self,
        workers: &Workers<'_>,
        ids: &SourceView<'_>,
        (keys, counts): (&[u64], &[usize]),
        first: usize,
        cursors: &mut [i64],
        sink: &mut [i64],
    ) -> Result<()> {
        let mut rest = sink;
        let near: Vec<_> = self.slots.iter().map(Slots::near).collect();
        let lengths =
            near.iter().zip(&self.slots).map(|(near, slots)| near.map_or(slots.keys().len(), |near| near.len));
        let mut slices: Vec<Vec<IterMut<'_, i64>>> =
            lengths.map(|n| std::iter::repeat_with(IterMut::default).take(n).collect()).collect();
        // Where `rest` begins in the sink, the id that is being dealt with, and where its entries end.
        let (mut done, mut i, mut end) = (0, 0, counts.first().copied().unwrap_or(0));
        for entry in &self.entries {
            while keys.get(i).is_some_and(|&key| key < entry.key) {
                i += 1;
                end += counts.get(i).copied().unwrap_or(0);
            }
            let count = entry.count as usize;
            let start = cursors.get(i).and_then(|&cursor| usize::try_from(cursor).ok()).unwrap_or(usize::MAX);
            let is_known = keys.get(i) == Some(&entry.key);
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
        let items = self.ranges.iter().zip(&self.slots).zip(near).zip(slices).collect();
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

/// The ids of a part and how often each is there; None if more than `most` of them are different.
fn count_part<T: Integer>(
    workers: &Workers<'_>,
    ids: &SourceView<'_>,
    part: Range<usize>,
    most: usize,
) -> Result<Option<(Slots, Vec<u32>)>> {
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
            if slots.keys().len() > most {
                return Ok(None);
            }
            counts.resize(slots.keys().len(), 0);
            for &number in &*numbers {
                counts[number as usize] += 1;
            }
        }
    }
    Ok(Some((slots, counts)))
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

/// Ask for the memory of an entry that is written soon, in what is left of a slice.
fn ask(rest: &[i64]) {
    prefetch_entry(rest, AHEAD - 1);
}

/// Write positions from `position` on into the slices of their keys, None if one of these is full.
fn write_near<T: Integer>(ids: &[T], near: Near, slices: &mut [IterMut<'_, i64>], position: &mut i64) -> Option<()> {
    let (quads, last) = ids.as_chunks::<QUAD>();
    for &[a, b, c, d] in quads {
        if a == b && c == d && b == c {
            let slice = slices.get_mut(near.number_of(a))?;
            let (slots, rest) = std::mem::take(slice).into_slice().split_first_chunk_mut::<QUAD>()?;
            *slots = [*position, *position + 1, *position + 2, *position + 3];
            ask(rest);
            *slice = rest.iter_mut();
        } else {
            for (i, id) in (0..).zip([a, b, c, d]) {
                let slice = slices.get_mut(near.number_of(id))?;
                *slice.next()? = *position + i;
                ask(slice.as_slice());
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
