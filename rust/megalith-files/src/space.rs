//! How much can be stored, asked before anything is: a full disk is an error at the start, never SIGBUS and never the
//! OOM killer.
//!
//! `ftruncate` beyond the free space succeeds, and the process dies at its first store into the mapping. `fallocate`
//! says ENOSPC instead, except where the file system lives in memory and is larger than the memory there is: then the
//! kernel makes room by killing other processes. So memory is looked at first (see [`Space::room`]), and `fallocate`
//! is called only for what fits.
//!
//! # Limits
//! Space is looked at, not owned, until `fallocate` has returned: others may take it in between, and pages that the
//! system promised may still be taken by the OOM killer if everybody fills memory at once. Copy-on-write file systems
//! (btrfs, ZFS) reserve less firmly than others.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use megalith_core::{Error, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::memory;

/// Memory that is left to everybody else, unless 5 % of what is available are more.
const MEMORY_RESERVE: u64 = 256 << 20;

/// What `fallocate` is asked for at once, at first.
const STEP: u64 = 1 << 30;

/// What a file system, the machine and the control group have left; None where it is unlimited or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the file system that this user may fill.
    pub free: Option<u64>,
    /// Whether files there occupy memory (tmpfs, ramfs).
    pub memory_backed: bool,
    /// Memory that can be had without swapping (`MemAvailable`).
    pub memory_available: Option<u64>,
    /// Memory up to the tightest limit of this process's control groups, counting cached file pages as free, since the
    /// kernel drops them before it refuses.
    pub cgroup_headroom: Option<u64>,
}

impl Space {
    /// Bytes that may be stored: the free space; in memory, no more than memory has left after a reserve of 256 MiB or
    /// 5 %, whichever is more, nor than the control group allows.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        if !self.memory_backed {
            return self.free;
        }
        let memory = self.memory_available.map(|bytes| bytes.saturating_sub(MEMORY_RESERVE.max(bytes / 20)));
        [self.free, memory, self.cgroup_headroom].into_iter().flatten().min()
    }
}

/// The space where `path` is, which must exist.
///
/// # Errors
/// [`Error::Io`] if it does not exist or cannot be looked at.
pub fn available(path: &Path) -> Result<Space> {
    let file_system = || Ok((free(&rustix::fs::statvfs(path)?), is_memory(rustix::fs::statfs(path)?.f_type as u64)));
    let (free, memory_backed) = file_system().map_err(|e: Errno| io_error(path, e.into()))?;
    Ok(with_memory(free, memory_backed))
}

/// What a machine has room for in any case, or says so when it is written.
const SMALL: u64 = 1 << 20;

/// Whether `bytes` bytes may be stored in the directory `dir`, asked before anything is written; for writers that do
/// not [`reserve`], since write(2) itself says when a file system is full. Few bytes are not asked for: a look takes
/// longer than writing them.
///
/// # Errors
/// [`Error::FileWrite`] (`StorageFull`, nothing written) about `path`, the file to be, if that is more than
/// [`Space::room`]. [`Error::Io`] if the directory cannot be looked at.
pub fn check_room(dir: &Path, path: &Path, bytes: u64) -> Result<()> {
    if bytes < SMALL {
        return Ok(());
    }
    if available(dir)?.room().is_some_and(|room| room < bytes) {
        let source = Errno::NOSPC.into();
        return Err(Error::FileWrite { path: path.to_owned(), offset: 0, wanted: bytes, done: 0, source });
    }
    Ok(())
}

/// Give the file `bytes` bytes that are really there, so that stores into a mapping of them cannot raise SIGBUS.
///
/// What the file held before is kept; if there is no room its length is what it was. Where the file system cannot
/// reserve, zeros are written from the end of the file on (holes before it stay holes).
///
/// # Errors
/// [`Error::FileWrite`]: without asking the file system if more than [`Space::room`] is wanted (`StorageFull`, nothing
/// done), otherwise with what the system said. [`Error::Io`] if the file cannot be looked at.
pub fn reserve(file: &File, path: &Path, bytes: u64) -> Result<()> {
    let before = file.metadata().map_err(|e| io_error(path, e))?;
    // `st_blocks` counts 512 bytes each, whatever the file system's blocks are.
    let missing = bytes.saturating_sub(before.blocks() * 512);
    if missing == 0 && before.len() >= bytes {
        return Ok(());
    }
    let space = space_of(file).map_err(|e| io_error(path, e))?;
    let failed = |done, source| {
        // Gives back what was taken; the error is worth more than a second one.
        let _ = file.set_len(before.len());
        Error::FileWrite { path: path.to_owned(), offset: 0, wanted: bytes, done, source }
    };
    let full = || failed(0, Errno::NOSPC.into());
    let is_short = |wanted| space.room().is_some_and(|room| room < wanted);
    // Not only in memory: [`allocate`] goes step by step, and would fill a disk, for everybody, before it says no.
    if is_short(missing) {
        return Err(full());
    }
    match allocate(file, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            if is_short(bytes.saturating_sub(before.len())) {
                return Err(full());
            }
            write_zeros(file, before.len(), bytes).map_err(|(done, source)| failed(done, source))
        }
        Err(e) => Err(failed(0, e.into())),
    }
}

/// `fallocate`, however often a signal interrupts it: tmpfs undoes an interrupted call, so each next one asks for less.
fn allocate(file: &File, bytes: u64) -> std::result::Result<(), Errno> {
    let (mut at, mut step) = (0, STEP);
    while at < bytes {
        let len = step.min(bytes - at);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), at, len) {
            Ok(()) => at += len,
            Err(Errno::INTR) => step = (step / 2).max(1 << 20),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Zeros from `from` to `to`; the error comes with the bytes written.
fn write_zeros(file: &File, from: u64, to: u64) -> std::result::Result<(), (u64, io::Error)> {
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let len = (to - at).min(zeros.len() as u64) as usize;
        match file.write_at(&zeros[..len], at) {
            Ok(0) => return Err((at - from, io::ErrorKind::WriteZero.into())),
            Ok(n) => at += n as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((at - from, e)),
        }
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

fn space_of(file: &File) -> io::Result<Space> {
    let (volume, system) = (rustix::fs::fstatvfs(file)?, rustix::fs::fstatfs(file)?);
    Ok(with_memory(free(&volume), is_memory(system.f_type as u64)))
}

fn with_memory(free: Option<u64>, memory_backed: bool) -> Space {
    Space { free, memory_backed, memory_available: memory::available(), cgroup_headroom: memory::cgroup_headroom() }
}

/// File systems without a limit (ramfs, tmpfs of size 0) say that they have no blocks at all.
fn free(volume: &rustix::fs::StatVfs) -> Option<u64> {
    (volume.f_blocks > 0).then(|| volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Whether `f_type` is tmpfs or ramfs.
fn is_memory(f_type: u64) -> bool {
    cfg!(target_os = "linux") && matches!(f_type & 0xffff_ffff, 0x0102_1994 | 0x8584_58f6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::private_tmpfs;

    #[test]
    fn a_full_file_system_is_an_error_before_any_byte_is_written() {
        private_tmpfs("space::tests::a_full_file_system_is_an_error_before_any_byte_is_written", "2m", |dir| {
            let path = dir.join("a");
            let file = File::create(&path).unwrap();
            let result = reserve(&file, &path, 3 << 20);
            let Err(Error::FileWrite { wanted, done: 0, source, .. }) = result else { panic!("{result:?}") };
            assert_eq!((wanted, source.kind()), (3 << 20, io::ErrorKind::StorageFull));
            assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().blocks()), (0, 0));
            reserve(&file, &path, 1 << 20).unwrap();
            assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().blocks() * 512), (1 << 20, 1 << 20));
            // What is there counts: 2 MiB fit in 2 MiB although 1 MiB is free, twice.
            for _ in 0..2 {
                reserve(&file, &path, 2 << 20).unwrap();
                assert_eq!(file.metadata().unwrap().len(), 2 << 20);
            }
            assert_eq!(available(dir).unwrap().free, Some(0));
            assert!(available(dir).unwrap().memory_backed);
        });
    }

    #[test]
    fn what_a_disk_cannot_hold_is_refused_before_any_of_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = File::create(&path).unwrap();
        let start = std::time::Instant::now();
        let Err(Error::FileWrite { source, done: 0, .. }) = reserve(&file, &path, 1 << 60) else { panic!() };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        // Filling a disk of any size takes longer, by thousands of calls.
        assert!(start.elapsed() < std::time::Duration::from_millis(500));
    }

    #[test]
    fn a_failed_reservation_leaves_the_file_as_it_was() {
        private_tmpfs("space::tests::a_failed_reservation_leaves_the_file_as_it_was", "2m", |dir| {
            let path = dir.join("a");
            std::fs::write(&path, "abc").unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            assert!(matches!(reserve(&file, &path, 4 << 20), Err(Error::FileWrite { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), b"abc");
            let (done, error) = write_zeros(&file, 3, 4 << 20).unwrap_err();
            assert_eq!((done, error.kind()), ((2 << 20) - 3, io::ErrorKind::StorageFull));
            // Beyond the free space the file system's own refusal leaves the length it found, too.
            file.set_len(3).unwrap();
            assert_eq!(allocate(&file, 4 << 20), Err(Errno::NOSPC));
            assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        });
    }

    #[test]
    fn zeros_are_written_after_what_is_there() {
        let (_, file) = crate::testing::file_of(b"abc");
        write_zeros(&file, 3, (1 << 20) + 7).unwrap();
        let mut out = vec![1; (1 << 20) + 7];
        file.read_exact_at(&mut out, 0).unwrap();
        assert!(out[..3] == *b"abc" && out[3..].iter().all(|&b| b == 0));
    }

    #[test]
    fn a_file_system_without_fallocate_gets_zeros() {
        let ramfs = "space::tests::a_file_system_without_fallocate_gets_zeros";
        private_tmpfs(ramfs, "1m", |dir| {
            // ramfs has no fallocate and no limit; what is written here is 100 kB.
            let mount = std::process::Command::new("mount").args(["-t", "ramfs", "none"]).arg(dir).status().unwrap();
            assert!(mount.success());
            let path = dir.join("a");
            let file = File::create(&path).unwrap();
            assert_eq!(allocate(&file, 100_000), Err(Errno::OPNOTSUPP));
            reserve(&file, &path, 100_000).unwrap();
            assert!(std::fs::read(&path).unwrap() == vec![0; 100_000]);
            let space = available(dir).unwrap();
            assert_eq!((space.free, space.memory_backed), (None, true));
            assert!(matches!(reserve(&file, &path, 1 << 60), Err(Error::FileWrite { done: 0, .. })));
        });
    }

    #[test]
    fn room_in_memory_is_the_least_of_all_limits() {
        let space = Space { free: Some(80 << 30), memory_backed: true, memory_available: None, cgroup_headroom: None };
        assert_eq!(space.room(), Some(80 << 30));
        let space = Space { memory_available: Some(20 << 30), ..space };
        assert_eq!(space.room(), Some(19 << 30));
        assert_eq!(Space { memory_available: Some(1 << 30), ..space }.room(), Some(768 << 20));
        assert_eq!(Space { memory_available: Some(1 << 20), ..space }.room(), Some(0));
        assert_eq!(Space { cgroup_headroom: Some(5), ..space }.room(), Some(5));
        assert_eq!(Space { memory_backed: false, cgroup_headroom: Some(5), ..space }.room(), Some(80 << 30));
        assert_eq!(Space { free: None, memory_available: None, ..space }.room(), None);
    }

    #[test]
    fn room_is_checked_before_anything_is_written() {
        private_tmpfs("space::tests::room_is_checked_before_anything_is_written", "2m", |dir| {
            let path = dir.join("a");
            check_room(dir, &path, 2 << 20).unwrap();
            let result = check_room(dir, &path, (2 << 20) + 1);
            let Err(Error::FileWrite { path: named, wanted, done: 0, source, .. }) = result else {
                panic!("{result:?}")
            };
            assert_eq!((named, wanted, source.kind()), (path, (2 << 20) + 1, io::ErrorKind::StorageFull));
            let missing = dir.join("missing");
            assert!(matches!(check_room(&missing, &missing.join("a"), SMALL), Err(Error::Io { .. })));
            check_room(&missing, &missing.join("a"), SMALL - 1).unwrap();
        });
    }

    #[test]
    fn space_is_that_of_an_existing_path() {
        let space = available(Path::new("/")).unwrap();
        assert!(space.free.is_some() && !space.memory_backed);
        assert_eq!(space.memory_available.is_some(), cfg!(target_os = "linux"));
        assert!(matches!(available(Path::new("/no/such")), Err(Error::Io { .. })));
    }
}
