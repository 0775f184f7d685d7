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
//! and removes the file. [`Draft::create`] does so for the leftovers of its own target.
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

    fn create_as(path: &Path, size: u64, mode: u32, kind: Kind) -> Result<Self> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let place = Place::of(path).map_err(failed)?;
        place.reap();
        let mode = Mode::from_raw_mode(mode);
        let nameless = match kind {
            Kind::Nameless => place.open_nameless(mode),
            Kind::Named => None,
        };
        let (lock, name) = match nameless {
            Some(lock) => (lock, None),
            None => place.open_named(mode).map(|(lock, name)| (lock, Some(name))).map_err(failed)?,
        };
        let draft = Self { path: path.to_owned(), place, lock, name, durable: false };
        step("locked");
        space::reserve(draft.file(), path, size)?;
        step("reserved");
        Ok(draft)
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
        Ok(Self { dir: dir.to_owned(), stem: stem.into_iter().collect(), target })
    }

    /// A file without a name, or None where there is no such thing or no way to give it one.
    fn open_nameless(&self, mode: Mode) -> Option<Lock> {
        #[cfg(target_os = "linux")]
        {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&self.dir, flags, mode).ok()?);
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
            let name = self.dir.join(name);
            match make(&name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                result => return Ok((result?, name)),
            }
        }
    }

    /// Whether `name` is a temporary name of this target, made by this host or so old that it does not matter.
    fn is_leftover(&self, entry: &std::fs::DirEntry) -> bool {
        let name = entry.file_name();
        let middle = name.as_bytes().strip_prefix(self.stem.as_bytes()).and_then(|m| m.strip_suffix(SUFFIX.as_bytes()));
        let parts = middle.and_then(|m| std::str::from_utf8(m).ok()?.split_once('-'));
        let Some((pid, random)) = parts else { return false };
        let is_temporary = pid.parse::<u32>().is_ok() && random.len() == 16 && u64::from_str_radix(random, 16).is_ok();
        let is_old =
            || entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|a| a > FOREIGN));
        is_temporary && (random.starts_with(&format!("{:08x}", host())) || is_old())
    }

    /// Remove what killed writers of this target left; what cannot be looked at or removed stays.
    fn reap(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
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
