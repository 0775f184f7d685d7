//! The sums in vectors of eight doubles.
//!
//! What is written with arrays beside this, with the vectors spelled out: the compiler takes arrays apart where there
//! are few taps, and then puts vectors together from single elements. There are registers for the entries of eight
//! rows of sums.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512d, __m512i, _CMP_GE_OQ, _CMP_NEQ_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT,
    _MM_FROUND_TO_ZERO, _mm_min_epu8, _mm_set1_epi8, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi16_epi32, _mm256_cvtepi32_epi8, _mm256_cvtepi32_epi16, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_mask_or_epi32, _mm256_set1_epi32, _mm512_add_pd, _mm512_alignr_epi64,
    _mm512_castpd_si512, _mm512_castsi256_si512, _mm512_castsi512_pd, _mm512_cmp_pd_mask, _mm512_cvt_roundpd_ps,
    _mm512_cvtepi16_epi8, _mm512_cvtepi32_pd, _mm512_cvtepi64_epi32, _mm512_cvtepi64_pd, _mm512_cvtepu32_pd,
    _mm512_cvtepu64_pd, _mm512_cvtpd_ps, _mm512_cvtps_pd, _mm512_cvttpd_epi32, _mm512_cvttpd_epi64, _mm512_fmadd_pd,
    _mm512_fmsub_pd, _mm512_inserti32x4, _mm512_mask_set1_epi64, _mm512_mask_sub_pd, _mm512_mask_xor_epi64,
    _mm512_min_epu8, _mm512_mul_pd, _mm512_set1_epi8, _mm512_set1_epi64, _mm512_set1_pd, _mm512_setzero_si512,
    _mm512_sub_pd,
};
use std::hint::black_box;
use std::mem::swap;

use megalith_core::DType;
use megalith_core::dtype::Real;

use super::super::behind::{Behind, avx512::go_on};
use super::super::taps::{Kind, Taps};
use super::{ALONG, Ahead, LANES, LINE, PART, ROWS, bytes, columns_of, parts, rows_alike, rows_of_outputs, window_row};
use crate::rows::{joined, turned, turned_low_halves, turned_words};
use crate::simd::avx512::{Aligned, stream, stream_all, stream_joined};
use crate::simd::{Fence, prefetch_entry};

/// Lanes of a vector.
const W: usize = 8;

type Eight = [__m512d; ROWS];
type Four = [__m512d; PART];

/// A macro of 0 to 7, as literals, so that each step knows its registers.
macro_rules! eight {
    ($step:ident) => {
        $step!(0);
        $step!(1);
        $step!(2);
        $step!(3);
        $step!(4);
        $step!(5);
        $step!(6);
        $step!(7);
    };
}

/// See [`super::down`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
pub(super) fn down(taps: &Taps, x: &[f64], pitch: usize, out: &mut [f64]) {
    let last = taps.weights.len() - 1;
    assert!(pitch.is_multiple_of(W), "whole vectors");
    for (k, out) in out.chunks_exact_mut(ROWS * pitch).enumerate() {
        let x = &x[k * ROWS * pitch..][..(last + ROWS) * pitch];
        let vector = |i: usize, lane: usize| bytemuck::cast(window_row::<W>(x, i * pitch + lane));
        block(taps, pitch, &Ahead::default(), vector, |lane, sums| {
            for (r, sum) in sums.into_iter().enumerate() {
                out[r * pitch + lane..][..W].copy_from_slice(&bytemuck::cast::<_, [f64; W]>(sum));
            }
        });
    }
}

/// How many columns ahead of the one that is summed entries are asked for: one is summed in less time than memory takes.
const SOON: usize = 4;
/// How many shares of a column ahead of the one that is converted: rows that want the same few lines of the caches would
/// push each other out if they came earlier.
const SHARES: usize = 6;

/// See [`super::down_rows`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vbmi,f16c,fma")]
pub(super) fn down_rows<S: Real, D: Real>(
    taps: &Taps,
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    fence: Option<&Fence>,
    behind: &mut Behind<'_>,
) {
    if let (ROWS, Some(fence)) = (out.len(), fence) {
        return match size_of::<D>() {
            1 => past::<S, D, 64>(taps, rows, out, ahead, fence),
            2 => past::<S, D, 32>(taps, rows, out, ahead, fence),
            4 => past::<S, D, 16>(taps, rows, out, ahead, fence),
            _ => past::<S, D, 8>(taps, rows, out, ahead, fence),
        };
    }
    if out.len() == ROWS {
        let lanes = rows_alike::<_, _, W>(taps.weights.len(), rows, out);
        let vector = |i, lane| doubles(rows, i, lane);
        return block(taps, lanes, ahead, vector, |lane, sums| {
            go_on::<D>(behind);
            for (out, sum) in out.iter_mut().zip(sums) {
                out[lane..][..W].copy_from_slice(&elements::<D>(sum));
            }
        });
    }
    // Whole lines of memory, but for single bytes, which would leave no room in the first-level cache.
    match size_of::<S>() {
        1 | 2 => columns::<S, D, 32>(taps, rows, out, ahead, fence),
        4 => columns::<S, D, 16>(taps, rows, out, ahead, fence),
        _ => columns::<S, D, 8>(taps, rows, out, ahead, fence),
    }
}

/// A line of memory of each row at a time, written past the caches wherever lines begin in the rows: it is put together
/// from the sums of `C` lanes and those of the lanes before.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vbmi,f16c,fma")]
fn past<S: Real, D: Real, const C: usize>(
    taps: &Taps,
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    fence: &Fence,
) {
    assert!(C * size_of::<D>() == LINE, "the lanes of a line");
    let lanes = rows_alike::<_, _, W>(taps.weights.len(), rows, out);
    let (one, vector) = (one(), |i: usize, lane: usize| doubles(rows, i, lane));
    // What is left is a vector or more, so that no vector goes back to what was written past the caches.
    let whole = (lanes - W) / C * C;
    let (mut begun, mut last) = (Aligned([[0; LINE]; ROWS]), [_mm512_setzero_si512(); ROWS]);
    for lane in (0..whole).step_by(C) {
        ahead.fetch(lane);
        let vector = |i: usize, at: usize| vector(i, lane + at);
        let put = |r: usize, at, line| join(out[r], lane + at, line, &mut last[r], fence);
        square::<D, C>(taps, one, &mut begun, vector, put);
    }
    for (out, &last) in out.iter_mut().zip(&last) {
        end(out, whole, last);
    }
    blocks(taps, one, (whole..lanes).step_by(W).map(|lane| lane.min(lanes - W)), vector, |lane, sums| {
        for (out, sum) in out.iter_mut().zip(sums) {
            out[lane..][..W].copy_from_slice(&elements::<D>(sum));
        }
    });
}

/// Write the line of memory past the caches of which the first elements were made last, and more, from `lane` on, now.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn join<D: Real>(out: &mut [D], lane: usize, line: __m512i, last: &mut __m512i, fence: &Fence) {
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    let head = out.as_ptr().align_offset(LINE);
    if let Some(start) = (lane * size_of::<D>()).checked_sub(LINE) {
        let slot = (&mut out[start + head..][..LINE]).try_into().expect("a line");
        stream_joined(slot, *last, line, head, fence);
    } else {
        out[..head].copy_from_slice(&bytemuck::cast::<_, [u8; LINE]>(line)[..head]);
    }
    *last = line;
}

/// Write what was made last of the elements up to `stop`, and is not the beginning of a line any more.
#[inline]
#[target_feature(enable = "avx512f")]
fn end<D: Real>(out: &mut [D], stop: usize, last: __m512i) {
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    let (head, stop) = (out.as_ptr().align_offset(LINE), stop * size_of::<D>());
    if let Some(start) = stop.checked_sub(LINE) {
        out[start + head..stop].copy_from_slice(&bytemuck::cast::<_, [u8; LINE]>(last)[head..]);
    }
}

/// The sums of columns of `C` lanes, whose entries are converted once.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn columns<S: Real, D: Real, const C: usize>(
    taps: &Taps,
    rows: &[&[S]],
    out: &mut [&mut [D]],
    ahead: &Ahead,
    fence: Option<&Fence>,
) {
    let one = one();
    // Between the sums of a column the next one is converted, if there is room for both in the first-level cache.
    let is_early = ahead.keeps_waiting && fence.is_some() && size_of::<S>() >= 4;
    let length = rows.len() * C / W;
    let mut column = vec![_mm512_set1_pd(0.0); length];
    let mut next = vec![_mm512_set1_pd(0.0); if is_early { length } else { 0 }];
    let convert = |entries: &mut [__m512d], rows: &[&[S]], lane: usize| {
        for (i, entries) in entries.iter_mut().enumerate() {
            *entries = doubles(rows, i / (C / W), lane + i % (C / W) * W);
        }
    };
    // A line of each row, mostly in the second-level cache, comes while others are summed.
    let fetch = |rows: &[&[S]], lane: usize| {
        for row in rows {
            prefetch_entry(row, lane);
        }
    };
    let blocks = out.len() / ROWS;
    let shares: Vec<&[&[S]]> = rows.chunks(rows.len().div_ceil(blocks)).collect();
    // A list: an iterator's items would be put together in memory, and wait there for what is written past the caches.
    let columns: Vec<(usize, bool)> = columns_of::<_, _, C>(taps.weights.len(), rows, out, fence.is_some()).collect();
    let mut begun = Aligned([[0; LINE]; ROWS]);
    for (c, &(lane, is_alone)) in columns.iter().enumerate() {
        let fence = fence.filter(|_| is_alone);
        ahead.fetch(lane);
        if !is_early || c == 0 {
            convert(&mut column, rows, lane);
        }
        if !is_early {
            fetch(rows, lane + SOON * C);
        }
        let early = columns.get(c + 1).filter(|_| is_early);
        let mut rest = &mut next[..];
        let x = bytemuck::cast_slice(&column);
        for (k, out) in out.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            if let (Some(&(lane, _)), Some(share)) = (early, shares.get(k)) {
                let (entries, others) = rest.split_at_mut(share.len() * C / W);
                rest = others;
                convert(entries, share, lane);
                let then = k + SHARES;
                if let Some(share) = shares.get(then % blocks) {
                    fetch(share, lane + then / blocks * C);
                }
            }
            let vector = |i: usize, at: usize| bytemuck::cast(window_row::<W>(x, (k * ROWS + i) * C + at));
            square::<D, C>(taps, one, &mut begun, vector, |r, at, line| {
                let n = (LINE / size_of::<D>()).min(C);
                let out: &mut [u8] = bytemuck::cast_slice_mut(&mut out[r][lane + at..][..n]);
                if let (Some(fence), Ok(out)) = (fence, out.try_into()) {
                    stream(out, line, fence);
                } else {
                    out.copy_from_slice(&bytemuck::cast::<_, [u8; LINE]>(line)[..out.len()]);
                }
            });
        }
        if is_early {
            swap(&mut column, &mut next);
        }
    }
}

/// The sums of `C` lanes; `put(r, at, line)` takes those of row `r` from `at` on, a line of memory or all of them, of which
/// `begun` holds the first ones meanwhile.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn square<D: Real, const C: usize>(
    taps: &Taps,
    one: __m512d,
    begun: &mut Aligned<[[u8; LINE]; ROWS]>,
    vector: impl Fn(usize, usize) -> __m512d,
    mut put: impl FnMut(usize, usize, __m512i),
) {
    let (width, itemsize) = (LINE.min(C * size_of::<D>()), size_of::<D>());
    blocks(taps, one, (0..C).step_by(W), vector, |at, sums| {
        let place = at * itemsize % width;
        for (r, (row, sum)) in begun.0.iter_mut().zip(sums).enumerate() {
            let elements = elements::<D>(sum);
            if place + W * itemsize < width {
                row[place..][..W * itemsize].copy_from_slice(bytemuck::cast_slice(&elements));
            } else {
                put(r, at - place / itemsize, ended::<D>(row, width, elements));
            }
        }
    });
}

/// A line whose last elements are in registers. A vector that was written in parts just now could not be read before
/// they, and all that was written before them, past the caches too, are out of the processor's hands; each of the
/// parts can.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
fn ended<D: Real>(line: &[u8; LINE], width: usize, last: [D; W]) -> __m512i {
    let half: __m256i = bytemuck::cast::<[u8; 32], _>(line[..32].try_into().expect("a half"));
    let quarter: __m128i = bytemuck::cast::<[u8; 16], _>(line[32..48].try_into().expect("a quarter"));
    match (width / size_of::<D>() / W, size_of::<D>()) {
        (1, 8) => bytemuck::cast(last),
        (2, 4) => joined(half, bytemuck::cast(last)),
        (4, 2) => _mm512_inserti32x4::<3>(
            _mm512_inserti32x4::<2>(_mm512_castsi256_si512(half), quarter),
            bytemuck::cast(last),
        ),
        (4, 1) => _mm512_mask_set1_epi64(_mm512_castsi256_si512(half), 1 << 3, bytemuck::cast(last)),
        (8, 1) => _mm512_mask_set1_epi64(bytemuck::cast(*line), 1 << 7, bytemuck::cast(last)),
        _ => unreachable!("a line, or half of one of single bytes"),
    }
}

/// See [`super::down_lines`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
pub(super) fn down_lines<D: Real>(
    taps: &Taps,
    x: &[f64],
    columns: usize,
    out: &mut [D],
    ahead: &Ahead,
    first: usize,
    behind: &mut Behind<'_>,
) {
    assert!(columns.is_multiple_of(ROWS), "whole blocks");
    let x = &x[..(taps.weights.len() - 1 + columns) * W];
    // Seen as columns that are blocks of one vector each, one below the other.
    let vector = |i: usize, c: usize| bytemuck::cast(window_row::<W>(x, (c + i) * W));
    blocks(taps, one(), (0..columns).step_by(ROWS), vector, |c, sums| {
        ahead.fetch(first + c);
        go_on::<D>(behind);
        for (l, line) in Aligned(lines::<D>(&sums)).0.iter().enumerate() {
            out[l * columns + c..][..W].copy_from_slice(line);
        }
    });
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
        DType::Bool => {
            _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_min_epu8(eight::<S>(rows, i, lane), _mm_set1_epi8(1))))
        }
        _ => unreachable!("types that are real"),
    }
}

/// Eight bytes, in the low half.
#[inline]
#[target_feature(enable = "avx512f")]
fn eight<S: Real>(rows: &[&[S]], i: usize, lane: usize) -> __m128i {
    bytemuck::cast([u64::from_le_bytes(bytes::<S, 8>(rows, i, lane)), 0])
}

/// Sums as elements, as [`Real::from_double`] converts them.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
fn elements<D: Real>(sums: __m512d) -> [D; W] {
    match D::DTYPE {
        DType::F64 => bytemuck::cast(sums),
        DType::F32 => bytemuck::cast(_mm512_cvtpd_ps(sums)),
        DType::F16 => bytemuck::cast(halves(sums)),
        DType::I64 => bytemuck::cast(_mm512_cvttpd_epi64(sums)),
        DType::U64 => bytemuck::cast(unsigned(sums)),
        DType::I32 => bytemuck::cast(_mm512_cvttpd_epi32(sums)),
        DType::U32 => bytemuck::cast(_mm512_cvtepi64_epi32(_mm512_cvttpd_epi64(sums))),
        DType::I16 | DType::U16 => bytemuck::cast(_mm256_cvtepi32_epi16(_mm512_cvttpd_epi32(sums))),
        DType::I8 | DType::U8 | DType::Bool => {
            let bytes = _mm256_cvtepi32_epi8(_mm512_cvttpd_epi32(sums));
            let bytes = if D::DTYPE == DType::Bool { _mm_min_epu8(bytes, _mm_set1_epi8(1)) } else { bytes };
            let [bytes, _]: [[u8; W]; 2] = bytemuck::cast(bytes);
            bytemuck::cast(bytes)
        }
        _ => unreachable!("types that are real"),
    }
}

/// Truncated, the upper half of the numbers of 64 bits by way of a subtraction.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn unsigned(sums: __m512d) -> __m512i {
    let half = _mm512_set1_pd(9_223_372_036_854_775_808.0);
    let upper = _mm512_cmp_pd_mask::<_CMP_GE_OQ>(sums, half);
    let whole = _mm512_cvttpd_epi64(_mm512_mask_sub_pd(sums, upper, sums, half));
    _mm512_mask_xor_epi64(whole, upper, whole, _mm512_set1_epi64(i64::MIN))
}

/// In half precision, rounded once: the step in between rounds to odd.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,f16c")]
fn halves(sums: __m512d) -> __m128i {
    let truncated = _mm512_cvt_roundpd_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(sums);
    let is_inexact = _mm512_cmp_pd_mask::<_CMP_NEQ_OQ>(_mm512_cvtps_pd(truncated), sums);
    let bits = _mm256_castps_si256(truncated);
    let odd = _mm256_mask_or_epi32(bits, is_inexact, bits, _mm256_set1_epi32(1));
    _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_castsi256_ps(odd))
}

/// A square of sums as elements, turned.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
fn lines<D: Real>(sums: &Eight) -> [[D; W]; W] {
    let [a, b, c, d, e, f, g, h] = *sums;
    macro_rules! each {
        ($one:expr) => {
            bytemuck::cast([$one(a), $one(b), $one(c), $one(d), $one(e), $one(f), $one(g), $one(h)])
        };
    }
    match D::DTYPE {
        DType::F32 | DType::I32 | DType::U32 => bytemuck::cast(turned_words(&each!(elements::<D>))),
        DType::I16 | DType::U16 => bytemuck::cast(turned_low_halves(&each!(_mm512_cvttpd_epi32))),
        DType::I8 | DType::U8 | DType::Bool => {
            let [low, high] = turned_low_halves(&each!(_mm512_cvttpd_epi32));
            let bytes = joined(_mm512_cvtepi16_epi8(low), _mm512_cvtepi16_epi8(high));
            bytemuck::cast(if D::DTYPE == DType::Bool { _mm512_min_epu8(bytes, _mm512_set1_epi8(1)) } else { bytes })
        }
        _ => {
            let [a, b, c, d, e, f, g, h]: Eight = bytemuck::cast(turned(bytemuck::cast_ref(sums)));
            [elements(a), elements(b), elements(c), elements(d), elements(e), elements(f), elements(g), elements(h)]
        }
    }
}

/// See [`super::block`]; `put(lane, sums)` takes all rows.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn block(
    taps: &Taps,
    lanes: usize,
    ahead: &Ahead,
    vector: impl Fn(usize, usize) -> __m512d,
    put: impl FnMut(usize, Eight),
) {
    let starts = (0..lanes).step_by(W).map(|start| {
        ahead.fetch(start);
        start.min(lanes - W)
    });
    blocks(taps, one(), starts, vector, put);
}

/// Ones, which the compiler does not know: it would make plain additions of multiplications by them.
#[inline]
#[target_feature(enable = "avx512f")]
fn one() -> __m512d {
    _mm512_set1_pd(black_box(1.0))
}

/// The sums of each block; `vector(i, at)` are the entries of row `i` of the block at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn blocks(
    taps: &Taps,
    one: __m512d,
    starts: impl Iterator<Item = usize>,
    vector: impl Fn(usize, usize) -> __m512d,
    mut put: impl FnMut(usize, Eight),
) {
    let weights = &taps.weights[..];
    for at in starts {
        let row = |i: usize| vector(i, at);
        // One call of each, so that they are inlined.
        let sums = match taps.kind {
            Kind::Symmetric => pairs::<false>(row, weights, one),
            Kind::Antisymmetric => pairs::<true>(row, weights, one),
            Kind::General => singles(row, weights),
        };
        put(at, sums);
    }
}

/// The rows from `i` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn rows_from(row: impl Fn(usize) -> __m512d, i: usize) -> Eight {
    [row(i), row(i + 1), row(i + 2), row(i + 3), row(i + 4), row(i + 5), row(i + 6), row(i + 7)]
}

/// See [`super::pairs`].
///
/// The rows that eight sums need move by one from pair to pair. In registers they stay where they are: with each pair the
/// ring `left` begins an entry further on, and `right` one before. Row `i` is at `i % ROWS` of the one, row
/// `2 * half + i` at `i % ROWS` of the other.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn pairs<const MINUS: bool>(row: impl Fn(usize) -> __m512d, weights: &[f64], one: __m512d) -> Eight {
    debug_assert!(!weights.len().is_multiple_of(2), "a weight in the middle, as `Taps` sees to");
    let half = weights.len() / 2;
    let mut sums = times(rows_from(&row, half), weights[half]);
    let (mut left, mut right) = (rows_from(&row, 0), rows_from(&row, 2 * half));
    for (k, weights) in weights[..half].chunks(ROWS).enumerate() {
        let (first, last) = (k * ROWS, 2 * half - k * ROWS);
        macro_rules! pair {
            ($i:literal) => {
                let Some(&weight) = weights.get($i) else { break };
                if first + $i > 0 {
                    left[($i + ROWS - 1) % ROWS] = row(first + $i + ROWS - 1);
                    right[(ROWS - $i) % ROWS] = row(last - $i);
                }
                add_pairs::<MINUS, ROWS>(&mut sums, ring(&left, $i), ring(&right, ROWS - $i), weight, one);
            };
        }
        eight!(pair);
    }
    sums
}

/// See [`super::singles`]; a ring as in [`pairs`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn singles(row: impl Fn(usize) -> __m512d, weights: &[f64]) -> Eight {
    let last = weights.len() - 1;
    let mut sums = times(rows_from(&row, last), weights[last]);
    let mut next = rows_from(&row, 0);
    for (k, weights) in weights[..last].chunks(ROWS).enumerate() {
        let first = k * ROWS;
        macro_rules! single {
            ($i:literal) => {
                let Some(&weight) = weights.get($i) else { break };
                if first + $i > 0 {
                    next[($i + ROWS - 1) % ROWS] = row(first + $i + ROWS - 1);
                }
                add_singles(&mut sums, ring(&next, $i), weight);
            };
        }
        eight!(single);
    }
    sums
}

/// The entries of a ring from `i` on.
#[inline(always)]
#[allow(clippy::inline_always)] // So that all of them are known to be in registers.
fn ring(entries: &Eight, i: usize) -> Eight {
    let at = |r: usize| entries[(i + r) % ROWS];
    [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)]
}

/// See [`super::along`].
///
/// Vectors that begin anywhere are read from where they are, unless they can be put together from two that are in
/// registers: each of both costs about as much as a sum, and they are done by different units.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
pub(super) fn along(taps: &Taps, x: &[f64], out: &mut [f64]) {
    let weights = &taps.weights[..];
    let one = one();
    let x = &x[..LANES + out.len() + weights.len() - 1];
    let vector = |at: usize| bytemuck::cast(window_row::<W>(x, at));
    let out = out.as_chunks_mut::<ALONG>().0.iter_mut().enumerate();
    match taps.kind {
        Kind::Symmetric => {
            for (k, out) in out {
                *out = bytemuck::cast(pairs_along::<false>(|at| vector(k * ALONG + at), weights, one));
            }
        }
        Kind::Antisymmetric => {
            for (k, out) in out {
                *out = bytemuck::cast(pairs_along::<true>(|at| vector(k * ALONG + at), weights, one));
            }
        }
        Kind::General => {
            for (k, out) in out {
                *out = bytemuck::cast(singles_along(|i| row_of(vector, k * ALONG + W + i), weights));
            }
        }
    }
}

/// See [`super::row`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
#[allow(unsafe_code)]
pub(super) fn row<S: Real, D: Real>(taps: &Taps, rows: &[&[S]], out: &mut [D], is_past: bool) {
    let weights = &taps.weights[..];
    let one = one();
    rows_of_outputs(taps, rows, out);
    // SAFETY: outputs are borrowed here until it is dropped, and what is written with it no later part covers.
    let fence = is_past.then(|| unsafe { Fence::new() });
    for (at, is_alone) in parts(out.len(), out.as_ptr().align_offset(LINE), ALONG) {
        let part = |i: usize| row_of(|lane| doubles(rows, i, lane), at);
        let sums = match taps.kind {
            Kind::Symmetric => few_pairs::<false>(part, weights, one),
            Kind::Antisymmetric => few_pairs::<true>(part, weights, one),
            Kind::General => singles_along(part, weights),
        };
        let [a, b, c, d] = sums;
        let elements: Aligned<[[D; W]; PART]> = Aligned([elements(a), elements(b), elements(c), elements(d)]);
        let out = &mut out[at..][..ALONG];
        if let Some(fence) = fence.as_ref().filter(|_| is_alone) {
            stream_all(out, elements.0.as_flattened(), fence);
        } else {
            out.copy_from_slice(elements.0.as_flattened());
        }
    }
    drop(fence);
}

/// See [`super::pairs_along`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn few_pairs<const MINUS: bool>(row: impl Fn(usize) -> Four, weights: &[f64], one: __m512d) -> Four {
    let (half, last) = (weights.len() / 2, weights.len() - 1);
    let mut sums = times(row(half), weights[half]);
    for (i, &weight) in weights[..half].iter().enumerate() {
        add_pairs::<MINUS, PART>(&mut sums, row(i), row(last - i), weight, one);
    }
    sums
}

/// [`PART`] vectors that follow each other.
#[inline]
#[target_feature(enable = "avx512f")]
fn row_of(vector: impl Fn(usize) -> __m512d, at: usize) -> Four {
    [vector(at), vector(at + W), vector(at + 2 * W), vector(at + 3 * W)]
}

/// See [`super::pairs_along`]; `vector(at)` are the entries from `at` on, counted from a vector before the first.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn pairs_along<const MINUS: bool>(vector: impl Fn(usize) -> __m512d, weights: &[f64], one: __m512d) -> Four {
    let half = weights.len() / 2;
    let mut sums = times(row_of(&vector, W + half), weights[half]);
    // The right entries of the first of W pairs; those of the others begin in the vectors before.
    let mut right: [__m512i; PART] = bytemuck::cast(row_of(&vector, W + 2 * half));
    for (k, weights) in weights[..half].chunks(W).enumerate() {
        let (left, before) = (W + k * W, _mm512_castpd_si512(vector(2 * half - k * W)));
        macro_rules! pair {
            ($i:literal) => {
                if let Some(&weight) = weights.get($i) {
                    let right =
                        if $i == 0 { bytemuck::cast(right) } else { shifted::<{ (8 - $i) % 8 }>(before, right) };
                    add_pairs::<MINUS, PART>(&mut sums, row_of(&vector, left + $i), right, weight, one);
                }
            };
        }
        eight!(pair);
        right = [before, right[0], right[1], right[2]];
    }
    sums
}

/// The vectors that begin `BY` lanes after those before them; not as doubles, for which the compiler takes a slower
/// permutation.
#[inline]
#[target_feature(enable = "avx512f")]
fn shifted<const BY: i32>(before: __m512i, [a, b, c, d]: [__m512i; PART]) -> Four {
    [
        _mm512_castsi512_pd(_mm512_alignr_epi64::<BY>(a, before)),
        _mm512_castsi512_pd(_mm512_alignr_epi64::<BY>(b, a)),
        _mm512_castsi512_pd(_mm512_alignr_epi64::<BY>(c, b)),
        _mm512_castsi512_pd(_mm512_alignr_epi64::<BY>(d, c)),
    ]
}

/// See [`super::singles_along`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,f16c,fma")]
fn singles_along(row: impl Fn(usize) -> Four, weights: &[f64]) -> Four {
    let last = weights.len() - 1;
    let mut sums = times(row(last), weights[last]);
    for (i, &weight) in weights[..last].iter().enumerate() {
        add_singles(&mut sums, row(i), weight);
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn times<const R: usize>(mut rows: [__m512d; R], weight: f64) -> [__m512d; R] {
    let weight = _mm512_set1_pd(weight);
    for row in &mut rows {
        *row = _mm512_mul_pd(*row, weight);
    }
    rows
}

#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add_pairs<const MINUS: bool, const R: usize>(
    sums: &mut [__m512d; R],
    left: [__m512d; R],
    right: [__m512d; R],
    weight: f64,
    one: __m512d,
) {
    let weight = _mm512_set1_pd(weight);
    for r in 0..R {
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
fn add_singles<const R: usize>(sums: &mut [__m512d; R], next: [__m512d; R], weight: f64) {
    let weight = _mm512_set1_pd(weight);
    for r in 0..R {
        sums[r] = _mm512_add_pd(sums[r], _mm512_mul_pd(next[r], weight));
    }
}
