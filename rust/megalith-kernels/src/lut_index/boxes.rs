//! How an array of any number of axes is cut into items, items into boxes, and what the strides of a box are.

use megalith_core::SinkView;

/// Cells along a row that are enough for it to be worth while.
const ROW: usize = 512;

/// The cut of an array; all lengths are in the order `axes`, but where it is said otherwise.
pub(super) struct Grid {
    /// From the largest stride of the sink to the smallest.
    pub(super) axes: Vec<usize>,
    /// Lengths of the kernel, and how many of its entries lie before the source where it stands on the first element.
    pub(super) kernel: Vec<usize>,
    pub(super) before: Vec<usize>,
    /// Extents of a box, and strides of its cells with the rim.
    pub(super) small: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// Extents of an item, multiples of a box.
    large: Vec<usize>,
    /// The shapes of the array and the kernel in their original order.
    shape: Vec<usize>,
    kernel_shape: Vec<usize>,
    /// Steps of the axes in the original C order of the array.
    steps: Vec<usize>,
}

impl Grid {
    /// Cut a `shape` into boxes of about `cells` cells, rim included, and items of about `item`.
    pub(super) fn new(
        shape: &[usize],
        axes: Vec<usize>,
        kernel_shape: &[usize],
        before: &[usize],
        cells: usize,
        item: usize,
    ) -> Self {
        let permuted = |values: &[usize]| axes.iter().map(|&a| values[a]).collect::<Vec<usize>>();
        let (lengths, kernel) = (permuted(shape), permuted(kernel_shape));
        let small = extents(&lengths, &kernel, cells, None);
        let large = extents(&lengths, &kernel, item, Some(&small));
        let rim: Vec<usize> = small.iter().zip(&kernel).map(|(e, k)| e + k - 1).collect();
        let before = permuted(before);
        let steps = permuted(&c_steps(shape));
        let (shape, kernel_shape) = (shape.to_vec(), kernel_shape.to_vec());
        Self { before, strides: c_steps(&rim), small, large, kernel, shape, kernel_shape, steps, axes }
    }

    /// Cells of a box with its rim.
    pub(super) fn cells(&self) -> usize {
        self.strides[0] * (self.small[0] + self.kernel[0] - 1)
    }

    /// Where, from a box's cell, the cell is that the kernel's entry `k` (in its own C order) stands on.
    pub(super) fn offset(&self, k: usize) -> usize {
        let index = unravel(k, &self.kernel_shape);
        self.axes.iter().zip(&self.strides).map(|(&a, s)| index[a] * s).sum()
    }

    /// Where, in its own C order, the kernel's entry is whose index along `axes` is given.
    pub(super) fn entry(&self, index: &[usize]) -> usize {
        let steps = c_steps(&self.kernel_shape);
        index.iter().zip(&self.axes).map(|(i, &a)| i * steps[a]).sum()
    }

    /// The position in the original C order.
    pub(super) fn position(&self, index: &[usize]) -> usize {
        linear(index, &self.steps)
    }

    /// The index, in the original order of the axes, of an original position.
    pub(super) fn unravel(&self, position: usize) -> Vec<usize> {
        unravel(position, &self.shape)
    }

    /// The sink, its axes permuted already, cut into items with their first positions.
    pub(super) fn items<'a>(&self, sink: SinkView<'a>) -> Vec<(Vec<usize>, SinkView<'a>)> {
        let mut items = vec![(Vec::new(), sink)];
        for (axis, &step) in self.large.iter().enumerate() {
            let mut cut = Vec::new();
            for (start, sink) in items {
                for (k, part) in sink.split(axis, step).into_iter().enumerate() {
                    let mut start: Vec<usize> = start.clone();
                    start.push(k * step);
                    cut.push((start, part));
                }
            }
            items = cut;
        }
        items
    }
}

/// Extents that grow evenly, the last axis ahead, until box and rim have `budget` cells; multiples of `unit`, or whole axes.
fn extents(shape: &[usize], kernel: &[usize], budget: usize, unit: Option<&[usize]>) -> Vec<usize> {
    let last = shape.len() - 1;
    let mut extents = unit.map_or_else(|| vec![1; shape.len()], <[usize]>::to_vec);
    if unit.is_none() {
        extents[last] = shape[last].min(ROW);
        if shape[last] > ROW {
            // Rows of about one length.
            extents[last] = shape[last].div_ceil(shape[last].div_ceil(ROW));
        }
    }
    let mut is_open: Vec<bool> = vec![true; shape.len()];
    loop {
        let growing = (0..=last).rev().filter(|&a| is_open[a] && extents[a] < shape[a]);
        let Some(axis) = growing.min_by_key(|&a| extents[a]) else { return extents };
        let mut grown = extents.clone();
        grown[axis] = (2 * grown[axis]).min(shape[axis]);
        let cells = grown.iter().zip(kernel).map(|(e, k)| e + k - 1).fold(1, usize::saturating_mul);
        if cells > budget {
            is_open[axis] = false;
        } else {
            extents = grown;
        }
    }
}

/// Steps of the axes of a C-order array, in elements.
fn c_steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis] * shape[axis];
    }
    steps
}

/// The sum of `index * steps`; steps beyond the index do not count.
pub(super) fn linear(index: &[usize], steps: &[usize]) -> usize {
    index.iter().zip(steps).map(|(i, s)| i * s).sum()
}

fn unravel(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = position % shape[axis];
        position /= shape[axis];
    }
    index
}

/// Call `f` for each index of a shape, in C order; once for no axes.
pub(super) fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}
