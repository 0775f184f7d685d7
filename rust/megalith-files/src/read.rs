//! Reading arrays from files: positioned, in parallel, never through a mapping.
//!
//! A mapping of a file on a network disk reads page by page, dies of SIGBUS when the file shrinks and grows the resident
//! memory of the process. `pread` into the buffer where the bytes are wanted has none of this, and several threads copy
//! from the page cache faster than one.
//!
//! # Boxes
//! A box is read run by run (see `runs.rs`). Where runs are shorter than a page a call for each would cost more than the
//! bytes, so neighbours with small gaps are read as one span into scratch memory and picked apart.
//!
//! # Concurrency
//! The file position is never used: any number of threads may read one `File`. A file written at the same time gives a
//! mixture of old and new bytes; a file that shrinks gives [`Error::FileRead`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use megalith_core::{Error, Result, Workers};

use crate::runs::{Runs, Segment, Stored};

/// Bytes a thread reads before it looks at the cancel flag: calls for more take less time for each byte, as long as
/// there are some for each thread.
const PIECE: Range<usize> = 4 << 20..16 << 20;

/// Runs a thread reads before it looks at the cancel flag: each may be a call.
const RUNS: usize = 1 << 14;

/// Runs of fewer bytes are read together with the gaps between them, ...
const SHORT: usize = 4 << 10;

/// ... as long as a gap is no longer than this ...
const GAP: u64 = 8 << 10;

/// ... and the whole no longer than this.
const SPAN: usize = 1 << 20;

fn piece(workers: &Workers<'_>, bytes: usize) -> usize {
    (bytes / (8 * workers.threads())).clamp(PIECE.start, PIECE.end)
}

/// Fill `out` with the bytes at `offset`.
///
/// # Errors
/// [`Error::FileRead`] if the file ends too early, [`Error::Io`] if the system refuses, [`Error::Cancelled`].
///
/// # Cost
/// One pass, no memory beside `out`.
pub fn read_at(workers: &Workers<'_>, file: &File, path: &Path, offset: u64, out: &mut [u8]) -> Result<()> {
    let source = Source { file, path, offset, wanted: out.len() as u64 };
    let size = piece(workers, out.len());
    let pieces = out.chunks_mut(size).enumerate().collect();
    workers.for_each(pieces, |(i, piece)| source.fill(offset.saturating_add((i * size) as u64), piece))
}

/// Fill `out` with the box `ranges` of an array in a file, in C order.
///
/// # Shapes
/// One range per axis of the array; `out` has the bytes of the box. No axes, and empty boxes, are fine.
///
/// # Errors
/// [`Error::Shape`] if ranges, array and `out` do not fit each other; otherwise as [`read_at`].
///
/// # Cost
/// One pass; at most 1 MiB of scratch per thread. Short runs cost the bytes of the gaps between them.
pub fn read_box(
    workers: &Workers<'_>,
    file: &File,
    path: &Path,
    array: &Stored<'_>,
    ranges: &[Range<usize>],
    out: &mut [u8],
) -> Result<()> {
    let runs = Runs::new(array, ranges)?;
    if out.len() != runs.bytes() {
        let expected = format!("the {} bytes of the box", runs.bytes());
        return Err(Error::Shape { name: "out", got: format!("{} bytes", out.len()), expected });
    }
    if out.is_empty() {
        return Ok(());
    }
    let source = Source { file, path, offset: runs.start(), wanted: runs.extent() };
    let size = piece(workers, out.len()).min(runs.run().saturating_mul(RUNS));
    let pieces = out.chunks_mut(size).enumerate().collect();
    workers.for_each_with(pieces, Vec::new, |scratch, (i, piece)| {
        let segments = runs.segments(i * size..i * size + piece.len());
        if runs.run() >= SHORT {
            read_runs(&source, segments, piece)
        } else {
            read_spans(&source, segments, piece, scratch)
        }
    })
}

/// Each segment by a call of its own.
fn read_runs(source: &Source<'_>, segments: impl Iterator<Item = Segment>, mut out: &mut [u8]) -> Result<()> {
    for Segment { at, len } in segments {
        let (part, rest) = out.split_at_mut(len);
        source.fill(at, part)?;
        out = rest;
    }
    Ok(())
}

/// Segments with small gaps by one call for many.
fn read_spans(
    source: &Source<'_>,
    segments: impl Iterator<Item = Segment>,
    mut out: &mut [u8],
    scratch: &mut Vec<u8>,
) -> Result<()> {
    let mut group: Vec<Segment> = Vec::new();
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        group.push(segment);
        let (first, end) = (group[0].at, segment.at + segment.len as u64);
        if segments.peek().is_some_and(|next| next.at - end <= GAP && next.at + next.len as u64 - first <= SPAN as u64)
        {
            continue;
        }
        let picked: usize = group.iter().map(|s| s.len).sum();
        let (part, rest) = out.split_at_mut(picked);
        let span = (end - first) as usize;
        if span == picked {
            source.fill(first, part)?;
        } else {
            if scratch.len() < span {
                scratch.resize(span, 0);
            }
            source.fill(first, &mut scratch[..span])?;
            pick(&scratch[..span], &group, part);
        }
        out = rest;
        group.clear();
    }
    Ok(())
}

/// The segments of a span, one after the other.
fn pick(span: &[u8], segments: &[Segment], mut out: &mut [u8]) {
    let first = segments[0].at;
    for &Segment { at, len } in segments {
        let (part, rest) = out.split_at_mut(len);
        let from = (at - first) as usize;
        part.copy_from_slice(&span[from..from + len]);
        out = rest;
    }
}

/// A file, and the read that the user asked for and is told about.
struct Source<'a> {
    file: &'a File,
    path: &'a Path,
    offset: u64,
    wanted: u64,
}

impl Source<'_> {
    /// Fill `out` from `at` on.
    fn fill(&self, at: u64, mut out: &mut [u8]) -> Result<()> {
        let mut at = at;
        while !out.is_empty() {
            match self.file.read_at(out, at) {
                Ok(0) => return Err(self.short(at)),
                Ok(n) => {
                    out = &mut out[n..];
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { path: self.path.to_owned(), source }),
            }
        }
        Ok(())
    }

    /// The error of a file that ended at or before `at`, the same whichever thread met the end first.
    fn short(&self, at: u64) -> Error {
        let end = self.file.metadata().map_or(at, |m| m.len().min(at));
        let done = end.saturating_sub(self.offset);
        Error::FileRead { path: self.path.to_owned(), offset: self.offset, wanted: self.wanted, done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{boxes, naive_box, numbered};
    use megalith_core::pool::{execute, execute_here};
    use proptest::prelude::*;

    const SIZE: usize = PIECE.start;

    #[test]
    fn pieces_arrive_where_they_belong_for_any_number_of_threads() {
        let bytes = numbered(2 * SIZE + 12_345);
        let (path, file) = crate::testing::file_of(&bytes);
        for threads in [1, 2, 8] {
            for (offset, len) in [(0, bytes.len()), (1, bytes.len() - 1), (77, SIZE), (78, SIZE + 1), (5, 0)] {
                let mut out = vec![0; len];
                execute(threads, |_| true, |w| read_at(w, &file, &path, offset as u64, &mut out)).unwrap();
                assert!(out == bytes[offset..offset + len]);
            }
        }
    }

    #[test]
    fn a_short_file_is_an_error_that_counts_the_bytes_there_are() {
        let (path, file) = crate::testing::file_of(&numbered(SIZE + 1000));
        for threads in [1, 8] {
            for (offset, done) in [(0, SIZE + 1000), (500, SIZE + 500), (9 * SIZE, 0)] {
                let mut out = vec![0; 3 * SIZE];
                let result = execute(threads, |_| true, |w| read_at(w, &file, &path, offset as u64, &mut out));
                let Err(Error::FileRead { offset: at, wanted, done: got, .. }) = result else { panic!("{result:?}") };
                assert_eq!((at, wanted, got), (offset as u64, 3 * SIZE as u64, done as u64));
            }
        }
        let array = Stored { offset: 0, shape: &[SIZE, 2], itemsize: 1 };
        let mut out = vec![0; SIZE];
        let result = execute(2, |_| true, |w| read_box(w, &file, &path, &array, &[0..SIZE, 1..2], &mut out));
        let Err(Error::FileRead { offset: 1, wanted, done, .. }) = result else { panic!("{result:?}") };
        assert_eq!((wanted, done), (2 * SIZE as u64 - 1, SIZE as u64 + 999));
    }

    #[test]
    fn an_offset_beyond_every_file_is_an_error() {
        let (path, file) = crate::testing::file_of(b"abc");
        let result = execute_here(|w| read_at(w, &file, &path, u64::MAX, &mut [0; 2]));
        assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    }

    #[test]
    fn a_directory_is_the_error_of_the_system() {
        let file = File::open("/").unwrap();
        let result = execute_here(|w| read_at(w, &file, Path::new("/"), 0, &mut [0; 2]));
        assert!(matches!(result, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::IsADirectory));
    }

    #[test]
    fn columns_are_picked_out_of_spans_longer_than_the_scratch() {
        let shape = [3000, 1000];
        let bytes = numbered(3_000_000);
        let (path, file) = crate::testing::file_of(&bytes);
        for ranges in [[0..3000, 7..9], [5..2999, 0..1], [0..3000, 1..999]] {
            let expected = naive_box(&bytes, 0, &shape, 1, &ranges);
            let mut out = vec![0; expected.len()];
            let array = Stored { offset: 0, shape: &shape, itemsize: 1 };
            execute(2, |_| true, |w| read_box(w, &file, &path, &array, &ranges, &mut out)).unwrap();
            assert!(out == expected);
        }
    }

    proptest! {
        #[test]
        fn a_box_is_what_the_naive_reader_reads((offset, shape, itemsize, ranges) in boxes()) {
            let bytes = numbered(offset + shape.iter().product::<usize>() * itemsize);
            let (path, file) = crate::testing::file_of(&bytes);
            let expected = naive_box(&bytes, offset, &shape, itemsize, &ranges);
            let array = Stored { offset: offset as u64, shape: &shape, itemsize };
            for threads in [1, 3] {
                let mut out = vec![0; expected.len()];
                execute(threads, |_| true, |w| read_box(w, &file, &path, &array, &ranges, &mut out)).unwrap();
                prop_assert_eq!(&out, &expected);
            }
        }
    }
}
