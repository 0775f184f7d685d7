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

use std::ops::Range;

use megalith_core::blocks::{ranges, zeros};
use megalith_core::{Result, SourceView, Workers};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 1 << 18;

/// The seed of the upper level; blocks have 0.
const ROOT_SEED: u64 = 1;

/// The digest of the items of `source` in C order, as they lie in memory.
///
/// # Shapes
/// `source (n0..nk)`, of any item size.
///
/// # Errors
/// [`megalith_core::Error::Cancelled`]; [`megalith_core::Error::Memory`] if there is none for a block.
///
/// # Cost
/// One pass over memory; a block (or one item) for each thread where the items have gaps between them.
///
/// # Source
/// `xxhash.xxh3_128_digest` of `source.tobytes()`, or of its blocks and then of their digests.
pub fn digest(workers: &Workers<'_>, source: &SourceView<'_>) -> Result<[u8; 16]> {
    let nbytes = source.len() * source.itemsize();
    let mut digests = vec![0; nbytes.div_ceil(BLOCK_BYTES) * 16];
    let slots = digests.chunks_exact_mut(16);
    if let Some(bytes) = source.as_bytes() {
        if nbytes <= BLOCK_BYTES {
            return Ok(xxh3_128(bytes).to_be_bytes());
        }
        workers.for_each(bytes.chunks(BLOCK_BYTES).zip(slots).collect(), |(block, slot)| {
            slot.copy_from_slice(&xxh3_128(block).to_be_bytes());
            Ok(())
        })?;
    } else {
        let view = source.clone().coalesce();
        workers.for_each_with(
            ranges(nbytes, BLOCK_BYTES).zip(slots).collect(),
            Vec::new,
            |scratch, (range, slot)| {
                slot.copy_from_slice(&xxh3_128(gathered(&view, range, scratch)?).to_be_bytes());
                Ok(())
            },
        )?;
    }
    if digests.len() == 16 {
        return Ok(std::array::from_fn(|i| digests[i]));
    }
    digests.extend((nbytes as u64).to_be_bytes());
    Ok(xxh3_128_with_seed(&digests, ROOT_SEED).to_be_bytes())
}

/// The bytes of a range of bytes.
fn gathered<'s>(view: &SourceView<'_>, range: Range<usize>, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]> {
    let items = range.start / view.itemsize()..range.end.div_ceil(view.itemsize());
    let first = items.start * view.itemsize();
    let len = items.len() * view.itemsize();
    if scratch.len() < len {
        *scratch = zeros(len)?;
    }
    view.gather_bytes(items, &mut scratch[..len]);
    Ok(&scratch[range.start - first..range.end - first])
}
