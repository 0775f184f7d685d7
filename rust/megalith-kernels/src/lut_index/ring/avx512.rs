//! Lists made by compression, sums by look-ups in registers.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cmpeq_epi16_mask, _mm512_maskz_compress_epi32, _mm512_or_si512,
    _mm512_permutex2var_epi16, _mm512_permutexvar_epi32, _mm512_set1_epi16, _mm512_slli_epi16, _mm512_srli_epi16,
    _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_test_epi16_mask,
};

use bytemuck::cast;

use super::{List, NINE, WIDTH, Worth};

/// Numbers of 16 and of 32 bits in a register.
const HALF: usize = 32;
const QUARTER: usize = 16;
const OR: i32 = 0xfe;
const AND: i32 = 0x80;

/// Which numbers of 16 bits, of two registers, become numbers of 32 bits, the first of them `first`.
const fn zipped(first: usize) -> [u16; HALF] {
    let mut places = [0; HALF];
    let mut k = 0;
    while k < HALF {
        places[k] = (first + k / 2 + k % 2 * HALF) as u16;
        k += 1;
    }
    places
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,popcnt")]
pub(super) fn collect(nines: [&[u16]; 3], list: &mut List) -> usize {
    let all = _mm512_set1_epi16(NINE as i16);
    let places: [__m512i; 2] = [cast(zipped(0)), cast(zipped(QUARTER))];
    let [a, b, c] = nines;
    let (a, b, c) = (a.as_chunks::<WIDTH>().0, b.as_chunks::<WIDTH>().0, c.as_chunks::<WIDTH>().0);
    let List { patterns, listed, full } = list;
    let patterns = patterns.as_mut_slice();
    let mut n = 0;
    for ((listed, full), (a, (b, c))) in listed.iter_mut().zip(full).zip(a.iter().zip(b.iter().zip(c))) {
        let ([a0, a1], [b0, b1], [c0, c1]): ([__m512i; 2], [__m512i; 2], [__m512i; 2]) = (cast(*a), cast(*b), cast(*c));
        let masks = |a, b, c| {
            let or = _mm512_ternarylogic_epi32::<OR>(a, b, c);
            let and = _mm512_ternarylogic_epi32::<AND>(a, b, c);
            [_mm512_test_epi16_mask(or, or), _mm512_cmpeq_epi16_mask(and, all)].map(u64::from)
        };
        let ([some0, all0], [some1, all1]) = (masks(a0, b0, c0), masks(a1, b1, c1));
        *full = all0 | all1 << HALF;
        let mut left = (some0 | some1 << HALF) & !*full;
        *listed = left;
        if left == 0 {
            continue;
        }
        for (a, b, c) in [(a0, b0, c0), (a1, b1, c1)] {
            let low = _mm512_or_si512(a, _mm512_slli_epi16::<9>(b));
            let high = _mm512_or_si512(_mm512_srli_epi16::<7>(b), _mm512_slli_epi16::<2>(c));
            for places in places {
                let zipped = _mm512_permutex2var_epi16(low, places, high);
                let block: [i32; QUARTER] = cast(_mm512_maskz_compress_epi32(left as u16, zipped));
                patterns[n..n + QUARTER].copy_from_slice(&block);
                n += (left as u16).count_ones() as usize;
                left >>= QUARTER;
            }
        }
    }
    n
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add(worth: &Worth, patterns: &mut [i32]) {
    let Some(tables) = worth.map(|worth| worth.map(cast::<_, __m512i>)) else { return };
    for block in patterns.as_chunks_mut::<QUARTER>().0 {
        let pattern = cast(*block);
        // A table of 16 entries looks at the lowest four bits alone.
        let sum = _mm512_permutexvar_epi32(pattern, tables[0]);
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<4>(pattern), tables[1]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<8>(pattern), tables[2]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<12>(pattern), tables[3]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<16>(pattern), tables[4]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<20>(pattern), tables[5]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<24>(pattern), tables[6]));
        *block = cast(sum);
    }
}
