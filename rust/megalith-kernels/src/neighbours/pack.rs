//! Bytes of 0 and 1 into bits, 64 in a word.

use crate::simd::multiversion;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bits of a word.
pub(super) const WORD: usize = 64;

#[cfg(target_arch = "x86_64")]
multiversion! {
    /// The bits of each 64 flags, which become 0.
    pub(super) fn pack[](flags: &mut [[u8; WORD]], words: &mut [u64]) -> ()
        = plain_pack, avx512 = x86::pack_avx512, avx2 = x86::pack_avx2
}
#[cfg(not(target_arch = "x86_64"))]
pub(super) use plain_pack as pack;

#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn plain_pack(flags: &mut [[u8; WORD]], words: &mut [u64]) {
    // Eight bytes of 0 or 1 in little-endian order times this: their bits in order in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    for (flags, word) in flags.iter_mut().zip(words) {
        *word = 0;
        for (k, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
            *word |= u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56 << (8 * k);
        }
        *flags = [0; WORD];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    #[test]
    fn each_flag_becomes_its_bit_at_every_level() {
        let expected: Vec<u64> =
            (0..200u64).map(|k| k.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(k as u32)).collect();
        let flags: Vec<[u8; WORD]> =
            expected.iter().map(|word| std::array::from_fn(|bit| (word >> bit & 1) as u8)).collect();
        for level in Level::ALL {
            set_level(level);
            let mut words = vec![u64::MAX; expected.len()];
            let mut flags = flags.clone();
            pack(&mut flags, &mut words);
            assert_eq!(words, expected);
            assert!(flags.iter().flatten().all(|&flag| flag == 0));
        }
    }
}
