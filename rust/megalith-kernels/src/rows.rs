//! Rows of elements of any type, read as one working type and written back from it.
//!
//! A kernel that computes in double precision for twelve element types on either side would be compiled 144 times. It
//! is compiled once instead, between a [`Load`] and a [`Store`], each made for one element type (twelve and twelve).
//! Both are called once for thousands of elements, so the indirection costs nothing that can be measured.
//!
//! 1. Memory that is a slice is converted straight from (or to) it; anything else passes through a buffer of
//!    [`PIECE`] elements that stays in the first-level cache.
//! 2. The conversion is a function item, not a pointer: it is inlined, and the loop over it is vectorised.
//! 3. Doubles become integers of up to 32 bits by the instruction whose behaviour beyond the type is the contract
//!    ([`Real::from_double`]), where the compiler would test each value (`rows/x86.rs`).

use std::array::from_fn;
use std::cmp::Reverse;
use std::ops::Range;

use megalith_core::dtype::{Bool8, Real};
use megalith_core::{DType, Element, Error, Result, SinkView, SourceView, match_dtype};

use crate::simd::multiversion;

mod turn;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use self::turn::SIDE;
#[cfg(target_arch = "x86_64")]
pub(crate) use self::turn::avx512::{joined, turned, turned_low_halves, turned_words};

/// Elements that pass through a buffer at once.
const PIECE: usize = 2048;

/// The element types that have a place on the real line, for messages.
pub(crate) const REAL_DTYPES: &str = "bool, integers and real floats";

/// Elements read as `C`.
pub(crate) trait Load<C>: Send {
    /// Read the C-order `range` of a view whose elements are of this loader's type.
    fn load(&mut self, view: &SourceView<'_>, range: Range<usize>, out: &mut [C]);
}

/// Elements read as doubles, lines of them too.
pub(crate) trait Lines: Load<f64> {
    /// Read up to [`SIDE`] lines, each of them as many elements of the C order as `out` has rows, from `start` on and
    /// `step` after one another, as the lanes of rows of [`SIDE`]: `out[c * SIDE + l]` is element `c` of line `l`.
    fn load_lines(&mut self, view: &SourceView<'_>, start: usize, step: usize, lines: usize, out: &mut [f64]);
}

/// Doubles written as elements.
pub(crate) trait Store: Send {
    /// Write to the C-order positions from `start` on of a sink whose elements are of this store's type.
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]);
}

/// The buffer that elements pass through where memory is no slice; made when it is first needed.
struct Buffer<T>(Vec<T>);

impl<T: Element> Buffer<T> {
    /// [`PIECE`] elements.
    fn elements(&mut self) -> &mut [T] {
        self.0.resize(PIECE, T::default());
        &mut self.0
    }
}

/// A conversion.
pub(crate) struct Converter<T, F> {
    buffer: Buffer<T>,
    convert: F,
}

impl<T: Element, F> Converter<T, F> {
    pub(crate) fn new(convert: F) -> Self {
        Self { buffer: Buffer(Vec::new()), convert }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_convert<T: Copy, C, F: Fn(T) -> C>(from: &[T], to: &mut [C], f: &F) {
    for (slot, &value) in to.iter_mut().zip(from) {
        *slot = f(value);
    }
}

multiversion!(pub(crate) fn convert[T: Copy, C, F: Fn(T) -> C](from: &[T], to: &mut [C], f: &F) -> () = plain_convert);

impl<T: Element, C, F: Fn(T) -> C + Send> Load<C> for Converter<T, F> {
    fn load(&mut self, view: &SourceView<'_>, range: Range<usize>, out: &mut [C]) {
        assert_eq!(range.len(), out.len(), "a row of the length of the range");
        if let Some(elements) = view.slice_of::<T>(range.clone()) {
            return convert(elements, out, &self.convert);
        }
        let mut start = range.start;
        for part in out.chunks_mut(PIECE) {
            let buffer = &mut self.buffer.elements()[..part.len()];
            view.gather(start..start + part.len(), buffer);
            convert(buffer, part, &self.convert);
            start += part.len();
        }
    }
}

impl<T: Element, F: Fn(T) -> f64 + Send> Lines for Converter<T, F> {
    fn load_lines(&mut self, view: &SourceView<'_>, start: usize, step: usize, lines: usize, out: &mut [f64]) {
        let columns = out.len() / SIDE;
        // Where there are fewer lines, the last one is read again.
        let line = |l: usize| l.min(lines - 1);
        if let Some(elements) = view.slice_of::<T>(start..start + (lines - 1) * step + columns) {
            return turn::to_rows(&from_fn(|l| &elements[line(l) * step..][..columns]), out, &self.convert);
        }
        for (k, out) in out.chunks_mut(PIECE).enumerate() {
            let (start, columns) = (start + k * PIECE / SIDE, out.len() / SIDE);
            let buffer = self.buffer.elements();
            for (l, part) in buffer.chunks_exact_mut(PIECE / SIDE).take(lines).enumerate() {
                view.gather(start + l * step..start + l * step + columns, &mut part[..columns]);
            }
            turn::to_rows(&from_fn(|l| &buffer[line(l) * PIECE / SIDE..][..columns]), out, &self.convert);
        }
    }
}

impl<T: Element, F: Fn(f64) -> T + Send> Store for Converter<T, F> {
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]) {
        if let Some(elements) = sink.slice_of_mut::<T>(start..start + values.len()) {
            return convert(values, elements, &self.convert);
        }
        let mut start = start;
        for part in values.chunks(PIECE) {
            let buffer = &mut self.buffer.elements()[..part.len()];
            convert(part, buffer, &self.convert);
            sink.scatter(start, buffer);
            start += part.len();
        }
    }
}

/// Doubles that are truncated to 32 bits, and what becomes of those.
struct Truncator<T, F> {
    buffer: Buffer<T>,
    narrow: F,
}

impl<T: Element, F: Fn(i32) -> T + Send + 'static> Truncator<T, F> {
    fn boxed(narrow: F) -> Box<dyn Store> {
        Box::new(Self { buffer: Buffer(Vec::new()), narrow })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    pub(super) use super::plain_truncate as truncate_avx2;
    pub(super) use super::plain_truncate as truncate_avx512;
}

/// As [`Real::from_double`] does it for types of up to 32 bits.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_truncate<T, F: Fn(i32) -> T>(from: &[f64], to: &mut [T], narrow: &F) {
    for (slot, &value) in to.iter_mut().zip(from) {
        *slot = narrow(i32::from_double(value));
    }
}

multiversion!(
    fn truncate[T, F: Fn(i32) -> T](from: &[f64], to: &mut [T], narrow: &F) -> ()
        = plain_truncate, avx512 = x86::truncate_avx512, avx2 = x86::truncate_avx2
);

impl<T: Element, F: Fn(i32) -> T + Send> Store for Truncator<T, F> {
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]) {
        if let Some(elements) = sink.slice_of_mut::<T>(start..start + values.len()) {
            return truncate(values, elements, &self.narrow);
        }
        let mut start = start;
        for part in values.chunks(PIECE) {
            let buffer = &mut self.buffer.elements()[..part.len()];
            truncate(part, buffer, &self.narrow);
            sink.scatter(start, buffer);
            start += part.len();
        }
    }
}

/// Doubles that stay doubles.
struct Doubles;

impl Store for Doubles {
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]) {
        match sink.slice_of_mut::<f64>(start..start + values.len()) {
            Some(elements) => elements.copy_from_slice(values),
            None => sink.scatter(start, values),
        }
    }
}

/// What reads `dtype` as doubles.
pub(crate) fn loader(name: &'static str, dtype: DType) -> Result<Box<dyn Load<f64>>> {
    Ok(line_loader(name, dtype)?)
}

/// What reads `dtype` as doubles, lines of it too.
pub(crate) fn line_loader(name: &'static str, dtype: DType) -> Result<Box<dyn Lines>> {
    Ok(match_dtype!(real dtype, T => Box::new(Converter::<T, _>::new(T::to_double)),
        else return Err(not_real(name, dtype))))
}

/// What writes doubles as `dtype`.
pub(crate) fn storer(name: &'static str, dtype: DType) -> Result<Box<dyn Store>> {
    Ok(match dtype {
        DType::F64 => Box::new(Doubles),
        DType::Bool => Truncator::boxed(|value| Bool8(u8::from(value as u8 != 0))),
        DType::I8 => Truncator::boxed(|value| value as i8),
        DType::I16 => Truncator::boxed(|value| value as i16),
        DType::I32 => Truncator::boxed(|value| value),
        DType::U8 => Truncator::boxed(|value| value as u8),
        DType::U16 => Truncator::boxed(|value| value as u16),
        _ => match_dtype!(real dtype, T => Box::new(Converter::<T, _>::new(T::from_double)),
            else return Err(not_real(name, dtype))),
    })
}

/// The error for a type without a place on the real line.
pub(crate) fn not_real(name: &'static str, dtype: DType) -> Error {
    Error::DType { name, got: dtype.name().to_owned(), supported: REAL_DTYPES }
}

/// Axes from the largest step in memory to the smallest, those of length one first.
pub(crate) fn by_stride(shape: &[usize], strides: &[isize]) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&a| Reverse(if shape[a] == 1 { usize::MAX } else { strides[a].unsigned_abs() }));
    axes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, set_level};

    #[test]
    fn doubles_are_written_as_they_convert_one_by_one() {
        let edges = [0.0, -0.0, 0.9, -0.9, 1.5, 255.0, 256.0, 65_535.9, 65_536.0, 2_147_483_647.9, 2_147_483_648.0];
        let more = [-2_147_483_648.9, -2_147_483_649.0, 1e10, -1e10, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let values: Vec<f64> =
            edges.into_iter().chain(more).chain(edges.map(|v| -v * 1.001)).cycle().take(77).collect();
        for level in Level::ALL {
            set_level(level);
            for dtype in [DType::Bool, DType::I8, DType::I16, DType::I32, DType::U8, DType::U16, DType::U32, DType::F32]
            {
                match_dtype!(real dtype, T => for start in [0, 3] {
                    for stop in [start, start + 1, start + 8, 77] {
                        let mut out = vec![T::default(); 77];
                        let mut store = storer("sink", dtype).unwrap();
                        store.store(&mut SinkView::from_slice(&mut out, &[77]), start, &values[start..stop]);
                        for (i, got) in out.into_iter().enumerate() {
                            let expected = if (start..stop).contains(&i) { T::from_double(values[i]) } else { T::default() };
                            assert_eq!(got.to_double().to_bits(), expected.to_double().to_bits(), "{dtype:?} {i}");
                        }
                    }
                }, else unreachable!("real types"));
            }
        }
    }
}
