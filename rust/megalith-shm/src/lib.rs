//! Named bytes in shared memory, on `megalith-files`: what they are called, where they live, how they are mapped, who
//! makes them, and which there are.
//!
//! No Python and no headers: a shared array is a file `<prefix><id>.npy` or, for a nested value, `<prefix><id>.npz`,
//! and the caller says what is inside. The life of one:
//!
//! 1. [`Segment::open`](segment::Segment::open) maps it if it is there. That takes no lock.
//! 2. If not, [`turn::take`] says who computes. The others look again and again.
//! 3. Who computes writes a [`Draft`](megalith_files::Draft) in [the user's own directory](directory::own), publishes it
//!    and gives up his claim. Killed anywhere in between he leaves nothing that is visible, and the next one's turn.
//! 4. [`list::remove`] takes the name away; the memory goes with the last mapping of any process.

#![deny(unsafe_code)]

pub mod directory;
pub mod list;
pub mod name;
pub mod segment;
pub mod turn;

pub use name::Name;
pub use segment::{Identity, Segment};
pub use turn::{Claim, Turn};
