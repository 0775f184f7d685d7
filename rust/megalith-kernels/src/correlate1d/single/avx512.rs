//! The sums in vectors of 16 single entries, eight rows of them at a time.

use std::arch::x86_64::{
    __m128i, __m256i, __m512, _mm_min_epu8, _mm_set1_epi8, _mm512_cvtepi8_epi32, _mm512_cvtepi16_epi32,
    _mm512_cvtepi32_epi8, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32,
    _mm512_cvttps_epi32, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use megalith_core::DType;
use megalith_core::dtype::Real;

use super::super::WIDE;
use super::super::sums::{Ahead, ROWS, bytes, columns_of};
use super::{OUTPUTS, entries_of_outputs};
use crate::simd::Fence;
use crate::simd::avx512::stream_all;

/// Lanes of a vector.
const W: usize = 16;

/// See [`super::down_rows`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,fma")]
pub(super) fn down_rows<S: Real, D: Real>(
    weights: &[f32],
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    fence: Option<&Fence>,
) {
    const { assert!(4 * W <= WIDE, "columns no wider than rows") };
    if ahead.is_empty() {
        // What can be done instead is to take some lines of memory of each row at a time.
        columns::<S, D, { 4 * W }>(weights, rows, out, ahead, fence);
    } else {
        columns::<S, D, W>(weights, rows, out, ahead, fence);
    }
}

/// The sums of columns of `C` lanes, whose entries are converted once.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,fma")]
fn columns<S: Real, D: Real, const C: usize>(
    weights: &[f32],
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    fence: Option<&Fence>,
) {
    let n = rows.len();
    let mut columns = vec![_mm512_setzero_ps(); n * C / W];
    for (lane, is_alone) in columns_of::<_, _, C>(weights.len(), rows, out, fence.is_some()) {
        let fence = fence.filter(|_| is_alone);
        ahead.fetch(lane);
        for i in 0..n {
            for v in 0..C / W {
                columns[v * n + i] = floats(rows, i, lane + v * W);
            }
        }
        for (k, out) in out.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            for (v, column) in columns.chunks_exact(n).enumerate() {
                let mut sums = [_mm512_setzero_ps(); ROWS];
                for (i, weights) in weights.chunks(2).enumerate() {
                    add(&mut sums, bytemuck::cast_slice(&column[k * ROWS + 2 * i..]), weights[0], weights.get(1));
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    let out = &mut out[lane + v * W..][..W];
                    if let Some(fence) = fence {
                        stream_all(out, &elements::<D>(sum), fence);
                    } else {
                        out.copy_from_slice(&elements::<D>(sum));
                    }
                }
            }
        }
    }
}

/// See [`super::along`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,fma")]
pub(super) fn along<D: Real>(weights: &[f32], x: &[f32], out: &mut [D], ahead: &Ahead) {
    let len = entries_of_outputs(weights, x, out);
    for start in (0..len).step_by(OUTPUTS) {
        ahead.fetch_all(start, OUTPUTS);
        // The last sums are made together with some of those before them.
        let at = start.min(len - OUTPUTS);
        let mut sums = [_mm512_setzero_ps(); ROWS];
        for (k, weights) in weights.chunks(2 * W).enumerate() {
            for (i, &weight) in weights.iter().enumerate().take(W) {
                add(&mut sums, x[at + k * 2 * W + i..].as_chunks().0, weight, weights.get(i + W));
            }
        }
        for (sum, out) in sums.into_iter().zip(out[at..].as_chunks_mut().0) {
            *out = elements::<D>(sum);
        }
    }
}

/// Add what a weight makes of eight rows, and what the `next` makes of those from the second on.
#[inline]
#[target_feature(enable = "avx512f")]
fn add(sums: &mut [__m512; ROWS], rows: &[[f32; W]], weight: f32, next: Option<&f32>) {
    let &[a, b, c, d, e, f, g, h, ref rest @ ..] = rows else { unreachable!("eight rows or more") };
    let rows: [__m512; ROWS] = bytemuck::cast([a, b, c, d, e, f, g, h]);
    let weight = _mm512_set1_ps(weight);
    for (sum, row) in sums.iter_mut().zip(rows) {
        *sum = _mm512_fmadd_ps(row, weight, *sum);
    }
    if let (Some(&weight), Some(&last)) = (next, rest.first()) {
        let [_, b, c, d, e, f, g, h] = rows;
        let weight = _mm512_set1_ps(weight);
        for (sum, row) in sums.iter_mut().zip([b, c, d, e, f, g, h, bytemuck::cast(last)]) {
            *sum = _mm512_fmadd_ps(row, weight, *sum);
        }
    }
}

/// The entries of row `i` from `lane` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn floats<S: Real>(rows: &[&[S]], i: usize, lane: usize) -> __m512 {
    macro_rules! loaded {
        ($type:ty) => {
            bytemuck::cast::<_, $type>(bytes::<S, { size_of::<$type>() }>(rows, i, lane))
        };
    }
    match S::DTYPE {
        DType::F32 => loaded!(__m512),
        DType::I16 => _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(loaded!(__m256i))),
        DType::U16 => _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(loaded!(__m256i))),
        DType::I8 => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(loaded!(__m128i))),
        DType::U8 => _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(loaded!(__m128i))),
        // Truth values are any byte.
        DType::Bool => _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_min_epu8(loaded!(__m128i), _mm_set1_epi8(1)))),
        _ => unreachable!("types that `weights` names"),
    }
}

/// Sums as elements, as [`Real::from_double`] converts them.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
fn elements<D: Real>(sums: __m512) -> [D; W] {
    match D::DTYPE {
        DType::F32 => bytemuck::cast(sums),
        DType::I16 | DType::U16 => bytemuck::cast(_mm512_cvtepi32_epi16(_mm512_cvttps_epi32(sums))),
        DType::I8 | DType::U8 => bytemuck::cast(_mm512_cvtepi32_epi8(_mm512_cvttps_epi32(sums))),
        _ => unreachable!("types that `weights` names"),
    }
}
