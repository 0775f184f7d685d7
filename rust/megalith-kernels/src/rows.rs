//! Rows of elements of any type, read as one working type and written back from it.
//!
//! A kernel that computes in double precision for twelve element types on either side would be compiled 144 times. It
//! is compiled once instead, between a [`Load`] and a [`Store`], each made for one element type (twelve and twelve).
//! Both are called once for thousands of elements, so the indirection costs nothing that can be measured.
//!
//! 1. Memory that is a slice is converted straight from (or to) it; anything else passes through a buffer of
//!    [`PIECE`] elements that stays in the first-level cache.
//! 2. The conversion is a function item, not a pointer: it is inlined, and the loop over it is vectorised.

use std::cmp::Reverse;
use std::ops::Range;

use megalith_core::dtype::Real;
use megalith_core::{DType, Element, Error, Result, SinkView, SourceView, match_dtype};

/// Elements that pass through a buffer at once.
const PIECE: usize = 2048;

/// The element types that have a place on the real line, for messages.
pub(crate) const REAL_DTYPES: &str = "bool, integers and real floats";

/// Elements read as `C`.
pub(crate) trait Load<C>: Send {
    /// Read the C-order `range` of a view whose elements are of this loader's type.
    fn load(&mut self, view: &SourceView<'_>, range: Range<usize>, out: &mut [C]);
}

/// Doubles written as elements.
pub(crate) trait Store: Send {
    /// Write to the C-order positions from `start` on of a sink whose elements are of this store's type.
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]);
}

/// A conversion and the buffer that elements pass through where memory is no slice.
pub(crate) struct Converter<T, F> {
    buffer: Vec<T>,
    convert: F,
}

impl<T: Element, F> Converter<T, F> {
    pub(crate) fn new(convert: F) -> Self {
        Self { buffer: vec![T::default(); PIECE], convert }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn convert<T: Copy, C>(from: &[T], to: &mut [C], f: impl Fn(T) -> C) {
    for (slot, &value) in to.iter_mut().zip(from) {
        *slot = f(value);
    }
}

impl<T: Element, C, F: Fn(T) -> C + Send> Load<C> for Converter<T, F> {
    fn load(&mut self, view: &SourceView<'_>, range: Range<usize>, out: &mut [C]) {
        assert_eq!(range.len(), out.len(), "a row of the length of the range");
        if let Some(elements) = view.as_slice::<T>() {
            return convert(&elements[range], out, &self.convert);
        }
        let mut start = range.start;
        for part in out.chunks_mut(PIECE) {
            let buffer = &mut self.buffer[..part.len()];
            view.gather(start..start + part.len(), buffer);
            convert(buffer, part, &self.convert);
            start += part.len();
        }
    }
}

impl<T: Element, F: Fn(f64) -> T + Send> Store for Converter<T, F> {
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]) {
        if let Some(elements) = sink.as_mut_slice::<T>() {
            return convert(values, &mut elements[start..start + values.len()], &self.convert);
        }
        let mut start = start;
        for part in values.chunks(PIECE) {
            let buffer = &mut self.buffer[..part.len()];
            convert(part, buffer, &self.convert);
            sink.scatter(start, buffer);
            start += part.len();
        }
    }
}

/// Doubles that stay doubles.
struct Doubles;

impl Load<f64> for Doubles {
    fn load(&mut self, view: &SourceView<'_>, range: Range<usize>, out: &mut [f64]) {
        view.gather(range, out);
    }
}

impl Store for Doubles {
    fn store(&mut self, sink: &mut SinkView<'_>, start: usize, values: &[f64]) {
        match sink.as_mut_slice::<f64>() {
            Some(elements) => elements[start..start + values.len()].copy_from_slice(values),
            None => sink.scatter(start, values),
        }
    }
}

/// What reads `dtype` as doubles.
pub(crate) fn loader(name: &'static str, dtype: DType) -> Result<Box<dyn Load<f64>>> {
    Ok(match_dtype!(real dtype, T => if dtype == DType::F64 {
        Box::new(Doubles)
    } else {
        Box::new(Converter::<T, _>::new(T::to_double))
    }, else return Err(not_real(name, dtype))))
}

/// What writes doubles as `dtype`.
pub(crate) fn storer(name: &'static str, dtype: DType) -> Result<Box<dyn Store>> {
    Ok(match_dtype!(real dtype, T => if dtype == DType::F64 {
        Box::new(Doubles)
    } else {
        Box::new(Converter::<T, _>::new(T::from_double))
    }, else return Err(not_real(name, dtype))))
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
