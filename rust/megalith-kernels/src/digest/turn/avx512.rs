//! Eight lines of words turned in registers.

use super::{Columns, Line, WORDS, by_squares};
use crate::rows::turned;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
pub(super) fn turn(columns: Columns<'_>, out: &mut [u8], pitch: usize) {
    by_squares(
        columns,
        out,
        pitch,
        #[inline(always)]
        |square| bytemuck::cast::<_, [Line; WORDS]>(turned(&bytemuck::cast(square))),
    );
}
