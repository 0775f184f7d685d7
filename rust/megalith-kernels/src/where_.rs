//! Positions of the entries for which something holds: `numpy.nonzero`, in parallel and without temporaries.
//!
//! Two passes. The first reads the source once, block by block, makes a bit for each element, and keeps the bits of the
//! block, or the positions of its hits where they are few. The numbers of hits, summed up, say where those of each
//! block begin in the result, so that the second pass, over what was kept alone, writes all parts of the result at the
//! same time:
//!
//! ```text
//! for each block b, in parallel:   bits = is_hit(source[b]),  count[b] = popcount(bits),  kept[b] = bits or positions
//! start = exclusive sum of count;  the caller makes room for the total
//! for each block b, in parallel:   rows[start[b]..start[b + 1]] = positions in kept[b]
//! ```
//!
//! 1. Bits are made from 64 bytes of 0 or 1 by eight multiplications, a form that compilers vectorise up to the bytes.
//! 2. In more than one dimension no division is made for a hit: the coordinates of a row are counted up, and only a
//!    jump over some rows divides.
//! 3. The source is read once, so that a source another thread writes to still gives a result of one piece.
//! 4. With AVX-512 a comparison gives bits, and a word of them is turned into positions by one compression of the
//!    numbers from 0 to 63.
//! 5. Memory touched for the first time is slower than any other: none is touched for the bits of blocks with few hits,
//!    and the result is written in parts of some huge pages, so that two threads seldom ask for the same page.
//!
//! Scratch: one bit an element at most. The order of hits is that of the logical index (C order), whatever the layout.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod row;

use std::ops::Range;

use bytemuck::Pod;
use megalith_core::blocks::{BLOCK, ranges, split_mut};
use megalith_core::dtype::{Integer, Real};
use megalith_core::{Element, Error, Result, SinkView, SourceView, Workers};

use self::row::Row;
use crate::scratch::Mask;
use crate::simd::multiversion;

/// Elements a word of the mask stands for.
const WORD: usize = 64;

/// Words of a block.
const WORDS: usize = BLOCK / WORD;

/// Bytes of the result that one item of work writes: two huge pages.
const PART: usize = 1 << 22;

/// Items of work for a result of fewer bytes than so many parts.
const PARTS: usize = 16;

/// The hits of a source, counted but not yet written.
#[derive(Debug)]
pub struct Hits {
    shape: Vec<usize>,
    mask: Mask,
    blocks: Vec<Block>,
}

/// The hits of a block.
#[derive(Clone, Debug, Default)]
struct Block {
    count: usize,
    /// Where they lie in the block, if there are no more of them than words; the mask says it otherwise.
    positions: Vec<u16>,
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
    let mut mask = Mask::new(len.div_ceil(WORD))?;
    let mut blocks = vec![Block::default(); len.div_ceil(BLOCK)];
    let view = source.clone().coalesce();
    let items = ranges(len, BLOCK).zip(mask.words_mut().chunks_mut(WORDS)).zip(&mut blocks).collect();
    let scratch = || (Vec::new(), vec![0; WORDS.min(len.div_ceil(WORD))]);
    workers.for_each_with(items, scratch, |(values, bits), ((range, words), block)| {
        let bits = &mut bits[..words.len()];
        block.count = make_bits(view.values(range, values), bits, &is_hit);
        if block.count > bits.len() {
            words.copy_from_slice(bits);
        } else if block.count > 0 {
            block.positions.reserve_exact(block.count);
            positions(bits, 0).for_each(|position| block.positions.push(position as u16));
        }
        Ok(())
    })?;
    Ok(Hits { shape: source.shape().to_vec(), mask, blocks })
}

multiversion! {
    /// A bit for each value; returns how many are set.
    fn make_bits[T: Copy, F: Fn(T) -> bool](values: &[T], words: &mut [u64], is_hit: &F) -> usize
        = plain_bits, avx512 = avx512::make_bits, avx2 = avx2::make_bits
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_bits<T: Copy>(values: &[T], words: &mut [u64], is_hit: &impl Fn(T) -> bool) -> usize {
    bits_with(values, words, is_hit, |chunk| word_of(chunk, is_hit))
}

/// Bits of whole words by `word_of`, those of the rest one by one.
#[inline(always)]
#[allow(clippy::inline_always)]
fn bits_with<T: Copy>(
    values: &[T],
    words: &mut [u64],
    is_hit: &impl Fn(T) -> bool,
    word_of: impl Fn(&[T; WORD]) -> u64,
) -> usize {
    let mut count = 0;
    let (whole, rest) = values.as_chunks::<WORD>();
    for (chunk, word) in whole.iter().zip(words.iter_mut()) {
        *word = word_of(chunk);
        count += word.count_ones() as usize;
    }
    if let Some(word) = words.get_mut(whole.len()) {
        *word = rest.iter().enumerate().map(|(k, &value)| u64::from(is_hit(value)) << k).sum();
        count += word.count_ones() as usize;
    }
    count
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn word_of<T: Copy>(values: &[T; WORD], is_hit: &impl Fn(T) -> bool) -> u64 {
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

/// The positions of bits that are set, in order.
#[inline(always)]
#[allow(clippy::inline_always)]
fn positions(mask: &[u64], first: usize) -> impl Iterator<Item = usize> {
    mask.iter().enumerate().flat_map(move |(k, &word)| Bits(word).map(move |bit| first + k * WORD + bit))
}

/// The numbers of the bits of a word that are set.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (bit < WORD).then_some(bit)
    }
}

/// What positions are written as: they are never negative, so that a signed type of the same size holds the same.
trait Cell: Integer + Pod {}
impl Cell for u8 {}
impl Cell for u16 {}
impl Cell for u32 {}
impl Cell for u64 {}

impl Hits {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        count(&self.blocks)
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
        match size_of::<O>() {
            _ if sink.is_empty() => Ok(()),
            1 => self.fill_cells::<u8>(workers, sink),
            2 => self.fill_cells::<u16>(workers, sink),
            4 => self.fill_cells::<u32>(workers, sink),
            _ => self.fill_cells::<u64>(workers, sink),
        }
    }

    fn fill_cells<O: Cell>(&self, workers: &Workers<'_>, sink: SinkView<'_>) -> Result<()> {
        let parts = self.parts(self.shape.len() * size_of::<O>());
        let lengths: Vec<usize> = parts.iter().map(|part| count(&self.blocks[part.clone()])).collect();
        let rows = match sink.into_mut_slice::<O>() {
            Ok(slice) => {
                let cells: Vec<usize> = lengths.iter().map(|n| n * self.shape.len()).collect();
                split_mut(slice, &cells).into_iter().map(Rows::Slice).collect()
            }
            Err(view) => split_view(view, &lengths),
        };
        let items = parts.into_iter().zip(rows).collect();
        workers.for_each_with(items, Vec::new, |scratch, (part, rows)| {
            match rows {
                Rows::Slice(rows) => self.write(part, rows),
                Rows::View(mut view) => {
                    scratch.resize(view.len(), O::default());
                    self.write(part, scratch);
                    view.scatter(0, scratch);
                }
            }
            Ok(())
        })
    }

    /// The blocks that are written together, where a hit takes `size` bytes.
    fn parts(&self, size: usize) -> Vec<Range<usize>> {
        let enough = (self.len() * size / PARTS).min(PART);
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (b, block) in self.blocks.iter().enumerate() {
            bytes += block.count * size;
            if bytes > enough || b + 1 == self.blocks.len() {
                parts.push(start..b + 1);
                (start, bytes) = (b + 1, 0);
            }
        }
        parts
    }

    fn write<O: Cell>(&self, part: Range<usize>, mut out: &mut [O]) {
        let words = self.mask.words();
        for b in part {
            let block = &self.blocks[b];
            let (rows, rest) = out.split_at_mut(block.count * self.shape.len());
            let mask = &words[b * WORDS..((b + 1) * WORDS).min(words.len())];
            if block.count > mask.len() {
                write_mask(mask, b * BLOCK, &self.shape, rows);
            } else {
                let positions = block.positions.iter().map(|&position| b * BLOCK + usize::from(position));
                write_positions(positions, &self.shape, rows);
            }
            out = rest;
        }
    }
}

fn count(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.count).sum()
}

/// Where the hits of some blocks go.
enum Rows<'a, O> {
    Slice(&'a mut [O]),
    View(SinkView<'a>),
}

/// Cut a sink that is not one slice.
fn split_view<'a, O>(sink: SinkView<'a>, lengths: &[usize]) -> Vec<Rows<'a, O>> {
    let mut rest = sink;
    let mut parts = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (part, tail) = rest.split_at(0, length);
        parts.push(Rows::View(part));
        rest = tail;
    }
    parts
}

multiversion! {
    /// Write the positions of the bits that are set, the first of which stands for `first`.
    fn write_mask[O: Cell](mask: &[u64], first: usize, shape: &[usize], out: &mut [O]) -> ()
        = plain_mask, avx512 = avx512::write_mask
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_mask<O: Cell>(mask: &[u64], first: usize, shape: &[usize], out: &mut [O]) {
    write_positions(positions(mask, first), shape, out);
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn write_positions<O: Cell>(positions: impl Iterator<Item = usize>, shape: &[usize], out: &mut [O]) {
    match *shape {
        [_] => {
            let mut slots = out.iter_mut();
            // `for_each`, here and below, makes two plain loops of words and bits; `zip` would not.
            positions.for_each(|position| {
                if let Some(slot) = slots.next() {
                    *slot = O::from_index(position);
                }
            });
        }
        [a, b] => write_rows(positions, [a, b], out),
        [a, b, c] => write_rows(positions, [a, b, c], out),
        [a, b, c, d] => write_rows(positions, [a, b, c, d], out),
        _ => write_any(positions, shape, out),
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn write_rows<O: Cell, const NDIM: usize>(positions: impl Iterator<Item = usize>, shape: [usize; NDIM], out: &mut [O]) {
    let mut row = Row::new(shape);
    let mut cells = [O::default(); NDIM];
    let mut slots = out.as_chunks_mut::<NDIM>().0.iter_mut();
    positions.for_each(|position| {
        if position >= row.end {
            row.seek(position);
            cells = row.lead.map(O::from_index);
        }
        cells[NDIM - 1] = O::from_index(position - row.start);
        if let Some(slot) = slots.next() {
            *slot = cells;
        }
    });
}

fn write_any<O: Cell>(positions: impl Iterator<Item = usize>, shape: &[usize], out: &mut [O]) {
    let mut row = Row::new(shape.to_vec());
    let mut slots = out.chunks_exact_mut(shape.len());
    positions.for_each(|position| {
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
    use crate::simd::{Level, set_level};
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
            for (level, threads) in Level::ALL.into_iter().zip([1, 2, 8]) {
                set_level(level);
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
        for level in Level::ALL {
            set_level(level);
            for len in [1, 63, 64, 65, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
                let values = vec![1u8; len];
                let source = SourceView::from_slice(&values, &[len]);
                let found = execute_here(|w| Ok(written(w, &find_nonzero::<u8>(w, &source)?, 1))).unwrap();
                assert_eq!(found, (0..len as i64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn blocks_of_few_and_of_many_hits_are_written_in_each_type_and_number_of_axes() {
        let random = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
        let shapes: [&[usize]; 6] =
            [&[200_003], &[700, 300], &[3, 70_000], &[64, 64, 51], &[50, 40, 7, 16], &[4, 5, 3, 70, 50]];
        for (level, shape) in Level::ALL.into_iter().flat_map(|level| shapes.map(|shape| (level, shape))) {
            set_level(level);
            let len: usize = shape.iter().product();
            for every in [1, 2, 10, 60, 70, 1000] {
                let values: Vec<i16> = (0..len).map(|i| i16::from(random(i) % every == 0)).collect();
                let source = SourceView::from_slice(&values, shape);
                let expected = naive(&values, shape, |v| v != 0);
                execute_here(|w| {
                    let hits = find_nonzero::<i16>(w, &source)?;
                    assert!(written(w, &hits, shape.len()) == expected, "{level:?}, {shape:?}, 1 of {every}");
                    assert_narrow::<u32>(w, &hits, shape, &expected);
                    assert_narrow::<i32>(w, &hits, shape, &expected);
                    assert_narrow::<u16>(w, &hits, shape, &expected);
                    assert_narrow::<u8>(w, &hits, shape, &expected);
                    Ok(())
                })
                .unwrap();
            }
        }
    }

    fn assert_narrow<O: Integer>(workers: &Workers<'_>, hits: &Hits, shape: &[usize], expected: &[i64]) {
        if shape.iter().any(|&n| n as i128 - 1 > O::MAX) {
            return;
        }
        let mut out = vec![O::default(); expected.len()];
        let rows = if shape.len() == 1 { vec![hits.len()] } else { vec![hits.len(), shape.len()] };
        hits.fill::<O>(workers, SinkView::from_slice(&mut out, &rows)).unwrap();
        assert!(out.iter().map(|&position| position.to_wrapped_i64()).eq(expected.iter().copied()));
    }

    #[test]
    fn starts_that_are_not_aligned_to_vectors_are_read() {
        let values: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 3)).collect();
        for (level, start) in Level::ALL.into_iter().flat_map(|level| (0..20).map(move |start| (level, start))) {
            set_level(level);
            let source = SourceView::from_slice(&values[start..], &[1000 - start]);
            let found = execute_here(|w| Ok(written(w, &find_nonzero::<f32>(w, &source)?, 1))).unwrap();
            assert_eq!(found, (0..1000 - start as i64).filter(|i| (i + start as i64) % 3 != 0).collect::<Vec<_>>());
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
