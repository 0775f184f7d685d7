//! Places of ids in a table of ids.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use megalith_core::blocks::{BLOCK, ranges, zeros};
use megalith_core::dtype::Integer;
use megalith_core::{Error, Result, SinkView, SourceView, Workers};

use super::slots::{DENSE, Spread, key_of};

/// Ids whose range is at most so many times as long as their list have a place for each id of the range.
const ROOMY: u64 = 8;

/// The place of each key plus one.
enum Places {
    /// From the first key on; 0 for keys that are not there.
    Near(u64, Vec<u32>),
    Far(HashMap<u64, u32, BuildHasherDefault<Spread>>),
}

impl Places {
    fn of<T: Integer>(table: &[i128]) -> Result<Self> {
        let n = table.len();
        let memory = || Error::Memory { wanted: n.saturating_mul(2 * size_of::<u64>()) };
        let last = u32::try_from(n).map_err(|_| memory())?;
        // An id that the type cannot hold is not in the list.
        let keys = || (1..=last).zip(table).filter_map(|(place, &id)| Some((key_of(T::from_i128(id)?), place)));
        let (low, high) = keys().fold((u64::MAX, 0), |(low, high), (key, _)| (low.min(key), high.max(key)));
        let reach = high.saturating_sub(low);
        if reach < (n as u64).saturating_mul(ROOMY).max(DENSE as u64) {
            let mut places = zeros(reach as usize + 1)?;
            keys().for_each(|(key, place)| places[(key - low) as usize] = place);
            return Ok(Self::Near(low, places));
        }
        let mut places = HashMap::default();
        places.try_reserve(n).map_err(|_| memory())?;
        places.extend(keys());
        Ok(Self::Far(places))
    }

    fn find<T: Integer>(&self, ids: &[T], out: &mut [i64]) {
        match self {
            Self::Near(low, places) => {
                for (place, &id) in out.iter_mut().zip(ids) {
                    *place = i64::from(places.get(key_of(id).wrapping_sub(*low) as usize).copied().unwrap_or(0)) - 1;
                }
            }
            Self::Far(places) => {
                for (place, &id) in out.iter_mut().zip(ids) {
                    *place = i64::from(places.get(&key_of(id)).copied().unwrap_or(0)) - 1;
                }
            }
        }
    }
}

/// Where each id is in a table of ids: its position there, the last if it is there more than once, or -1.
///
/// # Shapes
/// `ids (n0..nk)`, `table (n)`, `sink (n0..nk)` of int64.
///
/// # Errors
/// [`Error::Shape`] if the sink has another shape or is not contiguous; [`Error::Memory`], [`Error::Cancelled`].
///
/// # Cost
/// One pass over ids and sink; 40 bytes for each entry of the table, and 4 MiB at most.
///
/// # Source
/// phylib's `_index_of`, which does not check.
pub fn index_of<T: Integer>(
    workers: &Workers<'_>,
    ids: &SourceView<'_>,
    table: &[i128],
    sink: SinkView<'_>,
) -> Result<()> {
    let shape_error = |got: &[usize]| Error::Shape {
        name: "sink",
        got: format!("shape {got:?}"),
        expected: format!("a contiguous {:?} of int64", ids.shape()),
    };
    if sink.shape() != ids.shape() {
        return Err(shape_error(sink.shape()));
    }
    let out = sink.into_mut_slice::<i64>().map_err(|view| shape_error(view.shape()))?;
    let places = Places::of::<T>(table)?;
    let view = ids.clone().coalesce();
    let items = ranges(view.len(), BLOCK).zip(out.chunks_mut(BLOCK)).collect();
    workers.for_each_with(items, Vec::new, |scratch, (range, out)| {
        places.find(view.values::<T>(range, scratch), out);
        Ok(())
    })
}
