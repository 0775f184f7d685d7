//! Views on memory with a shape and strides: the one place where elements are read and written through pointers.
//!
//! NumPy's arrays may be read-only, reversed, broadcast, byte-swapped, unaligned, or fields of packed records whose
//! strides are no multiple of the item size. A [`SourceView`] describes any of them, and hands out its elements in two
//! ways: as a plain slice, where the memory happens to be one ([`SourceView::as_slice`]), or gathered in C order into a
//! buffer of the caller, block by block ([`SourceView::gather`]). A [`SinkView`] is the same for writing; it is not
//! copied but *split*, and the parts never share an element, so that threads write without locks and without `unsafe`.
//!
//! # What other threads can do
//! The memory belongs to Python. While a kernel runs without the interpreter lock another thread may write into the
//! array it reads, exactly as with NumPy's own functions. That is a race of the caller's making: the kernel computes
//! from whatever values it happens to read, and never reads or writes outside of the array, because shapes, strides
//! and offsets are ours and are not re-read from Python. Values are only ever of types for which each pattern of bytes
//! is valid ([`Pod`]). A kernel that checks a value and then uses it as an index must take the value once into a local.
//!
//! # Shapes
//! Any number of dimensions, zero included; strides are in bytes and may be negative or zero.

mod layout;
mod sink;
mod source;
mod tiles;

pub use sink::SinkView;
pub use source::SourceView;
pub use tiles::{Tile, tiles};

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions 0, 1, 2, ... of a buffer seen with the given shape and strides in elements.
    fn view<'a>(data: &'a [u32], shape: &[usize], strides: &[isize], first: usize) -> SourceView<'a> {
        let bytes: Vec<isize> = strides.iter().map(|s| s * 4).collect();
        // SAFETY: the tests below choose shapes and strides that stay inside of `data`.
        #[allow(unsafe_code)]
        unsafe {
            SourceView::from_raw_parts(data[first..].as_ptr().cast(), shape, &bytes, 4, false)
        }
    }

    fn all(view: &SourceView<'_>) -> Vec<u32> {
        let mut out = vec![0; view.len()];
        view.gather(0..view.len(), &mut out);
        out
    }

    #[test]
    fn gather_follows_the_logical_order_of_any_strides() {
        let data: Vec<u32> = (0..24).collect();
        assert_eq!(all(&view(&data, &[2, 3], &[1, 2], 0)), [0, 2, 4, 1, 3, 5]);
        assert_eq!(all(&view(&data, &[3], &[-2], 10)), [10, 8, 6]);
        assert_eq!(all(&view(&data, &[2, 2], &[0, 1], 5)), [5, 6, 5, 6]);
        assert_eq!(all(&view(&data, &[], &[], 7)), [7]);
        assert_eq!(all(&view(&data, &[2, 0, 3], &[1, 1, 1], 0)), [0u32; 0]);
    }

    #[test]
    fn gather_of_a_part_is_the_part_of_the_whole() {
        let data: Vec<u32> = (0..120).collect();
        let view = view(&data, &[4, 5, 6], &[1, 4, 20], 0);
        let whole = all(&view);
        for start in 0..whole.len() {
            let mut part = vec![0; (whole.len() - start).min(17)];
            view.gather(start..start + part.len(), &mut part);
            assert_eq!(part, whole[start..start + part.len()]);
        }
    }

    #[test]
    fn columns_are_gathered_as_the_parts_of_the_view_that_they_are() {
        let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        for itemsize in [1, 2, 3, 4, 8, 12, 16, 700, 20_000] {
            let step = itemsize as isize;
            let height = (3000 / itemsize).max(2);
            // Memory order of the first axis: alone in its lines, reversed, with gaps, turned, and longer than a piece.
            let strides = [step, -step, 3 * step, 0];
            for (row, wide) in strides.into_iter().flat_map(|row| [(row, 5), (row, 19)]) {
                let plane = height as isize * row.abs().max(step);
                let first = if row < 0 { -row * (height as isize - 1) } else { 0 };
                let inner = [3, (data.len() / 3 / plane as usize).min(wide)];
                let shape = [height, inner[0], inner[1]];
                // SAFETY: planes follow each other; `inner` is cut to those the data have.
                #[allow(unsafe_code)]
                let view = unsafe {
                    let strides = [row, plane, 3 * plane];
                    SourceView::from_raw_parts(data[first as usize..].as_ptr(), &shape, &strides, itemsize, false)
                };
                let columns = inner[0] * inner[1];
                for (rows, columns) in [(0..height, 0..columns), (1..height, 1..columns - 1), (0..1, 2..2)] {
                    // What lies between two columns stays.
                    let pitch = rows.len() * itemsize + 5;
                    let mut table = vec![7; columns.len() * pitch];
                    view.gather_columns(rows.clone(), columns.clone(), &mut table, pitch);
                    let mut expected = vec![7; table.len()];
                    for (column, out) in columns.zip(expected.chunks_exact_mut(pitch)) {
                        for (row, out) in rows.clone().zip(out.chunks_exact_mut(itemsize)) {
                            let item = row * inner[0] * inner[1] + column;
                            view.gather_bytes(item..item + 1, out);
                        }
                    }
                    assert_eq!(table, expected);
                }
            }
        }
    }

    #[test]
    fn gather_swaps_foreign_bytes_and_reads_unaligned_items() {
        let bytes = [9u8, 0, 0, 1, 2, 0, 0, 3, 4];
        // SAFETY: two items of four bytes from byte 1 on lie inside of the nine bytes.
        #[allow(unsafe_code)]
        let view =
            unsafe { SourceView::from_raw_parts(bytes[1..].as_ptr(), &[2], &[4], 4, cfg!(target_endian = "little")) };
        assert_eq!(all(&view), [0x0000_0102, 0x0000_0304]);
        assert!(view.as_slice::<u32>().is_none());
    }

    #[test]
    fn a_slice_is_given_only_for_contiguous_memory() {
        let data: Vec<u32> = (0..24).collect();
        assert_eq!(view(&data, &[2, 3], &[3, 1], 0).as_slice::<u32>(), Some(&data[..6]));
        assert_eq!(view(&data, &[1, 3], &[77, 1], 2).as_slice::<u32>(), Some(&data[2..5]));
        assert!(view(&data, &[2, 3], &[1, 2], 0).as_slice::<u32>().is_none());
        assert!(view(&data, &[2, 2], &[3, 1], 0).as_slice::<u32>().is_none());
    }

    #[test]
    fn a_slice_of_a_range_is_given_where_its_elements_follow_each_other() {
        let mut data: Vec<u32> = (0..120).collect();
        let mut twin = data.clone();
        for (shape, strides) in
            [([4, 5, 6], [30, 6, 1]), ([4, 5, 3], [30, 6, 1]), ([4, 1, 6], [7, 99, 1]), ([2, 3, 4], [1, 2, 6])]
        {
            let view = view(&data, &shape, &strides, 0);
            let whole = all(&view);
            for (start, stop) in (0..=whole.len()).flat_map(|a| (a..=whole.len()).map(move |b| (a, b))) {
                let expected = &whole[start..stop];
                let follows = expected.windows(2).all(|pair| pair[1] == pair[0] + 1);
                assert_eq!(view.slice_of::<u32>(start..stop), follows.then_some(expected), "{shape:?} {start} {stop}");
            }
            let bytes = strides.map(|s| s * 4);
            // SAFETY: the shapes and strides above stay inside of the 120 elements and name none of them twice.
            #[allow(unsafe_code)]
            let mut sink = unsafe { SinkView::from_raw_parts(twin.as_mut_ptr().cast(), &shape, &bytes, 4, false) };
            assert_eq!(
                sink.slice_of_mut::<u32>(1..3).map(|slice| slice.to_vec()),
                view.slice_of(1..3).map(<[u32]>::to_vec)
            );
        }
        data.clear();
    }

    #[test]
    fn tiles_cover_each_element_once_whatever_the_layouts() {
        let data: Vec<u32> = (0..120).collect();
        for block in [1, 7, 30, 1000] {
            let source = view(&data, &[4, 5, 6], &[1, 4, 20], 0);
            let expected = all(&source);
            let mut out = vec![0u32; 120];
            for mut tile in tiles(Some(source), SinkView::from_slice(&mut out, &[4, 5, 6]), block) {
                assert!(tile.sink.len() <= block);
                let values = all(&tile.source.unwrap());
                tile.sink.scatter(0, &values);
            }
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn contiguous_tiles_are_slices() {
        let data: Vec<u32> = (0..120).collect();
        let mut out = vec![0u32; 120];
        let shape = [4, 5, 6];
        for (block, count) in [(50, 3), (120, 1)] {
            let source = SourceView::from_slice(&data, &shape);
            let tiles = tiles(Some(source), SinkView::from_slice(&mut out, &shape), block);
            assert_eq!(tiles.len(), count);
            for mut tile in tiles {
                assert_eq!(tile.sink.shape().len(), 1);
                assert!(tile.source.unwrap().as_slice::<u32>().is_some() && tile.sink.as_mut_slice::<u32>().is_some());
            }
        }
    }

    #[test]
    fn parts_of_a_sink_write_only_their_own_elements() {
        let mut out = vec![0u32; 12];
        let parts = SinkView::from_slice(&mut out, &[3, 4]).split(1, 3);
        assert_eq!(parts.len(), 2);
        for (k, mut part) in parts.into_iter().enumerate() {
            let values = vec![k as u32 + 1; part.len()];
            part.scatter(0, &values);
        }
        assert_eq!(out, [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2]);
    }
}
