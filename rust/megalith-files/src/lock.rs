//! A lock that dies with its holder: flock on an open descriptor.
//!
//! POSIX record locks vanish at any unrelated close of the file, and a lock that is merely a file that exists outlives
//! its killed creator. flock belongs to the open descriptor, so the kernel frees it when the last process that has the
//! descriptor is gone. A forked child is such a process: it inherits the descriptor and with it the lock, and must not
//! end it. The guard remembers who took it. Nor must the child keep it when its parent is killed: it calls
//! [`after_fork_in_child`] first of all.
//!
//! A lock of a name ([`Lock::at`]) is a file made for it. Removing that file while others wait for it would give two
//! holders, one of the old file and one of a new one, so it is removed only while held ([`Lock::remove`]), and whoever
//! gains a lock looks whether the name still is that file.
//!
//! # Concurrency
//! Any number of threads and processes. Correctness never depends on a lock: some network file systems have none, there
//! [`Lock::on`] gives a lock that is not [held](Lock::is_held), and work may be done twice.

use std::fs::{File, TryLockError};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use megalith_core::{Error, Result};
use rustix::fs::{Mode, OFlags};

use crate::crash::step;
use crate::inherited;

/// Let go of every lock that this process inherited by a fork, so that they end with the processes that took them.
///
/// For a handler that the child calls before anything else. It allocates nothing and takes no lock. The files of these
/// locks, drafts among them, are `/dev/null` from here on.
pub fn after_fork_in_child() {
    inherited::release();
}

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

    /// Lock the name `path` without waiting, by a file of no content made for it; None while another holds it.
    ///
    /// Never follows a link at the end of `path`. The lock is [at](Lock::is_at) its path. To be given back by
    /// [`Lock::remove`], or the file stays.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made or opened.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|e| Error::Io { path: path.to_owned(), source: e.into() })?;
            step("lock-opened");
            let Some(lock) = Self::on(File::from(fd)) else { return Ok(None) };
            step("lock-held");
            // Its holder may have removed it in between. Without locks nothing is to be had by trying again.
            if lock.is_at(path) || !lock.held {
                return Ok(Some(lock));
            }
        }
    }

    /// Remove the file at `path` if it is the locked one, and only then give the lock back.
    ///
    /// In a process that inherited the lock by a fork, nothing but closing it.
    pub fn remove(self, path: &Path) {
        if self.is_ours() && self.is_at(path) {
            // Nobody to tell; an empty file that stays is locked again by the next one.
            let _ = std::fs::remove_file(path);
            step("lock-removed");
            drop(self);
            step("lock-released");
        }
    }

    /// The process that took the flock of the file at `path`, for messages; None when nobody has it or it is not known
    /// (no `/proc/locks`, a holder that this container does not see, file systems with device numbers of their own).
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        let named = std::fs::symlink_metadata(path).ok()?;
        let device = named.dev() as rustix::fs::Dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let file = format!("{major:02x}:{minor:02x}:{}", named.ino());
        // The list comes in parts: a lock that ends between two reads moves the others up, and one of them is missed.
        (0..3).find_map(|_| in_locks(&std::fs::read_to_string("/proc/locks").ok()?, &file))
    }

    /// Lock an open file without waiting; None while another holds it.
    ///
    /// Where the file system has no locks the result says that it is not held.
    #[must_use]
    pub fn on(file: File) -> Option<Self> {
        let mut lock = Self { file, pid: std::process::id(), held: false };
        // Before it is locked, or a child forked in between would keep it. Noted even where there are no locks: the
        // child of a killed writer would keep the memory of its draft.
        inherited::note(lock.file.as_fd());
        match lock.file.try_lock() {
            Ok(()) => lock.held = true,
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(_)) => {}
        }
        Some(lock)
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
        inherited::forget(self.file.as_fd());
        // Explicitly: a child forked in the meantime has the descriptor too, and closing ours would not free the lock.
        if self.held && self.is_ours() {
            let _ = self.file.unlock();
        }
    }
}

/// The process with a flock of `file` (`major:minor:inode`) in the text of `/proc/locks`.
fn in_locks(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 1234 00:1a:567 0 EOF; who waits has an arrow in the second place
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid, at) = (words.next()?, words.nth(2)?, words.next()?);
        (kind == "FLOCK" && at == file).then(|| pid.parse().ok().filter(|&pid| pid > 0))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_a_name_makes_its_file_and_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let lock = Lock::at(&path).unwrap().unwrap();
        assert!(lock.is_held() && lock.is_at(&path));
        assert_eq!((lock.file().metadata().unwrap().mode() & 0o777, lock.file().metadata().unwrap().len()), (0o600, 0));
        assert!(Lock::at(&path).unwrap().is_none());
        lock.remove(&path);
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        Lock::at(&path).unwrap().expect("a file that nobody holds is no obstacle").remove(&path);
        assert!(!path.exists());
        assert!(matches!(Lock::at(&dir.path().join("no/such")), Err(Error::Io { .. })));
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(Lock::at(&path), Err(Error::Io { .. })));
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn a_lock_whose_name_went_to_another_file_leaves_that_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let old = Lock::at(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = Lock::at(&path).unwrap().expect("another file is not locked");
        old.remove(&path);
        assert!(new.is_at(&path));
    }

    #[test]
    fn of_threads_that_take_and_remove_one_name_only_one_holds_it_at_a_time() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 2000 {
                        let Some(lock) = Lock::at(&path).unwrap() else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.remove(&path);
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn the_holder_is_known_by_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        assert_eq!(Lock::holder(&path), None);
        let lock = Lock::at(&path).unwrap().unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(Lock::holder(&path), Some(std::process::id()));
        }
        drop(lock);
        assert_eq!(Lock::holder(&path), None);
    }

    #[test]
    fn locks_of_other_kinds_files_and_waiters_are_not_holders() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:02:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 08:02:1310 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fe:00:131 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 08:02:131 0 EOF\n";
        assert_eq!(in_locks(locks, "08:02:131"), None);
        assert_eq!(in_locks(locks, "fe:00:131"), Some(13));
        assert_eq!(in_locks(&locks.replace(" 13 ", " -1 "), "fe:00:131"), None);
        assert_eq!(in_locks("nonsense\n\n", "08:02:131"), None);
    }

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
