//! What this machine's memory gives: a read and a write of an array, by as many threads as a kernel has.
//!
//! Kernels that are bound by memory are measured against these two, in the same process and the same minute: bandwidth
//! differs between machines, and on one machine from hour to hour.

use megalith_core::blocks::ranges;
use megalith_core::view::tiles;
use megalith_core::{Error, Result, SinkView, SourceView, Workers};

use crate::simd::multiversion;

/// Words that are read or written at once: a MiB.
const PIECE: usize = 1 << 17;

/// Words that are added side by side.
const LANES: usize = 64;

#[inline(always)]
#[allow(clippy::inline_always)]
fn add_words(words: &[u64]) -> u64 {
    let mut lanes = [0u64; LANES];
    let (whole, rest) = words.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(word);
        }
    }
    lanes.iter().chain(rest).fold(0, |sum, &word| sum.wrapping_add(word))
}

multiversion!(fn add[](words: &[u64]) -> u64 = add_words);

/// Read all words of an array once, and return their sum modulo 2^64.
///
/// # Shapes
/// `source (n,)` of 64-bit words, contiguous.
///
/// # Errors
/// [`Error::Internal`] if it is not contiguous; [`Error::Cancelled`].
///
/// # Cost
/// One pass over the source.
pub fn read(workers: &Workers<'_>, source: &SourceView<'_>) -> Result<u64> {
    let words = source.as_slice::<u64>().ok_or_else(|| Error::Internal("a plain array of words".to_owned()))?;
    let sums = workers.map(ranges(words.len(), PIECE).collect(), |range| Ok(add(&words[range])))?;
    Ok(sums.into_iter().fold(0, u64::wrapping_add))
}

/// Write a word to each place of an array.
///
/// # Shapes
/// `sink (n,)` of 64-bit words, contiguous.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Cost
/// One pass over the sink.
pub fn write(workers: &Workers<'_>, sink: SinkView<'_>, word: u64) -> Result<()> {
    workers.for_each(tiles(None, sink, PIECE), |mut tile| {
        if let Some(words) = tile.sink.as_mut_slice::<u64>() {
            words.fill(word);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_core::pool::execute;

    #[test]
    fn every_word_is_read_and_written_once() {
        for n in [0, 1, LANES + 1, PIECE, 3 * PIECE + 7] {
            let mut words = vec![0u64; n];
            execute(2, |_| true, |w| write(w, SinkView::from_slice(&mut words, &[n]), u64::MAX)).unwrap();
            assert!(words.iter().all(|&word| word == u64::MAX));
            let sum = execute(2, |_| true, |w| read(w, &SourceView::from_slice(&words, &[n]))).unwrap();
            assert_eq!(sum, u64::MAX.wrapping_mul(n as u64));
        }
    }
}
