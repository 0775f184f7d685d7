//! What a store keeps books by: the bytes of its files, and when a file was used last.
//!
//! The total may say too much, when somebody was killed, and never too little. A file is published, or removed, and
//! counted under one lock; a count of all files, which takes too long for a lock, is brought in by [`settle`] with what
//! was added since it began.
//!
//! # Concurrency
//! The lock is a flock that dies with its holder: a file is counted before it appears and until it is gone. Any number
//! of counts may be made at once, while files come and go. Where the file system has no locks two changes at once may
//! become one.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use megalith_core::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::crash::step;
use crate::lock::Lock;
use crate::publish::Draft;

/// A change takes some microseconds; who holds the lock for so long is stopped, and is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The total where nobody has counted yet.
pub const UNKNOWN: i64 = -1;

/// The books of a store, locked until they are dropped.
#[derive(Debug)]
struct Books {
    path: PathBuf,
    lock: Lock,
    /// Bytes of all files, or [`UNKNOWN`].
    total: i64,
    /// Bytes of all files that were ever published: what has been added in a while is a difference of two.
    added: i64,
}

impl Books {
    /// Lock the books at `path`, which are made if they are missing. Never follows a link at the end of `path`.
    fn open(path: &Path) -> Result<Self> {
        let failed = |source: IoError| Error::Io { path: path.to_owned(), source };
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let start = Instant::now();
        let lock = loop {
            let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
            match Lock::on(File::from(fd)) {
                // Somebody may have removed them, to have all counted anew.
                Some(lock) if lock.is_at(path) || !lock.is_held() => break lock,
                None if start.elapsed() > PATIENCE => return Err(failed(IoError::from(ErrorKind::WouldBlock))),
                None => std::thread::sleep(Duration::from_micros(50)),
                Some(_) => {}
            }
        };
        let mut bytes = [0; 16];
        let (total, added) = match lock.file().read_exact_at(&mut bytes, 0) {
            Ok(()) => {
                let number = u128::from_le_bytes(bytes);
                (number as i64, (number >> 64) as i64)
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => (UNKNOWN, 0),
            Err(e) => return Err(failed(e)),
        };
        Ok(Self { path: path.to_owned(), lock, total: total.max(UNKNOWN), added })
    }

    fn change(&mut self, amount: i64) -> Result<()> {
        if self.total != UNKNOWN {
            self.total = self.total.saturating_add(amount).max(0);
        }
        self.added = self.added.wrapping_add(amount.max(0));
        self.write()
    }

    fn write(&self) -> Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.total.to_le_bytes());
        bytes[8..].copy_from_slice(&self.added.to_le_bytes());
        let written = self.lock.file().write_all_at(&bytes, 0);
        written.map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

/// Publish a draft, counted in the books at `path`: the new total, [`UNKNOWN`] until somebody has [settled](settle) it.
/// None where they cannot be kept, which is no reason to keep back the draft.
///
/// # Errors
/// Those of [`Draft::publish`].
pub fn publish(draft: Draft, replace: bool, path: &Path) -> Result<Option<i64>> {
    let counted = size(&draft).and_then(|nbytes| {
        let mut books = Books::open(path)?;
        books.change(nbytes)?;
        step("counted");
        Ok((books, nbytes))
    });
    match counted {
        Ok((mut books, nbytes)) => match draft.publish(replace) {
            Ok(()) => Ok(Some(books.total)),
            Err(error) => {
                // What cannot be taken back is a little too much.
                let _ = books.change(-nbytes);
                Err(error)
            }
        },
        Err(error) => {
            forget_after(&error, path);
            draft.publish(replace).map(|()| None)
        }
    }
}

fn size(draft: &Draft) -> Result<i64> {
    let found = draft.file().metadata().map_err(|source| Error::Io { path: PathBuf::new(), source })?;
    Ok(i64::try_from(found.len()).unwrap_or(i64::MAX))
}

/// Have all files counted anew if some are not counted, unless the books are none of ours.
fn forget_after(error: &Error, path: &Path) {
    if !matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied) {
        let _ = std::fs::remove_file(path);
    }
}

/// Remove the file at `path`, and its bytes from the books at `books` if there are any: whether it was there, and the
/// new total as [`publish`] gives it.
///
/// # Errors
/// [`Error::Io`] if it cannot be removed.
pub fn remove(path: &Path, books: &Path) -> Result<(bool, Option<i64>)> {
    let failed = |source: IoError| Error::Io { path: path.to_owned(), source };
    let mut open = if books.exists() { Books::open(books).ok() } else { None };
    let found = std::fs::symlink_metadata(path).and_then(|found| std::fs::remove_file(path).map(|()| found));
    let found = match found {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok((false, open.map(|books| books.total)));
        }
        Err(e) => return Err(failed(e)),
    };
    step("removed");
    let total = open.as_mut().map(|books| {
        // A total that stays as it was is a little too much.
        let _ = books.change(-i64::try_from(found.len()).unwrap_or(0));
        books.total
    });
    Ok((true, total))
}

/// The bytes ever added to the books at `path`, to be asked for before all files are counted.
///
/// # Errors
/// [`Error::Io`] if they cannot be made or read.
pub fn added(path: &Path) -> Result<i64> {
    Books::open(path).map(|books| books.added)
}

/// Bring in a count of all files that was begun when `added` bytes had been added: the new total.
///
/// A file that came since counts twice if it was seen, so that the total is never too small.
///
/// # Errors
/// [`Error::Io`] if the books cannot be made, read or written.
pub fn settle(path: &Path, counted: i64, added: i64) -> Result<i64> {
    let mut books = Books::open(path)?;
    // Other books than those of the beginning may have had less.
    let since = books.added.checked_sub(added).filter(|&since| since >= 0);
    books.total = since.map_or(UNKNOWN, |since| counted.saturating_add(since).max(0));
    books.write()?;
    step("settled");
    Ok(books.total)
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

    struct Place {
        dir: tempfile::TempDir,
        books: PathBuf,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let books = dir.path().join("total");
        Place { dir, books }
    }

    impl Place {
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn publish(&self, name: &str, nbytes: u64) -> Result<Option<i64>> {
            publish(Draft::create(&self.path(name), nbytes, 0o600).unwrap(), false, &self.books)
        }

        fn remove(&self, name: &str) -> (bool, Option<i64>) {
            remove(&self.path(name), &self.books).unwrap()
        }
    }

    #[test]
    fn a_total_is_known_from_the_first_count_on() {
        let place = place();
        assert_eq!(place.publish("a", 5).unwrap(), Some(UNKNOWN));
        let before = added(&place.books).unwrap();
        assert_eq!(place.publish("b", 7).unwrap(), Some(UNKNOWN));
        assert_eq!(settle(&place.books, 5, before).unwrap(), 12);
        assert_eq!(place.publish("c", 1).unwrap(), Some(13));
        assert_eq!(place.remove("b"), (true, Some(6)));
        assert_eq!(place.remove("b"), (false, Some(6)));
    }

    #[test]
    fn two_counts_at_once_are_one() {
        let place = place();
        for name in ["a", "b"] {
            place.publish(name, 100).unwrap();
        }
        let before = [added(&place.books).unwrap(), added(&place.books).unwrap()];
        assert_eq!(settle(&place.books, 200, before[0]).unwrap(), 200);
        place.publish("c", 1).unwrap();
        assert_eq!(settle(&place.books, 200, before[1]).unwrap(), 201);
    }

    #[test]
    fn a_draft_that_is_not_published_does_not_count() {
        let place = place();
        place.publish("a", 5).unwrap();
        settle(&place.books, 5, 5).unwrap();
        assert!(place.publish("a", 9).is_err());
        assert_eq!(place.remove("a"), (true, Some(0)));
    }

    #[test]
    fn without_books_files_come_and_go_and_are_counted_later() {
        let place = place();
        std::fs::create_dir(&place.books).unwrap();
        assert_eq!(place.publish("a", 5).unwrap(), None);
        std::fs::remove_dir(&place.books).unwrap();
        assert_eq!(place.remove("a"), (true, None));
        assert!(!place.books.exists());
    }

    #[test]
    fn a_count_for_books_that_are_gone_is_void() {
        let place = place();
        place.publish("a", 5).unwrap();
        let before = added(&place.books).unwrap();
        std::fs::remove_file(&place.books).unwrap();
        assert_eq!(settle(&place.books, 0, before).unwrap(), UNKNOWN);
    }

    #[test]
    fn what_many_threads_publish_and_remove_while_others_count_is_never_too_little() {
        let place = place();
        let files = || {
            let entries = std::fs::read_dir(place.dir.path()).unwrap().flatten();
            let sizes = entries.filter(|e| e.file_name() != "total").filter_map(|e| Some(e.metadata().ok()?.len()));
            i64::try_from(sizes.sum::<u64>()).unwrap()
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let place = &place;
                scope.spawn(move || {
                    for i in 0..100 {
                        place.publish(&format!("{thread}-{i}"), 100 + i).unwrap();
                        if i % 3 > 0 {
                            assert!(place.remove(&format!("{thread}-{}", i - 1)).0);
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let before = added(&place.books).unwrap();
                        settle(&place.books, files(), before).unwrap();
                    }
                });
            }
        });
        let total = place.publish("last", 0).unwrap().unwrap();
        assert!(total >= files(), "{total} {}", files());
        let before = added(&place.books).unwrap();
        assert_eq!(settle(&place.books, files(), before).unwrap(), files());
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
        assert!(matches!(added(&path), Err(Error::Io { .. })));
        assert!(!dir.path().join("other").exists());
    }
}
