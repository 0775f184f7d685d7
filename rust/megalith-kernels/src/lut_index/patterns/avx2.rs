//! Eight or 32 cells looked up at once.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi64_si128, _mm256_add_epi8, _mm256_add_epi32, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_cvtepu8_epi32, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
};

use bytemuck::cast;

use super::{ByteWorth, FULL, WIDTH, Worth};

#[inline]
fn block(cells: &[u8], offset: usize) -> [u8; WIDTH] {
    let mut block = [0; WIDTH];
    block.copy_from_slice(&cells[offset..offset + WIDTH]);
    block
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum(cells: &[u8], taps: &[(usize, Worth)], sums: &mut [i32]) {
    let whole: i32 = taps.iter().map(|(_, worth)| worth[7]).sum();
    let (zero, full) = (_mm256_setzero_si256(), _mm256_set1_epi8(FULL as i8));
    let is_all = |pair: [__m256i; 2], value| {
        let [a, b] = pair.map(|v| _mm256_cmpeq_epi8(v, value));
        _mm256_movemask_epi8(_mm256_and_si256(a, b)) == -1
    };
    for (k, sums) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let cells = &cells[k * WIDTH..];
        let (mut or, mut and) = ([zero; 2], [full; 2]);
        for &(offset, _) in taps {
            let [a, b]: [__m256i; 2] = cast(block(cells, offset));
            or = [_mm256_or_si256(or[0], a), _mm256_or_si256(or[1], b)];
            and = [_mm256_and_si256(and[0], a), _mm256_and_si256(and[1], b)];
        }
        if is_all(or, zero) {
            *sums = [0; WIDTH];
            continue;
        }
        if is_all(and, full) {
            *sums = [whole; WIDTH];
            continue;
        }
        let mut all = [zero; WIDTH / 8];
        for (offset, worth) in taps {
            let cells: [i64; WIDTH / 8] = cast(block(cells, *offset));
            let worth = cast::<Worth, __m256i>(*worth);
            for (sum, cells) in all.iter_mut().zip(cells) {
                let cells = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(cells));
                *sum = _mm256_add_epi32(*sum, _mm256_permutevar8x32_epi32(worth, cells));
            }
        }
        *sums = cast(all);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_bytes(cells: &[u8], taps: &[(usize, ByteWorth)], sums: &mut [u8]) {
    for (k, sums) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let cells = &cells[k * WIDTH..];
        let mut all = [_mm256_setzero_si256(); 2];
        for (offset, worth) in taps {
            let cells: [__m256i; 2] = cast(block(cells, *offset));
            let worth = _mm256_broadcastsi128_si256(cast::<ByteWorth, __m128i>(*worth));
            for (sum, cells) in all.iter_mut().zip(cells) {
                *sum = _mm256_add_epi8(*sum, _mm256_shuffle_epi8(worth, cells));
            }
        }
        *sums = cast(all);
    }
}
