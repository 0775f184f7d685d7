//! Finished rows on their way into the sink.
//!
//! Memory that is overwritten is read first, unless whole lines of it are written past the caches. A processor that has
//! many such lines to write waits for memory, so they are written some at a time, while the next rows are made. They
//! follow each other: a line of each of some rows at a time pays for rows of a page or more alone.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

use bytemuck::{cast_slice, cast_slice_mut};
use megalith_core::dtype::Real;

use super::sums::LINE;
use crate::simd::{Fence, multiversion};

/// Elements of fewer bytes are not worth it: the steps it takes to write them cost as much.
pub(super) const ITEMSIZE: usize = 8;

type Line = [u8; LINE];

/// Lines that are still to be written, of rows one after the other.
#[derive(Default)]
pub(super) struct Behind<'a> {
    fence: Option<&'a Fence>,
    rows: Vec<(&'a [Line], &'a mut [Line])>,
}

impl<'a> Behind<'a> {
    /// None yet, but room for `count` rows: a list that grows takes a lock, which waits until all that is on its way past
    /// the caches is written.
    pub(super) fn new(fence: &'a Fence, count: usize) -> Self {
        Self { fence: Some(fence), rows: Vec::with_capacity(count) }
    }

    /// Write `row` to where `out` is: what is no whole line at once, and the lines until [`finish`].
    pub(super) fn add<D: Real>(&mut self, row: &'a [D], out: &'a mut [D]) {
        let (row, out): (&[u8], &mut [u8]) = (cast_slice(row), cast_slice_mut(out));
        let first = out.as_ptr().align_offset(LINE).min(out.len());
        let ((start, row), (head, out)) = (row.split_at(first), out.split_at_mut(first));
        let ((lines, end), (slots, tail)) = (row.as_chunks(), out.as_chunks_mut());
        head.copy_from_slice(start);
        tail.copy_from_slice(end);
        self.rows.push((lines, slots));
    }

    /// The next lines, at most `n`.
    #[inline]
    fn next(&mut self, n: usize) -> Option<(&'a [Line], &'a mut [Line])> {
        let (lines, slots) = self.rows.last_mut()?;
        let n = n.min(lines.len());
        let (first, rest) = lines.split_at(n);
        let (to, left) = std::mem::take(slots).split_at_mut(n);
        (*lines, *slots) = (rest, left);
        if lines.is_empty() {
            self.rows.pop();
        }
        Some((first, to))
    }
}

multiversion!(
    /// Write all lines that are left.
    pub(super) fn finish[](behind: &mut Behind<'_>) -> () = plain_finish, avx512 = avx512::finish
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_finish(behind: &mut Behind<'_>) {
    while let Some((lines, slots)) = behind.next(usize::MAX) {
        slots.copy_from_slice(lines);
    }
}
