//! Places of ids in a table of ids.

use megalith_core::blocks::{BLOCK, ranges};
use megalith_core::dtype::Integer;
use megalith_core::{Error, Result, SinkView, SourceView, Workers};

use super::slots::{BUFFER, Slots, key_of};

/// Where each id is in a table of ids: its position there, the last if it is there more than once, or -1.
///
/// # Shapes
/// `ids (n0..nk)`, `table (n)`, `sink (n0..nk)` of int64.
///
/// # Errors
/// [`Error::Shape`] if the sink has another shape or is not contiguous; [`Error::Memory`], [`Error::Cancelled`].
///
/// # Cost
/// One pass over ids and sink; up to 64 bytes for each entry of the table, and 4 MiB at most.
///
/// # Source
/// phylib's `_index_of`, which does not check.
pub fn index_of<T: Integer>(
    workers: &Workers<'_>,
    ids: &SourceView<'_>,
    table: &[i128],
    sink: SinkView<'_>,
) -> Result<()> {
    // An id that the type cannot hold is not in the list.
    let keys = || table.iter().enumerate().filter_map(|(i, &id)| Some((i, key_of(T::from_i128(id)?))));
    let (low, high) = keys().fold((u64::MAX, 0), |(low, high), (_, key)| (low.min(key), high.max(key)));
    let mut slots = Slots::between(low.min(high), high, table.len())?;
    let mut places: Vec<i64> = Vec::new();
    for (i, key) in keys() {
        let slot = slots.find(key)?;
        if slot == places.len() {
            places.push(0);
        }
        places[slot] = i as i64;
    }
    let shape_error = |got: &[usize]| Error::Shape {
        name: "sink",
        got: format!("shape {got:?}"),
        expected: format!("a contiguous {:?} of int64", ids.shape()),
    };
    if sink.shape() != ids.shape() {
        return Err(shape_error(sink.shape()));
    }
    let out = sink.into_mut_slice::<i64>().map_err(|view| shape_error(view.shape()))?;
    let view = ids.clone().coalesce();
    let items = ranges(view.len(), BLOCK).zip(out.chunks_mut(BLOCK)).collect();
    workers.for_each_with(items, Vec::new, |scratch, (range, out)| {
        let mut numbers = [0; BUFFER];
        for (ids, out) in view.values::<T>(range, scratch).chunks(BUFFER).zip(out.chunks_mut(BUFFER)) {
            let numbers = &mut numbers[..ids.len()];
            slots.look_up(ids, numbers);
            for (place, &number) in out.iter_mut().zip(&*numbers) {
                *place = places.get(number as usize).copied().unwrap_or(-1);
            }
        }
        Ok(())
    })
}
