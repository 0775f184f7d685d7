//! Checksums of an array as a file would hold it: the bytes of a header, then the elements in C order.
//!
//! ```text
//! one thread:    for each block: gather it if need be, feed it to CRC-32, then (it is in the cache) to XXH3
//! more threads:  one feeds all blocks to XXH3; the others take the CRC-32 of a block each; the CRCs are combined
//! ```
//!
//! 1. The CRC-32 of two stretches is known from those of each and the length of the second, so blocks can be summed
//!    in any order. XXH3 has no such rule: its bytes go through one state, in order.
//! 2. Blocks are cut by bytes where the memory is contiguous, else by items; neither changes the result.
//! 3. Items with gaps between them are left to one thread: gathering them for XXH3 takes far longer than the sums,
//!    and a second thread would have to gather them again.
//!
//! Items are bytes in whatever byte order they lie.

use crc32fast::Hasher;
use megalith_core::blocks::zeros;
use megalith_core::{Result, SourceView, Workers};
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes of a block, about: a fraction of the cache of a core, and far more than a look at the cancel flag costs.
const BLOCK_BYTES: usize = 1 << 20;

/// What [`checksums`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// CRC-32 as in zip archives (ISO-HDLC).
    pub crc32: u32,
    /// XXH3 with 64 bits and seed 0.
    pub xxh3: u64,
}

/// CRC-32 and XXH3-64 of `prefix` and the items of `source` behind it, in C order, as they lie in memory.
///
/// # Shapes
/// `source (n0..nk)`, of any item size.
///
/// # Errors
/// [`megalith_core::Error::Cancelled`]; [`megalith_core::Error::Memory`] if there is none for a block.
///
/// # Cost
/// One pass over memory on one thread, two at once on more; a block of 1 MiB (or one item) where the items have gaps
/// between them.
///
/// # Source
/// `zlib.crc32` and `xxhash.xxh3_64` of `prefix + source.tobytes()`.
pub fn checksums(workers: &Workers<'_>, prefix: &[u8], source: &SourceView<'_>) -> Result<Checksums> {
    let mut crc = Hasher::new();
    let mut xxh3 = Xxh3Default::new();
    crc.update(prefix);
    xxh3.update(prefix);
    match source.as_bytes() {
        Some(bytes) if workers.threads() > 1 && bytes.len() > BLOCK_BYTES => {
            side_by_side(workers, bytes, &mut crc, &mut xxh3)?;
        }
        _ => each_block(workers, source, |block| {
            crc.update(block);
            xxh3.update(block);
        })?,
    }
    Ok(Checksums { crc32: crc.finalize(), xxh3: xxh3.digest() })
}

/// XXH3-64 alone: what is compared when a file is read.
///
/// # Shapes
/// `source (n0..nk)`, of any item size.
///
/// # Errors
/// As [`checksums`].
///
/// # Cost
/// One pass over memory on one thread, about as fast as memory gives it.
///
/// # Source
/// `xxhash.xxh3_64` of `prefix + source.tobytes()`.
pub fn xxh3(workers: &Workers<'_>, prefix: &[u8], source: &SourceView<'_>) -> Result<u64> {
    let mut xxh3 = Xxh3Default::new();
    xxh3.update(prefix);
    each_block(workers, source, |block| xxh3.update(block))?;
    Ok(xxh3.digest())
}

/// Give the items of `source` in C order to `take`, a block at a time.
fn each_block(workers: &Workers<'_>, source: &SourceView<'_>, mut take: impl FnMut(&[u8])) -> Result<()> {
    if let Some(bytes) = source.as_bytes() {
        for block in bytes.chunks(BLOCK_BYTES) {
            workers.check()?;
            take(block);
        }
        return Ok(());
    }
    let view = source.clone().coalesce();
    let step = (BLOCK_BYTES / view.itemsize()).max(1);
    let mut scratch = zeros(step.min(view.len()) * view.itemsize())?;
    for start in (0..view.len()).step_by(step) {
        workers.check()?;
        let stop = (start + step).min(view.len());
        let part = &mut scratch[..(stop - start) * view.itemsize()];
        view.gather_bytes(start..stop, part);
        take(part);
    }
    Ok(())
}

/// XXH3 on one thread, CRC-32 on the others.
fn side_by_side(workers: &Workers<'_>, bytes: &[u8], crc: &mut Hasher, xxh3: &mut Xxh3Default) -> Result<()> {
    let mut crcs = vec![Hasher::new(); bytes.len().div_ceil(BLOCK_BYTES)];
    // The long item first, so that it is not what everybody waits for at the end.
    let mut items = vec![Item::Xxh3(xxh3)];
    items.extend(bytes.chunks(BLOCK_BYTES).zip(&mut crcs).map(|(block, crc)| Item::Crc(block, crc)));
    workers.for_each(items, |item| {
        match item {
            Item::Crc(block, crc) => crc.update(block),
            Item::Xxh3(xxh3) => {
                for block in bytes.chunks(BLOCK_BYTES) {
                    workers.check()?;
                    xxh3.update(block);
                }
            }
        }
        Ok(())
    })?;
    for part in &crcs {
        crc.combine(part);
    }
    Ok(())
}

/// What a thread takes.
enum Item<'a> {
    Xxh3(&'a mut Xxh3Default),
    Crc(&'a [u8], &'a mut Hasher),
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_core::Error;
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    /// CRC-32 by its definition, bit by bit; XXH3 in one call.
    fn naive(prefix: &[u8], source: &SourceView<'_>) -> Checksums {
        let mut bytes = vec![0; source.len() * source.itemsize()];
        source.gather_bytes(0..source.len(), &mut bytes);
        let bytes = [prefix, &bytes].concat();
        let crc32 = !bytes.iter().fold(!0u32, |state, &byte| {
            (0..8).fold(state ^ u32::from(byte), |s, _| (s >> 1) ^ (0xEDB8_8320 & (s & 1).wrapping_neg()))
        });
        Checksums { crc32, xxh3: xxh3_64(&bytes) }
    }

    fn run(threads: usize, prefix: &[u8], source: &SourceView<'_>) -> Checksums {
        let both = execute(threads, |_| true, |w| checksums(w, prefix, source)).unwrap();
        assert_eq!(execute(threads, |_| true, |w| xxh3(w, prefix, source)).unwrap(), both.xxh3);
        both
    }

    fn values(len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect()
    }

    #[test]
    fn known_values() {
        // The check value of CRC-32/ISO-HDLC, and XXH3 of nothing.
        let one = execute_here(|w| checksums(w, b"1234", &SourceView::from_slice(b"56789", &[5]))).unwrap();
        assert_eq!(one.crc32, 0xCBF4_3926);
        let none = execute_here(|w| checksums(w, b"", &SourceView::from_slice::<u8>(&[], &[0]))).unwrap();
        assert_eq!(none, Checksums { crc32: 0, xxh3: 0x2D06_8005_38D3_94C2 });
    }

    #[test]
    fn blocks_and_threads_do_not_change_the_result() {
        for extra in [0, 1, 255] {
            let values = values(3 * BLOCK_BYTES / 4 + extra);
            let source = SourceView::from_slice(&values, &[values.len()]);
            let expected = naive(b"head", &source);
            for threads in [1, 2, 3, 8] {
                assert_eq!(run(threads, b"head", &source), expected);
            }
        }
    }

    #[test]
    fn arrays_with_gaps_are_taken_in_their_c_order() {
        let values = values(1 << 20);
        let source = SourceView::from_slice(&values, &[1024, 1024]).permute(&[1, 0]).slice(0, 3..1000);
        let expected = naive(b"", &source);
        for threads in [1, 2, 8] {
            assert_eq!(run(threads, b"", &source), expected);
        }
    }

    #[test]
    fn items_larger_than_a_block_and_of_no_bytes_are_taken() {
        let bytes: Vec<u8> = (0..5 * BLOCK_BYTES).map(|i| (i % 251) as u8).collect();
        let strides = [2 * (BLOCK_BYTES as isize + 7)];
        // SAFETY: the last item ends at 2 * (BLOCK_BYTES + 7) + BLOCK_BYTES + 7, inside of the vector.
        #[allow(unsafe_code)]
        let large = unsafe { SourceView::from_raw_parts(bytes.as_ptr(), &[2], &strides, BLOCK_BYTES + 7, false) };
        assert_eq!(run(2, b"x", &large), naive(b"x", &large));
        // SAFETY: no bytes are ever read.
        #[allow(unsafe_code)]
        let empty = unsafe { SourceView::from_raw_parts(bytes.as_ptr(), &[3, 4], &[0, 0], 0, false) };
        assert_eq!(run(2, b"x", &empty).xxh3, xxh3_64(b"x"));
    }

    #[test]
    fn cancelled_work_ends() {
        let values = values(64 << 20);
        let source = SourceView::from_slice(&values, &[values.len()]);
        let strided = SourceView::from_slice(&values, &[8 << 10, 8 << 10]).permute(&[1, 0]);
        for threads in [1, 2] {
            for source in [&source, &strided] {
                // Several passes take longer than a tick.
                let result =
                    execute(threads, |_| false, |w| (0..100).try_for_each(|_| checksums(w, b"", source).map(drop)));
                assert!(matches!(result, Err(Error::Cancelled)));
            }
        }
    }

    proptest! {
        #[test]
        fn any_layout_matches_the_naive_twin(
            shape in prop::collection::vec(0usize..7, 0..4),
            prefix in prop::collection::vec(any::<u8>(), 0..300),
            turn in any::<bool>(),
            cut in 0usize..3,
        ) {
            let values = values(shape.iter().product());
            let mut source = SourceView::from_slice(&values, &shape);
            if turn {
                source = source.permute(&(0..shape.len()).rev().collect::<Vec<_>>());
            }
            if let Some(&n) = source.shape().first() {
                source = source.slice(0, cut.min(n)..n);
            }
            for threads in [1, 2] {
                prop_assert_eq!(run(threads, &prefix, &source), naive(&prefix, &source));
            }
        }
    }
}
