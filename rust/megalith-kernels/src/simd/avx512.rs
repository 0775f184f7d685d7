//! What reads memory by a vector of places.

use std::arch::x86_64::{__m512i, _mm512_cmplt_epu32_mask, _mm512_i32gather_epi32, _mm512_set1_epi32};

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
