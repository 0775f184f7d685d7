//! Where shared arrays live, and how much room there is.
//!
//! On Linux `/dev/shm`, a file system in memory that every process of the machine sees. Elsewhere files in the user's
//! cache directory do the same work by way of the page cache. `MEGALITH_SHARED_DIR` names any other directory, for
//! containers whose `/dev/shm` is 64 MB.
//!
//! `/dev/shm` belongs to everybody. What is not for everybody's eyes, locks and unfinished files, is in a directory of
//! the user's own in there ([`own`]). Its name is known beforehand and anybody may have made it, so it is looked at each
//! time. In a directory like `/dev/shm`, which has the sticky bit, nobody else can then put another in its place.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use megalith_core::{Error, Result};
use megalith_files::crash::step;
use megalith_files::space::{self, Space};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::segment::name_of;

/// For the user who made it, and nobody else.
const OURS: u32 = 0o700;

/// The directory of shared arrays; it need not exist yet.
///
/// `MEGALITH_SHARED_DIR` if set and not empty, else `/dev/shm` if it is a directory, else `megalith/shared` in the
/// user's cache directory (`XDG_CACHE_HOME`, `~/.cache`; `~/Library/Caches` on macOS), or in the directory of temporary
/// files for a user without a home.
#[must_use]
pub fn directory() -> PathBuf {
    choose(|name| std::env::var_os(name), Path::new("/dev/shm"))
}

/// What the directory `dir`, which must exist, has left.
///
/// # Errors
/// [`megalith_core::Error::Io`] if it does not exist.
pub fn capacity(dir: &Path) -> Result<Space> {
    space::available(dir)
}

/// Make the directory `dir` if it is missing, and those above it, for this user only.
///
/// # Errors
/// [`Error::Io`] if that is not allowed, or something else is there.
pub fn create(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(OURS).create(dir).map_err(|e| failed(dir, e))
}

/// The user's own directory in `dir`, `megalith-<uid>`, made if it is missing.
///
/// # Errors
/// [`Error::Ownership`] if another user made it; [`Error::Format`] if it is something else than a directory;
/// [`Error::Io`] if `dir` is missing or denied.
///
/// # Cost
/// One look, if it is there as it should be.
pub fn own(dir: &Path) -> Result<PathBuf> {
    loop {
        if let Some(path) = existing(dir)? {
            return Ok(path);
        }
        let path = own_path(dir);
        match std::fs::DirBuilder::new().mode(OURS).create(&path) {
            Ok(()) => {
                step("directory-made");
                // A umask may take even our own permissions. The name is ours now, and nobody else can replace it.
                std::fs::set_permissions(&path, Permissions::from_mode(OURS)).map_err(|e| failed(&path, e))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(&path, e)),
        }
    }
}

/// Where the user's own directory in `dir` is, whether or not it is there and as it should be.
pub(crate) fn own_path(dir: &Path) -> PathBuf {
    dir.join(format!("megalith-{}", rustix::process::geteuid().as_raw()))
}

/// [`own`] if it is there, looked at as there.
pub(crate) fn existing(dir: &Path) -> Result<Option<PathBuf>> {
    let path = own_path(dir);
    // Never what a symbolic link points to.
    let found = match rustix::fs::lstat(&path) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(failed(&path, e.into())),
    };
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Error::Ownership { path, owner: found.st_uid });
    }
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind != FileType::Directory {
        let got = format!("{}, expected a directory; remove it", name_of(kind));
        return Err(Error::Format { path, field: "type", got });
    }
    if Mode::from_raw_mode(found.st_mode) & Mode::from_raw_mode(0o777) != Mode::RWXU {
        restrict(&path).map_err(|e| failed(&path, e))?;
    }
    Ok(Some(path))
}

/// Take all permissions of others from a directory of ours, which somebody else's umask or an older system gave them.
fn restrict(path: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    Ok(rustix::fs::fchmod(&dir, Mode::RWXU)?)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, memory: &Path) -> PathBuf {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("MEGALITH_SHARED_DIR") {
        return dir;
    }
    if memory.is_dir() {
        return memory.to_owned();
    }
    let below_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    // The XDG specification: relative paths are to be ignored.
    let cache = set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    let cache = cache.or_else(|| Some(set("HOME")?.join(below_home))).unwrap_or_else(std::env::temp_dir);
    cache.join("megalith/shared")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn chosen(variables: &[(&str, &str)], memory: &str) -> PathBuf {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        choose(variable, Path::new(memory))
    }

    #[test]
    fn the_variable_wins_unless_it_is_empty() {
        assert_eq!(chosen(&[("MEGALITH_SHARED_DIR", "/x")], "/"), Path::new("/x"));
        assert_eq!(chosen(&[("MEGALITH_SHARED_DIR", "")], "/"), Path::new("/"));
    }

    #[test]
    fn without_shared_memory_it_is_the_cache_directory() {
        let missing = "/no/such/directory";
        let home = ("HOME", "/home/ada");
        assert_eq!(chosen(&[("XDG_CACHE_HOME", "/c"), home], missing), Path::new("/c/megalith/shared"));
        let own = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        let expected = Path::new("/home/ada").join(own).join("megalith/shared");
        assert_eq!(chosen(&[("XDG_CACHE_HOME", ""), home], missing), expected);
        assert_eq!(chosen(&[("XDG_CACHE_HOME", "relative"), home], missing), expected);
        assert!(chosen(&[], missing).ends_with("megalith/shared"));
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_own_directory_is_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = own(dir.path()).unwrap();
        assert_eq!(path, dir.path().join(format!("megalith-{}", rustix::process::geteuid().as_raw())));
        assert_eq!(mode(&path), 0o700);
        assert_eq!(own(dir.path()).unwrap(), path);
        for wrong in [0o755, 0o1777, 0o500] {
            rustix::fs::chmod(&path, Mode::from_raw_mode(wrong)).unwrap();
            assert_eq!(own(dir.path()).unwrap(), path);
            assert_eq!(mode(&path), 0o700);
        }
        let missing = dir.path().join("missing");
        assert!(matches!(own(&missing), Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn threads_that_make_the_own_directory_at_once_all_get_it() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| own(dir.path()).unwrap());
                }
            });
        }
    }

    #[test]
    fn what_is_planted_in_the_place_of_the_own_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = own(dir.path()).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        let Err(Error::Format { path: named, got, .. }) = own(dir.path()) else { panic!() };
        assert!(named == path && got.starts_with("a symbolic link"), "{got}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(own(dir.path()), Err(Error::Format { field: "type", .. })));
    }

    #[test]
    fn the_own_directory_made_by_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("not run: only root can give a directory away");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = own(dir.path()).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(matches!(own(dir.path()), Err(Error::Ownership { owner: 12345, .. })));
    }

    #[test]
    fn a_directory_is_created_with_those_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        create(&path).unwrap();
        create(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
        std::fs::write(path.join("file"), "").unwrap();
        assert!(matches!(create(&path.join("file")), Err(Error::Io { .. })));
    }

    #[test]
    fn capacity_is_that_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        assert!(capacity(dir.path()).unwrap().free.is_some());
        assert!(capacity(&dir.path().join("missing")).is_err());
    }
}
