//! Branch-free exponential and logarithm in `f64`, and short versions that serve `f32` results.

/// `a * b + c`, fused where that is fast.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with these coefficients, constant term first.
#[inline(always)]
pub fn polynomial<const FMA: bool, const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = fma::<FMA>(sum, x, coefficients[i]);
    }
    sum
}

/// Adding and subtracting it rounds to the nearest integer; its low bits then hold the integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// ln 2 in two parts; products of the first with integers below 2^20 are exact (fdlibm's split).
const LN2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];

/// e^x as `(1 + fraction) * scales[0] * scales[1]`.
pub struct ExpParts {
    fraction: f64,
    scales: [f64; 2],
}

impl ExpParts {
    /// e^x.
    #[inline(always)]
    pub fn value(&self) -> f64 {
        (1.0 + self.fraction) * self.scales[0] * self.scales[1]
    }
}

/// Reciprocals of the factorials of 2, 3, …
const INVERSE_FACTORIALS: [f64; 12] = [
    0.5,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// e^x from the Maclaurin series up to degree `DEGREE`, after Cody and Waite's reduction.
///
/// Relative error with degree 13 below 1e-16, with degree 9 below 1e-11.
#[inline(always)]
pub fn exp_parts<const FMA: bool, const DEGREE: usize>(x: f64) -> ExpParts {
    let x = if x > 710.0 { 710.0 } else { x };
    let x = if x < -746.0 { -746.0 } else { x };
    let shifted = fma::<FMA>(x, std::f64::consts::LOG2_E, ROUNDER);
    let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let whole = shifted - ROUNDER;
    let r = fma::<FMA>(-whole, LN2[1], fma::<FMA>(-whole, LN2[0], x));
    let mut q = INVERSE_FACTORIALS[DEGREE - 2];
    for i in (0..DEGREE - 2).rev() {
        q = fma::<FMA>(q, r, INVERSE_FACTORIALS[i]);
    }
    let half = n >> 1;
    ExpParts {
        fraction: fma::<FMA>(r * r, q, r),
        scales: [power_of_two(half), power_of_two(n.wrapping_sub(half))],
    }
}

#[inline(always)]
fn power_of_two(n: i32) -> f64 {
    f64::from_bits((i64::from(n).wrapping_add(1023) as u64) << 52)
}

/// e^x.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f64) -> f64 {
    exp_parts::<FMA, 13>(x).value()
}

/// ln x, from ln m = 2 artanh(s) with s = (m - 1) / (m + 1), m between 0.71 and 1.42 (fdlibm's reduction).
#[inline(always)]
pub fn log<const FMA: bool>(x: f64) -> f64 {
    const LOWEST: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    /// The bits of 2^52 as a float; adding a small integer to them makes 2^52 plus that integer.
    const TWO_52: u64 = 4_503_599_627_370_496f64.to_bits();
    let shifted = x.to_bits().wrapping_sub(LOWEST);
    // A conversion from 64-bit integers that every vector unit has; 2048 keeps it positive.
    let biased = (shifted >> 52).wrapping_add(2048) & 0xfff;
    let exponent = f64::from_bits(TWO_52 | biased) - (f64::from_bits(TWO_52) + 2048.0);
    let f = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(LOWEST)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let series = polynomial::<FMA, 10>(
        z,
        [
            2.0 / 3.0,
            2.0 / 5.0,
            2.0 / 7.0,
            2.0 / 9.0,
            2.0 / 11.0,
            2.0 / 13.0,
            2.0 / 15.0,
            2.0 / 17.0,
            2.0 / 19.0,
            2.0 / 21.0,
        ],
    );
    // ln m = f - s (f - z series) is more accurate than 2 s + s z series: f is exact.
    let half_square = 0.5 * f * f;
    let correction = s * (half_square + z * series);
    let low = fma::<FMA>(exponent, LN2[1], correction);
    let value = exponent * LN2[0] - ((half_square - low) - f);
    let value = if x == f64::INFINITY { x } else { value };
    let bottom = if x > -f64::MIN_POSITIVE { f64::NEG_INFINITY } else { f64::NAN };
    let value = if x < f64::MIN_POSITIVE { bottom } else { value };
    if x.is_nan() { x } else { value }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f64) -> f64 {
    1.0 / (1.0 + exp::<FMA>(-x))
}
