//! The mean of the rows of each group.
//!
//! ```text
//! for each block of rows, in parallel:   sums[block][id] = sum of its rows with that id
//! for each block in order:               sums[id] += sums[block][id]
//! ```
//!
//! 1. Blocks are cut by size, and their sums added in order: the same bits for any number of threads, and for a list
//!    that comes in windows of whole blocks.
//! 2. Four values that follow each other and have one id are added up before they are added to its sum, so that an id that
//!    is repeated does not wait for its own last sum each time.
//! 3. Wide rows are cut into columns instead: each thread adds up its own columns of all rows, in the order of the rows.
//!    The sums of a block would be as large as the block.

use std::ops::Range;

use megalith_core::blocks::{BLOCK, ranges};
use megalith_core::dtype::Integer;
use megalith_core::{DType, Error, Result, SourceView, Workers};

use super::slots::{self, BUFFER, Near, Slots, flip, key_of};
use super::{QUAD, blocks};
use crate::rows::loader;
use crate::simd::multiversion;

/// Values of a block.
const VALUES: usize = 1 << 17;

/// Rows of as many columns and more are cut into columns.
const WIDE: usize = 16;

/// Columns of a thread at least.
const STRIP: usize = 8;

/// Blocks whose sums are held at once.
const ROUND: usize = 32;

/// Rows of a block: windows of a list that does not fit in memory hold whole blocks.
#[must_use]
pub fn block_rows(columns: usize) -> usize {
    (VALUES / columns.max(1)).max(1)
}

/// Sums of the rows of each id, for some of the columns.
#[derive(Debug, Default)]
struct Sums {
    columns: Range<usize>,
    slots: Slots,
    totals: Vec<f64>,
    counts: Vec<u64>,
}

/// Sums and numbers of the rows of each id.
#[derive(Debug)]
pub struct Means {
    columns: usize,
    flip: u64,
    /// One for all columns, or several of wide rows.
    strips: Vec<Sums>,
}

impl Sums {
    /// The number of an id; room for its sums is made.
    #[inline]
    fn find(&mut self, key: u64) -> Result<usize> {
        let slot = self.slots.find(key)?;
        if slot == self.counts.len() {
            self.counts.push(0);
            self.totals.resize(self.totals.len() + self.columns.len(), 0.0);
        }
        Ok(slot)
    }

    /// Add a row to those of an id.
    #[inline]
    fn add(&mut self, key: u64, row: &[f64], count: u64) -> Result<()> {
        let slot = self.find(key)?;
        self.counts[slot] += count;
        for (sum, value) in self.totals[slot * row.len()..].iter_mut().zip(row) {
            *sum += value;
        }
        Ok(())
    }

    /// Add what was found in a block.
    fn merge(&mut self, block: &Block) -> Result<()> {
        let block = match block {
            Block::Cells { base, cells } => return self.merge_cells(*base, cells),
            Block::Sums(sums) => sums,
        };
        let width = self.columns.len();
        for (slot, (&key, &count)) in block.slots.keys().iter().zip(&block.counts).enumerate() {
            self.add(key, &block.totals[slot * width..(slot + 1) * width], count)?;
        }
        Ok(())
    }

    /// Add the cells of keys that follow each other, from `base` on.
    fn merge_cells(&mut self, base: u64, cells: &[Cell]) -> Result<()> {
        let key = |i: usize| base + i as u64;
        let keys = self.slots.keys();
        if keys.len() == cells.len() && keys.iter().enumerate().all(|(i, &met)| met == key(i)) {
            // Each key has the number of its cell, as it has from the second block on where none between was missing.
            for ((total, count), cell) in self.totals.iter_mut().zip(&mut self.counts).zip(cells) {
                *total += cell[0];
                *count += cell[1] as u64;
            }
            return Ok(());
        }
        let mut met = cells.iter().enumerate().filter(|(_, cell)| cell[1] > 0.0);
        met.try_for_each(|(i, cell)| self.add(key(i), &cell[..1], cell[1] as u64))
    }
}

/// A sum and a number, both doubles: they lie beside each other and are added to at once.
type Cell = [f64; 2];

/// What was found in a block.
enum Block {
    /// Of all keys from `base` on, whether they were met or not.
    Cells {
        base: u64,
        cells: Vec<Cell>,
    },
    Sums(Sums),
}

impl Means {
    /// Nothing yet, of rows of so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, flip: 0, strips: Vec::new() }
    }

    /// Add rows; all but the last time a whole number of blocks ([`block_rows`]).
    ///
    /// # Shapes
    /// `ids (n)`, `values (n, ..)` with as many columns behind the first axis as were promised.
    ///
    /// # Errors
    /// [`Error::Shape`] if they have not; [`Error::DType`] if the values have no place on the real line;
    /// [`Error::Memory`], [`Error::Cancelled`]; then the sums are not to be used.
    ///
    /// # Cost
    /// One pass over ids and values; the sums of 32 blocks of 128 Ki values, which are small where ids repeat, and have
    /// 10 MiB each where they never do.
    ///
    /// # Source
    /// `numpy.bincount(ids, weights) / numpy.bincount(ids)`; phylib's `grouped_mean`.
    pub fn add<T: Integer>(
        &mut self,
        workers: &Workers<'_>,
        ids: &SourceView<'_>,
        values: &SourceView<'_>,
        dtype: DType,
    ) -> Result<()> {
        if ids.len().checked_mul(self.columns) != Some(values.len()) {
            let expected = format!("{} rows of {} values", ids.len(), self.columns);
            return Err(Error::Shape { name: "values", got: format!("shape {:?}", values.shape()), expected });
        }
        loader("values", dtype)?;
        self.flip = flip::<T>();
        let values = &values.clone().coalesce();
        if self.columns >= WIDE {
            return self.add_wide::<T>(workers, ids, values, dtype);
        }
        if self.strips.is_empty() {
            self.strips.push(Sums { columns: 0..self.columns, ..Sums::default() });
        }
        let all: Vec<_> = ranges(ids.len(), block_rows(self.columns)).collect();
        for round in all.chunks(ROUND) {
            let guess = self.strips[0].slots.near();
            let found = workers.map(round.to_vec(), |rows| {
                if self.columns == 1 {
                    single::<T>(ids, values, dtype, rows, guess)
                } else {
                    let mut sums = Sums { columns: 0..self.columns, ..Sums::default() };
                    add_rows::<T>(workers, &mut sums, self.columns, ids, values, dtype, rows)?;
                    Ok(Block::Sums(sums))
                }
            })?;
            for block in &found {
                self.strips[0].merge(block)?;
            }
        }
        Ok(())
    }

    fn add_wide<T: Integer>(
        &mut self,
        workers: &Workers<'_>,
        ids: &SourceView<'_>,
        values: &SourceView<'_>,
        dtype: DType,
    ) -> Result<()> {
        if self.strips.is_empty() {
            let width = self.columns.div_ceil(workers.threads()).max(STRIP);
            self.strips = ranges(self.columns, width).map(|columns| Sums { columns, ..Sums::default() }).collect();
        }
        workers.for_each(self.strips.iter_mut().collect(), |sums| {
            add_rows::<T>(workers, sums, self.columns, ids, values, dtype, 0..ids.len())
        })
    }

    /// How many different ids there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.strips.first().map_or(0, |strip| strip.counts.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Write the ids, rising (those of unsigned 64-bit lists as the bits that they are), and the mean of the rows of
    /// each.
    ///
    /// # Shapes
    /// `ids (n_ids)`, `means (n_ids * columns)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not.
    pub fn write(&self, ids: &mut [i64], means: &mut [f64]) -> Result<()> {
        let n = self.len();
        if ids.len() != n || means.len() != n * self.columns {
            let got = format!("{} ids, {} means", ids.len(), means.len());
            return Err(Error::Shape { name: "means", got, expected: format!("{n} rows of {}", self.columns) });
        }
        let Some(first) = self.strips.first() else { return Ok(()) };
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_unstable_by_key(|&slot| first.slots.keys()[slot]);
        for (i, &slot) in order.iter().enumerate() {
            ids[i] = (first.slots.keys()[slot] ^ self.flip) as i64;
            // Each strip has met the same ids in the same order.
            for strip in &self.strips {
                let width = strip.columns.len();
                let row = &mut means[i * self.columns..][strip.columns.clone()];
                for (mean, sum) in row.iter_mut().zip(&strip.totals[slot * width..]) {
                    *mean = sum / first.counts[slot] as f64;
                }
            }
        }
        Ok(())
    }
}

/// What is found in a block of single values, whose ids may be where `guess` says.
fn single<T: Integer>(
    ids: &SourceView<'_>,
    values: &SourceView<'_>,
    dtype: DType,
    rows: Range<usize>,
    guess: Option<Near>,
) -> Result<Block> {
    let (mut scratch, mut buffer) = (Vec::new(), Vec::new());
    let ids = ids.values::<T>(rows.clone(), &mut scratch);
    let values = if dtype == DType::F64 && values.as_slice::<f64>().is_some() {
        values.values::<f64>(rows, &mut buffer)
    } else {
        buffer.resize(rows.len(), 0.0);
        loader("values", dtype)?.load(values, rows, &mut buffer);
        &buffer
    };
    let mut cells: Vec<Cell> = Vec::new();
    // To see where ids are takes time: only where there is no guess or a wrong one.
    for near in [guess, None] {
        let Some(near) = near.or_else(|| slots::near(ids)) else { break };
        cells.clear();
        cells.resize(near.len, [0.0; 2]);
        if add_near(&mut cells, near, ids, values) {
            return Ok(Block::Cells { base: near.base, cells });
        }
    }
    let (mut slots, mut numbers) = (Slots::default(), [0; BUFFER]);
    cells.clear();
    for (ids, values) in ids.chunks(BUFFER).zip(values.chunks(BUFFER)) {
        let numbers = &mut numbers[..ids.len()];
        slots.find_all(ids, numbers)?;
        cells.resize(slots.keys().len(), [0.0; 2]);
        add_numbered(&mut cells, numbers, values);
    }
    let counts = cells.iter().map(|cell| cell[1] as u64).collect();
    Ok(Block::Sums(Sums { columns: 0..1, slots, totals: cells.into_iter().map(|cell| cell[0]).collect(), counts }))
}

multiversion!(fn add_near[T: Integer](cells: &mut [Cell], near: Near, ids: &[T], values: &[f64]) -> bool = plain_add_near);
multiversion!(fn add_numbered[](cells: &mut [Cell], numbers: &[u32], values: &[f64]) -> () = plain_add_numbered);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_add_near<T: Integer>(cells: &mut [Cell], near: Near, ids: &[T], values: &[f64]) -> bool {
    add_up(cells, ids, values, |id| near.number_of(id))
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_add_numbered(cells: &mut [Cell], numbers: &[u32], values: &[f64]) {
    let have_all = add_up(cells, numbers, values, |number| number as usize);
    debug_assert!(have_all, "a cell for each number");
}

/// Add each value to the cell of its id; false if an id has none.
#[inline(always)]
#[allow(clippy::inline_always)] // So that the number of an id is no call.
fn add_up<N: Copy + PartialEq>(cells: &mut [Cell], ids: &[N], values: &[f64], number: impl Fn(N) -> usize) -> bool {
    let mut add = |id: N, value: f64, count: f64| match cells.get_mut(number(id)) {
        Some(cell) => {
            *cell = [cell[0] + value, cell[1] + count];
            true
        }
        None => false,
    };
    let ((quads, last), (values, last_values)) = (ids.as_chunks::<QUAD>(), values.as_chunks::<QUAD>());
    for (&[a, b, c, d], &[u, v, w, x]) in quads.iter().zip(values) {
        let inside = if a == b && c == d && b == c {
            add(a, (u + v) + (w + x), QUAD as f64)
        } else {
            add(a, u, 1.0) && add(b, v, 1.0) && add(c, w, 1.0) && add(d, x, 1.0)
        };
        if !inside {
            return false;
        }
    }
    last.iter().zip(last_values).all(|(&id, &value)| add(id, value, 1.0))
}

/// Add some of the columns of some rows.
fn add_rows<T: Integer>(
    workers: &Workers<'_>,
    sums: &mut Sums,
    columns: usize,
    ids: &SourceView<'_>,
    values: &SourceView<'_>,
    dtype: DType,
    rows: Range<usize>,
) -> Result<()> {
    let mut load = loader("values", dtype)?;
    let (mut scratch, mut buffer) = (Vec::new(), Vec::new());
    let (strip, width) = (sums.columns.clone(), sums.columns.len());
    // Whole rows follow each other, and are read many at once.
    let step = if width == columns { (BUFFER / width.max(1)).max(1) } else { 1 };
    for block in blocks(rows).flat_map(|block| cut(block, columns)) {
        workers.check()?;
        let ids = ids.values::<T>(block.clone(), &mut scratch);
        for (part, ids) in ranges(block.len(), step).zip(ids.chunks(step)) {
            let start = (block.start + part.start) * columns + strip.start;
            buffer.resize(ids.len() * width, 0.0);
            load.load(values, start..start + buffer.len(), &mut buffer);
            for (i, &id) in ids.iter().enumerate() {
                sums.add(key_of(id), &buffer[i * width..(i + 1) * width], 1)?;
            }
        }
    }
    Ok(())
}

/// Rows between two looks at the cancel flag.
fn cut(rows: Range<usize>, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (16 * BLOCK / columns.max(1)).max(1);
    ranges(rows.len(), step).map(move |part| rows.start + part.start..rows.start + part.end)
}
