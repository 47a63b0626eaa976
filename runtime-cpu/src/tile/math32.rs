//! Branch-free elementary functions in `f32`, written so that the compiler vectorizes loops over them.
//!
//! The reductions are Cody and Waite's ("Software Manual for the Elementary Functions", 1980); the
//! polynomials are relative minimax fits (Remez). Functions that lose digits to cancellation in `f32`
//! are computed in `f64` and rounded once. Subnormal operands count as zero, subnormal results may be
//! flushed. `FMA` says whether multiply-add is one instruction; elsewhere it would be a library call.

use super::math64;

/// `a * b + c`, fused where that is fast.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with these coefficients, constant term first.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = fma::<FMA>(sum, x, coefficients[i]);
    }
    sum
}

/// Adding and subtracting it rounds to the nearest integer; its bits then hold the integer.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2 in two parts; products of the first with integers below 2^15 are exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// e^x.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    /// The first number above ln of the largest finite one, and ln of the smallest normal one.
    const OVERFLOW: f32 = 88.722_84;
    const SMALLEST: f32 = -87.336_54;
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
    let (r, q) = exp_reduced::<FMA>(x, shifted - ROUNDER);
    let value = fma::<FMA>(r * r, q, r) + 1.0;
    // Adds n to the exponent: the low bits of `shifted` are n, its high bits are shifted out.
    let scaled = f32::from_bits(value.to_bits().wrapping_add(shifted.to_bits() << 23));
    let scaled = if x >= OVERFLOW { f32::INFINITY } else { scaled };
    let scaled = if x < SMALLEST { 0.0 } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// r = x - n ln 2, and q of e^r = 1 + r + r^2 q(r).
#[inline(always)]
fn exp_reduced<const FMA: bool>(x: f32, n: f32) -> (f32, f32) {
    let r = fma::<FMA>(-n, LN2[1], fma::<FMA>(-n, LN2[0], x));
    let q = [0.499_999_93, 0.166_665_2, 0.041_668_39, 0.008_368_717, 0.001_381_459_7];
    (r, polynomial::<FMA, 5>(r, q))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The polynomial q of ln(1 + f) = f + f^2 q(f), for f between -0.25 and 0.5.
#[inline(always)]
fn log_polynomial<const FMA: bool>(f: f32) -> f32 {
    polynomial::<FMA, 9>(
        f,
        [
            -0.5,
            0.333_334_5,
            -0.250_002_3,
            0.199_909_75,
            -0.166_429_46,
            0.144_680_57,
            -0.131_929_9,
            0.105_910_15,
            -0.046_190_422,
        ],
    )
}

/// The exponent e of x = m 2^e with m between 0.75 and 1.5.
#[inline(always)]
fn exponent(x: f32) -> i32 {
    (x.to_bits().wrapping_sub(0.75f32.to_bits()) as i32) >> 23
}

/// e ln 2 + ln(1 + f).
#[inline(always)]
fn log_sum<const FMA: bool>(e: f32, f: f32) -> f32 {
    let tail = fma::<FMA>(f * f, log_polynomial::<FMA>(f), e * LN2[1]);
    fma::<FMA>(e, LN2[0], tail + f)
}

/// The logarithm's special cases for an argument; `value` for the others.
#[inline(always)]
fn log_special(x: f32, value: f32) -> f32 {
    let value = if x == f32::INFINITY { x } else { value };
    let low = if x > -f32::MIN_POSITIVE { f32::NEG_INFINITY } else { f32::NAN };
    let value = if x < f32::MIN_POSITIVE { low } else { value };
    if x.is_nan() { x } else { value }
}

/// ln x.
#[inline(always)]
pub fn log<const FMA: bool>(x: f32) -> f32 {
    let e = exponent(x);
    let m = f32::from_bits(x.to_bits().wrapping_sub((e as u32) << 23));
    log_special(x, log_sum::<FMA>(e as f32, m - 1.0))
}

/// ln(1 + x): 1 + x decides about the exponent alone, so that no digit of x is lost.
#[inline(always)]
pub fn log1p<const FMA: bool>(x: f32) -> f32 {
    let u = 1.0 + x;
    let e = exponent(u);
    let scale = power_of_two(e.wrapping_neg());
    let f = fma::<FMA>(x, scale, scale - 1.0);
    // Where 1 says nothing more the scale, which may be out of range there, is not needed.
    let f = if x > FAR { f32::from_bits(u.to_bits().wrapping_sub((e as u32) << 23)) - 1.0 } else { f };
    let value = log_special(u, log_sum::<FMA>(e as f32, f));
    if x.abs() < NEAR { x } else { value }
}

/// Operands of so small a magnitude are what odd functions of slope 1 make of them, to a tenth of the last place. Their
/// zeros keep their sign.
const NEAR: f32 = 1e-8;

/// From here on x and 1 + x have one logarithm.
const FAR: f32 = 1e9;

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let p =
        polynomial::<FMA, 5>(z, [-0.333_332_78, 0.133_313_29, -0.053_729_23, 0.020_602_01, -0.005_660_791]);
    let small = fma::<FMA>(x * z, p, x);
    let large = 1.0 - 2.0 / (exp::<FMA>(a + a) + 1.0);
    // The polynomial's product with -0 would have a zero of the other sign.
    if a < 0.625 { small } else { large }.copysign(x)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Error function: a polynomial near 0, else 1 - e^-(x + x h(x)).
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let p = polynomial::<FMA, 6>(
        x * x,
        [0.128_379_15, -0.376_124_98, 0.112_818_44, -0.026_767_1, 0.004_993_275_4, -5.988_756e-4],
    );
    let small = fma::<FMA>(x, p, x);
    let capped = if a > 4.0 { 4.0 } else { a };
    let h = polynomial::<FMA, 7>(
        capped,
        [
            0.128_649_12,
            0.635_151_3,
            0.106_236_89,
            -0.023_762_07,
            0.003_642_462_4,
            -3.228_047e-4,
            1.123_139_4e-5,
        ],
    );
    let large = 1.0 - exp::<FMA>(-fma::<FMA>(capped, h, capped));
    if a < 0.92 { small } else { large.copysign(x) }
}

/// e^x - 1 = (2^n - 1) + 2^n (e^r - 1), where e^r - 1 loses no digit.
#[inline(always)]
pub fn expm1<const FMA: bool>(x: f32) -> f32 {
    let operand = x;
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -20.0 { -20.0 } else { x };
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let (r, q) = exp_reduced::<FMA>(x, shifted - ROUNDER);
    // Half of the scale, because 2^n itself overflows at the end of the range.
    let half = power_of_two(n.wrapping_sub(1));
    let value = fma::<FMA>(fma::<FMA>(r * r, q, r), half, half - 0.5);
    // The half of the smallest normal numbers would be flushed.
    if operand.abs() < NEAR { operand } else { value + value }
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
#[inline(always)]
pub fn softplus<const FMA: bool>(x: f32) -> f32 {
    let t = exp::<FMA>(-x.abs());
    // 1 + t = 2 (1 + (t - 1) / 2), which is exact for t > 0.5.
    let (e, f) = if t > 0.5 { (1.0, 0.5 * t - 0.5) } else { (0.0, t) };
    log_sum::<FMA>(e, f) + if x < 0.0 { 0.0 } else { x }
}

/// Largest operand of [`sin`] and [`cos`]: the number of quarter turns has to fit 20 bits.
pub const LARGEST_ANGLE: f32 = 1e6;

/// Sine and cosine of x minus the nearest multiple of pi/2, and that multiple.
#[inline(always)]
fn quarter_turns<const FMA: bool>(x: f32) -> (f64, f64, u64) {
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    /// pi/2 in two parts; products of the first with integers below 2^20 are exact.
    const PI_2: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];
    let x = f64::from(x);
    let shifted = x * std::f64::consts::FRAC_2_PI + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * PI_2[0]) - n * PI_2[1];
    let z = r * r;
    // Maclaurin series: the first term left out is below 1e-11 of the sum for |r| <= pi/4.
    let odd = math64::polynomial::<FMA, 5>(
        z,
        [-1.0 / 6.0, 1.0 / 120.0, -1.0 / 5_040.0, 1.0 / 362_880.0, -1.0 / 39_916_800.0],
    );
    let even = math64::polynomial::<FMA, 6>(
        z,
        [-0.5, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40_320.0, -1.0 / 3_628_800.0, 1.0 / 479_001_600.0],
    );
    (r + r * z * odd, 1.0 + z * even, shifted.to_bits())
}

/// Sine of an angle up to [`LARGEST_ANGLE`].
#[inline(always)]
pub fn sin<const FMA: bool>(x: f32) -> f32 {
    let (sin, cos, n) = quarter_turns::<FMA>(x);
    let value = if n & 1 == 0 { sin } else { cos };
    let value = f64::from_bits(value.to_bits() ^ ((n & 2) << 62)) as f32;
    if x == 0.0 { x } else { value }
}

/// Cosine of an angle up to [`LARGEST_ANGLE`].
#[inline(always)]
pub fn cos<const FMA: bool>(x: f32) -> f32 {
    let (sin, cos, n) = quarter_turns::<FMA>(x);
    let value = if n & 1 == 0 { cos } else { sin };
    f64::from_bits(value.to_bits() ^ ((n.wrapping_add(1) & 2) << 62)) as f32
}

/// x^y with the special cases of IEEE 754 `pow`.
#[inline(always)]
pub fn pow<const FMA: bool>(x: f32, y: f32) -> f32 {
    const EVEN: f32 = 16_777_216.0;
    let a = x.abs();
    let mut value =
        math64::exp_parts::<FMA, 9>(f64::from(y) * math64::log::<FMA>(f64::from(a))).value() as f32;
    // All floats from 2^24 on are even integers.
    let near = if y > EVEN { EVEN } else { y };
    let near = if near < -EVEN { -EVEN } else { near };
    let near = if near.is_nan() { 0.5 } else { near };
    // SAFETY: a number between -2^24 and 2^24 fits.
    let whole = unsafe { near.to_int_unchecked::<i32>() };
    let integral = whole as f32 == near;
    value = if x < 0.0 && !integral && a != f32::INFINITY { f32::NAN } else { value };
    let flip = (x.to_bits() & 0x8000_0000) & ((whole as u32 & u32::from(integral)) << 31);
    value = f32::from_bits(value.to_bits() ^ flip);
    let one = y == 0.0 || x == 1.0 || (a == 1.0 && y.abs() == f32::INFINITY);
    if one { 1.0 } else { value }
}
