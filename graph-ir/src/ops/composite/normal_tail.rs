//! The inverse of the normal distribution function far from the mean, in numbers of 24 bits.
//!
//! There the error function is nearly 1, and what tells one draw from another is lost to rounding. The exponential
//! rate of the tail is kept instead: with Q the upper tail's mass and e = ln(Q(lo) / Q(z)), which is e = -ln(1 - q) for a
//! draw that a share q of the tail's mass lies below, z is nearly w = sqrt(lo^2 + 2 e), and a smooth function of w. For
//! the two bounds of a draw that function is interpolated once, when the graph is expanded (Chebyshev interpolation,
//! Trefethen, "Approximation Theory and Approximation Practice", 2013).

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::expr::Expr;
use crate::scalar::erf::erf;

/// Bounds nearer to the mean than this are served by the error function: the interpolation would need more terms.
pub(super) const NEAREST: f64 = 1.0;

/// Terms of the interpolation: with 12 its error is below 2e-7 from bound 1 to bound 5, which is the last place of f32.
const TERMS: usize = 12;

/// The mass above z.
fn mass(z: f64) -> f64 {
    0.5 * (1.0 - erf(z * FRAC_1_SQRT_2))
}

/// The z above `lo` where ln(Q(lo) / Q(z)) = e, by Newton's method on the logarithm, which is concave.
fn inverse(lo: f64, e: f64) -> f64 {
    let wanted = mass(lo).ln() - e;
    let mut z = (lo * lo + 2.0 * e).sqrt();
    for _ in 0..20 {
        let q = mass(z);
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        z += (q.ln() - wanted) * q / density;
    }
    z
}

/// z with a normal distribution between two bounds, [`NEAREST`] or more above the mean, of whose mass a share `u` lies
/// below z.
pub(super) fn draw<'s>(u: Expr<'s>, lo: f64, hi: f64) -> Expr<'s> {
    let total = (mass(lo) / mass(hi)).ln();
    let width = (lo * lo + 2.0 * total).sqrt() - lo;
    let at = |s: f64| {
        let w = lo + width * 0.5 * (s + 1.0);
        inverse(lo, 0.5 * (w * w - lo * lo))
    };
    let angle = |k: usize| PI * (k as f64 + 0.5) / TERMS as f64;
    let values: Vec<f64> = (0..TERMS).map(|k| at(angle(k).cos())).collect();
    let coefficient = |j: usize| {
        let sum: f64 = (0..TERMS).map(|k| values[k] * (j as f64 * angle(k)).cos()).sum();
        sum * if j == 0 { 1.0 } else { 2.0 } / TERMS as f64
    };
    // 2 e; w - lo without cancellation; and s, where that lies between -1 and 1.
    let below = u * -(1.0 - (-total).exp());
    let twice = below.log1p() * -2.0;
    let beyond = twice / ((twice + lo * lo).sqrt() + lo);
    let s = beyond * (2.0 / width) - 1.0;
    // Clenshaw's recurrence.
    let double = s + s;
    let (mut b1, mut b2) = (s.literal(coefficient(TERMS - 1)), s.zero_like());
    for j in (1..TERMS - 1).rev() {
        (b1, b2) = (double * b1 - b2 + coefficient(j), b1);
    }
    s * b1 - b2 + coefficient(0)
}
