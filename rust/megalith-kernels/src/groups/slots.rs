//! Numbers 0, 1, 2, ... for ids in the order in which they are first met.
//!
//! Ids are looked up some thousands at once, into a buffer that stays in the first-level cache: the loop that finds
//! numbers and the loop that does something with them are both short enough for the processor to run far ahead.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use megalith_core::dtype::Integer;
use megalith_core::{Error, Result};

use crate::simd::multiversion;

/// Ids that lie within so many of each other are looked up in a table, others by hash.
pub(super) const DENSE: usize = 1 << 20;

/// Ids that are hashed before the table is moved to where they are.
const PATIENCE: usize = 8;

/// Ids that lie within so many of each other are their own numbers: nothing is looked up.
const NEAR: u64 = 1 << 12;

/// Ids that are looked up at once.
pub(super) const BUFFER: usize = 2048;

/// The number of an id that was not met.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// An id as 64 bits that sort as the ids do.
#[inline]
pub(super) fn key_of<T: Integer>(id: T) -> u64 {
    (id.to_wrapped_i64() as u64) ^ flip::<T>()
}

/// The bits that tell keys from ids: the sign, for all types but the one that has no room for it.
#[inline]
pub(super) fn flip<T: Integer>() -> u64 {
    if T::MAX > i128::from(i64::MAX) { 0 } else { 1 << 63 }
}

/// Keys that lie near each other: `len` of them at most, from `base` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    pub(super) base: u64,
    pub(super) len: usize,
}

impl Near {
    /// The number of a key, `len` or more if it is not one of these.
    #[inline]
    pub(super) fn number(self, key: u64) -> usize {
        key.wrapping_sub(self.base) as usize
    }

    /// The number of an id. Its key is the id plus a bit that may as well be taken from the base.
    #[inline]
    pub(super) fn number_of<T: Integer>(self, id: T) -> usize {
        (id.to_wrapped_i64() as u64).wrapping_sub(self.base ^ flip::<T>()) as usize
    }

    /// All keys between two.
    fn between(low: u64, high: u64) -> Option<Self> {
        (high - low < NEAR).then(|| Self { base: low, len: (high - low) as usize + 1 })
    }
}

/// Where ids are, if they are near each other.
pub(super) fn near<T: Integer>(ids: &[T]) -> Option<Near> {
    let (low, high) = ends(ids)?;
    Near::between(key_of(low), key_of(high))
}

multiversion!(fn ends[T: Integer](ids: &[T]) -> Option<(T, T)> = plain_ends);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_ends<T: Integer>(ids: &[T]) -> Option<(T, T)> {
    let first = *ids.first()?;
    Some(ids.iter().fold((first, first), |(low, high), &id| (low.min(id), high.max(id))))
}

/// A multiplication spreads ids that follow each other; the middle bits are the best mixed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The number of each key.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The key of the first entry of the table.
    base: u64,
    /// Number plus one of each key from `base` on; 0 for keys that were not met.
    dense: Vec<u32>,
    /// Keys that the table does not reach.
    sparse: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    patience: usize,
    /// The keys in the order of their numbers, the smallest and the largest.
    keys: Vec<u64>,
    low: u64,
    high: u64,
}

impl Slots {
    /// The keys in the order of their numbers.
    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Where the keys are, if they are near each other.
    pub(super) fn near(&self) -> Option<Near> {
        if self.keys.is_empty() { None } else { Near::between(self.low, self.high) }
    }

    /// The numbers of ids, [`UNKNOWN`] for those that were not met.
    pub(super) fn look_up<T: Integer>(&self, ids: &[T], numbers: &mut [u32]) {
        if self.in_table(ids, numbers) || self.sparse.is_empty() {
            return;
        }
        for (number, &id) in numbers.iter_mut().zip(ids).filter(|(number, _)| **number == UNKNOWN) {
            *number = self.sparse.get(&key_of(id)).copied().unwrap_or(UNKNOWN);
        }
    }

    /// The numbers of ids, new ones for those that were not met.
    pub(super) fn find_all<T: Integer>(&mut self, ids: &[T], numbers: &mut [u32]) -> Result<()> {
        if self.in_table(ids, numbers) {
            return Ok(());
        }
        for (number, &id) in numbers.iter_mut().zip(ids).filter(|(number, _)| **number == UNKNOWN) {
            *number = self.find(key_of(id))? as u32;
        }
        Ok(())
    }

    /// The numbers that the table has; whether it has all.
    fn in_table<T: Integer>(&self, ids: &[T], numbers: &mut [u32]) -> bool {
        let (base, table) = (self.base, &self.dense[..]);
        let mut all = true;
        for (number, &id) in numbers.iter_mut().zip(ids) {
            let found = table.get(key_of(id).wrapping_sub(base) as usize).copied().unwrap_or(0);
            *number = found.wrapping_sub(1);
            all &= found != 0;
        }
        all
    }

    /// The number of a key that was met.
    fn get(&self, key: u64) -> Option<usize> {
        match self.dense.get(key.wrapping_sub(self.base) as usize) {
            Some(0) => None,
            Some(&slot) => Some(slot as usize - 1),
            None => self.sparse.get(&key).map(|&slot| slot as usize),
        }
    }

    /// The number of a key, a new one if it was not met.
    pub(super) fn find(&mut self, key: u64) -> Result<usize> {
        if let Some(slot) = self.get(key) {
            return Ok(slot);
        }
        let slot = self.keys.len();
        let wanted = (slot + 1).saturating_mul(size_of::<u64>());
        let Some(number) = u32::try_from(slot).ok().filter(|&n| n < UNKNOWN) else {
            return Err(Error::Memory { wanted });
        };
        self.keys.try_reserve(1).map_err(|_| Error::Memory { wanted })?;
        (self.low, self.high) = if slot == 0 { (key, key) } else { (self.low.min(key), self.high.max(key)) };
        self.keys.push(key);
        if self.reach(key) {
            self.dense[(key - self.base) as usize] = number + 1;
            return Ok(slot);
        }
        self.sparse.try_reserve(1).map_err(|_| Error::Memory { wanted })?;
        self.sparse.insert(key, number);
        if self.sparse.len() > self.patience.max(PATIENCE) && self.sparse.len() > self.keys.len() / 2 {
            self.patience = 2 * self.sparse.len();
            self.move_to(key);
        }
        Ok(slot)
    }

    /// Let the table reach a key, if that does not make it too long.
    fn reach(&mut self, key: u64) -> bool {
        if self.dense.is_empty() {
            self.base = key;
        }
        let end = self.base.saturating_add(self.dense.len().max(1) as u64 - 1);
        let (low, high) = (self.base.min(key), end.max(key));
        let span = high - low;
        if span >= DENSE as u64 {
            return false;
        }
        let len = (span as usize + 1).next_power_of_two().max(64);
        if len > self.dense.len() || low < self.base {
            // Longer than needed, on the side where ids were missing, and never beyond the last key there can be.
            let reach = len as u64 - 1;
            let base = if low < self.base { high.saturating_sub(reach) } else { low.min(u64::MAX - reach) };
            let mut dense = vec![0; len];
            let start = if self.dense.is_empty() { 0 } else { (self.base - base) as usize };
            let kept = self.dense.len().min(len - start);
            dense[start..start + kept].copy_from_slice(&self.dense[..kept]);
            (self.base, self.dense) = (base, dense);
        }
        true
    }

    /// Begin the table anew around a key: most keys are not near the one it began with.
    fn move_to(&mut self, key: u64) {
        self.dense.clear();
        self.sparse.clear();
        self.reach(key);
        for i in 0..self.keys.len() {
            let key = self.keys[i];
            if self.reach(key) {
                self.dense[(key - self.base) as usize] = i as u32 + 1;
            } else {
                self.sparse.insert(key, i as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_key_keeps_the_number_it_got_first(
            keys in prop::collection::vec(
                prop_oneof![0u64..40, any::<u64>(), 1u64 << 62..(1 << 62) + 3_000_000, u64::MAX - 9..=u64::MAX], 0..200,
            ),
        ) {
            let (mut slots, mut naive) = (Slots::default(), Vec::new());
            for &key in &keys {
                prop_assert_eq!(slots.get(key), naive.iter().position(|&k| k == key));
                let expected = naive.iter().position(|&k| k == key).unwrap_or(naive.len());
                if expected == naive.len() {
                    naive.push(key);
                }
                prop_assert_eq!(slots.find(key).unwrap(), expected);
            }
            for (i, &key) in naive.iter().enumerate() {
                prop_assert_eq!(slots.get(key), Some(i));
            }
            prop_assert_eq!(slots.keys(), &naive[..]);
            let ends = (naive.iter().min().copied().unwrap_or(0), naive.iter().max().copied().unwrap_or(0));
            prop_assert_eq!((slots.low, slots.high), ends);
            let mut numbers = [vec![0; keys.len()], vec![0; keys.len()]];
            slots.look_up(&keys, &mut numbers[0]);
            Slots::default().find_all(&keys, &mut numbers[1]).unwrap();
            prop_assert_eq!(&numbers[0], &numbers[1]);
        }
    }

    #[test]
    fn an_id_far_from_all_others_does_not_keep_them_out_of_the_table() {
        let mut slots = Slots::default();
        for key in std::iter::once(1 << 62).chain(0..1000) {
            slots.find(key).unwrap();
        }
        assert_eq!(slots.sparse.len(), 1);
    }

    #[test]
    fn keys_sort_as_their_ids() {
        assert!(key_of(-1i8) < key_of(0i8) && key_of(i64::MIN) < key_of(-1i64) && key_of(1u64 << 63) > key_of(7u64));
        assert_eq!(key_of(200u8), key_of(200i64));
        let near = near(&[-3i16, 5, 2]).unwrap();
        assert_eq!((near.len, near.number_of(5i16), near.number(key_of(5i16))), (9, 8, 8));
        assert!(near.number_of(-4i16) >= near.len && near.number_of(6i16) >= near.len);
    }
}
