//! Files that nobody sees before they are complete.
//!
//! A [`Draft`] is a file without a name (`O_TMPFILE`), written at leisure and then given its name by one link or rename,
//! which the system does entirely or not at all. A reader therefore finds nothing or everything, and a killed writer
//! leaves nothing: the kernel frees a file without a name with its last descriptor.
//!
//! Where nameless files do not work (some network file systems, macOS, no `/proc`) the draft has a *temporary name*
//! `.<name>.<pid>-<random>.megalith-tmp` in the same directory, and for a moment a nameless one that replaces a file
//! has one too, between link and rename. A writer killed then leaves its temporary name behind. So that others can tell
//! it from one in use, the descriptor holds a flock all its life: whoever gets that lock knows that the owner is dead,
//! and removes the file. [`Draft::create`] does so for the leftovers of its own target; [`Draft::create_in`], which has
//! a directory for temporary names, for all that are in there.
//!
//! 1. The owner takes its lock *after* creating the file, so a reaper can come in between; the owner looks whether its
//!    name is still there once it has the lock, and starts again if not.
//! 2. A reaper looks whether the name is still the file that it has locked before it removes it.
//! 3. On network file systems locks may be local to a machine, so the random part begins with a digest of the host's
//!    name: leftovers of other hosts are left alone for a day.
//!
//! # Concurrency
//! Any number of threads and processes may make drafts of one name. With `replace=false` exactly one is published and
//! the others get `AlreadyExists`; with `replace=true` the last one stays. After a fork only the process that made a
//! draft may publish it, and dropping it in another does nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use megalith_core::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::crash::step;
use crate::{lock::Lock, space};

/// The end of every temporary name.
const SUFFIX: &str = ".megalith-tmp";

/// Bytes of the file's name that a temporary name repeats, so that it stays under the 255 of most file systems.
const STEM: usize = 200;

/// Leftovers of other hosts are removed after this time.
const FOREIGN: Duration = Duration::from_hours(24);

/// How a draft exists before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Without a name where that works, otherwise with a temporary one.
    Nameless,
    /// With a temporary name.
    #[cfg_attr(not(test), allow(dead_code))]
    Named,
}

/// A file that becomes visible when it is published, and vanishes if it is not.
#[derive(Debug)]
pub struct Draft {
    /// As the user gave it, for errors.
    path: PathBuf,
    place: Place,
    lock: Lock,
    /// The temporary name, while there is one.
    name: Option<PathBuf>,
    durable: bool,
}

impl Draft {
    /// A draft of `path` with `size` bytes reserved (all zero), open for reading and writing.
    ///
    /// `mode` is subject to the umask, as for open(2). Leftovers of killed writers of the same path are removed.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory is missing or denied; [`Error::FileWrite`] if there is no room (see
    /// [`space::reserve`]). Neither leaves anything behind.
    ///
    /// # Cost
    /// One listing of the directory.
    pub fn create(path: &Path, size: u64, mode: u32) -> Result<Self> {
        Self::create_as(path, size, mode, Kind::Nameless)
    }

    /// A draft of `path` that never shows in the directory of `path` before it is published: its temporary name, where
    /// it has one, is in `scratch_dir`, on the same file system.
    ///
    /// `mode` is what the file has in the end, whatever the umask. With `reserve` the file has `size` zero bytes, as
    /// from [`Draft::create`]. Without it the file is empty and room for `size` bytes is only looked for: write(2) says
    /// itself when a file system is full, and reserving fills every page of a file in memory a first time. Leftovers of
    /// killed writers in `scratch_dir` are removed, whatever they were to become.
    ///
    /// # Errors
    /// As [`Draft::create`]; a full file system is told with or without `reserve`. A missing directory of `path` is an
    /// error of [`Draft::publish`].
    ///
    /// # Cost
    /// One listing of `scratch_dir`.
    pub fn create_in(path: &Path, scratch_dir: &Path, size: u64, mode: u32, reserve: bool) -> Result<Self> {
        Self::create_in_as(path, scratch_dir, size, mode, reserve, Kind::Nameless)
    }

    fn create_as(path: &Path, size: u64, mode: u32, kind: Kind) -> Result<Self> {
        let place = Place::of(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        place.reap();
        let draft = Self::open(path, place, Mode::from_raw_mode(mode), kind)?;
        space::reserve(draft.file(), path, size)?;
        step("reserved");
        Ok(draft)
    }

    fn create_in_as(path: &Path, scratch_dir: &Path, size: u64, mode: u32, reserve: bool, kind: Kind) -> Result<Self> {
        let failed = |source: io::Error| Error::Io { path: path.to_owned(), source };
        let place = Place::of(path).and_then(|place| place.with_scratch(scratch_dir)).map_err(failed)?;
        // First, since it makes room.
        place.reap();
        if !reserve {
            space::check_room(&place.scratch, path, size)?;
        }
        let draft = Self::open(path, place, Mode::RUSR | Mode::WUSR, kind)?;
        rustix::fs::fchmod(draft.file(), Mode::from_raw_mode(mode)).map_err(|e| failed(e.into()))?;
        step("permitted");
        if reserve {
            space::reserve(draft.file(), path, size)?;
            step("reserved");
        }
        Ok(draft)
    }

    /// An empty, locked draft.
    fn open(path: &Path, place: Place, mode: Mode, kind: Kind) -> Result<Self> {
        let nameless = match kind {
            Kind::Nameless => place.open_nameless(mode),
            Kind::Named => None,
        };
        let (lock, name) = match nameless {
            Some(lock) => (lock, None),
            None => place
                .open_named(mode)
                .map(|(lock, name)| (lock, Some(name)))
                .map_err(|source| Error::Io { path: path.to_owned(), source })?,
        };
        step("locked");
        Ok(Self { path: path.to_owned(), place, lock, name, durable: false })
    }

    /// Have [`Draft::publish`] return only once file and name are on the disk, whatever happens to the power.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// The file, to be written.
    #[must_use]
    pub fn file(&self) -> &File {
        self.lock.file()
    }

    /// Whether this process made it, rather than inherit it by a fork.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.lock.is_ours()
    }

    /// Give the file its name, at once.
    ///
    /// With `replace` an existing file is replaced (a symbolic link itself, not what it points to); who has it open or
    /// mapped keeps the old one.
    ///
    /// # Errors
    /// [`Error::Io`]: `AlreadyExists` without `replace`, or whatever the system said. The draft is gone then.
    pub fn publish(mut self, replace: bool) -> Result<()> {
        if !self.lock.is_ours() {
            return Err(Error::Internal("a draft is published by the process that made it".to_owned()));
        }
        self.give_name(replace).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    fn give_name(&mut self, replace: bool) -> io::Result<()> {
        if self.durable {
            self.file().sync_all()?;
            step("synced");
        }
        match (&self.name, replace) {
            (None, false) => link_nameless(self.file(), &self.place.target)?,
            (Some(name), false) => link_named(name, &self.place.target)?,
            (None, true) => self.name = Some(self.place.fresh(|name| link_nameless(self.file(), name))?.1),
            (Some(_), true) => {}
        }
        step("linked");
        if let Some(name) = &self.name
            && replace
        {
            std::fs::rename(name, &self.place.target)?;
            self.name = None;
            step("renamed");
        }
        if self.durable {
            // Some file systems cannot sync directories and need not.
            match File::open(&self.place.dir)?.sync_all() {
                Err(e) if e.kind() != io::ErrorKind::InvalidInput => return Err(e),
                _ => step("recorded"),
            }
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && self.lock.is_ours()
        {
            // Nobody to tell; a name that stays is reaped later.
            let _ = std::fs::remove_file(name);
            step("unlinked");
        }
    }
}

/// Where a draft will be published.
#[derive(Debug)]
struct Place {
    /// Absolute, so that a change of the working directory does not matter.
    target: PathBuf,
    dir: PathBuf,
    /// Where temporary names are.
    scratch: PathBuf,
    /// Whether `scratch` is for temporary names only, so that all of them may be looked at.
    is_for_all: bool,
    /// How temporary names of this target begin: `.<name>.`.
    stem: OsString,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let target = std::path::absolute(path)?;
        let (Some(dir), Some(name)) = (target.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"));
        };
        let mut cut = name.len().min(STEM);
        // Not inside of a character: some file systems want UTF-8.
        while cut < name.len() && name.as_bytes()[cut] & 0xc0 == 0x80 {
            cut -= 1;
        }
        let stem = [OsStr::new("."), OsStr::from_bytes(&name.as_bytes()[..cut]), OsStr::new(".")];
        let (scratch, dir) = (dir.to_owned(), dir.to_owned());
        Ok(Self { dir, scratch, is_for_all: false, stem: stem.into_iter().collect(), target })
    }

    /// The same, with temporary names in a directory of their own.
    fn with_scratch(self, scratch: &Path) -> io::Result<Self> {
        Ok(Self { scratch: std::path::absolute(scratch)?, is_for_all: true, ..self })
    }

    /// A file without a name, or None where there is no such thing or no way to give it one.
    fn open_nameless(&self, mode: Mode) -> Option<Lock> {
        #[cfg(target_os = "linux")]
        {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&self.scratch, flags, mode).ok()?);
            if descriptor(&file).exists() {
                step("opened");
                return Lock::on(file);
            }
        }
        let _ = mode;
        None
    }

    /// A file with a temporary name.
    fn open_named(&self, mode: Mode) -> io::Result<(Lock, PathBuf)> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        loop {
            let (fd, name) = self.fresh(|name| Ok(rustix::fs::open(name, flags, mode)?))?;
            step("opened");
            // A reaper may have come between the two, and have the lock or have removed the name.
            match Lock::on(File::from(fd)) {
                Some(lock) if lock.is_at(&name) => return Ok((lock, name)),
                _ => {}
            }
        }
    }

    /// Call `make` with new temporary names until one does not exist.
    fn fresh<R>(&self, make: impl Fn(&Path) -> io::Result<R>) -> io::Result<(R, PathBuf)> {
        loop {
            let random = RandomState::new().hash_one(()) as u32;
            let mut name = self.stem.clone();
            name.push(format!("{}-{:08x}{random:08x}{SUFFIX}", std::process::id(), host()));
            let name = self.scratch.join(name);
            match make(&name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                result => return Ok((result?, name)),
            }
        }
    }

    /// Whether `entry` has a temporary name of this target, or of any where there is a directory for them, made by this
    /// host or so old that it does not matter.
    fn is_leftover(&self, entry: &std::fs::DirEntry) -> bool {
        let name = entry.file_name();
        let Some((stem, random)) = parse(name.as_bytes()) else { return false };
        let is_old =
            || entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|a| a > FOREIGN));
        (self.is_for_all || stem == self.stem.as_bytes())
            && (random.starts_with(&format!("{:08x}", host())) || is_old())
    }

    /// Remove what killed writers left; what cannot be looked at or removed stays.
    fn reap(&self) {
        let Ok(entries) = std::fs::read_dir(&self.scratch) else { return };
        for entry in entries.flatten().filter(|entry| self.is_leftover(entry)) {
            let path = entry.path();
            if let Ok(Some(lock)) = Lock::try_exclusive(&path)
                && lock.is_held()
                && lock.is_at(&path)
            {
                let _ = std::fs::remove_file(&path);
                step("reaped");
            }
        }
    }
}

/// The stem, dots included, and the random part of a temporary name; None for any other name.
fn parse(name: &[u8]) -> Option<(&[u8], &str)> {
    let name = name.strip_suffix(SUFFIX.as_bytes())?;
    let (stem, rest) = name.split_at(name.iter().rposition(|&byte| byte == b'.')? + 1);
    let (pid, random) = std::str::from_utf8(rest).ok()?.split_once('-')?;
    let is_number = pid.parse::<u32>().is_ok() && random.len() == 16 && u64::from_str_radix(random, 16).is_ok();
    (stem.len() > 2 && stem[0] == b'.' && is_number).then_some((stem, random))
}

/// The name under which the kernel shows an open file of this process.
fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Name a nameless file.
fn link_nameless(file: &File, target: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, descriptor(file), CWD, target, AtFlags::SYMLINK_FOLLOW)?)
}

/// A second name for a file; its first one is removed with the draft. Where files have but one name (FAT), it moves.
fn link_named(name: &Path, target: &Path) -> io::Result<()> {
    match std::fs::hard_link(name, target) {
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            // The first refusal says more than "invalid flag".
            rustix::fs::renameat_with(CWD, name, CWD, target, flags).map_err(|second| match second {
                rustix::io::Errno::EXIST => second.into(),
                _ => e,
            })
        }
        result => result,
    }
}

/// A digest of this machine's name.
fn host() -> u32 {
    let name = rustix::system::uname();
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name.nodename()) as u32
}

#[cfg(test)]
mod tests;
