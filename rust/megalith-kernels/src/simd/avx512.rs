//! What reads memory by a vector of places, and what writes it past the caches.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi8, _mm512_cmplt_epu32_mask, _mm512_i32gather_epi32, _mm512_mask_storeu_epi8,
    _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_stream_si512,
};

use bytemuck::{Pod, cast, cast_slice, cast_slice_mut};

use super::Fence;

/// 0, 1, 2, ...
pub(crate) const IOTA: [u8; 64] = {
    let mut iota = [0; 64];
    let mut k = 0;
    while k < 64 {
        iota[k] = k as u8;
        k += 1;
    }
    iota
};

/// A value that begins a line of memory, so that none of its vectors crosses one.
///
/// A vector that is read back when it has just been written across the end of a page waits until all that was written before
/// it is in memory, lines past the caches too: 80 ns.
#[repr(align(64))]
pub(crate) struct Aligned<T>(pub(crate) T);

/// The entries of sixteen indices, if the table has them all; none of a table that has more entries than the
/// instruction, to which indices are signed, can tell apart.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
pub(crate) fn gather(table: &[[u8; 4]], indices: __m512i) -> Option<__m512i> {
    let size = i32::try_from(table.len()).ok()?;
    if _mm512_cmplt_epu32_mask(indices, _mm512_set1_epi32(size)) != u16::MAX {
        return None;
    }
    // SAFETY: each index is below `size`, as just compared without signs, so its four bytes are an entry of `table`, at
    // a distance that fits a signed index; the entries can be read as long as `table` is borrowed.
    Some(unsafe { _mm512_i32gather_epi32::<4>(indices, table.as_ptr().cast()) })
}

/// The first bytes of a vector, as many as there is room for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
#[allow(unsafe_code)]
pub(crate) fn store_first(out: &mut [u8], value: __m512i) {
    assert!(out.len() < 64, "a part of a vector");
    // SAFETY: only bytes whose bit is set are written, of which there are as many as `out` has, borrowed here alone.
    unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), (1 << out.len()) - 1, value) }
}

/// Write 64 bytes past the caches, if they are a line of memory.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
pub(crate) fn stream(line: &mut [u8; 64], value: __m512i, _fence: &Fence) {
    if line.as_ptr().addr().is_multiple_of(64) {
        // SAFETY: 64 bytes that are borrowed here alone, aligned as just looked at; whoever made the fence sees to the rest.
        unsafe { _mm512_stream_si512(line.as_mut_ptr().cast(), value) }
    } else {
        *line = cast(value);
    }
}

/// Write whole vectors past the caches, what of them is lines of memory.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn stream_all<T: Pod>(out: &mut [T], values: &[T], fence: &Fence) {
    let (lines, rest) = cast_slice_mut(out).as_chunks_mut();
    let (vectors, last) = cast_slice::<_, u8>(values).as_chunks::<64>();
    assert!(lines.len() == vectors.len() && rest.is_empty() && last.is_empty(), "whole vectors");
    for (line, &vector) in lines.iter_mut().zip(vectors) {
        stream(line, cast(vector), fence);
    }
}

/// Write a line past the caches that begins `at` bytes into one vector and ends in the next.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn stream_joined(line: &mut [u8; 64], first: __m512i, next: __m512i, at: usize, fence: &Fence) {
    assert!(at < 64, "a place in the first");
    let places = _mm512_add_epi8(cast(IOTA), _mm512_set1_epi8(at as i8));
    stream(line, _mm512_permutex2var_epi8(first, places, next), fence);
}

/// See [`super::copy`].
#[target_feature(enable = "avx512f")]
pub(super) fn copy(values: &[u8], out: &mut [u8], fence: Option<&Fence>) {
    let Some(fence) = fence else { return out.copy_from_slice(values) };
    assert_eq!(values.len(), out.len(), "a slot for each value");
    let first = out.as_ptr().align_offset(64).min(out.len());
    let ((start, values), (head, out)) = (values.split_at(first), out.split_at_mut(first));
    let ((vectors, end), (lines, tail)) = (values.as_chunks::<64>(), out.as_chunks_mut::<64>());
    head.copy_from_slice(start);
    stream_all(lines, vectors, fence);
    tail.copy_from_slice(end);
}
