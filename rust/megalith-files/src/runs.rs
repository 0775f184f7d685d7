//! Which bytes of a file are a box of an array: the arithmetic that reading and writing boxes share.
//!
//! A box of a C-order array lies in the file as *runs* of consecutive bytes. Axes that are taken whole join their
//! neighbours, so the runs are as long as they can be and there are as few of them as possible. The bytes of the box
//! itself, counted in C order, are numbered 0, 1, 2, ...; work is cut by these numbers, and [`Runs::segments`] says
//! where any range of them lies in the file.

use std::ops::Range;

use megalith_core::{Error, Result};

/// Where an array in C order lies in a file.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Bytes before element (0, ..., 0).
    pub offset: u64,
    /// Lengths of the axes.
    pub shape: &'a [usize],
    /// Bytes of an element.
    pub itemsize: usize,
}

/// The runs of a box.
#[derive(Debug)]
pub(crate) struct Runs {
    /// File offset of the first byte of the box.
    start: u64,
    /// Bytes of each run, at least one.
    run: usize,
    /// Count and distance in the file of the axes outside of a run, the slowest first.
    outer: Vec<(usize, u64)>,
    /// Bytes of the box.
    bytes: usize,
}

/// Consecutive bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where they begin.
    pub(crate) at: u64,
    /// How many they are.
    pub(crate) len: usize,
}

impl Runs {
    pub(crate) fn new(array: &Stored<'_>, ranges: &[Range<usize>]) -> Result<Self> {
        let Stored { offset, shape, itemsize } = *array;
        let fits = |(range, &n): (&Range<usize>, &usize)| range.start <= range.end && range.end <= n;
        if ranges.len() != shape.len() || !ranges.iter().zip(shape).all(fits) {
            let expected = format!("one range inside of each axis of the shape {shape:?}");
            return Err(Error::Shape { name: "ranges", got: format!("{ranges:?}"), expected });
        }
        if itemsize == 0 || ranges.iter().any(Range::is_empty) {
            return Ok(Self { start: offset, run: 1, outer: Vec::new(), bytes: 0 });
        }
        let whole = shape.iter().try_fold(itemsize as u64, |bytes, &n| bytes.checked_mul(n as u64));
        if whole.and_then(|bytes| bytes.checked_add(offset)).is_none_or(|end| end > i64::MAX as u64) {
            let expected = format!("an array of items of {itemsize} bytes that ends below byte 2**63");
            return Err(Error::Shape { name: "shape", got: format!("{shape:?} at offset {offset}"), expected });
        }
        // From here on every product and sum is at most the size of the array.
        let (mut start, mut stride, mut run, mut bytes) = (offset, itemsize as u64, itemsize, itemsize);
        let mut outer: Vec<(usize, u64)> = Vec::new();
        for (range, &n) in ranges.iter().zip(shape).rev() {
            start += range.start as u64 * stride;
            bytes *= range.len();
            match outer.last_mut() {
                _ if range.len() == 1 => {}
                None if run as u64 == stride => run *= range.len(),
                Some((count, step)) if *step * *count as u64 == stride => *count *= range.len(),
                _ => outer.push((range.len(), stride)),
            }
            stride *= n as u64;
        }
        outer.reverse();
        Ok(Self { start, run, outer, bytes })
    }

    /// Bytes of the box.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of each run.
    pub(crate) fn run(&self) -> usize {
        self.run
    }

    /// File offset of the first byte of the box.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes in the file from the first to the last of the box.
    pub(crate) fn extent(&self) -> u64 {
        self.run as u64 + self.outer.iter().map(|&(count, step)| (count as u64 - 1) * step).sum::<u64>()
    }

    /// Where the bytes `range` of the box lie, in their order.
    pub(crate) fn segments(&self, range: Range<usize>) -> Segments<'_> {
        assert!(range.start <= range.end && range.end <= self.bytes, "bytes of the box");
        let mut counter = vec![0; self.outer.len()];
        let (mut row, x) = (range.start / self.run, range.start % self.run);
        let mut base = self.start;
        for (slot, &(count, step)) in counter.iter_mut().zip(&self.outer).rev() {
            *slot = row % count;
            row /= count;
            base += *slot as u64 * step;
        }
        Segments { runs: self, counter, base, x, left: range.len() }
    }
}

/// The segments of a range of a box.
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    runs: &'a Runs,
    counter: Vec<usize>,
    /// Where the run of the counter begins in the file.
    base: u64,
    /// Bytes of this run that come before the range.
    x: usize,
    left: usize,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        if self.left == 0 {
            return None;
        }
        let len = self.left.min(self.runs.run - self.x);
        let segment = Segment { at: self.base + self.x as u64, len };
        self.x = 0;
        self.left -= len;
        for (slot, &(count, step)) in self.counter.iter_mut().zip(&self.runs.outer).rev() {
            *slot += 1;
            self.base += step;
            if *slot < count {
                break;
            }
            self.base -= count as u64 * step;
            *slot = 0;
        }
        Some(segment)
    }
}

#[cfg(test)]
// One range is the box of an array with one axis, not a list of numbers.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    fn segments(offset: u64, shape: &[usize], itemsize: usize, ranges: &[Range<usize>]) -> Vec<(u64, usize)> {
        let runs = Runs::new(&Stored { offset, shape, itemsize }, ranges).unwrap();
        runs.segments(0..runs.bytes()).map(|s| (s.at, s.len)).collect()
    }

    #[test]
    fn whole_axes_join_into_one_run() {
        assert_eq!(segments(10, &[4, 5, 6], 2, &[1..3, 0..5, 0..6]), [(10 + 60, 120)]);
        assert_eq!(segments(0, &[4, 5, 6], 2, &[1..2, 2..4, 0..6]), [(60 + 24, 24)]);
        assert_eq!(segments(0, &[3, 4, 5], 1, &[0..3, 0..4, 1..2]).len(), 12);
        let runs = Runs::new(&Stored { offset: 0, shape: &[3, 4, 5], itemsize: 1 }, &[0..3, 0..4, 1..2]).unwrap();
        assert_eq!(runs.outer, [(12, 5)]);
    }

    #[test]
    fn no_axes_are_one_item_and_empty_boxes_are_nothing() {
        assert_eq!(segments(7, &[], 8, &[]), [(7, 8)]);
        assert_eq!(segments(7, &[3, 0], 8, &[0..3, 0..0]), []);
        assert_eq!(segments(7, &[3, usize::MAX], 8, &[2..2, 0..1]), []);
        assert_eq!(segments(7, &[3], 0, &[0..3]), []);
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn what_does_not_fit_is_an_error() {
        let huge = usize::MAX;
        for (shape, ranges) in [
            (&[3][..], &[0..4][..]),
            (&[3], &[2..1]),
            (&[3], &[]),
            (&[], &[0..1]),
            (&[huge, huge], &[0..1, 0..1]),
            (&[huge], &[0..1]),
        ] {
            let runs = Runs::new(&Stored { offset: 0, shape, itemsize: 2 }, ranges);
            assert!(matches!(runs, Err(Error::Shape { .. })), "{shape:?} {ranges:?}");
        }
    }
}
