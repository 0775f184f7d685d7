//! The numbers of bits by compression, and pairs of them by permutation of bytes.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi8, _mm512_add_epi64, _mm512_maskz_compress_epi8, _mm512_maskz_permutex2var_epi8,
    _mm512_set1_epi8, _pext_u64,
};

use bytemuck::cast;

use super::{WORD, moved, plain_write};

/// 0, 1, 2, ...
const IOTA: [u8; WORD] = {
    let mut iota = [0; WORD];
    let mut k = 0;
    while k < WORD {
        iota[k] = k as u8;
        k += 1;
    }
    iota
};

/// Pairs of a vector.
const PAIRS: usize = 4;

/// The lowest byte of each number of a vector: of the first four pairs, from one vector of bytes and another.
const FIRST: [u8; WORD] = {
    let mut bytes = [0; WORD];
    let mut k = 0;
    while k < PAIRS {
        bytes[16 * k] = k as u8;
        bytes[16 * k + 8] = (WORD + k) as u8;
        k += 1;
    }
    bytes
};

/// The lowest byte of each number.
const LOWEST: u64 = 0x0101_0101_0101_0101;

/// Words that are looked at together.
const CHUNK: usize = 256;

/// A word with pairs.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    low: u64,
    high: u64,
    ranks: [usize; 2],
}

/// See [`super::write`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
pub(super) fn write(low: &[u64], high: &[u64], shift: u32, ranks: [usize; 2], is_forward: bool, out: &mut [[i64; 2]]) {
    let (here, next) = (&high[..low.len()], &high[1..=low.len()]);
    let iota: __m512i = cast(IOTA);
    let step = _mm512_set1_epi8(PAIRS as i8);
    let mut ranks = ranks;
    let mut done = 0;
    let mut kept = [Kept::default(); CHUNK];
    for first in (0..low.len()).step_by(CHUNK) {
        // The words with pairs, found without a branch.
        let mut n_kept = 0;
        for k in first..low.len().min(first + CHUNK) {
            let word = Kept { low: low[k], high: moved(here[k], next[k], shift), ranks };
            kept[n_kept % CHUNK] = word;
            n_kept += usize::from(word.low & word.high != 0);
            ranks = [ranks[0] + word.low.count_ones() as usize, ranks[1] + word.high.count_ones() as usize];
        }
        for word in &kept[..n_kept] {
            let hits = word.low & word.high;
            let count = hits.count_ones() as usize;
            let groups = out[done..].as_chunks_mut::<PAIRS>().0;
            if let Some(groups) = groups.get_mut(..count.div_ceil(PAIRS)) {
                let i = _mm512_maskz_compress_epi8(_pext_u64(hits, word.low), iota);
                let j = _mm512_maskz_compress_epi8(_pext_u64(hits, word.high), iota);
                let [low, high] = word.ranks;
                let (i, j, a, b) = if is_forward { (i, j, low, high) } else { (j, i, high, low) };
                let base: __m512i = cast([a, b, a, b, a, b, a, b]);
                let mut places: __m512i = cast(FIRST);
                for group in groups {
                    *group = cast(_mm512_add_epi64(_mm512_maskz_permutex2var_epi8(LOWEST, i, places, j), base));
                    places = _mm512_add_epi8(places, step);
                }
            } else {
                // What is left of the result does not hold whole vectors.
                plain_write(&[word.low], &[word.high, 0], 0, word.ranks, is_forward, &mut out[done..]);
            }
            done += count;
        }
    }
}
