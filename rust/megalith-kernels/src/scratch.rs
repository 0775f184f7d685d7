//! Scratch of bits: zero, and not touched before it is written.

use megalith_core::blocks::zeros;
use megalith_core::{Error, Result};
use memmap2::{Advice, MmapMut};

/// Masks of fewer words come from the allocator.
const LARGE: usize = 1 << 16;

/// Words that are zero until they are written; memory is taken where they are, in huge pages where there are any.
#[derive(Debug)]
pub(crate) enum Mask {
    Small(Vec<u64>),
    Large(MmapMut),
}

impl Mask {
    pub(crate) fn new(n_words: usize) -> Result<Self> {
        if n_words < LARGE {
            return Ok(Self::Small(zeros(n_words)?));
        }
        let wanted = n_words.saturating_mul(size_of::<u64>());
        let map = MmapMut::map_anon(wanted).map_err(|_| Error::Memory { wanted })?;
        #[cfg(target_os = "linux")]
        // A system without huge pages gives small ones.
        let _ = map.advise(Advice::HugePage);
        Ok(Self::Large(map))
    }

    pub(crate) fn words(&self) -> &[u64] {
        match self {
            Self::Small(words) => words,
            // Maps begin with a page.
            Self::Large(map) => bytemuck::cast_slice(map),
        }
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Small(words) => words,
            Self::Large(map) => bytemuck::cast_slice_mut(map),
        }
    }
}
