//! Squares of eight by eight doubles, turned in registers.

use std::arch::x86_64::{__m512d, _mm512_shuffle_f64x2, _mm512_unpackhi_pd, _mm512_unpacklo_pd};
use std::array::from_fn;

use super::SIDE;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn to_rows<T: Copy, F: Fn(T) -> f64>(lines: &[&[T]; SIDE], to: &mut [f64], f: &F) {
    let (squares, rest) = to.as_chunks_mut::<{ SIDE * SIDE }>();
    let columns = squares.len() * SIDE;
    let whole: [_; SIDE] = from_fn(|l| lines[l][..columns].as_chunks::<SIDE>().0);
    for (k, to) in squares.iter_mut().enumerate() {
        // No closures here: those that are not inlined go by way of memory.
        let mut square = [[0.0; SIDE]; SIDE];
        for (to, line) in square.iter_mut().zip(whole) {
            for (slot, &value) in to.iter_mut().zip(&line[k]) {
                *slot = f(value);
            }
        }
        let square = turned(&square);
        for (row, to) in square.iter().zip(to.as_chunks_mut::<SIDE>().0) {
            *to = *row;
        }
    }
    super::plain_to_rows(&from_fn(|l| &lines[l][columns..]), rest, f);
}

#[target_feature(enable = "avx512f")]
pub(super) fn to_lines(from: &[f64], columns: usize, to: &mut [f64]) {
    for c in (0..columns).step_by(SIDE) {
        let mut square = [[0.0; SIDE]; SIDE];
        for (k, to) in square.iter_mut().enumerate() {
            to.copy_from_slice(&from[(c + k) * SIDE..][..SIDE]);
        }
        let square = turned(&square);
        for (l, line) in square.into_iter().enumerate() {
            to[l * columns + c..][..SIDE].copy_from_slice(&line);
        }
    }
}

/// Pairs of lines, then pairs of pairs, then all eight.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn turned(square: &[[f64; SIDE]; SIDE]) -> [[f64; SIDE]; SIDE] {
    let [a, b, c, d, e, f, g, h] = square.map(bytemuck::cast::<[f64; SIDE], __m512d>);
    let [even0, even2] = quarters(_mm512_unpacklo_pd(a, b), _mm512_unpacklo_pd(c, d));
    let [even4, even6] = quarters(_mm512_unpacklo_pd(e, f), _mm512_unpacklo_pd(g, h));
    let [odd0, odd2] = quarters(_mm512_unpackhi_pd(a, b), _mm512_unpackhi_pd(c, d));
    let [odd4, odd6] = quarters(_mm512_unpackhi_pd(e, f), _mm512_unpackhi_pd(g, h));
    let ([r0, r4], [r2, r6]) = (quarters(even0, even4), quarters(even2, even6));
    let ([r1, r5], [r3, r7]) = (quarters(odd0, odd4), quarters(odd2, odd6));
    [r0, r1, r2, r3, r4, r5, r6, r7].map(bytemuck::cast::<__m512d, [f64; SIDE]>)
}

/// The first and third, and the second and fourth quarters of two vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(a: __m512d, b: __m512d) -> [__m512d; 2] {
    [_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xDD>(a, b)]
}
