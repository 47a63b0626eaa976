use std::ops::RangeInclusive;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{OpDef, RandomBits, Sample, Vjp, VjpCx};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Uniform draws.
    Uniform {
        /// f32 or f64.
        dtype: DType = DType::F32,
        /// Dims of the result.
        dims: Vec<Dim>,
        /// Lower end, included.
        lo: Real = Real(0.0),
        /// Upper end, excluded.
        hi: Real = Real(1.0),
    }
}

op_struct! {
    /// Normal draws.
    Normal {
        /// f32 or f64.
        dtype: DType = DType::F32,
        /// Dims of the result.
        dims: Vec<Dim>,
        /// Mean.
        mean: Real = Real(0.0),
        /// Standard deviation.
        std: Real = Real(1.0),
    }
}

/// Uniform numbers in [0, 1) with 24 bits: the upper bits of a word times 2^-24, exact in f32.
pub(super) fn unit(b: &mut Builder, key: ValueId, dims: &[Dim], dtype: DType) -> Result<ValueId> {
    let bits = b.op1(RandomBits { dims: dims.to_vec() }, &[key])?;
    let eight = b.full_like(bits, 8.0)?;
    let top = b.map(ScalarFn::Shr, &[bits, eight])?;
    let u = b.cast(top, dtype)?;
    let scale = b.full_like(u, 2f64.powi(-24))?;
    b.map(ScalarFn::Mul, &[u, scale])
}

pub(super) fn check_draw(name: &str, dtype: DType, key: &TensorType) -> Result<()> {
    if !dtype.is_compute_float() {
        fail!("{name} draws f32 or f64, not {dtype}");
    }
    if *key != TensorType::fixed(DType::U32, &[2]) {
        fail!("a key is u32[2], but got {key}");
    }
    Ok(())
}

pub(super) fn dims_of(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::from(*d)).collect()
}

pub(super) fn key_sample() -> Vec<Tensor> {
    vec![Tensor::from_slice(&[2], &[3u32, 5])]
}

macro_rules! map_dims {
    ($t:ident) => {
        fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
            let dims = self.dims.iter().map(f).collect::<Result<_>>()?;
            Ok($t { dims, ..self.clone() })
        }
    };
}

impl Uniform {
    /// The number of the type next to the excluded end, if the largest draw rounds to that end or beyond.
    fn last(&self) -> Option<f64> {
        let (lo, hi) = (self.lo.0, self.hi.0);
        let round = |x: f64| Scalar::F(x).round_to(self.dtype).as_f64();
        let beyond = |x: f64| if hi > lo { x >= hi } else { x <= hi };
        // Rounded in one step or in two, as devices may.
        let u = 1.0 - 2f64.powi(-24);
        let largest = [round(round(u * round(hi - lo)) + round(lo)), round(u * round(hi - lo) + round(lo))];
        if !(lo.is_finite() && hi.is_finite() && largest.iter().any(|x| beyond(*x) || !x.is_finite())) {
            return None;
        }
        let end = round(hi);
        let next = |x: f64| match (self.dtype, hi > lo) {
            (DType::F32, true) => f64::from((x as f32).next_down()),
            (DType::F32, false) => f64::from((x as f32).next_up()),
            (_, true) => x.next_down(),
            (_, false) => x.next_up(),
        };
        Some(if beyond(end) { next(end) } else { end })
    }
}

impl OpDef for Uniform {
    const NAME: &'static str = "uniform";
    const SIGNATURE: &'static str = "uniform{dtype, dims, lo = 0, hi = 1}(key u32[2]) -> x";
    const DOC: &'static str =
        "lo + (hi - lo) * u with u uniform in [0, 1) on a grid of 2^-24. Equal bits everywhere.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_draw(Self::NAME, self.dtype, &ins[0])?;
        Ok(vec![TensorType::new(self.dtype, self.dims.clone())])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![None]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let u = unit(b, ins[0], &self.dims, self.dtype)?;
        let (lo, hi) = (self.lo.0, self.hi.0);
        let scope = Scope::new(b);
        let u = scope.expr(u);
        let round = |x: f64| Scalar::F(x).round_to(self.dtype).as_f64();
        let x = if round(hi - lo).is_finite() {
            u * (hi - lo) + lo
        } else {
            // The span is larger than the largest number, the ends are not.
            u * hi + (u.one_like() - u) * lo
        };
        let x = match self.last() {
            // Rounding may reach the end that is excluded.
            Some(last) if hi > lo => x.min(x.literal(last)),
            Some(last) if hi < lo => x.max(x.literal(last)),
            _ => x,
        };
        let x = x.id();
        scope.finish()?;
        Ok(Some(vec![x]))
    }

    map_dims!(Uniform);

    fn samples() -> Vec<Sample> {
        let case = |dtype, shape: &[usize], lo, hi| {
            let op = Uniform { dtype, dims: dims_of(shape), lo: Real(lo), hi: Real(hi) };
            Sample::constant(op, key_sample())
        };
        vec![
            case(DType::F32, &[], 0.0, 1.0),
            case(DType::F64, &[0], 0.0, 1.0),
            case(DType::F32, &[1], -1.0, 3.0),
            case(DType::F64, &[3, 5], -0.5, 0.5),
        ]
    }
}

impl OpDef for Normal {
    const NAME: &'static str = "normal";
    const SIGNATURE: &'static str = "normal{dtype, dims, mean = 0, std = 1}(key u32[2]) -> x";
    const DOC: &'static str = "mean + std * z with z by Box and Muller (1958) from two words an element: \
        sqrt(-2 ln(1 - u)) * cos(2 pi v).";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_draw(Self::NAME, self.dtype, &ins[0])?;
        Ok(vec![TensorType::new(self.dtype, self.dims.clone())])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![None]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        // One draw of twice the elements: the first half gives u, the second v.
        let mut twice = vec![Dim::from(2usize)];
        twice.extend(self.dims.iter().cloned());
        let both = unit(b, ins[0], &twice, self.dtype)?;
        let (zero, one, two) = (Dim::from(0usize), Dim::from(1usize), Dim::from(2usize));
        let u = b.slice_axis(both, 0, &zero, &one)?;
        let u = b.reshape(u, &self.dims)?;
        let v = b.slice_axis(both, 0, &one, &two)?;
        let v = b.reshape(v, &self.dims)?;
        let scope = Scope::new(b);
        let (u, v) = (scope.expr(u), scope.expr(v));
        let radius = ((u.one_like() - u).log() * -2.0).sqrt();
        let z = radius * (v * std::f64::consts::TAU).cos();
        let x = (z * self.std.0 + self.mean.0).id();
        scope.finish()?;
        Ok(Some(vec![x]))
    }

    map_dims!(Normal);

    fn samples() -> Vec<Sample> {
        let case = |dtype, shape: &[usize], mean, std| {
            let op = Normal { dtype, dims: dims_of(shape), mean: Real(mean), std: Real(std) };
            Sample::constant(op, key_sample())
        };
        vec![
            case(DType::F64, &[], 0.0, 1.0),
            case(DType::F32, &[0], 0.0, 1.0),
            case(DType::F64, &[1], 2.0, 0.5),
            case(DType::F64, &[3, 5], 0.0, 2.0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between neighbours of few numbers, and over spans that are no number, where rounding reaches the end.
    #[test]
    fn the_excluded_end_is_never_drawn() {
        let step = 2f64.powi(-22);
        let largest = f64::from(f32::MAX);
        let cases = [
            (DType::F32, 1.0, 1.0 + step),
            (DType::F32, 1.0 + step, 1.0),
            (DType::F32, -1.0 - step, -1.0),
            (DType::F32, 1e8, 1e8 + 100.0),
            (DType::F32, 0.1, 0.1 + step),
            (DType::F64, 1.0, 1.0 + 1e-15),
            (DType::F32, -largest, largest),
            (DType::F64, -f64::MAX, f64::MAX),
        ];
        for (dtype, lo, hi) in cases {
            let op = Uniform { dtype, dims: dims_of(&[4096]), lo: Real(lo), hi: Real(hi) };
            let draws = super::super::eval_expansion(&op, &[&key_sample()[0]]).unwrap()[0].to_f64();
            let low = Scalar::F(lo).round_to(dtype).as_f64();
            let inside = |x: &f64| if lo < hi { low <= *x && *x < hi } else { hi < *x && *x <= low };
            let outside = draws.iter().find(|x| !inside(x));
            assert_eq!(outside, None, "{dtype} {lo}..{hi}");
            assert!(draws.iter().any(|x| *x != draws[0]), "{dtype} {lo}..{hi}");
        }
    }
}
