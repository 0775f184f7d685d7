//! Files mapped into memory: published ones for reading, drafts for writing.
//!
//! A mapping outlives the name of its file: [`list::remove`](crate::list::remove) takes the name, the memory goes with
//! the last mapping of any process. There is no close.
//!
//! # The contract
//! A published file is never resized and never rewritten. It is complete before it has its name
//! ([`Draft`](megalith_files::Draft)), it is removed by unlinking only, and a new value is a new file. This is what
//! makes [`Segment::as_slice`] sound, and what keeps readers from SIGBUS. Every writer of megalith keeps to it; files
//! that others put there are read under the same promise, and only those of the same user unless the caller trusts
//! others too.
//!
//! What is written through a mapping was reserved before ([`space::reserve`](megalith_files::space::reserve)), so no
//! store can fail.
//!
//! # Concurrency
//! Segments may be used by any number of threads, and by children of a fork.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use megalith_core::{Error, Result};
use megalith_files::{Draft, space};
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Where the bytes of an empty file are: nowhere, at an address fit for every item.
const NOWHERE: usize = 64;

/// Which file it is, and which state of it: a name that was freed and made again has another.
///
/// Who still has a mapping keeps the inode from being given to another file, so equal identities are the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub dev: u64,
    /// The number of the file on it.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Identity {
    /// The identity of what is at `path`, links not followed; None if nothing is.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be looked at.
    ///
    /// # Cost
    /// One call of the system, about a microsecond.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        // The standard library asks for the time of creation too, which takes half as long again.
        match rustix::fs::lstat(path) {
            Ok(found) => Ok(Some(Self::from(&found))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed(path, e.into())),
        }
    }
}

impl From<&Stat> for Identity {
    // Other systems have other types of numbers.
    #[allow(clippy::unnecessary_cast)]
    fn from(found: &Stat) -> Self {
        // Wrapping: the time of a file is whatever its owner said.
        let mtime_ns = (found.st_mtime as i64).wrapping_mul(1_000_000_000).wrapping_add(found.st_mtime_nsec as i64);
        Self { dev: found.st_dev as u64, ino: found.st_ino as u64, size: found.st_size as u64, mtime_ns }
    }
}

/// A file in memory.
#[derive(Debug)]
pub struct Segment {
    /// Device and number of the file.
    file: (u64, u64),
    /// Its name and its state since it was published.
    published: OnceLock<(PathBuf, Identity)>,
    is_foreign: bool,
    /// None for an empty file, which cannot be mapped.
    mapping: Option<MmapRaw>,
    is_writable: bool,
    sealed: AtomicBool,
}

impl Segment {
    /// The published file at `path`, for reading; None if there is none.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not a regular file (a symbolic link is not followed); [`Error::Ownership`] if it
    /// belongs to another user, unless `trust_owner`; [`Error::Io`] for other refusals of the system.
    ///
    /// # Cost
    /// Four calls of the system, whatever the size; pages are mapped when they are first read.
    pub fn open(path: &Path, trust_owner: bool) -> Result<Option<Self>> {
        // Not waiting for the other end of a pipe that somebody put there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => {
                // "Too many levels of symbolic links", "no such device" and "permission denied" are true, but say less
                // than what is there.
                return Err(match rustix::fs::lstat(path).map(|found| check(path, &found, trust_owner)) {
                    Ok(Err(reason)) => reason,
                    _ => failed(path, e.into()),
                });
            }
        };
        let found = rustix::fs::fstat(&file).map_err(|e| failed(path, e.into()))?;
        check(path, &found, trust_owner)?;
        let identity = Identity::from(&found);
        let mapping = match length(identity.size)? {
            0 => None,
            len => Some(MmapOptions::new().len(len).map_raw_read_only(&file).map_err(|e| failed(path, e))?),
        };
        Ok(Some(Self {
            file: (identity.dev, identity.ino),
            published: OnceLock::from((path.to_owned(), identity)),
            is_foreign: is_foreign(&found),
            mapping,
            is_writable: false,
            sealed: AtomicBool::new(true),
        }))
    }

    /// The first `len` bytes of a draft's file, for writing. Bytes that are not reserved yet are.
    ///
    /// # Errors
    /// [`Error::FileWrite`] if there is no room; [`Error::Io`] if the system refuses to map it.
    pub fn writable(file: &File, len: usize) -> Result<Self> {
        // Such a file has no name, but errors want one.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let refused = |e| failed(&path, e);
        // A store beyond what the file system has promised would be SIGBUS. This is one look if all is there.
        space::reserve(file, &path, len as u64)?;
        let mapping = match len {
            0 => None,
            len => Some(MmapOptions::new().len(len).map_raw(file).map_err(refused)?),
        };
        if let Some(mapping) = &mapping {
            // All of it will be written: one call in place of a fault at each page, which takes twice as long. Systems
            // before Linux 5.14 do not know it.
            #[cfg(target_os = "linux")]
            let _ = mapping.advise(Advice::PopulateWrite);
        }
        let found = rustix::fs::fstat(file).map_err(|e| refused(e.into()))?;
        let identity = Identity::from(&found);
        Ok(Self {
            file: (identity.dev, identity.ino),
            published: OnceLock::new(),
            is_foreign: is_foreign(&found),
            mapping,
            is_writable: true,
            sealed: AtomicBool::new(false),
        })
    }

    /// `len` zero bytes that no name leads to, in a file in [the user's own directory](crate::directory::own) in `dir`,
    /// for writing. Their memory returns with the last mapping.
    ///
    /// # Errors
    /// [`Error::FileWrite`] if there is no room; [`Error::Io`] if `dir` is missing or denied, and what
    /// [`directory::own`](crate::directory::own) refuses.
    pub fn anonymous(dir: &Path, len: u64) -> Result<Self> {
        // Where there are no files without a name this draft has one, until it is dropped.
        let draft = Draft::create_in(&dir.join("anonymous"), &crate::directory::own(dir)?, len, 0o600, true)?;
        Self::writable(draft.file(), length(len)?)
    }

    /// Where the file was published; None before it is, and for one that never has a name.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.published.get().map(|(path, _)| path.as_path())
    }

    /// Which file it is, once it is published.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.published.get().map(|&(_, identity)| identity)
    }

    /// Whether its name still leads to it.
    ///
    /// # Cost
    /// One call of the system.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.published.get().is_some_and(|(path, identity)| Identity::of(path).is_ok_and(|at| at == Some(*identity)))
    }

    /// Whether it belonged to another user when it was mapped.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.as_ref().map_or(0, MmapRaw::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mapping.is_none()
    }

    /// The first byte. Aligned to a page, or of an empty file to 64 bytes; valid for reading as long as the segment is
    /// there.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.mapping.as_ref().map_or(std::ptr::without_provenance(NOWHERE), MmapRaw::as_ptr)
    }

    /// The first byte, valid for writing; None if the segment is for reading, or [sealed](Segment::seal).
    #[must_use]
    pub fn as_mut_ptr(&self) -> Option<*mut u8> {
        if self.is_sealed() {
            return None;
        }
        Some(self.mapping.as_ref().map_or(std::ptr::without_provenance_mut(NOWHERE), MmapRaw::as_mut_ptr))
    }

    /// The bytes of a published file; None of one mapped for writing, sealed or not, since somebody may still do so.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn as_slice(&self) -> Option<&[u8]> {
        debug_assert!(
            self.is_writable || self.identity().is_some_and(|identity| identity.size == self.len() as u64),
            "what is mapped for reading is the file as it was found, all of it"
        );
        // SAFETY: the pointer is that of a live mapping of `len` bytes, all of them inside of the file as `open`
        // found it, or for no bytes aligned and not null. The borrow keeps the mapping. Nobody writes: this one
        // is read-only, and published files are neither rewritten nor resized (the contract above).
        (!self.is_writable).then(|| unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) })
    }

    /// Hand out no pointer for writing from here on: the file was published at `path`.
    ///
    /// Pointers already handed out stay valid, and their owners must know that they are done. If `path` leads to another
    /// file by now, this one has no path.
    pub fn seal(&self, path: &Path) {
        self.sealed.store(true, Ordering::Release);
        if let Ok(Some(identity)) = Identity::of(path)
            && (identity.dev, identity.ino) == self.file
        {
            // The first name stays, should it be sealed twice.
            let _ = self.published.set((path.to_owned(), identity));
        }
    }

    /// Whether it is no longer, or never was, for writing.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }
}

/// Whether a file is one that may be mapped.
fn check(path: &Path, found: &Stat, trust_owner: bool) -> Result<()> {
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind != FileType::RegularFile {
        let got = format!("{}, expected a regular file", name_of(kind));
        return Err(Error::Format { path: path.to_owned(), field: "type", got });
    }
    if !trust_owner && is_foreign(found) {
        return Err(Error::Ownership { path: path.to_owned(), owner: found.st_uid });
    }
    Ok(())
}

fn is_foreign(found: &Stat) -> bool {
    found.st_uid != rustix::process::geteuid().as_raw()
}

/// What a thing in a directory is called.
pub(crate) fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

fn length(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::Memory { wanted: usize::MAX })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn open(path: &Path) -> Segment {
        Segment::open(path, false).unwrap().unwrap()
    }

    /// Fill a writable segment.
    #[allow(unsafe_code)]
    fn fill(segment: &Segment, byte: u8) {
        let start = segment.as_mut_ptr().expect("writable");
        // SAFETY: valid for writing `len` bytes; this test has the only mapping.
        unsafe { start.write_bytes(byte, segment.len()) };
    }

    #[allow(unsafe_code)]
    fn first(segment: &Segment) -> u8 {
        assert!(!segment.is_empty());
        // SAFETY: there is a first byte, and nobody writes now.
        unsafe { segment.as_ptr().read() }
    }

    #[test]
    fn a_published_file_is_mapped_for_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        assert!(Segment::open(&path, false).unwrap().is_none());
        assert!(Segment::open(&dir.path().join("no/such"), false).unwrap().is_none());
        std::fs::write(&path, "text").unwrap();
        let segment = open(&path);
        assert_eq!((segment.as_slice(), segment.len(), segment.path()), (Some(&b"text"[..]), 4, Some(&*path)));
        assert!(segment.as_mut_ptr().is_none() && segment.is_sealed());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(segment.as_slice(), Some(&b"text"[..]), "a mapping outlives the name");
    }

    #[test]
    fn an_empty_file_is_an_empty_segment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        std::fs::write(&path, "").unwrap();
        let segment = open(&path);
        assert_eq!((segment.as_slice(), segment.is_empty(), segment.as_ptr().addr() % 64), (Some(&[][..]), true, 0));
        let segment = Segment::anonymous(dir.path(), 0).unwrap();
        assert!(segment.is_empty() && segment.as_mut_ptr().is_some_and(|start| start.addr() % 64 == 0));
    }

    #[test]
    fn an_identity_is_that_of_the_file_and_changes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        assert_eq!(Identity::of(&path).unwrap(), None);
        std::fs::write(&path, "text").unwrap();
        let (segment, before) = (open(&path), Identity::of(&path).unwrap().unwrap());
        assert_eq!((segment.identity(), before.size, segment.is_current()), (Some(before), 4, true));
        for _ in 0..100 {
            // At once, of the same size; the mapping keeps the old inode.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "next").unwrap();
            assert_ne!(Identity::of(&path).unwrap(), Some(before));
            assert!(!segment.is_current());
        }
        let times = std::fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        File::open(&path).unwrap().set_times(times).unwrap();
        assert_eq!(Identity::of(&path).unwrap().unwrap().mtime_ns, 0);
        assert!(matches!(Identity::of(&path.join("below a file")), Err(Error::Io { .. })));
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let refused = |expected: &str| {
            for trust_owner in [false, true] {
                let result = Segment::open(&path, trust_owner);
                let Err(Error::Format { path: named, field: "type", got }) = result else { panic!("{result:?}") };
                assert!(named == path && got.starts_with(expected), "{got}");
            }
        };
        std::fs::write(dir.path().join("target"), "text").unwrap();
        std::os::unix::fs::symlink(dir.path().join("target"), &path).unwrap();
        refused("a symbolic link");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        refused("a symbolic link");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused("a directory");
        std::fs::remove_dir(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        refused("a socket");
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        // Nobody writes to it: opening it must not wait.
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused("a pipe");
    }

    #[test]
    fn the_file_of_another_user_is_mapped_only_on_trust() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("not run: only root can give a file away");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        std::fs::write(&path, "text").unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let result = Segment::open(&path, false);
        let Err(Error::Ownership { path: named, owner: 12345 }) = result else { panic!("{result:?}") };
        assert_eq!(named, path);
        let segment = Segment::open(&path, true).unwrap().unwrap();
        assert_eq!((segment.as_slice(), segment.is_foreign()), (Some(&b"text"[..]), true));
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        assert!(!open(&path).is_foreign());
    }

    #[test]
    fn what_is_written_to_a_draft_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let draft = Draft::create_in(&path, dir.path(), 5000, 0o600, true).unwrap();
        let segment = Segment::writable(draft.file(), 5000).unwrap();
        assert!(segment.as_slice().is_none() && !segment.is_sealed());
        fill(&segment, 7);
        draft.publish(false).unwrap();
        assert_eq!((segment.path(), segment.identity(), segment.is_current()), (None, None, false));
        segment.seal(&path);
        assert!(segment.is_sealed() && segment.as_mut_ptr().is_none() && segment.is_current());
        let reader = open(&path);
        assert_eq!(reader.as_slice(), Some(&[7; 5000][..]));
        assert_eq!((segment.path(), segment.len(), first(&segment)), (Some(&*path), 5000, 7));
        assert_eq!(reader.identity(), segment.identity());
    }

    #[test]
    fn what_was_freed_before_it_was_sealed_has_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let draft = Draft::create_in(&path, dir.path(), 5, 0o600, true).unwrap();
        let segment = Segment::writable(draft.file(), 5).unwrap();
        draft.publish(false).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "other").unwrap();
        segment.seal(&path);
        assert!(segment.is_sealed() && segment.path().is_none() && !segment.is_current());
    }

    #[test]
    fn a_mapping_is_never_longer_than_what_is_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let draft = Draft::create_in(&path, dir.path(), 10, 0o600, false).unwrap();
        draft.file().write_all_at(b"x", 0).unwrap();
        fill(&Segment::writable(draft.file(), 100_000).unwrap(), 1);
        let found = draft.file().metadata().unwrap();
        assert!(found.len() == 100_000 && found.blocks() * 512 >= 100_000);
        assert!(matches!(Segment::writable(draft.file(), 1 << 60), Err(Error::FileWrite { .. })));
        assert_eq!(draft.file().metadata().unwrap().len(), 100_000);
    }

    #[test]
    fn an_anonymous_segment_has_no_name_and_returns_its_memory() {
        let dir = tempfile::Builder::new().tempdir_in(crate::directory::directory()).unwrap();
        let is_memory = crate::directory::capacity(dir.path()).unwrap().memory_backed;
        let free = || crate::directory::capacity(dir.path()).unwrap().free.unwrap();
        let before = free();
        let segment = Segment::anonymous(dir.path(), 64 << 20).unwrap();
        fill(&segment, 1);
        let own = crate::directory::own(dir.path()).unwrap();
        assert_eq!((std::fs::read_dir(own).unwrap().count(), segment.path()), (0, None));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Other tests use a little of the same file system.
        let (slack, taken) = (16 << 20, 64 << 20);
        if is_memory {
            assert!(before.saturating_sub(free()) > taken - slack);
            drop(segment);
            assert!(before.saturating_sub(free()) < slack);
        }
        assert!(matches!(Segment::anonymous(dir.path(), 1 << 60), Err(Error::FileWrite { .. })));
        assert!(matches!(Segment::anonymous(&dir.path().join("missing"), 1), Err(Error::Io { .. })));
    }
}
