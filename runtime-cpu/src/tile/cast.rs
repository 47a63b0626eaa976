//! Conversions over tiles, with the rules of [`Scalar::cast`](graphc_ir::scalar::Scalar::cast).

use std::marker::PhantomData;

use graphc_ir::dtype::DType;
use half::{bf16, f16};

use super::kernel::Tuned;
use super::map::{Map, MapFn};
use super::sweep::Function;
use crate::isa::Isa;

/// A boolean as it lies in memory: the byte 0 or 1.
#[derive(Clone, Copy)]
pub struct Bit(u8);

trait CastTo<U>: Copy {
    fn cast(self) -> U;
}

/// The conversion of `T` to `U`.
struct Cast<T, U>(PhantomData<(T, U)>);

impl<T: CastTo<U>, U: Copy> Function for Cast<T, U> {
    type A = T;
    type B = ();
    type C = ();
    type Out = U;
    #[inline(always)]
    fn apply<const FMA: bool>(x: T, (): (), (): ()) -> U {
        x.cast()
    }
}

/// Rust's `as` has the rules of the language for numbers: truncation that saturates with NaN to 0,
/// wrapping between integers, rounding to nearest even.
macro_rules! plain {
    ($($from:ty => [$($to:ty),*];)*) => { $( $(
        impl CastTo<$to> for $from {
            #[inline(always)]
            fn cast(self) -> $to {
                self as $to
            }
        }
    )* )* };
}

macro_rules! plain_table {
    ($($from:ty),*) => {
        plain! { $( $from => [f64, i64, i32, i16, i8, u64, u32, u16, u8]; )* }
        $( impl CastTo<Bit> for $from {
            #[inline(always)]
            fn cast(self) -> Bit {
                Bit(u8::from(self != 0 as $from))
            }
        }
        impl CastTo<$from> for Bit {
            #[inline(always)]
            fn cast(self) -> $from {
                self.0 as $from
            }
        } )*
    };
}
plain_table!(f64, f32, i64, i32, i16, i8, u64, u32, u16, u8);

plain! {
    f64 => [f32];
    f32 => [f32];
    i64 => [f32];
    i32 => [f32];
    u64 => [f32];
    i16 => [f32];
    i8 => [f32];
    u32 => [f32];
    u16 => [f32];
    u8 => [f32];
}

impl CastTo<Bit> for Bit {
    #[inline(always)]
    fn cast(self) -> Bit {
        self
    }
}

/// A number on its way to f16 or bf16, which is rounded there and must not be before: as the f32 that is cut off and has
/// a last bit of 1 if anything was, so that no number becomes the middle of two (rounding to odd: Boldo and Melquiond,
/// 2008).
trait Odd {
    fn odd(self) -> f32;
}

impl Odd for f64 {
    #[inline(always)]
    fn odd(self) -> f32 {
        let near = self as f32;
        let back = f64::from(near);
        let above = u32::from(back.abs() > self.abs());
        f32::from_bits((near.to_bits() - above) | u32::from(back != self))
    }
}

macro_rules! odd_through_f64 {
    ($($t:ty),*) => { $( impl Odd for $t {
        #[inline(always)]
        fn odd(self) -> f32 {
            let wide: f64 = self.cast();
            wide.odd()
        }
    } )* };
}
odd_through_f64!(i32, i16, i8, u32, u16, u8, Bit);

/// An f64 does not hold all integers of 64 bits: of those that it may not hold the last eleven bits go, likewise.
macro_rules! odd_of_64_bits {
    ($($t:ty),*) => { $( impl Odd for $t {
        #[inline(always)]
        fn odd(self) -> f32 {
            const CUT: $t = 0x7ff;
            let kept = self & !CUT | ((self & CUT != 0) as $t) << 11;
            let held = (self as f64).abs() < 9_007_199_254_740_992.0;
            (if held { self as f64 } else { kept as f64 }).odd()
        }
    } )* };
}
odd_of_64_bits!(i64, u64);

macro_rules! narrow_floats {
    ($($t:ty, $from_f32:ident, $to_f32:ident;)*) => { $(
        impl CastTo<$t> for f32 {
            #[inline(always)]
            fn cast(self) -> $t {
                <$t>::from_bits($from_f32(self))
            }
        }
        rounded_once!($t, [f64, i64, i32, i16, i8, u64, u32, u16, u8, Bit]);
        from_narrow!($t, $to_f32, [f32, f64, i64, i32, i16, i8, u64, u32, u16, u8, Bit, f16, bf16]);
    )* };
}

macro_rules! rounded_once {
    ($t:ty, [$($from:ty),*]) => { $( impl CastTo<$t> for $from {
        #[inline(always)]
        fn cast(self) -> $t {
            self.odd().cast()
        }
    } )* };
}

macro_rules! from_narrow {
    ($t:ty, $to_f32:ident, [$($to:ty),*]) => { $( impl CastTo<$to> for $t {
        #[inline(always)]
        fn cast(self) -> $to {
            $to_f32(self.to_bits()).cast()
        }
    } )* };
}

narrow_floats! {
    f16, f16_bits, f16_value;
    bf16, bf16_bits, bf16_value;
}

/// Rounds to half precision, to nearest even.
#[inline(always)]
fn f16_bits(x: f32) -> u16 {
    /// The bits of 2^-14, the smallest normal half, and of the difference of the exponents' biases.
    const NORMAL: u32 = 0x3880_0000;
    const BIAS: u32 = 112 << 23;
    const INFINITY: u32 = 0x7c00;
    let sign = x.to_bits() >> 16 & 0x8000;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    let half_to_even = 0xfff + (magnitude >> 13 & 1);
    let normal = magnitude.wrapping_sub(BIAS).wrapping_add(half_to_even) >> 13;
    let normal = if normal > INFINITY { INFINITY } else { normal };
    // Below, 0.5 has the spacing that subnormal halves have, so that the sum rounds as they do.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let value = if magnitude < NORMAL { subnormal } else { normal };
    let value = if x.is_nan() { 0x7e00 } else { value };
    (sign | value) as u16
}

#[inline(always)]
fn f16_value(bits: u16) -> f32 {
    const SUBNORMAL_UNIT: f32 = 1.0 / 16_777_216.0;
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let normal = (magnitude << 13) + (112 << 23);
    let special = (magnitude << 13) | 0x7f80_0000;
    let subnormal = (magnitude as f32 * SUBNORMAL_UNIT).to_bits();
    let value = if magnitude < 0x400 { subnormal } else { normal };
    let value = if magnitude >= 0x7c00 { special } else { value };
    f32::from_bits(sign | value)
}

/// Rounds to bfloat16, to nearest even.
#[inline(always)]
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

#[inline(always)]
fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

macro_rules! cast_table {
    ($isa:expr, $from:expr, $to:expr, [$($d:ident $t:ty),*], $tos:tt) => {
        match $from { $( DType::$d => cast_table!(@to $isa, $to, $t, $tos), )* }
    };
    (@to $isa:expr, $to:expr, $from:ty, [$($d:ident $t:ty),*]) => {
        match $to { $( DType::$d => <$from as Tuned>::version::<Map<Cast<$from, $t>>>($isa), )* }
    };
}

/// The kernel that converts `from` to `to`.
pub fn cast(isa: Isa, from: DType, to: DType) -> MapFn {
    cast_table!(isa, from, to,
        [F64 f64, F32 f32, F16 f16, Bf16 bf16, I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16,
         U8 u8, Bool Bit],
        [F64 f64, F32 f32, F16 f16, Bf16 bf16, I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16,
         U8 u8, Bool Bit])
}
