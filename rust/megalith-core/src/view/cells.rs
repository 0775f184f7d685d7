//! Columns of items moved to rows.

/// Items of a word are turned together.
const WORD: usize = 8;

/// Move items that lie at two strides to rows `pitch` bytes apart. `SIZE` is the item size, or 0 for any.
///
/// # Safety
/// The items can be read, the rows written; the two do not overlap.
#[inline(always)]
#[allow(clippy::inline_always, unsafe_code)] // So that a constant size is a move.
pub(super) unsafe fn move_cells<const SIZE: usize>(
    from: *const u8,
    (row, column): (isize, isize),
    to: *mut u8,
    pitch: usize,
    (high, wide): (usize, usize),
    itemsize: usize,
) {
    let itemsize = if SIZE == 0 { itemsize } else { SIZE };
    for i in 0..high {
        for j in 0..wide {
            let item = from.wrapping_offset(i as isize * row + j as isize * column);
            // SAFETY: as the caller promised.
            unsafe { std::ptr::copy_nonoverlapping(item, to.wrapping_add(i * pitch + j * itemsize), itemsize) };
        }
    }
}

/// Move columns without gaps, `lane` bytes apart, to rows `pitch` bytes apart.
///
/// # Safety
/// As [`move_cells`].
#[inline(always)]
#[allow(clippy::inline_always, unsafe_code)]
pub(super) unsafe fn turn_cells<const SIZE: usize>(
    from: *const u8,
    lane: usize,
    to: *mut u8,
    pitch: usize,
    (high, wide): (usize, usize),
    itemsize: usize,
) {
    let itemsize = if SIZE == 0 { itemsize } else { SIZE };
    // A word of a column before is a word of a row after; larger items and those of odd sizes are moved one by one.
    let side = if matches!(SIZE, 1 | 2 | 4) { WORD / SIZE } else { 1 };
    let (inner_high, inner_wide) = if side == 1 { (0, 0) } else { (high - high % side, wide - wide % side) };
    for top in (0..inner_high).step_by(side) {
        for left in (0..inner_wide).step_by(side) {
            let mut words = [0; WORD];
            for (j, word) in words[..side].iter_mut().enumerate() {
                let column = from.wrapping_add((left + j) * lane + top * itemsize);
                // SAFETY: `side` items of a column.
                *word = u64::from_le(unsafe { column.cast::<u64>().read_unaligned() });
            }
            turn::<SIZE>(&mut words);
            for (i, word) in words[..side].iter().enumerate() {
                let row = to.wrapping_add((top + i) * pitch + left * itemsize);
                // SAFETY: `side` items of a row.
                unsafe { row.cast::<u64>().write_unaligned(word.to_le()) };
            }
        }
    }
    let strides = (itemsize as isize, lane as isize);
    for (top, left, high) in [(0, inner_wide, inner_high), (inner_high, 0, high - inner_high)] {
        let from = from.wrapping_add(left * lane + top * itemsize);
        let to = to.wrapping_add(top * pitch + left * itemsize);
        // SAFETY: what is left of the cells, at the right and at the bottom.
        unsafe { move_cells::<SIZE>(from, strides, to, pitch, (high, wide - left), itemsize) };
    }
}

/// Turn a square of items of `SIZE` bytes: a word for each column becomes a word for each row.
///
/// Of squares of any scale, the quarters at the top right and at the bottom left change places.
#[inline(always)]
#[allow(clippy::inline_always)]
fn turn<const SIZE: usize>(words: &mut [u64; WORD]) {
    let side = WORD.checked_div(SIZE).unwrap_or(1);
    let mut half = side / 2;
    while half > 0 {
        let bits = half * SIZE * 8;
        let mask = u64::MAX / ((1 << bits) + 1);
        for i in (0..side).filter(|i| i & half == 0) {
            let changes = ((words[i] >> bits) ^ words[i + half]) & mask;
            words[i + half] ^= changes;
            words[i] ^= changes << bits;
        }
        half /= 2;
    }
}
