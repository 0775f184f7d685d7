//! Sums on their way into the sink.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};
use megalith_core::dtype::Real;
use megalith_core::{DType, Error, Result, SinkView, match_dtype};

use super::behind::{Behind, finish};
use super::sums::{Ahead, LANES, ROWS, down_lines};
use super::sweep::{Place, Sweep, grow};
use crate::rows::{Store, not_real, storer};
use crate::simd::Fence;

/// A few rows of outputs that stay in the caches until they are written.
pub(super) struct Writer {
    dtype: DType,
    store: Box<dyn Store>,
    pub(super) lines: Lines,
    pub(super) flush: Flush,
    buffer: Vec<f64>,
    /// Where rows are made, or were made last, and where those before are that are on their way into the sink.
    rooms: [Vec<f64>; 2],
    finished: Option<Finished>,
}

/// Rows in a room, `pitch` after one another, that belong to positions of the sink, `step` after one another.
pub(super) struct Finished {
    pub(super) start: usize,
    pub(super) step: usize,
    pub(super) len: usize,
    pub(super) count: usize,
    pub(super) pitch: usize,
}

impl Finished {
    fn slots<'a, D: Real>(&self, sink: &'a mut SinkView<'_>) -> Option<Vec<&'a mut [D]>> {
        sink.slices_of_mut(self.start, self.step, self.len, self.count)
    }
}

type Flush = fn(&mut Writer, &mut SinkView<'_>, &Fence);

/// Writes the sums of some rows of turned lines, counted from the first in the sink; the doubles begin with what the
/// first of these rows needs.
pub(super) type Lines = fn(&mut Writer, &Sweep<'_>, &[f64], &Ahead, Range<usize>, &Place, &mut SinkView<'_>);

impl Writer {
    /// A writer for a sink of `dtype`.
    pub(super) fn new(dtype: DType) -> Result<Self> {
        let (lines, flush): (Lines, Flush) = match_dtype!(real dtype, T => (Self::lines_of::<T>, Self::flush_of::<T>),
            else return Err::<_, Error>(not_real("sink", dtype)));
        let (buffer, rooms) = (Vec::new(), Default::default());
        Ok(Self { dtype, store: storer("sink", dtype)?, lines, flush, buffer, rooms, finished: None })
    }

    /// Whether the sink has elements of `dtype`.
    pub(super) fn is_of(&self, dtype: DType) -> bool {
        self.dtype == dtype
    }

    /// Room for `n` outputs: elements of the sink, or doubles.
    pub(super) fn elements<D: Real>(&mut self, n: usize) -> &mut [D] {
        grow(&mut self.buffer, (n * size_of::<D>()).div_ceil(size_of::<f64>()));
        &mut cast_slice_mut(&mut self.buffer)[..n]
    }

    /// Write a range of what is in that room to the C-order positions from `start` on.
    pub(super) fn write<D: Real>(&mut self, sink: &mut SinkView<'_>, start: usize, range: Range<usize>) {
        if !self.is_of(D::DTYPE) {
            return self.store.store(sink, start, &cast_slice(cast_slice::<_, D>(&self.buffer))[range]);
        }
        let values = &cast_slice::<_, D>(&self.buffer)[range];
        match sink.slice_of_mut(start..start + values.len()) {
            Some(elements) => elements.copy_from_slice(values),
            None => sink.scatter(start, values),
        }
    }

    /// Room for `n` outputs, and what was finished before, on its way into the sink.
    pub(super) fn room<'a, D: Real>(
        &'a mut self,
        n: usize,
        sink: &'a mut SinkView<'_>,
        fence: &'a Fence,
    ) -> (&'a mut [D], Behind<'a>) {
        self.rooms.swap(0, 1);
        let [new, old] = &mut self.rooms;
        let finished = self.finished.take();
        let mut behind = Behind::new(fence, finished.as_ref().map_or(0, |finished| finished.count));
        if let Some(finished) = finished {
            let Some(slots) = finished.slots::<D>(sink) else { unreachable!("slices, as when it was kept") };
            for (row, slot) in cast_slice(old).chunks(finished.pitch).zip(slots) {
                behind.add(&row[..finished.len], slot);
            }
        }
        grow(new, (n * size_of::<D>()).div_ceil(size_of::<f64>()));
        (&mut cast_slice_mut(new)[..n], behind)
    }

    /// What has been made in the room is finished, and belongs there.
    pub(super) fn keep<D: Real>(&mut self, sink: &mut SinkView<'_>, finished: Finished) {
        if finished.slots::<D>(sink).is_some() {
            self.finished = Some(finished);
            return;
        }
        for (k, row) in cast_slice(&self.rooms[0]).chunks(finished.pitch).take(finished.count).enumerate() {
            sink.scatter::<D>(finished.start + k * finished.step, &row[..finished.len]);
        }
    }

    /// Write what was finished last.
    pub(super) fn flush_of<D: Real>(&mut self, sink: &mut SinkView<'_>, fence: &Fence) {
        let (_, mut behind) = self.room::<D>(0, sink, fence);
        finish(&mut behind);
    }

    /// Nothing is to be written any more.
    pub(super) fn forget(&mut self) {
        self.finished = None;
    }

    fn lines_of<D: Real>(
        &mut self,
        sweep: &Sweep<'_>,
        x: &[f64],
        ahead: &Ahead,
        rows: Range<usize>,
        place: &Place,
        sink: &mut SinkView<'_>,
    ) {
        let columns = rows.len().next_multiple_of(ROWS);
        if let Some(fence) = sweep.fence_for(size_of::<D>()) {
            let (out, mut behind) = self.room::<D>(LANES * columns, sink, fence);
            down_lines(sweep.taps, x, columns, out, ahead, rows.start, &mut behind);
            finish(&mut behind);
            let (start, len) = (place.sink_base + rows.start, rows.len());
            return self.keep::<D>(sink, Finished { start, step: place.rows, len, count: place.lanes, pitch: columns });
        }
        let out = self.elements::<D>(LANES * columns);
        down_lines(sweep.taps, x, columns, out, ahead, rows.start, &mut Behind::default());
        for l in 0..place.lanes {
            let start = place.sink_base + l * place.rows + rows.start;
            self.write::<D>(sink, start, l * columns..l * columns + rows.len());
        }
    }
}
