//! Squares of eight by eight, turned in registers: in vectors of eight elements, the smaller the faster.

use std::arch::x86_64::{
    __m128i, __m256i, __m512d, __m512i, _mm_unpackhi_epi16, _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi16,
    _mm_unpacklo_epi32, _mm_unpacklo_epi64, _mm256_permute2x128_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm512_castsi256_si512, _mm512_inserti64x4,
    _mm512_permutex2var_epi16, _mm512_permutexvar_epi8, _mm512_setr_epi64, _mm512_shuffle_f64x2, _mm512_unpackhi_epi64,
    _mm512_unpackhi_pd, _mm512_unpacklo_epi64, _mm512_unpacklo_pd,
};
use std::array::from_fn;

use bytemuck::Pod;

use super::SIDE;

type Square<T> = [[T; SIDE]; SIDE];

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
pub(super) fn to_rows<T: Pod, F: Fn(T) -> f64>(lines: &[&[T]; SIDE], to: &mut [f64], f: &F) {
    let rows = to.as_chunks_mut::<SIDE>().0;
    let columns = rows.len();
    if columns < SIDE {
        return super::plain_to_rows(lines, to, f);
    }
    let lines: [_; SIDE] = from_fn(|l| &lines[l][..columns]);
    // The last square may lie over the one before.
    for c in (0..columns).step_by(SIDE).map(|c| c.min(columns - SIDE)) {
        // No closures here: those that are not inlined go by way of memory.
        let mut square = [[T::zeroed(); SIDE]; SIDE];
        for (to, line) in square.iter_mut().zip(lines) {
            to.copy_from_slice(&line[c..][..SIDE]);
        }
        let rows = &mut rows[c..][..SIDE];
        if size_of::<T>() == 8 {
            let square = turned(&doubles(&square, f));
            rows.copy_from_slice(&square);
            continue;
        }
        let square: Square<T> = match size_of::<T>() {
            4 => bytemuck::cast(turned_words(&bytemuck::cast(square))),
            2 => bytemuck::cast(turned_halves(&bytemuck::cast(square))),
            1 => bytemuck::cast(turned_bytes(bytemuck::cast(square))),
            _ => unreachable!("types that are real"),
        };
        rows.copy_from_slice(&doubles(&square, f));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn doubles<T: Pod, F: Fn(T) -> f64>(square: &Square<T>, f: &F) -> Square<f64> {
    let mut doubles = [[0.0; SIDE]; SIDE];
    for (to, from) in doubles.iter_mut().zip(square) {
        for (slot, &value) in to.iter_mut().zip(from) {
            *slot = f(value);
        }
    }
    doubles
}

/// Elements of one byte, turned.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
fn turned_bytes(lines: [i64; SIDE]) -> __m512i {
    const PLACES: [u8; SIDE * SIDE] = {
        let (mut places, mut i) = ([0; SIDE * SIDE], 0);
        while i < places.len() {
            places[i] = (i % SIDE * SIDE + i / SIDE) as u8;
            i += 1;
        }
        places
    };
    let [a, b, c, d, e, f, g, h] = lines;
    _mm512_permutexvar_epi8(bytemuck::cast(PLACES), _mm512_setr_epi64(a, b, c, d, e, f, g, h))
}

/// Pairs of lines, then pairs of pairs, then all eight.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn turned(square: &Square<f64>) -> Square<f64> {
    let [a, b, c, d, e, f, g, h]: [__m512d; SIDE] = bytemuck::cast(*square);
    let [even0, even2] = quarters(_mm512_unpacklo_pd(a, b), _mm512_unpacklo_pd(c, d));
    let [even4, even6] = quarters(_mm512_unpacklo_pd(e, f), _mm512_unpacklo_pd(g, h));
    let [odd0, odd2] = quarters(_mm512_unpackhi_pd(a, b), _mm512_unpackhi_pd(c, d));
    let [odd4, odd6] = quarters(_mm512_unpackhi_pd(e, f), _mm512_unpackhi_pd(g, h));
    let ([r0, r4], [r2, r6]) = (quarters(even0, even4), quarters(even2, even6));
    let ([r1, r5], [r3, r7]) = (quarters(odd0, odd4), quarters(odd2, odd6));
    bytemuck::cast([r0, r1, r2, r3, r4, r5, r6, r7])
}

/// The first and third, and the second and fourth quarters of two vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(a: __m512d, b: __m512d) -> [__m512d; 2] {
    [_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xDD>(a, b)]
}

/// Elements of four bytes, turned.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn turned_words(square: &Square<u32>) -> Square<u32> {
    let [a, b, c, d, e, f, g, h]: [__m256i; SIDE] = bytemuck::cast(*square);
    let [r04, r15, r26, r37] = fours(a, b, c, d);
    let [s04, s15, s26, s37] = fours(e, f, g, h);
    bytemuck::cast([
        _mm256_permute2x128_si256::<0x20>(r04, s04),
        _mm256_permute2x128_si256::<0x20>(r15, s15),
        _mm256_permute2x128_si256::<0x20>(r26, s26),
        _mm256_permute2x128_si256::<0x20>(r37, s37),
        _mm256_permute2x128_si256::<0x31>(r04, s04),
        _mm256_permute2x128_si256::<0x31>(r15, s15),
        _mm256_permute2x128_si256::<0x31>(r26, s26),
        _mm256_permute2x128_si256::<0x31>(r37, s37),
    ])
}

/// Four lines, turned in each half: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7.
#[inline]
#[target_feature(enable = "avx2")]
fn fours(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> [__m256i; 4] {
    let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (low2, high2) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(low, low2),
        _mm256_unpackhi_epi64(low, low2),
        _mm256_unpacklo_epi64(high, high2),
        _mm256_unpackhi_epi64(high, high2),
    ]
}

/// Elements of two bytes, turned.
#[inline]
#[target_feature(enable = "sse2")]
fn turned_halves(square: &Square<u16>) -> Square<u16> {
    let [a, b, c, d, e, f, g, h]: [__m128i; SIDE] = bytemuck::cast(*square);
    let ([r01, r23], [r45, r67]) = (columns(a, b, c, d), columns_high(a, b, c, d));
    let ([s01, s23], [s45, s67]) = (columns(e, f, g, h), columns_high(e, f, g, h));
    bytemuck::cast([
        _mm_unpacklo_epi64(r01, s01),
        _mm_unpackhi_epi64(r01, s01),
        _mm_unpacklo_epi64(r23, s23),
        _mm_unpackhi_epi64(r23, s23),
        _mm_unpacklo_epi64(r45, s45),
        _mm_unpackhi_epi64(r45, s45),
        _mm_unpacklo_epi64(r67, s67),
        _mm_unpackhi_epi64(r67, s67),
    ])
}

/// The low halves of lines of words, turned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn turned_low_halves(square: &Square<u32>) -> [__m512i; 2] {
    let [a, b, c, d, e, f, g, h]: [__m256i; SIDE] = bytemuck::cast(*square);
    let (first, last) = (low_halves(a, b, c, d), low_halves(e, f, g, h));
    [_mm512_unpacklo_epi64(first, last), _mm512_unpackhi_epi64(first, last)]
}

/// Of four lines of words the low halves: in each quarter of the vector those of a column, and of the fourth after it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn low_halves(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m512i {
    const PLACES: [u16; 4 * SIDE] = {
        let (mut places, mut i) = ([0; 4 * SIDE], 0);
        while i < places.len() {
            let (line, column) = (i % 4, i / SIDE + i / 4 % 2 * 4);
            places[i] = (2 * (line * SIDE + column)) as u16;
            i += 1;
        }
        places
    };
    let (ab, cd) = (joined(a, b), joined(c, d));
    _mm512_permutex2var_epi16(ab, bytemuck::cast(PLACES), cd)
}

/// Two halves of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn joined(a: __m256i, b: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
}

/// Of four lines, columns 0 and 1, 2 and 3.
#[inline]
#[target_feature(enable = "sse2")]
fn columns(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> [__m128i; 2] {
    let (ab, cd) = (_mm_unpacklo_epi16(a, b), _mm_unpacklo_epi16(c, d));
    [_mm_unpacklo_epi32(ab, cd), _mm_unpackhi_epi32(ab, cd)]
}

/// Of four lines, columns 4 and 5, 6 and 7.
#[inline]
#[target_feature(enable = "sse2")]
fn columns_high(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> [__m128i; 2] {
    let (ab, cd) = (_mm_unpackhi_epi16(a, b), _mm_unpackhi_epi16(c, d));
    [_mm_unpacklo_epi32(ab, cd), _mm_unpackhi_epi32(ab, cd)]
}
