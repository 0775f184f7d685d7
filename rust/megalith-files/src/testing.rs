//! What the tests of this crate share: small files, a naive reader, and real but private file systems.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

/// Bytes that tell where they are.
pub(crate) fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A file without a name that holds `bytes`, and a path to speak of.
pub(crate) fn file_of(bytes: &[u8]) -> (PathBuf, File) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    (PathBuf::from("test.npy"), file)
}

/// The box of an array, byte by byte.
pub(crate) fn naive_box(
    file: &[u8],
    offset: usize,
    shape: &[usize],
    itemsize: usize,
    ranges: &[Range<usize>],
) -> Vec<u8> {
    let mut starts = vec![0];
    for (range, &n) in ranges.iter().zip(shape) {
        starts = starts.iter().flat_map(|&s| range.clone().map(move |i| s * n + i)).collect();
    }
    starts.iter().flat_map(|&s| &file[offset + s * itemsize..][..itemsize]).copied().collect()
}

/// Offset, shape, item size and ranges of a box.
pub(crate) fn boxes() -> impl Strategy<Value = (usize, Vec<usize>, usize, Vec<Range<usize>>)> {
    let range = |n: usize| prop_oneof![Just(0..n), (0..=n, 0..=n).prop_map(|(a, b)| a.min(b)..a.max(b))];
    let axis = prop_oneof![5 => 0_usize..7, 1 => 60_usize..90];
    prop::collection::vec(axis, 0..5).prop_flat_map(move |shape| {
        let ranges = shape.iter().map(|&n| range(n)).collect::<Vec<_>>();
        (0_usize..300, Just(shape), 1_usize..19, ranges)
    })
}

/// This test program again, with one test.
pub(crate) fn rerun(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    command
}

/// Run `body` in a file system in memory of the given size that only this test sees.
///
/// `test` is the full name of the calling test, which is run again by itself in a mount namespace.
pub(crate) fn private_tmpfs(test: &str, size: &str, body: impl FnOnce(&Path)) {
    const MOUNT: &str = "MEGALITH_TEST_MOUNT";
    if let Some(dir) = std::env::var_os(MOUNT) {
        return body(Path::new(&dir));
    }
    if std::env::var_os("MEGALITH_NO_MOUNT").is_some() {
        return eprintln!("{test}: not run, MEGALITH_NO_MOUNT is set");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=$1 none \"$2\" && exec \"$3\" \"$4\" --exact --nocapture";
    let namespaces = if rustix::process::getuid().is_root() { "-m" } else { "-rm" };
    let mut command = Command::new("unshare");
    command.args([namespaces, "sh", "-c", script, "sh", size]).arg(dir.path());
    command.arg(std::env::current_exe().unwrap()).arg(test).env(MOUNT, dir.path());
    let output = command.output().expect("unshare(1), for a mount namespace; or set MEGALITH_NO_MOUNT");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that no test has would pass with zero tests.
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "in a private mount (MEGALITH_NO_MOUNT skips it):\n{out}\n{err}");
}
