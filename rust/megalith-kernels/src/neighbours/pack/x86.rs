//! Bits by one comparison of a vector.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_set1_epi8, _mm512_cmpeq_epi8_mask,
    _mm512_set1_epi8,
};

use bytemuck::cast;

use super::WORD;

/// See [`super::pack`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack_avx512(flags: &[[u8; WORD]], mark: u8, words: &mut [u64]) {
    let marks: __m512i = _mm512_set1_epi8(mark.cast_signed());
    for (flags, word) in flags.iter().zip(words) {
        *word = _mm512_cmpeq_epi8_mask(cast(*flags), marks);
    }
}

/// See [`super::pack`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pack_avx2(flags: &[[u8; WORD]], mark: u8, words: &mut [u64]) {
    let marks = _mm256_set1_epi8(mark.cast_signed());
    let half = |flags: [u8; 32]| {
        let flags: __m256i = cast(flags);
        u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(flags, marks)).cast_unsigned())
    };
    for (flags, word) in flags.iter().zip(words) {
        let [low, high]: [[u8; 32]; 2] = cast(*flags);
        *word = half(low) | half(high) << 32;
    }
}
