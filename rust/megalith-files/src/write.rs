//! Writing arrays into files: positioned, in blocks, from views of any strides.
//!
//! Contiguous memory goes to the system as it is. Anything else is gathered block by block into scratch memory of about
//! 1 MiB a thread, so that a transposed array never exists twice. Bytes are moved as they are: byte order is the
//! caller's business. The system takes the bytes of one file one call at a time, so threads gain what they gather, not
//! what they write.
//!
//! # Concurrency
//! The file position is never used. Writers of disjoint boxes may run at the same time in any threads and processes:
//! no byte outside of the box is touched, not even rewritten. A writer that is cancelled or killed leaves the box partly
//! written; a file that must not be seen so is a [`Draft`](crate::publish::Draft).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use megalith_core::{Error, Result, SourceView, Workers, blocks};

use crate::runs::{Runs, Segment, Stored};

/// Bytes of a direct write between two looks at the cancel flag.
const PIECE: usize = 4 << 20;

/// Bytes gathered at once.
const BLOCK: usize = 1 << 20;

/// Runs written between two looks at the cancel flag: each is a call.
const RUNS: usize = 1 << 14;

/// Write the items of `source`, in C order, from `offset` on.
///
/// # Errors
/// [`Error::FileWrite`] with what the system said (a full disk: `StorageFull`), [`Error::Cancelled`].
///
/// # Cost
/// One pass; at most 1 MiB of scratch per thread (or one item), none for contiguous memory.
pub fn write_at(workers: &Workers<'_>, file: &File, path: &Path, offset: u64, source: &SourceView<'_>) -> Result<()> {
    let wanted = source.len() as u64 * source.itemsize() as u64;
    let sink = Sink { file, path, offset, wanted, done: AtomicU64::new(0) };
    pieces(workers, source, PIECE, |from, bytes| sink.put(offset.saturating_add(from as u64), bytes))
}

/// Write the items of `source` into the box `ranges` of an array in a file.
///
/// # Shapes
/// One range per axis of the array; `source` has their lengths. No axes, and empty boxes, are fine.
///
/// # Errors
/// [`Error::Shape`] if ranges, array and source do not fit each other; otherwise as [`write_at`].
///
/// # Cost
/// As [`write_at`], with one call for each run of consecutive bytes.
pub fn write_box(
    workers: &Workers<'_>,
    file: &File,
    path: &Path,
    array: &Stored<'_>,
    ranges: &[Range<usize>],
    source: &SourceView<'_>,
) -> Result<()> {
    let runs = Runs::new(array, ranges)?;
    if source.itemsize() != array.itemsize
        || !source.shape().iter().eq(ranges.iter().map(Range::len).collect::<Vec<_>>().iter())
    {
        let got = format!("{:?}, items of {} bytes", source.shape(), source.itemsize());
        let expected = format!("the lengths of {ranges:?}, items of {} bytes", array.itemsize);
        return Err(Error::Shape { name: "source", got, expected });
    }
    let sink = Sink { file, path, offset: runs.start(), wanted: runs.bytes() as u64, done: AtomicU64::new(0) };
    let size = PIECE.min(runs.run().saturating_mul(RUNS));
    pieces(workers, source, size, |from, mut bytes| {
        for Segment { at, len } in runs.segments(from..from + bytes.len()) {
            let (part, rest) = bytes.split_at(len);
            sink.put(at, part)?;
            bytes = rest;
        }
        Ok(())
    })
}

/// Call `put(position of the first byte, bytes)` for pieces of the C-order bytes of `source` of about `size`.
fn pieces(
    workers: &Workers<'_>,
    source: &SourceView<'_>,
    size: usize,
    put: impl Fn(usize, &[u8]) -> Result<()> + Sync,
) -> Result<()> {
    if let Some(bytes) = source.as_bytes() {
        // One after the other: two threads would wait for each other's calls, and take up to twice the time on tmpfs.
        let pieces = blocks::ranges(bytes.len(), size.max(1)).collect();
        return workers.alone().for_each(pieces, |range: Range<usize>| put(range.start, &bytes[range]));
    }
    let (source, itemsize) = (source.clone().coalesce(), source.itemsize());
    let items = (size.min(BLOCK) / itemsize).max(1);
    let pieces = blocks::ranges(source.len(), items).collect();
    workers.for_each_with(pieces, Vec::new, |scratch, range: Range<usize>| {
        scratch.resize(range.len() * itemsize, 0);
        let start = range.start * itemsize;
        source.gather_bytes(range, scratch);
        put(start, scratch)
    })
}

/// A file, and the write that the user asked for and is told about.
struct Sink<'a> {
    file: &'a File,
    path: &'a Path,
    offset: u64,
    wanted: u64,
    /// Bytes written so far by all threads.
    done: AtomicU64,
}

impl Sink<'_> {
    fn put(&self, mut at: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.file.write_at(bytes, at) {
                Ok(0) => return Err(self.error(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    self.done.fetch_add(n as u64, Ordering::Relaxed);
                    bytes = &bytes[n..];
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.error(source)),
            }
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> Error {
        let done = self.done.load(Ordering::Relaxed);
        Error::FileWrite { path: self.path.to_owned(), offset: self.offset, wanted: self.wanted, done, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{boxes, naive_box, numbered, private_tmpfs};
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;

    fn write(threads: usize, bytes: &[u8], offset: u64, source: &SourceView<'_>) -> Vec<u8> {
        let (path, file) = crate::testing::file_of(bytes);
        execute(threads, |_| true, |w| write_at(w, &file, &path, offset, source)).unwrap();
        std::fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap()
    }

    #[test]
    fn contiguous_and_transposed_arrays_are_written_in_c_order() {
        let data: Vec<u32> = (0..1500 * 2100).collect();
        let view = SourceView::from_slice(&data, &[1500, 2100]);
        let mut expected = vec![7; 3];
        expected.extend(data.iter().flat_map(|v| v.to_ne_bytes()));
        let mut turned = vec![7; 3];
        turned.extend((0..2100).flat_map(|x| (0..1500).flat_map(move |y| (y * 2100 + x as u32).to_ne_bytes())));
        for threads in [1, 2] {
            assert!(write(threads, &[7; 3], 3, &view) == expected);
            assert!(write(threads, &[7; 3], 3, &view.clone().permute(&[1, 0])) == turned);
        }
    }

    #[test]
    fn scalars_and_empty_arrays_are_written() {
        assert_eq!(write(1, b"ab", 1, &SourceView::from_slice(&[0x6363_u16], &[])), b"acc");
        assert_eq!(write(1, b"ab", 1, &SourceView::from_slice::<u16>(&[], &[4, 0])), b"ab");
    }

    #[test]
    fn a_file_that_is_not_open_for_writing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        let file = File::open(&path).unwrap();
        let result = execute_here(|w| write_at(w, &file, &path, 0, &SourceView::from_slice(&[1u8; 5], &[5])));
        assert!(matches!(result, Err(Error::FileWrite { wanted: 5, done: 0, offset: 0, .. })), "{result:?}");
    }

    #[test]
    fn a_full_file_system_is_an_error_that_counts() {
        private_tmpfs("write::tests::a_full_file_system_is_an_error_that_counts", "1m", |dir| {
            let path = dir.join("a");
            let file = File::create(&path).unwrap();
            let data = vec![1u8; 3 << 20];
            let result = execute_here(|w| write_at(w, &file, &path, 0, &SourceView::from_slice(&data, &[3 << 20])));
            let Err(Error::FileWrite { done, wanted, source, .. }) = result else { panic!("{result:?}") };
            assert_eq!((done, wanted), (1 << 20, 3 << 20));
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        });
    }

    #[test]
    fn a_box_of_another_shape_is_an_error() {
        let (path, file) = crate::testing::file_of(&[0; 12]);
        let array = Stored { offset: 0, shape: &[3, 4], itemsize: 1 };
        for shape in [&[8][..], &[4, 2], &[2, 4, 1]] {
            let source = SourceView::from_slice(&[1u8; 8], shape);
            let result = execute_here(|w| write_box(w, &file, &path, &array, &[0..2, 0..4], &source));
            assert!(matches!(result, Err(Error::Shape { name: "source", .. })));
        }
    }

    proptest! {
        #[test]
        fn a_box_is_written_and_nothing_else((offset, shape, _, ranges) in boxes(), turned in any::<bool>()) {
            let itemsize = 2;
            let before = numbered(offset + shape.iter().product::<usize>() * itemsize + 5);
            let lengths: Vec<usize> = ranges.iter().map(Range::len).collect();
            let values: Vec<u16> = (0..lengths.iter().product::<usize>()).map(|i| (i as u16).wrapping_mul(257)).collect();
            // The same box from contiguous memory, or with its axes in reverse order in memory.
            let axes: Vec<usize> = (0..shape.len()).rev().collect();
            let memory: Vec<usize> = axes.iter().map(|&a| lengths[a]).collect();
            let source = if turned {
                SourceView::from_slice(&values, &memory).permute(&axes)
            } else {
                SourceView::from_slice(&values, &lengths)
            };
            let mut expected_box = vec![0; values.len() * itemsize];
            source.gather_bytes(0..values.len(), &mut expected_box);
            let (path, file) = crate::testing::file_of(&before);
            let array = Stored { offset: offset as u64, shape: &shape, itemsize };
            execute(2, |_| true, |w| write_box(w, &file, &path, &array, &ranges, &source)).unwrap();
            let mut after = vec![0; before.len()];
            file.read_exact_at(&mut after, 0).unwrap();
            prop_assert_eq!(naive_box(&after, offset, &shape, itemsize, &ranges), expected_box);
            // Undo the box: what is left must be what was there.
            let old = naive_box(&before, offset, &shape, itemsize, &ranges);
            let old = SourceView::from_slice(&old, &[lengths.as_slice(), &[itemsize]].concat());
            let bytes = [shape.as_slice(), &[itemsize]].concat();
            let array = Stored { offset: offset as u64, shape: &bytes, itemsize: 1 };
            let ranges: Vec<_> = ranges.into_iter().chain(std::iter::once(0..itemsize)).collect();
            execute(1, |_| true, |w| write_box(w, &file, &path, &array, &ranges, &old)).unwrap();
            file.read_exact_at(&mut after, 0).unwrap();
            prop_assert_eq!(after, before);
        }
    }
}
