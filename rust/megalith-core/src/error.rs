//! Every way in which work can end other than well.
//!
//! One enum for all crates, matched exhaustively at the Python border (`megalith-python/src/error.rs`), so a new
//! variant does not compile until somebody has said which Python exception it is. Variants carry fields; their display
//! is the sentence a user reads.

use std::path::PathBuf;

/// The result of everything in megalith that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in fields.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked to stop; the original `KeyboardInterrupt` is raised in its place.
    #[error("cancelled")]
    Cancelled,

    /// A shape, axis or length that does not fit.
    #[error("{name}: got {got}, expected {expected}")]
    Shape {
        /// The argument.
        name: &'static str,
        /// What was given.
        got: String,
        /// What would have fitted.
        expected: String,
    },

    /// An element type the operation has no meaning for.
    #[error("{name}: dtype {got} is not supported; supported: {supported}")]
    DType {
        /// The argument.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is supported.
        supported: &'static str,
    },

    /// An option that is not one of those allowed.
    #[error("{name}: got {got}, expected {expected}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: String,
    },

    /// A value used as an index that lies outside its table.
    #[error(
        "index {index} at position {position:?} is outside of the table of {size} entries; indices count from 0, and \
         negative ones have no entry: give a longer table, or map them first (mode='clip' or 'wrap' of apply_lut)"
    )]
    IndexRange {
        /// The value.
        index: i128,
        /// Entries of the table.
        size: usize,
        /// Where the value stands.
        position: Vec<usize>,
    },

    /// Memory that the system did not give.
    #[error("{wanted} bytes of memory are not to be had; give fewer threads or smaller parts")]
    Memory {
        /// Bytes asked for.
        wanted: usize,
    },

    /// A read that gave fewer bytes than the file promised.
    #[error(
        "{path}: wanted {wanted} bytes at offset {offset}, got {done}; the file is shorter than its header says",
        path = path.display()
    )]
    FileRead {
        /// The file.
        path: PathBuf,
        /// Where the read began.
        offset: u64,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes given.
        done: u64,
    },

    /// A write that did not finish.
    #[error(
        "{path}: wrote {done} of {wanted} bytes at offset {offset}: {source}",
        path = path.display()
    )]
    FileWrite {
        /// The file.
        path: PathBuf,
        /// Where the write began.
        offset: u64,
        /// Bytes to write.
        wanted: u64,
        /// Bytes written.
        done: u64,
        /// What the system said.
        source: std::io::Error,
    },

    /// Any other refusal of the operating system: missing, denied, exists.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A file of another user where only our own are trusted.
    #[error(
        "{path} belongs to the user with id {owner}, not to the one who runs this, and is not touched; give \
         trust_owner=True to read what that user stored, or have it removed",
        path = path.display()
    )]
    Ownership {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },

    /// A file that is not what its name promises.
    #[error("{path}: its {field} is not valid: {got}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What about the file is wrong.
        field: &'static str,
        /// What was found, and what was expected.
        got: String,
    },

    /// A panic: a broken promise of our own.
    #[error("{0}")]
    Internal(String),
}
