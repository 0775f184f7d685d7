//! The element types, listed in this file and nowhere else.
//!
//! [`DType`] names a type at run time, [`Element`] is the same fact at compile time, and the `match_*!` macros lead
//! from the one to the other. Adding a type means adding it here.

/// IEEE half precision.
pub use half::f16;
use num_complex::Complex;

/// Two single-precision floats.
#[allow(non_camel_case_types)]
pub type c64 = Complex<f32>;
/// Two double-precision floats.
#[allow(non_camel_case_types)]
pub type c128 = Complex<f64>;

/// A byte that means a truth value.
///
/// NumPy stores True as 1, but views of other memory hold any byte; Rust's `bool` would make those undefined behaviour.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Bool8(pub u8);

impl PartialEq for Bool8 {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        (self.0 != 0) == (other.0 != 0)
    }
}

mod sealed {
    /// Only this file decides what may be read from raw memory.
    pub trait Sealed {}
}

/// A type for which every pattern of bytes is a value, so that memory of unknown content may be read as it.
///
/// Sealed: [`crate::view`] relies on it for soundness.
pub trait Pod: sealed::Sealed + bytemuck::Pod + Default + Send + Sync {}

/// A [`Pod`] that is an element type of NumPy.
pub trait Element: Pod + PartialEq + std::fmt::Debug {
    /// The name of the type at run time.
    const DTYPE: DType;
    /// The same value in the other byte order (both parts of a complex number by themselves).
    #[must_use]
    fn swap_bytes(self) -> Self;
    /// Whether `numpy.nonzero` counts it: NaN does, -0.0 does not.
    fn is_nonzero(self) -> bool;
}

/// An [`Element`] with a value on the real line.
pub trait Real: Element {
    /// The value in double precision (64-bit integers are rounded to nearest, as C does).
    fn to_double(self) -> f64;
    /// A double converted as C code compiled for x86-64 does it: truncated toward zero, wrapped into the type.
    fn from_double(value: f64) -> Self;
}

/// A [`Real`] whose values are whole numbers.
pub trait Integer: Real + Ord {
    /// The largest value.
    const MAX: i128;
    /// An index as a value; one beyond the type loses its high bits.
    fn from_index(index: usize) -> Self;
    /// The value, exactly.
    fn to_i128(self) -> i128;
    /// The value, if the type can hold it.
    fn from_i128(value: i128) -> Option<Self>;
    /// The value as an index, if it is not negative.
    fn to_index(self) -> Option<usize>;
    /// The low 64 bits of the value, sign extended.
    fn to_wrapped_i64(self) -> i64;
    /// The value moved by `offset`, if the type can hold it.
    #[inline]
    fn offset(self, offset: i128) -> Option<Self> {
        Self::from_i128(self.to_i128() + offset)
    }
}

macro_rules! dtypes {
    ($($variant:ident $type:ty, $name:literal;)*) => {
        /// An element type at run time. Dates and durations are their 64-bit integers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum DType { $($variant,)* }

        impl DType {
            /// NumPy's name.
            #[must_use]
            #[inline]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bytes of an element.
            #[must_use]
            #[inline]
            pub fn itemsize(self) -> usize {
                match self { $(Self::$variant => size_of::<$type>(),)* }
            }
        }

        $(impl sealed::Sealed for $type {}
        impl Pod for $type {})*
    };
}

dtypes! {
    Bool Bool8, "bool";
    I8 i8, "int8"; I16 i16, "int16"; I32 i32, "int32"; I64 i64, "int64";
    U8 u8, "uint8"; U16 u16, "uint16"; U32 u32, "uint32"; U64 u64, "uint64";
    F16 f16, "float16"; F32 f32, "float32"; F64 f64, "float64";
    C64 c64, "complex64"; C128 c128, "complex128";
}

// Sixteen bytes that are moved and never looked at, with the alignment NumPy gives them.
impl sealed::Sealed for [u64; 2] {}
impl Pod for [u64; 2] {}

impl Element for Bool8 {
    const DTYPE: DType = DType::Bool;
    #[inline]
    fn swap_bytes(self) -> Self {
        self
    }
    #[inline]
    fn is_nonzero(self) -> bool {
        self.0 != 0
    }
}

impl Real for Bool8 {
    #[inline]
    fn to_double(self) -> f64 {
        f64::from(u8::from(self.is_nonzero()))
    }
    #[inline]
    fn from_double(value: f64) -> Self {
        Self(u8::from(u8::from_double(value) != 0))
    }
}

impl PartialOrd for Bool8 {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bool8 {
    #[inline]
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.is_nonzero().cmp(&other.is_nonzero())
    }
}

impl Eq for Bool8 {}

impl Integer for Bool8 {
    const MAX: i128 = 1;
    #[inline]
    fn from_index(index: usize) -> Self {
        Self(index as u8)
    }
    #[inline]
    fn to_i128(self) -> i128 {
        i128::from(self.is_nonzero())
    }
    #[inline]
    fn from_i128(value: i128) -> Option<Self> {
        u8::try_from(value).ok().filter(|&v| v < 2).map(Self)
    }
    #[inline]
    fn to_index(self) -> Option<usize> {
        Some(usize::from(self.is_nonzero()))
    }
    #[inline]
    fn to_wrapped_i64(self) -> i64 {
        i64::from(self.is_nonzero())
    }
}

/// `cvttsd2si` with a 32-bit result: the low bytes of it are what C gives for 8 and 16-bit integers.
#[inline]
fn truncate_to_i32(value: f64) -> i32 {
    // 2^31 is exact in double; anything that truncates to a 32-bit integer lies strictly between.
    if value > -2_147_483_649.0 && value < 2_147_483_648.0 { value as i32 } else { i32::MIN }
}

/// `cvttsd2si` with a 64-bit result.
#[inline]
fn truncate_to_i64(value: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) { value as i64 } else { i64::MIN }
}

/// Double to unsigned 64-bit as compilers do it for x86-64 without AVX-512: the upper half by way of a subtraction.
#[inline]
fn truncate_to_u64(value: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if value >= HALF { (truncate_to_i64(value - HALF) as u64) ^ (1 << 63) } else { truncate_to_i64(value) as u64 }
}

macro_rules! integers {
    ($($type:ty, $variant:ident, $truncate:ident;)*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            #[inline]
            fn swap_bytes(self) -> Self { <$type>::swap_bytes(self) }
            #[inline]
            fn is_nonzero(self) -> bool { self != 0 }
        }
        impl Real for $type {
            // `as` for all widths: 64-bit integers round to nearest like C's conversion.
            #[allow(clippy::cast_lossless)]
            #[inline]
            fn to_double(self) -> f64 { self as f64 }
            #[inline]
            fn from_double(value: f64) -> Self { $truncate(value) as Self }
        }
        impl Integer for $type {
            const MAX: i128 = <$type>::MAX as i128;
            #[inline]
            fn from_index(index: usize) -> Self { index as Self }
            #[inline]
            fn to_i128(self) -> i128 { i128::from(self) }
            #[inline]
            fn from_i128(value: i128) -> Option<Self> { Self::try_from(value).ok() }
            #[inline]
            fn to_index(self) -> Option<usize> { usize::try_from(self).ok() }
            #[allow(clippy::cast_lossless)]
            #[inline]
            fn to_wrapped_i64(self) -> i64 { self as i64 }
        }
    )*};
}

integers! {
    i8, I8, truncate_to_i32; i16, I16, truncate_to_i32; i32, I32, truncate_to_i32; i64, I64, truncate_to_i64;
    u8, U8, truncate_to_i32; u16, U16, truncate_to_i32; u32, U32, truncate_to_i64; u64, U64, truncate_to_u64;
}

/// A double rounded to half precision once, to nearest, ties to even.
///
/// `f16::from_f64` goes by way of single precision and rounds twice. Here the step in between rounds to *odd*: what does
/// not fit leaves its trace in the last bit, so that no tie appears that was none (Boldo and Melquiond, 2008).
#[inline]
fn round_to_f16(value: f64) -> f16 {
    let nearest = value as f32;
    let error = value.abs() - f64::from(nearest).abs();
    if error == 0.0 || error.is_nan() {
        return f16::from_f32(nearest);
    }
    // Toward zero, then odd.
    let truncated = if error < 0.0 { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f16::from_f32(f32::from_bits(truncated | 1))
}

macro_rules! floats {
    ($($type:ty, $variant:ident, $to:expr, $from:expr;)*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            #[inline]
            fn swap_bytes(self) -> Self { Self::from_bits(self.to_bits().swap_bytes()) }
            // The bits without the sign: zero of either sign is zero, NaN is not.
            #[inline]
            fn is_nonzero(self) -> bool { self.to_bits() << 1 != 0 }
        }
        impl Real for $type {
            #[inline]
            fn to_double(self) -> f64 { $to(self) }
            #[inline]
            fn from_double(value: f64) -> Self { $from(value) }
        }
    )*};
}

floats! {
    f16, F16, f16::to_f64, round_to_f16;
    f32, F32, f64::from, (|v| v as f32);
    f64, F64, (|v| v), (|v| v);
}

macro_rules! complexes {
    ($($type:ty, $variant:ident;)*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            #[inline]
            fn swap_bytes(self) -> Self { Self::new(Element::swap_bytes(self.re), Element::swap_bytes(self.im)) }
            #[inline]
            fn is_nonzero(self) -> bool { self.re.is_nonzero() || self.im.is_nonzero() }
        }
    )*};
}

complexes! { c64, C64; c128, C128; }

/// Run an expression with `$T` bound to the element type a [`DType`] names.
///
/// Four forms: `all`, `real` (no complex), `integer` (with bool) and `number` (integers without bool); the types
/// outside the form take the `else` arm.
#[macro_export]
macro_rules! match_dtype {
    (@arms $dtype:expr, $T:ident, $body:expr, [$($variant:ident $type:ty),*], $($else:tt)*) => {
        match $dtype {
            $($crate::DType::$variant => { type $T = $type; $body })*
            $($else)*
        }
    };
    (integer $dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(@arms $dtype, $T, $body, [
            Bool $crate::Bool8, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64
        ], _ => $other)
    };
    (number $dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(@arms $dtype, $T, $body, [
            I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64
        ], _ => $other)
    };
    (real $dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(@arms $dtype, $T, $body, [
            Bool $crate::Bool8, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64,
            F16 $crate::f16, F32 f32, F64 f64
        ], _ => $other)
    };
    (all $dtype:expr, $T:ident => $body:expr) => {
        $crate::match_dtype!(@arms $dtype, $T, $body, [
            Bool $crate::Bool8, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64,
            F16 $crate::f16, F32 f32, F64 f64, C64 $crate::c64, C128 $crate::c128
        ],)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_outside_the_type_convert_as_x86_does() {
        assert_eq!(u8::from_double(-1.0), 255);
        assert_eq!(u8::from_double(256.9), 0);
        assert_eq!(u8::from_double(3e9), 0);
        assert_eq!(i16::from_double(40_000.0), -25_536);
        assert_eq!(i32::from_double(f64::NAN), i32::MIN);
        assert_eq!(u32::from_double(-1.5), u32::MAX);
        assert_eq!(u64::from_double(1.5e19), 15_000_000_000_000_000_000);
        assert_eq!(u64::from_double(1e30), 0);
        assert_eq!(i64::from_double(1e30), i64::MIN);
    }

    #[test]
    fn zero_of_either_sign_is_zero_and_nan_is_not() {
        assert!(!(-0.0f32).is_nonzero() && f64::NAN.is_nonzero() && f16::NAN.is_nonzero());
        assert!(c64::new(0.0, f32::NAN).is_nonzero() && !c128::new(-0.0, 0.0).is_nonzero());
    }

    #[test]
    fn doubles_round_to_half_precision_once() {
        // Just above the middle of two halves, by less than single precision can hold.
        for (value, bits) in
            [(1.0 + 1.0 / 2048.0 + 1e-12, 0x3C01), (2_049.000_000_1, 0x6801), (65_519.999_999_9, 0x7BFF)]
        {
            assert_eq!(<f16 as Real>::from_double(value).to_bits(), bits, "{value}");
            assert_eq!(<f16 as Real>::from_double(-value).to_bits(), bits | 0x8000, "{value}");
        }
        assert_eq!(<f16 as Real>::from_double(65_520.0), f16::INFINITY);
        assert_eq!(<f16 as Real>::from_double(f64::MAX), f16::INFINITY);
        assert_eq!(<f16 as Real>::from_double(1.0 + 1.0 / 2048.0).to_bits(), 0x3C00);
        assert!(<f16 as Real>::from_double(f64::NAN).is_nan());
    }

    #[test]
    fn every_byte_but_zero_is_true() {
        assert!(Bool8(2).is_nonzero() && Bool8(255) == Bool8(1));
        assert_eq!(Bool8(77).to_index(), Some(1));
    }
}
