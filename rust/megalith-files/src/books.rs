//! What a store keeps books by: a number that processes add to, and when a file was used last.
//!
//! # Concurrency
//! Additions are made one after the other under a flock that dies with its holder; a killed process has added or has
//! not. Where the file system has no locks two additions at once may become one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use megalith_core::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::lock::Lock;

/// An addition takes some microseconds; who holds the lock for so long is stopped, and is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Add `amount` to the total at `path`: the new total, which is never below zero; None, and nothing is added, if there
/// is none yet and `amount` is not to be the first.
///
/// The file is made if it is missing. Never follows a link at the end of `path`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be made, read or written.
pub fn add(path: &Path, amount: i64, is_first: bool) -> Result<Option<i64>> {
    let failed = |source: std::io::Error| Error::Io { path: path.to_owned(), source };
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let start = Instant::now();
    let lock = loop {
        let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
        match Lock::on(File::from(fd)) {
            Some(lock) => break lock,
            None if start.elapsed() > PATIENCE => {
                return Err(failed(std::io::Error::from(std::io::ErrorKind::WouldBlock)));
            }
            None => std::thread::sleep(Duration::from_micros(50)),
        }
    };
    let mut bytes = [0; 8];
    let total = match lock.file().read_exact_at(&mut bytes, 0) {
        Ok(()) => i64::from_le_bytes(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            if !is_first {
                return Ok(None);
            }
            0
        }
        Err(e) => return Err(failed(e)),
    };
    let total = total.saturating_add(amount).max(0);
    lock.file().write_all_at(&total.to_le_bytes(), 0).map_err(failed)?;
    Ok(Some(total))
}

/// Set the time of the last use of the file at `path` to now, and no other; whether the system let us.
///
/// # Cost
/// One call of the system.
#[must_use]
pub fn touch(path: &Path) -> bool {
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: keep };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_begins_with_its_first_amount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("total");
        assert_eq!(add(&path, 5, false).unwrap(), None);
        assert_eq!(add(&path, 5, true).unwrap(), Some(5));
        assert_eq!(add(&path, 7, false).unwrap(), Some(12));
        assert_eq!(add(&path, -20, false).unwrap(), Some(0));
        assert_eq!(add(&path, i64::MAX, false).unwrap(), Some(i64::MAX));
        assert_eq!(add(&path, 1, false).unwrap(), Some(i64::MAX));
    }

    #[test]
    fn additions_of_many_threads_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("total");
        add(&path, 0, true).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|i| assert!(add(&path, i, false).unwrap().is_some())));
            }
        });
        assert_eq!(add(&path, 0, false).unwrap(), Some(8 * 4950));
    }

    #[test]
    fn a_touch_changes_when_a_file_was_used_and_not_when_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let times = std::fs::FileTimes::new().set_accessed(old).set_modified(old);
        file.as_file().set_times(times).unwrap();
        assert!(touch(file.path()));
        let found = file.path().metadata().unwrap();
        assert!(found.accessed().unwrap().elapsed().unwrap() < Duration::from_mins(1));
        assert_eq!(found.modified().unwrap(), old);
        assert!(!touch(&file.path().join("missing")));
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("total");
        std::os::unix::fs::symlink(dir.path().join("other"), &path).unwrap();
        assert!(matches!(add(&path, 1, true), Err(Error::Io { .. })));
        assert!(!dir.path().join("other").exists());
    }
}
