//! Sums on their way into the sink.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};
use megalith_core::dtype::Real;
use megalith_core::{DType, Error, Result, SinkView, match_dtype};

use super::sums::{Ahead, LANES, ROWS, down_lines};
use super::sweep::{Place, grow};
use super::taps::Taps;
use crate::rows::{Store, not_real, storer};

/// A few rows of outputs that stay in the first-level cache until they are written.
pub(super) struct Writer {
    dtype: DType,
    store: Box<dyn Store>,
    pub(super) lines: Lines,
    buffer: Vec<f64>,
}

/// Writes the sums of some rows of turned lines, counted from the first in the sink; the doubles begin with what the
/// first of these rows needs.
pub(super) type Lines = fn(&mut Writer, &Taps, &[f64], &Ahead, Range<usize>, &Place, &mut SinkView<'_>);

impl Writer {
    /// A writer for a sink of `dtype`.
    pub(super) fn new(dtype: DType) -> Result<Self> {
        let lines: Lines = match_dtype!(real dtype, T => Self::lines_of::<T>,
            else return Err::<_, Error>(not_real("sink", dtype)));
        Ok(Self { dtype, store: storer("sink", dtype)?, lines, buffer: Vec::new() })
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

    fn lines_of<D: Real>(
        &mut self,
        taps: &Taps,
        x: &[f64],
        ahead: &Ahead,
        rows: Range<usize>,
        place: &Place,
        sink: &mut SinkView<'_>,
    ) {
        let columns = rows.len().next_multiple_of(ROWS);
        down_lines(taps, x, columns, self.elements::<D>(LANES * columns), ahead, rows.start);
        for l in 0..place.lanes {
            let start = place.sink_base + l * place.rows + rows.start;
            self.write::<D>(sink, start, l * columns..l * columns + rows.len());
        }
    }
}
