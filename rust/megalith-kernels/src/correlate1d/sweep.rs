//! A strip of lanes, computed by a window of doubles that slides along the axis.

use megalith_core::{DType, Result, SinkView, SourceView, Workers};

use super::Mode;
use super::behind::ITEMSIZE;
use super::direct::{Direct, direct};
use super::extension::Runs;
use super::lines::lines;
use super::sums::{ALONG, Ahead, LANES, ROWS, along, down};
use super::taps::{Taps, WIDTH};
use super::writer::Writer;
use crate::rows::{Lines, SIDE, line_loader};
use crate::simd::Fence;

/// Entries of the window, where the kernel is not longer: a part of the second-level cache.
pub(super) const WINDOW: usize = 1 << 15;
/// Entries that the outputs side by side are summed from: half of a first-level cache.
const NEAR: usize = 1 << 11;
/// Outputs computed before they are written.
const PIECE: usize = 1 << 12;
/// Rows of turned lines that are in the window at once, where the kernel is not longer. Lines of as many entries, which
/// are read from one end to the other, matter more than the first-level cache, of which this is all.
const TURNED: usize = 512;

/// More taps than these take more time than memory.
pub(super) const MANY: usize = 16;

/// How a strip of lanes lies in the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// Many lanes that follow each other in memory: each row is filled up to whole vectors.
    Wide,
    /// Few lanes, or a single one: rows without gaps, summed as if they were one long row.
    Narrow,
    /// [`SIDE`] lines (or less), turned.
    Turned,
}

/// A strip inside of its part.
///
/// Row `l` of the lanes is at `base + l * lanes`, in the sink counted from the row `first`. Of turned lines it is the
/// line that is one after the other: `base + line * length`, where the length in the sink is `rows`.
pub(super) struct Place {
    pub(super) form: Form,
    pub(super) source_base: usize,
    pub(super) sink_base: usize,
    pub(super) lanes: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// The memory of one thread.
pub(super) struct Scratch {
    load: Box<dyn Lines>,
    pub(super) direct: Direct,
    pub(super) lines: Option<super::lines::Lines>,
    pub(super) writer: Writer,
    /// Of the window, or of copies of rows where there is none.
    pub(super) window: Vec<f64>,
    after: Vec<f64>,
}

impl Scratch {
    pub(super) fn new(source: DType, sink: DType) -> Result<Self> {
        let (load, writer) = (line_loader("source", source)?, Writer::new(sink)?);
        Ok(Self {
            load,
            direct: direct(source, sink)?,
            lines: lines(source, sink)?,
            writer,
            window: Vec::new(),
            after: Vec::new(),
        })
    }
}

pub(super) fn grow(buffer: &mut Vec<f64>, len: usize) {
    buffer.resize(len.max(buffer.len()), 0.0);
}

/// What the rows of a strip are made of.
pub(super) struct Sweep<'a> {
    pub(super) taps: &'a Taps,
    pub(super) mode: Mode,
    /// Length of the axis.
    pub(super) n: usize,
    /// If the result may be written past the caches, what is dropped before anybody looks at what the sweep has written.
    pub(super) fence: Option<&'a Fence>,
}

impl Sweep<'_> {
    /// The fence, if elements of this size are to be written past the caches whatever it takes: where it is memory that
    /// takes time.
    pub(super) fn fence_for(&self, itemsize: usize) -> Option<&Fence> {
        self.fence.filter(|_| itemsize >= ITEMSIZE && self.taps.weights.len() <= MANY)
    }

    /// Compute the rows of a strip, if need be by a window that slides along the axis.
    pub(super) fn run(
        &self,
        workers: &Workers<'_>,
        source: Option<&SourceView<'_>>,
        sink: &mut SinkView<'_>,
        place: &Place,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let &Place { form, lanes, first, rows, .. } = place;
        if let (Form::Wide, Some(source)) = (form, source)
            && (scratch.direct)(self, workers, source, sink, place, scratch)?
        {
            return Ok(());
        }
        let pitch = match form {
            // An odd number of lines of memory: rows below each other lie in different sets of the cache.
            Form::Wide => lanes.next_multiple_of(LANES) | LANES,
            Form::Narrow => lanes,
            Form::Turned => SIDE,
        };
        let (before, after) = self.taps.reach();
        let halo = before + after;
        let chunk = match form {
            Form::Turned => TURNED.max(2 * halo),
            Form::Wide => (2 * halo).max(WIDTH),
            Form::Narrow => (WINDOW / pitch).saturating_sub(halo).max(halo / 2).max(WIDTH),
        };
        let chunk = chunk.min(rows).next_multiple_of(ROWS);
        let batch = match form {
            Form::Wide => ROWS,
            Form::Narrow => (PIECE / pitch).next_multiple_of(ALONG).min(chunk),
            Form::Turned => chunk,
        };
        let Scratch { load, writer, window, after: tail, .. } = scratch;
        // Whole blocks of rows are computed, of which the last ones may be nobody's. A vector before the first row is
        // read, but not used.
        grow(window, (chunk + halo) * pitch + ALONG + 3 * LANES);
        let aligned = window.as_ptr().align_offset(64).min(LANES);
        // Vectors lie in one line of memory each, along a line those of its last weight.
        let begin = aligned + LANES + if pitch == 1 { halo.wrapping_neg() % LANES } else { 0 };
        let window = &mut window[begin - LANES..];
        // Lanes whose sums are made row after row while their entries stay in the first-level cache.
        let near = (NEAR / (halo + 1)).max(1).next_multiple_of(WIDTH);

        let mut read = |sink: &SinkView<'_>, row: usize, out: &mut [f64]| match source {
            Some(source) => place.read(source, self.n, row, pitch, load.as_mut(), out),
            None => place.read(&sink.as_source(), self.n, row, pitch, load.as_mut(), out),
        };
        let end = first + rows;
        let runs = Runs { mode: self.mode, n: self.n, lanes: pitch };
        let start = &mut window[LANES..LANES + before * pitch];
        runs.fill(first as isize - before as isize, start, |row, out| read(sink, row, out));
        if source.is_none() {
            // In place: what lies beyond the end is taken from rows that are going to be overwritten.
            grow(tail, after * pitch);
            runs.fill(end as isize, &mut tail[..after * pitch], |row, out| read(sink, row, out));
        }

        let ahead = place.lines_ahead(source, sink, self.n, self.fence_for(sink.itemsize()).is_some());
        // The window holds the rows from `a - before` up to `known`.
        let (mut a, mut known) = (first, first);
        while a < end {
            workers.check()?;
            let b = (a + chunk).min(end);
            let slot = |row: usize| LANES + (row + before - a) * pitch;
            if known < self.n {
                let stop = (b + after).min(self.n);
                read(sink, known, &mut window[slot(known)..slot(stop)]);
                known = stop;
            }
            if known < b + after {
                let to = &mut window[slot(known)..slot(b + after)];
                if source.is_some() {
                    runs.fill(known as isize, to, |row, out| read(sink, row, out));
                } else {
                    to.copy_from_slice(&tail[(known - end) * pitch..(b + after - end) * pitch]);
                }
                known = b + after;
            }
            for from in (a..b).step_by(batch) {
                let to = (from + batch).min(b);
                let (x, written) = (&window[(from - a) * pitch..], from - first..to - first);
                match form {
                    Form::Narrow => {
                        let len = (to - from) * pitch;
                        if pitch == 1 {
                            along(self.taps, x, writer.elements(len.next_multiple_of(ALONG)));
                        } else {
                            self.taps.apply(&x[LANES..], pitch, near, writer.elements(len + WIDTH));
                        }
                        writer.write::<f64>(sink, place.sink_base + written.start * pitch, 0..len);
                    }
                    Form::Wide => {
                        down(self.taps, &x[LANES..], pitch, writer.elements(ROWS * pitch));
                        for (k, row) in written.enumerate() {
                            let start = place.sink_base + row * lanes;
                            writer.write::<f64>(sink, start, k * pitch..k * pitch + lanes);
                        }
                    }
                    Form::Turned => (writer.lines)(writer, self, &x[LANES..], &ahead, written, place, sink),
                }
            }
            let rows = &mut window[LANES..];
            rows.copy_within((b - a) * pitch..(b - a + halo) * pitch, 0);
            a = b;
        }
        Ok(())
    }
}

impl Place {
    /// Read rows from `row` on, as many as `out` has, of an axis of length `n`.
    #[allow(clippy::too_many_arguments)]
    fn read(&self, view: &SourceView<'_>, n: usize, row: usize, pitch: usize, load: &mut dyn Lines, out: &mut [f64]) {
        let (base, lanes) = (self.source_base, self.lanes);
        match self.form {
            Form::Narrow => load.load(view, base + row * lanes..base + row * lanes + out.len(), out),
            Form::Wide => {
                for (k, out) in out.chunks_exact_mut(pitch).enumerate() {
                    let start = base + (row + k) * lanes;
                    load.load(view, start..start + lanes, &mut out[..lanes]);
                }
            }
            Form::Turned => load.load_lines(view, base + row, n, lanes, out),
        }
    }

    /// The memory of turned lines that is written now, and of those that are read next, where it is without gaps.
    fn lines_ahead(&self, source: Option<&SourceView<'_>>, sink: &SinkView<'_>, n: usize, is_behind: bool) -> Ahead {
        let mut ahead = Ahead::default();
        if self.form == Form::Turned {
            let mut add = |view: &SourceView<'_>, start: usize, len: usize| {
                let stop = (start + SIDE * len).min(view.len());
                if let Some(bytes) = view.bytes_of(start.min(stop)..stop) {
                    let (address, itemsize) = (bytes.as_ptr().addr(), view.itemsize());
                    ahead.rows.extend((0..SIDE).map(|l| (address + l * len * itemsize, itemsize)));
                }
            };
            if !is_behind {
                add(&sink.as_source(), self.sink_base, self.rows);
            }
            if let Some(source) = source {
                add(source, self.source_base + SIDE * n + self.first, n);
            }
        }
        ahead
    }

    /// Where the rows of wide lanes begin in the memory of the sink, and the bytes of a lane; None if lanes have gaps.
    pub(super) fn addresses(
        &self,
        sink: &SinkView<'_>,
    ) -> Option<impl Iterator<Item = (usize, usize)> + Clone + use<>> {
        let (itemsize, rows, view) = (sink.itemsize(), self.rows, sink.as_source());
        let address = |row: usize| {
            let start = self.sink_base + row * self.lanes;
            Some(view.bytes_of(start..start + self.lanes)?.as_ptr().addr())
        };
        let first = address(0)?;
        let step = address(1.min(rows - 1))?.wrapping_sub(first);
        Some((0..rows).map(move |row| (first.wrapping_add(row.wrapping_mul(step)), itemsize)))
    }
}
