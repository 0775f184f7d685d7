//! Entries of one byte: `vpshufb` looks 32 values up in 16 entries; the bits above choose among sixteen of these.

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_max_epu8, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16,
};

use bytemuck::{cast, cast_slice, cast_slice_mut};

/// Bytes of a vector.
const LANES: usize = 32;

/// Entries of larger sizes are loaded one by one, which is as fast.
#[target_feature(enable = "avx2")]
pub(super) fn look_up<L: bytemuck::Pod>(values: &[u8], table: &[L; 256], out: &mut [L], is_large: bool) -> u8 {
    if size_of::<L>() != 1 {
        return super::plain(values, table, out, is_large);
    }
    let parts: [[u8; 16]; 16] = cast(<[u8; 256]>::try_from(cast_slice(table)).expect("256 entries of a byte"));
    let parts = parts.map(|part| _mm256_broadcastsi128_si256(cast(part)));
    let mut largest = _mm256_setzero_si256();
    let (vectors, tail) = values.as_chunks::<LANES>();
    let (slots, rest) = cast_slice_mut(out).as_chunks_mut::<LANES>();
    for (&values, slot) in vectors.iter().zip(slots) {
        let values = cast(values);
        largest = _mm256_max_epu8(largest, values);
        *slot = cast(entries(values, &parts));
    }
    let last = super::plain(tail, &cast::<_, [u8; 256]>(<[L; 256]>::clone(table)), rest, is_large);
    super::largest(&cast::<_, [u8; LANES]>(largest)).max(last)
}

#[inline]
#[target_feature(enable = "avx2")]
fn entries(values: __m256i, parts: &[__m256i; 16]) -> __m256i {
    let low = _mm256_and_si256(values, _mm256_set1_epi8(15));
    // A blend looks at the top bit of each byte: bits 4 to 7 are brought there in turn.
    let bits = [_mm256_slli_epi16::<3>(values), _mm256_slli_epi16::<2>(values), _mm256_slli_epi16::<1>(values), values];
    let mut found = parts.map(|part| _mm256_shuffle_epi8(part, low));
    for (k, bit) in bits.into_iter().enumerate() {
        for i in 0..8 >> k {
            found[i] = _mm256_blendv_epi8(found[2 * i], found[2 * i + 1], bit);
        }
    }
    found[0]
}
