//! The lanes of a leaf in two vectors; left to itself, the compiler takes vectors of two lanes.

use std::arch::x86_64::{
    _mm_add_pd, _mm_add_sd, _mm_cvtsd_f64, _mm_unpackhi_pd, _mm256_add_pd, _mm256_castpd256_pd128,
    _mm256_extractf128_pd, _mm512_add_pd, _mm512_castpd512_pd256, _mm512_extractf64x4_pd, _mm512_setzero_pd,
};

use super::{LANES, LEAF};

/// See [`super::add_leaves`].
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
pub(super) fn add_leaves<T: Copy>(values: &[T], leaves: &mut [f64], value: impl Fn(T) -> f64 + Copy) {
    for (sum, leaf) in leaves.iter_mut().zip(values.chunks(LEAF)) {
        let (whole, rest) = leaf.as_chunks::<LANES>();
        let (mut low, mut high) = (_mm512_setzero_pd(), _mm512_setzero_pd());
        for chunk in whole {
            let mut lanes = [[0.0; LANES / 2]; 2];
            for (lane, &x) in lanes.as_flattened_mut().iter_mut().zip(chunk) {
                *lane = value(x);
            }
            low = _mm512_add_pd(low, bytemuck::cast(lanes[0]));
            high = _mm512_add_pd(high, bytemuck::cast(lanes[1]));
        }
        let eight = _mm512_add_pd(low, high);
        let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
        let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
        let one = _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
        *sum = rest.iter().fold(one, |sum, &x| sum + value(x));
    }
}
