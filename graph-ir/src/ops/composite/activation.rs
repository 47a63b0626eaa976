use std::ops::RangeInclusive;

use super::check_float;
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Rectifier with a slope below 0.
    LeakyRelu {
        /// The slope.
        slope: Real = Real(0.01),
    }
}

op_struct! {
    /// Exponential linear unit (Clevert, Unterthiner and Hochreiter 2016).
    Elu {
        /// Limit below 0 is -alpha.
        alpha: Real = Real(1.0),
    }
}

op_struct! {
    /// Gaussian error linear unit (Hendrycks and Gimpel 2016).
    Gelu {
        /// The tanh approximation instead of the error function.
        tanh: bool = false,
    }
}

op_struct! {
    /// x times its logistic function (Elfwing, Uchibe and Doya 2018).
    Silu {}
}

op_struct! {
    /// Clipping to an interval.
    HardTanh {
        /// Lower end.
        lo: Real = Real(-1.0),
        /// Upper end.
        hi: Real = Real(1.0),
    }
}

/// An elementwise function written as an expression.
trait Activation {
    fn apply<'s>(&self, x: Expr<'s>) -> Expr<'s>;

    /// The derivative, where one formula of x costs less than the chain rule: a gradient then keeps one factor of
    /// each element instead of one for each use of x.
    fn slope<'s>(&self, _: Expr<'s>) -> Option<Expr<'s>> {
        None
    }
}

impl Activation for LeakyRelu {
    fn apply<'s>(&self, x: Expr<'s>) -> Expr<'s> {
        x.gt(x.zero_like()).select(x, x * self.slope.0)
    }
}

impl Activation for Elu {
    fn apply<'s>(&self, x: Expr<'s>) -> Expr<'s> {
        // Where the other branch is taken the exponential must not overflow, for its gradient would be
        // inf * 0. A select and not a min, whose gradient at 0 is half of the one-sided slope alpha.
        let positive = x.gt(x.zero_like());
        let clipped = positive.select(x.zero_like(), x);
        let negative = clipped.op(crate::ops::Map { f: crate::scalar::ScalarFn::Expm1 }, &[]);
        positive.select(x, negative * self.alpha.0)
    }
}

/// `sqrt(2 / pi)`.
const SQRT_2_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

/// The cubic term of [`Gelu`]'s approximation.
const CUBIC: f64 = 0.044_715;

/// Twice what the hyperbolic tangent of [`Gelu`]'s approximation takes: (1 + tanh(v)) / 2 is the logistic function of
/// 2v, which loses no digit where the tangent is nearly -1.
fn twice_tangent(x: Expr<'_>) -> Expr<'_> {
    (x + x * x * x * CUBIC) * (2.0 * SQRT_2_OVER_PI)
}

impl Activation for Gelu {
    fn apply<'s>(&self, x: Expr<'s>) -> Expr<'s> {
        if self.tanh {
            return x * twice_tangent(x).sigmoid();
        }
        x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
    }

    /// Phi(x) + x Phi'(x).
    fn slope<'s>(&self, x: Expr<'s>) -> Option<Expr<'s>> {
        if self.tanh {
            // With s the logistic function of v: s + x s (1 - s) v', and 1 - s is that of -v.
            let v = twice_tangent(x);
            let along = (x * x * (3.0 * CUBIC) + 1.0) * (2.0 * SQRT_2_OVER_PI);
            return Some(v.sigmoid() * (x * (-v).sigmoid() * along + 1.0));
        }
        let phi = (x * std::f64::consts::FRAC_1_SQRT_2).erf();
        // The square of what the error function takes, so that the product is there already.
        let scaled = x * std::f64::consts::FRAC_1_SQRT_2;
        let half_slope = (-(scaled * scaled)).exp() * (0.5 * SQRT_2_OVER_PI);
        Some((phi + 1.0) * 0.5 + x * half_slope)
    }
}

impl Activation for Silu {
    fn apply<'s>(&self, x: Expr<'s>) -> Expr<'s> {
        x * x.sigmoid()
    }

    /// s + x s (1 - s), where 1 - s is the logistic function of -x, which loses no digit where s is nearly 1.
    fn slope<'s>(&self, x: Expr<'s>) -> Option<Expr<'s>> {
        Some(x.sigmoid() * (x * (-x).sigmoid() + 1.0))
    }
}

impl Activation for HardTanh {
    fn apply<'s>(&self, x: Expr<'s>) -> Expr<'s> {
        let (lo, hi) = (x.literal(self.lo.0), x.literal(self.hi.0));
        let above = x.ge(hi).select(hi, x);
        x.le(lo).select(lo, above)
    }
}

macro_rules! activation {
    ($t:ident, $name:literal, $sig:literal, $doc:literal, $check:expr, [$($sample:expr),*]) => {
        impl OpDef for $t {
            const NAME: &'static str = $name;
            const SIGNATURE: &'static str = $sig;
            const DOC: &'static str = $doc;
            const ARITY: RangeInclusive<usize> = 1..=1;

            fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
                check_float($name, &ins[0])?;
                let check: fn(&$t) -> Option<&'static str> = $check;
                if let Some(problem) = check(self) {
                    fail!("{problem}");
                }
                Ok(vec![ins[0].clone()])
            }

            fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
                let (x, g) = (cx.ins[0], cx.g());
                let scope = Scope::new(cx.b);
                let dx = self.slope(scope.expr(x)).map(|slope| (scope.expr(g) * slope).id());
                scope.finish()?;
                Ok(dx.map_or(Vjp::Expand, |dx| Vjp::Grads(vec![Some(dx)])))
            }

            fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
                let scope = Scope::new(b);
                let y = self.apply(scope.expr(ins[0])).id();
                scope.finish()?;
                Ok(Some(vec![y]))
            }

            fn samples() -> Vec<Sample> {
                let mut all = Vec::new();
                for op in [$($sample),*] {
                    for shape in [&[][..], &[0], &[1], &[3, 5]] {
                        all.push(Sample::new(op.clone(), vec![sample_tensor(shape, 1)]));
                    }
                }
                all
            }
        }
    };
}

activation!(
    LeakyRelu,
    "leaky_relu",
    "leaky_relu{slope = 0.01}(x) -> y",
    "x above 0, slope * x below.",
    |_| None,
    [LeakyRelu { slope: Real(0.01) }, LeakyRelu { slope: Real(0.3) }]
);
activation!(
    Elu,
    "elu",
    "elu{alpha = 1}(x) -> y",
    "x above 0, alpha * (e^x - 1) below.",
    |_| None,
    [Elu { alpha: Real(1.0) }, Elu { alpha: Real(0.5) }]
);
activation!(
    Gelu,
    "gelu",
    "gelu{tanh = false}(x) -> y",
    "x * Phi(x) with the normal distribution function Phi, by erf or by its tanh approximation.",
    |_| None,
    [Gelu { tanh: false }, Gelu { tanh: true }]
);
activation!(Silu, "silu", "silu(x) -> y", "x / (1 + e^-x).", |_| None, [Silu {}]);
activation!(
    HardTanh,
    "hard_tanh",
    "hard_tanh{lo = -1, hi = 1}(x) -> y",
    "x clipped to lo..hi; gradient 0 at and beyond the ends.",
    |s| (s.lo.0.is_nan() || s.hi.0.is_nan() || s.lo.0 > s.hi.0).then_some("hard_tanh needs lo <= hi"),
    [HardTanh { lo: Real(-1.0), hi: Real(1.0) }, HardTanh { lo: Real(0.0), hi: Real(0.5) }]
);
