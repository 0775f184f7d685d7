//! The table in registers, cut into planes: plane `p` has byte `p` of all 256 entries, in four vectors.
//!
//! `vpermi2b` looks 64 bytes up in half a plane; the top bit of each says which half it was. The bytes of the planes are
//! put together by unpacking, which works inside of 16 bytes: so the values are permuted first.
//!
//! Large results are written past the caches, whole lines of memory at a time.

use std::arch::x86_64::{
    __m512i, _mm512_mask_blend_epi8, _mm512_max_epu8, _mm512_movepi8_mask, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi32, _mm512_permutexvar_epi64, _mm512_setzero_si512, _mm512_unpackhi_epi8,
    _mm512_unpackhi_epi16, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
};

use bytemuck::{cast, cast_slice, cast_slice_mut};

use crate::simd::Fence;
use crate::simd::avx512::stream;

/// Bytes of a vector, and values looked up at once.
const LANES: usize = 64;

/// Entries of larger sizes are loaded one by one: there are not enough registers for their planes.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn look_up<L: bytemuck::Pod>(values: &[u8], table: &[L; 256], out: &mut [L], is_large: bool) -> u8 {
    let bytes = cast_slice(table);
    match size_of::<L>() {
        1 => each(values, cast_slice_mut(out), &planes::<1>(bytes), is_large, |v, [plane]| [entries(v, plane)]),
        2 => each(values, cast_slice_mut(out), &planes::<2>(bytes), is_large, |v, planes| pairs(v, planes)),
        4 => each(values, cast_slice_mut(out), &planes::<4>(bytes), is_large, |v, planes| quads(v, planes)),
        _ => super::plain(values, table, out, is_large),
    }
}

type Plane = [__m512i; 4];

fn planes<const N: usize>(table: &[u8]) -> [Plane; N] {
    std::array::from_fn(|p| cast(std::array::from_fn::<u8, 256, _>(|i| table[i * N + p])))
}

/// `N` vectors of entries for each vector of values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[allow(unsafe_code)]
fn each<const N: usize>(
    values: &[u8],
    out: &mut [u8],
    planes: &[Plane; N],
    is_large: bool,
    entries: impl Fn(__m512i, &[Plane; N]) -> [__m512i; N],
) -> u8 {
    let mut largest = _mm512_setzero_si512();
    let first = if is_large { (out.as_ptr().align_offset(LANES) / N).min(values.len()) } else { 0 };
    let ((head, values), (start, out)) = (values.split_at(first), out.split_at_mut(first * N));
    let (vectors, tail) = values.as_chunks::<LANES>();
    let (lines, rest) = out.split_at_mut(vectors.len() * LANES * N);
    // SAFETY: lines are borrowed here until it is dropped, and each is written once.
    let fence = is_large.then(|| unsafe { Fence::new() });
    for (&values, lines) in vectors.iter().zip(lines.chunks_exact_mut(LANES * N)) {
        let values = cast(values);
        largest = _mm512_max_epu8(largest, values);
        for (line, vector) in lines.as_chunks_mut::<LANES>().0.iter_mut().zip(entries(values, planes)) {
            if let Some(fence) = &fence {
                stream(line, vector, fence);
            } else {
                *line = cast(vector);
            }
        }
    }
    drop(fence);
    for (end, out) in [(head, start), (tail, rest)].into_iter().filter(|(end, _)| !end.is_empty()) {
        let mut values = [0; LANES];
        values[..end.len()].copy_from_slice(end);
        let values = cast(values);
        largest = _mm512_max_epu8(largest, values);
        out.copy_from_slice(&cast_slice(&entries(values, planes))[..out.len()]);
    }
    super::largest(&cast::<_, [u8; LANES]>(largest))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn entries(values: __m512i, &[a, b, c, d]: &Plane) -> __m512i {
    let low = _mm512_permutex2var_epi8(a, values, b);
    let high = _mm512_permutex2var_epi8(c, values, d);
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(values), low, high)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pairs(values: __m512i, [first, second]: &[Plane; 2]) -> [__m512i; 2] {
    let values = _mm512_permutexvar_epi64(cast([0u64, 4, 1, 5, 2, 6, 3, 7]), values);
    let (first, second) = (entries(values, first), entries(values, second));
    [_mm512_unpacklo_epi8(first, second), _mm512_unpackhi_epi8(first, second)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn quads(values: __m512i, planes: &[Plane; 4]) -> [__m512i; 4] {
    let order = [0u32, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    let values = _mm512_permutexvar_epi32(cast(order), values);
    let [a, b, c, d] = [0, 1, 2, 3].map(|p| entries(values, &planes[p]));
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let [first, second] = [_mm512_unpacklo_epi16(low, high), _mm512_unpackhi_epi16(low, high)];
    let (low, high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    [first, second, _mm512_unpacklo_epi16(low, high), _mm512_unpackhi_epi16(low, high)]
}
