//! What may follow the sums of a kernel: everything that the compiler merges with it.

use graphc_ir::error::Result;
use graphc_ir::ops::{
    Check, Concat, Iota, LayerNorm, LogSoftmax, Moments, Reduce, ReduceKind, Softmax, Uniform,
};
use graphc_ir::{DType, ScalarFn, ValueId};

use super::{Draft, Fill};

/// One thing that may follow.
struct Form {
    name: &'static str,
    /// Whether a small difference of the sums may become a large one of the results.
    steep: bool,
    apply: fn(&mut Draft, ValueId) -> Result<ValueId>,
}

const fn form(name: &'static str, apply: fn(&mut Draft, ValueId) -> Result<ValueId>) -> Form {
    Form { name, steep: false, apply }
}

const fn steep(name: &'static str, apply: fn(&mut Draft, ValueId) -> Result<ValueId>) -> Form {
    Form { name, steep: true, apply }
}

const FORMS: &[Form] = &[
    form("as it is", |_, x| Ok(x)),
    form("a bias", |d, x| d.with_columns(ScalarFn::Add, x)),
    form("a bias and relu", |d, x| {
        let y = d.with_columns(ScalarFn::Add, x)?;
        d.b.map(ScalarFn::Relu, &[y])
    }),
    form("relu", |d, x| d.b.map(ScalarFn::Relu, &[x])),
    form("a factor", |d, x| d.with_number(ScalarFn::Mul, x, 0.5)),
    form("a factor from outside", |d, x| {
        let by = d.input(d.b.ty(x).dtype, &[], Fill::Reals)?;
        d.b.map(ScalarFn::Mul, &[x, by])
    }),
    form("a sum with another", |d, x| {
        let other = d.alike(x)?;
        d.b.map(ScalarFn::Add, &[x, other])
    }),
    form("a difference from another, and relu", |d, x| {
        let other = d.alike(x)?;
        let y = d.b.map(ScalarFn::Sub, &[other, x])?;
        d.b.map(ScalarFn::Relu, &[y])
    }),
    form("negated", |d, x| d.b.map(ScalarFn::Neg, &[x])),
    form("absolute", |d, x| d.b.map(ScalarFn::Abs, &[x])),
    form("leaky relu", |d, x| {
        let (zero, low) = (d.b.full_like(x, 0.0)?, d.with_number(ScalarFn::Mul, x, 0.1)?);
        let positive = d.b.map(ScalarFn::Gt, &[x, zero])?;
        d.b.map(ScalarFn::Select, &[positive, x, low])
    }),
    form("elu", |d, x| {
        let (zero, low) = (d.b.full_like(x, 0.0)?, d.b.map(ScalarFn::Expm1, &[x])?);
        let positive = d.b.map(ScalarFn::Gt, &[x, zero])?;
        d.b.map(ScalarFn::Select, &[positive, x, low])
    }),
    form("clipped", |d, x| {
        let (low, high) = (d.b.full_like(x, -1.0)?, d.b.full_like(x, 1.0)?);
        let y = d.b.map(ScalarFn::Max, &[x, low])?;
        d.b.map(ScalarFn::Min, &[y, high])
    }),
    form("tanh", |d, x| d.b.map(ScalarFn::Tanh, &[x])),
    form("silu", |d, x| {
        let gate = d.b.map(ScalarFn::Sigmoid, &[x])?;
        d.b.map(ScalarFn::Mul, &[x, gate])
    }),
    form("gelu", |d, x| {
        let scaled = d.with_number(ScalarFn::Mul, x, std::f64::consts::FRAC_1_SQRT_2)?;
        let erf = d.b.map(ScalarFn::Erf, &[scaled])?;
        let gate = d.with_number(ScalarFn::Add, erf, 1.0)?;
        d.b.map(ScalarFn::Mul, &[x, gate])
    }),
    form("a value for each row", |d, x| d.with_rows(ScalarFn::Mul, x)),
    form("values for each row and column", |d, x| {
        let y = d.with_rows(ScalarFn::Add, x)?;
        let y = d.with_columns(ScalarFn::Mul, y)?;
        d.b.map(ScalarFn::Abs, &[y])
    }),
    form("numbered columns", |d, x| {
        let ty = d.b.ty(x).clone();
        let axis = ty.rank() - 1;
        let numbers = d.b.op1(Iota { dtype: ty.dtype, dims: ty.dims, axis }, &[])?;
        d.b.map(ScalarFn::Sub, &[x, numbers])
    }),
    form("numbered rows", |d, x| {
        let ty = d.b.ty(x).clone();
        let axis = ty.rank().saturating_sub(2);
        let numbers = d.b.op1(Iota { dtype: ty.dtype, dims: ty.dims, axis }, &[])?;
        d.b.map(ScalarFn::Max, &[x, numbers])
    }),
    form("a choice by truth values", |d, x| {
        let (shape, other) = (d.b.ty(x).static_shape(), d.b.map(ScalarFn::Neg, &[x])?);
        let condition = d.input(DType::Bool, &shape, Fill::Bools)?;
        d.b.map(ScalarFn::Select, &[condition, x, other])
    }),
    form("a random choice", |d, x| {
        let ty = d.b.ty(x).clone();
        let key = d.input(DType::U32, &[2], Fill::Words)?;
        let (lo, hi) = (graphc_ir::ops::attr::Real(0.0), graphc_ir::ops::attr::Real(1.0));
        // In f32 on every device, so that the choice is one.
        let drawn = d.b.op1(Uniform { dtype: DType::F32, dims: ty.dims, lo, hi }, &[key])?;
        let half = d.b.full_like(drawn, 0.5)?;
        let keep = d.b.map(ScalarFn::Lt, &[drawn, half])?;
        let zero = d.b.full_like(x, 0.0)?;
        d.b.map(ScalarFn::Select, &[keep, x, zero])
    }),
    form("kept, and negated as well", |d, x| {
        d.outputs.push(x);
        d.b.map(ScalarFn::Neg, &[x])
    }),
    form("relu, kept, and a sum with another", |d, x| {
        let y = d.b.map(ScalarFn::Relu, &[x])?;
        d.outputs.push(y);
        let other = d.alike(y)?;
        d.b.map(ScalarFn::Add, &[y, other])
    }),
    form("sums of the columns, and itself", |d, x| {
        d.outputs.push(x);
        d.fold(ReduceKind::Sum, x, false)
    }),
    form("sums of the columns of its relu", |d, x| {
        let y = d.b.map(ScalarFn::Relu, &[x])?;
        d.outputs.push(y);
        d.fold(ReduceKind::Sum, y, false)
    }),
    form("the largest of each column", |d, x| d.fold(ReduceKind::Max, x, false)),
    form("sums of the rows", |d, x| d.fold(ReduceKind::Sum, x, true)),
    form("the largest of each row, and itself", |d, x| {
        d.outputs.push(x);
        d.fold(ReduceKind::Max, x, true)
    }),
    form("the sum of all", |d, x| {
        let axes: Vec<usize> = (0..d.b.ty(x).rank()).collect();
        d.b.op1(Reduce { kind: ReduceKind::Sum, axes }, &[x])
    }),
    form("moments of the columns", |d, x| {
        d.outputs.push(x);
        let axes = (0..(d.b.ty(x).rank() - 1).max(1)).collect();
        let moments = d.b.op(Moments { axes }, &[x])?;
        d.outputs.push(moments[1]);
        Ok(moments[0])
    }),
    form("softmax", |d, x| {
        let x = d.with_number(ScalarFn::Mul, x, 0.125)?;
        let axis = d.b.ty(x).rank() - 1;
        d.b.op1(Softmax { axis }, &[x])
    }),
    form("log softmax, and itself", |d, x| {
        d.outputs.push(x);
        let axis = d.b.ty(x).rank() - 1;
        d.b.op1(LogSoftmax { axis }, &[x])
    }),
    form("transposed", |d, x| {
        let y = d.b.map(ScalarFn::Neg, &[x])?;
        let perm: Vec<usize> = (0..d.b.ty(y).rank()).rev().collect();
        d.b.transpose(y, &perm)
    }),
    form("as one row", |d, x| {
        let y = d.b.map(ScalarFn::Abs, &[x])?;
        let size = d.b.ty(y).static_shape().iter().product::<usize>();
        d.b.reshape(y, &[size.into()])
    }),
    form("put beside its negative", |d, x| {
        let y = d.b.map(ScalarFn::Neg, &[x])?;
        let axis = d.b.ty(y).rank() - 1;
        d.b.op1(Concat { axis }, &[x, y])
    }),
    form("without its first column", |d, x| {
        let axis = d.b.ty(x).rank() - 1;
        let y = d.b.map(ScalarFn::Abs, &[x])?;
        let columns = d.b.ty(x).static_shape()[axis];
        d.b.slice_axis(y, axis, &usize::from(columns > 1).into(), &columns.into())
    }),
    form("as f16", |d, x| {
        let x = d.with_number(ScalarFn::Mul, x, 0.0625)?;
        let y = d.b.cast(x, DType::F16)?;
        d.outputs.push(y);
        Ok(x)
    }),
    form("a step down a gradient", |d, x| {
        let shape = d.b.ty(x).static_shape();
        if d.b.ty(x).dtype != DType::F64 {
            return Ok(x);
        }
        let (index, old) = d.variable(&shape, Fill::Reals)?;
        let step = d.with_number(ScalarFn::Mul, x, 0.25)?;
        let new = d.b.map(ScalarFn::Sub, &[old, step])?;
        d.updates.push((index, new));
        Ok(x)
    }),
    form("a step with momentum", |d, x| {
        let shape = d.b.ty(x).static_shape();
        if d.b.ty(x).dtype != DType::F64 {
            return Ok(x);
        }
        let (velocity, v) = d.variable(&shape, Fill::Reals)?;
        let (weights, w) = d.variable(&shape, Fill::Reals)?;
        let slowed = d.with_number(ScalarFn::Mul, v, 0.5)?;
        let v = d.b.map(ScalarFn::Add, &[slowed, x])?;
        let step = d.with_number(ScalarFn::Mul, v, 0.25)?;
        let w = d.b.map(ScalarFn::Sub, &[w, step])?;
        d.updates.extend([(velocity, v), (weights, w)]);
        d.fold(ReduceKind::Max, x, true)
    }),
    form("a check", |d, x| {
        let least = d.b.full_like(x, -1e9)?;
        let condition = d.b.map(ScalarFn::Gt, &[x, least])?;
        d.b.op1(Check { message: "sums are finite".into() }, &[x, condition])
    }),
    steep("as integers", |d, x| {
        let y = d.b.map(ScalarFn::Neg, &[x])?;
        let y = d.b.cast(y, DType::I32)?;
        d.outputs.push(y);
        Ok(x)
    }),
    steep("compared", |d, x| {
        let zero = d.b.full_like(x, 0.0)?;
        d.b.map(ScalarFn::Ge, &[x, zero])
    }),
    steep("layer norm", |d, x| d.b.op1(LayerNorm { axes: 1, eps: graphc_ir::ops::attr::Real(0.5) }, &[x])),
    steep("squared", |d, x| d.b.map(ScalarFn::Mul, &[x, x])),
];

impl Draft {
    /// Appends something that follows the sums, and makes it an output. `links` functions of a chain come first,
    /// where there are several.
    pub(super) fn follow(&mut self, sums: ValueId, links: usize, fill: Fill) -> Result<()> {
        let gentle = |f: &&Form| fill == Fill::Small || !f.steep;
        let forms: Vec<&Form> = FORMS.iter().filter(gentle).collect();
        if links > 3 {
            self.say(format_args!("a chain of {links}"));
            let y = self.chain(sums, links)?;
            self.outputs.push(y);
            return Ok(());
        }
        let several = self.prng.chance(0.25);
        for _ in 0..=usize::from(several) {
            let form = self.prng.pick(&forms);
            self.say(form.name);
            let y = (form.apply)(self, sums)?;
            self.outputs.push(y);
        }
        Ok(())
    }

    /// Functions of the sums and one other value, one after the other.
    fn chain(&mut self, mut x: ValueId, links: usize) -> Result<ValueId> {
        for link in 0..links {
            x = match link % 4 {
                0 => self.with_columns(ScalarFn::Add, x)?,
                1 => {
                    let other = self.alike(x)?;
                    self.b.map(ScalarFn::Sub, &[x, other])?
                }
                2 => self.with_columns(ScalarFn::Mul, x)?,
                _ => self.b.map(ScalarFn::Relu, &[x])?,
            };
        }
        Ok(x)
    }

    fn with_number(&mut self, f: ScalarFn, x: ValueId, number: f64) -> Result<ValueId> {
        let number = self.b.full_like(x, number)?;
        self.b.map(f, &[x, number])
    }

    fn alike(&mut self, x: ValueId) -> Result<ValueId> {
        let ty = self.b.ty(x).clone();
        self.input(ty.dtype, &ty.static_shape(), Fill::Small)
    }

    fn with_columns(&mut self, f: ScalarFn, x: ValueId) -> Result<ValueId> {
        let ty = self.b.ty(x).clone();
        let shape = ty.static_shape();
        let other = self.input(ty.dtype, &shape[shape.len() - 1..], Fill::Small)?;
        self.b.map(f, &[x, other])
    }

    fn with_rows(&mut self, f: ScalarFn, x: ValueId) -> Result<ValueId> {
        let ty = self.b.ty(x).clone();
        let mut shape = ty.static_shape();
        let last = shape.len() - 1;
        shape[last] = 1;
        let other = self.input(ty.dtype, &shape, Fill::Small)?;
        self.b.map(f, &[x, other])
    }

    fn fold(&mut self, kind: ReduceKind, x: ValueId, along: bool) -> Result<ValueId> {
        let last = self.b.ty(x).rank() - 1;
        let axes = if along { vec![last] } else { (0..last).collect() };
        self.b.reduce(kind, x, &axes)
    }
}
