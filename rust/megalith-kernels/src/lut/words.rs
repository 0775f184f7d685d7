//! Sources of more than one byte: indices of any size, tables of any length.
//!
//! ```text
//! for each group of 16:   all like the first or the last (labels come in runs)?   two entries, one or the other
//!                         else   an entry for each
//!                         one of them outside of the table?   by the rule of the mode, or stop
//! ```
//!
//! 1. Groups with two values cost two loads instead of sixteen, and no branch that runs of any length could deceive.
//! 2. Each value is read, compared with the length of the table, and used: a branch that is never taken. Many loads
//!    from a large table are so under way at once; where the processor can load sixteen entries by one instruction, more.
//! 3. Of a table that caches do not hold, entries are asked for some groups ahead: a load that waits for memory keeps the
//!    processor from seeing many groups at once. What is asked for there need not exist, and is not what is used.

#[cfg(target_arch = "x86_64")]
mod avx512;

use megalith_core::Pod;
use megalith_core::dtype::Integer;

use super::{Mode, index_of};
use crate::simd::{multiversion, prefetch_entry};

/// Values that are compared with each other, and whose entries are loaded at once.
const GROUP: usize = 16;
/// How many groups ahead of the one that is looked up entries are asked for, and the bytes of a table from which on that
/// pays: caches do not hold much of it.
const AHEAD: usize = 6;
const FAR: usize = 1 << 23;

#[cfg(target_arch = "x86_64")]
multiversion!(
    /// `out[i] = lut[values[i]]`; the first value without an entry is the error.
    pub(super) fn look_up[S: Integer, L: Pod](
        values: &[S], lut: &[L], mode: Mode, out: &mut [L],
    ) -> Result<(), S> = plain, avx512 = avx512::look_up
);
#[cfg(not(target_arch = "x86_64"))]
multiversion!(
    /// `out[i] = lut[values[i]]`; the first value without an entry is the error.
    pub(super) fn look_up[S: Integer, L: Pod](
        values: &[S], lut: &[L], mode: Mode, out: &mut [L],
    ) -> Result<(), S> = plain
);

multiversion!(
    /// Whether all values are indices of a table of `size` entries.
    pub(super) fn are_inside[S: Integer](values: &[S], size: usize) -> bool = plain_are_inside
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_are_inside<S: Integer>(values: &[S], size: usize) -> bool {
    let Some(last) = size.checked_sub(1) else { return values.is_empty() };
    let last = S::from_i128((last as i128).min(S::MAX)).unwrap_or_default();
    let zero = S::default();
    let (low, high) = values.iter().fold((zero, zero), |(low, high), &value| (low.min(value), high.max(value)));
    low >= zero && high <= last
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain<S: Integer, L: Pod>(values: &[S], lut: &[L], mode: Mode, out: &mut [L]) -> Result<(), S> {
    // Inlined, so that it is compiled for the level too.
    by_groups(
        values,
        lut,
        mode,
        out,
        #[inline(always)]
        |group, slots| if of_two(group, lut, slots) { Ok(()) } else { of_each(group, lut, mode, slots) },
    )
}

/// [`look_up`], with a way to load the entries of a group.
#[inline(always)]
#[allow(clippy::inline_always)]
fn by_groups<S: Integer, L: Pod>(
    values: &[S],
    lut: &[L],
    mode: Mode,
    out: &mut [L],
    load: impl Fn(&[S; GROUP], &mut [L; GROUP]) -> Result<(), S>,
) -> Result<(), S> {
    assert_eq!(values.len(), out.len(), "a slot for each value");
    let (groups, tail) = values.as_chunks::<GROUP>();
    let (slots, rest) = out.as_chunks_mut::<GROUP>();
    // Values of two bytes reach no more entries than caches hold.
    let is_far = size_of::<S>() > 2 && size_of_val(lut) >= FAR;
    for (k, (group, slots)) in groups.iter().zip(slots).enumerate() {
        if is_far && let Some(next) = groups.get(k + AHEAD) {
            fetch(next, lut);
        }
        load(group, slots)?;
    }
    of_each(tail, lut, mode, rest)
}

/// Ask for the memory of the entries of a group: of the first and the last, and, if there are others, of all.
#[inline(always)]
#[allow(clippy::inline_always)]
fn fetch<S: Integer, L>(group: &[S; GROUP], lut: &[L]) {
    let ask = |value: S| prefetch_entry(lut, value.to_wrapped_i64() as usize);
    ask(group[0]);
    ask(group[GROUP - 1]);
    if !are_two(group) {
        for &value in group {
            ask(value);
        }
    }
}

/// Whether all values are like the first or the last.
#[inline(always)]
#[allow(clippy::inline_always, clippy::needless_bitwise_bool)] // Compared as vectors, not one after the other.
fn are_two<S: Integer>(group: &[S; GROUP]) -> bool {
    let [first, last] = [group[0], group[GROUP - 1]];
    group.iter().fold(true, |are, &value| are & ((value == first) | (value == last)))
}

/// The entries of a group of one or two values; returns whether it is one, with both inside of the table.
#[inline(always)]
#[allow(clippy::inline_always)]
fn of_two<S: Integer, L: Pod>(group: &[S; GROUP], lut: &[L], slots: &mut [L; GROUP]) -> bool {
    are_two(group) && of_ends(group, lut, slots)
}

/// The entries of a group whose values are the first or the last; returns whether both are inside of the table.
#[inline(always)]
#[allow(clippy::inline_always)]
fn of_ends<S: Integer, L: Pod>(group: &[S; GROUP], lut: &[L], slots: &mut [L; GROUP]) -> bool {
    let ends = [group[0], group[GROUP - 1]];
    let [Some(&first), Some(&last)] = ends.map(|value| entry(value, lut)) else { return false };
    for (slot, &value) in slots.iter_mut().zip(group) {
        *slot = if value == ends[0] { first } else { last };
    }
    true
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn of_each<S: Integer, L: Pod>(values: &[S], lut: &[L], mode: Mode, out: &mut [L]) -> Result<(), S> {
    for (slot, &value) in out.iter_mut().zip(values) {
        *slot = match entry(value, lut) {
            Some(&found) => found,
            None => by_mode(value, lut, mode)?,
        };
    }
    Ok(())
}

/// [`of_each`] for a group that has a value that is no index of the table. Were it inlined, the values of every group
/// would be put aside for it.
#[cfg(target_arch = "x86_64")]
#[cold]
#[inline(never)]
fn of_rest<S: Integer, L: Pod>(group: &[S; GROUP], lut: &[L], mode: Mode, slots: &mut [L; GROUP]) -> Result<(), S> {
    of_each(group, lut, mode, slots)
}

/// The entry of a value that is no index of the table.
#[cold]
#[inline(never)]
fn by_mode<S: Integer, L: Pod>(value: S, lut: &[L], mode: Mode) -> Result<L, S> {
    index_of(value, lut.len(), mode).and_then(|i| lut.get(i)).copied().ok_or(value)
}

/// The entry of a value that is an index of the table; a negative one is larger than every table.
#[inline(always)]
#[allow(clippy::inline_always)]
fn entry<S: Integer, L>(value: S, lut: &[L]) -> Option<&L> {
    lut.get(value.to_wrapped_i64() as usize)
}
