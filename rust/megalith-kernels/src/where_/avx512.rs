//! Bits by comparison, positions by compression.

use std::arch::x86_64::{
    __m512i, _mm_cvtsi64_si128, _mm512_add_epi8, _mm512_add_epi16, _mm512_add_epi32, _mm512_add_epi64,
    _mm512_cvtepu8_epi16, _mm512_cvtepu8_epi32, _mm512_cvtepu8_epi64, _mm512_maskz_compress_epi8, _mm512_movepi8_mask,
    _mm512_permutex2var_epi8, _mm512_permutex2var_epi16, _mm512_permutex2var_epi32, _mm512_permutex2var_epi64,
    _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512,
};

use super::{Bits, Cell, Row, WORD, bits_with, plain_mask};
use crate::simd::avx512::IOTA;

/// Bytes of a vector.
const VECTOR: usize = 64;

/// See [`super::make_bits`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi1,bmi2")]
pub(super) fn make_bits<T: Copy>(values: &[T], words: &mut [u64], is_hit: &impl Fn(T) -> bool) -> usize {
    bits_with(values, words, is_hit, |chunk| word_of(chunk, is_hit))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi1,bmi2")]
fn word_of<T: Copy>(values: &[T; WORD], is_hit: &impl Fn(T) -> bool) -> u64 {
    let mut flags = [0i8; WORD];
    for (flag, &value) in flags.iter_mut().zip(values) {
        *flag = -i8::from(is_hit(value));
    }
    _mm512_movepi8_mask(bytemuck::cast(flags))
}

/// See [`super::write_mask`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
pub(super) fn write_mask<O: Cell>(mask: &[u64], first: usize, shape: &[usize], out: &mut [O]) {
    match *shape {
        [_] => write_flat(mask, first, out),
        [a, b] => write_rows(mask, first, [a, b], out),
        [a, b, c] => write_rows(mask, first, [a, b, c], out),
        [a, b, c, d] => write_rows(mask, first, [a, b, c, d], out),
        _ => plain_mask(mask, first, shape, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
fn write_flat<O: Cell>(mask: &[u64], first: usize, out: &mut [O]) {
    let lanes = VECTOR / size_of::<O>();
    let mut done = 0;
    for (k, &word) in mask.iter().enumerate() {
        let base = first + k * WORD;
        let count = word.count_ones() as usize;
        let n_vectors = count.div_ceil(lanes);
        let vectors = bytemuck::cast_slice_mut::<O, u8>(&mut out[done..]).as_chunks_mut::<VECTOR>().0;
        if n_vectors <= vectors.len() {
            let bits = compressed(word);
            for (j, vector) in vectors[..n_vectors].iter_mut().enumerate() {
                *vector = bytemuck::cast(lanes_of::<O>(&bits, j, base));
            }
        } else {
            plain_mask(&[word], base, &[0], &mut out[done..]);
        }
        done += count;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
fn write_rows<O: Cell, const NDIM: usize>(mask: &[u64], first: usize, shape: [usize; NDIM], out: &mut [O]) {
    let lanes = VECTOR / size_of::<O>();
    let patterns = patterns::<O, NDIM>();
    let mut row = Row::new(shape);
    let mut lead = _mm512_setzero_si512();
    let mut done = 0;
    for (k, &word) in mask.iter().enumerate() {
        let base = first + k * WORD;
        let mut left = word;
        while left != 0 {
            let position = base + left.trailing_zeros() as usize;
            if position >= row.end {
                row.seek(position);
                lead = leading::<O, NDIM>(row.lead);
            }
            // The bits that lie in the row.
            let inside = row.end - base;
            let segment = if inside < WORD { left & ((1 << inside) - 1) } else { left };
            left ^= segment;
            let count = segment.count_ones() as usize;
            let n_groups = count.div_ceil(lanes);
            let groups = bytemuck::cast_slice_mut::<O, u8>(&mut out[done * NDIM..]).as_chunks_mut::<VECTOR>().0;
            let groups = groups.as_chunks_mut::<NDIM>().0;
            // The row may begin inside of the word.
            let base = base.wrapping_sub(row.start);
            if n_groups <= groups.len() {
                let bits = compressed(segment);
                for (j, group) in groups[..n_groups].iter_mut().enumerate() {
                    let last = lanes_of::<O>(&bits, j, base);
                    for (vector, &pattern) in group.iter_mut().zip(&patterns) {
                        *vector = bytemuck::cast(select::<O>(lead, pattern, last));
                    }
                }
            } else {
                let mut cells = row.lead.map(O::from_index);
                for (bit, slot) in Bits(segment).zip(out[done * NDIM..].as_chunks_mut::<NDIM>().0) {
                    cells[NDIM - 1] = O::from_index(base.wrapping_add(bit));
                    *slot = cells;
                }
            }
            done += count;
        }
    }
}

/// The numbers of the bits that are set, side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
fn compressed(word: u64) -> [u8; WORD] {
    bytemuck::cast(_mm512_maskz_compress_epi8(word, bytemuck::cast(IOTA)))
}

/// The `j`th of the vectors of `base + bits`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
fn lanes_of<O: Cell>(bits: &[u8; WORD], j: usize, base: usize) -> __m512i {
    match size_of::<O>() {
        1 => _mm512_add_epi8(bytemuck::cast(*bits), _mm512_set1_epi8(base as i8)),
        2 => {
            let bits: [u8; 32] = bits.as_chunks().0[j];
            _mm512_add_epi16(_mm512_cvtepu8_epi16(bytemuck::cast(bits)), _mm512_set1_epi16(base as i16))
        }
        4 => {
            let bits: [u8; 16] = bits.as_chunks().0[j];
            _mm512_add_epi32(_mm512_cvtepu8_epi32(bytemuck::cast(bits)), _mm512_set1_epi32(base as i32))
        }
        _ => {
            let bits: [u8; 8] = bits.as_chunks().0[j];
            let bits = _mm_cvtsi64_si128(i64::from_le_bytes(bits));
            _mm512_add_epi64(_mm512_cvtepu8_epi64(bits), _mm512_set1_epi64(base as i64))
        }
    }
}

/// The leading coordinates of a row, each in its lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
fn leading<O: Cell, const NDIM: usize>(lead: [usize; NDIM]) -> __m512i {
    let mut lanes = [0u8; VECTOR];
    for (lane, coordinate) in lanes.chunks_exact_mut(size_of::<O>()).zip(lead) {
        lane.copy_from_slice(&coordinate.to_le_bytes()[..size_of::<O>()]);
    }
    bytemuck::cast(lanes)
}

/// For each vector of a group of rows where its lanes come from: a leading coordinate, or the last one of a hit.
#[inline]
fn patterns<O: Cell, const NDIM: usize>() -> [__m512i; NDIM] {
    let lanes = VECTOR / size_of::<O>();
    let mut patterns = [[0u8; VECTOR]; NDIM];
    for (j, pattern) in patterns.iter_mut().enumerate() {
        for (i, lane) in pattern.chunks_exact_mut(size_of::<O>()).enumerate() {
            let (hit, axis) = ((j * lanes + i) / NDIM, (j * lanes + i) % NDIM);
            lane[0] = if axis == NDIM - 1 { lanes + hit } else { axis } as u8;
        }
    }
    patterns.map(bytemuck::cast)
}

/// Lanes of two vectors as a pattern names them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
fn select<O: Cell>(low: __m512i, pattern: __m512i, high: __m512i) -> __m512i {
    match size_of::<O>() {
        1 => _mm512_permutex2var_epi8(low, pattern, high),
        2 => _mm512_permutex2var_epi16(low, pattern, high),
        4 => _mm512_permutex2var_epi32(low, pattern, high),
        _ => _mm512_permutex2var_epi64(low, pattern, high),
    }
}
