//! The sums in vectors of eight doubles.
//!
//! What is written with arrays beside this, with the vectors spelled out: the compiler takes arrays apart where there
//! are few taps, and then puts vectors together from single elements.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512d, __m512i, _mm256_cvtepi8_epi32, _mm256_cvtepi16_epi32, _mm256_cvtepu8_epi32,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm512_add_pd, _mm512_cvtepi32_pd, _mm512_cvtepi64_pd, _mm512_cvtepu32_pd,
    _mm512_cvtepu64_pd, _mm512_cvtps_pd, _mm512_fmadd_pd, _mm512_fmsub_pd, _mm512_mul_pd, _mm512_permutex2var_pd,
    _mm512_set1_pd, _mm512_sub_pd,
};
use std::hint::black_box;

use megalith_core::DType;
use megalith_core::dtype::Real;

use super::super::taps::{Kind, Taps};
use super::{Ahead, ROWS, rows_alike, window_row};

/// Lanes of a vector.
const W: usize = 8;

type Four = [__m512d; ROWS];

/// See [`super::down`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
pub(super) fn down(taps: &Taps, x: &[f64], pitch: usize, out: &mut [f64]) {
    let last = taps.weights.len() - 1;
    assert!(pitch.is_multiple_of(W), "whole vectors");
    for (k, out) in out.chunks_exact_mut(ROWS * pitch).enumerate() {
        let x = &x[k * ROWS * pitch..][..(last + ROWS) * pitch];
        let vector = |i: usize, lane: usize| bytemuck::cast(window_row::<W>(x, i * pitch + lane));
        block(taps, pitch, pitch, out, &Ahead::default(), vector);
    }
}

/// See [`super::down_rows`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
pub(super) fn down_rows<S: Real>(taps: &Taps, rows: &[&[S]], pitch: usize, out: &mut [f64], ahead: &Ahead) {
    let lanes = rows_alike::<S, W>(taps, rows, pitch, out);
    block(taps, lanes, pitch, out, ahead, |i, lane| doubles(rows, i, lane));
}

/// The entries of row `i` from `lane` on.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn doubles<S: Real>(rows: &[&[S]], i: usize, lane: usize) -> __m512d {
    macro_rules! loaded {
        ($type:ty) => {
            bytemuck::cast::<_, $type>(bytes::<S, { size_of::<$type>() }>(rows, i, lane))
        };
    }
    match S::DTYPE {
        DType::F64 => loaded!(__m512d),
        DType::F32 => _mm512_cvtps_pd(loaded!(__m256)),
        DType::F16 => _mm512_cvtps_pd(_mm256_cvtph_ps(loaded!(__m128i))),
        DType::I64 => _mm512_cvtepi64_pd(loaded!(__m512i)),
        DType::U64 => _mm512_cvtepu64_pd(loaded!(__m512i)),
        DType::I32 => _mm512_cvtepi32_pd(loaded!(__m256i)),
        DType::U32 => _mm512_cvtepu32_pd(loaded!(__m256i)),
        DType::I16 => _mm512_cvtepi32_pd(_mm256_cvtepi16_epi32(loaded!(__m128i))),
        DType::U16 => _mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(loaded!(__m128i))),
        DType::I8 => _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(eight::<S>(rows, i, lane))),
        DType::U8 => _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(eight::<S>(rows, i, lane))),
        // Truth values are any byte.
        _ => bytemuck::cast(super::converted::<S, W>(rows, i, lane)),
    }
}

/// Eight bytes, in the low half.
#[inline]
#[target_feature(enable = "avx512f")]
fn eight<S: Real>(rows: &[&[S]], i: usize, lane: usize) -> __m128i {
    bytemuck::cast([u64::from_le_bytes(bytes::<S, 8>(rows, i, lane)), 0])
}

/// The bytes of [`W`] entries.
#[inline]
fn bytes<S: Real, const N: usize>(rows: &[&[S]], i: usize, lane: usize) -> [u8; N] {
    debug_assert!(N == W * size_of::<S>() && i < rows.len() && lane + W <= rows[i].len());
    // SAFETY: `N` bytes are `W` entries of a row (each arm of `doubles` names the vector that has the bytes of its
    // type); there are so many rows and entries: `rows_alike` has compared what `block` asks for.
    #[allow(unsafe_code)]
    unsafe {
        rows.get_unchecked(i).as_ptr().add(lane).cast::<[u8; N]>().read_unaligned()
    }
}

/// See [`super::block`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn block(
    taps: &Taps,
    lanes: usize,
    pitch: usize,
    out: &mut [f64],
    ahead: &Ahead,
    vector: impl Fn(usize, usize) -> __m512d,
) {
    let (weights, last) = (&taps.weights[..], taps.weights.len() - 1);
    // Not known to the compiler, which would make a plain addition of it.
    let one = _mm512_set1_pd(black_box(1.0));
    for (k, start) in (0..lanes).step_by(W).enumerate() {
        ahead.fetch(k * W);
        let lane = start.min(lanes - W);
        let row = |i: usize| vector(i, lane);
        let sums = match taps.kind {
            Kind::Symmetric if last == 2 => pairs::<false>(row, weights, 1, one),
            Kind::Symmetric => pairs::<false>(row, weights, last / 2, one),
            Kind::Antisymmetric => pairs::<true>(row, weights, last / 2, one),
            Kind::General => singles(row, weights),
        };
        for (r, sum) in sums.into_iter().enumerate() {
            out[r * pitch + lane..][..W].copy_from_slice(&bytemuck::cast::<_, [f64; W]>(sum));
        }
    }
}

/// See [`super::pairs`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn pairs<const MINUS: bool>(row: impl Fn(usize) -> __m512d, weights: &[f64], half: usize, one: __m512d) -> Four {
    let mut sums = times([row(half), row(half + 1), row(half + 2), row(half + 3)], weights[half]);
    let mut left = [row(0), row(1), row(2), row(3)];
    let mut right = [row(2 * half), row(2 * half + 1), row(2 * half + 2), row(2 * half + 3)];
    for (i, &weight) in weights[..half].iter().enumerate() {
        add_pairs::<MINUS>(&mut sums, left, right, weight, one);
        left = [left[1], left[2], left[3], row(i + ROWS)];
        right = [row(2 * half - 1 - i), right[0], right[1], right[2]];
    }
    sums
}

/// See [`super::singles`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn singles(row: impl Fn(usize) -> __m512d, weights: &[f64]) -> Four {
    let last = weights.len() - 1;
    let mut sums = times([row(last), row(last + 1), row(last + 2), row(last + 3)], weights[last]);
    let mut next = [row(0), row(1), row(2), row(3)];
    for (i, &weight) in weights[..last].iter().enumerate() {
        add_singles(&mut sums, next, weight);
        next = [next[1], next[2], next[3], row(i + ROWS)];
    }
    sums
}

/// See [`super::along`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
pub(super) fn along(taps: &Taps, x: &[f64], out: &mut [f64]) {
    let weights = &taps.weights[..];
    let one = _mm512_set1_pd(black_box(1.0));
    let (x, more) = (x.as_chunks::<W>().0, (weights.len() - 1) / W + 1);
    for (k, out) in out.as_chunks_mut::<{ ROWS * W }>().0.iter_mut().enumerate() {
        let x = &x[k * ROWS..][..ROWS + more];
        let sums = match taps.kind {
            Kind::Symmetric => pairs_along::<false>(|i| shifted(x, i), weights, one),
            Kind::Antisymmetric => pairs_along::<true>(|i| shifted(x, i), weights, one),
            Kind::General => singles_along(|i| shifted(x, i), weights),
        };
        *out = bytemuck::cast(sums);
    }
}

/// The vectors of the entries from `i` on, each put together from two that lie in a line of memory.
#[inline]
#[target_feature(enable = "avx512f")]
fn shifted(x: &[[f64; W]], i: usize) -> Four {
    let lanes = bytemuck::cast(SHIFTS[i % W]);
    let x = &x[i / W..][..=ROWS];
    let [a, b, c, d, e] = [x[0], x[1], x[2], x[3], x[4]].map(bytemuck::cast::<[f64; W], __m512d>);
    [
        _mm512_permutex2var_pd(a, lanes, b),
        _mm512_permutex2var_pd(b, lanes, c),
        _mm512_permutex2var_pd(c, lanes, d),
        _mm512_permutex2var_pd(d, lanes, e),
    ]
}

/// The lanes from the first, second, ... of two vectors on.
const SHIFTS: [[u64; W]; W] = {
    let mut shifts = [[0; W]; W];
    let mut k = 0;
    while k < W * W {
        shifts[k / W][k % W] = (k / W + k % W) as u64;
        k += 1;
    }
    shifts
};

/// See [`super::pairs_along`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn pairs_along<const MINUS: bool>(rows: impl Fn(usize) -> Four, weights: &[f64], one: __m512d) -> Four {
    let last = weights.len() - 1;
    let mut sums = times(rows(last / 2), weights[last / 2]);
    for (i, &weight) in weights[..last / 2].iter().enumerate() {
        add_pairs::<MINUS>(&mut sums, rows(i), rows(last - i), weight, one);
    }
    sums
}

/// See [`super::singles_along`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn singles_along(rows: impl Fn(usize) -> Four, weights: &[f64]) -> Four {
    let last = weights.len() - 1;
    let mut sums = times(rows(last), weights[last]);
    for (i, &weight) in weights[..last].iter().enumerate() {
        add_singles(&mut sums, rows(i), weight);
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn times(rows: Four, weight: f64) -> Four {
    let (weight, [a, b, c, d]) = (_mm512_set1_pd(weight), rows);
    [_mm512_mul_pd(a, weight), _mm512_mul_pd(b, weight), _mm512_mul_pd(c, weight), _mm512_mul_pd(d, weight)]
}

#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add_pairs<const MINUS: bool>(sums: &mut Four, left: Four, right: Four, weight: f64, one: __m512d) {
    let weight = _mm512_set1_pd(weight);
    for r in 0..ROWS {
        let joined = match (r % 2, MINUS) {
            (0, false) => _mm512_fmadd_pd(left[r], one, right[r]),
            (0, true) => _mm512_fmsub_pd(left[r], one, right[r]),
            (_, false) => _mm512_add_pd(left[r], right[r]),
            (_, true) => _mm512_sub_pd(left[r], right[r]),
        };
        sums[r] = _mm512_add_pd(sums[r], _mm512_mul_pd(joined, weight));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_singles(sums: &mut Four, next: Four, weight: f64) {
    let weight = _mm512_set1_pd(weight);
    for r in 0..ROWS {
        sums[r] = _mm512_add_pd(sums[r], _mm512_mul_pd(next[r], weight));
    }
}
