//! Bits by one comparison of a vector.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_cmpgt_epi8, _mm256_movemask_epi8, _mm256_setzero_si256, _mm512_test_epi8_mask,
};

use bytemuck::cast;

use super::WORD;

/// See [`super::pack`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack_avx512(flags: &[[u8; WORD]], words: &mut [u64]) {
    for (flags, word) in flags.iter().zip(words) {
        let flags: __m512i = cast(*flags);
        *word = _mm512_test_epi8_mask(flags, flags);
    }
}

/// See [`super::pack`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pack_avx2(flags: &[[u8; WORD]], words: &mut [u64]) {
    for (flags, word) in flags.iter().zip(words) {
        let [low, high]: [[u8; 32]; 2] = cast(*flags);
        let (low, high) = (half_of(cast(low)), half_of(cast(high)));
        *word = low | high << 32;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn half_of(flags: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(_mm256_cmpgt_epi8(flags, _mm256_setzero_si256())).cast_unsigned())
}
