//! A lock that dies with its holder: flock on an open descriptor.
//!
//! POSIX record locks vanish at any unrelated close of the file, and a lock that is merely a file that exists outlives
//! its killed creator. flock belongs to the open descriptor, so the kernel frees it when the last process that has the
//! descriptor is gone. A forked child is such a process: it inherits the descriptor and with it the lock, and must not
//! end it. The guard remembers who took it.
//!
//! # Concurrency
//! Any number of threads and processes. Correctness never depends on a lock: some network file systems have none, there
//! [`Lock::on`] gives a lock that is not [held](Lock::is_held), and work may be done twice.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use megalith_core::{Error, Result};
use rustix::fs::{Mode, OFlags};

/// An exclusive lock on an open file, given back on drop by the process that took it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    pid: u32,
    held: bool,
}

impl Lock {
    /// Lock the existing file at `path` without waiting; None while another holds it.
    ///
    /// Never creates the file and never follows a link at the end of `path`. The name may have come to mean another
    /// file in the meantime: see [`Lock::is_at`].
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // NFS makes record locks of flocks, which need a descriptor for writing; a read-only file is still locked here.
        let fd = rustix::fs::open(path, flags | OFlags::RDWR, Mode::empty())
            .or_else(|_| rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty()))
            .map_err(|e| Error::Io { path: path.to_owned(), source: e.into() })?;
        Ok(Self::on(File::from(fd)))
    }

    /// Lock an open file without waiting; None while another holds it.
    ///
    /// Where the file system has no locks the result says that it is not held.
    #[must_use]
    pub fn on(file: File) -> Option<Self> {
        let held = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(_)) => false,
        };
        Some(Self { file, pid: std::process::id(), held })
    }

    /// The locked file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file system gave a lock; false where it has none.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether this process took the lock, rather than inherit it by a fork.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Whether `path` still is the locked file: the winner of a lock looks, since the loser before it may have removed
    /// the file.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let (Ok(named), Ok(open)) = (std::fs::symlink_metadata(path), self.file.metadata()) else {
            return false;
        };
        (named.dev(), named.ino()) == (open.dev(), open.ino())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Explicitly: a child forked in the meantime has the descriptor too, and closing ours would not free the lock.
        if self.held && self.is_ours() {
            let _ = self.file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_waits_for_the_first_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(matches!(Lock::try_exclusive(&path), Err(Error::Io { .. })));
        std::fs::write(&path, "").unwrap();
        let first = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(first.is_held() && first.is_at(&path));
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_knows_that_its_name_went_to_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "").unwrap();
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_at(&path));
        std::fs::write(&path, "").unwrap();
        assert!(!lock.is_at(&path));
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(Lock::try_exclusive(&path), Err(Error::Io { .. })));
    }
}
