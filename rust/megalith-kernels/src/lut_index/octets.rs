//! Kernels of 2 x 2 x 2: eight truth values are a byte, and all that can become of a byte is a table of 256.
//!
//! ```text
//! pair[x] = b[x] + 2 b[x + 1]
//! square = pair of this row + 4 pair of the next
//! sink row = table[square of this plane + 16 square of the next]
//! ```
//!
//! The table is made of the kernel and the caller's table: the weights do not matter afterwards.

use megalith_core::{Result, SinkView, SourceView, Workers};

use super::boxes::Grid;
use super::strips::{Volume, WIDTH, for_each_strip, write_row};
use super::table::{BYTES, Entry};
use crate::simd::multiversion;

/// Positions of a strip's plane: the squares of one plane, which are a byte each.
const PLANE: usize = 1 << 18;

/// What becomes of each byte; `None` if the kernel is larger, or a sum is no index.
pub(super) fn table<L: Entry>(grid: &Grid, weights: &[i64], lut: &[L]) -> Option<[L; BYTES]> {
    if grid.kernel.len() != 3 || grid.kernel.iter().any(|&n| n > 2) {
        return None;
    }
    let mut sums = [0i64; BYTES];
    for bit in 0..8 {
        let index = [bit >> 2, bit >> 1 & 1, bit & 1];
        if index.iter().zip(&grid.kernel).all(|(i, n)| i < n) {
            let weight = weights[grid.entry(&index)];
            sums.iter_mut().enumerate().filter(|(byte, _)| byte >> bit & 1 == 1).for_each(|(_, sum)| *sum += weight);
        }
    }
    let mut table = [L::default(); BYTES];
    for (slot, &sum) in table.iter_mut().zip(&sums) {
        *slot = *lut.get(usize::try_from(sum).ok()?)?;
    }
    Some(table)
}

/// The memory of one thread.
struct Scratch<L> {
    row: Vec<u8>,
    /// Those of the row before, and of this one.
    pairs: [Vec<u8>; 2],
    /// Those of the plane before.
    squares: Vec<u8>,
    out: Vec<L>,
}

/// `sink[p] = table[the octet of p]`.
pub(super) fn run<L: Entry>(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    grid: &Grid,
    table: &[L; BYTES],
    sink: SinkView<'_>,
) -> Result<()> {
    let Some(volume) = Volume::new(source, grid) else { return Ok(()) };
    let scratch = || Scratch { row: Vec::new(), pairs: Default::default(), squares: Vec::new(), out: Vec::new() };
    for_each_strip(workers, sink, PLANE, scratch, |scratch, [z0, y0, x0], mut sink| {
        let Scratch { row, pairs: [above, below], squares, out } = scratch;
        let [deep, high, wide] = [0, 1, 2].map(|axis| sink.shape()[axis]);
        let pitch = wide.next_multiple_of(WIDTH);
        above.resize(pitch, 0);
        below.resize(pitch, 0);
        squares.resize(high * pitch, 0);
        out.resize(wide, L::default());
        for z in 0..=deep {
            workers.check()?;
            volume.read::<2>([z0 + z, y0, x0], row, &mut above[..wide]);
            for y in 0..high {
                volume.read::<2>([z0 + z, y0 + y + 1, x0], row, &mut below[..wide]);
                let pairs = [&above[..pitch], &below[..pitch]];
                let squares = &mut squares[y * pitch..(y + 1) * pitch];
                match z.checked_sub(1) {
                    None => join(pairs, squares),
                    Some(z) => write_row(&mut sink, [z, y], out, |row| L::look_up_octets(pairs, squares, table, row)),
                }
                std::mem::swap(above, below);
            }
        }
        Ok(())
    })
}

multiversion!(fn join[](pairs: [&[u8]; 2], squares: &mut [u8]) -> () = plain_join);

/// Squares of a plane.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_join([above, below]: [&[u8]; 2], squares: &mut [u8]) {
    for (square, (a, b)) in squares.iter_mut().zip(above.iter().zip(below)) {
        *square = a | b << 2;
    }
}
