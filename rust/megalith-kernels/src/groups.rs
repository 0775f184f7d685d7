//! Positions grouped by the id that stands at each: a stable counting sort, or, where most ids differ, one by
//! digits ([`order`]).
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
mod order;
mod parts;
mod places;
mod slots;

use std::ops::Range;

use megalith_core::blocks::{BLOCK, ranges};
use megalith_core::dtype::Integer;
use megalith_core::{Error, Result, SinkView, SourceView, Workers};

pub use means::{Means, block_rows};
pub use places::index_of;

use order::Order;
use parts::Parts;
use slots::flip;

/// Ids in a part at least: fewer are counted sooner than they are divided.
const PART: usize = 1 << 18;

/// Ids in a part at most: counters have 32 bits.
const LONGEST_PART: usize = 1 << 31;

/// Parts for each thread, so that one whose processor is taken away holds up the others by a quarter of its work.
const PARTS_PER_THREAD: usize = 4;

/// Ids that are looked at together.
const QUAD: usize = 4;

/// The ids of a list and how often each is there.
#[derive(Debug)]
pub struct Tally {
    /// Rising, as [`slots::key_of`] makes them.
    keys: Vec<u64>,
    counts: Vec<usize>,
    flip: u64,
    /// Of a list that was counted at once, so that it need not be counted again.
    found: Option<Found>,
}

/// What is known of a list once it was looked at.
#[derive(Debug)]
enum Found {
    Counted(Parts),
    /// Ids that are near each other.
    Near(Order<u64>),
    /// Any other ids.
    Far(Order<u128>),
}

impl Found {
    fn of<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>) -> Result<Self> {
        if let Some(parts) = Parts::count::<T>(workers, ids)? {
            return Ok(Self::Counted(parts));
        }
        let (low, high) = order::span::<T>(workers, ids)?;
        let is_near = (high - low).leading_zeros() >= order::position_bits(ids.len());
        Ok(if is_near {
            Self::Near(Order::of::<T>(workers, ids, (low, high))?)
        } else {
            Self::Far(Order::of::<T>(workers, ids, (low, high))?)
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Counted(parts) => parts.len(),
            Self::Near(order) => order.len(),
            Self::Far(order) => order.len(),
        }
    }
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
/// parts for each thread. Where more than an eighth of the ids of a part are different, two passes for each
/// byte in which ids differ, and 32 bytes for each entry.
///
/// # Source
/// `numpy.unique(ids, return_counts=True)`.
pub fn count<T: Integer>(workers: &Workers<'_>, ids: &SourceView<'_>) -> Result<Tally> {
    let found = Found::of::<T>(workers, ids)?;
    let (keys, counts) = match &found {
        Found::Counted(parts) => parts.totals(),
        Found::Near(order) => order.totals(workers)?,
        Found::Far(order) => order.totals(workers)?,
    };
    Ok(Tally { keys, counts, flip: flip::<T>(), found: Some(found) })
}

/// Parts of a list of so many ids: whole blocks, so that each block of a strided list is gathered once.
fn cut(workers: &Workers<'_>, len: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let most = if workers.threads() == 1 { 1 } else { PARTS_PER_THREAD * workers.threads() };
    let n = (len / PART).clamp(1, most).max(len.div_ceil(LONGEST_PART));
    ranges(len, len.div_ceil(n).next_multiple_of(BLOCK).max(1))
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
        (self.keys, self.counts, self.found) = (keys, counts, None);
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
    /// counted, unless it was sorted then and need not be looked at again; [`Error::Memory`], [`Error::Cancelled`].
    ///
    /// # Cost
    /// One pass over the ids (for a stretch of a list as [`count`] besides), one over the sink; 16 bytes for each id of
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
        let sink = sink.into_mut_slice::<i64>().map_err(|view| misfit("sink", view.shape(), total))?;
        let again;
        let found = match &self.found {
            Some(found) if found.len() == ids.len() => found,
            _ => {
                again = Found::of::<T>(workers, ids)?;
                &again
            }
        };
        let totals = (&self.keys[..], &self.counts[..]);
        match found {
            Found::Counted(parts) => parts.write::<T>(workers, ids, totals, first, cursors, sink),
            Found::Near(order) => order.write(workers, totals, first, cursors, sink),
            Found::Far(order) => order.write(workers, totals, first, cursors, sink),
        }
    }
}

fn changed() -> Error {
    let got = "a list that was changed by another thread".to_owned();
    Error::Argument { name: "ids", got, expected: "one that stays as it is".to_owned() }
}

#[cfg(test)]
mod tests;
