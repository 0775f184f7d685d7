//! Block-parallel kernels: pure functions, views in, views out. No NumPy, no Python, no files.

#![forbid(unsafe_op_in_unsafe_fn)]

pub mod block_sums;
pub mod checksum;
pub mod correlate1d;
pub mod digest;
pub mod groups;
pub mod lut;
pub mod lut_index;
pub mod neighbours;
pub mod probe;
mod rows;
mod scratch;
pub mod simd;
mod sort;
pub mod where_;
