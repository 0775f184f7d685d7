//! Bytes on disk: parallel positioned reads and writes, space checked before it is used, locks, and files whose visible
//! names are always complete.
//!
//! No Python and no headers: the caller says at which offset an array lies and moves byte orders himself. No unsafe
//! code but one call after a fork ([`lock::after_fork_in_child`]): nothing here maps memory. What maps it (`megalith-shm`) relies on [`space::reserve`] for stores that can never
//! raise SIGBUS, and on [`publish::Draft`] for files that are complete before anybody can open them.

#![deny(unsafe_code)]

pub mod books;
pub mod crash;
pub mod header;
mod inherited;
pub mod lock;
mod memory;
pub mod publish;
pub mod read;
mod runs;
pub mod space;
#[cfg(test)]
mod testing;

pub mod write;

pub use lock::Lock;
pub use publish::Draft;
pub use read::{read_at, read_box};
pub use runs::Stored;
pub use space::{Space, available, reserve};
pub use write::{write_at, write_box};
