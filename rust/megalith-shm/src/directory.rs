//! Where shared arrays live, and how much room there is.
//!
//! On Linux `/dev/shm`, a file system in memory that every process of the machine sees. Elsewhere files in the user's
//! cache directory do the same work by way of the page cache. `MEGALITH_SHARED_DIR` names any other directory, for
//! containers whose `/dev/shm` is 64 MB.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use megalith_core::Result;
use megalith_files::space::{self, Space};

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

    #[test]
    fn capacity_is_that_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        assert!(capacity(dir.path()).unwrap().free.is_some());
        assert!(capacity(&dir.path().join("missing")).is_err());
    }
}
