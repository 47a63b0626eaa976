//! The error function in double precision.

/// erf(x) = 2/sqrt(pi) * integral of exp(-t^2) from 0 to x, to about 1e-15.
///
/// Maclaurin series below 2.5 (all terms of one sign after factoring out exp(-x^2): Abramowitz and
/// Stegun 7.1.6), continued fraction of erfc above (7.1.14, evaluated from the tail by Lentz's
/// recurrence run backwards).
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    let value = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else {
        let mut tail = a;
        for k in (1..=80).rev() {
            tail = a + f64::from(k) / 2.0 / tail;
        }
        1.0 - (-a * a).exp() / (tail * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}
