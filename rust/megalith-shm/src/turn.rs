//! Who computes: one process, one thread of it, while the others wait.
//!
//! ```text
//! loop
//!     is it published?                    then map it
//!     take the lock of its name           or somebody else computes: wait a little, look again
//!     is it published now?                then give the lock back, and map it
//!     compute, write, publish, give the lock back
//! ```
//!
//! 1. The second look is needed because the one before may have published between the first look and the lock.
//! 2. The lock is a flock on a file in the user's own directory, so the kernel gives it to the next one when its holder
//!    is killed. It is held by an open description: threads of one process count like processes.
//! 3. The file goes away before the lock does, so nothing is left; who opened it before that looks whether it still has
//!    the name ([`Lock::at`]).
//! 4. A holder that is killed leaves the empty file. The next taker of the name removes it, or any taker that computes
//!    after [`OLD`].
//!
//! # Concurrency
//! Correctness does not depend on the lock: where there is none everybody computes, and who publishes second finds that
//! the name is taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use megalith_core::Result;
use megalith_files::Lock;

use crate::directory;
use crate::name::Name;
use crate::segment::Identity;

/// Files of locks younger than this are left alone by takers of other names: somebody may be about to lock them, and
/// would wait for a moment if we were looking.
pub const OLD: Duration = Duration::from_secs(2);

/// What one look gives.
#[derive(Debug)]
pub enum Turn {
    /// It is there.
    Published,
    /// It is for the caller to make, until he drops the claim.
    Ours(Claim),
    /// Somebody else makes it.
    Busy,
}

/// Look once, without waiting, whether the array `name` in `dir` is there, or may be made by the caller.
///
/// [The user's own directory](directory::own) is made if it is needed and missing.
///
/// # Errors
/// [`Error::Io`](megalith_core::Error::Io) if a directory is missing or denied, and what [`directory::own`] refuses.
///
/// # Cost
/// A few looks at names if it is published; a listing of the own directory when the turn is the caller's.
pub fn take(dir: &Path, name: &Name) -> Result<Turn> {
    if is_published(dir, name)? {
        // Its maker may have been killed just before he gave the lock back. Who is served does not care whether the
        // place of his own directory is taken.
        if let Ok(Some(own)) = directory::existing(dir)
            && let path = own.join(name.lock())
            && Identity::of(&path)?.is_some()
        {
            remove_if_dead(&path);
        }
        return Ok(Turn::Published);
    }
    let own = directory::own(dir)?;
    let path = own.join(name.lock());
    let Some(lock) = Lock::at(&path)? else { return Ok(Turn::Busy) };
    let claim = Claim { lock: Some(lock), path };
    // An error gives the lock back, as does a claim that is not needed.
    if is_published(dir, name)? {
        return Ok(Turn::Published);
    }
    remove_old(&own);
    Ok(Turn::Ours(claim))
}

/// The process that makes `name`, for messages; None when nobody does or it is not known.
#[must_use]
pub fn holder(dir: &Path, name: &Name) -> Option<u32> {
    Lock::holder(&directory::own_path(dir).join(name.lock()))
}

/// Remove the files of locks in `dir` whose holders were killed, of names that nobody has asked for since.
///
/// [`take`] does so too when the turn is the caller's. Files younger than [`OLD`] stay.
pub fn reap(dir: &Path) {
    if let Ok(Some(own)) = directory::existing(dir) {
        remove_old(&own);
    }
}

fn remove_old(own: &Path) {
    let Ok(entries) = std::fs::read_dir(own) else { return };
    for entry in entries.flatten() {
        let is_old =
            || entry.metadata().and_then(|found| found.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|a| a > OLD));
        if Path::new(&entry.file_name()).extension().is_some_and(|end| end == "lock") && is_old() {
            remove_if_dead(&entry.path());
        }
    }
}

fn is_published(dir: &Path, name: &Name) -> Result<bool> {
    Ok(Identity::of(&dir.join(name.array()))?.is_some() || Identity::of(&dir.join(name.record()))?.is_some())
}

/// Remove the file of a lock that nobody holds; what cannot be looked at or removed stays.
fn remove_if_dead(path: &Path) {
    if let Ok(Some(lock)) = Lock::try_exclusive(path)
        && lock.is_held()
    {
        lock.remove(path);
    }
}

/// The right to make an array, until it is dropped; then the next one's.
///
/// In a child of a fork it is worth nothing, and dropping it does nothing.
#[derive(Debug)]
pub struct Claim {
    /// There until it is dropped.
    lock: Option<Lock>,
    path: PathBuf,
}

impl Claim {
    /// Whether nobody else has one; false where the file system has no locks, and in a child of a fork.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.is_held() && lock.is_ours())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use megalith_core::Error;

    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        own: PathBuf,
        name: Name,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let own = directory::own(dir.path()).unwrap();
        Place { dir, own, name: Name::new("p_", "a").unwrap() }
    }

    impl Place {
        fn take(&self) -> Turn {
            take(self.dir.path(), &self.name).unwrap()
        }

        fn publish(&self, file: &str) {
            std::fs::write(self.dir.path().join(file), "").unwrap();
        }

        fn locks(&self) -> usize {
            std::fs::read_dir(&self.own).unwrap().count()
        }
    }

    #[test]
    fn the_first_one_computes_and_the_others_wait() {
        let place = place();
        let Turn::Ours(claim) = place.take() else { panic!() };
        assert!(claim.is_held());
        assert!(matches!(place.take(), Turn::Busy));
        if cfg!(target_os = "linux") {
            assert_eq!(holder(place.dir.path(), &place.name), Some(std::process::id()));
        }
        drop(claim);
        assert_eq!((holder(place.dir.path(), &place.name), place.locks()), (None, 0));
        assert!(matches!(place.take(), Turn::Ours(_)), "a maker that gave up has a successor");
    }

    #[test]
    fn names_do_not_wait_for_each_other() {
        let place = place();
        let _claim = place.take();
        let other = Name::new("p_", "b").unwrap();
        assert!(matches!(take(place.dir.path(), &other).unwrap(), Turn::Ours(_)));
    }

    #[test]
    fn what_is_published_as_an_array_or_a_record_is_nobodys_turn() {
        for file in ["p_a.npy", "p_a.npz"] {
            let place = place();
            let claim = place.take();
            place.publish(file);
            assert!(matches!(place.take(), Turn::Published), "although its maker has not given back his claim");
            assert_eq!(place.locks(), 1);
            drop(claim);
            assert!(matches!(place.take(), Turn::Published));
            assert_eq!(place.locks(), 0);
        }
    }

    #[test]
    fn the_file_of_a_dead_lock_goes_at_the_next_look() {
        let place = place();
        let path = place.own.join(place.name.lock());
        std::fs::write(&path, "").unwrap();
        drop(place.take());
        assert_eq!(place.locks(), 0);
        std::fs::write(&path, "").unwrap();
        place.publish("p_a.npy");
        assert!(matches!(place.take(), Turn::Published));
        assert_eq!(place.locks(), 0);
    }

    #[test]
    fn old_files_of_dead_locks_of_other_names_go_but_nothing_else() {
        let place = place();
        let touch = |name: &str, age: Duration| {
            let file = std::fs::File::create(place.own.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        };
        touch("dead.lock", 2 * OLD);
        touch("held.lock", 2 * OLD);
        touch("young.lock", Duration::ZERO);
        touch("other", 2 * OLD);
        let _held = Lock::try_exclusive(&place.own.join("held.lock")).unwrap().unwrap();
        reap(place.dir.path());
        let left: Vec<_> = ["dead.lock", "held.lock", "young.lock", "other"]
            .into_iter()
            .filter(|name| place.own.join(name).exists())
            .collect();
        assert_eq!(left, ["held.lock", "young.lock", "other"]);
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_and_not_a_wait() {
        let place = place();
        std::fs::remove_dir(&place.own).unwrap();
        assert!(matches!(place.take(), Turn::Ours(_)), "the own directory is made");
        assert!(matches!(take(&place.dir.path().join("missing"), &place.name), Err(Error::Io { .. })));
    }

    #[test]
    fn locks_are_never_taken_in_a_directory_that_was_planted() {
        let place = place();
        std::fs::remove_dir(&place.own).unwrap();
        let elsewhere = place.dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &place.own).unwrap();
        std::fs::write(elsewhere.join(place.name.lock()), "precious").unwrap();
        assert!(matches!(take(place.dir.path(), &place.name), Err(Error::Format { .. })));
        place.publish("p_a.npy");
        assert!(matches!(place.take(), Turn::Published));
        reap(place.dir.path());
        assert_eq!(std::fs::read(elsewhere.join(place.name.lock())).unwrap(), b"precious");
    }

    #[test]
    fn of_many_threads_one_computes_each_round() {
        let place = place();
        for _ in 0..100 {
            let computed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..32 {
                    scope.spawn(|| {
                        loop {
                            match place.take() {
                                Turn::Published => break,
                                Turn::Busy => std::thread::yield_now(),
                                Turn::Ours(_claim) => {
                                    computed.fetch_add(1, Ordering::SeqCst);
                                    place.publish("p_a.npy");
                                }
                            }
                        }
                    });
                }
            });
            assert_eq!((computed.into_inner(), place.locks()), (1, 0));
            std::fs::remove_file(place.dir.path().join("p_a.npy")).unwrap();
        }
    }
}
