//! Lines that are contiguous in memory, for few taps: from where they are straight to where they go.
//!
//! ```text
//! for lines that follow each other, as if they were one:   out[p] = sum over i of weights[i] * x[p + i]
//!     for each line, where it begins and where it ends:    the outputs that need what is beyond it
//! ```
//!
//! Outputs near the ends of a line are computed twice, first from the entries of its neighbours: so vectors are as long
//! and as well aligned as memory has them, however short the lines. Each entry is loaded and converted once for each
//! weight; of many weights that would cost more than it does to turn lines into rows, unless sums may be in single
//! precision (`correlate1d/single.rs`).

use std::ops::Range;

use megalith_core::dtype::{Bool8, Real};
use megalith_core::{DType, Result, SinkView, SourceView, Workers, match_dtype};

use super::Mode;
use super::extension::entry;
use super::single;
use super::sums::{ALONG, row};
use super::sweep::Sweep;
use super::taps::FEW;
use crate::rows::not_real;

/// Outputs of lines that are computed as one, about; they stay in the cache until their ends are mended, unless they are
/// written past it.
const BATCH: usize = 1 << 12;

/// Computes some rows, counted from the first of the axis, of all lines of a part; or says that it cannot, and what it
/// has written until then is not right.
pub(super) type Lines = fn(&Sweep<'_>, &Workers<'_>, &SourceView<'_>, &mut SinkView<'_>, Range<usize>) -> Result<bool>;

/// What computes lines of a source of one type for a sink of another, if sums become elements of it at once.
pub(super) fn lines(source: DType, sink: DType) -> Result<Option<Lines>> {
    let (run, is_of_sink): (Lines, _) = match_types!(source, sink, run);
    Ok(is_of_sink.then_some(run))
}

fn run<S: Real, D: Real>(
    sweep: &Sweep<'_>,
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    sink: &mut SinkView<'_>,
    rows: Range<usize>,
) -> Result<bool> {
    let (n, length) = (sweep.n, rows.len());
    let (before, after) = sweep.taps.reach();
    if before + after >= FEW {
        return single::lines::<S, D>(sweep, workers, source, sink, rows);
    }
    if length < ALONG + before + after {
        return Ok(false);
    }
    let lines = sink.len() / length;
    let joined =
        length == n && source.slice_of::<S>(0..lines * n).is_some() && sink.slice_of_mut::<D>(0..lines * n).is_some();
    let batch = if joined { (BATCH / n).max(1) } else { 1 };
    for first in (0..lines).step_by(batch) {
        workers.check()?;
        let stop = (first + batch).min(lines);
        let there = if joined { 0..lines * n } else { first * n..stop * n };
        let (start, end) = (first * n + rows.start, (stop - 1) * n + rows.end);
        // What is needed of what is there.
        let (from, to) = (start.saturating_sub(before).max(there.start), (end + after).min(there.end));
        let Some(x) = source.slice_of::<S>(from..to) else { return Ok(false) };
        let Some(out) = sink.slice_of_mut::<D>(first * length..stop * length) else { return Ok(false) };
        let inner = &mut out[from + before - start..to - after - start];
        let shifted: Vec<&[S]> = (0..=before + after).map(|i| &x[i..][..inner.len()]).collect();
        row(sweep.taps, &shifted, inner, sweep.fence_for(size_of::<D>()).is_some());
        for (line, out) in (first..stop).zip(out.chunks_exact_mut(length)) {
            let Some(entries) = source.slice_of::<S>(line * n..(line + 1) * n) else { return Ok(false) };
            for row in (rows.start..before.min(rows.end)).chain((n - after).max(rows.start)..rows.end) {
                let value = |i: usize| match (entry(sweep.mode, (row + i) as isize - before as isize, n), sweep.mode) {
                    (Some(k), _) => entries[k].to_double(),
                    (None, Mode::Constant(value)) => value,
                    (None, _) => unreachable!("only the constant mode has no entry"),
                };
                out[row - rows.start] = D::from_double(sweep.taps.sum(value));
            }
        }
    }
    Ok(true)
}
