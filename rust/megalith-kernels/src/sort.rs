//! Sorting by all threads, in pieces short enough for an interrupt to be answered between them.
//!
//! ```text
//! for each run, in parallel:   sort it
//! until one run is left:       merge runs two by two, each merge cut into parts of equal length, in parallel
//! ```
//!
//! Where a part of a merge begins is found by bisection ("merge path"): of the first k entries of two sorted runs, so
//! many come from the one and the others from the other. So the last merges keep all threads busy too.

use megalith_core::blocks::{ranges, zeros};
use megalith_core::{Result, Workers};

/// Entries that are sorted or merged between two looks at the cancel flag.
const RUN: usize = 1 << 17;

/// Sort in place; equal entries may change places.
///
/// # Errors
/// [`megalith_core::Error::Memory`], [`megalith_core::Error::Cancelled`]; then the entries are in no particular order.
///
/// # Cost
/// A second array of the same length; one pass over both for each doubling of the length above a run.
pub(crate) fn sort<T: Ord + Copy + Default + Send + Sync>(workers: &Workers<'_>, entries: &mut Vec<T>) -> Result<()> {
    workers.for_each(entries.chunks_mut(RUN).collect(), |run| {
        run.sort_unstable();
        Ok(())
    })?;
    if entries.len() <= RUN {
        return Ok(());
    }
    let mut scratch = zeros(entries.len())?;
    let mut width = RUN;
    while width < entries.len() {
        let parts = ranges(entries.len(), RUN).zip(scratch.chunks_mut(RUN)).collect();
        workers.for_each(parts, |(part, out)| {
            let pair = part.start - part.start % (2 * width);
            let (low, high) =
                entries[pair..(pair + 2 * width).min(entries.len())].split_at(width.min(entries.len() - pair));
            let (a0, b0) = first(low, high, part.start - pair);
            let (a1, b1) = first(low, high, part.end - pair);
            merge(&low[a0..a1], &high[b0..b1], out);
            Ok(())
        })?;
        std::mem::swap(entries, &mut scratch);
        width *= 2;
    }
    Ok(())
}

/// How many of the first `k` entries of two sorted runs come from each.
fn first<T: Ord>(a: &[T], b: &[T], k: usize) -> (usize, usize) {
    let (mut low, mut high) = (k.saturating_sub(b.len()), k.min(a.len()));
    while low < high {
        let i = low + (high - low) / 2;
        if a[i] < b[k - i - 1] {
            low = i + 1;
        } else {
            high = i;
        }
    }
    (low, k - low)
}

fn merge<T: Ord + Copy>(a: &[T], b: &[T], out: &mut [T]) {
    let (mut i, mut j) = (0, 0);
    for slot in out {
        let from_a = j == b.len() || (i < a.len() && a[i] <= b[j]);
        *slot = if from_a { a[i] } else { b[j] };
        i += usize::from(from_a);
        j += usize::from(!from_a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_core::pool::execute;

    #[test]
    fn any_length_is_sorted_by_any_number_of_threads() {
        for len in [0, 1, RUN - 1, RUN, RUN + 1, 2 * RUN + 3, 5 * RUN + 7] {
            let values: Vec<(i32, usize)> =
                (0..len).map(|i| (((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as i32 % 1000, i)).collect();
            let mut expected = values.clone();
            expected.sort_unstable();
            for threads in [1, 2, 8] {
                let mut sorted = values.clone();
                execute(threads, |_| true, |workers| sort(workers, &mut sorted)).unwrap();
                assert!(sorted == expected, "{len} entries, {threads} threads");
            }
        }
    }
}
