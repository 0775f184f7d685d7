//! Scratch of bits, for callers that write each word before they read it.

use megalith_core::blocks::zeros;
use megalith_core::{Memory, Result};

/// Masks of fewer words come from the allocator.
const LARGE: usize = 1 << 16;

/// What debug builds fill masks with, so that tests see words that were not written.
const UNWRITTEN: u64 = 0xdead_beef_dead_beef;

/// Words of unspecified content; memory is taken where they are written, in huge pages where there are any.
#[derive(Debug)]
pub(crate) enum Mask {
    Small(Vec<u64>),
    Large(Memory, usize),
}

impl Mask {
    pub(crate) fn new(n_words: usize) -> Result<Self> {
        let mut mask = if n_words < LARGE {
            Self::Small(zeros(n_words)?)
        } else {
            Self::Large(Memory::take(n_words.saturating_mul(size_of::<u64>()))?, n_words)
        };
        if cfg!(debug_assertions) {
            mask.words_mut().fill(UNWRITTEN);
        }
        Ok(mask)
    }

    pub(crate) fn words(&self) -> &[u64] {
        match self {
            Self::Small(words) => words,
            // Memory begins with a page.
            Self::Large(memory, n_words) => &bytemuck::cast_slice(memory.bytes())[..*n_words],
        }
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Small(words) => words,
            Self::Large(memory, n_words) => &mut bytemuck::cast_slice_mut(memory.bytes_mut())[..*n_words],
        }
    }
}
