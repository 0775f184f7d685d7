//! Truth values: three neighbours in a row are a number below eight, and what each of the eight is worth is known.
//!
//! A kernel of 3 x 3 x 3 has nine rows of three weights. With the truth values of each place and the two after it as
//! the bits of one byte, a sum is nine look-ups in tables of eight entries instead of 27 products, whatever the weights
//! are; and a table of eight entries is one register, in which AVX2 and AVX-512 look 8 to 64 places up at once:
//!
//! ```text
//! cell[x] = b[x] + 2 b[x + 1] + 4 b[x + 2]
//! sum[x] = worth[row 0][cell[x + offset of row 0]] + worth[row 1][cell[x + offset of row 1]] + ...
//! ```
//!
//! Most of a mask is empty or full. A block of cells that are all 0, or all 7, has one sum, which is known.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use megalith_core::Bool8;

use super::boxes::{Grid, for_each_index, linear};
use super::cells::{Arithmetic, WIDTH};
use crate::simd::multiversion;

/// Weights that are next to each other in a row of the kernel.
pub(super) const TRIPLE: usize = 3;
/// All bits of a cell.
const FULL: u8 = 7;

/// Sums of 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Patterns;
/// Sums of weights that are not negative and together below 256.
#[derive(Clone, Copy)]
pub(super) struct Bytes;

/// What each cell is worth to a sum of 32 bits.
pub(super) type Worth = [i32; 8];
/// What each cell is worth to a sum of 8 bits; 16 entries, as registers want them.
pub(super) type ByteWorth = [u8; 16];

/// What a truth value is before its row is joined.
#[inline]
pub(super) fn cell(value: Bool8) -> u8 {
    u8::from(value.0 != 0)
}

/// The rows of three of a kernel: the offset of each, and what its cells are worth.
pub(super) fn triples(grid: &Grid, weights: &[i64]) -> Vec<(usize, Worth)> {
    let last = grid.kernel.len() - 1;
    let mut rows = grid.kernel.clone();
    rows[last] = rows[last].div_ceil(TRIPLE);
    let mut triples = Vec::new();
    for_each_index(&rows, |index| {
        let mut index = index.to_vec();
        index[last] *= TRIPLE;
        let offset = linear(&index, &grid.strides);
        let mut worth: Worth = [0; 8];
        for bit in 0..TRIPLE.min(grid.kernel[last] - index[last]) {
            let weight = weights[grid.entry(&index)] as i32;
            index[last] += 1;
            for (_, worth) in worth.iter_mut().enumerate().filter(|(cell, _)| cell >> bit & 1 == 1) {
                *worth += weight;
            }
        }
        if worth != [0; 8] {
            triples.push((offset, worth));
        }
    });
    triples
}

/// The same in bytes.
pub(super) fn in_bytes(worth: Worth) -> ByteWorth {
    std::array::from_fn(|g| worth[g % 8] as u8)
}

impl Arithmetic for Patterns {
    type Cell = u8;
    type Weight = Worth;
    type Sum = i32;
    fn join(self, row: &mut [u8]) {
        join(row);
    }
    fn correlate(self, cells: &[u8], taps: &[(usize, Worth)], sums: &mut [i32]) {
        sum(cells, taps, sums);
    }
}

impl Arithmetic for Bytes {
    type Cell = u8;
    type Weight = ByteWorth;
    type Sum = u8;
    fn join(self, row: &mut [u8]) {
        join(row);
    }
    fn correlate(self, cells: &[u8], taps: &[(usize, ByteWorth)], sums: &mut [u8]) {
        sum_bytes(cells, taps, sums);
    }
}

multiversion!(fn join[](row: &mut [u8]) -> () = plain_join);
#[cfg(target_arch = "x86_64")]
multiversion!(fn sum[](cells: &[u8], taps: &[(usize, Worth)], sums: &mut [i32]) -> ()
    = plain_sum, avx512 = avx512::sum, avx2 = avx2::sum);
#[cfg(target_arch = "x86_64")]
multiversion!(fn sum_bytes[](cells: &[u8], taps: &[(usize, ByteWorth)], sums: &mut [u8]) -> ()
    = plain_sum_bytes, avx512 = avx512::sum_bytes, avx2 = avx2::sum_bytes);
#[cfg(not(target_arch = "x86_64"))]
use plain_sum as sum;
#[cfg(not(target_arch = "x86_64"))]
use plain_sum_bytes as sum_bytes;

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_join(row: &mut [u8]) {
    // In blocks that are read before they are written: a loop over single cells would not be vectorised.
    let x = join_blocks::<64>(row, 0);
    let x = join_blocks::<16>(row, x);
    for x in x..row.len().saturating_sub(2) {
        row[x] |= row[x + 1] << 1 | row[x + 2] << 2;
    }
    if let [.., a, b] = row {
        *a |= *b << 1;
    }
}

/// Join whole blocks of `N` from `x` on; returns where the rest begins.
#[inline(always)]
#[allow(clippy::inline_always)]
fn join_blocks<const N: usize>(row: &mut [u8], mut x: usize) -> usize {
    while x + N + 2 <= row.len() {
        let (mut a, mut b, mut c) = ([0; N], [0; N], [0; N]);
        a.copy_from_slice(&row[x..x + N]);
        b.copy_from_slice(&row[x + 1..x + 1 + N]);
        c.copy_from_slice(&row[x + 2..x + 2 + N]);
        for (a, (b, c)) in a.iter_mut().zip(b.iter().zip(&c)) {
            *a |= b << 1 | c << 2;
        }
        row[x..x + N].copy_from_slice(&a);
        x += N;
    }
    x
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_sum(cells: &[u8], taps: &[(usize, Worth)], sums: &mut [i32]) {
    let full = taps.iter().map(|(_, worth)| worth[7]).sum();
    for (k, sums) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let cells = &cells[k * WIDTH..];
        let (mut or, mut and) = ([0; WIDTH], [FULL; WIDTH]);
        for &(offset, _) in taps {
            for ((or, and), &cell) in or.iter_mut().zip(&mut and).zip(&cells[offset..offset + WIDTH]) {
                *or |= cell;
                *and &= cell;
            }
        }
        if or == [0; WIDTH] {
            *sums = [0; WIDTH];
        } else if and == [FULL; WIDTH] {
            *sums = [full; WIDTH];
        } else {
            sums.fill(0);
            for (offset, worth) in taps {
                for (sum, &cell) in sums.iter_mut().zip(&cells[*offset..offset + WIDTH]) {
                    *sum += worth[usize::from(cell & FULL)];
                }
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_sum_bytes(cells: &[u8], taps: &[(usize, ByteWorth)], sums: &mut [u8]) {
    for (k, sums) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let cells = &cells[k * WIDTH..];
        sums.fill(0);
        for (offset, worth) in taps {
            for (sum, &cell) in sums.iter_mut().zip(&cells[*offset..offset + WIDTH]) {
                *sum += worth[usize::from(cell & FULL)];
            }
        }
    }
}
