//! Lines turned into rows of [`SIDE`] lanes.

use bytemuck::Pod;

use crate::simd::multiversion;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(not(target_arch = "x86_64"))]
mod avx512 {
    pub(super) use super::plain_to_rows as to_rows;
}

/// Lines that are turned together.
pub(crate) const SIDE: usize = 8;

multiversion!(
    /// `to[c * SIDE + l] = f(lines[l][c])`.
    pub(super) fn to_rows[T: Pod, F: Fn(T) -> f64](lines: &[&[T]; SIDE], to: &mut [f64], f: &F) -> ()
        = plain_to_rows, avx512 = avx512::to_rows
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    fn check<T: Pod>(element: impl Fn(usize) -> T, double: impl Fn(T) -> f64) {
        for columns in (0..20).chain([64, 67]) {
            let values: Vec<T> = (0..SIDE * columns).map(&element).collect();
            let lines = std::array::from_fn(|l| &values[l * columns..][..columns]);
            let mut rows = vec![0.0; SIDE * columns];
            to_rows(&lines, &mut rows, &double);
            for (i, &got) in rows.iter().enumerate() {
                let expected = double(element(i % SIDE * columns + i / SIDE));
                assert_eq!(got.to_bits(), expected.to_bits(), "{columns} columns");
            }
        }
    }

    #[test]
    fn each_level_turns_lines_of_elements_of_any_size_into_rows() {
        for level in Level::ALL {
            set_level(level);
            check(|i| i as u8, f64::from);
            check(|i| i as u16, f64::from);
            check(|i| i as f32, f64::from);
            check(|i| i as f64, |value| value);
        }
    }
}
