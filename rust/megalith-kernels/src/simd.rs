//! The one place where a kernel meets the processor: which vector instructions there are, and who may use them.
//!
//! A loop is written once, as a plain function that is always inlined, and compiled three times, for the baseline of
//! the architecture, for AVX2 and for AVX-512; [`multiversion!`] makes the function that calls the one that this
//! machine can run. Where plain code does not become the instructions that are wanted, a level has a function of its own, in a
//! file beside the kernel's; the plain one stays for all others, and tests hold each against it.
//!
//! `MEGALITH_SIMD=baseline|avx2|avx512` lowers the level, for tests and for comparisons; it cannot raise it. On other
//! architectures the compiler vectorises for the baseline (NEON on aarch64), and there is one level.
//!
//! Vectors get in and out of memory as arrays of their size (`bytemuck::cast`), so that no kernel handles a pointer.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes of a result, much of which will have left the caches before anybody reads it: it need not go there, where memory
/// would have to be read before it is overwritten. Tests have less memory.
pub(crate) const LARGE: usize = if cfg!(test) { 1 << 12 } else { 1 << 24 };

/// The instructions a kernel may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What all processors of the architecture have.
    Baseline = 1,
    /// AVX2, FMA and the bit instructions of the same generation (x86-64-v3).
    Avx2 = 2,
    /// AVX-512 with the byte permutations and compressions of Ice Lake and Zen 4.
    Avx512 = 3,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    /// The name, as in `MEGALITH_SIMD`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// Ask for the line of memory at an address, whatever is there, without waiting for it: into the first-level cache, or,
/// if it is `FAR` from being used, into the second, which waits for more lines at a time.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn prefetch<const FAR: bool>(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let address = std::ptr::without_provenance(address);
        // SAFETY: a hint, which reads nothing and may be given for any address.
        #[allow(unsafe_code)]
        unsafe {
            if FAR { _mm_prefetch::<_MM_HINT_T1>(address) } else { _mm_prefetch::<_MM_HINT_T0>(address) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Ask for the memory of an entry of a table soon to be used, or of what would be there.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn prefetch_entry<T>(table: &[T], index: usize) {
    prefetch::<false>(table.as_ptr().wrapping_add(index).addr());
}

/// What allows to write past the caches. When it is dropped, by a panic too, it waits until what was written so can be seen
/// by all.
pub(crate) struct Fence(());

impl Fence {
    /// # Safety
    /// Nobody looks at what is written past the caches with this fence, or writes there, this thread neither, until it is
    /// dropped.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an instruction that all processors of the architecture have.
        #[allow(unsafe_code)]
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

multiversion!(
    /// Copy bytes, lines of memory past the caches if there is a `fence`.
    pub(crate) fn copy[](values: &[u8], out: &mut [u8], fence: Option<&Fence>) -> () = plain_copy, avx512 = avx512::copy
);

#[inline(always)]
#[allow(clippy::inline_always)]
fn plain_copy(values: &[u8], out: &mut [u8], _fence: Option<&Fence>) {
    out.copy_from_slice(values);
}

/// The level in use; 0 as long as nobody has asked.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level that kernels use.
#[inline]
#[must_use]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => first_level(),
    }
}

#[cold]
fn first_level() -> Level {
    let wanted = std::env::var("MEGALITH_SIMD").unwrap_or_default();
    let wanted = Level::ALL.into_iter().find(|level| level.name() == wanted);
    set_level(wanted.unwrap_or(Level::Avx512))
}

/// Use `wanted`, or the highest level below it that this processor has, from now on; returns what is used.
pub fn set_level(wanted: Level) -> Level {
    let level = wanted.min(detected());
    LEVEL.store(level as u8, Ordering::Relaxed);
    level
}

/// The highest level this processor has.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn detected() -> Level {
    // All that `multiversion!` names; a processor that lacks one of them is of the level below.
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512bitalg")
        && is_x86_feature_detected!("avx512vpopcntdq");
    if avx512 {
        Level::Avx512
    } else if avx2 {
        Level::Avx2
    } else {
        Level::Baseline
    }
}

/// The highest level this processor has.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn detected() -> Level {
    Level::Baseline
}

/// `multiversion!(fn name[T: Bound](arg: Type, ...) -> Output = plain)`: a function that is `plain`, an
/// `#[inline(always)]` function of the same arguments, compiled for the level in use.
///
/// `= plain, avx512 = f` (or `avx2 = f`, or both, AVX-512 first) calls `f` at that level: a function with
/// `#[target_feature]` of no more than the features below. Generic parameters must follow from the arguments.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$($generics:tt)*] ($($arg:ident: $type:ty),* $(,)?) -> $output:ty
        = $plain:path) => {
        multiversion!($(#[$meta])* $vis fn $name[$($generics)*]($($arg: $type),*) -> $output
            = $plain, avx512 = $plain, avx2 = $plain);
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$($generics:tt)*] ($($arg:ident: $type:ty),* $(,)?) -> $output:ty
        = $plain:path, avx512 = $avx512:path) => {
        multiversion!($(#[$meta])* $vis fn $name[$($generics)*]($($arg: $type),*) -> $output
            = $plain, avx512 = $avx512, avx2 = $plain);
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$($generics:tt)*] ($($arg:ident: $type:ty),* $(,)?) -> $output:ty
        = $plain:path, avx512 = $avx512:path, avx2 = $avx2:path) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name<$($generics)*>($($arg: $type),*) -> $output {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq")]
                fn avx512<$($generics)*>($($arg: $type),*) -> $output {
                    $avx512($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2<$($generics)*>($($arg: $type),*) -> $output {
                    $avx2($($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: only `set_level` makes a level known, and none above what `detected` has found: all the
                    // features named there, which are those named here.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            $plain($($arg),*)
        }
    };
}
pub(crate) use multiversion;

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn plain_sum<T: Copy + Into<u64>>(values: &[T]) -> u64 {
        values.iter().map(|&value| value.into()).sum()
    }

    multiversion!(fn sum[T: Copy + Into<u64>](values: &[T]) -> u64 = plain_sum);

    #[test]
    fn each_level_gives_the_same_and_none_above_the_processors_is_used() {
        for wanted in Level::ALL {
            let used = set_level(wanted);
            assert!(used <= wanted && used <= detected() && used == level());
            assert_eq!(sum(&[1u8, 2, 255]), 258);
            assert_eq!(sum(&[1u32 << 31; 9]), 9 << 31);
        }
    }

    #[test]
    fn bytes_are_copied_wherever_they_begin_and_end_and_nothing_around_them() {
        let values: Vec<u8> = (1..=200).collect();
        for (level, len) in Level::ALL.into_iter().flat_map(|level| (0..values.len()).map(move |len| (level, len))) {
            set_level(level);
            for (start, is_past) in (0..64).flat_map(|start| [(start, false), (start, true)]) {
                let mut room = [0; 300];
                // SAFETY: it is dropped before anybody looks at the room.
                #[allow(unsafe_code)]
                let fence = is_past.then(|| unsafe { Fence::new() });
                copy(&values[..len], &mut room[start..start + len], fence.as_ref());
                drop(fence);
                assert_eq!(room[start..start + len], values[..len]);
                assert!(room[..start].iter().chain(&room[start + len..]).all(|&byte| byte == 0));
            }
        }
    }
}
