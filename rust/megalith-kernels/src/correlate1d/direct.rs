//! A strip of lanes, computed straight from the rows of the source where these are slices of memory.
//!
//! The window of doubles that slides along the axis costs more than the sums of a few taps: each entry is read,
//! converted, written and read again. Here entries are converted as they are loaded, some times over.
//!
//! Rows of large results are long. Columns of them as wide as lines of memory are converted once for some rows of outputs,
//! which are written past the caches; rows of narrow elements are, however short. Where lines do not begin at the same
//! place of each row, and for single bytes, it is blocks of rows that are written past the caches, a line of each at a time.
//!
//! Where the cache cannot keep what will be loaded again, columns help too, or rows are copied to where it can.

use megalith_core::dtype::{Bool8, Real};
use megalith_core::{DType, Result, SinkView, SourceView, Workers, match_dtype};

use super::Mode;
use super::behind::{Behind, finish};
use super::extension::entry;
use super::packed::Packed;
use super::single;
use super::sums::{Ahead, LANES, LINE, ROWS, down_rows, lie_alike};
use super::sweep::{MANY, Place, Scratch, Sweep};
use super::writer::Finished;
use crate::rows::not_real;

/// Rows that two blocks share from which on long rows a multiple of [`FAR`] apart are copied; [`SHARED`] where they go by
/// columns that are written past the caches.
const COPIED: usize = 6;
/// Rows of outputs that are made together where each entry is to be loaded once for all of them, or half of them.
const TALL: usize = 32;
/// Rows that two blocks share from which on blocks are twice as tall, where rows crowd the cache or are long; elsewhere
/// twice as many.
const SHARED: usize = 24;
/// Bytes of one way of the first-level cache, and of the second-level one; each has so many ways.
const NEAR: usize = 1 << 12;
const FAR: usize = 1 << 17;
const WAYS: usize = 8;
/// Bytes of rows that are worth writing past the caches a line at a time, wherever they begin.
pub(super) const LONG: usize = if cfg!(test) { 1 << 9 } else { 1 << 12 };

/// Computes the rows of a strip, or says that it cannot, having done nothing.
pub(super) type Direct =
    fn(&Sweep<'_>, &Workers<'_>, &SourceView<'_>, &mut SinkView<'_>, &Place, &mut Scratch) -> Result<bool>;

/// What computes strips of a source of one type for a sink of another.
pub(super) fn direct(source: DType, sink: DType) -> Result<Direct> {
    let (run, _): (Direct, _) = match_types!(source, sink, run);
    Ok(run)
}

/// The entry that is converted to `value`, if there is one.
pub(super) fn representable<S: Real>(value: f64) -> Option<S> {
    let entry = S::from_double(value);
    (entry.to_double().to_bits() == value.to_bits()).then_some(entry)
}

fn run<S: Real, D: Real>(
    sweep: &Sweep<'_>,
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    sink: &mut SinkView<'_>,
    place: &Place,
    scratch: &mut Scratch,
) -> Result<bool> {
    let Scratch { writer, window: memory, .. } = scratch;
    let &Place { source_base, sink_base, lanes, first, rows, .. } = place;
    let constant = match sweep.mode {
        Mode::Constant(value) => match representable::<S>(value) {
            Some(entry) => vec![entry; lanes],
            None => return Ok(false),
        },
        _ => Vec::new(),
    };
    let (before, after) = sweep.taps.reach();
    // The last block of rows may go beyond the strip; nobody sees what is computed there.
    let positions = (0..rows.next_multiple_of(ROWS) + before + after).map(|k| (first + k) as isize - before as isize);
    let row = |position| match entry(sweep.mode, position, sweep.n) {
        None => Some(&constant[..]),
        Some(row) => source.slice_of::<S>(source_base + row * lanes..source_base + (row + 1) * lanes),
    };
    let Some(table) = positions.map(row).collect::<Option<Vec<&[S]>>>() else { return Ok(false) };
    // An odd number of lines of memory: rows below each other lie in different sets of the cache.
    let pitch = lanes.next_multiple_of(LANES) | LANES;
    let written = place.addresses(sink);
    let singles = single::weights::<S, D>(sweep.taps);
    let step = row_step(&table[before..before + rows]);
    let is_of_sink = writer.is_of(D::DTYPE);
    let is_long = sweep.fence.is_some() && lanes * size_of::<D>() >= LONG;
    // The rows of columns are whole lines of memory if elements have at least so many bytes.
    let smallest = if singles.is_some() { 4 } else { 2 };
    // Columns that are written past the caches are the fastest for all but short rows of wide elements.
    let are_lines = sweep.fence.is_some() && is_of_sink && size_of::<D>() >= smallest && step.is_multiple_of(LINE);
    let goes_by_lines = are_lines && (is_long || size_of::<S>() <= 2);
    // Many taps convert narrow integers, in two steps, many times over, and long rows leave the first-level cache between
    // two blocks.
    let is_costly = before + after >= MANY && (size_of::<S>() <= 2 || (is_long && step.is_multiple_of(LINE)));
    let (is_crowded, is_far) = (is_crowded(step, before + after + ROWS), step.is_multiple_of(FAR));
    let is_tall = singles.is_some() || is_costly || is_crowded || goes_by_lines;
    // Each block reads the rows that it shares with the next one again; where they crowd or are long, that is from
    // further away, but for copies.
    let is_away = is_crowded || (is_long && !is_far);
    let shares_many = before + after >= if is_away { SHARED } else { 2 * SHARED };
    // Few rows at a time are kept by the caches until their next column, however long they are.
    let few = if is_far { SHARED } else { MANY };
    let shares_few = is_long && singles.is_none() && !is_crowded && before + after < few;
    let height = match (is_tall, shares_few) {
        (false, _) => ROWS,
        (true, true) => TALL / 2,
        (true, false) => TALL << usize::from(shares_many),
    };
    let fence = sweep.fence_for(size_of::<D>()).filter(|_| !is_tall && !is_long && is_of_sink);
    // Copies are also what helps if that cache forgets rows, too: it keeps what is fetched until it is copied. A row that
    // comes again and again needs none, and a single block would make no use of them.
    let least = if goes_by_lines { SHARED } else { COPIED };
    let packs = is_far && is_long && singles.is_none() && before + after >= least && step > 0 && rows > height;
    let mut packed = packs.then(|| Packed::new(memory, before + after + height, lanes));
    let fetches = packs || !is_far;
    let mut ahead = Ahead { keeps_waiting: is_long && !packs, ..Ahead::default() };
    let mut done = 0;
    while done < rows {
        workers.check()?;
        let r = done;
        // Whole blocks are written where they belong, so that only rows that do not make one are left for the end.
        let count = ((rows - r) / ROWS * ROWS).clamp(ROWS, height);
        done += count;
        let (there, needed) = (count.min(rows - r), r + before + after + count);
        let start = sink_base + r * lanes;
        ahead.rows.clear();
        if fetches {
            ahead.rows.extend(table[needed..].iter().take(count).map(|row| (row.as_ptr().addr(), size_of::<S>())));
        }
        if let Some(fence) = fence {
            let (room, mut behind) = writer.room::<D>(count * pitch, sink, fence);
            let mut out: Vec<_> = room.chunks_exact_mut(pitch).map(|row| &mut row[..lanes]).collect();
            down_rows(sweep.taps, &table[r..needed], &mut out, &ahead, None, &mut behind);
            finish(&mut behind);
            writer.keep::<D>(sink, Finished { start, step: lanes, len: lanes, count: there, pitch });
            continue;
        }
        let is_full = there == count;
        let goes_straight = is_of_sink && (is_tall || (is_long && is_full));
        let sinks = if goes_straight { sink.slices_of_mut(start, lanes, lanes, there) } else { None };
        let is_straight = sinks.is_some();
        // What is written at once must be there already; a buffer is written when all of it is made.
        let next = if is_straight { r + count } else { r };
        let mut out = sinks.unwrap_or_default();
        let spare = writer.elements::<D>((count - out.len()) * pitch);
        out.extend(spare.chunks_exact_mut(pitch).map(|row| &mut row[..lanes]));
        let goes_past = |out: &[&mut [D]]| is_full && (!is_tall || (size_of::<D>() >= smallest && lie_alike(out)));
        let past = sweep.fence.filter(|_| is_straight && goes_past(&out));
        if fetches && past.is_none() {
            ahead.rows.extend(written.iter().flat_map(|rows| rows.clone().skip(next).take(count)));
        }
        let copies = packed.as_mut().map(|packed| packed.rows(&table, r..needed));
        let entries = copies.as_deref().unwrap_or(&table[r..needed]);
        match singles {
            Some(weights) => single::down_rows(weights, entries, &mut out, &ahead, past),
            None => down_rows(sweep.taps, entries, &mut out, &ahead, past, &mut Behind::default()),
        }
        if !is_straight {
            for k in 0..there {
                writer.write::<D>(sink, start + k * lanes, k * pitch..k * pitch + lanes);
            }
        }
    }
    if let Some(fence) = fence {
        writer.flush_of::<D>(sink, fence);
    }
    Ok(true)
}

/// The bytes from one row to the next; rows of a multiple of [`FAR`] want the same few lines of each cache, which then
/// keeps nothing that is fetched.
fn row_step<S>(rows: &[&[S]]) -> usize {
    let &[first, second, ..] = rows else { return 1 };
    second.as_ptr().addr().abs_diff(first.as_ptr().addr())
}

/// Whether so many rows, one below the other, want the same few sets of the first-level cache, as those of images do
/// whose width is a power of two, but not all the same set of the second-level one.
fn is_crowded(step: usize, count: usize) -> bool {
    let sets = (NEAR >> step.trailing_zeros().min(NEAR.trailing_zeros())).min(NEAR / LINE);
    count > sets * WAYS && !step.is_multiple_of(FAR)
}
