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

use std::ops::Range;

use megalith_core::blocks::{ranges, zeros};
use megalith_core::{Result, SourceView, Workers};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use tables::{Part, Table};

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
/// each thread; where the first axes are the fast ones, up to 5 MiB for each thread.
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
            Some(table) => table.parts(),
            None => ranges(blocks.count(), GROUP).map(Part::Blocks).collect(),
        };
        let mut found: Vec<Vec<(usize, u128)>> = parts.iter().map(|_| Vec::new()).collect();
        workers.for_each_with(parts.into_iter().zip(&mut found).collect(), Vec::new, |scratch, (part, found)| {
            let mut keep = |block, digest| found.push((block, digest));
            match part {
                Part::Blocks(range) => range.into_iter().try_for_each(|block| {
                    workers.check()?;
                    keep(block, xxh3_128(gathered(&view, blocks.bytes(block), scratch)?));
                    Ok(())
                }),
                Part::Rows(rows) => rows.digests(&blocks, scratch, keep),
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
