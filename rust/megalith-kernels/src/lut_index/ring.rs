//! Kernels of 3 x 3 x 3: 27 truth values are one pattern, of which each plane knows nine bits.
//!
//! ```text
//! three[x] = b[x] + 2 b[x + 1] + 4 b[x + 2]
//! nine = three of this row + 8 three of the next + 64 three of the one after
//! for each plane z:                          ring[z % 3] = nine of its rows
//!     for each row, of the last three planes of the ring:
//!         list = the patterns that are neither empty nor full
//!         values = table[sum of each pattern of the list]
//!         sink row = values where the list has been taken from, table[0] or table[sum of all] elsewhere
//! ```
//!
//! 1. Each row is read once for a strip, each `nine` is used by three planes.
//! 2. What is empty or full is not looked up. The list has no gaps, so that it is summed and looked up 16 patterns at
//!    a time, and no branch depends on what a pattern is.
//! 3. A kernel of powers of two in the order of the bits needs no sums: the pattern is the index. All others are seven
//!    look-ups of four bits each in tables of 16 entries, of which each is one register of AVX-512.
//! 4. Some rows are made in a buffer at a time. Those of large results are written past the caches, which so keep the
//!    table.

#[cfg(target_arch = "x86_64")]
mod avx512;

use bytemuck::{cast_slice, cast_slice_mut};
use megalith_core::{Result, SinkView, SourceView, Workers};

use super::boxes::Grid;
use super::strips::{Volume, WIDTH, for_each_strip};
use super::table::{Entry, Table};
use crate::simd::{Fence, LARGE, copy, multiversion};

/// Positions of a strip's plane: three planes of two bytes each stay in the second-level cache.
const PLANE: usize = 1 << 15;
/// Positions whose patterns are collected before they are looked up.
const BATCH: usize = 1 << 13;
/// Rows, and positions of each, that tell how many patterns are looked up.
const SAMPLES: usize = 32;
const SAMPLE: usize = 512;
/// Numbers of cache lines: more than there are positions in the rows.
const LINES: usize = 1 << 16;
/// If one of so many look-ups of the rows was alone, and a table has an entry for each pattern, whole masks need more of it
/// than the caches keep.
const SPREAD: usize = 16;
/// The nine bits of a plane.
const NINE: u16 = 0x1ff;
/// Bits of a pattern that are looked up at once.
const BITS: usize = 4;
const ALL: usize = 27;

/// What the parts of a pattern are worth; `None` if the pattern is the sum.
type Worth = Option<[[i32; 1 << BITS]; ALL.div_ceil(BITS)]>;

/// A kernel as patterns see it.
pub(super) struct Kernel {
    worth: Worth,
    /// The sum of all weights.
    pub(super) full: usize,
}

impl Kernel {
    /// The kernel, if it is small enough and no sum can miss a table of `len` entries.
    pub(super) fn new(grid: &Grid, weights: &[i64], len: usize) -> Option<Self> {
        let &[deep, high, wide] = grid.kernel.as_slice() else { return None };
        let is_inside = weights.iter().all(|&w| w >= 0) && weights.iter().sum::<i64>() < len as i64;
        if deep.max(high).max(wide) > 3 || !is_inside {
            return None;
        }
        let weight = |bit: usize| {
            let index = [bit / 9, bit / 3 % 3, bit % 3];
            let is_entry = bit < ALL && index[0] < deep && index[1] < high && index[2] < wide;
            if is_entry { weights[grid.entry(&index)] as i32 } else { 0 }
        };
        let is_pattern = (0..ALL).all(|bit| weight(bit) == 1 << bit);
        let worth = (!is_pattern).then(|| {
            std::array::from_fn(|part| {
                std::array::from_fn(|four| {
                    (0..BITS).filter(|bit| four >> bit & 1 == 1).map(|bit| weight(part * BITS + bit)).sum()
                })
            })
        });
        Some(Self { worth, full: weights.iter().sum::<i64>() as usize })
    }
}

/// The memory of one thread.
struct Scratch<L> {
    row: Vec<u8>,
    threes: [Vec<u8>; 3],
    ring: [Vec<u16>; 3],
    list: List,
    values: Vec<L>,
    out: Vec<L>,
}

/// The patterns of some rows that are neither empty nor full, and where they are.
#[derive(Default)]
struct List {
    patterns: Vec<i32>,
    /// Bits of the positions that the list has, and of those that are full.
    listed: Vec<u64>,
    full: Vec<u64>,
}

impl List {
    /// Room for so many patterns; blocks are written whole, wherever they begin.
    fn resize(&mut self, n: usize) {
        self.patterns.resize(n + WIDTH, 0);
        self.listed.resize(n / WIDTH, 0);
        self.full.resize(n / WIDTH, 0);
    }
}

/// About how many sums are looked up far from all others, where the caches do not help, judged by some rows; none if
/// they are the minority. And whether it pays to ask for memory ahead.
pub(super) fn estimate(source: &SourceView<'_>, grid: &Grid, kernel: &Kernel, shape: &[usize]) -> (usize, bool) {
    let (Some(volume), &[deep, high, wide]) = (Volume::new(source, grid), shape) else { return (0, false) };
    let n = wide.min(SAMPLE);
    let pitch = n.next_multiple_of(WIDTH);
    let (mut row, mut threes) = (Vec::new(), [(); 3].map(|()| vec![0; pitch]));
    let (mut nines, mut list) = ([(); 3].map(|()| vec![0; pitch]), List::default());
    list.resize(pitch);
    let (mut counts, mut all) = (vec![0u16; LINES], 0);
    for k in 0..SAMPLES {
        let [z, y] = [(2 * k + 1) * deep / (2 * SAMPLES), (k * 7 % SAMPLES) * high / SAMPLES];
        for (dz, nine) in nines.iter_mut().enumerate() {
            for (dy, three) in threes.iter_mut().enumerate() {
                volume.read::<3>([z + dz, y + dy, (wide - n) / 2], &mut row, &mut three[..n]);
            }
            join(threes.each_ref().map(Vec::as_slice), nine);
        }
        let listed = collect(nines.each_ref().map(Vec::as_slice), &mut list);
        all += listed;
        let sums = &mut list.patterns[..listed.next_multiple_of(WIDTH)];
        add(&kernel.worth, sums);
        for sum in &sums[..listed] {
            counts[line(*sum)] += 1;
        }
    }
    let alone = counts.iter().filter(|&&count| count == 1).count();
    if alone < all / 2 {
        return (0, kernel.full + 1 >= 1 << ALL && alone >= all / SPREAD);
    }
    ((alone as u128 * (deep * high * wide) as u128 / (SAMPLES * n) as u128) as usize, true)
}

/// A number for the cache line of a table that a sum is looked up in; seldom the same one for others.
fn line(sum: i32) -> usize {
    ((sum as u32 >> 6).wrapping_mul(0x9e37_79b1) >> 16) as usize % LINES
}

/// `sink[p] = table[sum of the pattern of p]`.
pub(super) fn run<L: Entry>(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    grid: &Grid,
    kernel: &Kernel,
    table: &Table<'_, L>,
    sink: SinkView<'_>,
) -> Result<()> {
    let Some(volume) = Volume::new(source, grid) else { return Ok(()) };
    let ends = [table.entry(0), table.entry(kernel.full)];
    let is_large = size_of::<L>() * sink.len() >= LARGE;
    let scratch = || Scratch {
        row: Vec::new(),
        threes: Default::default(),
        ring: Default::default(),
        list: List::default(),
        values: Vec::new(),
        out: Vec::new(),
    };
    for_each_strip(workers, sink, PLANE, scratch, |scratch, [z0, y0, x0], mut sink| {
        let Scratch { row, threes, ring, list, values, out } = scratch;
        let [deep, high, wide] = [0, 1, 2].map(|axis| sink.shape()[axis]);
        let pitch = wide.next_multiple_of(WIDTH);
        let batch = (BATCH / pitch).max(1);
        for three in threes.iter_mut() {
            three.resize(pitch, 0);
        }
        for plane in ring.iter_mut() {
            plane.resize(high * pitch, 0);
        }
        list.resize(batch * pitch);
        values.resize(batch * pitch + WIDTH, L::default());
        out.resize(batch * wide, L::default());
        // SAFETY: nobody else has this strip of the sink, of which each position is written once, and not looked at.
        #[allow(unsafe_code)]
        let fence = is_large.then(|| unsafe { Fence::new() });
        for z in 0..deep + 2 {
            workers.check()?;
            for y in 0..high + 2 {
                let [a, b, c] = threes;
                volume.read::<3>([z0 + z, y0 + y, x0], row, &mut c[..wide]);
                if let Some(y) = y.checked_sub(2) {
                    let nine = &mut ring[2][y * pitch..(y + 1) * pitch];
                    join([&a[..pitch], &b[..pitch], &c[..pitch]], nine);
                }
                threes.rotate_left(1);
            }
            if let Some(z) = z.checked_sub(2) {
                for start in (0..high).step_by(batch) {
                    let lines = start..(start + batch).min(high);
                    let nines = ring.each_ref().map(|plane| &plane[start * pitch..lines.end * pitch]);
                    let n = collect(nines, list).next_multiple_of(WIDTH);
                    add(&kernel.worth, &mut list.patterns[..n]);
                    table.take(&list.patterns[..n], &mut values[..n]);
                    let words = list.listed.chunks_exact(pitch / WIDTH).zip(list.full.chunks_exact(pitch / WIDTH));
                    let mut values = &values[..];
                    let out = &mut out[..lines.len() * wide];
                    for (row, (listed, full)) in out.chunks_exact_mut(wide).zip(words) {
                        L::expand(listed, full, values, ends, row);
                        let taken: u32 = listed.iter().map(|word| word.count_ones()).sum();
                        values = &values[taken as usize..];
                    }
                    put(&mut sink, (z * high + start) * wide, out, wide, fence.as_ref());
                }
            }
            ring.rotate_left(1);
        }
        Ok(())
    })
}

/// Write rows of `wide` positions to the C-order positions from `first` on: as one where they follow each other in memory.
fn put<L: Entry>(sink: &mut SinkView<'_>, first: usize, rows: &[L], wide: usize, fence: Option<&Fence>) {
    let is_run = sink.slice_of_mut::<L>(first..first + rows.len()).is_some();
    let run = if is_run { rows.len() } else { wide };
    for (k, values) in rows.chunks_exact(run).enumerate() {
        let start = first + k * run;
        match sink.slice_of_mut::<L>(start..start + run) {
            Some(slots) => copy(cast_slice(values), cast_slice_mut(slots), fence),
            None => sink.scatter_raw(start, values),
        }
    }
}

multiversion!(fn join[](threes: [&[u8]; 3], nine: &mut [u16]) -> () = plain_join);
#[cfg(target_arch = "x86_64")]
multiversion!(fn collect[](nines: [&[u16]; 3], list: &mut List) -> usize = plain_collect, avx512 = avx512::collect);
#[cfg(target_arch = "x86_64")]
multiversion!(fn add[](worth: &Worth, patterns: &mut [i32]) -> () = plain_add, avx512 = avx512::add);
#[cfg(not(target_arch = "x86_64"))]
use plain_add as add;
#[cfg(not(target_arch = "x86_64"))]
use plain_collect as collect;

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_join([a, b, c]: [&[u8]; 3], nine: &mut [u16]) {
    for (nine, (a, (b, c))) in nine.iter_mut().zip(a.iter().zip(b.iter().zip(c))) {
        *nine = u16::from(a | b << 3) | u16::from(*c) << 6;
    }
}

/// Put a row's patterns on the list; returns how many they are.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_collect(nines: [&[u16]; 3], list: &mut List) -> usize {
    let blocks = nines.map(|nines| nines.as_chunks::<WIDTH>().0);
    let mut n = 0;
    for k in 0..blocks[0].len() {
        let [a, b, c] = blocks.map(|blocks| &blocks[k]);
        let (mut or, mut and) = ([0; WIDTH], [0; WIDTH]);
        for x in 0..WIDTH {
            or[x] = a[x] | b[x] | c[x];
            and[x] = a[x] & b[x] & c[x];
        }
        (list.listed[k], list.full[k]) = (0, 0);
        if or == [0; WIDTH] {
            continue;
        }
        if and == [NINE; WIDTH] {
            list.full[k] = u64::MAX;
            continue;
        }
        for x in 0..WIDTH {
            let (is_full, is_empty) = (and[x] == NINE, or[x] == 0);
            let is_listed = !(is_full | is_empty);
            list.full[k] |= u64::from(is_full) << x;
            list.listed[k] |= u64::from(is_listed) << x;
            // The next pattern takes the place of one that does not count.
            list.patterns[n] = i32::from(a[x]) | i32::from(b[x]) << 9 | i32::from(c[x]) << 18;
            n += usize::from(is_listed);
        }
    }
    n
}

/// Make sums of patterns.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_add(worth: &Worth, patterns: &mut [i32]) {
    let Some(worth) = worth else { return };
    for sum in patterns {
        let pattern = *sum as usize;
        *sum = (0..worth.len()).map(|part| worth[part][pattern >> (part * BITS) & ((1 << BITS) - 1)]).sum();
    }
}
