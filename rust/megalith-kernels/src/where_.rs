//! Positions of the entries for which something holds: `numpy.nonzero`, in parallel and without temporaries.
//!
//! Two passes. The first reads the source once, block by block, and keeps a bit for each element and a count for each
//! block. The counts, summed up, say where the hits of each block begin in the result, so that the second pass, over
//! the bits alone, writes all blocks at the same time, each into its own rows:
//!
//! ```text
//! for each block b, in parallel:   mask[b] = bits(source[b]),  count[b] = popcount(mask[b])
//! start = exclusive sum of count;  the caller makes room for the total
//! for each block b, in parallel:   rows[start[b]..start[b + 1]] = positions of the bits of mask[b]
//! ```
//!
//! 1. Bits are made from 64 bytes of 0 or 1 by eight multiplications, a form that compilers vectorise up to the bytes.
//! 2. In more than one dimension no division is made for a hit: the coordinates of a row are counted up, and only a
//!    jump over a whole row divides.
//! 3. The source is read once, so that a source another thread writes to still gives a result of one piece.
//!
//! Scratch: one bit an element. The order of hits is that of the logical index (C order), whatever the layout.

use megalith_core::blocks::{BLOCK, ranges, split_mut, zeros};
use megalith_core::dtype::{Integer, Real};
use megalith_core::{Element, Error, Result, SinkView, SourceView, Workers};

/// Elements a word of the mask stands for.
const WORD: usize = 64;

/// The hits of a source, counted but not yet written.
#[derive(Debug)]
pub struct Hits {
    shape: Vec<usize>,
    mask: Vec<u64>,
    counts: Vec<usize>,
}

/// Find the non-zero entries.
///
/// # Shapes
/// `source (n0..nk)`, any number of dimensions.
///
/// # Errors
/// [`Error::Memory`], [`Error::Cancelled`].
///
/// # Cost
/// One pass over the source; one bit of scratch an element.
///
/// # Source
/// `numpy.nonzero`; ClearMap's `where` counts only positive entries.
pub fn find_nonzero<T: Element>(workers: &Workers<'_>, source: &SourceView<'_>) -> Result<Hits> {
    find(workers, source, T::is_nonzero)
}

/// Find the entries of an integer source that are greater than a bound.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Cost
/// As [`find_nonzero`]: the comparison makes no temporary.
pub fn find_above_integer<T: Integer>(workers: &Workers<'_>, source: &SourceView<'_>, bound: i128) -> Result<Hits> {
    match T::from_i128(bound) {
        Some(bound) => find(workers, source, |value: T| value > bound),
        // No value of the type reaches the bound, or each exceeds it.
        None => find(workers, source, |_: T| bound < 0),
    }
}

/// Find the entries that are greater than a bound, compared in double precision; NaN is greater than nothing.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Cost
/// As [`find_nonzero`].
pub fn find_above_float<T: Real>(workers: &Workers<'_>, source: &SourceView<'_>, bound: f64) -> Result<Hits> {
    find(workers, source, |value: T| value.to_double() > bound)
}

fn find<T: Element>(workers: &Workers<'_>, source: &SourceView<'_>, is_hit: impl Fn(T) -> bool + Sync) -> Result<Hits> {
    let len = source.len();
    let mut mask = zeros::<u64>(len.div_ceil(WORD))?;
    let mut counts = zeros(len.div_ceil(BLOCK))?;
    let view = source.clone().coalesce();
    let blocks = ranges(len, BLOCK).zip(mask.chunks_mut(BLOCK / WORD)).zip(&mut counts).collect();
    workers.for_each_with(blocks, Vec::new, |scratch, ((range, words), count)| {
        *count = fill_mask(view.values(range, scratch), words, &is_hit);
        Ok(())
    })?;
    Ok(Hits { shape: source.shape().to_vec(), mask, counts })
}

/// One bit a value, and how many are set.
fn fill_mask<T: Copy>(values: &[T], words: &mut [u64], is_hit: impl Fn(T) -> bool) -> usize {
    let mut count = 0;
    let (whole, rest) = values.as_chunks::<WORD>();
    for (chunk, word) in whole.iter().zip(words.iter_mut()) {
        *word = bits(chunk, &is_hit);
        count += word.count_ones() as usize;
    }
    if let Some(word) = words.get_mut(whole.len()) {
        *word = rest.iter().enumerate().map(|(k, &value)| u64::from(is_hit(value)) << k).sum();
        count += word.count_ones() as usize;
    }
    count
}

#[inline]
fn bits<T: Copy>(values: &[T; WORD], is_hit: impl Fn(T) -> bool) -> u64 {
    let mut flags = [0u8; WORD];
    for (flag, &value) in flags.iter_mut().zip(values) {
        *flag = u8::from(is_hit(value));
    }
    let mut word = 0;
    for (k, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Eight bytes of 0 or 1 moved into the top byte, the first byte lowest.
        word |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * k);
    }
    word
}

impl Hits {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Write the positions.
    ///
    /// # Shapes
    /// `sink (n_hits)` for a source of one dimension, otherwise `(n_hits, ndim)`; any layout.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sink has another shape, [`Error::Argument`] if `O` cannot hold the largest position
    /// along some axis, [`Error::Cancelled`].
    ///
    /// # Cost
    /// One pass over the mask and one over the sink.
    pub fn fill<O: Integer>(&self, workers: &Workers<'_>, sink: SinkView<'_>) -> Result<()> {
        let ndim = self.shape.len();
        let expected: Vec<usize> = if ndim == 1 { vec![self.len()] } else { vec![self.len(), ndim] };
        if sink.shape() != expected {
            let (got, expected) = (format!("shape {:?}", sink.shape()), format!("{expected:?}"));
            return Err(Error::Shape { name: "sink", got, expected });
        }
        for (axis, &n) in self.shape.iter().enumerate() {
            let last = n.saturating_sub(1) as i128;
            if last > O::MAX {
                let name = O::DTYPE.name();
                let got = format!("{name} for an axis {axis} of length {n}");
                return Err(Error::Argument { name: "dtype", got, expected: "a wider integer type".to_owned() });
            }
        }
        if sink.is_empty() {
            return Ok(());
        }
        let rows = match sink.into_mut_slice::<O>() {
            Ok(slice) => {
                let lengths: Vec<usize> = self.counts.iter().map(|n| n * ndim).collect();
                split_mut(slice, &lengths).into_iter().map(Rows::Slice).collect()
            }
            Err(view) => self.parts(view),
        };
        let blocks: Vec<_> = rows.into_iter().enumerate().filter(|(b, _)| self.counts[*b] > 0).collect();
        workers.for_each_with(blocks, Vec::new, |scratch, (block, rows)| {
            match rows {
                Rows::Slice(rows) => self.write_block(block, rows),
                Rows::View(mut view) => {
                    scratch.resize(view.len(), O::default());
                    self.write_block(block, scratch);
                    view.scatter(0, scratch);
                }
            }
            Ok(())
        })
    }

    /// The rows of each block of a sink that is not one slice.
    fn parts<'a, O>(&self, sink: SinkView<'a>) -> Vec<Rows<'a, O>> {
        let mut rest = sink;
        let mut parts = Vec::with_capacity(self.counts.len());
        for &count in &self.counts {
            let (part, tail) = rest.split_at(0, count);
            parts.push(Rows::View(part));
            rest = tail;
        }
        parts
    }

    fn write_block<O: Integer>(&self, block: usize, out: &mut [O]) {
        let words = BLOCK / WORD;
        let mask = &self.mask[block * words..((block + 1) * words).min(self.mask.len())];
        match self.shape.len() {
            1 => write_flat(mask, block * BLOCK, out),
            2 => write_rows::<O, 2>(mask, block * BLOCK, &self.shape, out),
            3 => write_rows::<O, 3>(mask, block * BLOCK, &self.shape, out),
            _ => write_any(mask, block * BLOCK, &self.shape, out),
        }
    }
}

/// Where the hits of a block go.
enum Rows<'a, O> {
    Slice(&'a mut [O]),
    View(SinkView<'a>),
}

/// Call `f` with the position of each set bit, in order.
#[inline]
fn for_each_bit(mask: &[u64], first: usize, mut f: impl FnMut(usize)) {
    for (k, &word) in mask.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            f(first + k * WORD + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}

fn write_flat<O: Integer>(mask: &[u64], first: usize, out: &mut [O]) {
    let mut slots = out.iter_mut();
    for_each_bit(mask, first, |position| {
        if let Some(slot) = slots.next() {
            *slot = O::from_index(position);
        }
    });
}

/// The row a position lies in: where it starts and ends, and its coordinates.
struct Row<'a> {
    shape: &'a [usize],
    start: usize,
    end: usize,
    lead: Vec<usize>,
}

impl<'a> Row<'a> {
    fn new(shape: &'a [usize]) -> Self {
        Self { shape, start: 0, end: 0, lead: vec![0; shape.len() - 1] }
    }

    /// Move on to the row of `position`, which lies at or behind the end of this one.
    fn seek(&mut self, position: usize) {
        let width = self.shape[self.lead.len()];
        if self.end > 0 && position < self.end + width {
            (self.start, self.end) = (self.end, self.end + width);
            for (coordinate, &n) in self.lead.iter_mut().zip(self.shape).rev() {
                *coordinate += 1;
                if *coordinate < n {
                    return;
                }
                *coordinate = 0;
            }
            return;
        }
        let mut row = position / width;
        self.start = row * width;
        self.end = self.start + width;
        for (coordinate, &n) in self.lead.iter_mut().zip(self.shape).rev() {
            *coordinate = row % n;
            row /= n;
        }
    }
}

fn write_rows<O: Integer, const NDIM: usize>(mask: &[u64], first: usize, shape: &[usize], out: &mut [O]) {
    let mut row = Row::new(shape);
    let mut lead = [O::default(); NDIM];
    let mut slots = out.as_chunks_mut::<NDIM>().0.iter_mut();
    for_each_bit(mask, first, |position| {
        if position >= row.end {
            row.seek(position);
            for (slot, &coordinate) in lead.iter_mut().zip(&row.lead) {
                *slot = O::from_index(coordinate);
            }
        }
        lead[NDIM - 1] = O::from_index(position - row.start);
        if let Some(slot) = slots.next() {
            *slot = lead;
        }
    });
}

fn write_any<O: Integer>(mask: &[u64], first: usize, shape: &[usize], out: &mut [O]) {
    let mut row = Row::new(shape);
    let mut slots = out.chunks_exact_mut(shape.len());
    for_each_bit(mask, first, |position| {
        if position >= row.end {
            row.seek(position);
        }
        if let Some(slot) = slots.next() {
            for (cell, &coordinate) in slot.iter_mut().zip(&row.lead) {
                *cell = O::from_index(coordinate);
            }
            slot[shape.len() - 1] = O::from_index(position - row.start);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;

    /// The positions one after the other, as slowly as the definition reads.
    fn naive(values: &[i16], shape: &[usize], is_hit: impl Fn(i16) -> bool) -> Vec<i64> {
        let mut out = Vec::new();
        for (mut flat, _) in values.iter().enumerate().filter(|&(_, &v)| is_hit(v)) {
            let mut position = vec![0; shape.len()];
            for (axis, &n) in shape.iter().enumerate().rev() {
                position[axis] = (flat % n) as i64;
                flat /= n;
            }
            out.extend(position);
        }
        out
    }

    fn written(workers: &Workers<'_>, hits: &Hits, ndim: usize) -> Vec<i64> {
        let mut out = vec![0i64; hits.len() * ndim];
        let shape = if ndim == 1 { vec![hits.len()] } else { vec![hits.len(), ndim] };
        hits.fill::<i64>(workers, SinkView::from_slice(&mut out, &shape)).unwrap();
        out
    }

    proptest! {
        #[test]
        fn hits_match_the_naive_twin(
            shape in prop::collection::vec(1usize..40, 1..5),
            seed in 0u64..1000, density in 0u64..4, bound in -3i128..3,
        ) {
            let len: usize = shape.iter().product();
            let random = |i: usize| (i as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let values: Vec<i16> =
                (0..len).map(|i| if random(i) % 4 <= density { (random(i + len) % 7) as i16 - 3 } else { 0 }).collect();
            let source = SourceView::from_slice(&values, &shape);
            for threads in [1, 2, 8] {
                let found = execute(threads, |_| true, |w| {
                    Ok(written(w, &find_nonzero::<i16>(w, &source)?, shape.len()))
                });
                prop_assert_eq!(found.unwrap(), naive(&values, &shape, |v| v != 0));
            }
            let above = execute_here(|w| Ok(written(w, &find_above_integer::<i16>(w, &source, bound)?, shape.len())));
            prop_assert_eq!(above.unwrap(), naive(&values, &shape, |v| i128::from(v) > bound));
        }
    }

    #[test]
    fn hits_at_the_borders_of_blocks_and_words_are_found() {
        for len in [1, 63, 64, 65, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            let values = vec![1u8; len];
            let source = SourceView::from_slice(&values, &[len]);
            let found = execute_here(|w| Ok(written(w, &find_nonzero::<u8>(w, &source)?, 1))).unwrap();
            assert_eq!(found, (0..len as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sink_with_gaps_gets_the_same_rows() {
        let values: Vec<u8> = (0..100_000u32).map(|i| u8::from(i % 7 == 0)).collect();
        let source = SourceView::from_slice(&values, &[100, 1000]);
        execute_here(|w| {
            let hits = find_nonzero::<u8>(w, &source)?;
            let (n, plain) = (hits.len(), written(w, &hits, 2));
            let mut wide = vec![-1i64; n * 3];
            let (sink, _) = SinkView::from_slice(&mut wide, &[n, 3]).split_at(1, 2);
            hits.fill::<i64>(w, sink)?;
            for (row, wide) in plain.chunks(2).zip(wide.chunks(3)) {
                assert_eq!(&wide[..2], row);
                assert_eq!(wide[2], -1);
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn positions_that_do_not_fit_the_sink_are_refused() {
        let values = vec![1u8; 300];
        let source = SourceView::from_slice(&values, &[300]);
        let result = execute_here(|w| {
            let mut out = vec![0i8; 300];
            find_nonzero::<u8>(w, &source)?.fill::<i8>(w, SinkView::from_slice(&mut out, &[300]))
        });
        assert!(matches!(result, Err(Error::Argument { .. })));
    }
}
