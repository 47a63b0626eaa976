use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};
use std::ops::RangeInclusive;

use super::normal_tail;
use super::random::{check_draw, dims_of, key_sample, unit};
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::scalar::erf::erf;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Normal draws between two bounds.
    TruncatedNormal {
        /// f32 or f64.
        dtype: DType = DType::F32,
        /// Dims of the result.
        dims: Vec<Dim>,
        /// Mean of the normal distribution.
        mean: Real = Real(0.0),
        /// Standard deviation of the normal distribution.
        std: Real = Real(1.0),
        /// Lower bound, in standard deviations from the mean.
        lo: Real = Real(-2.0),
        /// Upper bound, in standard deviations from the mean.
        hi: Real = Real(2.0),
    }
}

/// Bounds further out would leave the curve's shape to single words of 24 bits.
const FURTHEST: f64 = 5.0;

/// The inverse of the error function: Winitzki's closed form ("A handy approximation for the error function and its
/// inverse", 2008), whose relative error is below 2e-3, and two steps of Halley's method, each of which makes an error its
/// third power.
fn inverse_erf<'s>(y: Expr<'s>) -> Expr<'s> {
    const A: f64 = 0.147;
    let log = (y * y * -1.0 + 1.0).log();
    let half = log * 0.5 + 2.0 / (std::f64::consts::PI * A);
    // Where y is nearly 0 the difference is rounding, of whatever sign.
    let first = y.sign() * ((half * half - log / A).sqrt() - half).relu().sqrt();
    (0..2).fold(first, |x, _| {
        let newton = (x.erf() - y) / ((x * x * -1.0).exp() * FRAC_2_SQRT_PI);
        x - newton / (x * newton + 1.0)
    })
}

impl OpDef for TruncatedNormal {
    const NAME: &'static str = "truncated_normal";
    const SIGNATURE: &'static str =
        "truncated_normal{dtype, dims, mean = 0, std = 1, lo = -2, hi = 2}(key u32[2]) -> x";
    const DOC: &'static str = "mean + std * z with z standard normal under the condition lo <= z <= hi, by the inverse of its \
        distribution function: z = sqrt(2) * erfinv(a + (b - a) * u), a = erf(lo / sqrt(2)), b = erf(hi / sqrt(2)), u \
        uniform in [0, 1); in f32, where both bounds lie 1 or more on one side, by an interpolation of the same function \
        that keeps the digits of tails. The bounds lie between -5 and 5.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_draw(Self::NAME, self.dtype, &ins[0])?;
        let (lo, hi) = (self.lo.0, self.hi.0);
        let inside = -FURTHEST <= lo && hi <= FURTHEST;
        if !(inside && lo < hi) {
            fail!("the bounds of truncated_normal are -5 <= lo < hi <= 5, but they are {lo} and {hi}");
        }
        Ok(vec![TensorType::new(self.dtype, self.dims.clone())])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![None]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let u = unit(b, ins[0], &self.dims, self.dtype)?;
        let (lo, hi) = (self.lo.0, self.hi.0);
        let (low, high) = (erf(lo * FRAC_1_SQRT_2), erf(hi * FRAC_1_SQRT_2));
        let scope = Scope::new(b);
        let u = scope.expr(u);
        let z = match self.dtype {
            DType::F32 if lo >= normal_tail::NEAREST => normal_tail::draw(u, lo, hi),
            DType::F32 if hi <= -normal_tail::NEAREST => -normal_tail::draw(u.one_like() - u, -hi, -lo),
            _ => inverse_erf(u * (high - low) + low) * SQRT_2,
        };
        let z = z.max(z.literal(self.lo.0)).min(z.literal(self.hi.0));
        let x = (z * self.std.0 + self.mean.0).id();
        scope.finish()?;
        Ok(Some(vec![x]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        let dims = self.dims.iter().map(f).collect::<Result<_>>()?;
        Ok(TruncatedNormal { dims, ..self.clone() })
    }

    fn samples() -> Vec<Sample> {
        let case = |dtype, shape: &[usize], (mean, std), (lo, hi)| {
            let [mean, std, lo, hi] = [mean, std, lo, hi].map(Real);
            Sample::constant(TruncatedNormal { dtype, dims: dims_of(shape), mean, std, lo, hi }, key_sample())
        };
        vec![
            case(DType::F64, &[], (0.0, 1.0), (-2.0, 2.0)),
            case(DType::F32, &[0], (0.0, 1.0), (-2.0, 2.0)),
            case(DType::F64, &[1], (2.0, 0.5), (-1.0, 3.0)),
            case(DType::F32, &[3, 5], (0.0, 2.0), (-2.0, 2.0)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp;
    use crate::tensor::Tensor;

    fn inverse(y: &[f64]) -> Vec<f64> {
        let mut b = Builder::new();
        let input = b.input(TensorType::fixed(DType::F64, &[y.len()])).unwrap();
        let scope = Scope::new(&mut b);
        let x = inverse_erf(scope.expr(input)).id();
        scope.finish().unwrap();
        let graph = b.finish(&[x]).unwrap();
        interp::eval(&graph, &[&Tensor::from_slice(&[y.len()], y)], &[]).unwrap()[0].to_f64()
    }

    #[test]
    fn the_inverse_of_erf() {
        let x: Vec<f64> = (-35..=35).map(|i| f64::from(i) / 10.0).collect();
        let y: Vec<f64> = x.iter().map(|x| erf(*x)).collect();
        for ((x, y), found) in x.iter().zip(&y).zip(inverse(&y)) {
            // erf is good to 1e-15; an error of 1 in y is one of 1 / erf'(x) in x.
            let tolerance = 1e-14 + 1e-15 / (FRAC_2_SQRT_PI * (-x * x).exp());
            assert!((found - x).abs() < tolerance, "{x}: {found} of {y}");
        }
        assert_eq!(inverse(&[0.0]), [0.0]);
    }

    /// The same bits give the same draws in f32 as in f64, in terms of the probability between the bounds.
    #[test]
    fn tails_in_f32_are_those_in_f64() {
        const N: usize = 20_000;
        let probability = |z: f64, lo: f64, hi: f64| {
            let below = |z: f64| erf(z * FRAC_1_SQRT_2);
            (below(z) - below(lo)) / (below(hi) - below(lo))
        };
        let bounds = [
            (4.9, 5.0),
            (-5.0, -4.9),
            (1.0, 5.0),
            (-5.0, -1.0),
            (2.0, 2.5),
            (3.0, 5.0),
            (0.9, 5.0),
            (-5.0, 5.0),
            (-2.0, 2.0),
            (-5.0, -0.5),
        ];
        for (lo, hi) in bounds {
            let draws = |dtype| {
                let [mean, std, lo, hi] = [0.0, 1.0, lo, hi].map(Real);
                let op = TruncatedNormal { dtype, dims: vec![N.into()], mean, std, lo, hi };
                super::super::eval_expansion(&op, &[&key_sample()[0]]).unwrap()[0].to_f64()
            };
            let (narrow, wide) = (draws(DType::F32), draws(DType::F64));
            for (x, y) in narrow.iter().zip(&wide) {
                let off = (probability(*x, lo, hi) - probability(*y, lo, hi)).abs();
                // The last place of a draw, and what rounding leaves of a probability.
                let steepest = (-0.5 * if lo * hi < 0.0 { 0.0 } else { lo.abs().min(hi.abs()).powi(2) })
                    .exp()
                    / (erf(hi * FRAC_1_SQRT_2) - erf(lo * FRAC_1_SQRT_2));
                let tolerance = 1e-6 + 1e-6 * steepest;
                assert!(off < tolerance, "{lo}..{hi}: {x} for {y}, {off:e} off");
            }
            let mut bits: Vec<u64> = narrow.iter().map(|x| x.to_bits()).collect();
            bits.sort_unstable();
            bits.dedup();
            assert!(bits.len() > N / 2, "{lo}..{hi}: {} values", bits.len());
        }
    }

    /// Mean and variance as Johnson, Kotz and Balakrishnan give them (1994, section 10.1).
    #[test]
    fn moments() {
        const N: usize = 40_000;
        let (lo, hi) = (-1.0f64, 2.5f64);
        let [mean, std] = [3.0, 0.5];
        let op = TruncatedNormal {
            dtype: DType::F64,
            dims: vec![N.into()],
            mean: Real(mean),
            std: Real(std),
            lo: Real(lo),
            hi: Real(hi),
        };
        let x = super::super::eval_expansion(&op, &[&key_sample()[0]]).unwrap()[0].to_f64();
        assert!(x.iter().all(|x| (mean + std * lo..=mean + std * hi).contains(x)));
        let density = |z: f64| (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let mass = (erf(hi * FRAC_1_SQRT_2) - erf(lo * FRAC_1_SQRT_2)) / 2.0;
        let shift = (density(lo) - density(hi)) / mass;
        let variance = 1.0 + (lo * density(lo) - hi * density(hi)) / mass - shift * shift;
        let found = x.iter().sum::<f64>() / N as f64;
        let spread = x.iter().map(|x| (x - found).powi(2)).sum::<f64>() / N as f64;
        assert!((found - (mean + std * shift)).abs() < 4.0 * std / (N as f64).sqrt(), "{found}");
        assert!((spread / (std * std * variance) - 1.0).abs() < 0.03, "{spread}");
    }
}
