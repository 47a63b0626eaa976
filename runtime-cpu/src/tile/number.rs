//! What the scalar functions mean on each Rust type.
//!
//! Integer semantics are those of the table of scalar functions: arithmetic wraps, a division by zero
//! is 0, a shift outside the type is 0. Maximum and minimum of floats are NaN if either operand is.

use super::kernel::Tuned;
use super::{math32, math64};

/// A type that arithmetic and comparisons are done in.
pub trait Number: Tuned + Copy + PartialOrd + 'static {
    const ZERO: Self;
    const ONE: Self;
    /// An integer that orders values as the type does, with a place for NaN below and one above all.
    type Rank: Copy + Ord;
    /// The rank of what the maximum of nothing is.
    const LOWEST: Self::Rank;
    /// The rank of what the minimum of nothing is.
    const HIGHEST: Self::Rank;
    /// The rank; of NaN the highest if `nan_high`, else the lowest.
    fn rank(self, nan_high: bool) -> Self::Rank;
    /// The value of a rank.
    fn of_rank(rank: Self::Rank) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    fn maximum(self, other: Self) -> Self;
    fn minimum(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sign(self) -> Self;
    fn relu(self) -> Self;
}

/// `f32` and `f64`.
pub trait Real: Number {
    fn from_count(n: usize) -> Self;
    /// A mantissa from 1 up to 2 and the exponent of a power of two; zeros, infinities and NaN as they are, with 0.
    fn parts(self) -> (Self, i32);
    /// Times a power of two. A mantissa becomes what it is of, rounded once where that is subnormal.
    fn scaled(self, exponent: i32) -> Self;
    /// A number near an integer that [`Real::to_count`] gives back, exactly up to 2^24.
    fn of_exponent(exponent: i32) -> Self;
    fn to_count(self) -> i32;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn round(self) -> Self;
    fn sqrt(self) -> Self;
    fn exp<const FMA: bool>(self) -> Self;
    fn expm1<const FMA: bool>(self) -> Self;
    fn log<const FMA: bool>(self) -> Self;
    fn log1p<const FMA: bool>(self) -> Self;
    fn tanh<const FMA: bool>(self) -> Self;
    fn sigmoid<const FMA: bool>(self) -> Self;
    fn softplus<const FMA: bool>(self) -> Self;
    fn erf<const FMA: bool>(self) -> Self;
    fn pow<const FMA: bool>(self, exponent: Self) -> Self;
    /// Sine where [`Real::is_moderate`].
    fn sin<const FMA: bool>(self) -> Self;
    /// Cosine where [`Real::is_moderate`].
    fn cos<const FMA: bool>(self) -> Self;
    /// Whether sine and cosine take this angle; NaN counts.
    fn is_moderate(self) -> bool;
    /// Sine of any angle.
    fn any_sin(self) -> Self;
    /// Cosine of any angle.
    fn any_cos(self) -> Self;
}

/// Integers, and booleans stored as 0 and 1.
pub trait Integer: Number {
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn not(self) -> Self;
    fn shl(self, by: Self) -> Self;
    fn shr(self, by: Self) -> Self;
}

macro_rules! float_numbers {
    ($($t:ty, $bits:ty, $rank:ty;)*) => { $(
        impl Number for $t {
            const ZERO: $t = 0.0;
            const ONE: $t = 1.0;
            type Rank = $rank;
            const LOWEST: $rank = <$t>::NEG_INFINITY.to_bits() as $rank ^ <$rank>::MAX;
            const HIGHEST: $rank = <$t>::INFINITY.to_bits() as $rank;
            #[inline(always)]
            fn rank(self, nan_high: bool) -> $rank {
                // The magnitudes of negative numbers grow the other way.
                let bits = self.to_bits() as $rank;
                let rank = bits ^ ((bits >> (<$rank>::BITS - 1)) as $bits >> 1) as $rank;
                let nan = if nan_high { <$rank>::MAX } else { <$rank>::MIN };
                if self.is_nan() { nan } else { rank }
            }
            #[inline(always)]
            fn of_rank(rank: $rank) -> $t {
                <$t>::from_bits((rank ^ ((rank >> (<$rank>::BITS - 1)) as $bits >> 1) as $rank) as $bits)
            }
            #[inline(always)]
            fn add(self, other: $t) -> $t {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: $t) -> $t {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: $t) -> $t {
                self * other
            }
            #[inline(always)]
            fn div(self, other: $t) -> $t {
                self / other
            }
            #[inline(always)]
            fn rem(self, other: $t) -> $t {
                self % other
            }
            #[inline(always)]
            fn maximum(self, other: $t) -> $t {
                let larger = if self > other { self } else { other };
                // Equal operands have equal bits, but for zeros: of those the one without a sign.
                let tie = <$t>::from_bits(self.to_bits() & other.to_bits());
                let value = if self == other { tie } else { larger };
                if self.is_nan() { self } else { value }
            }
            #[inline(always)]
            fn minimum(self, other: $t) -> $t {
                let smaller = if self < other { self } else { other };
                let tie = <$t>::from_bits(self.to_bits() | other.to_bits());
                let value = if self == other { tie } else { smaller };
                if self.is_nan() { self } else { value }
            }
            #[inline(always)]
            fn neg(self) -> $t {
                -self
            }
            #[inline(always)]
            fn abs(self) -> $t {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn sign(self) -> $t {
                if self == 0.0 || self.is_nan() { self } else { (1.0 as $t).copysign(self) }
            }
            #[inline(always)]
            fn relu(self) -> $t {
                if self <= 0.0 { 0.0 } else { self }
            }
        }
    )* };
}
float_numbers! {
    f32, u32, i32;
    f64, u64, i64;
}

macro_rules! integer_numbers {
    ($($t:ty => $abs:expr, $sign:expr;)*) => { $(
        impl Number for $t {
            const ZERO: $t = 0;
            const ONE: $t = 1;
            type Rank = $t;
            const LOWEST: $t = <$t>::MIN;
            const HIGHEST: $t = <$t>::MAX;
            #[inline(always)]
            fn rank(self, _: bool) -> $t {
                self
            }
            #[inline(always)]
            fn of_rank(rank: $t) -> $t {
                rank
            }
            #[inline(always)]
            fn add(self, other: $t) -> $t {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: $t) -> $t {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: $t) -> $t {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: $t) -> $t {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn rem(self, other: $t) -> $t {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            #[inline(always)]
            fn maximum(self, other: $t) -> $t {
                self.max(other)
            }
            #[inline(always)]
            fn minimum(self, other: $t) -> $t {
                self.min(other)
            }
            #[inline(always)]
            fn neg(self) -> $t {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn abs(self) -> $t {
                $abs(self)
            }
            #[inline(always)]
            fn sign(self) -> $t {
                $sign(self)
            }
            #[inline(always)]
            fn relu(self) -> $t {
                self.max(0)
            }
        }

        impl Integer for $t {
            #[inline(always)]
            fn and(self, other: $t) -> $t {
                self & other
            }
            #[inline(always)]
            fn or(self, other: $t) -> $t {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: $t) -> $t {
                self ^ other
            }
            #[inline(always)]
            fn not(self) -> $t {
                !self
            }
            #[inline(always)]
            fn shl(self, by: $t) -> $t {
                let inside = by >= 0 as $t && by < <$t>::BITS as $t;
                if inside { self.wrapping_shl(by as u32) } else { 0 }
            }
            #[inline(always)]
            fn shr(self, by: $t) -> $t {
                let inside = by >= 0 as $t && by < <$t>::BITS as $t;
                if inside { self.wrapping_shr(by as u32) } else { 0 }
            }
        }
    )* };
}
#[allow(unused_comparisons, reason = "one source for signed and unsigned types")]
mod integers {
    use super::{Integer, Number};

    integer_numbers! {
        i8 => i8::wrapping_abs, i8::signum;
        i16 => i16::wrapping_abs, i16::signum;
        i32 => i32::wrapping_abs, i32::signum;
        i64 => i64::wrapping_abs, i64::signum;
        u8 => std::convert::identity, |x: u8| x.min(1);
        u16 => std::convert::identity, |x: u16| x.min(1);
        u32 => std::convert::identity, |x: u32| x.min(1);
        u64 => std::convert::identity, |x: u64| x.min(1);
    }
}

macro_rules! scaling {
    ($t:ty, $bits:ty, $fraction:literal, $bias:literal, $most:literal) => {
        #[inline(always)]
        fn parts(self) -> ($t, i32) {
            const EXPONENT: $bits = (2 * $bias + 1) << $fraction;
            // Where subnormals count as zeros none comes here.
            let low = self.abs() < <$t>::MIN_POSITIVE;
            let x = if low { self * Self::power_of_two(64) } else { self };
            let exponent = ((x.to_bits() & EXPONENT) >> $fraction) as i32 - $bias;
            let mantissa = <$t>::from_bits((x.to_bits() & !EXPONENT) | ($bias << $fraction));
            if self == 0.0 || !self.is_finite() {
                (self, 0)
            } else {
                (mantissa, exponent - if low { 64 } else { 0 })
            }
        }
        #[inline(always)]
        fn scaled(self, exponent: i32) -> $t {
            // Two factors, for the power of two may be out of range where the value is not.
            let exponent = exponent.clamp(-$most, $most);
            let half = exponent / 2;
            self * Self::power_of_two(half) * Self::power_of_two(exponent - half)
        }
        #[inline(always)]
        fn of_exponent(exponent: i32) -> $t {
            exponent as $t
        }
        #[inline(always)]
        fn to_count(self) -> i32 {
            self as i32
        }
    };
}

/// Powers of two in the range of normal numbers.
trait PowerOfTwo {
    fn power_of_two(exponent: i32) -> Self;
}

impl PowerOfTwo for f32 {
    #[inline(always)]
    fn power_of_two(exponent: i32) -> f32 {
        f32::from_bits(((exponent + 127) as u32) << 23)
    }
}

impl PowerOfTwo for f64 {
    #[inline(always)]
    fn power_of_two(exponent: i32) -> f64 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    }
}

macro_rules! rounding {
    () => {
        #[inline(always)]
        fn floor(self) -> Self {
            self.floor()
        }
        #[inline(always)]
        fn ceil(self) -> Self {
            self.ceil()
        }
        #[inline(always)]
        fn round(self) -> Self {
            self.round_ties_even()
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            self.sqrt()
        }
    };
}

macro_rules! f32_functions {
    ($($name:ident),*) => { $(
        #[inline(always)]
        fn $name<const FMA: bool>(self) -> f32 {
            math32::$name::<FMA>(self)
        }
    )* };
}

impl Real for f32 {
    rounding!();
    scaling!(f32, u32, 23, 127, 250);
    f32_functions!(exp, expm1, log, log1p, tanh, sigmoid, softplus, erf, sin, cos);

    #[inline(always)]
    fn from_count(n: usize) -> f32 {
        n as f32
    }
    #[inline(always)]
    fn pow<const FMA: bool>(self, exponent: f32) -> f32 {
        math32::pow::<FMA>(self, exponent)
    }
    #[inline(always)]
    fn is_moderate(self) -> bool {
        self.is_nan() || self.abs() <= math32::LARGEST_ANGLE
    }
    fn any_sin(self) -> f32 {
        f64::from(self).sin() as f32
    }
    fn any_cos(self) -> f32 {
        f64::from(self).cos() as f32
    }
}

/// Exponential, logarithm and sigmoid are vectorized; the rest comes from the standard library.
impl Real for f64 {
    rounding!();
    scaling!(f64, u64, 52, 1023, 2000);

    #[inline(always)]
    fn from_count(n: usize) -> f64 {
        n as f64
    }
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> f64 {
        math64::exp::<FMA>(self)
    }
    #[inline(always)]
    fn expm1<const FMA: bool>(self) -> f64 {
        self.exp_m1()
    }
    #[inline(always)]
    fn log<const FMA: bool>(self) -> f64 {
        math64::log::<FMA>(self)
    }
    #[inline(always)]
    fn log1p<const FMA: bool>(self) -> f64 {
        self.ln_1p()
    }
    #[inline(always)]
    fn tanh<const FMA: bool>(self) -> f64 {
        self.tanh()
    }
    #[inline(always)]
    fn sigmoid<const FMA: bool>(self) -> f64 {
        math64::sigmoid::<FMA>(self)
    }
    #[inline(always)]
    fn softplus<const FMA: bool>(self) -> f64 {
        let tail = (-self.abs()).exp().ln_1p();
        tail + if self < 0.0 { 0.0 } else { self }
    }
    #[inline(always)]
    fn erf<const FMA: bool>(self) -> f64 {
        graphc_ir::scalar::erf::erf(self)
    }
    #[inline(always)]
    fn pow<const FMA: bool>(self, exponent: f64) -> f64 {
        self.powf(exponent)
    }
    #[inline(always)]
    fn sin<const FMA: bool>(self) -> f64 {
        self.sin()
    }
    #[inline(always)]
    fn cos<const FMA: bool>(self) -> f64 {
        self.cos()
    }
    #[inline(always)]
    fn is_moderate(self) -> bool {
        true
    }
    fn any_sin(self) -> f64 {
        self.sin()
    }
    fn any_cos(self) -> f64 {
        self.cos()
    }
}
