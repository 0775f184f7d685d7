//! Coordinates that are counted up.

/// Rows that are counted up one by one before a division is cheaper.
const NEAR: usize = 4;

/// A row: the elements that differ in the last coordinate alone.
pub(super) struct Row<S> {
    shape: S,
    /// The first position, and the one behind the last.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The coordinates of the first position.
    pub(super) lead: S,
}

impl<S: AsRef<[usize]> + AsMut<[usize]> + Clone> Row<S> {
    /// The row before all others.
    ///
    /// # Panics
    /// If there is no axis.
    pub(super) fn new(shape: S) -> Self {
        let mut lead = shape.clone();
        lead.as_mut().fill(0);
        Self { shape, start: 0, end: 0, lead }
    }

    /// Move on to the row of `position`, which lies at or behind the end of this one.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    pub(super) fn seek(&mut self, position: usize) {
        let (shape, lead) = (self.shape.as_ref(), self.lead.as_mut());
        let last = shape.len() - 1;
        let width = shape[last];
        if self.end > 0 && position - self.end < NEAR * width {
            loop {
                for axis in (0..last).rev() {
                    lead[axis] += 1;
                    if lead[axis] < shape[axis] {
                        break;
                    }
                    lead[axis] = 0;
                }
                (self.start, self.end) = (self.end, self.end + width);
                if position < self.end {
                    return;
                }
            }
        }
        let mut row = position / width;
        self.start = row * width;
        self.end = self.start + width;
        for axis in (0..last).rev() {
            lead[axis] = row % shape[axis];
            row /= shape[axis];
        }
    }
}
