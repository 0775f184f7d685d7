//! Lists made by compression, sums by look-ups in registers.

use std::arch::x86_64::{
    __m256i, __m512i, _mm512_add_epi32, _mm512_cmpeq_epi16_mask, _mm512_cvtepu16_epi32, _mm512_maskz_compress_epi16,
    _mm512_permutexvar_epi32, _mm512_set1_epi16, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_ternarylogic_epi32,
    _mm512_test_epi16_mask,
};

use bytemuck::cast;

use super::{List, NINE, Worth};

/// Numbers of 16 bits in a register.
const HALF: usize = 32;
const OR: i32 = 0xfe;
const AND: i32 = 0x80;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
pub(super) fn collect(nines: [&[u16]; 3], list: &mut List) -> usize {
    let all = _mm512_set1_epi16(NINE as i16);
    let blocks = nines.map(|nines| nines.as_chunks::<HALF>().0);
    let mut n = 0;
    let [a, b, c] = blocks;
    let words = list.listed.iter_mut().zip(&mut list.full);
    let halves = a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0.iter().zip(c.as_chunks::<2>().0));
    for ((listed, full), (a, (b, c))) in words.zip(halves) {
        (*listed, *full) = (0, 0);
        for half in 0..2 {
            let parts: [__m512i; 3] = [cast(a[half]), cast(b[half]), cast(c[half])];
            let [a, b, c] = parts;
            let or = _mm512_ternarylogic_epi32::<OR>(a, b, c);
            let and = _mm512_ternarylogic_epi32::<AND>(a, b, c);
            let is_full = _mm512_cmpeq_epi16_mask(and, all);
            let is_listed = _mm512_test_epi16_mask(or, or) & !is_full;
            *full |= u64::from(is_full) << (half * HALF);
            *listed |= u64::from(is_listed) << (half * HALF);
            if is_listed != 0 {
                for (nines, part) in list.nines.iter_mut().zip(parts) {
                    let block: [u16; HALF] = cast(_mm512_maskz_compress_epi16(is_listed, part));
                    nines[n..n + HALF].copy_from_slice(&block);
                }
                n += is_listed.count_ones() as usize;
            }
        }
    }
    n
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add(nines: [&[u16]; 3], worth: &Worth, sums: &mut [i32]) {
    let [a, b, c] = nines.map(|nines| nines.as_chunks::<16>().0);
    let tables: Option<[__m512i; 7]> = worth.map(|worth| worth.map(cast));
    for (sums, (a, (b, c))) in sums.as_chunks_mut::<16>().0.iter_mut().zip(a.iter().zip(b.iter().zip(c))) {
        let wide = |nine: [u16; 16]| _mm512_cvtepu16_epi32(cast::<_, __m256i>(nine));
        let (b, c) = (_mm512_slli_epi32::<9>(wide(*b)), _mm512_slli_epi32::<18>(wide(*c)));
        let pattern = _mm512_ternarylogic_epi32::<OR>(wide(*a), b, c);
        let Some(tables) = tables else {
            *sums = cast(pattern);
            continue;
        };
        // A table of 16 entries looks at the lowest four bits alone.
        let sum = _mm512_permutexvar_epi32(pattern, tables[0]);
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<4>(pattern), tables[1]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<8>(pattern), tables[2]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<12>(pattern), tables[3]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<16>(pattern), tables[4]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<20>(pattern), tables[5]));
        let sum = _mm512_add_epi32(sum, _mm512_permutexvar_epi32(_mm512_srli_epi32::<24>(pattern), tables[6]));
        *sums = cast(sum);
    }
}
