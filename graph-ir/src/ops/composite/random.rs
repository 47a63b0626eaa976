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
use crate::scalar::ScalarFn;
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
        let scope = Scope::new(b);
        let x = (scope.expr(u) * (self.hi.0 - self.lo.0) + self.lo.0).id();
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
