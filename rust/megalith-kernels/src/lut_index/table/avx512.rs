//! 64 bytes looked up at once, or 16 bits.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_cvtepi32_epi8, _mm512_mask_add_epi8, _mm512_mask_blend_epi8,
    _mm512_mask_expand_epi8, _mm512_maskz_mov_epi8, _mm512_min_epu8, _mm512_movepi8_mask, _mm512_or_si512,
    _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi16,
    _mm512_srli_epi32, _mm512_srlv_epi32, _mm512_test_epi8_mask,
};

use bytemuck::{cast, cast_slice};

use super::super::strips::PAGE;
use super::{AHEAD, BYTES, RUN, fetch, plain_look_up_bytes, plain_look_up_octets, plain_pack, plain_take_bits};
use crate::simd::Fence;
use crate::simd::avx512::{gather, store_first, stream};
use crate::simd::prefetch;

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
#[target_feature(enable = "avx512f")]
pub(super) fn take_bits(sums: &[i32], bits: &[u64], out: &mut [u8]) {
    let words: &[[u8; 4]] = cast_slice(bits);
    let (blocks, rest) = sums.as_chunks::<RUN>();
    let (outs, end) = out[..sums.len()].as_chunks_mut::<RUN>();
    for (k, (sums, out)) in blocks.iter().zip(outs).enumerate() {
        fetch(words, blocks.get(k + AHEAD), 5);
        let places: __m512i = cast(*sums);
        match gather(words, _mm512_srli_epi32::<5>(places)) {
            Some(words) => {
                let found = _mm512_srlv_epi32(words, _mm512_and_si512(places, _mm512_set1_epi32(31)));
                *out = cast(_mm512_cvtepi32_epi8(_mm512_and_si512(found, _mm512_set1_epi32(1))));
            }
            None => plain_take_bits(sums, bits, out),
        }
    }
    plain_take_bits(rest, bits, end);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn look_up_octets(
    truths: &[u8],
    is_outside: bool,
    pairs: &mut [u8],
    squares: &mut [u8],
    table: &[u8; BYTES],
    out: &mut [u8],
) {
    if out.is_empty() {
        return plain_look_up_octets(truths, is_outside, pairs, squares, table, out);
    }
    let [a, b, c, d]: [__m512i; 4] = cast(*table);
    let one = _mm512_set1_epi8(1);
    let mut most = _mm512_mask_blend_epi8(is_outside.into(), one, _mm512_setzero_si512());
    let mut look_up = |truths: &[u8; 64], next: &[u8; 64], pairs: &mut [u8; 64], squares: &mut [u8; 64]| {
        // Pairs are below 4 and squares below 16, so that no bit leaves its byte.
        let next = _mm512_slli_epi16::<1>(_mm512_min_epu8(cast(*next), one));
        let pair = _mm512_or_si512(_mm512_min_epu8(cast(*truths), most), next);
        let square = _mm512_or_si512(cast(*pairs), _mm512_slli_epi16::<2>(pair));
        let octets = _mm512_or_si512(cast(*squares), _mm512_slli_epi16::<4>(square));
        (*pairs, *squares, most) = (cast(pair), cast(square), one);
        let (low, high) = (_mm512_permutex2var_epi8(a, octets, b), _mm512_permutex2var_epi8(c, octets, d));
        cast::<__m512i, [u8; 64]>(_mm512_mask_blend_epi8(_mm512_movepi8_mask(octets), low, high))
    };
    let n = out.len() / 64;
    let (truths, next) = (truths.as_chunks().0, truths[1..].as_chunks().0);
    let (pairs, squares) = (pairs.as_chunks_mut().0, squares.as_chunks_mut().0);
    let (blocks, end) = out.as_chunks_mut::<64>();
    for (k, out) in blocks.iter_mut().enumerate() {
        *out = look_up(&truths[k], &next[k], &mut pairs[k], &mut squares[k]);
    }
    if !end.is_empty() {
        end.copy_from_slice(&look_up(&truths[n], &next[n], &mut pairs[n], &mut squares[n])[..end.len()]);
    }
}

/// Lines of memory are written whole, what is before the first and behind the last by itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn look_up_rows(
    truths: &[u8],
    wide: usize,
    insides: &[u64],
    squares: &mut [u8],
    table: &[u8; BYTES],
    out: &mut [u8],
    is_large: bool,
) {
    let starts = [0, 1, wide, wide + 1];
    let inside = |at: usize| insides[at / 64] >> (at % 64) | insides[at / 64 + 1] << 1 << (63 - at % 64);
    let first = out.as_ptr().align_offset(64).min(out.len());
    let (head, rest) = out.split_at_mut(first);
    let (lines, tail) = rest.as_chunks_mut::<64>();
    let last = first + 64 * lines.len();
    for (at, out) in [(0, head), (last, tail)].into_iter().filter(|(_, out)| !out.is_empty()) {
        let n = out.len();
        let mut blocks = [[[0; 64]]; 6];
        for (block, start) in blocks.iter_mut().zip(starts) {
            block[0][..n].copy_from_slice(&truths[start + at..][..n]);
        }
        let [corner, above, left, here, square, found] = &mut blocks;
        square[0][..n].copy_from_slice(&squares[at..][..n]);
        look_up_lines::<false>([corner, above, left, here], |_| inside(at), square, table, found);
        squares[at..][..n].copy_from_slice(&square[0][..n]);
        out.copy_from_slice(&found[0][..n]);
    }
    let parts = starts.map(|start| truths[start + first..start + last].as_chunks().0);
    let (inside, squares) = (|k: usize| inside(first + 64 * k), squares[first..last].as_chunks_mut().0);
    if is_large {
        look_up_lines::<true>(parts, inside, squares, table, lines);
    } else {
        look_up_lines::<false>(parts, inside, squares, table, lines);
    }
}

/// [`look_up_rows`] of blocks: of the values left of the one above each position, above it, left of it, and there.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[allow(unsafe_code)]
fn look_up_lines<const STREAM: bool>(
    parts: [&[[u8; 64]]; 4],
    inside: impl Fn(usize) -> u64,
    squares: &mut [[u8; 64]],
    table: &[u8; BYTES],
    out: &mut [[u8; 64]],
) {
    let [a, b, c, d]: [__m512i; 4] = cast(*table);
    let [one, two, four, eight] = [1, 2, 4, 8].map(|bit| _mm512_set1_epi8(bit));
    let truths = |bytes: [u8; 64]| _mm512_test_epi8_mask(cast(bytes), cast(bytes));
    let n = out.len();
    let [corner, above, left, here] = parts.map(|blocks| &blocks[..n]);
    let squares = &mut squares[..n];
    // SAFETY: lines are borrowed here until it is dropped, and each is written once.
    let fence = STREAM.then(|| unsafe { Fence::new() });
    for k in 0..n {
        prefetch::<true>(here[k].as_ptr().addr() + PAGE);
        let inside = inside(k);
        let square = _mm512_maskz_mov_epi8(truths(corner[k]) & inside, one);
        let square = _mm512_mask_add_epi8(square, truths(above[k]), square, two);
        let square = _mm512_mask_add_epi8(square, truths(left[k]) & inside, square, four);
        let square = _mm512_mask_add_epi8(square, truths(here[k]), square, eight);
        // Squares are below 16, so that no bit leaves its byte.
        let octets = _mm512_or_si512(cast(squares[k]), _mm512_slli_epi16::<4>(square));
        squares[k] = cast(square);
        let (low, high) = (_mm512_permutex2var_epi8(a, octets, b), _mm512_permutex2var_epi8(c, octets, d));
        let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(octets), low, high);
        if let Some(fence) = &fence {
            stream(&mut out[k], found, fence);
        } else {
            out[k] = cast(found);
        }
    }
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
        store_first(end, cast(block(listed, full)));
    }
}
