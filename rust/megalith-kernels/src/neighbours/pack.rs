//! Bytes that are equal to a mark into bits, 64 in a word.

use crate::simd::multiversion;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bits of a word.
pub(super) const WORD: usize = 64;

#[cfg(target_arch = "x86_64")]
multiversion! {
    /// Which of each 64 flags are `mark`.
    pub(super) fn pack[](flags: &[[u8; WORD]], mark: u8, words: &mut [u64]) -> ()
        = plain_pack, avx512 = x86::pack_avx512, avx2 = x86::pack_avx2
}
#[cfg(not(target_arch = "x86_64"))]
pub(super) use plain_pack as pack;

#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn plain_pack(flags: &[[u8; WORD]], mark: u8, words: &mut [u64]) {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // Eight bytes of 0 or 1 in little-endian order times this: their bits in order in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    for (flags, word) in flags.iter().zip(words) {
        *word = 0;
        for (k, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
            let other = u64::from_le_bytes(*eight) ^ u64::from_le_bytes([mark; 8]);
            let equal = !(((other & LOW) + LOW) | other | LOW) >> 7;
            *word |= equal.wrapping_mul(GATHER) >> 56 << (8 * k);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    #[test]
    fn each_byte_that_is_the_mark_becomes_a_bit_at_every_level() {
        let expected: Vec<u64> =
            (0..200u64).map(|k| k.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(k as u32)).collect();
        for mark in [0u8, 1, 0x7f, 0x80, 0xff] {
            let other = |k: usize, bit: usize| [mark ^ 1, mark ^ 0x80, !mark, mark.wrapping_add(1)][(k + bit) % 4];
            let flag = |k: usize, bit: usize| if expected[k] >> bit & 1 == 1 { mark } else { other(k, bit) };
            let flags: Vec<[u8; WORD]> = (0..expected.len()).map(|k| std::array::from_fn(|bit| flag(k, bit))).collect();
            for level in Level::ALL {
                set_level(level);
                let mut words = vec![u64::MAX; expected.len()];
                pack(&flags, mark, &mut words);
                assert_eq!(words, expected);
            }
        }
    }
}
