//! When numbers are equal enough.

use graphc_ir::{DType, Tensor};

/// ‖got − want‖ / ‖want‖ (just ‖got‖ where `want` is zero).
///
/// NaN agrees with NaN and an infinity with itself; any other non-finite difference, and any
/// difference in length, is infinite.
pub fn relative_l2(got: &[f64], want: &[f64]) -> f64 {
    relative_l2_above(got, want, 0.0)
}

/// As [`relative_l2`], but relative to a root mean square of at least `floor`: for results that are
/// zero but for rounding errors, such as the gradient of the sum of a softmax.
pub fn relative_l2_above(got: &[f64], want: &[f64], floor: f64) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let (mut difference, mut norm) = (0.0, 0.0);
    for (g, w) in got.iter().zip(want) {
        if g == w || (g.is_nan() && w.is_nan()) {
            norm += if w.is_finite() { w * w } else { 0.0 };
        } else if g.is_finite() && w.is_finite() {
            difference += (g - w) * (g - w);
            norm += w * w;
        } else {
            return f64::INFINITY;
        }
    }
    let norm = f64::max(norm, floor * floor * want.len() as f64);
    if norm == 0.0 { f64::sqrt(difference) } else { (difference / norm).sqrt() }
}

/// [`relative_l2`] of two tensors; infinite if their types differ.
pub fn tensor_error(got: &Tensor, want: &Tensor) -> f64 {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        return f64::INFINITY;
    }
    relative_l2(&got.to_f64(), &want.to_f64())
}

/// Whether two tensors have one type and the same elements; all NaNs are one, zeros have signs.
pub fn identical(got: &Tensor, want: &Tensor) -> bool {
    got.dtype() == want.dtype()
        && got.shape() == want.shape()
        && (0..got.len()).all(|i| {
            let (g, w) = (got.get(i), want.get(i));
            g == w || (g.as_f64().is_nan() && w.as_f64().is_nan())
        })
}

/// Distance of two numbers of a float type in units in the last place of `want`; 0 for two NaNs.
///
/// Below the smallest normal number it counts units of that: devices may flush subnormals.
pub fn ulps(got: f64, want: f64, dtype: DType) -> f64 {
    if got == want || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    if !got.is_finite() || !want.is_finite() {
        return f64::INFINITY;
    }
    let (digits, normal) = match dtype {
        DType::F64 => (52, f64::MIN_POSITIVE),
        DType::F32 => (23, f64::from(f32::MIN_POSITIVE)),
        DType::F16 => (10, 2f64.powi(-14)),
        _ => (7, f64::from(f32::MIN_POSITIVE)),
    };
    let magnitude = want.abs().max(normal);
    if (got - want).abs() <= normal && want.abs() <= normal {
        return 0.0;
    }
    // The power of two at or below the magnitude, read off its exponent.
    let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023) - digits;
    (got - want).abs() / 2f64.powi(exponent.max(-1074))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_errors() {
        assert_eq!(relative_l2(&[1.0, f64::NAN, f64::INFINITY], &[1.0, f64::NAN, f64::INFINITY]), 0.0);
        assert_eq!(relative_l2(&[3.0, 0.0], &[3.0, 4.0]), 0.8);
        assert_eq!(relative_l2(&[1.0], &[f64::NAN]), f64::INFINITY);
        assert_eq!(relative_l2(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(relative_l2(&[0.5], &[0.0]), 0.5);
        assert_eq!(relative_l2_above(&[3e-9; 4], &[1e-9; 4], 1e-3), 2e-6);
        assert_eq!(relative_l2_above(&[3.0; 4], &[2.0; 4], 1e-3), 0.5);
    }

    #[test]
    fn units_in_the_last_place() {
        assert_eq!(ulps(1.0 + f64::EPSILON, 1.0, DType::F64), 1.0);
        assert_eq!(ulps(3.0 + 2.0 * f64::from(f32::EPSILON), 3.0, DType::F32), 1.0);
        assert_eq!(ulps(0.0, 5e-324, DType::F64), 0.0);
        assert_eq!(ulps(f64::INFINITY, 1.0, DType::F64), f64::INFINITY);
        assert_eq!(ulps(f64::NAN, f64::NAN, DType::F32), 0.0);
    }

    #[test]
    fn identity_knows_signs_of_zeros() {
        let t = |v: f64| Tensor::from_slice(&[1], &[v]);
        assert!(identical(&t(f64::NAN), &t(-f64::NAN)));
        assert!(!identical(&t(0.0), &t(-0.0)));
        assert!(!identical(&t(1.0), &t(1.0).cast(DType::F32)));
    }
}
