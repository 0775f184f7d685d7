//! The words every megalith crate shares: errors, element types, views on strided memory, blocks, the thread pool and
//! cancellation.
//!
//! No NumPy, no Python, no files. Unsafe code lives in three files, [`view`] (strided memory), [`pool`] (the pointer
//! that survives a fork) and [`memory`] (pages that the system may take); everything built on them is safe Rust.

pub mod blocks;
pub mod cancel;
pub mod dtype;
pub mod error;
pub mod memory;
pub mod pool;
mod spread;
pub mod view;

pub use cancel::{Cancel, Progress};
pub use dtype::{Bool8, DType, Element, Pod, c64, c128, f16};
pub use error::{Error, Result};
pub use memory::Memory;
pub use pool::Workers;
pub use view::{SinkView, SourceView};
