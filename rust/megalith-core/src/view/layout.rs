//! Shapes and strides: arithmetic on positions, no memory.

use std::ops::Range;

/// Lengths and byte strides of the axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<isize>,
    /// Bytes from the pointer to element (0, ..., 0).
    pub(super) offset: isize,
}

impl Layout {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn permute(&mut self, axes: &[usize]) {
        assert_eq!(axes.len(), self.shape.len(), "one entry per axis");
        let mut seen = vec![false; axes.len()];
        for &axis in axes {
            assert!(!std::mem::replace(&mut seen[axis], true), "each axis once");
        }
        self.shape = axes.iter().map(|&a| self.shape[a]).collect();
        self.strides = axes.iter().map(|&a| self.strides[a]).collect();
    }

    pub(super) fn flip(&mut self, axis: usize) {
        if let Some(last) = self.shape[axis].checked_sub(1) {
            self.offset += last as isize * self.strides[axis];
            self.strides[axis] = -self.strides[axis];
        }
    }

    /// Restrict `axis` to `range`.
    pub(super) fn slice(&mut self, axis: usize, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.shape[axis], "a slice inside of the axis");
        self.offset += range.start as isize * self.strides[axis];
        self.shape[axis] = range.end - range.start;
    }

    /// Whether elements follow each other without gaps in C order.
    pub(super) fn is_contiguous(&self, itemsize: usize) -> bool {
        let mut expected = itemsize as isize;
        for (&n, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 && stride != expected {
                return self.len() == 0;
            }
            expected *= n as isize;
        }
        true
    }

    /// The byte offset of a C-order range whose elements follow each other in memory without gaps.
    pub(super) fn run(&self, range: &Range<usize>, itemsize: usize) -> Option<isize> {
        assert!(range.start <= range.end && range.end <= self.len(), "a range inside of the view");
        // Positions of a block without gaps, and which of them is the first of the range.
        let (mut block, mut start, mut is_block) = (1, 0, true);
        let (mut rest, mut offset) = (range.start, self.offset);
        if range.is_empty() {
            return Some(offset);
        }
        for (&n, &stride) in self.shape.iter().zip(&self.strides).rev() {
            is_block &= n == 1 || stride == (itemsize * block) as isize;
            // A division takes as long as all the rest.
            let (outer, index) = if rest < n { (0, rest) } else { (rest / n, rest % n) };
            rest = outer;
            offset += index as isize * stride;
            if is_block {
                start += index * block;
                block *= n;
            }
        }
        (start + range.len() <= block).then_some(offset)
    }

    /// Merge `axis` into the axis before it; the caller has checked that this keeps every position.
    pub(super) fn merge(&mut self, axis: usize) {
        self.shape[axis - 1] *= self.shape[axis];
        self.strides[axis - 1] = self.strides[axis];
        self.shape.remove(axis);
        self.strides.remove(axis);
    }

    /// Whether `axis` continues the one before it: one step of the outer is all steps of the inner.
    pub(super) fn continues(&self, axis: usize) -> bool {
        self.strides[axis - 1] == self.strides[axis] * self.shape[axis] as isize
    }

    pub(super) fn coalesce(&mut self) {
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

    /// Position 0 of the first axis: the axes behind it.
    pub(super) fn behind_first(&self) -> Self {
        Self { shape: self.shape[1..].to_vec(), strides: self.strides[1..].to_vec(), offset: self.offset }
    }

    /// Call `f(byte offset, run, stride)` for each run along the last axis of the C-order range.
    #[inline]
    pub(super) fn for_each_run(&self, range: Range<usize>, mut f: impl FnMut(isize, usize, isize)) {
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
pub(super) fn coalesce_pair(a: &mut Layout, b: &mut Layout) {
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

/// The number of elements, if no product of lengths overflows, not even one of some of the axes.
pub(super) fn checked_len(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n.max(1)))?;
    Some(shape.iter().product())
}

/// C-contiguous strides of a shape.
pub(super) fn c_strides(shape: &[usize], itemsize: usize) -> Vec<isize> {
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
