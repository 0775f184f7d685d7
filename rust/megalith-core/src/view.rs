//! Views on memory with a shape and strides: the one place where elements are read and written through pointers.
//!
//! NumPy's arrays may be read-only, reversed, broadcast, byte-swapped, unaligned, or fields of packed records whose
//! strides are no multiple of the item size. A [`SourceView`] describes any of them, and hands out its elements in two
//! ways: as a plain slice, where the memory happens to be one ([`SourceView::as_slice`]), or gathered in C order into a
//! buffer of the caller, block by block ([`SourceView::gather`]). A [`SinkView`] is the same for writing; it is not
//! copied but *split*, and the parts never share an element, so that threads write without locks and without `unsafe`.
//!
//! # What other threads can do
//! The memory belongs to Python. While a kernel runs without the interpreter lock another thread may write into the
//! array it reads, exactly as with NumPy's own functions. That is a race of the caller's making: the kernel computes
//! from whatever values it happens to read, and never reads or writes outside of the array, because shapes, strides
//! and offsets are ours and are not re-read from Python. Values are only ever of types for which each pattern of bytes
//! is valid ([`Pod`]). A kernel that checks a value and then uses it as an index must take the value once into a local.
//!
//! # Shapes
//! Any number of dimensions, zero included; strides are in bytes and may be negative or zero.

use std::marker::PhantomData;
use std::ops::Range;

use crate::dtype::{Element, Pod};

/// Lengths and byte strides of the axes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    shape: Vec<usize>,
    strides: Vec<isize>,
    /// Bytes from the pointer to element (0, ..., 0).
    offset: isize,
}

impl Layout {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn permute(&mut self, axes: &[usize]) {
        assert_eq!(axes.len(), self.shape.len(), "one entry per axis");
        let mut seen = vec![false; axes.len()];
        for &axis in axes {
            assert!(!std::mem::replace(&mut seen[axis], true), "each axis once");
        }
        self.shape = axes.iter().map(|&a| self.shape[a]).collect();
        self.strides = axes.iter().map(|&a| self.strides[a]).collect();
    }

    fn flip(&mut self, axis: usize) {
        if let Some(last) = self.shape[axis].checked_sub(1) {
            self.offset += last as isize * self.strides[axis];
            self.strides[axis] = -self.strides[axis];
        }
    }

    /// Restrict `axis` to `range`.
    fn slice(&mut self, axis: usize, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.shape[axis], "a slice inside of the axis");
        self.offset += range.start as isize * self.strides[axis];
        self.shape[axis] = range.end - range.start;
    }

    /// Whether elements follow each other without gaps in C order.
    fn is_contiguous(&self, itemsize: usize) -> bool {
        let mut expected = itemsize as isize;
        for (&n, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 && stride != expected {
                return self.len() == 0;
            }
            expected *= n as isize;
        }
        true
    }

    /// Merge `axis` into the axis before it; the caller has checked that this keeps every position.
    fn merge(&mut self, axis: usize) {
        self.shape[axis - 1] *= self.shape[axis];
        self.strides[axis - 1] = self.strides[axis];
        self.shape.remove(axis);
        self.strides.remove(axis);
    }

    /// Whether `axis` continues the one before it: one step of the outer is all steps of the inner.
    fn continues(&self, axis: usize) -> bool {
        self.strides[axis - 1] == self.strides[axis] * self.shape[axis] as isize
    }

    fn coalesce(&mut self) {
        for axis in (0..self.shape.len()).rev() {
            if self.shape[axis] == 1 && self.shape.len() > 1 {
                self.shape.remove(axis);
                self.strides.remove(axis);
            }
        }
        for axis in (1..self.shape.len()).rev() {
            if self.continues(axis) {
                self.merge(axis);
            }
        }
    }

    /// Call `f(byte offset, run, stride)` for each run along the last axis of the C-order range.
    #[inline]
    fn for_each_run(&self, range: Range<usize>, mut f: impl FnMut(isize, usize, isize)) {
        assert!(range.start <= range.end && range.end <= self.len(), "a range inside of the view");
        let mut left = range.end - range.start;
        if left == 0 {
            return;
        }
        let Some((&width, outer)) = self.shape.split_last() else {
            return f(self.offset, 1, 0);
        };
        let stride = self.strides[outer.len()];
        let (mut row, mut x) = (range.start / width, range.start % width);
        // The counter of the outer axes, and the byte offset of the row it stands for.
        let mut counter = vec![0; outer.len()];
        let mut base = self.offset;
        for axis in (0..outer.len()).rev() {
            counter[axis] = row % outer[axis];
            row /= outer[axis];
            base += counter[axis] as isize * self.strides[axis];
        }
        loop {
            let run = left.min(width - x);
            f(base + x as isize * stride, run, stride);
            left -= run;
            if left == 0 {
                return;
            }
            x = 0;
            for axis in (0..outer.len()).rev() {
                counter[axis] += 1;
                base += self.strides[axis];
                if counter[axis] < outer[axis] {
                    break;
                }
                base -= outer[axis] as isize * self.strides[axis];
                counter[axis] = 0;
            }
        }
    }
}

/// Coalesce axes of two layouts of one shape wherever both allow it, so that elementwise work sees few, long axes.
fn coalesce_pair(a: &mut Layout, b: &mut Layout) {
    debug_assert_eq!(a.shape, b.shape);
    for axis in (0..a.shape.len()).rev() {
        if a.shape[axis] == 1 && a.shape.len() > 1 {
            for layout in [&mut *a, &mut *b] {
                layout.shape.remove(axis);
                layout.strides.remove(axis);
            }
        }
    }
    for axis in (1..a.shape.len()).rev() {
        if a.continues(axis) && b.continues(axis) {
            a.merge(axis);
            b.merge(axis);
        }
    }
}

/// C-contiguous strides of a shape.
fn c_strides(shape: &[usize], itemsize: usize) -> Vec<isize> {
    let mut step = itemsize as isize;
    let mut strides: Vec<isize> = shape
        .iter()
        .rev()
        .map(|&n| {
            let stride = step;
            step *= n.max(1) as isize;
            stride
        })
        .collect();
    strides.reverse();
    strides
}

/// Elements that are only read.
#[derive(Clone, Debug)]
pub struct SourceView<'a> {
    ptr: *const u8,
    layout: Layout,
    itemsize: usize,
    swapped: bool,
    life: PhantomData<&'a [u8]>,
}

// SAFETY: a view of plain bytes; `from_raw_parts` demands that they can be read from any thread for `'a`.
#[allow(unsafe_code)]
unsafe impl Send for SourceView<'_> {}
// SAFETY: all methods taking `&self` only read.
#[allow(unsafe_code)]
unsafe impl Sync for SourceView<'_> {}

impl<'a> SourceView<'a> {
    /// A view of `shape` and byte `strides` on memory whose element (0, ..., 0) is at `ptr`.
    ///
    /// `swapped` says that the elements are in the byte order that is not this machine's.
    ///
    /// # Panics
    /// If there is not one stride for each axis.
    ///
    /// # Safety
    /// For each position inside of `shape` the `itemsize` bytes at `ptr + sum(position * strides)` can be read for
    /// `'a`, and the addresses lie in one allocation.
    #[allow(unsafe_code)]
    #[must_use]
    pub unsafe fn from_raw_parts(
        ptr: *const u8,
        shape: &[usize],
        strides: &[isize],
        itemsize: usize,
        swapped: bool,
    ) -> Self {
        assert_eq!(shape.len(), strides.len(), "one stride per axis");
        let layout = Layout { shape: shape.to_vec(), strides: strides.to_vec(), offset: 0 };
        Self { ptr, layout, itemsize, swapped, life: PhantomData }
    }

    /// A C-contiguous view of a slice.
    ///
    /// # Panics
    /// If the shape does not have as many elements as the slice.
    #[must_use]
    pub fn from_slice<T: Pod>(slice: &'a [T], shape: &[usize]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), slice.len(), "as many elements as the shape says");
        let strides = c_strides(shape, size_of::<T>());
        // SAFETY: C-contiguous strides of a shape with as many elements as the slice (asserted above) stay inside it.
        #[allow(unsafe_code)]
        unsafe {
            Self::from_raw_parts(slice.as_ptr().cast(), shape, &strides, size_of::<T>(), false)
        }
    }

    /// Lengths of the axes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Byte strides of the axes.
    #[must_use]
    pub fn strides(&self) -> &[isize] {
        &self.layout.strides
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of an element.
    #[must_use]
    pub fn itemsize(&self) -> usize {
        self.itemsize
    }

    /// The same elements with the axes in another order.
    ///
    /// # Panics
    /// If `axes` is not a permutation.
    #[must_use]
    pub fn permute(mut self, axes: &[usize]) -> Self {
        self.layout.permute(axes);
        self
    }

    /// The elements with `range` of `axis`.
    ///
    /// # Panics
    /// If the range leaves the axis.
    #[must_use]
    pub fn slice(mut self, axis: usize, range: Range<usize>) -> Self {
        self.layout.slice(axis, range);
        self
    }

    /// The same elements in the same C order with as few axes as possible.
    #[must_use]
    pub fn coalesce(mut self) -> Self {
        self.layout.coalesce();
        self
    }

    /// The elements as a slice in C order, where memory allows: contiguous, aligned, native byte order.
    ///
    /// # Panics
    /// If `T` has not the item size of the view.
    #[must_use]
    pub fn as_slice<T: Pod>(&self) -> Option<&'a [T]> {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        let len = self.len();
        if len == 0 {
            return Some(&[]);
        }
        let start = self.ptr.wrapping_offset(self.layout.offset).cast::<T>();
        if self.swapped || !start.is_aligned() || !self.layout.is_contiguous(self.itemsize) {
            return None;
        }
        // SAFETY: `from_raw_parts` promised that each of the `len` elements can be read for `'a`; they follow each
        // other without gaps and are aligned (both just checked); every pattern of bytes is a `T` (`Pod`). Writers in
        // other threads: see the head of this file.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// The elements of the C-order `range`: the memory itself where it is a slice, otherwise gathered into `scratch`.
    ///
    /// # Panics
    /// If the range leaves the view, or `T` has not the item size.
    pub fn values<'s, T: Element>(&'s self, range: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
        if let Some(slice) = self.as_slice::<T>() {
            return &slice[range];
        }
        scratch.resize(range.len(), T::default());
        self.gather(range, scratch);
        scratch
    }

    /// Copy the elements of the C-order `range` into `out`, in native byte order.
    ///
    /// # Panics
    /// If `out` has another length than the range, the range leaves the view, or `T` another size than the items.
    pub fn gather<T: Element>(&self, range: Range<usize>, out: &mut [T]) {
        self.gather_raw(range, out);
        if self.swapped {
            for value in out {
                *value = value.swap_bytes();
            }
        }
    }

    /// [`SourceView::gather`] without a look at the byte order, for items that are only moved.
    ///
    /// # Panics
    /// As [`SourceView::gather`].
    pub fn gather_raw<T: Pod>(&self, range: Range<usize>, out: &mut [T]) {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        assert_eq!(out.len(), range.len(), "a buffer of the length of the range");
        let mut done = 0;
        self.layout.for_each_run(range, |offset, run, stride| {
            let start = self.ptr.wrapping_offset(offset);
            let part = &mut out[done..done + run];
            if stride == size_of::<T>() as isize {
                // SAFETY: `run` elements inside of the view that follow each other (the stride is the item size);
                // `part` is a buffer of `run` elements that nobody else has, so the two do not overlap.
                #[allow(unsafe_code)]
                unsafe {
                    std::ptr::copy_nonoverlapping(start, part.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(part));
                }
            } else {
                for (k, slot) in part.iter_mut().enumerate() {
                    // SAFETY: position `k` of a run inside of the view; unaligned reads are allowed for.
                    #[allow(unsafe_code)]
                    let value = unsafe { start.wrapping_offset(k as isize * stride).cast::<T>().read_unaligned() };
                    *slot = value;
                }
            }
            done += run;
        });
    }

    /// Copy the items of the C-order `range` into `out` as bytes, whatever their size.
    ///
    /// # Panics
    /// If `out` does not have the bytes of the range, or the range leaves the view.
    pub fn gather_bytes(&self, range: Range<usize>, out: &mut [u8]) {
        assert_eq!(out.len(), range.len() * self.itemsize, "a buffer of the bytes of the range");
        // A length known at compile time is a move; any other is a call.
        match self.itemsize {
            1 => self.gather_items(range, out, 1),
            2 => self.gather_items(range, out, 2),
            4 => self.gather_items(range, out, 4),
            8 => self.gather_items(range, out, 8),
            16 => self.gather_items(range, out, 16),
            itemsize => self.gather_items(range, out, itemsize),
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // So that each call above has its own constant length.
    fn gather_items(&self, range: Range<usize>, out: &mut [u8], itemsize: usize) {
        assert_eq!(itemsize, self.itemsize, "the items of the view");
        let mut rest = out;
        self.layout.for_each_run(range, |offset, run, stride| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(run * itemsize);
            rest = tail;
            let start = self.ptr.wrapping_offset(offset);
            if stride == itemsize as isize {
                // SAFETY: a run of items inside of the view that follow each other; `part` is as long, and a buffer
                // that nobody else has.
                #[allow(unsafe_code)]
                unsafe {
                    std::ptr::copy_nonoverlapping(start, part.as_mut_ptr(), part.len());
                }
                return;
            }
            for (k, slot) in part.chunks_exact_mut(itemsize.max(1)).enumerate() {
                let item = start.wrapping_offset(k as isize * stride);
                // SAFETY: item `k` of a run inside of the view; `slot` is one item long.
                #[allow(unsafe_code)]
                unsafe {
                    std::ptr::copy_nonoverlapping(item, slot.as_mut_ptr(), itemsize);
                }
            }
        });
    }

    /// All bytes as one slice, where memory allows: contiguous in C order, in whatever byte order the items are.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        let len = self.len() * self.itemsize;
        if len == 0 {
            return Some(&[]);
        }
        if !self.layout.is_contiguous(self.itemsize) {
            return None;
        }
        // SAFETY: `len` bytes without gaps, which `from_raw_parts` promised can be read for `'a`.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts(self.ptr.wrapping_offset(self.layout.offset), len) })
    }

    /// The element at a C-order position, in native byte order.
    ///
    /// # Panics
    /// If the position lies outside or `T` has not the item size.
    #[must_use]
    pub fn get<T: Element>(&self, position: usize) -> T {
        let mut value = [T::default()];
        self.gather(position..position + 1, &mut value);
        value[0]
    }
}

/// Elements that are written, each by one owner.
#[derive(Debug)]
pub struct SinkView<'a> {
    ptr: *mut u8,
    layout: Layout,
    itemsize: usize,
    swapped: bool,
    life: PhantomData<&'a mut [u8]>,
}

// SAFETY: the view has its elements to itself (`from_raw_parts`), like a `&mut [u8]`.
#[allow(unsafe_code)]
unsafe impl Send for SinkView<'_> {}
// SAFETY: nothing is written through `&self`.
#[allow(unsafe_code)]
unsafe impl Sync for SinkView<'_> {}

impl<'a> SinkView<'a> {
    /// A view as [`SourceView::from_raw_parts`], for writing.
    ///
    /// # Panics
    /// As there.
    ///
    /// # Safety
    /// As there, with bytes that can be written; in addition no two positions share a byte, and until the end of `'a`
    /// no other Rust reference to the elements is used.
    #[allow(unsafe_code)]
    #[must_use]
    pub unsafe fn from_raw_parts(
        ptr: *mut u8,
        shape: &[usize],
        strides: &[isize],
        itemsize: usize,
        swapped: bool,
    ) -> Self {
        assert_eq!(shape.len(), strides.len(), "one stride per axis");
        let layout = Layout { shape: shape.to_vec(), strides: strides.to_vec(), offset: 0 };
        Self { ptr, layout, itemsize, swapped, life: PhantomData }
    }

    /// A C-contiguous view of a slice.
    ///
    /// # Panics
    /// If the shape does not have as many elements as the slice.
    #[must_use]
    pub fn from_slice<T: Pod>(slice: &'a mut [T], shape: &[usize]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), slice.len(), "as many elements as the shape says");
        let strides = c_strides(shape, size_of::<T>());
        // SAFETY: C-contiguous strides of a shape with as many elements as the slice (asserted above) stay inside it
        // and give each position its own bytes; the slice is borrowed for `'a`.
        #[allow(unsafe_code)]
        unsafe {
            Self::from_raw_parts(slice.as_mut_ptr().cast(), shape, &strides, size_of::<T>(), false)
        }
    }

    /// Lengths of the axes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Byte strides of the axes.
    #[must_use]
    pub fn strides(&self) -> &[isize] {
        &self.layout.strides
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of an element.
    #[must_use]
    pub fn itemsize(&self) -> usize {
        self.itemsize
    }

    /// The same elements with the axes in another order.
    ///
    /// # Panics
    /// If `axes` is not a permutation.
    #[must_use]
    pub fn permute(mut self, axes: &[usize]) -> Self {
        self.layout.permute(axes);
        self
    }

    /// The elements below and from `at` on along `axis`: two sinks that share nothing.
    ///
    /// # Panics
    /// If `at` lies beyond the axis.
    #[must_use]
    pub fn split_at(self, axis: usize, at: usize) -> (Self, Self) {
        let n = self.layout.shape[axis];
        let (mut low, mut high) = (self.layout.clone(), self.layout);
        low.slice(axis, 0..at);
        high.slice(axis, at..n);
        let part =
            |layout| Self { ptr: self.ptr, layout, itemsize: self.itemsize, swapped: self.swapped, life: PhantomData };
        (part(low), part(high))
    }

    /// Cut `axis` into parts of at most `step`.
    ///
    /// # Panics
    /// If `step` is zero.
    #[must_use]
    pub fn split(self, axis: usize, step: usize) -> Vec<Self> {
        assert!(step > 0, "a part has at least one element");
        let mut parts = Vec::with_capacity(self.layout.shape[axis].div_ceil(step));
        let mut rest = self;
        while rest.layout.shape[axis] > step {
            let (part, tail) = rest.split_at(axis, step);
            parts.push(part);
            rest = tail;
        }
        parts.push(rest);
        parts
    }

    /// The elements as a slice in C order, where memory allows.
    ///
    /// # Panics
    /// If `T` has not the item size of the view.
    #[must_use]
    pub fn as_mut_slice<T: Pod>(&mut self) -> Option<&mut [T]> {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        let len = self.len();
        if len == 0 {
            return Some(&mut []);
        }
        let start = self.ptr.wrapping_offset(self.layout.offset).cast::<T>();
        if self.swapped || !start.is_aligned() || !self.layout.is_contiguous(self.itemsize) {
            return None;
        }
        // SAFETY: `from_raw_parts` promised that the elements can be written and are nobody else's, and splitting
        // keeps that; contiguous and aligned as just checked; the borrow of `self` keeps a second slice from existing.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    /// [`SinkView::as_mut_slice`] for as long as the view's memory lives; `Err` gives the view back.
    ///
    /// # Errors
    /// The view itself, where memory is no slice.
    pub fn into_mut_slice<T: Pod>(mut self) -> Result<&'a mut [T], Self> {
        match self.as_mut_slice::<T>() {
            Some(slice) => {
                let (start, len) = (slice.as_mut_ptr(), slice.len());
                // SAFETY: the slice just made, with the life of the memory instead of the view's, which ends here.
                #[allow(unsafe_code)]
                Ok(unsafe { std::slice::from_raw_parts_mut(start, len) })
            }
            None => Err(self),
        }
    }

    /// All bytes as one slice, where memory allows: contiguous in C order; `Err` gives the view back.
    ///
    /// # Errors
    /// The view itself, where memory is no slice.
    pub fn into_mut_bytes(self) -> Result<&'a mut [u8], Self> {
        let len = self.len() * self.itemsize;
        if len == 0 {
            return Ok(&mut []);
        }
        if !self.layout.is_contiguous(self.itemsize) {
            return Err(self);
        }
        // SAFETY: `len` bytes without gaps, which `from_raw_parts` promised can be written and are nobody else's; the
        // view ends here.
        #[allow(unsafe_code)]
        Ok(unsafe { std::slice::from_raw_parts_mut(self.ptr.wrapping_offset(self.layout.offset), len) })
    }

    /// Write `values`, in native byte order, to the C-order positions from `start` on.
    ///
    /// # Panics
    /// If they do not fit, or `T` has not the item size.
    pub fn scatter<T: Element>(&mut self, start: usize, values: &[T]) {
        if self.swapped {
            self.scatter_with(start, values, T::swap_bytes);
        } else {
            self.scatter_with(start, values, |value| value);
        }
    }

    /// [`SinkView::scatter`] without a look at the byte order, for items that are only moved.
    ///
    /// # Panics
    /// As [`SinkView::scatter`].
    pub fn scatter_raw<T: Pod>(&mut self, start: usize, values: &[T]) {
        self.scatter_with(start, values, |value| value);
    }

    #[inline]
    fn scatter_with<T: Pod>(&mut self, start: usize, values: &[T], convert: impl Fn(T) -> T) {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        let mut done = 0;
        let ptr = self.ptr;
        self.layout.for_each_run(start..start + values.len(), |offset, run, stride| {
            let start = ptr.wrapping_offset(offset).cast::<T>();
            if stride == size_of::<T>() as isize && start.is_aligned() {
                // SAFETY: a run of items inside of the view that follow each other, aligned as just checked; the view
                // has its elements to itself.
                #[allow(unsafe_code)]
                let slots = unsafe { std::slice::from_raw_parts_mut(start, run) };
                for (slot, &value) in slots.iter_mut().zip(&values[done..done + run]) {
                    *slot = convert(value);
                }
                done += run;
                return;
            }
            for (k, &value) in values[done..done + run].iter().enumerate() {
                let slot = ptr.wrapping_offset(offset + k as isize * stride).cast::<T>();
                // SAFETY: position `k` of a run inside of the view, which has its elements to itself; unaligned writes
                // are allowed for.
                #[allow(unsafe_code)]
                unsafe {
                    slot.write_unaligned(convert(value));
                }
            }
            done += run;
        });
    }

    /// Write items given as bytes, whatever their size, to the C-order positions from `start` on.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of items or they do not fit.
    pub fn scatter_bytes(&mut self, start: usize, bytes: &[u8]) {
        let items = bytes.len() / self.itemsize;
        assert_eq!(items * self.itemsize, bytes.len(), "whole items");
        let mut done = 0;
        let (ptr, itemsize) = (self.ptr, self.itemsize);
        self.layout.for_each_run(start..start + items, |offset, run, stride| {
            for k in 0..run as isize {
                let slot = ptr.wrapping_offset(offset + k * stride);
                let item = &bytes[done..done + itemsize];
                // SAFETY: position `k` of a run inside of the view, which has its elements to itself; `item` is a
                // borrowed slice and cannot overlap them.
                #[allow(unsafe_code)]
                unsafe {
                    std::ptr::copy_nonoverlapping(item.as_ptr(), slot, itemsize);
                }
                done += itemsize;
            }
        });
    }

    /// The elements, to be read; what lies in a sink before it is written is whatever the caller had there.
    #[must_use]
    pub fn as_source(&self) -> SourceView<'_> {
        SourceView {
            ptr: self.ptr,
            layout: self.layout.clone(),
            itemsize: self.itemsize,
            swapped: self.swapped,
            life: PhantomData,
        }
    }
}

/// A box of a sink and, where the work has a source, the same box of it.
#[derive(Debug)]
pub struct Tile<'a, 'b> {
    /// The elements to read; None for work in place.
    pub source: Option<SourceView<'a>>,
    /// Where their results go.
    pub sink: SinkView<'b>,
}

/// Cut a source and a sink of one shape into tiles of at most `block` elements, in the order of the sink's memory.
///
/// Axes are reordered by the sink's strides and merged where both allow it, so that two contiguous arrays become plain
/// runs and a C-order source with an F-order sink is written along the sink's memory.
///
/// # Panics
/// If the shapes differ, or `block` is zero.
#[must_use]
pub fn tiles<'a, 'b>(mut source: Option<SourceView<'a>>, mut sink: SinkView<'b>, block: usize) -> Vec<Tile<'a, 'b>> {
    if sink.is_empty() {
        return Vec::new();
    }
    // In place the sink's own layout stands in for the source's, so that merging has two layouts to agree.
    let mut twin = source.as_ref().map_or_else(|| sink.layout.clone(), |source| source.layout.clone());
    assert_eq!(twin.shape, sink.layout.shape, "one shape");
    for axis in 0..sink.layout.shape.len() {
        if sink.layout.strides[axis] < 0 {
            twin.flip(axis);
            sink.layout.flip(axis);
        }
    }
    let mut axes: Vec<usize> = (0..sink.layout.shape.len()).collect();
    axes.sort_by_key(|&a| std::cmp::Reverse(sink.layout.strides[a]));
    twin.permute(&axes);
    sink.layout.permute(&axes);
    coalesce_pair(&mut twin, &mut sink.layout);
    if let Some(source) = &mut source {
        source.layout = twin;
    }
    let mut tiles = Vec::with_capacity(sink.len().div_ceil(block) + 1);
    cut(source, sink, 0, block, &mut tiles);
    tiles
}

fn cut<'a, 'b>(
    source: Option<SourceView<'a>>,
    sink: SinkView<'b>,
    axis: usize,
    block: usize,
    tiles: &mut Vec<Tile<'a, 'b>>,
) {
    if sink.len() <= block {
        tiles.push(Tile { source, sink });
        return;
    }
    let inner: usize = sink.shape()[axis + 1..].iter().product();
    let mut start = 0;
    for sink in sink.split(axis, (block / inner).max(1)) {
        let stop = start + sink.shape()[axis];
        let source = source.clone().map(|source| source.slice(axis, start..stop));
        cut(source, sink, axis + 1, block, tiles);
        start = stop;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions 0, 1, 2, ... of a buffer seen with the given shape and strides in elements.
    fn view<'a>(data: &'a [u32], shape: &[usize], strides: &[isize], first: usize) -> SourceView<'a> {
        let bytes: Vec<isize> = strides.iter().map(|s| s * 4).collect();
        // SAFETY: the tests below choose shapes and strides that stay inside of `data`.
        #[allow(unsafe_code)]
        unsafe {
            SourceView::from_raw_parts(data[first..].as_ptr().cast(), shape, &bytes, 4, false)
        }
    }

    fn all(view: &SourceView<'_>) -> Vec<u32> {
        let mut out = vec![0; view.len()];
        view.gather(0..view.len(), &mut out);
        out
    }

    #[test]
    fn gather_follows_the_logical_order_of_any_strides() {
        let data: Vec<u32> = (0..24).collect();
        assert_eq!(all(&view(&data, &[2, 3], &[1, 2], 0)), [0, 2, 4, 1, 3, 5]);
        assert_eq!(all(&view(&data, &[3], &[-2], 10)), [10, 8, 6]);
        assert_eq!(all(&view(&data, &[2, 2], &[0, 1], 5)), [5, 6, 5, 6]);
        assert_eq!(all(&view(&data, &[], &[], 7)), [7]);
        assert_eq!(all(&view(&data, &[2, 0, 3], &[1, 1, 1], 0)), [0u32; 0]);
    }

    #[test]
    fn gather_of_a_part_is_the_part_of_the_whole() {
        let data: Vec<u32> = (0..120).collect();
        let view = view(&data, &[4, 5, 6], &[1, 4, 20], 0);
        let whole = all(&view);
        for start in 0..whole.len() {
            let mut part = vec![0; (whole.len() - start).min(17)];
            view.gather(start..start + part.len(), &mut part);
            assert_eq!(part, whole[start..start + part.len()]);
        }
    }

    #[test]
    fn gather_swaps_foreign_bytes_and_reads_unaligned_items() {
        let bytes = [9u8, 0, 0, 1, 2, 0, 0, 3, 4];
        // SAFETY: two items of four bytes from byte 1 on lie inside of the nine bytes.
        #[allow(unsafe_code)]
        let view =
            unsafe { SourceView::from_raw_parts(bytes[1..].as_ptr(), &[2], &[4], 4, cfg!(target_endian = "little")) };
        assert_eq!(all(&view), [0x0000_0102, 0x0000_0304]);
        assert!(view.as_slice::<u32>().is_none());
    }

    #[test]
    fn a_slice_is_given_only_for_contiguous_memory() {
        let data: Vec<u32> = (0..24).collect();
        assert_eq!(view(&data, &[2, 3], &[3, 1], 0).as_slice::<u32>(), Some(&data[..6]));
        assert_eq!(view(&data, &[1, 3], &[77, 1], 2).as_slice::<u32>(), Some(&data[2..5]));
        assert!(view(&data, &[2, 3], &[1, 2], 0).as_slice::<u32>().is_none());
        assert!(view(&data, &[2, 2], &[3, 1], 0).as_slice::<u32>().is_none());
    }

    #[test]
    fn tiles_cover_each_element_once_whatever_the_layouts() {
        let data: Vec<u32> = (0..120).collect();
        for block in [1, 7, 30, 1000] {
            let source = view(&data, &[4, 5, 6], &[1, 4, 20], 0);
            let expected = all(&source);
            let mut out = vec![0u32; 120];
            for mut tile in tiles(Some(source), SinkView::from_slice(&mut out, &[4, 5, 6]), block) {
                assert!(tile.sink.len() <= block);
                let values = all(&tile.source.unwrap());
                tile.sink.scatter(0, &values);
            }
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn contiguous_tiles_are_slices() {
        let data: Vec<u32> = (0..120).collect();
        let mut out = vec![0u32; 120];
        let shape = [4, 5, 6];
        let tiles = tiles(Some(SourceView::from_slice(&data, &shape)), SinkView::from_slice(&mut out, &shape), 50);
        assert_eq!(tiles.len(), 3);
        for mut tile in tiles {
            assert!(tile.source.unwrap().as_slice::<u32>().is_some() && tile.sink.as_mut_slice::<u32>().is_some());
        }
    }

    #[test]
    fn parts_of_a_sink_write_only_their_own_elements() {
        let mut out = vec![0u32; 12];
        let parts = SinkView::from_slice(&mut out, &[3, 4]).split(1, 3);
        assert_eq!(parts.len(), 2);
        for (k, mut part) in parts.into_iter().enumerate() {
            let values = vec![k as u32 + 1; part.len()];
            part.scatter(0, &values);
        }
        assert_eq!(out, [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2]);
    }
}
