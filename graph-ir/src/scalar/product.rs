//! Products that overflow and underflow only where their value does.

/// A product of numbers in f64 with an exponent of its own, so that no order of the factors overflows on the way.
///
/// Where nothing overflows or underflows on the way it has the bits of the plain product: scaling by powers of two is
/// exact.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Of a magnitude from 1 up to 2; or zero, infinite or NaN.
    mantissa: f64,
    exponent: i64,
}

impl Default for Product {
    /// Of no factors.
    fn default() -> Product {
        Product { mantissa: 1.0, exponent: 0 }
    }
}

impl Product {
    /// The product with one more factor.
    #[must_use]
    pub fn times(self, factor: f64) -> Product {
        let (m, e) = parts(factor);
        let (mantissa, carried) = parts(self.mantissa * m);
        Product { mantissa, exponent: self.exponent + e + carried }
    }

    /// The product, rounded once more where it is subnormal.
    pub fn value(self) -> f64 {
        // Two factors, because the power of two may be out of range where the value is not. More than this is infinite
        // or zero in any case.
        let exponent = self.exponent.clamp(-2000, 2000) as i32;
        let half = exponent / 2;
        self.mantissa * 2f64.powi(half) * 2f64.powi(exponent - half)
    }
}

/// A number as a mantissa from 1 up to 2 times a power of two; zeros, infinities and NaN as they are.
fn parts(x: f64) -> (f64, i64) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, scaled) = if x.is_normal() { (x, 0) } else { (x * 2f64.powi(64), -64) };
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((x.to_bits() & !(0x7ff << 52)) | (1023 << 52));
    (mantissa, exponent + scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(factors: &[f64]) -> f64 {
        factors.iter().fold(Product::default(), |p, x| p.times(*x)).value()
    }

    #[test]
    fn nothing_overflows_on_the_way() {
        assert_eq!(product(&[]), 1.0);
        let large = 2f64.powi(1000);
        assert_eq!(product(&[large, large, 1.0 / large, -3.0 / large]), -3.0);
        assert_eq!(product(&[1e-300; 2]), 0.0);
        assert_eq!(product(&[1e300, 1e300]), f64::INFINITY);
        assert_eq!(product(&[5e-324, 2f64.powi(1000), 2f64.powi(74)]), 1.0);
        assert_eq!(product(&[2f64.powi(1023), 2f64.powi(-1023), 2f64.powi(-51)]), 2f64.powi(-51));
    }

    #[test]
    fn special_factors() {
        assert_eq!(product(&[0.0, 1e300, 1e300]), 0.0);
        assert!(product(&[-0.0, 2.0]).is_sign_negative());
        assert!(product(&[0.0, f64::INFINITY]).is_nan());
        assert!(product(&[f64::NAN, 0.0]).is_nan());
        assert_eq!(product(&[f64::NEG_INFINITY, -1e-300]), f64::INFINITY);
    }

    #[test]
    fn plain_products_keep_their_bits() {
        let factors: Vec<f64> = (1..100).map(|i| f64::from(i) * 0.137 - 5.05).collect();
        assert_eq!(product(&factors), factors.iter().product::<f64>());
    }
}
