//! Lines turned into rows of [`SIDE`] lanes, and back.

use crate::simd::multiversion;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(not(target_arch = "x86_64"))]
mod avx512 {
    pub(super) use super::plain_to_lines as to_lines;
    pub(super) use super::plain_to_rows as to_rows;
}

/// Lines that are turned together.
pub(crate) const SIDE: usize = 8;

multiversion!(
    /// `to[c * SIDE + l] = f(lines[l][c])`.
    pub(super) fn to_rows[T: Copy, F: Fn(T) -> f64](lines: &[&[T]; SIDE], to: &mut [f64], f: &F) -> ()
        = plain_to_rows, avx512 = avx512::to_rows
);

multiversion!(
    /// `to[l * columns + c] = from[c * SIDE + l]`, for a multiple of [`SIDE`] columns.
    pub(crate) fn to_lines[](from: &[f64], columns: usize, to: &mut [f64]) -> ()
        = plain_to_lines, avx512 = avx512::to_lines
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_to_rows<T: Copy, F: Fn(T) -> f64>(lines: &[&[T]; SIDE], to: &mut [f64], f: &F) {
    for (c, row) in to.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
        for (slot, line) in row.iter_mut().zip(lines) {
            *slot = f(line[c]);
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_to_lines(from: &[f64], columns: usize, to: &mut [f64]) {
    for (l, line) in to.chunks_exact_mut(columns).take(SIDE).enumerate() {
        for (slot, row) in line.iter_mut().zip(from.as_chunks::<SIDE>().0) {
            *slot = row[l];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    #[test]
    fn each_level_turns_lines_into_rows_and_back() {
        for level in Level::ALL {
            set_level(level);
            for columns in (0..20).chain([64, 67]) {
                let values: Vec<u16> = (0..SIDE * columns).map(|i| i as u16).collect();
                let lines = std::array::from_fn(|l| &values[l * columns..][..columns]);
                let mut rows = vec![0.0; SIDE * columns];
                to_rows(&lines, &mut rows, &f64::from);
                for (i, &got) in rows.iter().enumerate() {
                    assert_eq!(got as usize, i % SIDE * columns + i / SIDE);
                }
                if columns > 0 && columns % SIDE == 0 {
                    let mut back = vec![0.0; SIDE * columns];
                    to_lines(&rows, columns, &mut back);
                    assert!(back.iter().enumerate().all(|(i, &got)| got as usize == i));
                }
            }
        }
    }
}
