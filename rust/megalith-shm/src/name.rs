//! What a shared array may be called.

use megalith_core::{Error, Result};

/// The longest end of any name that is made of a prefix and an id.
const LONGEST: usize = ".lock".len();

/// Bytes of a file's name on all file systems that matter.
const MOST: usize = 255;

/// The names of the files of one shared array: a prefix and an id that cannot lead out of a directory.
///
/// There is no `/` in them, and since something is always appended none is `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    stem: String,
}

impl Name {
    /// The name of the array `id`, with `prefix` before it.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are other characters in them than `A-Z a-z 0-9 = + . _ -`, if `id` is empty, or if
    /// both are longer together than a file's name may be.
    pub fn new(prefix: &str, id: &str) -> Result<Self> {
        let refused =
            |name, got: &str, expected: String| Err(Error::Argument { name, got: format!("{got:?}"), expected });
        let letters = "letters A-Z and a-z, digits and = + . _ -";
        if !prefix.bytes().all(is_allowed) {
            return refused("prefix", prefix, format!("only {letters}"));
        }
        if id.is_empty() || !id.bytes().all(is_allowed) {
            return refused("id", id, format!("at least one character, only {letters}"));
        }
        let stem = [prefix, id].concat();
        if stem.len() + LONGEST > MOST {
            return refused("id", id, format!("at most {} characters, the prefix included", MOST - LONGEST));
        }
        Ok(Self { stem })
    }

    /// The file of a single array.
    #[must_use]
    pub fn array(&self) -> String {
        format!("{}.npy", self.stem)
    }

    /// The file of a nested value.
    #[must_use]
    pub fn record(&self) -> String {
        format!("{}.npz", self.stem)
    }

    /// The file that is locked by who computes, in [the user's own directory](crate::directory::own).
    #[must_use]
    pub fn lock(&self) -> String {
        format!("{}.lock", self.stem)
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"=+._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use super::*;

    #[test]
    fn the_files_are_those_of_sharearray() {
        let name = Name::new("sharearray_", "a-1").unwrap();
        assert_eq!(
            [name.array(), name.record(), name.lock()],
            ["sharearray_a-1.npy", "sharearray_a-1.npz", "sharearray_a-1.lock"]
        );
    }

    #[test]
    fn what_could_leave_the_directory_is_no_name() {
        for bad in ["a/b", "/", "a b", "a\0", "ä", "a\n", "~", "a\\b", "*"] {
            assert!(matches!(Name::new("", bad), Err(Error::Argument { name: "id", .. })), "{bad:?}");
            assert!(matches!(Name::new(bad, "a"), Err(Error::Argument { name: "prefix", .. })), "{bad:?}");
        }
        assert!(matches!(Name::new("a", ""), Err(Error::Argument { name: "id", .. })));
    }

    #[test]
    fn dots_become_ordinary_names() {
        for (prefix, id) in [("", "."), ("", ".."), (".", "."), ("..", "..")] {
            let name = Name::new(prefix, id).unwrap();
            for file in [name.array(), name.record(), name.lock()] {
                let parts: Vec<_> = Path::new(&file).components().collect();
                assert!(matches!(parts[..], [Component::Normal(part)] if part == file.as_str()), "{file}");
            }
        }
    }

    #[test]
    fn the_longest_name_fits_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::new(&"p".repeat(200), &"i".repeat(50)).unwrap();
        std::fs::write(dir.path().join(name.lock()), "").unwrap();
        assert!(matches!(Name::new(&"p".repeat(200), &"i".repeat(51)), Err(Error::Argument { name: "id", .. })));
    }
}
