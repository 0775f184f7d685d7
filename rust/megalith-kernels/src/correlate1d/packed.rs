//! Rows that crowd the caches, copied to memory where they do not.
//!
//! Rows of images that are a power of two wide want the same few lines of the caches, which have forgotten the first of
//! them when the last is read. A copy of each row costs less than to fetch it from further away for each block of outputs.

use std::ops::Range;

use bytemuck::cast_slice_mut;
use megalith_core::dtype::Real;

use super::sums::LINE;
use super::sweep::grow;

/// The latest rows of a table, an odd number of lines of memory apart.
pub(super) struct Packed<'a, S> {
    slots: Vec<&'a mut [S]>,
    /// The row of the table up to which copies were made.
    known: usize,
}

impl<'a, S: Real> Packed<'a, S> {
    /// Room for `count` rows of so many lanes, in `memory`.
    pub(super) fn new(memory: &'a mut Vec<f64>, count: usize, lanes: usize) -> Self {
        let pitch = ((lanes * size_of::<S>()).next_multiple_of(LINE) | LINE) / size_of::<S>();
        grow(memory, (count * pitch * size_of::<S>() + LINE) / size_of::<f64>());
        let aligned = memory.as_ptr().align_offset(LINE).min(LINE / size_of::<f64>());
        let slots: &mut [S] = cast_slice_mut(&mut memory[aligned..]);
        Self { slots: slots.chunks_exact_mut(pitch).take(count).map(|slot| &mut slot[..lanes]).collect(), known: 0 }
    }

    /// Some rows of the table, not more than there is room for, of which none has made room for later ones.
    pub(super) fn rows(&mut self, table: &[&[S]], wanted: Range<usize>) -> Vec<&[S]> {
        let count = self.slots.len();
        assert!(wanted.len() <= count, "room for all rows");
        assert!(self.known <= wanted.start + count, "rows that are still there");
        for (row, entries) in table.iter().enumerate().take(wanted.end).skip(self.known) {
            self.slots[row % count].copy_from_slice(entries);
        }
        self.known = self.known.max(wanted.end);
        wanted.map(|row| &*self.slots[row % count]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_of_rows_is_what_the_table_has_and_rows_lie_in_different_lines_of_the_caches() {
        let entries: Vec<u16> = (0..50 * 70).collect();
        let table: Vec<&[u16]> = entries.chunks_exact(70).collect();
        let mut memory = Vec::new();
        let mut packed = Packed::new(&mut memory, 12, 70);
        for wanted in [0..10, 8..18, 8..20, 20..32, 40..50, 49..50] {
            let rows = packed.rows(&table, wanted.clone());
            assert_eq!(rows, &table[wanted]);
            let lines: Vec<_> = rows.iter().map(|row| row.as_ptr().addr() / LINE).collect();
            assert!(rows.iter().all(|row| row.as_ptr().addr().is_multiple_of(LINE)));
            assert!(lines.windows(2).all(|lines| lines[0].abs_diff(lines[1]) % 2 == 1 || lines[0] > lines[1]));
        }
    }
}
