//! Whole lines that are contiguous in memory, for few taps.
//!
//! ```text
//! for some lines at a time:    entries as doubles, with what is beyond the ends before and behind them
//!     for each line:           out[p] = sum over i of weights[i] * x[p + i]
//!     outputs as elements
//! ```
//!
//! A line is read before anything of it is written, so that this works in place. Many taps cost more in vectors that
//! do not begin where memory's lines do than it costs to turn some lines into rows.

use megalith_core::{Result, SinkView, SourceView, Workers};

use super::Mode;
use super::extension::entry;
use super::sums::{ALONG, Ahead, LANES, along};
use super::sweep::{Scratch, Sweep, grow};

/// Entries that are converted together, about: half of a first-level cache.
const NEAR: usize = 1 << 12;

/// Outputs that are computed while as many entries of later lines are fetched.
const FETCHED: usize = 4 * ALONG;

/// Compute the lines of a part.
pub(super) fn run(
    sweep: &Sweep<'_>,
    workers: &Workers<'_>,
    source: Option<&SourceView<'_>>,
    sink: &mut SinkView<'_>,
    lines: usize,
    scratch: &mut Scratch,
) -> Result<()> {
    let n = sweep.n;
    let (before, after) = sweep.taps.reach();
    let beyond = |from: isize, len: usize| -> Vec<Option<usize>> {
        (from..from + len as isize).map(|position| entry(sweep.mode, position, n)).collect()
    };
    let (left, right) = (beyond(-(before as isize), before), beyond(n as isize, after));
    let constant = if let Mode::Constant(value) = sweep.mode { value } else { 0.0 };
    let outputs = n.next_multiple_of(ALONG);
    // A vector more is read, but not used.
    let pitch = (outputs + before + after).next_multiple_of(ALONG) + ALONG;
    let batch = (NEAR / pitch).max(1);
    let Scratch { load, store, window, out, .. } = scratch;
    grow(window, batch * pitch + ALONG);
    grow(out, batch * outputs);
    // Vectors lie in one line of memory each.
    let aligned = window.as_ptr().align_offset(64).min(ALONG);
    let window = &mut window[aligned..];
    let memory = |view: &SourceView<'_>| Some((view.bytes_of(0..lines * n)?.as_ptr().addr(), view.itemsize()));
    let written = memory(&sink.as_source());
    let read = source.and_then(memory);
    let mut ahead = Ahead::default();
    for first in (0..lines).step_by(batch) {
        workers.check()?;
        let count = batch.min(lines - first);
        for l in 0..count {
            let (x, start) = (&mut window[l * pitch..(l + 1) * pitch], (first + l) * n);
            match source {
                Some(source) => load.load(source, start..start + n, &mut x[before..before + n]),
                None => load.load(&sink.as_source(), start..start + n, &mut x[before..before + n]),
            }
            for (k, &from) in left.iter().enumerate() {
                x[k] = from.map_or(constant, |from| x[before + from]);
            }
            for (k, &from) in right.iter().enumerate() {
                x[before + n + k] = from.map_or(constant, |from| x[before + from]);
            }
            ahead.rows.clear();
            ahead.rows.extend(written.map(|(address, itemsize)| (address + start * itemsize, itemsize)));
            ahead.rows.extend(read.map(|(address, itemsize)| (address + (start + batch * n) * itemsize, itemsize)));
            let out = &mut out[l * outputs..(l + 1) * outputs];
            for (k, out) in out.chunks_mut(FETCHED).enumerate() {
                (0..FETCHED).step_by(LANES).for_each(|lane| ahead.fetch(k * FETCHED + lane));
                along(sweep.taps, &x[k * FETCHED..], out);
            }
        }
        for (l, out) in out.chunks_exact(outputs).take(count).enumerate() {
            store.store(sink, (first + l) * n, &out[..n]);
        }
    }
    Ok(())
}
