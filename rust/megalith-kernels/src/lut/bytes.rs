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
        // Most bytes are indices as they are. To ask for each takes longer than a small array.
        let indices = lut.len().min(S::MAX as usize + 1).min(table.len());
        table[..indices].copy_from_slice(&lut[..indices]);
        for (byte, slot) in table.iter_mut().enumerate().skip(indices) {
            // Negative ones come last: a byte without an entry is never followed by one that has one.
            let Some(i) = index_of(S::from_index(byte), lut.len(), mode) else { return Self { table, limit: byte } };
            *slot = lut[i];
        }
        Self { table, limit: 256 }
    }

    /// `out[i] = table[values[i]]`, past the caches if `is_large`; the largest value is the error where it has no entry.
    pub(super) fn look_up(&self, values: &[u8], out: &mut [L], is_large: bool) -> Result<(), u8> {
        assert_eq!(values.len(), out.len(), "a slot for each value");
        let largest = look_up(values, &self.table, out, is_large);
        if values.is_empty() || usize::from(largest) < self.limit { Ok(()) } else { Err(largest) }
    }
}

/// The entries of `values`; returns the largest value, or 0.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain<L: bytemuck::Pod>(values: &[u8], table: &[L; 256], out: &mut [L], _is_large: bool) -> u8 {
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
    fn look_up[L: bytemuck::Pod](values: &[u8], table: &[L; 256], out: &mut [L], is_large: bool) -> u8
        = plain, avx512 = avx512::look_up, avx2 = avx2::look_up
);
#[cfg(not(target_arch = "x86_64"))]
multiversion!(fn look_up[L: bytemuck::Pod](values: &[u8], table: &[L; 256], out: &mut [L], is_large: bool) -> u8 = plain);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    /// Results of each length, beginning anywhere in a line of memory, large ones too.
    fn check<L: Pod + PartialEq + std::fmt::Debug>(entry: impl Fn(usize) -> L) {
        let lut: Vec<L> = (0..256).map(entry).collect();
        let values: Vec<u8> = (0..400usize).map(|k| (k * k * 31 % 253) as u8).collect();
        for (level, is_large) in Level::ALL.into_iter().flat_map(|level| [(level, false), (level, true)]) {
            set_level(level);
            let bytes = Bytes::new::<u8>(&lut, Mode::Raise);
            for (start, len) in (0..64).flat_map(|start| [0, 1, 63, 64, 65, 130, 300].map(|len| (start, len))) {
                let values = &values[start..start + len];
                let mut room = vec![lut[255]; 64 + len];
                bytes.look_up(values, &mut room[start..start + len], is_large).unwrap();
                let expected = values.iter().map(|&value| lut[usize::from(value)]);
                assert!(room[start..start + len].iter().copied().eq(expected));
                assert!(room[..start].iter().chain(&room[start + len..]).all(|&other| other == lut[255]));
            }
        }
    }

    #[test]
    fn bytes_become_entries_of_any_size_wherever_they_go() {
        check(|k| (k * 7 % 256) as u8);
        check(|k| (k * 77) as u16);
        check(|k| (k * 77_777) as u32);
        check(|k| (k as u64) << 40);
    }
}
