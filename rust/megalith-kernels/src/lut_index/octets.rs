//! Kernels of 2 x 2 x 2: eight truth values are a byte, and all that can become of a byte is a table of 256.
//!
//! ```text
//! pair[x] = b[x] + 2 b[x + 1];  square = pair of this row + 4 pair of the next
//! sink row = table[square of this plane + 16 square of the next]
//! ```
//!
//! The table is made of the kernel and the caller's table: the weights do not matter afterwards.

use megalith_core::{Result, SinkView, SourceView, Workers};

use super::boxes::Grid;
use super::strips::{AHEAD, Volume, WIDTH, for_each_strip, write_row};
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
    rows: Vec<u8>,
    pairs: Vec<u8>,
    /// Those of the plane before.
    squares: Vec<u8>,
    octets: Vec<u8>,
    /// The squares of no row.
    nothing: Vec<u8>,
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
    let scratch =
        || Scratch { rows: Vec::new(), pairs: Vec::new(), squares: Vec::new(), octets: Vec::new(), nothing: Vec::new(), out: Vec::new() };
    for_each_strip(workers, sink, PLANE, scratch, |scratch, [z0, y0, x0], mut sink| {
        let Scratch { rows, pairs, squares, octets, nothing, out } = scratch;
        let [deep, high, wide] = [0, 1, 2].map(|axis| sink.shape()[axis]);
        let pitch = wide.next_multiple_of(WIDTH);
        let stride = pitch + WIDTH;
        rows.clear();
        rows.resize(AHEAD * stride, 0);
        pairs.resize(pitch, 0);
        squares.resize(high * pitch, 0);
        octets.resize(pitch, 0);
        nothing.resize(pitch, 0);
        out.resize(wide, L::default());
        for z in 0..=deep {
            workers.check()?;
            for y in 0..=high {
                let k = y % AHEAD;
                if k == 0 {
                    let n = AHEAD.min(high + 1 - y);
                    volume.read_rows([z0 + z, y0 + y, x0], &mut rows[..n * stride], stride, wide + 1);
                }
                let row = &rows[k * stride..(k + 1) * stride];
                let Some(above) = y.checked_sub(1) else {
                    join(row, &mut pairs[..pitch], &mut nothing[..pitch], &mut octets[..pitch]);
                    continue;
                };
                let squares = &mut squares[above * pitch..(above + 1) * pitch];
                join(row, &mut pairs[..pitch], squares, &mut octets[..pitch]);
                if let Some(z) = z.checked_sub(1) {
                    write_row(&mut sink, [z, above], out, |row| L::look_up_bytes(&octets[..wide], table, row));
                }
            }
        }
        Ok(())
    })
}

multiversion!(fn join[](row: &[u8], pairs: &mut [u8], squares: &mut [u8], octets: &mut [u8]) -> () = plain_join);

/// Pairs of the row before become those of this row, squares of the plane before those of this plane.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_join(row: &[u8], pairs: &mut [u8], squares: &mut [u8], octets: &mut [u8]) {
    let n = pairs.len();
    let (row, next, squares, octets) = (&row[..n], &row[1..=n], &mut squares[..n], &mut octets[..n]);
    for x in 0..n {
        let pair = row[x] | next[x] << 1;
        let square = pairs[x] | pair << 2;
        octets[x] = squares[x] | square << 4;
        (pairs[x], squares[x]) = (pair, square);
    }
}
