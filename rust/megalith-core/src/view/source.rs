//! Elements that are only read.

use std::marker::PhantomData;
use std::ops::Range;

use super::cells::{move_cells, turn_cells};
use super::layout::{Layout, c_strides, checked_len};
use crate::dtype::{Element, Pod};

/// Bytes of a line of memory.
const LINE: usize = 64;

/// Bytes of a column that [`SourceView::gather_table`] moves at once: some lines, which memory gives sooner than as
/// many lines of different places.
const PIECE: usize = 8 * LINE;

/// Bytes of columns on their way to rows; half of a first-level cache.
const STAGE: usize = 1 << 14;

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

    /// Copy a part of the view as a table into `out`, row by row: rows are positions of the first axis, columns are
    /// C-order positions of the axes behind it.
    ///
    /// For views whose first axis has the smallest stride: each line of memory is read once for all the rows it holds,
    /// where [`SourceView::gather_bytes`] comes back to it for each row.
    ///
    /// # Panics
    /// If `out` does not have the bytes of the table, a range leaves the view, or the view has no axes.
    pub fn gather_table(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [u8]) {
        match self.itemsize {
            1 => self.gather_cells::<1>(rows, columns, out),
            2 => self.gather_cells::<2>(rows, columns, out),
            4 => self.gather_cells::<4>(rows, columns, out),
            8 => self.gather_cells::<8>(rows, columns, out),
            16 => self.gather_cells::<16>(rows, columns, out),
            _ => self.gather_cells::<0>(rows, columns, out),
        }
    }

    /// [`SourceView::gather_table`] of items of `SIZE` bytes, or of any size if it is 0.
    fn gather_cells<const SIZE: usize>(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [u8]) {
        let itemsize = if SIZE == 0 { self.itemsize } else { SIZE };
        assert_eq!(itemsize, self.itemsize, "the items of the view");
        let (row, height, width) = (self.layout.strides[0], rows.len(), columns.len());
        assert!(rows.start <= rows.end && rows.end <= self.layout.shape[0], "rows inside of the view");
        assert_eq!(out.len(), height * width * itemsize, "a buffer of the bytes of the table");
        let (pitch, first) = (width * itemsize, rows.start as isize * row);
        let high = (PIECE / itemsize.max(1)).clamp(1, height.max(1));
        let wide = (STAGE / (high * itemsize).max(1)).max(1);
        let mut stage = [0; STAGE];
        let mut done = 0;
        self.layout.behind_first().for_each_run(columns, |offset, run, column| {
            for (left, top) in (0..run).step_by(wide).flat_map(|j| (0..height).step_by(high).map(move |i| (j, i))) {
                let (high, wide) = (high.min(height - top), wide.min(run - left));
                let from = self.ptr.wrapping_offset(first + offset + top as isize * row + left as isize * column);
                let to = out[top * pitch + (done + left) * itemsize..].as_mut_ptr();
                let piece = high * itemsize;
                let is_staged = high > 1 && piece >= LINE && row == itemsize as isize;
                if is_staged {
                    for (j, column_) in stage.chunks_exact_mut(piece).take(wide).enumerate() {
                        // SAFETY: `high` items inside of the view that follow each other.
                        #[allow(unsafe_code)]
                        unsafe {
                            let from = from.wrapping_offset(j as isize * column);
                            std::ptr::copy_nonoverlapping(from, column_.as_mut_ptr(), piece);
                        }
                    }
                }
                // SAFETY: cells of rows and of a run inside of the view, or of the stage, which holds `wide` pieces
                // (more than one item in a piece means that it has at most `PIECE` bytes). In `out`, which nobody else
                // has, they lie in `high` of `height` rows, `wide` from item `done + left` on of the `width` that all
                // runs have together; its length was asserted above.
                #[allow(unsafe_code)]
                unsafe {
                    if is_staged {
                        turn_cells::<SIZE>(stage.as_ptr(), piece, to, pitch, (high, wide), itemsize);
                    } else {
                        move_cells::<SIZE>(from, (row, column), to, pitch, (high, wide), itemsize);
                    }
                }
            }
            done += run;
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
