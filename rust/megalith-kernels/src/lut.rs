//! Each value replaced by its entry in a table: `lut[source]`, in parallel, into a sink, with the bounds checked.
//!
//! ```text
//! for each tile of the sink, in parallel:   sink[i] = lut[source[i]]   or stop: out of range
//! ```
//!
//! 1. A table is moved, not computed with: entries are handled by their size alone, so structured items, dates and
//!    floats in any byte order need nothing of their own.
//! 2. A source of one byte has 256 possible values: the entries of all of them are laid out first ([`bytes`]), in vector
//!    registers where the processor can look up in those. Any other is looked up in the table itself ([`words`]).
//! 3. The check costs nothing that could be measured: the largest byte, or a branch that is never taken. Each value is
//!    read once into a register, checked there and used, so that a source which another thread writes to can give other
//!    values but never a read outside of the table.
//! 4. An error names the first bad entry in the order of the logical index, for any number of threads: tiles stop at
//!    the first bad entry *they* meet, and the position is found by a second look at the source.

mod bytes;
mod words;

use std::sync::OnceLock;

use megalith_core::blocks::{BLOCK, ranges, unravel};
use megalith_core::dtype::Integer;
use megalith_core::view::{Tile, tiles};
use megalith_core::{Error, Pod, Result, SinkView, SourceView, Workers};

use bytes::Bytes;

use crate::simd::LARGE;

/// Bytes of the values or of the entries of a tile, whichever are more: the scratch of a thread stays near a MiB.
const TILE_BYTES: usize = 1 << 20;

/// Values of a tile at most.
const TILE: usize = 1 << 18;

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
    if size_of::<S>() == 1 {
        let bytes = Bytes::new::<S>(lut, mode);
        let is_large = size_of::<L>() * sink.len() >= LARGE;
        let look_up = |values: &[u8], out: &mut [L], is_sink: bool| {
            bytes.look_up(values, out, is_sink && is_large).map_err(|byte| S::from_index(byte.into()))
        };
        let tile = tile_by(bytes_of, look_up);
        return run::<S, _>(workers, input, lut.len(), sink, mode, tile);
    }
    let look_up = |values: &[S], out: &mut [L], _| words::look_up(values, lut, mode, out);
    let tile = tile_by(values_of, look_up);
    run::<S, _>(workers, input, lut.len(), sink, mode, tile)
}

/// The values of a view: its memory or, where that is no slice or about to be written, a copy.
type Read<V> = for<'s> fn(view: &'s SourceView<'_>, is_written: bool, copy: &'s mut Vec<V>) -> &'s [V];

fn bytes_of<'s>(view: &'s SourceView<'_>, is_written: bool, copy: &'s mut Vec<u8>) -> &'s [u8] {
    if let Some(bytes) = view.as_bytes().filter(|_| !is_written) {
        return bytes;
    }
    copy.resize(view.len(), 0);
    view.gather_bytes(0..view.len(), copy);
    copy
}

fn values_of<'s, S: Integer>(view: &'s SourceView<'_>, is_written: bool, copy: &'s mut Vec<S>) -> &'s [S] {
    if let Some(values) = view.as_slice().filter(|_| !is_written) {
        return values;
    }
    copy.resize(view.len(), S::default());
    view.gather(0..view.len(), copy);
    copy
}

/// What is done with a tile: read it, look it up, and write the entries where they belong. `look_up` is told whether that
/// is where it writes.
#[allow(clippy::type_complexity)] // One closure, named by what it takes.
fn tile_by<V, L: Pod, S>(
    read: Read<V>,
    look_up: impl Fn(&[V], &mut [L], bool) -> Result<(), S>,
) -> impl Fn(&mut (Vec<V>, Vec<L>), Option<&SourceView<'_>>, &mut SinkView<'_>) -> Result<(), S> {
    move |(copy, entries), source, sink| {
        let values = if let Some(source) = source {
            read(source, false, copy)
        } else {
            read(&sink.as_source(), true, copy);
            &copy[..]
        };
        if let Some(out) = sink.as_mut_slice::<L>() {
            return look_up(values, out, true);
        }
        entries.resize(values.len(), L::default());
        look_up(values, entries, false)?;
        sink.scatter_raw(0, entries);
        Ok(())
    }
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
    tile: impl Fn(&mut B, Option<&SourceView<'_>>, &mut SinkView<'_>) -> Result<(), S> + Sync,
) -> Result<()> {
    let bad = OnceLock::new();
    let block = (TILE_BYTES / sink.itemsize().max(size_of::<S>()).max(1)).clamp(1, TILE);
    let source = match input {
        Input::Array(source) => Some(source),
        Input::Sink => {
            // Checked before anything is overwritten: a source that cannot be mapped stays as it was.
            if (mode == Mode::Raise || size == 0)
                && let Some(error) = first_bad::<S>(workers, &sink.as_source(), size, mode)?
            {
                return Err(error);
            }
            None
        }
    };
    let result =
        workers.for_each_with(tiles(source.clone(), sink, block), B::default, |scratch, Tile { source, mut sink }| {
            tile(scratch, source.as_ref(), &mut sink).map_err(|value| {
                bad.get_or_init(|| value);
                Error::Cancelled
            })
        });
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
        if words::are_inside(values, size) {
            return Ok(None);
        }
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

    /// What a value stands for, by the words of [`Mode`].
    fn naive_index(value: i128, size: usize, mode: Mode) -> Option<usize> {
        let n = size as i128;
        let index = match mode {
            Mode::Raise => value,
            Mode::Clip => value.clamp(0, n - 1),
            Mode::Wrap => value.rem_euclid(n),
        };
        usize::try_from(index).ok().filter(|&i| i < size)
    }

    /// Values of one type, entries of one size: around the widths of vectors, from starts that are not aligned.
    fn check<S: Integer, L: Pod + PartialEq + std::fmt::Debug>(size: usize) {
        let mut lut = vec![L::default(); size];
        for (i, byte) in bytemuck::cast_slice_mut::<L, u8>(&mut lut).iter_mut().enumerate() {
            *byte = (i * 37 / 5) as u8;
        }
        let lut = &lut[..];
        let most = (size as i128).min(S::MAX + 1) as usize;
        for n in [0, 1, 15, 16, 17, 31, 33, 63, 64, 65, 129, 1000] {
            // Values that differ, values in runs, and each with a value outside of the table at the end or at both ends.
            for (run, outside) in [(1, 0), (7, 0), (30, 0), (1, 1), (1, 2), (30, 2)] {
                let mut values: Vec<S> = (0..=n).map(|i| S::from_index(i / run * 7919 % most)).collect();
                for k in [n, n.min(1)].into_iter().take(outside) {
                    values[k] = S::from_index(usize::MAX);
                }
                let values = &values[1..];
                for mode in [Mode::Raise, Mode::Clip, Mode::Wrap] {
                    let entry = |&value: &S| naive_index(value.to_i128(), size, mode).map(|i| lut[i]);
                    let expected: Option<Vec<L>> = values.iter().map(entry).collect();
                    let mut out = vec![L::default(); values.len()];
                    let shape = [values.len()];
                    let input = Input::Array(SourceView::from_slice(values, &shape));
                    let result = execute_here(|w| {
                        apply_lut::<S, L>(w, input, lut, SinkView::from_slice(&mut out, &shape), mode)
                    });
                    if let Some(expected) = expected {
                        result.unwrap();
                        assert_eq!(out, expected);
                    } else {
                        let first = values.iter().position(|value| entry(value).is_none()).unwrap();
                        let Err(Error::IndexRange { index, position, .. }) = result else { panic!("{result:?}") };
                        assert_eq!((index, position), (values[first].to_i128(), vec![first]));
                    }
                }
            }
        }
    }

    #[test]
    fn every_level_looks_up_every_type_and_size_alike() {
        use crate::simd::{Level, set_level};
        fn sources<L: Pod + PartialEq + std::fmt::Debug>(size: usize) {
            check::<megalith_core::Bool8, L>(size);
            check::<i8, L>(size);
            check::<u8, L>(size);
            check::<i16, L>(size);
            check::<u16, L>(size);
            check::<i32, L>(size);
            check::<u32, L>(size);
            check::<i64, L>(size);
            check::<u64, L>(size);
        }
        for level in Level::ALL {
            set_level(level);
            for size in [1, 2, 100, 128, 200, 256, 300, 66_000] {
                sources::<u8>(size);
                sources::<u16>(size);
                sources::<u32>(size);
                sources::<u64>(size);
                sources::<[u64; 2]>(size);
            }
        }
    }

    #[test]
    fn tables_that_no_cache_holds_are_looked_up_alike_at_every_level() {
        use crate::simd::{Level, set_level};
        for level in Level::ALL {
            set_level(level);
            check::<i32, u8>(9_000_000);
            check::<i64, u32>(2_200_000);
            check::<u32, u64>(1_100_000);
        }
    }

    #[test]
    fn values_of_more_bits_than_any_table_has_entries_are_outside_at_every_level() {
        use crate::simd::{Level, set_level};
        fn refused<S: Integer>(wrong: S) {
            for at in [0, 15, 16, 40] {
                let mut values: Vec<S> = (0..41).map(|i| S::from_index(i % 7)).collect();
                values[at] = wrong;
                let (lut, mut out) = ([1.5f32; 10], [0.0f32; 41]);
                let input = Input::Array(SourceView::from_slice(&values, &[41]));
                let sink = SinkView::from_slice(&mut out, &[41]);
                let result = execute_here(|w| apply_lut::<S, f32>(w, input, &lut, sink, Mode::Raise));
                let Err(Error::IndexRange { index, position, .. }) = result else { panic!("{result:?}") };
                assert_eq!((index, position), (wrong.to_i128(), vec![at]));
            }
        }
        for level in Level::ALL {
            set_level(level);
            for wrong in [10, 1 << 32, (1 << 32) + 3, u32::MAX.into(), 1 << 62, i64::MAX, -1, i64::MIN, i64::MIN + 3] {
                refused::<i64>(wrong);
                refused::<u64>(wrong.cast_unsigned());
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
