use std::ops::RangeInclusive;

use super::{check_axes, coordinates, flat, without};
use crate::attr_enum;
use crate::builder::Builder;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::scalar::{Product, Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

attr_enum! {
    /// How a reduction combines elements.
    ReduceKind {
        /// Sum; 0 for nothing.
        Sum = "sum",
        /// Product; 1 for nothing.
        Prod = "prod",
        /// Largest; the lowest value for nothing.
        Max = "max",
        /// Smallest; the highest value for nothing.
        Min = "min",
    }
}

impl ReduceKind {
    /// The function of two elements.
    pub fn combine(self) -> ScalarFn {
        match self {
            ReduceKind::Sum => ScalarFn::Add,
            ReduceKind::Prod => ScalarFn::Mul,
            ReduceKind::Max => ScalarFn::Max,
            ReduceKind::Min => ScalarFn::Min,
        }
    }

    /// The result for no elements.
    pub fn identity(self, dtype: DType) -> Scalar {
        match (self, dtype.is_float()) {
            (ReduceKind::Sum, _) => Scalar::zero(dtype),
            (ReduceKind::Prod, _) => Scalar::one(dtype),
            (ReduceKind::Max, true) => Scalar::F(f64::NEG_INFINITY),
            (ReduceKind::Min, true) => Scalar::F(f64::INFINITY),
            (ReduceKind::Max, false) => Scalar::I(dtype.int_range().0),
            (ReduceKind::Min, false) => Scalar::I(dtype.int_range().1),
        }
    }
}

op_struct! {
    /// A reduction over axes.
    Reduce {
        /// How elements are combined.
        kind: ReduceKind,
        /// Which axes vanish; increasing.
        axes: Vec<usize>,
    }
}

impl Builder {
    /// A reduction, unless there are no axes.
    pub fn reduce(&mut self, kind: ReduceKind, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        self.op1(Reduce { kind, axes: axes.to_vec() }, &[x])
    }

    /// Sum over axes.
    pub fn sum(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        self.reduce(ReduceKind::Sum, x, axes)
    }

    /// Repeats a reduction's result over the axes that vanished.
    pub fn unreduce(&mut self, y: ValueId, like: ValueId, axes: &[usize]) -> Result<ValueId> {
        let dims = self.ty(like).dims.clone();
        let kept: Vec<usize> = (0..dims.len()).filter(|a| !axes.contains(a)).collect();
        self.broadcast(y, &dims, &kept)
    }
}

impl Reduce {
    /// The product of all elements but one, none of which is 0: the product by the element, both without their powers of
    /// two, because all of them together may be out of range where the others are not. Many mantissas on one side of 1 would
    /// leave the range together; each of them gives up what they have in common, in steps of which n - 1 are exact.
    fn others<'s>(&self, x: Expr<'s>) -> Expr<'s> {
        let limit = if x.ty().dtype == DType::F64 { 1000.0 } else { 120.0 };
        let exact = x.abs().log() * std::f64::consts::LOG2_E;
        let exact = exact.max(x.literal(-limit)).min(x.literal(limit));
        let round = |v: Expr<'s>, f: ScalarFn| v.op(super::Map { f }, &[]);
        let wide = |v: Expr<'s>| v.unreduce(x, &self.axes);
        // To the derivative the powers are constants.
        let power = round(exact, ScalarFn::Round);
        let n = x.one_like().sum(&self.axes);
        let total = (exact - power).sum(&self.axes);
        let share = round(total / n * 64.0, ScalarFn::Round) * (1.0 / 64.0);
        // Few mantissas need not give up anything, and stay exact.
        let share = total.abs().lt(n.literal(limit / 2.0)).select(n.zero_like(), share);
        let common = share * (n - n.one_like());
        let whole = round(common, ScalarFn::Floor);
        let (two, row_two) = (x.literal(2.0), n.literal(2.0));
        let mantissa = x / two.pow(power) / wide(row_two.pow(share));
        let left = wide(power.sum(&self.axes) + whole) - power;
        let half = round(left * 0.5, ScalarFn::Floor);
        let product = mantissa.reduce(ReduceKind::Prod, &self.axes) * row_two.pow(common - whole);
        wide(product) / mantissa * two.pow(half) * two.pow(left - half)
    }
}

impl OpDef for Reduce {
    const NAME: &'static str = "reduce";
    const SIGNATURE: &'static str = "reduce{kind, axes}(x) -> y";
    const DOC: &'static str = "Combines the elements along `axes`, which vanish. A reduction of nothing is its \
        identity. A product overflows and underflows only where its value does, whatever the order of its factors. \
        Gradient of max and min: shared evenly by ties; of prod: exact with zeros.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_axes(&self.axes, &ins[0])?;
        if !ins[0].dtype.is_compute_float() && !ins[0].dtype.is_int() {
            fail!("reduce takes floats or integers, but got {}; add a cast", ins[0]);
        }
        Ok(vec![TensorType::new(ins[0].dtype, without(&ins[0].dims, &self.axes))])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let dtype = ins[0].dtype();
        let wide = if dtype.is_float() { DType::F64 } else { dtype };
        let shape = outs[0].static_shape();
        let mut acc = vec![self.kind.identity(dtype); shape.iter().product()];
        let scaled = self.kind == ReduceKind::Prod && dtype.is_float();
        let mut products = vec![Product::default(); if scaled { acc.len() } else { 0 }];
        let kept: Vec<usize> = (0..ins[0].shape().len()).filter(|a| !self.axes.contains(a)).collect();
        let mut to = vec![0; kept.len()];
        coordinates(ins[0].shape(), |i, at| {
            for (t, k) in to.iter_mut().zip(&kept) {
                *t = at[*k];
            }
            let o = flat(&to, &shape);
            if let Some(product) = products.get_mut(o) {
                *product = product.times(ins[0].get(i).as_f64());
                return;
            }
            acc[o] = self.kind.combine().eval(&[acc[o], ins[0].get(i)], wide);
        });
        acc.iter_mut().zip(&products).for_each(|(acc, product)| *acc = Scalar::F(product.value()));
        Ok(vec![Tensor::from_fn(dtype, &shape, |i| acc[i])])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, y, g) = (cx.ins[0], cx.outs[0], cx.g());
        let wide = cx.b.unreduce(g, x, &self.axes)?;
        let dx = match self.kind {
            ReduceKind::Sum => wide,
            ReduceKind::Max | ReduceKind::Min => {
                let yw = cx.b.unreduce(y, x, &self.axes)?;
                let hit = cx.b.map(ScalarFn::Eq, &[x, yw])?;
                let dtype = cx.b.ty(x).dtype;
                let hit = cx.b.op1(super::Cast { to: dtype }, &[hit])?;
                let ties = cx.b.sum(hit, &self.axes)?;
                // Shares are made before the gradient comes in: of nothing there are none to divide.
                let ties = cx.b.unreduce(ties, x, &self.axes)?;
                let share = cx.b.map(ScalarFn::Div, &[hit, ties])?;
                cx.b.map(ScalarFn::Mul, &[wide, share])?
            }
            ReduceKind::Prod => {
                // The product of the other elements. `others` is that of the nonzero ones; of the
                // zeros among the others, a single one is a factor (so that it has a second
                // derivative), and more than one leave nothing.
                let dtype = cx.b.ty(x).dtype;
                let scope = Scope::new(cx.b);
                let (xe, ge) = (scope.expr(x), scope.expr(wide));
                let wide_sum = |v: Expr<'_>| v.sum(&self.axes).unreduce(xe, &self.axes).id();
                let (zero, none, one) = (xe.eq(xe.zero_like()), xe.zero_like(), xe.one_like());
                let (safe, at_zero) = (zero.select(one, xe), zero.select(xe, none));
                let others = self.others(safe);
                let zeros = zero.cast(dtype);
                let other_zeros = scope.expr(wide_sum(zeros)) - zeros;
                let other_zero = scope.expr(wide_sum(at_zero)) - at_zero;
                let single = other_zeros.eq(one).select(other_zero * others, none);
                let product = other_zeros.eq(none).select(others, single);
                let id = (ge * product).id();
                scope.finish()?;
                id
            }
        };
        Ok(Vjp::Grads(vec![Some(dx)]))
    }

    fn flops(&self, ins: &[TensorType], _: &[TensorType]) -> Option<f64> {
        ins[0].shape().map(|s| s.iter().map(|d| *d as f64).product())
    }

    fn samples() -> Vec<Sample> {
        let mut all = Vec::new();
        for kind in [ReduceKind::Sum, ReduceKind::Prod, ReduceKind::Max, ReduceKind::Min] {
            let case = |s: &[usize], axes: &[usize]| {
                Sample::new(Reduce { kind, axes: axes.to_vec() }, vec![sample_tensor(s, 1)])
            };
            all.extend([
                case(&[], &[]),
                case(&[0], &[0]),
                case(&[1], &[0]),
                case(&[3, 5], &[0]),
                case(&[3, 5], &[1]),
                case(&[3, 2, 5], &[0, 2]),
                Sample::constant(Reduce { kind, axes: vec![1] }, vec![sample_indices(&[3, 5], 9, 1)]),
            ]);
        }
        // Rows with no, one, two and three zeros.
        let mut zeros = sample_tensor(&[4, 3], 1);
        for i in [5, 6, 7, 9, 10, 11] {
            zeros.set(i, Scalar::F(0.0));
        }
        all.push(Sample::new(Reduce { kind: ReduceKind::Prod, axes: vec![1] }, vec![zeros]));
        all
    }
}
