//! 64 bytes or 16 bits looked up at once.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_maskz_set1_epi8, _mm512_and_si512, _mm512_i32gather_epi32, _mm512_mask_blend_epi8,
    _mm512_mask_expand_epi8, _mm512_min_epu32, _mm512_movepi8_mask, _mm512_or_si512, _mm512_permutex2var_epi8,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_sllv_epi32, _mm512_srli_epi32,
    _mm512_test_epi8_mask, _mm512_test_epi32_mask,
};

use bytemuck::cast;

use super::{BYTES, plain_look_up_bytes, plain_pack, plain_take_bits};

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack(entries: &[u8], words: &mut [u64]) -> bool {
    let (blocks, rest) = entries.as_chunks::<64>();
    let (words, end) = words.split_at_mut(blocks.len());
    let (one, mut all) = (_mm512_set1_epi8(1), _mm512_setzero_si512());
    for (block, word) in blocks.iter().zip(words) {
        let block: __m512i = cast(*block);
        all = _mm512_or_si512(all, block);
        *word = _mm512_test_epi8_mask(block, one);
    }
    _mm512_test_epi8_mask(all, _mm512_set1_epi8(!1)) == 0 && plain_pack(rest, end)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn look_up_bytes(sums: &[u8], table: &[u8; BYTES], out: &mut [u8]) {
    let [a, b, c, d]: [__m512i; 4] = cast(*table);
    let look_up = |sums: [u8; 64]| {
        let sums: __m512i = cast(sums);
        let (low, high) = (_mm512_permutex2var_epi8(a, sums, b), _mm512_permutex2var_epi8(c, sums, d));
        cast(_mm512_mask_blend_epi8(_mm512_movepi8_mask(sums), low, high))
    };
    for (sums, out) in sums.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<64>().0) {
        *out = look_up(*sums);
    }
    let n = sums.len() % 64;
    // The last block begins before the end of the one before it.
    match (sums.last_chunk::<64>(), out.last_chunk_mut::<64>()) {
        (Some(sums), Some(out)) if n != 0 => *out = look_up(*sums),
        (Some(_), Some(_)) => {}
        _ => plain_look_up_bytes(sums, table, out),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn take_bits(sums: &[i32], bits: &[u64], out: &mut [u8]) {
    let (blocks, rest) = sums.as_chunks::<16>();
    let (outs, end) = out.split_at_mut(blocks.len() * 16);
    if bits.is_empty() {
        return;
    }
    let last = _mm512_set1_epi32((bits.len() * 2 - 1).try_into().unwrap_or(i32::MAX));
    let (one, below) = (_mm512_set1_epi32(1), _mm512_set1_epi32(31));
    for (sums, out) in blocks.iter().zip(outs.as_chunks_mut::<16>().0) {
        let sums: __m512i = cast(*sums);
        let at = _mm512_min_epu32(_mm512_srli_epi32::<5>(sums), last);
        // SAFETY: `at` is no larger than the last word of 32 bits that `bits` has, which is not empty: both just checked.
        #[allow(unsafe_code)]
        let words = unsafe { _mm512_i32gather_epi32::<4>(at, bits.as_ptr().cast()) };
        let bit = _mm512_sllv_epi32(one, _mm512_and_si512(sums, below));
        *out = cast::<__m128i, _>(_mm_maskz_set1_epi8(_mm512_test_epi32_mask(words, bit), 1));
    }
    plain_take_bits(rest, bits, end);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
pub(super) fn expand(listed: &[u64], full: &[u64], values: &[u8], ends: [u8; 2], out: &mut [u8]) {
    let ends = ends.map(|end| _mm512_set1_epi8(end as i8));
    let mut left = values;
    let mut block = |listed: u64, full: u64| {
        let rest = _mm512_mask_blend_epi8(full, ends[0], ends[1]);
        let mut values = [0; 64];
        values.copy_from_slice(&left[..64]);
        left = &left[listed.count_ones() as usize..];
        cast::<__m512i, [u8; 64]>(_mm512_mask_expand_epi8(rest, listed, cast(values)))
    };
    let (blocks, end) = out.as_chunks_mut::<64>();
    let mut words = listed.iter().zip(full);
    for (out, (&listed, &full)) in blocks.iter_mut().zip(&mut words) {
        *out = block(listed, full);
    }
    if let Some((&listed, &full)) = words.next() {
        end.copy_from_slice(&block(listed, full)[..end.len()]);
    }
}
