//! The numbers of bits by compression, and pairs of them by permutation of bytes.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi8, _mm512_add_epi64, _mm512_alignr_epi64, _mm512_maskz_compress_epi8,
    _mm512_maskz_compress_epi64, _mm512_maskz_permutex2var_epi8, _mm512_permutexvar_epi64, _mm512_popcnt_epi64,
    _mm512_set1_epi8, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shrdv_epi64, _mm512_slli_epi64, _mm512_sub_epi64,
    _mm512_test_epi64_mask, _pext_u64,
};

use bytemuck::cast;

use super::{AHEAD, WORD, lowest_pair, moved, plain_write};
use crate::simd::avx512::IOTA;
use crate::simd::prefetch;

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

/// Words of a vector.
const LANES: usize = 8;

/// Words whose numbers of bits fit the parts of a [`Kept`].
const CHUNK: usize = 256;

/// A word with pairs: its number in the chunk, and from bit 16 and bit 32 on the bits of the words before it, of the low
/// and of the high ones.
type Kept = u64;

/// The words with pairs of a chunk, and what lies behind those that were looked at.
struct Words {
    kept: [Kept; CHUNK + LANES],
    n: usize,
    /// What each of the next words is, but for the bits of those between.
    next: __m512i,
}

impl Words {
    fn new() -> Self {
        Self { kept: [0; CHUNK + LANES], n: 0, next: cast([0u64; LANES]) }
    }

    /// Keep those of the next words that have pairs, without a branch.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,avx512vpopcntdq,popcnt")]
    fn add(&mut self, low: [u64; LANES], here: [u64; LANES], next: [u64; LANES], shift: u32) {
        let (zero, last) = (_mm512_setzero_si512(), _mm512_set1_epi64(LANES as i64 - 1));
        let low = cast(low);
        let high = _mm512_shrdv_epi64(cast(here), cast(next), _mm512_set1_epi64(shift.into()));
        let (i, j) = (_mm512_popcnt_epi64(low), _mm512_popcnt_epi64(high));
        let counts = _mm512_add_epi64(_mm512_slli_epi64::<16>(i), _mm512_slli_epi64::<32>(j));
        let mut sums = _mm512_add_epi64(counts, _mm512_alignr_epi64::<7>(counts, zero));
        sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<6>(sums, zero));
        sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<4>(sums, zero));
        let words = _mm512_add_epi64(self.next, _mm512_sub_epi64(sums, counts));
        let step = _mm512_add_epi64(_mm512_permutexvar_epi64(last, sums), _mm512_set1_epi64(LANES as i64));
        self.next = _mm512_add_epi64(self.next, step);
        let mask = _mm512_test_epi64_mask(low, high);
        // What lies beyond the last word with pairs is overwritten by the next.
        let kept: [u64; LANES] = cast(_mm512_maskz_compress_epi64(mask, words));
        self.kept[self.n..self.n + LANES].copy_from_slice(&kept);
        self.n += mask.count_ones() as usize;
    }

    /// Keep the words of a chunk that have pairs, and no others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,avx512vpopcntdq,popcnt")]
    fn take(&mut self, low: &[u64], here: &[u64], next: &[u64], shift: u32) {
        (self.n, self.next) = (0, cast::<[u64; LANES], _>(std::array::from_fn(|lane| lane as u64)));
        let [(low, low_rest), (here, here_rest), (next, next_rest)] = [low, here, next].map(<[u64]>::as_chunks);
        for ((low, here), next) in low.iter().zip(here).zip(next) {
            prefetch::<false>(low.as_ptr().addr() + AHEAD);
            prefetch::<false>(here.as_ptr().addr() + AHEAD);
            self.add(*low, *here, *next, shift);
        }
        if !low_rest.is_empty() {
            let [low, here, next] = [low_rest, here_rest, next_rest].map(|rest| {
                let mut lanes = [0; LANES];
                lanes[..rest.len()].copy_from_slice(rest);
                lanes
            });
            self.add(low, here, next, shift);
        }
    }

    /// How many bits lie before the next word, beside those before the first.
    fn ranks(&self, ranks: [usize; 2]) -> [usize; 2] {
        ranks_of(cast::<_, [Kept; LANES]>(self.next)[0], ranks)
    }
}

/// How many bits lie before a word, of so many before the chunk.
fn ranks_of(kept: Kept, ranks: [usize; 2]) -> [usize; 2] {
    [ranks[0] + (kept >> 16 & 0xffff) as usize, ranks[1] + (kept >> 32) as usize]
}

/// See [`super::write`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,avx512vpopcntdq,popcnt,bmi1,bmi2")]
pub(super) fn write(low: &[u64], high: &[u64], shift: u32, ranks: [usize; 2], is_forward: bool, out: &mut [[i64; 2]]) {
    let iota: __m512i = cast(IOTA);
    let step = _mm512_set1_epi8(PAIRS as i8);
    // Where words seldom have more than one pair, that is guessed right.
    let is_sparse = out.len() <= low.len() / 4;
    let (mut words, mut ranks, mut done) = (Words::new(), ranks, 0);
    for first in (0..low.len()).step_by(CHUNK) {
        let stop = low.len().min(first + CHUNK);
        let (low, here, next) = (&low[first..stop], &high[first..stop], &high[first + 1..=stop]);
        words.take(low, here, next, shift);
        for &word in &words.kept[..words.n] {
            let k = word as usize % (1 << 16);
            let [rank_low, rank_high] = ranks_of(word, ranks);
            let (low, high) = (low[k], moved(here[k], next[k], shift));
            let hits = low & high;
            let count = hits.count_ones() as usize;
            if is_sparse
                && count == 1
                && let Some(slot) = out.get_mut(done)
            {
                *slot = lowest_pair(hits, [low, high], [rank_low, rank_high], is_forward);
                done += 1;
                continue;
            }
            let groups = out[done..].as_chunks_mut::<PAIRS>().0;
            if let Some(groups) = groups.get_mut(..count.div_ceil(PAIRS)) {
                let i = _mm512_maskz_compress_epi8(_pext_u64(hits, low), iota);
                let j = _mm512_maskz_compress_epi8(_pext_u64(hits, high), iota);
                let (i, j, a, b) = if is_forward { (i, j, rank_low, rank_high) } else { (j, i, rank_high, rank_low) };
                let base: __m512i = cast([a, b, a, b, a, b, a, b]);
                let mut places: __m512i = cast(FIRST);
                for group in groups {
                    *group = cast(_mm512_add_epi64(_mm512_maskz_permutex2var_epi8(LOWEST, i, places, j), base));
                    places = _mm512_add_epi8(places, step);
                }
            } else {
                // What is left of the result does not hold whole vectors.
                plain_write(&[low], &[high, 0], 0, [rank_low, rank_high], is_forward, &mut out[done..]);
            }
            done += count;
        }
        ranks = words.ranks(ranks);
    }
}
