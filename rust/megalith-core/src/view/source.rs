//! Elements that are only read.

use std::marker::PhantomData;
use std::ops::Range;

use super::layout::{Layout, c_strides, checked_len};
use crate::dtype::{Element, Pod};

/// Bytes of a line of memory.
const LINE: usize = 64;

/// Columns that [`SourceView::gather_columns`] asks memory for ahead.
const AHEAD: usize = 8;

/// Elements that are only read.
#[derive(Clone, Debug)]
pub struct SourceView<'a> {
    pub(super) ptr: *const u8,
    pub(super) layout: Layout,
    pub(super) itemsize: usize,
    pub(super) swapped: bool,
    pub(super) life: PhantomData<&'a [u8]>,
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
        assert_eq!(checked_len(shape), Some(slice.len()), "as many elements as the shape says");
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

    /// The elements of the C-order `range` as a slice, where memory allows: without gaps, aligned, native byte order.
    ///
    /// # Panics
    /// If the range leaves the view, or `T` has not the item size.
    #[must_use]
    pub fn slice_of<T: Pod>(&self, range: Range<usize>) -> Option<&'a [T]> {
        assert_eq!(size_of::<T>(), self.itemsize, "the type of the view");
        let start = self.ptr.wrapping_offset(self.layout.run(&range, self.itemsize)?).cast::<T>();
        if range.is_empty() {
            return Some(&[]);
        }
        if self.swapped || !start.is_aligned() {
            return None;
        }
        // SAFETY: as in `as_slice`, for the elements of a range inside of the view (checked by `Layout::run`, which
        // gives an offset only if they follow each other).
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts(start, range.len()) })
    }

    /// The bytes of the C-order `range`, where its elements follow each other in memory, in whatever byte order.
    ///
    /// # Panics
    /// If the range leaves the view.
    #[must_use]
    pub fn bytes_of(&self, range: Range<usize>) -> Option<&'a [u8]> {
        let start = self.ptr.wrapping_offset(self.layout.run(&range, self.itemsize)?);
        if range.is_empty() {
            return Some(&[]);
        }
        // SAFETY: as in `as_bytes`, for the elements of a range inside of the view (checked by `Layout::run`).
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts(start, range.len() * self.itemsize) })
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
            1 => self.gather_items::<1>(range, out),
            2 => self.gather_items::<2>(range, out),
            4 => self.gather_items::<4>(range, out),
            8 => self.gather_items::<8>(range, out),
            16 => self.gather_items::<16>(range, out),
            _ => self.gather_items::<0>(range, out),
        }
    }

    /// [`SourceView::gather_bytes`] of items of `SIZE` bytes, or of any size if it is 0.
    fn gather_items<const SIZE: usize>(&self, range: Range<usize>, out: &mut [u8]) {
        let itemsize = if SIZE == 0 { self.itemsize } else { SIZE };
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

    /// Copy a part of the view as a table into `out`, column by column, each column `pitch` bytes behind the one before:
    /// rows are positions of the first axis, columns are C-order positions of the axes behind it.
    ///
    /// For views whose first axis has the smallest stride: each line of memory is read once for all the rows it holds,
    /// where [`SourceView::gather_bytes`] comes back to it for each row. What lies between two columns in `out` stays.
    ///
    /// # Panics
    /// If `out` ends before the last column does, the pitch is shorter than a column, a range leaves the view, or the
    /// view has no axes.
    pub fn gather_columns(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [u8], pitch: usize) {
        match self.itemsize {
            1 => self.gather_cells::<1>(rows, columns, out, pitch),
            2 => self.gather_cells::<2>(rows, columns, out, pitch),
            4 => self.gather_cells::<4>(rows, columns, out, pitch),
            8 => self.gather_cells::<8>(rows, columns, out, pitch),
            16 => self.gather_cells::<16>(rows, columns, out, pitch),
            _ => self.gather_cells::<0>(rows, columns, out, pitch),
        }
    }

    /// [`SourceView::gather_columns`] of items of `SIZE` bytes, or of any size if it is 0.
    fn gather_cells<const SIZE: usize>(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [u8], pitch: usize) {
        let itemsize = if SIZE == 0 { self.itemsize } else { SIZE };
        assert_eq!(itemsize, self.itemsize, "the items of the view");
        assert!(rows.start <= rows.end && rows.end <= self.layout.shape[0], "rows inside of the view");
        let (row, bytes) = (self.layout.strides[0], rows.len() * itemsize);
        assert!(bytes <= pitch, "columns beside each other");
        if bytes == 0 || columns.is_empty() {
            return;
        }
        let start = self.ptr.wrapping_offset(rows.start as isize * row);
        // Columns along the last axis are all as far from each other.
        let width = self.layout.shape[1..].last().copied().unwrap_or(1);
        let (mut at, mut done) = (columns.start % width, 0);
        self.layout.behind_first().for_each_run(columns, |offset, run, step| {
            for (j, left) in (0..run).zip((1..=width - at).rev()) {
                let column = start.wrapping_offset(offset + j as isize * step);
                let out = &mut out[(done + j) * pitch..][..bytes];
                if row != itemsize as isize {
                    for (i, slot) in out.chunks_exact_mut(itemsize).enumerate() {
                        // SAFETY: an item of a row and a column inside of the view; `slot` is one item long.
                        #[allow(unsafe_code)]
                        unsafe {
                            let item = column.wrapping_offset(i as isize * row);
                            std::ptr::copy_nonoverlapping(item, slot.as_mut_ptr(), itemsize);
                        }
                    }
                    continue;
                }
                if left > AHEAD {
                    prefetch(column.wrapping_offset(AHEAD as isize * step), bytes);
                }
                // SAFETY: items of consecutive rows inside of the view that follow each other; `out` is as long, and a
                // buffer that nobody else has.
                #[allow(unsafe_code)]
                unsafe {
                    std::ptr::copy_nonoverlapping(column, out.as_mut_ptr(), bytes);
                }
            }
            done += run;
            at = 0;
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
}

/// Ask for lines of memory that will be read soon.
#[inline(always)]
#[allow(clippy::inline_always, unsafe_code)]
fn prefetch(start: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that never faults, whatever the address; all x86-64 processors have it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes);
}
