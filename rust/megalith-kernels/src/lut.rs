//! Each value replaced by its entry in a table: `lut[source]`, in parallel, into a sink, with the bounds checked.
//!
//! ```text
//! for each tile of the sink, in parallel:   sink[i] = lut[source[i]]   or stop: out of range
//! ```
//!
//! 1. A table is moved, not computed with: entries are handled by their size alone, so structured items, dates and
//!    floats in any byte order need nothing of their own.
//! 2. The check costs a branch that is never taken. Each value is read once into a register, checked there and used, so
//!    that a source which another thread writes to can give other values but never a read outside of the table.
//! 3. An error names the first bad entry in the order of the logical index, for any number of threads: tiles stop at
//!    the first bad entry *they* meet, and the position is found by a second look at the source.

use std::sync::OnceLock;

use megalith_core::blocks::{BLOCK, ranges, unravel};
use megalith_core::dtype::Integer;
use megalith_core::view::{Tile, tiles};
use megalith_core::{Error, Pod, Result, SinkView, SourceView, Workers};

/// What a value outside of the table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An error.
    Raise,
    /// The nearest entry.
    Clip,
    /// The entry counted from the other end, as often as needed.
    Wrap,
}

/// Where the values come from.
#[derive(Debug)]
pub enum Input<'a> {
    /// Memory that shares nothing with the sink.
    Array(SourceView<'a>),
    /// The sink: each entry is replaced by its image.
    Sink,
}

/// The index a value stands for, if there is one.
#[inline]
fn index_of<S: Integer>(value: S, size: usize, mode: Mode) -> Option<usize> {
    let index = value.to_index();
    match mode {
        Mode::Raise => index.filter(|&i| i < size),
        _ if size == 0 => None,
        Mode::Clip => Some(index.map_or(0, |i| i.min(size - 1))),
        Mode::Wrap => Some(match index {
            Some(i) => i % size,
            // Negative, so it fits a signed integer and so does its remainder.
            None => value.to_wrapped_i64().rem_euclid(size as i64) as usize,
        }),
    }
}

/// `sink[i] = lut[source[i]]` for entries of one machine size.
///
/// # Shapes
/// `source (n0..nk)`, `lut (n,)`, `sink (n0..nk)`.
///
/// # Errors
/// [`Error::IndexRange`] with the first bad value and its position; then what the sink holds is not defined, except in
/// place, where nothing was written. [`Error::Cancelled`].
///
/// # Cost
/// One pass over source and sink (two over the source in place), no scratch for contiguous arrays.
///
/// # Source
/// `numpy.take(lut, source, mode=...)`; ClearMap's `apply_lut` reads outside of the table.
pub fn apply_lut<S: Integer, L: Pod>(
    workers: &Workers<'_>,
    input: Input<'_>,
    lut: &[L],
    sink: SinkView<'_>,
    mode: Mode,
) -> Result<()> {
    let lookup = |values: &[S], out: &mut [L]| {
        for (slot, &value) in out.iter_mut().zip(values) {
            match index_of(value, lut.len(), mode).and_then(|i| lut.get(i)) {
                Some(&entry) => *slot = entry,
                None => return Err(value),
            }
        }
        Ok(())
    };
    let tile = |scratch: &mut (Vec<S>, Vec<L>), source: Option<&SourceView<'_>>, sink: &mut SinkView<'_>| {
        let (values, entries) = scratch;
        let n = sink.len();
        let values = if let Some(source) = source {
            source.values::<S>(0..n, values)
        } else {
            values.resize(n, S::default());
            sink.as_source().gather(0..n, values);
            &values[..]
        };
        if let Some(out) = sink.as_mut_slice::<L>() {
            return lookup(values, out);
        }
        entries.resize(n, L::default());
        lookup(values, entries)?;
        sink.scatter_raw(0, entries);
        Ok(())
    };
    run::<S, _>(workers, input, lut.len(), sink, mode, tile)
}

/// [`apply_lut`] for entries of any size, as bytes.
///
/// # Errors
/// As [`apply_lut`].
pub fn apply_lut_bytes<S: Integer>(
    workers: &Workers<'_>,
    input: Input<'_>,
    lut: &[u8],
    sink: SinkView<'_>,
    mode: Mode,
) -> Result<()> {
    let itemsize = sink.itemsize();
    if itemsize == 0 {
        return Ok(());
    }
    let size = lut.len() / itemsize;
    let tile = |scratch: &mut (Vec<S>, Vec<u8>), source: Option<&SourceView<'_>>, sink: &mut SinkView<'_>| {
        let (values, entries) = scratch;
        let n = sink.len();
        values.resize(n, S::default());
        source.unwrap_or(&sink.as_source()).gather(0..n, values);
        entries.clear();
        for &value in values.iter() {
            let start = index_of(value, size, mode).ok_or(value)? * itemsize;
            entries.extend_from_slice(&lut[start..start + itemsize]);
        }
        sink.scatter_bytes(0, entries);
        Ok(())
    };
    run::<S, _>(workers, input, size, sink, mode, tile)
}

/// Send each tile through `tile`, and turn the bad value it may meet into the error that names the first one.
fn run<S: Integer, B: Default>(
    workers: &Workers<'_>,
    input: Input<'_>,
    size: usize,
    sink: SinkView<'_>,
    mode: Mode,
    tile: impl Fn(&mut (Vec<S>, B), Option<&SourceView<'_>>, &mut SinkView<'_>) -> Result<(), S> + Sync,
) -> Result<()> {
    let bad = OnceLock::new();
    // Large items in smaller tiles, so that the scratch of a thread stays below a MiB.
    let block = (BLOCK * 16 / sink.itemsize().max(16)).max(1);
    let source = match input {
        Input::Array(source) => Some(source),
        Input::Sink => {
            // Checked before anything is overwritten: a source that cannot be mapped stays as it was.
            if let Some(error) = first_bad::<S>(workers, &sink.as_source(), size, mode)? {
                return Err(error);
            }
            None
        }
    };
    let result = workers.for_each_with(
        tiles(source.clone(), sink, block),
        || (Vec::new(), B::default()),
        |scratch, Tile { source, mut sink }| {
            tile(scratch, source.as_ref(), &mut sink).map_err(|value| {
                bad.get_or_init(|| value);
                Error::Cancelled
            })
        },
    );
    let Some(&value) = bad.get() else { return result };
    let found = source.map_or(Ok(None), |source| first_bad::<S>(workers, &source, size, mode))?;
    // None: another thread has written to the source between the two looks.
    Err(found.unwrap_or(Error::IndexRange { index: value.to_i128(), size, position: Vec::new() }))
}

/// The error for the first value, in C order, that has no entry.
fn first_bad<S: Integer>(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    size: usize,
    mode: Mode,
) -> Result<Option<Error>> {
    let view = source.clone().coalesce();
    let found = workers.map(ranges(source.len(), BLOCK).collect(), |range| {
        let mut scratch = Vec::new();
        let values = view.values::<S>(range.clone(), &mut scratch);
        let bad = values.iter().position(|&value| index_of(value, size, mode).is_none());
        Ok(bad.map(|k| (range.start + k, values[k])))
    })?;
    Ok(found.into_iter().flatten().next().map(|(flat, value)| Error::IndexRange {
        index: value.to_i128(),
        size,
        position: unravel(flat, source.shape()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;

    fn naive(values: &[i16], lut: &[u32], mode: Mode) -> Option<Vec<u32>> {
        let n = lut.len() as i64;
        let entry = |&value: &i16| {
            let index = match mode {
                Mode::Raise => i64::from(value),
                Mode::Clip => i64::from(value).clamp(0, n - 1),
                Mode::Wrap => i64::from(value).rem_euclid(n),
            };
            usize::try_from(index).ok().and_then(|i| lut.get(i)).copied()
        };
        values.iter().map(entry).collect()
    }

    proptest! {
        #[test]
        fn entries_match_the_naive_twin(
            values in prop::collection::vec(-40i16..90, 1..300), size in 1usize..100,
        ) {
            let lut: Vec<u32> = (0..size as u32).map(|i| i * 7 + 3).collect();
            for mode in [Mode::Raise, Mode::Clip, Mode::Wrap] {
                for threads in [1, 2, 8] {
                    let mut out = vec![0u32; values.len()];
                    let shape = [values.len()];
                    let result = execute(threads, |_| true, |w| {
                        let input = Input::Array(SourceView::from_slice(&values, &shape));
                        apply_lut::<i16, u32>(w, input, &lut, SinkView::from_slice(&mut out, &shape), mode)
                    });
                    let Some(expected) = naive(&values, &lut, mode) else {
                        let first = values.iter().position(|&v| v < 0 || v as usize >= size).unwrap();
                        let is_first = matches!(result, Err(Error::IndexRange { index, position, .. })
                            if index == i128::from(values[first]) && position == [first]);
                        prop_assert!(is_first);
                        continue;
                    };
                    result.unwrap();
                    prop_assert_eq!(&out, &expected);
                }
            }
        }
    }

    #[test]
    fn in_place_changes_nothing_when_an_entry_is_missing() {
        let mut data: Vec<i32> = (0..100_000).collect();
        data[70_001] = -5;
        let before = data.clone();
        let lut = vec![1i32; 100_000];
        let shape = [100, 1000];
        let result = execute_here(|w| {
            apply_lut::<i32, i32>(w, Input::Sink, &lut, SinkView::from_slice(&mut data, &shape), Mode::Raise)
        });
        assert!(matches!(result, Err(Error::IndexRange { index: -5, position, .. }) if position == [70, 1]));
        assert_eq!(data, before);
    }

    #[test]
    fn in_place_maps_each_entry_once() {
        let mut data: Vec<u16> = (0..1000).collect();
        let lut: Vec<u16> = (0..1000).map(|i| 999 - i).collect();
        execute_here(|w| {
            apply_lut::<u16, u16>(w, Input::Sink, &lut, SinkView::from_slice(&mut data, &[1000]), Mode::Raise)
        })
        .unwrap();
        assert_eq!(data, lut);
    }

    #[test]
    fn entries_of_odd_sizes_are_moved_whole() {
        let lut: Vec<u8> = (0..30).collect();
        let source = [9u8, 0, 4];
        let mut out = [0u8; 9];
        // SAFETY: three items of three bytes lie in the nine bytes of `out`, borrowed here alone.
        #[allow(unsafe_code)]
        let sink = unsafe { SinkView::from_raw_parts(out.as_mut_ptr(), &[3], &[3], 3, false) };
        let input = Input::Array(SourceView::from_slice(&source, &[3]));
        execute_here(|w| apply_lut_bytes::<u8>(w, input, &lut, sink, Mode::Raise)).unwrap();
        assert_eq!(out, [27, 28, 29, 0, 1, 2, 12, 13, 14]);
    }

    #[test]
    fn an_empty_table_is_out_of_range_for_every_mode() {
        for mode in [Mode::Raise, Mode::Clip, Mode::Wrap] {
            let mut out = [0u8; 1];
            let input = Input::Array(SourceView::from_slice(&[0u8], &[1]));
            let result =
                execute_here(|w| apply_lut::<u8, u8>(w, input, &[], SinkView::from_slice(&mut out, &[1]), mode));
            assert!(matches!(result, Err(Error::IndexRange { size: 0, .. })));
        }
    }
}
