//! Columns of items turned to rows, in squares that are a line of memory high and wide.
//!
//! ```text
//! column = k * S + i, row = w * S + s    where S items are a word, and eight words a line
//! of each i:   the words (k, w) change places
//! of each w:   inside of their words, the items (i, s) change places
//! ```

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::array::from_fn;

use crate::simd::multiversion;

/// Bytes of a line of memory.
pub(super) const LINE: usize = 64;

/// Words of a line.
const WORDS: usize = 8;

type Line = [u64; WORDS];

/// Columns on their way to rows.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// The columns, and what makes both sides a multiple of a line.
    pub(super) bytes: &'a [u8],
    /// Bytes from one column to the next, a multiple of a line.
    pub(super) pitch: usize,
    pub(super) itemsize: usize,
    pub(super) high: usize,
    pub(super) wide: usize,
}

#[cfg(target_arch = "x86_64")]
multiversion!(
    /// Write the columns to rows `pitch` bytes apart: `out[i * pitch + j * itemsize] = columns[j][i]`.
    pub(super) fn turn[](columns: Columns<'_>, out: &mut [u8], pitch: usize) -> () = plain, avx512 = avx512::turn
);
#[cfg(not(target_arch = "x86_64"))]
multiversion!(
    /// Write the columns to rows `pitch` bytes apart: `out[i * pitch + j * itemsize] = columns[j][i]`.
    pub(super) fn turn[](columns: Columns<'_>, out: &mut [u8], pitch: usize) -> () = plain
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain(columns: Columns<'_>, out: &mut [u8], pitch: usize) {
    by_squares(columns, out, pitch, |square| from_fn(|w| from_fn(|k| square[k][w])), plain_exchange);
}

/// [`turn`], with a way to turn eight lines of words, and one to exchange parts of words: [`plain_exchange`].
#[inline(always)]
#[allow(clippy::inline_always)]
fn by_squares(
    columns: Columns<'_>,
    out: &mut [u8],
    pitch: usize,
    words: impl Fn([Line; WORDS]) -> [Line; WORDS],
    exchange: impl Fn(Line, Line, u32) -> (Line, Line),
) {
    match columns.itemsize {
        1 => squares::<1, 8>(columns, out, pitch, words, exchange),
        2 => squares::<2, 4>(columns, out, pitch, words, exchange),
        4 => squares::<4, 2>(columns, out, pitch, words, exchange),
        8 => squares::<8, 1>(columns, out, pitch, words, exchange),
        16 => items::<16>(columns, out, pitch),
        _ => items::<0>(columns, out, pitch),
    }
}

/// Items of `SIZE` bytes, `SUB` of which are a word.
#[inline(always)]
#[allow(clippy::inline_always)]
fn squares<const SIZE: usize, const SUB: usize>(
    columns: Columns<'_>,
    out: &mut [u8],
    pitch: usize,
    words: impl Fn([Line; WORDS]) -> [Line; WORDS],
    exchange: impl Fn(Line, Line, u32) -> (Line, Line),
) {
    let side = WORDS * SUB;
    let mut square = [[[0; WORDS]; SUB]; WORDS];
    for left in (0..columns.wide).step_by(side) {
        let bytes = (columns.wide - left).min(side) * SIZE;
        for top in (0..columns.high).step_by(side) {
            for i in 0..SUB {
                let mut lines = [[0; WORDS]; WORDS];
                for (k, line) in lines.iter_mut().enumerate() {
                    let at = (left + k * SUB + i) * columns.pitch + top * SIZE;
                    *line = bytemuck::pod_read_unaligned(&columns.bytes[at..at + LINE]);
                }
                for (row, line) in square.iter_mut().zip(words(lines)) {
                    row[i] = line;
                }
            }
            let rows = &mut out[top * pitch..];
            for (w, group) in square.iter_mut().enumerate() {
                inside_of_words::<SIZE, SUB>(group, &exchange);
                for (s, line) in group.iter().enumerate() {
                    let row = w * SUB + s;
                    if top + row >= columns.high {
                        break;
                    }
                    let row = &mut rows[row * pitch + left * SIZE..];
                    if bytes == LINE {
                        row[..LINE].copy_from_slice(bytemuck::bytes_of(line));
                    } else {
                        row[..bytes].copy_from_slice(&bytemuck::bytes_of(line)[..bytes]);
                    }
                }
            }
        }
    }
}

/// Turn squares of items, of which each line has one in each of its words.
///
/// Of squares of any scale, the quarters at the top right and at the bottom left change places.
#[inline(always)]
#[allow(clippy::inline_always)]
fn inside_of_words<const SIZE: usize, const SUB: usize>(
    lines: &mut [Line; SUB],
    exchange: &impl Fn(Line, Line, u32) -> (Line, Line),
) {
    for half in [4, 2, 1] {
        for square in lines.chunks_exact_mut(2 * half) {
            let (top, bottom) = square.split_at_mut(half);
            for (top, bottom) in top.iter_mut().zip(bottom) {
                (*top, *bottom) = exchange(*top, *bottom, (half * SIZE * 8) as u32);
            }
        }
    }
}

/// Of parts of words of `bits` bits, every second of `top` and every first of `bottom` change places.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_exchange(top: Line, bottom: Line, bits: u32) -> (Line, Line) {
    let firsts = u64::MAX / ((1 << bits) + 1);
    let both = |k: usize| (u64::from_le(top[k]), u64::from_le(bottom[k]));
    let first = |(top, bottom): (u64, u64)| (top & firsts) | ((bottom << bits) & !firsts);
    let second = |(top, bottom): (u64, u64)| ((top >> bits) & firsts) | (bottom & !firsts);
    (from_fn(|k| first(both(k)).to_le()), from_fn(|k| second(both(k)).to_le()))
}

/// Items of `SIZE` bytes, or of any size if it is 0, one by one.
#[inline(always)]
#[allow(clippy::inline_always)]
fn items<const SIZE: usize>(columns: Columns<'_>, out: &mut [u8], pitch: usize) {
    let itemsize = if SIZE == 0 { columns.itemsize } else { SIZE };
    for i in 0..columns.high {
        let row = &mut out[i * pitch..][..columns.wide * itemsize];
        for (j, slot) in row.chunks_exact_mut(itemsize).enumerate() {
            slot.copy_from_slice(&columns.bytes[j * columns.pitch + i * itemsize..][..itemsize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    #[test]
    fn columns_of_items_of_any_size_become_rows_at_each_level() {
        for itemsize in [1, 2, 3, 4, 8, 12, 16, 100] {
            let side = (LINE / itemsize).max(1);
            let sides = [0, 1, side - 1, side, side + 1, 3 * side + 2];
            for (high, wide) in sides.into_iter().flat_map(|high| sides.map(|wide| (high, wide))) {
                let pitch = (high * itemsize).next_multiple_of(LINE) + LINE;
                let bytes: Vec<u8> =
                    (0..wide.next_multiple_of(side) * pitch).map(|i| (i * 31 + i / 251) as u8).collect();
                // Bytes between the rows stay.
                let row = wide * itemsize + 3;
                let mut expected = vec![7; (high * row).saturating_sub(3)];
                for (i, j) in (0..high).flat_map(|i| (0..wide).map(move |j| (i, j))) {
                    expected[i * row + j * itemsize..][..itemsize]
                        .copy_from_slice(&bytes[j * pitch + i * itemsize..][..itemsize]);
                }
                for level in Level::ALL {
                    set_level(level);
                    let mut out = vec![7; expected.len()];
                    turn(Columns { bytes: &bytes, pitch, itemsize, high, wide }, &mut out, row);
                    assert!(out == expected, "{high} x {wide} items of {itemsize} bytes");
                }
            }
        }
    }
}
