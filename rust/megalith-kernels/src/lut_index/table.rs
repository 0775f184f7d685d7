//! The table that sums are looked up in, in the form that is the fastest for them.

#[cfg(target_arch = "x86_64")]
mod avx512;

use megalith_core::blocks::ranges;
use megalith_core::dtype::{Pod, Real};
use megalith_core::{Result, Workers};

use crate::scratch::Mask;
use crate::simd::{Level, level, multiversion, prefetch};

/// Sums that are looked up at once: all by one look-up where they are equal, or by one instruction.
const RUN: usize = 16;
/// Entries of a table that bytes are looked up in.
pub(super) const BYTES: usize = 256;
/// Tables of fewer entries stay in the caches as they are.
const PACKED: usize = 1 << 20;
/// Entries that are packed in the time that one look-up in the caches instead of memory saves.
const LOOK_UPS: usize = 32;
/// Entries that are packed at once: a huge page of bits, so that two threads do not ask for the same one.
const PART: usize = 1 << 24;

/// How many blocks of `RUN` sums ahead of the one that is looked up memory is asked for, and the bytes of a table from
/// which on that pays.
const AHEAD: usize = 16;
const FAR: usize = 1 << 20;

/// The value of a sum.
pub(super) trait Sum: Copy + Default + PartialEq {
    /// As an index; what is none becomes negative.
    fn index(self) -> i64;
    /// Whether all are equal; all are looked at, so that it is a loop without branches.
    fn is_run(sums: &[Self; RUN]) -> bool;
    /// `out = table[sums]`; the first sum that is no index, if there is one.
    fn look_up<L: Entry>(sums: &[Self], table: &Table<'_, L>, out: &mut [L]) -> Option<usize> {
        look_up(sums, table.entries, out)
    }
}

impl Sum for i64 {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn is_run(sums: &[Self; RUN]) -> bool {
        sums.iter().fold(0, |all, sum| all | (sum ^ sums[0])) == 0
    }
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn index(self) -> i64 {
        self
    }
}

impl Sum for f64 {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn is_run(sums: &[Self; RUN]) -> bool {
        sums.iter().fold(0, |all, sum| all | (sum.to_bits() ^ sums[0].to_bits())) == 0
    }
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn index(self) -> i64 {
        i64::from_double(self)
    }
}

impl Sum for i32 {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn is_run(sums: &[Self; RUN]) -> bool {
        sums.iter().fold(0, |all, sum| all | (sum ^ sums[0])) == 0
    }
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn index(self) -> i64 {
        self.into()
    }
    fn look_up<L: Entry>(sums: &[Self], table: &Table<'_, L>, out: &mut [L]) -> Option<usize> {
        match &table.bits {
            Some(bits) => L::look_up_bits(sums, bits.words(), table.entries.len(), out),
            None => look_up(sums, table.entries, out),
        }
    }
}

impl Sum for u8 {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn is_run(sums: &[Self; RUN]) -> bool {
        sums.iter().fold(0, |all, sum| all | (sum ^ sums[0])) == 0
    }
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn index(self) -> i64 {
        self.into()
    }
    fn look_up<L: Entry>(sums: &[Self], table: &Table<'_, L>, out: &mut [L]) -> Option<usize> {
        L::look_up_bytes(sums, &table.padded, out);
        if table.entries.len() >= BYTES {
            None
        } else {
            sums.iter().position(|&sum| usize::from(sum) >= table.entries.len())
        }
    }
}

/// `f(truths, wide, insides, squares, table, out, is_large)`: `out = table[octets]` of rows of `wide` positions. The truth
/// values begin with the row before and the value before that; `insides`, a word longer than it needs to be, has a bit
/// where there is one on the left of a position. `squares`, one for each position, are those of the plane before, below
/// 16, and become those of this plane. What `is_large` is written past the caches.
pub(super) type LookUpRows<L> = fn(&[u8], usize, &[u64], &mut [u8], &[L; BYTES], &mut [L], bool);

/// An entry of a table: items of a size, that are only moved.
pub trait Entry: Pod {
    /// The lowest bit of each entry, 64 in a word of little-endian order, if none has another.
    #[doc(hidden)]
    fn pack(_entries: &[Self], _words: &mut [u64]) -> bool {
        false
    }
    /// `out = table[sums]` of a packed table of `len` entries; the first sum that is no index, if there is one.
    #[doc(hidden)]
    fn look_up_bits(_sums: &[i32], _bits: &[u64], _len: usize, _out: &mut [Self]) -> Option<usize> {
        Some(0)
    }
    /// `out = table[sums]` of a packed table that has all of them.
    #[doc(hidden)]
    fn take_bits(_sums: &[i32], _bits: &[u64], _out: &mut [Self]) {}
    /// `out` = the next of `values` where `listed` has a bit, the second of `ends` where `full` has, and the first.
    #[doc(hidden)]
    fn expand(listed: &[u64], full: &[u64], values: &[Self], ends: [Self; 2], out: &mut [Self]) {
        plain_expand(listed, full, values, ends, out);
    }
    /// `out = table[octets]`, or nothing where `out` is empty. Of the truth values of a row, one more than there are pairs,
    /// the first does not count if it lies outside. `pairs` and `squares`, whole blocks of 64, are those of the row before
    /// and of the plane before, below 4 and 16, and become those of this row and plane.
    #[doc(hidden)]
    fn look_up_octets(
        truths: &[u8],
        is_outside: bool,
        pairs: &mut [u8],
        squares: &mut [u8],
        table: &[Self; BYTES],
        out: &mut [Self],
    ) {
        look_up_octets(truths, is_outside, pairs, squares, table, out);
    }
    /// What looks up rows as one, where that is faster than [`Entry::look_up_octets`] of each.
    #[doc(hidden)]
    #[must_use]
    fn look_up_rows() -> Option<LookUpRows<Self>> {
        None
    }
    /// `out = table[sums]`.
    #[doc(hidden)]
    fn look_up_bytes(sums: &[u8], table: &[Self; BYTES], out: &mut [Self]) {
        plain_look_up_bytes(sums, table, out);
    }
}

impl Entry for u8 {
    fn pack(entries: &[Self], words: &mut [u64]) -> bool {
        pack(entries, words)
    }
    fn look_up_bits(sums: &[i32], bits: &[u64], len: usize, out: &mut [Self]) -> Option<usize> {
        look_up_bits(sums, bits, len, out)
    }
    fn take_bits(sums: &[i32], bits: &[u64], out: &mut [Self]) {
        take_bits(sums, bits, out);
    }
    fn expand(listed: &[u64], full: &[u64], values: &[Self], ends: [Self; 2], out: &mut [Self]) {
        expand(listed, full, values, ends, out);
    }
    fn look_up_octets(
        truths: &[u8],
        is_outside: bool,
        pairs: &mut [u8],
        squares: &mut [u8],
        table: &[Self; BYTES],
        out: &mut [Self],
    ) {
        look_up_octets_of_bytes(truths, is_outside, pairs, squares, table, out);
    }
    fn look_up_rows() -> Option<LookUpRows<Self>> {
        (level() == Level::Avx512).then_some(look_up_rows)
    }
    fn look_up_bytes(sums: &[u8], table: &[Self; BYTES], out: &mut [Self]) {
        look_up_bytes(sums, table, out);
    }
}
impl Entry for u16 {}
impl Entry for u32 {}
impl Entry for u64 {}
impl Entry for [u64; 2] {}

/// A table and what was made of it.
pub(super) struct Table<'a, L> {
    entries: &'a [L],
    /// Zeros and ones, 64 in a word, of which the first byte in memory has the first eight.
    bits: Option<Mask>,
    /// Whether so much of what is taken has to wait for memory that it is asked for ahead.
    is_far: bool,
    /// The first entries, zeros behind the last.
    padded: Box<[L; BYTES]>,
}

impl<'a, L: Entry> Table<'a, L> {
    pub(super) fn new(entries: &'a [L]) -> Self {
        let mut padded = Box::new([L::default(); BYTES]);
        let first = &entries[..entries.len().min(BYTES)];
        padded[..first.len()].copy_from_slice(first);
        Self { entries, bits: None, is_far: false, padded }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// An entry; zeros where there is none.
    pub(super) fn entry(&self, index: usize) -> L {
        self.entries.get(index).copied().unwrap_or_default()
    }

    /// `out = table[sums]`, of sums that are indices.
    pub(super) fn take(&self, sums: &[i32], out: &mut [L]) {
        match &self.bits {
            Some(bits) => L::take_bits(sums, bits.words(), out),
            None => take(sums, self.entries, self.is_far, out),
        }
    }

    /// Get ready for `n` look-ups far from all others: keep the entries as bits, if they are zeros and ones and if this
    /// pays. `is_far` says whether to ask for memory ahead where they are kept as they are.
    pub(super) fn prepare(&mut self, workers: &Workers<'_>, n: usize, is_far: bool) -> Result<()> {
        self.is_far = is_far && size_of_val(self.entries) >= FAR;
        let len = self.entries.len();
        if len < PACKED || n < len / LOOK_UPS {
            return Ok(());
        }
        let mut bits = Mask::new(len.div_ceil(64))?;
        let parts = ranges(len, PART).zip(bits.words_mut().chunks_mut(PART / 64)).collect();
        let packed = workers.map(parts, |(part, words)| Ok(L::pack(&self.entries[part], words)))?;
        self.bits = packed.into_iter().all(|packed| packed).then_some(bits);
        Ok(())
    }
}

multiversion!(fn look_up[S: Sum, L: Entry](sums: &[S], lut: &[L], out: &mut [L]) -> Option<usize> = plain_look_up);
multiversion!(fn look_up_octets[L: Entry](
    truths: &[u8], is_outside: bool, pairs: &mut [u8], squares: &mut [u8], table: &[L; BYTES], out: &mut [L]) -> ()
    = plain_look_up_octets);
#[cfg(target_arch = "x86_64")]
multiversion!(fn look_up_octets_of_bytes[](
    truths: &[u8], is_outside: bool, pairs: &mut [u8], squares: &mut [u8], table: &[u8; BYTES], out: &mut [u8]) -> ()
    = plain_look_up_octets, avx512 = avx512::look_up_octets);
#[cfg(not(target_arch = "x86_64"))]
use look_up_octets as look_up_octets_of_bytes;
#[cfg(target_arch = "x86_64")]
multiversion!(pub(super) fn look_up_rows[](
    truths: &[u8], wide: usize, insides: &[u64], squares: &mut [u8], table: &[u8; BYTES], out: &mut [u8], is_large: bool
    ) -> () = plain_look_up_rows, avx512 = avx512::look_up_rows);
#[cfg(not(target_arch = "x86_64"))]
pub(super) use plain_look_up_rows as look_up_rows;
multiversion!(fn take[L: Entry](sums: &[i32], lut: &[L], is_far: bool, out: &mut [L]) -> () = plain_take);
multiversion!(fn look_up_bits[](sums: &[i32], bits: &[u64], len: usize, out: &mut [u8]) -> Option<usize>
    = plain_look_up_bits);
#[cfg(target_arch = "x86_64")]
multiversion!(fn look_up_bytes[](sums: &[u8], table: &[u8; BYTES], out: &mut [u8]) -> ()
    = plain_look_up_bytes, avx512 = avx512::look_up_bytes);
#[cfg(target_arch = "x86_64")]
multiversion!(fn pack[](entries: &[u8], words: &mut [u64]) -> bool = plain_pack, avx512 = avx512::pack);
#[cfg(target_arch = "x86_64")]
multiversion!(fn take_bits[](sums: &[i32], bits: &[u64], out: &mut [u8]) -> ()
    = plain_take_bits, avx512 = avx512::take_bits);
#[cfg(target_arch = "x86_64")]
multiversion!(fn expand[](listed: &[u64], full: &[u64], values: &[u8], ends: [u8; 2], out: &mut [u8]) -> ()
    = plain_expand, avx512 = avx512::expand);
#[cfg(not(target_arch = "x86_64"))]
use plain_expand as expand;
#[cfg(not(target_arch = "x86_64"))]
use plain_look_up_bytes as look_up_bytes;
#[cfg(not(target_arch = "x86_64"))]
use plain_pack as pack;
#[cfg(not(target_arch = "x86_64"))]
use plain_take_bits as take_bits;

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_look_up<S: Sum, L: Entry>(sums: &[S], lut: &[L], out: &mut [L]) -> Option<usize> {
    // A negative index becomes one that no table is long enough for.
    let entry = |sum: S| lut.get(sum.index() as usize).copied();
    let (blocks, rest) = sums.as_chunks::<RUN>();
    let (outs, end) = out[..sums.len()].as_chunks_mut::<RUN>();
    for (k, (sums, out)) in blocks.iter().zip(outs).enumerate() {
        if S::is_run(sums) {
            let Some(value) = entry(sums[0]) else { return Some(k * RUN) };
            *out = [value; RUN];
            continue;
        }
        for (x, (slot, &sum)) in out.iter_mut().zip(sums).enumerate() {
            let Some(value) = entry(sum) else { return Some(k * RUN + x) };
            *slot = value;
        }
    }
    for (x, (slot, &sum)) in end.iter_mut().zip(rest).enumerate() {
        let Some(value) = entry(sum) else { return Some(blocks.len() * RUN + x) };
        *slot = value;
    }
    None
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_look_up_bits(sums: &[i32], bits: &[u64], len: usize, out: &mut [u8]) -> Option<usize> {
    let is_bad = |sum: i32| sum as u32 as usize >= len;
    let bits: &[u8] = bytemuck::cast_slice(bits);
    let entry = |sum: i32| bits[(sum as u32 >> 3) as usize] >> (sum & 7) & 1;
    let (blocks, rest) = sums.as_chunks::<RUN>();
    let (outs, end) = out[..sums.len()].as_chunks_mut::<RUN>();
    for (k, (sums, out)) in blocks.iter().zip(outs).enumerate() {
        let largest = sums.iter().fold(0, |largest, &sum| largest.max(sum as u32));
        if largest as usize >= len {
            return sums.iter().position(|&sum| is_bad(sum)).map(|x| k * RUN + x);
        }
        if i32::is_run(sums) {
            *out = [entry(sums[0]); RUN];
        } else {
            for (slot, &sum) in out.iter_mut().zip(sums) {
                *slot = entry(sum);
            }
        }
    }
    for (x, (slot, &sum)) in end.iter_mut().zip(rest).enumerate() {
        if is_bad(sum) {
            return Some(blocks.len() * RUN + x);
        }
        *slot = entry(sum);
    }
    None
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_take<L: Entry>(sums: &[i32], lut: &[L], is_far: bool, out: &mut [L]) {
    let entry = |sum: i32| lut[sum as u32 as usize];
    let (blocks, rest) = sums.as_chunks::<RUN>();
    let (outs, end) = out[..sums.len()].as_chunks_mut::<RUN>();
    for (k, (sums, out)) in blocks.iter().zip(outs).enumerate() {
        if is_far {
            fetch(lut, blocks.get(k + AHEAD), 0);
        }
        for (slot, &sum) in out.iter_mut().zip(sums) {
            *slot = entry(sum);
        }
    }
    for (slot, &sum) in end.iter_mut().zip(rest) {
        *slot = entry(sum);
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_take_bits(sums: &[i32], bits: &[u64], out: &mut [u8]) {
    let bytes: &[u8] = bytemuck::cast_slice(bits);
    let byte = |sum: i32| bytes[(sum as u32 >> 3) as usize];
    let (blocks, rest) = sums.as_chunks::<RUN>();
    let (outs, end) = out[..sums.len()].as_chunks_mut::<RUN>();
    for (k, (sums, out)) in blocks.iter().zip(outs).enumerate() {
        fetch(bytes, blocks.get(k + AHEAD), 3);
        for (slot, &sum) in out.iter_mut().zip(sums) {
            *slot = byte(sum);
        }
    }
    for (slot, &sum) in end.iter_mut().zip(rest) {
        *slot = byte(sum);
    }
    // Bytes are loaded one by one; the rest is a loop of its own over all, so that no vector is read that has just been
    // written byte by byte.
    for (slot, &sum) in out.iter_mut().zip(sums) {
        *slot = *slot >> (sum as u8 & 7) & 1;
    }
}

/// Ask for the memory of the entries of a block of sums, less their lowest bits, in the second-level cache: processors wait
/// for more lines of it at a time than of the first.
#[inline(always)]
#[allow(clippy::inline_always)]
fn fetch<L>(table: &[L], sums: Option<&[i32; RUN]>, bits: u32) {
    let Some(sums) = sums else { return };
    for &sum in sums {
        prefetch::<true>(table.as_ptr().wrapping_add((sum as u32 >> bits) as usize).addr());
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_expand<L: Entry>(listed: &[u64], full: &[u64], values: &[L], ends: [L; 2], out: &mut [L]) {
    let mut values = values.iter();
    for (out, (&listed, &full)) in out.chunks_mut(64).zip(listed.iter().zip(full)) {
        match full {
            0 => out.fill(ends[0]),
            u64::MAX => out.fill(ends[1]),
            _ => out.iter_mut().enumerate().for_each(|(x, slot)| *slot = ends[(full >> x & 1) as usize]),
        }
        let mut left = listed;
        while left != 0 {
            // Behind the end of the row there may be bits too.
            if let (Some(slot), Some(&value)) = (out.get_mut(left.trailing_zeros() as usize), values.next()) {
                *slot = value;
            }
            left &= left - 1;
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_look_up_bytes<L: Entry>(sums: &[u8], table: &[L; BYTES], out: &mut [L]) {
    for (slot, &sum) in out.iter_mut().zip(sums) {
        *slot = table[usize::from(sum)];
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_look_up_octets<L: Entry>(
    truths: &[u8],
    is_outside: bool,
    pairs: &mut [u8],
    squares: &mut [u8],
    table: &[L; BYTES],
    out: &mut [L],
) {
    let mut most = [1; 64];
    most[0] = u8::from(!is_outside);
    let mut octets = [0; 64];
    let (pairs, squares) = (pairs.as_chunks_mut::<64>().0, squares.as_chunks_mut::<64>().0);
    let mut outs = out.chunks_mut(64);
    for (k, (pairs, squares)) in pairs.iter_mut().zip(squares).enumerate() {
        let truths = &truths[64 * k..][..65];
        for x in 0..64 {
            let pair = truths[x].min(most[x]) | truths[x + 1].min(1) << 1;
            let square = pairs[x] | pair << 2;
            octets[x] = squares[x] | square << 4;
            (pairs[x], squares[x]) = (pair, square);
        }
        most[0] = 1;
        if let Some(out) = outs.next() {
            plain_look_up_bytes(&octets, table, out);
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn plain_look_up_rows(
    truths: &[u8],
    wide: usize,
    insides: &[u64],
    squares: &mut [u8],
    table: &[u8; BYTES],
    out: &mut [u8],
    _is_large: bool,
) {
    for (p, slot) in out.iter_mut().enumerate() {
        let is_inside = (insides[p / 64] >> (p % 64)) as u8 & 1;
        let pair = |at: usize| truths[at].min(is_inside) | truths[at + 1].min(1) << 1;
        let square = pair(p) | pair(p + wide) << 2;
        *slot = table[usize::from(squares[p] | square << 4)];
        squares[p] = square;
    }
}

/// Eight bytes of 0 or 1 in little-endian order times this: their bits in order in the highest byte.
const GATHER: u64 = 0x0102_0408_1020_4080;

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_pack(entries: &[u8], words: &mut [u64]) -> bool {
    let mut all = 0;
    for (entries, word) in entries.chunks(64).zip(words) {
        let mut eights = [0u8; 64];
        eights[..entries.len()].copy_from_slice(entries);
        let mut bits = 0;
        for (k, eight) in eights.as_chunks::<8>().0.iter().enumerate() {
            let eight = u64::from_le_bytes(*eight);
            all |= eight;
            bits |= (eight & 0x0101_0101_0101_0101).wrapping_mul(GATHER) >> 56 << (8 * k);
        }
        *word = bits.to_le();
    }
    all & !0x0101_0101_0101_0101 == 0
}
