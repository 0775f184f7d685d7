//! Source and sink cut together for elementwise work.

use super::layout::coalesce_pair;
use super::sink::SinkView;
use super::source::SourceView;

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
    assert!(source.as_ref().is_none_or(|source| source.shape() == sink.shape()), "one shape");
    // Small arrays feel what follows, and those in order have no need of it.
    if sink.len() <= block
        && sink.layout.is_contiguous(sink.itemsize())
        && source.as_ref().is_none_or(|source| source.layout.is_contiguous(source.itemsize()))
    {
        return vec![Tile { source: source.map(SourceView::coalesce), sink: sink.coalesce() }];
    }
    // In place the sink's own layout stands in for the source's, so that merging has two layouts to agree.
    let mut twin = source.as_ref().map_or_else(|| sink.layout.clone(), |source| source.layout.clone());
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
