//! Lines turned in registers.

use std::arch::x86_64::{__m512i, _mm512_set1_epi64, _mm512_sllv_epi64, _mm512_srlv_epi64, _mm512_ternarylogic_epi64};

use super::{Columns, Line, WORDS, by_squares};
use crate::rows::turned;

/// Bits of the first operand where those of the third are set, of the second elsewhere.
const CHOOSE: i32 = 0b1110_0100;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn turn(columns: Columns<'_>, out: &mut [u8], pitch: usize) {
    by_squares(
        columns,
        out,
        pitch,
        #[inline(always)]
        |square| bytemuck::cast::<_, [Line; WORDS]>(turned(&bytemuck::cast(square))),
        #[inline(always)]
        |top, bottom, bits| {
            let [top, bottom] = [top, bottom].map(bytemuck::cast::<Line, __m512i>);
            let firsts = _mm512_set1_epi64((u64::MAX / ((1 << bits) + 1)) as i64);
            let count = _mm512_set1_epi64(i64::from(bits));
            let first = _mm512_ternarylogic_epi64::<CHOOSE>(top, _mm512_sllv_epi64(bottom, count), firsts);
            let second = _mm512_ternarylogic_epi64::<CHOOSE>(_mm512_srlv_epi64(top, count), bottom, firsts);
            (bytemuck::cast(first), bytemuck::cast(second))
        },
    );
}
