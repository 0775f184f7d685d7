//! Sixteen or 64 cells looked up at once.

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm512_add_epi8, _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_castsi256_si512, _mm512_cmpneq_epi8_mask, _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_or_si512,
    _mm512_permutexvar_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_test_epi8_mask,
};

use bytemuck::cast;

use super::{ByteWorth, FULL, WIDTH, Worth};

#[inline]
#[target_feature(enable = "avx512f")]
fn load(cells: &[u8], offset: usize) -> __m512i {
    let mut block = [0; WIDTH];
    block.copy_from_slice(&cells[offset..offset + WIDTH]);
    cast(block)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn sum(cells: &[u8], taps: &[(usize, Worth)], sums: &mut [i32]) {
    let whole: i32 = taps.iter().map(|(_, worth)| worth[7]).sum();
    let full = _mm512_set1_epi8(FULL as i8);
    for (k, sums) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let cells = &cells[k * WIDTH..];
        let (mut or, mut and) = (_mm512_setzero_si512(), full);
        for &(offset, _) in taps {
            let block = load(cells, offset);
            or = _mm512_or_si512(or, block);
            and = _mm512_and_si512(and, block);
        }
        if _mm512_test_epi8_mask(or, or) == 0 {
            *sums = [0; WIDTH];
            continue;
        }
        if _mm512_cmpneq_epi8_mask(and, full) == 0 {
            *sums = [whole; WIDTH];
            continue;
        }
        let zero = _mm512_setzero_si512();
        let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
        for (offset, worth) in taps {
            let block = load(cells, *offset);
            let worth = _mm512_castsi256_si512(cast::<Worth, __m256i>(*worth));
            // Cells are below eight: the upper half of the table is never looked at.
            let look_up = |cells: __m128i| _mm512_permutexvar_epi32(_mm512_cvtepu8_epi32(cells), worth);
            a = _mm512_add_epi32(a, look_up(_mm512_extracti32x4_epi32::<0>(block)));
            b = _mm512_add_epi32(b, look_up(_mm512_extracti32x4_epi32::<1>(block)));
            c = _mm512_add_epi32(c, look_up(_mm512_extracti32x4_epi32::<2>(block)));
            d = _mm512_add_epi32(d, look_up(_mm512_extracti32x4_epi32::<3>(block)));
        }
        *sums = cast([a, b, c, d]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn sum_bytes(cells: &[u8], taps: &[(usize, ByteWorth)], sums: &mut [u8]) {
    for (k, sums) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let cells = &cells[k * WIDTH..];
        let mut sum = _mm512_setzero_si512();
        for (offset, worth) in taps {
            let worth = _mm512_broadcast_i32x4(cast::<ByteWorth, __m128i>(*worth));
            sum = _mm512_add_epi8(sum, _mm512_shuffle_epi8(worth, load(cells, *offset)));
        }
        *sums = cast(sum);
    }
}
