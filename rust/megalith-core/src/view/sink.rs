//! Elements that are written, each by one owner.

use std::marker::PhantomData;
use std::ops::Range;

use super::layout::{Layout, c_strides, checked_len};
use super::source::SourceView;
use crate::dtype::{Element, Pod};

/// Elements that are written, each by one owner.
#[derive(Debug)]
pub struct SinkView<'a> {
    pub(super) ptr: *mut u8,
    pub(super) layout: Layout,
    pub(super) itemsize: usize,
    pub(super) swapped: bool,
    pub(super) life: PhantomData<&'a mut [u8]>,
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
        assert_eq!(checked_len(shape), Some(slice.len()), "as many elements as the shape says");
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

    /// The same elements in the same C order with as few axes as possible.
    #[must_use]
    pub fn coalesce(mut self) -> Self {
        self.layout.coalesce();
        self
    }

    /// The same elements, for a while.
    #[must_use]
    pub fn reborrow(&mut self) -> SinkView<'_> {
        let (ptr, layout) = (self.ptr, self.layout.clone());
        SinkView { ptr, layout, itemsize: self.itemsize, swapped: self.swapped, life: PhantomData }
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

    /// The elements of the C-order `range` as a slice, where memory allows.
    ///
    /// # Panics
    /// If the range leaves the view, or `T` has not the item size.
    #[must_use]
    pub fn slice_of_mut<T: Pod>(&mut self, range: Range<usize>) -> Option<&mut [T]> {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        let start = self.ptr.wrapping_offset(self.layout.run(&range, self.itemsize)?).cast::<T>();
        if range.is_empty() {
            return Some(&mut []);
        }
        if self.swapped || !start.is_aligned() {
            return None;
        }
        // SAFETY: as in `as_mut_slice`, for the elements of a range inside of the view (checked by `Layout::run`,
        // which gives an offset only if they follow each other).
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts_mut(start, range.len()) })
    }

    /// `count` ranges of `len` elements that begin `step` after one another in C order, each as a slice, where memory
    /// allows.
    ///
    /// # Panics
    /// If they overlap, or one of them leaves the view, or `T` has not the item size.
    #[must_use]
    pub fn slices_of_mut<T: Pod>(
        &mut self,
        start: usize,
        step: usize,
        len: usize,
        count: usize,
    ) -> Option<Vec<&mut [T]>> {
        assert!(len <= step, "ranges that share nothing");
        // Not collected, which would not know how many there are: a list that grows takes a lock, and waits for what kernels
        // have on its way past the caches.
        let mut slices = Vec::with_capacity(count);
        for k in 0..count {
            let slice = self.slice_of_mut::<T>(start + k * step..start + k * step + len)?;
            // SAFETY: the slice just made, with the life of the borrow of `self`, in which all of them are made; no two
            // positions of a view share memory, and no position is in two of the ranges.
            #[allow(unsafe_code)]
            slices.push(unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr(), slice.len()) });
        }
        Some(slices)
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

    /// The items from `index` to the end of its row along the last axis, where memory allows; without a look at the
    /// byte order, for items that are only moved.
    ///
    /// # Panics
    /// If the index lies outside, or `T` has not the item size.
    #[must_use]
    #[inline]
    pub fn row_raw<T: Pod>(&mut self, index: &[usize]) -> Option<&mut [T]> {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        assert_eq!(index.len(), self.layout.shape.len(), "one index per axis");
        let mut offset = self.layout.offset;
        for ((&i, &n), &stride) in index.iter().zip(&self.layout.shape).zip(&self.layout.strides) {
            assert!(i < n, "an index inside of the view");
            offset += i as isize * stride;
        }
        let start = self.ptr.wrapping_offset(offset).cast::<T>();
        if !start.is_aligned() || self.layout.strides.last() != Some(&(size_of::<T>() as isize)) {
            return None;
        }
        let len = self.layout.shape.last()? - index.last()?;
        // SAFETY: `len` items that follow each other, from one inside of the view (asserted above) to the end of its
        // row, aligned as just checked; the view has its elements to itself, and the borrow of `self` keeps a second
        // slice from existing.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
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
