//! Groups of entries of four bytes: their values are compared as one vector, and loaded by one instruction from tables
//! that lie beyond the first caches.
//!
//! 1. Values of two bytes are compared as one vector too. Entries of other sizes are loaded one by one: measured on
//!    Zen 4, a gather gains a third with four bytes, and nothing that two threads could show with one, two or eight.
//! 2. Values of four bytes are read as one vector, those of eight as two, and what is done where one of them has no entry is a call. A path
//!    for that in the loop itself wanted all of them in registers of their own, one by one, in every group: a third more
//!    time where labels come in runs.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_cmpeq_epi16_mask, _mm256_set1_epi16, _mm512_cmpeq_epi32_mask, _mm512_cvtusepi64_epi32,
    _mm512_mask_blend_epi32, _mm512_set1_epi32,
};

use bytemuck::{bytes_of, cast, cast_slice, pod_read_unaligned};
use megalith_core::Pod;
use megalith_core::dtype::Integer;

use super::{Mode, by_groups, of_each, of_ends, of_rest, plain};
use crate::simd::avx512::gather;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn look_up<S: Integer, L: Pod>(values: &[S], lut: &[L], mode: Mode, out: &mut [L]) -> Result<(), S> {
    if size_of::<L>() != 4 && size_of::<S>() == 2 {
        return by_groups(
            values,
            lut,
            mode,
            out,
            #[inline(always)]
            |group, slots| {
                let values = cast(group.map(|value| value.to_wrapped_i64() as u16));
                let is_done = are_two(values) && of_ends(group, lut, slots);
                if is_done { Ok(()) } else { of_each(group, lut, mode, slots) }
            },
        );
    }
    if size_of::<L>() != 4 {
        return plain(values, lut, mode, out);
    }
    let words: &[[u8; 4]] = cast_slice(lut);
    // Of a longer table the first half is served.
    let words = &words[..words.len().min(i32::MAX as usize)];
    by_groups(values, lut, mode, out, |group, slots| {
        let indices = match size_of::<S>() {
            4 => pod_read_unaligned(bytes_of(group)),
            8 => {
                // What has more than 32 bits, as all below zero do, becomes more than a table has entries.
                let [low, high]: [__m512i; 2] = pod_read_unaligned(bytes_of(group));
                cast([_mm512_cvtusepi64_epi32(low), _mm512_cvtusepi64_epi32(high)])
            }
            _ => cast(group.map(|value| value.to_wrapped_i64() as u32)),
        };
        let Some(entries) = entries(words, indices) else { return of_rest(group, lut, mode, slots) };
        *slots = cast(entries);
        Ok(())
    })
}

/// Whether sixteen values are all like the first or the last.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn are_two(values: __m256i) -> bool {
    let [first, .., last] = cast::<_, [i16; 16]>(values);
    let is_first = _mm256_cmpeq_epi16_mask(values, _mm256_set1_epi16(first));
    let is_last = _mm256_cmpeq_epi16_mask(values, _mm256_set1_epi16(last));
    is_first | is_last == u16::MAX
}

/// The entries of sixteen indices, if the table has them all. Where they are one or two, as in `super::of_two`.
#[inline]
#[target_feature(enable = "avx512f")]
fn entries(table: &[[u8; 4]], indices: __m512i) -> Option<__m512i> {
    let [first, .., last] = cast::<_, [u32; 16]>(indices);
    let is_first = _mm512_cmpeq_epi32_mask(indices, _mm512_set1_epi32(first as i32));
    let is_last = _mm512_cmpeq_epi32_mask(indices, _mm512_set1_epi32(last as i32));
    if is_first | is_last == u16::MAX {
        let (&first, &last) = (table.get(first as usize)?, table.get(last as usize)?);
        let [first, last] = [first, last].map(|entry| _mm512_set1_epi32(i32::from_ne_bytes(entry)));
        return Some(_mm512_mask_blend_epi32(is_first, last, first));
    }
    gather(table, indices)
}
