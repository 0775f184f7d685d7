//! Which shared arrays there are, and taking their names away.
//!
//! # Concurrency
//! A directory changes while it is listed: what was there all the time is listed, what came or went in the meantime may
//! be. Removing takes no lock; who has a file mapped keeps its bytes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use megalith_core::{Error, Result};

use crate::name::Name;

/// One published file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called in the directory.
    pub file_name: String,
    /// What it is called by its users.
    pub id: String,
    /// Whether it holds a nested value (`.npz`), not a single array (`.npy`).
    pub is_record: bool,
    /// Its bytes.
    pub size: u64,
    /// The bytes that it occupies.
    pub allocated: u64,
    /// Whose it is.
    pub uid: u32,
    /// When it was written.
    pub modified: SystemTime,
}

/// The published files in `dir` whose names begin with `prefix`, sorted by name; none if the directory is missing.
///
/// Only regular files, of any user; links are not followed.
///
/// # Errors
/// [`Error::Argument`] for a prefix that no name can have; [`Error::Io`] if the directory cannot be listed.
pub fn list(dir: &Path, prefix: &str) -> Result<Vec<Entry>> {
    Name::new(prefix, "-")?;
    let failed = |source| Error::Io { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(failed(e)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Ok(file_name) = entry.file_name().into_string() else { continue };
        let Some((id, is_record)) = id_of(&file_name, prefix) else { continue };
        // Of the entry itself; it may be gone by now.
        let Ok(file) = entry.metadata() else { continue };
        if !file.is_file() {
            continue;
        }
        found.push(Entry {
            id: id.to_owned(),
            file_name,
            is_record,
            size: file.size(),
            allocated: file.blocks() * 512,
            uid: file.uid(),
            modified: file.modified().map_err(failed)?,
        });
    }
    found.sort_unstable_by(|a, b| a.file_name.cmp(&b.file_name));
    Ok(found)
}

/// The id in a name of a file, and whether it is one of a record.
fn id_of<'a>(file_name: &'a str, prefix: &str) -> Option<(&'a str, bool)> {
    let rest = file_name.strip_prefix(prefix)?;
    let (id, is_record) = match rest.strip_suffix(".npy") {
        Some(id) => (id, false),
        None => (rest.strip_suffix(".npz")?, true),
    };
    Name::new(prefix, id).is_ok().then_some((id, is_record))
}

/// Take the name of the array or record away; whether there was one. Its memory goes with its last mapping.
///
/// A symbolic link of ours goes itself, not what it points to.
///
/// # Errors
/// [`Error::Ownership`] if it belongs to another user; [`Error::Io`] if the system refuses.
pub fn remove(dir: &Path, name: &Name) -> Result<bool> {
    let user = rustix::process::geteuid().as_raw();
    let paths = [dir.join(name.array()), dir.join(name.record())];
    // Both are looked at before either goes.
    for path in &paths {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.uid() != user => {
                return Err(Error::Ownership { path: path.clone(), owner: found.uid() });
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::Io { path: path.clone(), source: e }),
            _ => {}
        }
    }
    let mut was_there = false;
    for path in paths {
        match std::fs::remove_file(&path) {
            Ok(()) => was_there = true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { path, source }),
        }
    }
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_published_regular_files_of_the_prefix_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("p_b.npz", "12345"), ("p_a.npy", "1"), ("p_a.b.npy", "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        for name in ["q_a.npy", "p_.npy", "p_a.lock", "p_a", "p_a b.npy", ".p_a.npy.7-0.megalith-tmp"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("p_dir.npy")).unwrap();
        symlink(dir.path().join("p_a.npy"), dir.path().join("p_link.npy")).unwrap();
        let found = list(dir.path(), "p_").unwrap();
        let ids: Vec<_> = found.iter().map(|entry| (entry.id.as_str(), entry.is_record, entry.size)).collect();
        assert_eq!(ids, [("a.b", false, 0), ("a", false, 1), ("b", true, 5)]);
        let file = std::fs::metadata(dir.path().join("p_b.npz")).unwrap();
        let last = Entry {
            file_name: "p_b.npz".to_owned(),
            id: "b".to_owned(),
            is_record: true,
            size: 5,
            allocated: file.blocks() * 512,
            uid: rustix::process::geteuid().as_raw(),
            modified: file.modified().unwrap(),
        };
        assert_eq!(found[2], last);
        assert_eq!(list(dir.path(), "").unwrap().len(), 5);
    }

    #[test]
    fn a_missing_directory_is_empty_and_a_bad_prefix_an_error() {
        assert_eq!(list(Path::new("/no/such/directory"), "p_").unwrap(), []);
        assert!(matches!(list(Path::new("/"), "../"), Err(Error::Argument { name: "prefix", .. })));
        assert!(matches!(list(Path::new("/proc/self/exe"), ""), Err(Error::Io { .. })));
    }

    #[test]
    fn arrays_records_and_our_own_links_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::new("p_", "a").unwrap();
        assert!(!remove(dir.path(), &name).unwrap());
        assert!(!remove(&dir.path().join("missing"), &name).unwrap());
        std::fs::write(dir.path().join("target"), "").unwrap();
        std::fs::write(dir.path().join("p_a.npz"), "").unwrap();
        symlink(dir.path().join("target"), dir.path().join("p_a.npy")).unwrap();
        assert!(remove(dir.path(), &name).unwrap());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["target"]);
        std::fs::create_dir(dir.path().join("p_a.npy")).unwrap();
        assert!(matches!(remove(dir.path(), &name), Err(Error::Io { .. })));
    }

    #[test]
    fn what_another_user_put_there_stays() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("not run: only root can give a file away");
        }
        let dir = tempfile::tempdir().unwrap();
        let (name, array, record) = (Name::new("", "a").unwrap(), dir.path().join("a.npy"), dir.path().join("a.npz"));
        std::fs::write(&array, "").unwrap();
        std::fs::write(&record, "").unwrap();
        std::os::unix::fs::chown(&record, Some(12345), None).unwrap();
        assert!(matches!(remove(dir.path(), &name), Err(Error::Ownership { owner: 12345, .. })));
        assert!(array.exists(), "nothing is removed by halves");
        std::fs::remove_file(&array).unwrap();
        symlink("/etc/hostname", &array).unwrap();
        std::os::unix::fs::lchown(&array, Some(12345), None).unwrap();
        assert!(matches!(remove(dir.path(), &name), Err(Error::Ownership { owner: 12345, .. })));
        assert_eq!(list(dir.path(), "").unwrap()[0].uid, 12345);
    }
}
