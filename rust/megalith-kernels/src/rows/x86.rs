//! Doubles truncated eight (or four) at a time: what does not fit into 32 bits becomes `i32::MIN`, NaN too.

use std::arch::x86_64::{__m128i, __m256d, __m256i, __m512d, _mm256_cvttpd_epi32, _mm512_cvttpd_epi32};

use megalith_core::dtype::Real;

macro_rules! truncate {
    ($name:ident, $features:literal, $lanes:literal, $wide:ty, $narrow:ty, $convert:ident) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name<T, F: Fn(i32) -> T>(from: &[f64], to: &mut [T], narrow: &F) {
            let (wide, rest) = from.as_chunks::<$lanes>();
            let (to, to_rest) = to.split_at_mut(wide.len() * $lanes);
            for (from, to) in wide.iter().zip(to.as_chunks_mut::<$lanes>().0) {
                let whole = $convert(bytemuck::cast::<[f64; $lanes], $wide>(*from));
                let whole = bytemuck::cast::<$narrow, [i32; $lanes]>(whole);
                for (slot, value) in to.iter_mut().zip(whole) {
                    *slot = narrow(value);
                }
            }
            for (slot, &value) in to_rest.iter_mut().zip(rest) {
                *slot = narrow(i32::from_double(value));
            }
        }
    };
}

truncate!(truncate_avx512, "avx512f,avx512bw,avx512vl", 8, __m512d, __m256i, _mm512_cvttpd_epi32);
truncate!(truncate_avx2, "avx2", 4, __m256d, __m128i, _mm256_cvttpd_epi32);
