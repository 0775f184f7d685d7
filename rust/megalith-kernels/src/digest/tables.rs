//! Blocks of arrays whose first axes are the fast ones in memory, such as arrays in Fortran order.
//!
//! ```text
//! row:    what lies behind one index of the fastest axis, in C order; a plane is all its rows
//! short rows (up to a block):  gather many whole rows, hash the blocks that begin in them
//! long rows:                   gather a few columns of many rows, feed each row to a hasher of its own
//! ```
//!
//! 1. A part is some rows of a plane, or some columns of them, and has the blocks that *begin* in it. The last block
//!    of a row ends in the next row, so a little is gathered twice; the last of a plane ends in another plane and is
//!    gathered alone.
//! 2. Parts are some lines of memory wide: arrays seldom begin with a line, and the lines at both sides of a part are
//!    read twice.

use std::ops::Range;

use megalith_core::blocks::{ranges, unravel};
use megalith_core::{Result, SourceView, Workers};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::turn::{self, LINE, turn};
use super::{BLOCK_BYTES, Blocks, buffer, gathered};

/// Bytes of a column that are read at once, at most: memory gives some lines of one place sooner than as many lines of
/// different places. With twice as many, parts of a volume of a GiB are few and high, and it takes 4 to 17 % longer.
const PIECE: usize = 16 * LINE;

/// Bytes of a column that are read at once, at least, where there are so many.
const LEAST: usize = 4 * LINE;

/// Bytes of columns on their way to rows.
const STAGE: usize = 1 << 15;

/// A plane of so many bytes stays in the cache while its blocks are gathered one by one.
const SMALL_PLANE: usize = 1 << 19;

/// Bytes of rows that are gathered at once, about; they stay in the second-level cache.
const TOGETHER: usize = 1 << 19;

/// Bytes of short rows that one part takes, where rows have few enough.
const SHORT: Range<usize> = 1 << 18..4 << 20;

/// Bytes of a long row that one part takes, at most.
const LONG: usize = 2 << 20;

/// Memory of a thread.
#[derive(Default)]
pub(super) struct Scratch {
    columns: Vec<u8>,
    pub(super) rows: Vec<u8>,
}

/// A view as planes of rows.
pub(super) struct Table<'a> {
    view: &'a SourceView<'a>,
    axis: usize,
    /// Bytes between two rows in memory.
    step: usize,
}

/// What a thread takes.
pub(super) enum Part<'a> {
    Blocks(Range<usize>),
    Rows(Band<'a>),
    Columns(Columns<'a>),
}

/// Whole rows of a plane.
pub(super) struct Band<'a> {
    table: &'a Table<'a>,
    plane: usize,
    rows: Range<usize>,
}

/// A part of the columns of some rows of a plane.
pub(super) struct Columns<'a> {
    band: Band<'a>,
    columns: Range<usize>,
}

impl<'a> Table<'a> {
    /// The table of a view without axes to merge; None where blocks gathered one by one read each line once.
    pub(super) fn of(view: &'a SourceView<'a>) -> Option<Self> {
        let strides = view.strides();
        let (last, before) = strides.split_last()?;
        let steps = before.iter().map(|stride| stride.unsigned_abs()).enumerate().filter(|&(_, step)| step > 0);
        let (axis, step) = steps.min_by_key(|&(_, step)| step)?;
        let table = Self { view, axis, step };
        let rows_in_a_line = LINE / step;
        let is_worth = step < last.unsigned_abs()
            && table.row_bytes().saturating_mul(rows_in_a_line) > BLOCK_BYTES
            && table.plane_bytes() > SMALL_PLANE;
        (is_worth && rows_in_a_line > 1).then_some(table)
    }

    fn row_len(&self) -> usize {
        self.view.shape()[self.axis + 1..].iter().product()
    }

    fn row_bytes(&self) -> usize {
        self.row_len() * self.view.itemsize()
    }

    fn plane_bytes(&self) -> usize {
        self.row_bytes() * self.view.shape()[self.axis]
    }

    /// Rows that are gathered at once: whole lines of memory of each column.
    fn height(&self, threads: usize) -> usize {
        let lines = |bytes: usize| bytes.next_multiple_of(LINE) / self.step;
        if self.row_bytes() <= BLOCK_BYTES {
            return lines((TOGETHER / self.row_bytes() * self.step).max(LEAST));
        }
        let bytes = self.view.shape()[self.axis] * self.step;
        let parts = bytes.div_ceil(PIECE).next_multiple_of(threads);
        lines(bytes.div_ceil(parts).max(2 * LINE))
    }

    /// Parts that have all blocks among them.
    pub(super) fn parts(&'a self, threads: usize) -> Vec<Part<'a>> {
        let shape = self.view.shape();
        let planes: usize = shape[..self.axis].iter().product();
        let height = self.height(threads);
        let mut parts = Vec::new();
        for plane in 0..planes {
            if self.row_bytes() <= BLOCK_BYTES {
                let rows = (self.plane_bytes() / 32).clamp(SHORT.start, SHORT.end) / self.row_bytes();
                let rows = rows.next_multiple_of(height);
                parts.extend(ranges(shape[self.axis], rows).map(|rows| Part::Rows(Band { table: self, plane, rows })));
                continue;
            }
            let columns = self.row_len().div_ceil(self.row_bytes().div_ceil(LONG));
            for rows in ranges(shape[self.axis], height) {
                parts.extend(ranges(self.row_len(), columns).map(|columns| {
                    Part::Columns(Columns { band: Band { table: self, plane, rows: rows.clone() }, columns })
                }));
            }
        }
        parts
    }

    /// A plane, with its rows along the first axis.
    fn plane(&self, plane: usize) -> SourceView<'a> {
        let outer = unravel(plane, &self.view.shape()[..self.axis]);
        let cut = |view: SourceView<'a>, (axis, &i): (usize, &usize)| view.slice(axis, i..i + 1);
        outer.iter().enumerate().fold(self.view.clone(), cut).coalesce()
    }
}

/// A part of a plane, row by row.
fn gather<'s>(
    plane: &SourceView<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &'s mut Scratch,
) -> Result<&'s mut [u8]> {
    let itemsize = plane.itemsize();
    let width = columns.len() * itemsize;
    let out = buffer(&mut scratch.rows, rows.len() * width)?;
    let high = (PIECE / itemsize).clamp(1, rows.len().max(1));
    // An odd number of lines, so that columns do not displace each other in the cache.
    let pitch = ((high * itemsize).div_ceil(LINE) | 1) * LINE;
    let side = (LINE / itemsize).max(1);
    let wide = (STAGE / pitch).next_multiple_of(side).max(side);
    let stage = buffer(&mut scratch.columns, wide * pitch)?;
    for piece in ranges(rows.len(), high) {
        let out = &mut out[piece.start * width..];
        let rows = rows.start + piece.start..rows.start + piece.end;
        for strip in ranges(columns.len(), wide) {
            let (high, wide) = (rows.len(), strip.len());
            let columns = columns.start + strip.start..columns.start + strip.end;
            plane.gather_columns(rows.clone(), columns, stage, pitch);
            let columns = turn::Columns { bytes: stage, pitch, itemsize, high, wide };
            turn(columns, &mut out[strip.start * itemsize..], width);
        }
    }
    Ok(out)
}

impl Band<'_> {
    /// The digests of the blocks that begin in the rows.
    pub(super) fn digests(
        self,
        workers: &Workers<'_>,
        blocks: &Blocks,
        scratch: &mut Scratch,
        mut keep: impl FnMut(usize, u128),
    ) -> Result<()> {
        let table = self.table;
        let (start, end) = (self.byte(0, 0), self.byte(table.view.shape()[table.axis], 0));
        let mut mine = Blocks::beginning_in(self.byte(self.rows.start, 0)..self.byte(self.rows.end, 0));
        let mut crossing = None;
        if !mine.is_empty() && blocks.bytes(mine.end - 1).end > end {
            mine.end -= 1;
            crossing = Some(mine.end);
        }
        let mut stream = Stream::of(mine, blocks);
        let plane = table.plane(self.plane);
        let last = stream.stop.saturating_sub(start).div_ceil(table.row_bytes());
        while stream.next < stream.stop {
            workers.check()?;
            let row = (stream.next - start) / table.row_bytes();
            let rows = row..(row + table.height(workers.threads())).min(last);
            let out = gather(&plane, rows, 0..table.row_len(), scratch)?;
            stream.feed(self.byte(row, 0), out, blocks, &mut keep);
        }
        if let Some(block) = crossing {
            keep(block, xxh3_128(gathered(table.view, blocks.bytes(block), &mut scratch.rows)?));
        }
        Ok(())
    }

    /// Where a cell lies among the bytes of the array.
    fn byte(&self, row: usize, column: usize) -> usize {
        let table = self.table;
        self.plane * table.plane_bytes() + row * table.row_bytes() + column * table.view.itemsize()
    }
}

impl Columns<'_> {
    /// The digests of the blocks that begin in the columns of the rows.
    pub(super) fn digests(
        self,
        workers: &Workers<'_>,
        blocks: &Blocks,
        scratch: &mut Scratch,
        mut keep: impl FnMut(usize, u128),
    ) -> Result<()> {
        let Self { band, columns } = self;
        let (table, rows) = (band.table, band.rows.clone());
        let height = table.view.shape()[table.axis];
        let end = band.byte(height, 0);
        let mut crossing = None;
        let mut streams = Vec::with_capacity(rows.len());
        // How far to read in the rows themselves, and in the rows behind them.
        let mut reach = [columns.start, 0];
        for row in rows.clone() {
            let mut mine = Blocks::beginning_in(band.byte(row, columns.start)..band.byte(row, columns.end));
            if !mine.is_empty() && blocks.bytes(mine.end - 1).end > end {
                mine.end -= 1;
                crossing = Some(mine.end);
            }
            let stream = Stream::of(mine, blocks);
            let bytes = stream.stop.saturating_sub(band.byte(row, 0));
            let columns = bytes.div_ceil(table.view.itemsize());
            reach[0] = reach[0].max(columns.min(table.row_len()));
            reach[1] = reach[1].max(columns.saturating_sub(table.row_len()));
            streams.push(stream);
        }
        let plane = table.plane(band.plane);
        let behind = rows.start + 1..(rows.end + 1).min(height);
        for (rows, columns) in [(rows, columns.start..reach[0]), (behind, 0..reach[1])] {
            let strip = TOGETHER / rows.len().max(1) / table.view.itemsize();
            for strip in ranges(columns.len(), strip.next_multiple_of(LINE)) {
                workers.check()?;
                let strip = columns.start + strip.start..columns.start + strip.end;
                let width = strip.len() * table.view.itemsize();
                let out = gather(&plane, rows.clone(), strip.clone(), scratch)?;
                for ((row, bytes), stream) in rows.clone().zip(out.chunks_exact(width)).zip(&mut streams) {
                    stream.feed(band.byte(row, strip.start), bytes, blocks, &mut keep);
                }
            }
        }
        if let Some(block) = crossing {
            keep(block, xxh3_128(gathered(table.view, blocks.bytes(block), &mut scratch.rows)?));
        }
        Ok(())
    }
}

/// Successive blocks that are hashed as their bytes come in.
struct Stream {
    hasher: Xxh3Default,
    block: usize,
    /// The byte that is wanted next.
    next: usize,
    stop: usize,
}

impl Stream {
    fn of(mine: Range<usize>, blocks: &Blocks) -> Self {
        let next = mine.start * BLOCK_BYTES;
        let stop = if mine.is_empty() { next } else { blocks.bytes(mine.end - 1).end };
        Self { hasher: Xxh3Default::new(), block: mine.start, next, stop }
    }

    /// Take what is wanted of the bytes that lie at `at` of the array.
    fn feed(&mut self, at: usize, bytes: &[u8], blocks: &Blocks, mut keep: impl FnMut(usize, u128)) {
        let stop = self.stop.min(at + bytes.len());
        while self.next < stop {
            debug_assert!(at <= self.next, "bytes come in order");
            let end = blocks.bytes(self.block).end;
            let upto = end.min(stop);
            if upto - self.next == BLOCK_BYTES {
                keep(self.block, xxh3_128(&bytes[self.next - at..upto - at]));
                self.next = upto;
                self.block += 1;
                continue;
            }
            self.hasher.update(&bytes[self.next - at..upto - at]);
            self.next = upto;
            if upto == end {
                keep(self.block, self.hasher.digest128());
                self.hasher.reset();
                self.block += 1;
            }
        }
    }
}
