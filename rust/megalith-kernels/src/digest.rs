//! The digest of the bytes of an array: a tree of hashes, so that all threads hash at once.
//!
//! ```text
//! up to one block:   XXH3-128 of the bytes
//! more:              XXH3-128 of each block; then, with another seed, XXH3-128 of these and of the number of bytes
//! ```
//!
//! 1. The bytes are those of the elements in C order, in whatever byte order they lie. They are cut by bytes, not by
//!    items: equal bytes have equal digests, whatever the types and the memory order. Type and shape are for the caller
//!    to add.
//! 2. The seed tells the two levels apart: no block can be chosen such that its digest is that of a tree.
//! 3. Contiguous memory is hashed where it lies, anything else gathered block by block. In C order a Fortran array
//!    passes all its memory before it comes back to the neighbour of its first element, and each line of memory would
//!    be fetched once for each element in it. So it is taken as a table ([`tables`]), and blocks of many of its rows are
//!    filled at once, column by column.

mod tables;
mod turn;

use std::ops::Range;

use megalith_core::blocks::{ranges, zeros};
use megalith_core::{Result, SourceView, Workers};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use tables::{Part, Scratch, Table};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 1 << 16;

/// Blocks that a thread takes at once.
const GROUP: usize = 8;

/// The seed of the upper level; blocks have 0.
const ROOT_SEED: u64 = 1;

/// The digest of the items of `source` in C order, as they lie in memory.
///
/// # Shapes
/// `source (n0..nk)`, of any item size.
///
/// # Errors
/// [`megalith_core::Error::Cancelled`]; [`megalith_core::Error::Memory`] if there is none for blocks.
///
/// # Cost
/// One pass over memory, and 16 bytes for each block. Where items have gaps between them, a block (or one item) for
/// each thread; where the first axes are the fast ones, about a MiB for each thread, more where
/// rows are long and few.
///
/// # Source
/// `xxhash.xxh3_128_digest` of `source.tobytes()`, or of its blocks and then of their digests.
pub fn digest(workers: &Workers<'_>, source: &SourceView<'_>) -> Result<[u8; 16]> {
    let nbytes = source.len() * source.itemsize();
    let blocks = Blocks { nbytes };
    let bytes = source.as_bytes();
    if let Some(bytes) = bytes
        && nbytes <= BLOCK_BYTES
    {
        return Ok(xxh3_128(bytes).to_be_bytes());
    }
    let mut digests = zeros(blocks.count() * 16)?;
    if let Some(bytes) = bytes {
        let slots = digests.chunks_mut(16 * GROUP);
        workers.for_each(bytes.chunks(GROUP * BLOCK_BYTES).zip(slots).collect(), |(group, slots)| {
            for (block, slot) in group.chunks(BLOCK_BYTES).zip(slots.chunks_exact_mut(16)) {
                slot.copy_from_slice(&xxh3_128(block).to_be_bytes());
            }
            Ok(())
        })?;
    } else {
        let view = source.clone().coalesce();
        let table = Table::of(&view);
        let parts = match &table {
            Some(table) => table.parts(workers.threads()),
            None => ranges(blocks.count(), GROUP).map(Part::Blocks).collect(),
        };
        let mut found: Vec<Vec<(usize, u128)>> = parts.iter().map(|_| Vec::new()).collect();
        let items = parts.into_iter().zip(&mut found).collect();
        workers.for_each_with(items, Scratch::default, |scratch, (part, found)| {
            let mut keep = |block, digest| found.push((block, digest));
            match part {
                Part::Blocks(range) => range.into_iter().try_for_each(|block| {
                    workers.check()?;
                    keep(block, xxh3_128(gathered(&view, blocks.bytes(block), &mut scratch.rows)?));
                    Ok(())
                }),
                Part::Rows(band) => band.digests(workers, &blocks, scratch, keep),
                Part::Columns(columns) => columns.digests(workers, &blocks, scratch, keep),
            }
        })?;
        for (block, digest) in found.into_iter().flatten() {
            digests[16 * block..][..16].copy_from_slice(&digest.to_be_bytes());
        }
    }
    if let Ok(one) = <[u8; 16]>::try_from(&*digests) {
        return Ok(one);
    }
    digests.extend((nbytes as u64).to_be_bytes());
    Ok(xxh3_128_with_seed(&digests, ROOT_SEED).to_be_bytes())
}

/// How bytes are cut.
struct Blocks {
    nbytes: usize,
}

impl Blocks {
    fn count(&self) -> usize {
        self.nbytes.div_ceil(BLOCK_BYTES).max(1)
    }

    /// The bytes of a block.
    fn bytes(&self, block: usize) -> Range<usize> {
        block * BLOCK_BYTES..((block + 1) * BLOCK_BYTES).min(self.nbytes)
    }

    /// The blocks that begin in a range of bytes.
    fn beginning_in(bytes: Range<usize>) -> Range<usize> {
        bytes.start.div_ceil(BLOCK_BYTES)..bytes.end.div_ceil(BLOCK_BYTES)
    }
}

/// A range of the bytes of a view.
fn gathered<'s>(view: &SourceView<'_>, bytes: Range<usize>, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]> {
    let items = bytes.start / view.itemsize()..bytes.end.div_ceil(view.itemsize());
    let before = bytes.start - items.start * view.itemsize();
    let buffer = buffer(scratch, items.len() * view.itemsize())?;
    view.gather_bytes(items, buffer);
    Ok(&buffer[before..][..bytes.len()])
}

/// The first `len` bytes of scratch memory that grows as it must.
fn buffer(scratch: &mut Vec<u8>, len: usize) -> Result<&mut [u8]> {
    if scratch.len() < len {
        *scratch = zeros(len)?;
    }
    Ok(&mut scratch[..len])
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_core::Error;
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;

    /// The same tree from one copy of all bytes.
    fn naive(source: &SourceView<'_>) -> [u8; 16] {
        let mut bytes = vec![0; source.len() * source.itemsize()];
        source.gather_bytes(0..source.len(), &mut bytes);
        if bytes.len() <= BLOCK_BYTES {
            return xxh3_128(&bytes).to_be_bytes();
        }
        let mut nodes: Vec<u8> = bytes.chunks(BLOCK_BYTES).flat_map(|block| xxh3_128(block).to_be_bytes()).collect();
        nodes.extend((bytes.len() as u64).to_be_bytes());
        xxh3_128_with_seed(&nodes, ROOT_SEED).to_be_bytes()
    }

    fn run(threads: usize, source: &SourceView<'_>) -> [u8; 16] {
        execute(threads, |_| true, |w| digest(w, source)).unwrap()
    }

    fn values(len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        values(len).into_iter().map(|value| (value >> 24) as u8).collect()
    }

    /// A view of items of any size with its axes reversed.
    fn fortran<'a>(bytes: &'a [u8], shape: &[usize], itemsize: usize) -> SourceView<'a> {
        let mut inner = shape.to_vec();
        inner.reverse();
        inner.push(itemsize);
        let strides: Vec<isize> =
            (1..inner.len()).map(|axis| inner[axis..].iter().product::<usize>() as isize).collect();
        assert!(bytes.len() >= inner.iter().product());
        // SAFETY: C-contiguous strides of items that the bytes were just found to hold.
        #[allow(unsafe_code)]
        let view =
            unsafe { SourceView::from_raw_parts(bytes.as_ptr(), &inner[..shape.len()], &strides, itemsize, false) };
        view.permute(&(0..shape.len()).rev().collect::<Vec<_>>())
    }

    #[test]
    fn known_values() {
        let of = |bytes: &[u8]| execute_here(|w| digest(w, &SourceView::from_slice(bytes, &[bytes.len()]))).unwrap();
        // XXH3-128 of nothing.
        assert_eq!(of(b"").map(u32::from)[..4], [0x99, 0xAA, 0x06, 0xD3]);
        assert_ne!(of(&vec![0; BLOCK_BYTES]), of(&vec![0; BLOCK_BYTES + 1]));
    }

    #[test]
    fn the_digest_of_a_tree_is_not_that_of_a_block_with_its_nodes() {
        let bytes = noise(2 * BLOCK_BYTES);
        let mut nodes: Vec<u8> = bytes.chunks(BLOCK_BYTES).flat_map(|block| xxh3_128(block).to_be_bytes()).collect();
        nodes.extend((bytes.len() as u64).to_be_bytes());
        let [tree, leaf] = [&bytes, &nodes].map(|bytes| run(1, &SourceView::from_slice(bytes, &[bytes.len()])));
        assert_ne!(tree, leaf);
    }

    #[test]
    fn blocks_and_threads_do_not_change_the_result() {
        for blocks in [0, 1, 2, GROUP, 3 * GROUP] {
            for extra in [-1, 0, 1] {
                let bytes = noise((blocks * BLOCK_BYTES).saturating_add_signed(extra));
                let source = SourceView::from_slice(&bytes, &[bytes.len()]);
                let expected = naive(&source);
                for threads in [1, 2, 3, 8] {
                    assert_eq!(run(threads, &source), expected);
                }
            }
        }
    }

    #[test]
    fn arrays_in_fortran_order_have_the_digest_of_their_c_order() {
        let bytes = noise(4 << 20);
        for itemsize in [1, 2, 3, 4, 8, 12, 16] {
            let n = bytes.len() / itemsize;
            // Short rows, long rows, rows of which one part is taken, few rows, planes, and planes that are small.
            let narrow = BLOCK_BYTES / itemsize / 3;
            let shapes = [
                vec![n / 100, 100],
                vec![n / narrow, narrow],
                vec![2, n / 2],
                vec![3, n / 3],
                vec![17, n / 17],
                vec![70, 3, n / 210],
                vec![2, 40, n / 80],
                vec![50, n / 50 / 9, 9],
                vec![n / 8, 8],
            ];
            for shape in shapes {
                let source = fortran(&bytes, &shape, itemsize);
                let expected = naive(&source);
                for threads in [1, 3] {
                    assert_eq!(run(threads, &source), expected, "{shape:?} of {itemsize} bytes");
                }
                let turned = source.clone().slice(0, 1..shape[0]).slice(1, 0..shape[1] - 1);
                assert_eq!(run(2, &turned), naive(&turned), "a part of {shape:?} of {itemsize} bytes");
            }
            // Rows in the middle: planes behind one another, their blocks across the borders.
            let shape = [n / 40 / 5000, 40, 5000];
            let source = fortran(&bytes, &[shape[1], shape[2], shape[0]], itemsize).permute(&[2, 0, 1]);
            assert_eq!(run(2, &source), naive(&source));
        }
    }

    #[test]
    fn long_rows_are_cut_into_parts() {
        let bytes = noise(20 << 20);
        let source = fortran(&bytes, &[3, bytes.len() / 12], 4);
        for threads in [1, 2] {
            assert_eq!(run(threads, &source), naive(&source));
        }
    }

    #[test]
    fn items_larger_than_a_block_and_of_no_bytes_are_taken() {
        let bytes = noise(9 * BLOCK_BYTES);
        let strides = [3 * BLOCK_BYTES as isize + 7, 2];
        // SAFETY: the last item ends at 2 * (3 * BLOCK_BYTES + 7) + 2 + 2 * BLOCK_BYTES + 7, inside of the vector.
        #[allow(unsafe_code)]
        let large =
            unsafe { SourceView::from_raw_parts(bytes.as_ptr(), &[3, 2], &strides, 2 * BLOCK_BYTES + 7, false) };
        assert_eq!(run(2, &large), naive(&large));
        // SAFETY: no bytes are ever read.
        #[allow(unsafe_code)]
        let empty = unsafe { SourceView::from_raw_parts(bytes.as_ptr(), &[3, 4], &[0, 0], 0, false) };
        assert_eq!(run(2, &empty), xxh3_128(b"").to_be_bytes());
    }

    #[test]
    fn cancelled_work_ends() {
        let values = values(64 << 20);
        let source = SourceView::from_slice(&values, &[values.len()]);
        let short_rows = SourceView::from_slice(&values, &[8 << 10, 8 << 10]).permute(&[1, 0]);
        let long_rows = SourceView::from_slice(&values, &[1 << 20, 64]).permute(&[1, 0]);
        let strided = SourceView::from_slice(&values, &[32 << 20, 2]).slice(1, 0..1);
        for threads in [1, 2] {
            for source in [&source, &short_rows, &long_rows, &strided] {
                // Several passes take longer than a tick.
                let result = execute(threads, |_| false, |w| (0..100).try_for_each(|_| digest(w, source).map(drop)));
                assert!(matches!(result, Err(Error::Cancelled)));
            }
        }
    }

    proptest! {
        #[test]
        fn any_layout_matches_the_naive_twin(
            shape in prop::collection::vec(prop_oneof![0usize..4, 30usize..60], 0..4),
            turn in any::<prop::sample::Index>(),
            reverse in any::<bool>(),
            cut in 0usize..3,
        ) {
            let values = values(shape.iter().product());
            let mut source = SourceView::from_slice(&values, &shape);
            if !shape.is_empty() {
                let mut axes: Vec<usize> = (0..shape.len()).collect();
                axes.rotate_left(turn.index(shape.len()));
                if reverse {
                    axes.reverse();
                }
                source = source.permute(&axes);
                let n = source.shape()[0];
                source = source.slice(0, cut.min(n)..n);
            }
            for threads in [1, 2] {
                prop_assert_eq!(run(threads, &source), naive(&source));
            }
        }
    }
}
