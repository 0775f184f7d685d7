//! Sources of one byte: the table is spread over all 256 bytes first, whatever they mean, so that no look-up can miss.
//!
//! ```text
//! table[b] = the entry that byte b stands for        limit = the first byte that has none
//! out[i] = table[values[i]]                          bad if the largest byte is limit or more
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use megalith_core::Pod;
use megalith_core::dtype::Integer;

use super::{Mode, index_of};
use crate::simd::multiversion;

/// The entry of each byte.
#[derive(Debug)]
pub(super) struct Bytes<L> {
    table: [L; 256],
    /// The first byte without an entry; all behind it have none either.
    limit: usize,
}

impl<L: Pod> Bytes<L> {
    /// The entries for bytes that are an `S`.
    pub(super) fn new<S: Integer>(lut: &[L], mode: Mode) -> Self {
        let mut table = [L::default(); 256];
        for (byte, slot) in table.iter_mut().enumerate() {
            // Negative ones come last: a byte without an entry is never followed by one that has one.
            let Some(i) = index_of(S::from_index(byte), lut.len(), mode) else { return Self { table, limit: byte } };
            *slot = lut[i];
        }
        Self { table, limit: 256 }
    }

    /// `out[i] = table[values[i]]`; the largest value is the error where it has no entry.
    pub(super) fn look_up(&self, values: &[u8], out: &mut [L]) -> Result<(), u8> {
        assert_eq!(values.len(), out.len(), "a slot for each value");
        let largest = look_up(values, &self.table, out);
        if values.is_empty() || usize::from(largest) < self.limit { Ok(()) } else { Err(largest) }
    }
}

/// The entries of `values`; returns the largest value, or 0.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain<L: bytemuck::Pod>(values: &[u8], table: &[L; 256], out: &mut [L]) -> u8 {
    for (slot, &value) in out.iter_mut().zip(values) {
        *slot = table[usize::from(value)];
    }
    largest(values)
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn largest(values: &[u8]) -> u8 {
    values.iter().fold(0, |largest, &value| largest.max(value))
}

#[cfg(target_arch = "x86_64")]
multiversion!(
    fn look_up[L: bytemuck::Pod](values: &[u8], table: &[L; 256], out: &mut [L]) -> u8
        = plain, avx512 = avx512::look_up, avx2 = avx2::look_up
);
#[cfg(not(target_arch = "x86_64"))]
multiversion!(fn look_up[L: bytemuck::Pod](values: &[u8], table: &[L; 256], out: &mut [L]) -> u8 = plain);
