//! Named arrays in shared memory, on `megalith-files`.
//!
//! For now: where they live.

#![forbid(unsafe_code)]

pub mod directory;
