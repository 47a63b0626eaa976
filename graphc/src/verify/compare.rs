//! How far two lists of results are apart.

use graphc_ir::Tensor;

/// The difference of one result.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Name of the result.
    pub name: String,
    /// Relative L2 error, ‖a-b‖/‖b‖ in f64, of floats; infinite where NaNs or infinities do not agree, and
    /// where integers or booleans differ.
    pub error: f64,
    /// Index, in row-major order, of the element that differs most; `None` if all are equal.
    pub index: Option<usize>,
}

impl Deviation {
    /// Whether it is more than rounding.
    pub fn exceeds(&self, tolerance: f64) -> bool {
        self.error.is_nan() || self.error > tolerance
    }
}

/// Arithmetic in another order moves a result further than one unit in the last place of each value: so many times.
const REACH: f64 = 64.0;

/// The largest difference of two lists of equally named results, beyond the reach of the noise of each (none where it is not known).
/// If `strict`, the noise only counts where a result is no larger than it.
pub(super) fn worst(
    expected: &[(String, Tensor)],
    actual: &[(String, Tensor)],
    noise: &[f64],
    strict: bool,
) -> Deviation {
    let mut worst = Deviation { name: String::new(), error: 0.0, index: None };
    for (i, ((name, e), (_, a))) in expected.iter().zip(actual).enumerate() {
        let (error, index) = difference(e, a, noise.get(i).map_or(0.0, |n| n * REACH), strict);
        if worst.name.is_empty() || error > worst.error {
            worst = Deviation { name: name.clone(), error, index };
        }
    }
    worst
}

fn difference(expected: &Tensor, actual: &Tensor, floor: f64, strict: bool) -> (f64, Option<usize>) {
    if expected.dtype() != actual.dtype() || expected.shape() != actual.shape() {
        return (f64::INFINITY, None);
    }
    let float = expected.dtype().is_float();
    let (mut apart, mut norm) = (0.0f64, 0.0f64);
    let mut largest = (0.0f64, None);
    for i in 0..expected.len() {
        let (e, a) = (expected.get(i), actual.get(i));
        let (ef, af) = (e.as_f64(), a.as_f64());
        let equal = if float { ef == af || (ef.is_nan() && af.is_nan()) } else { e == a };
        if ef.is_finite() {
            norm += ef * ef;
        }
        if equal {
            continue;
        }
        let by = if float && ef.is_finite() && af.is_finite() { (ef - af).abs() } else { f64::INFINITY };
        apart += by * by;
        if by > largest.0 {
            largest = (by, Some(i));
        }
    }
    let norm = norm.sqrt();
    // Noise without a bound says nothing of the results.
    let floor = if floor.is_finite() { floor } else { 0.0 };
    let floor = if strict && norm > floor { 0.0 } else { floor };
    let apart = (apart.sqrt() - floor).max(0.0);
    let error = match (apart, norm) {
        (0.0, _) => 0.0,
        // The squares of what is below 1e-162 are 0.
        (_, 0.0) => apart,
        (_, norm) => apart / norm,
    };
    (error, largest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Vec<(String, Tensor)> {
        vec![("y".into(), Tensor::from_slice(&[values.len()], values))]
    }

    #[test]
    fn errors_are_relative_to_the_norm() {
        let d = worst(&floats(&[3.0, 4.0]), &floats(&[3.0, 4.5]), &[], false);
        assert_eq!((d.error, d.index), (0.1, Some(1)));
        assert!(d.exceeds(0.05) && !d.exceeds(0.2));
    }

    #[test]
    fn what_is_not_finite_must_agree() {
        let special = [f32::NAN, f32::INFINITY, 1.0];
        assert_eq!(worst(&floats(&special), &floats(&special), &[], false).error, 0.0);
        for wrong in [[1.0, f32::INFINITY, 1.0], [f32::NAN, 1.0, 1.0], [f32::NAN, f32::INFINITY, f32::NAN]] {
            let d = worst(&floats(&special), &floats(&wrong), &[], false);
            assert!(d.exceeds(1e30), "{wrong:?} {d:?}");
        }
    }

    #[test]
    fn noise_is_no_difference() {
        let by = |a: f32, b: f32, noise, strict| worst(&floats(&[a]), &floats(&[b]), &[noise], strict).error;
        assert_eq!(by(2e-17, 0.0, 1e-17, true), 0.0);
        assert!(by(2e-17, 0.0, 1e-20, false) > 0.9 && by(1.0, 1.5, 1e-7, false) > 0.49);
        assert_eq!(by(1.0, 1.0001, 1e-4, false), 0.0);
        assert!(by(1.0, 1.0001, 1e-4, true) > 5e-5, "strict: it is more than noise");
        assert!(worst(&floats(&[1.0]), &floats(&[f32::NAN]), &[1e30], false).exceeds(1.0));
    }

    #[test]
    fn integers_must_be_equal() {
        let ints = |v: &[i32]| vec![("y".to_owned(), Tensor::from_slice(&[v.len()], v))];
        assert!(!worst(&ints(&[1, 2]), &ints(&[1, 2]), &[], false).exceeds(0.0));
        let d = worst(&ints(&[1, 2]), &ints(&[1, 3]), &[], false);
        assert!(d.exceeds(1e30) && d.index == Some(1));
    }
}
