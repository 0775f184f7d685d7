//! Bits by comparison: AVX2 has no product of 64-bit words, but takes the highest bits of bytes.

use std::arch::x86_64::_mm256_movemask_epi8;

use super::{WORD, bits_with};

/// See [`super::make_bits`].
#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
pub(super) fn make_bits<T: Copy>(values: &[T], words: &mut [u64], is_hit: &impl Fn(T) -> bool) -> usize {
    bits_with(values, words, is_hit, |chunk| word_of(chunk, is_hit))
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
fn word_of<T: Copy>(values: &[T; WORD], is_hit: &impl Fn(T) -> bool) -> u64 {
    let mut flags = [[0i8; WORD / 2]; 2];
    for (flag, &value) in flags.as_flattened_mut().iter_mut().zip(values) {
        *flag = -i8::from(is_hit(value));
    }
    let [low, high] = flags.map(|half| _mm256_movemask_epi8(bytemuck::cast(half)).cast_unsigned());
    u64::from(high) << 32 | u64::from(low)
}
