//! Bits by one comparison of a vector.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_cmpgt_epi8, _mm256_movemask_epi8, _mm256_setzero_si256, _mm512_test_epi8_mask,
};

use bytemuck::cast;

use super::WORD;

/// See [`super::pack`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack_avx512(flags: &mut [[u8; WORD]], words: &mut [u64]) {
    for (flags, word) in flags.iter_mut().zip(words) {
        let bytes: __m512i = cast(*flags);
        *word = _mm512_test_epi8_mask(bytes, bytes);
        *flags = [0; WORD];
    }
}

/// See [`super::pack`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pack_avx2(flags: &mut [[u8; WORD]], words: &mut [u64]) {
    for (flags, word) in flags.iter_mut().zip(words) {
        let [low, high]: [[u8; 32]; 2] = cast(*flags);
        let (low, high) = (half_of(cast(low)), half_of(cast(high)));
        *word = low | high << 32;
        *flags = [0; WORD];
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn half_of(flags: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(_mm256_cmpgt_epi8(flags, _mm256_setzero_si256())).cast_unsigned())
}
