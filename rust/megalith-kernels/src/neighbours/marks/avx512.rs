//! The positions of the bits of a word by one compression.

use std::arch::x86_64::{
    __m128i, __m512i, _mm512_add_epi32, _mm512_castsi512_si128, _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32,
    _mm512_maskz_compress_epi8, _mm512_set1_epi32,
};

use bytemuck::cast;

use crate::simd::avx512::IOTA;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
pub(super) fn expand(words: &[u64], first: u32, found: &mut [u32]) -> usize {
    let iota: __m512i = cast(IOTA);
    let mut len = 0;
    for (k, &word) in words.iter().enumerate() {
        if word == 0 {
            continue;
        }
        let bits = _mm512_maskz_compress_epi8(word, iota);
        let base = _mm512_set1_epi32((first + 64 * k as u32) as i32);
        // What lies beyond the last bit is overwritten by the next word.
        let slots = found[len..len + 64].as_chunks_mut::<16>().0;
        let place = |bits: __m128i| cast::<__m512i, [u32; 16]>(_mm512_add_epi32(base, _mm512_cvtepu8_epi32(bits)));
        let count = word.count_ones() as usize;
        slots[0] = place(_mm512_castsi512_si128(bits));
        if count > 16 {
            slots[1] = place(_mm512_extracti32x4_epi32::<1>(bits));
        }
        if count > 32 {
            slots[2] = place(_mm512_extracti32x4_epi32::<2>(bits));
            slots[3] = place(_mm512_extracti32x4_epi32::<3>(bits));
        }
        len += count;
    }
    len
}
