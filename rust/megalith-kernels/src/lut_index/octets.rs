//! Kernels of 2 x 2 x 2: eight truth values are a byte, and all that can become of a byte is a table of 256.
//!
//! ```text
//! pair[x] = b[x] + 2 b[x + 1]
//! square = pair of this row + 4 pair of the next
//! sink row = table[square of this plane + 16 square of the next]
//! ```
//!
//! A row is walked once: its truth values are read where they lie, the pairs of the row before and the squares of the plane
//! before make its octets, and are overwritten by its own. One plane goes ahead, of which only squares are made, and one
//! row of each plane, of which only pairs are of use.
//!
//! Where source and sink have planes that lie in memory as they are, rows below each other are as one: calls for each row
//! would take as long as its work. What is left of the first position of a row is the end of the row before it then, and
//! is taken for zero by a bit. The first rows of a plane see memory before it, and are walked one by one.
//!
//! The table is made of the kernel and the caller's table: the weights do not matter afterwards.

use megalith_core::{Error, Result, SinkView, SourceView, Workers};

use super::boxes::Grid;
use super::strips::{Volume, WIDTH, for_each_strip};
use super::table::{BYTES, Entry};
use crate::simd::LARGE;

/// Positions of a strip's plane: the squares of one plane, which are a byte each.
const PLANE: usize = 1 << 18;
/// Rows of a strip that are not walked with those below them: the one that goes ahead, and two behind which whatever is
/// seen lies in the plane.
const FIRST: usize = 3;

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
    /// Truth values that cannot be read where they lie.
    truths: Vec<u8>,
    /// Those of the row before.
    pairs: Vec<u8>,
    /// Those of the plane before.
    squares: Vec<u8>,
    out: Vec<L>,
    /// What is made of the plane that goes ahead.
    nothing: Vec<L>,
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
    let is_large = size_of::<L>() * sink.len() >= LARGE;
    let scratch =
        || Scratch { truths: Vec::new(), pairs: Vec::new(), squares: Vec::new(), out: Vec::new(), nothing: Vec::new() };
    for_each_strip(workers, sink, PLANE, scratch, |scratch, [z0, y0, x0], mut sink| {
        let Scratch { truths, pairs, squares, out, nothing } = scratch;
        let [deep, high, wide] = [0, 1, 2].map(|axis| sink.shape()[axis]);
        let pitch = wide.next_multiple_of(WIDTH);
        let rows = |z: usize| (z * high + FIRST - 1) * wide..(z + 1) * high * wide;
        let look_up_rows = L::look_up_rows()
            .filter(|_| volume.has_planes(wide) && high >= FIRST && sink.slice_of_mut::<L>(rows(0)).is_some());
        let (first, below) = if look_up_rows.is_some() { (FIRST, high + 1 - FIRST) } else { (high + 1, 0) };
        truths.resize(pitch + 1, 0);
        pairs.resize(pitch, 0);
        squares.resize(first * pitch + below * wide, 0);
        out.resize(wide, L::default());
        nothing.resize(below * wide, L::default());
        let insides = insides(below, wide);
        for z in 0..=deep {
            workers.check()?;
            let (squares, squares_below) = squares.split_at_mut(first * pitch);
            for (y, squares) in squares.chunks_exact_mut(pitch).enumerate() {
                let (truths, is_outside) = volume.truths([z0 + z, y0 + y, x0], wide, truths);
                let look_up = |out: &mut [L]| L::look_up_octets(truths, is_outside, pairs, squares, table, out);
                match z.checked_sub(1).zip(y.checked_sub(1)) {
                    None => L::look_up_octets(truths, is_outside, pairs, squares, table, &mut []),
                    Some((z, y)) => write_row(&mut sink, [z, y], out, look_up),
                }
            }
            let Some(look_up_rows) = look_up_rows else { continue };
            let Some(source_z) = (z0 + z).checked_sub(1) else {
                // The plane before the first.
                squares_below.fill(0);
                continue;
            };
            let truths = volume.rows([source_z, y0 + FIRST - 1], below);
            let mut look_up =
                |out: &mut [L], is_large| look_up_rows(truths, wide, &insides, squares_below, table, out, is_large);
            match z.checked_sub(1) {
                None => look_up(nothing, false),
                Some(z) => {
                    let misfit = || Error::Internal("planes of a sink that are not alike".to_owned());
                    look_up(sink.slice_of_mut(rows(z)).ok_or_else(misfit)?, is_large);
                }
            }
        }
        Ok(())
    })
}

/// Give `write` the row of a sink, or, where memory is none, a buffer that is moved to the sink then.
#[inline(always)]
#[allow(clippy::inline_always)]
fn write_row<L: Entry>(sink: &mut SinkView<'_>, [z, y]: [usize; 2], buffer: &mut [L], write: impl FnOnce(&mut [L])) {
    let [high, wide] = [1, 2].map(|axis| sink.shape()[axis]);
    if let Some(row) = sink.row_raw::<L>(&[z, y, 0]) {
        return write(&mut row[..wide]);
    }
    write(&mut buffer[..wide]);
    sink.scatter_raw((z * high + y) * wide, &buffer[..wide]);
}

/// A bit for each position of some rows, and a word more: whether it is not the first of its row.
fn insides(rows: usize, wide: usize) -> Vec<u64> {
    let mut insides = vec![u64::MAX; (rows * wide).div_ceil(64) + 1];
    for first in (0..rows).map(|row| row * wide) {
        insides[first / 64] &= !(1 << (first % 64));
    }
    insides
}
