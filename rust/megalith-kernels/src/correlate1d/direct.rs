//! A strip of lanes, computed straight from the rows of the source where these are slices of memory.
//!
//! The window of doubles that slides along the axis costs more than the sums of a few taps: each entry is read,
//! converted, written and read again. Here entries are converted as they are loaded, some times over.

use megalith_core::dtype::Real;
use megalith_core::{DType, Error, Result, SinkView, SourceView, Workers, match_dtype};

use super::Mode;
use super::extension::entry;
use super::sums::{Ahead, LANES, ROWS, down_rows};
use super::sweep::{Place, Sweep};
use super::writer::Writer;
use crate::rows::not_real;

/// Rows between two looks at the cancel flag.
const CHECK: usize = 256;

/// Computes the rows of a strip, or says that it cannot, having done nothing.
pub(super) type Direct =
    fn(&Sweep<'_>, &Workers<'_>, &SourceView<'_>, &mut SinkView<'_>, &Place, &mut Writer) -> Result<bool>;

/// What computes strips of a source of one type for a sink of another.
pub(super) fn direct(source: DType, sink: DType) -> Result<Direct> {
    Ok(match_dtype!(real source, T => if source == sink { run::<T, T> } else { run::<T, f64> },
        else return Err::<_, Error>(not_real("source", source))))
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
    writer: &mut Writer,
) -> Result<bool> {
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
    let mut ahead = Ahead::default();
    for r in (0..rows).step_by(ROWS) {
        if r % CHECK == 0 {
            workers.check()?;
        }
        let needed = r + before + after + ROWS;
        ahead.rows.clear();
        ahead.rows.extend(table[needed..].iter().take(ROWS).map(|row| (row.as_ptr().addr(), size_of::<S>())));
        ahead.rows.extend(written.iter().flat_map(|rows| rows.clone().skip(r).take(ROWS)));
        let out = writer.elements::<D>(ROWS * pitch);
        down_rows(sweep.taps, &table[r..needed], pitch, out, &ahead);
        for (k, row) in (r..(r + ROWS).min(rows)).enumerate() {
            writer.write::<D>(sink, sink_base + row * lanes, k * pitch..k * pitch + lanes);
        }
    }
    Ok(true)
}
