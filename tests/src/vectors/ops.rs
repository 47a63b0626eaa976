//! `ops.json`: results and gradients of operations on small tensors.

use std::sync::Arc;

use graphc_ir::error::{Error, Result};
use graphc_ir::expr::{Expr, Scope};
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    BatchNorm, BatchNormInference, CrossEntropy, Gather, Linear, LogSoftmax, Moments, Mse, ReduceKind,
    Reduction, Scan, ScatterAdd, Softmax,
};
use graphc_ir::{Builder, DType, Dim, Op, ScalarFn, TensorType, ValueId};
use indexmap::IndexMap;
use serde::Deserialize;

use super::case::{Entry, File, OpVector};
use super::read;

#[derive(Deserialize)]
struct Attrs {
    axis: Option<usize>,
    axes: Option<Vec<usize>>,
    epsilon: Option<f64>,
    momentum: Option<f64>,
}

/// The cases of the file.
///
/// # Errors
/// A file that cannot be read, or that holds what this harness does not know.
pub fn load() -> Result<Vec<OpVector>> {
    let vector = |entry: &Entry<Attrs>| {
        entry.vector(DType::F64, |b, ins| build(b, &entry.op, &Operands { ins, attrs: &entry.attrs }))
    };
    read::<File<Attrs>>("ops.json")?.cases.iter().map(|e| vector(e).map_err(|x| x.at(&e.name))).collect()
}

struct Operands<'a> {
    ins: &'a IndexMap<&'a str, ValueId>,
    attrs: &'a Attrs,
}

impl Operands<'_> {
    fn get(&self, name: &str) -> Result<ValueId> {
        self.ins.get(name).copied().ok_or_else(|| Error::new(format!("there is no operand `{name}`")))
    }

    fn axis(&self) -> Result<usize> {
        self.attrs.axis.ok_or_else(|| Error::new("`axis` is missing"))
    }

    fn axes(&self) -> Result<Vec<usize>> {
        self.attrs.axes.clone().ok_or_else(|| Error::new("`axes` is missing"))
    }

    fn eps(&self) -> Result<Real> {
        self.attrs.epsilon.map(Real).ok_or_else(|| Error::new("`epsilon` is missing"))
    }
}

/// The results of a case by name; what the operands mean is said in the script that wrote the file.
fn build<'n>(b: &mut Builder, op: &str, o: &Operands<'_>) -> Result<Vec<(&'n str, ValueId)>> {
    let mut one = |name, op: Op, ins: &[&str]| -> Result<Vec<(&'n str, ValueId)>> {
        let ins = ins.iter().map(|n| o.get(n)).collect::<Result<Vec<_>>>()?;
        Ok(vec![(name, b.op1(op, &ins)?)])
    };
    match op {
        "softmax" => one("y", Softmax { axis: o.axis()? }.into(), &["x"]),
        "log_softmax" => one("y", LogSoftmax { axis: o.axis()? }.into(), &["x"]),
        "cross_entropy" => {
            one("loss", CrossEntropy { reduction: Reduction::Mean }.into(), &["logits", "labels"])
        }
        "mse" => one("loss", Mse { reduction: Reduction::Mean }.into(), &["x", "target"]),
        "linear" if o.ins.contains_key("b") => one("y", Linear {}.into(), &["x", "w", "b"]),
        "linear" => one("y", Linear {}.into(), &["x", "w"]),
        "batch_norm" => batch_norm(b, o),
        "batch_norm_inference" => one(
            "y",
            BatchNormInference { axis: 1, eps: o.eps()? }.into(),
            &["x", "gamma", "beta", "running_mean", "running_var"],
        ),
        "moments" => {
            let stats = b.op(Moments { axes: o.axes()? }, &[o.get("x")?])?;
            Ok(vec![("mean", stats[0]), ("var", stats[1])])
        }
        "gather" => one("y", Gather { axis: o.axis()? }.into(), &["x", "idx"]),
        "scatter_add" => one("y", ScatterAdd { axis: o.axis()? }.into(), &["base", "idx", "upd"]),
        "layer_norm" => layer_norm(b, o),
        "cumsum" => cumsum(b, o),
        "scan" => recurrent(b, o),
        _ => reduction(b, op, o),
    }
}

fn reduction<'n>(b: &mut Builder, op: &str, o: &Operands<'_>) -> Result<Vec<(&'n str, ValueId)>> {
    let (x, axes) = (o.get("x")?, o.axes()?);
    let scope = Scope::new(b);
    let x = scope.expr(x);
    let y = match op {
        "reduce_sum" => x.sum(&axes),
        "reduce_mean" => x.mean(&axes),
        "reduce_max" => x.reduce(ReduceKind::Max, &axes),
        "reduce_min" => x.reduce(ReduceKind::Min, &axes),
        "reduce_prod" => x.reduce(ReduceKind::Prod, &axes),
        "reduce_logsumexp" => x.exp().sum(&axes).log(),
        other => return Err(Error::new(format!("this harness does not know `{other}`"))),
    };
    let y = y.id();
    scope.finish()?;
    Ok(vec![("y", y)])
}

/// With the running statistics as a module updates them: the variance unbiased.
fn batch_norm<'n>(b: &mut Builder, o: &Operands<'_>) -> Result<Vec<(&'n str, ValueId)>> {
    let x = o.get("x")?;
    let ins = [x, o.get("gamma")?, o.get("beta")?];
    let outs = b.op(BatchNorm { axis: 1, eps: o.eps()? }, &ins)?;
    let over: Vec<usize> = (0..b.ty(x).rank()).filter(|a| *a != 1).collect();
    let count = b.count_along(x, &over)?;
    let momentum = o.attrs.momentum.ok_or_else(|| Error::new("`momentum` is missing"))?;
    let (old_mean, old_var) = (o.get("running_mean")?, o.get("running_var")?);
    let scope = Scope::new(b);
    let e = |v| scope.expr(v);
    let n = e(count);
    let unbiased = e(outs[2]) * (n / (n - 1.0));
    let blend = |old: Expr<'_>, new: Expr<'_>| (old * (1.0 - momentum) + new * momentum).id();
    let (mean, var) = (blend(e(old_mean), e(outs[1])), blend(e(old_var), unbiased));
    scope.finish()?;
    Ok(vec![
        ("y", outs[0]),
        ("mean", outs[1]),
        ("var", outs[2]),
        ("new_running_mean", mean),
        ("new_running_var", var),
    ])
}

fn layer_norm<'n>(b: &mut Builder, o: &Operands<'_>) -> Result<Vec<(&'n str, ValueId)>> {
    let (x, eps) = (o.get("x")?, o.eps()?);
    let axes = [b.ty(x).rank() - 1];
    let stats = b.op(Moments { axes: axes.to_vec() }, &[x])?;
    let (gamma, beta) = (o.get("gamma")?, o.get("beta")?);
    let scope = Scope::new(b);
    let e = |v| scope.expr(v);
    let x = e(x);
    let normal = (x - e(stats[0]).unreduce(x, &axes)) * (e(stats[1]) + eps.0).rsqrt().unreduce(x, &axes);
    let y = (normal * e(gamma) + e(beta)).id();
    scope.finish()?;
    Ok(vec![("y", y)])
}

/// A running sum along axis 0 as a loop.
fn cumsum<'n>(b: &mut Builder, o: &Operands<'_>) -> Result<Vec<(&'n str, ValueId)>> {
    let x = o.get("x")?;
    let ty = b.ty(x).clone();
    let row = TensorType::new(ty.dtype, &ty.dims[1..]);
    let mut body = Builder::new();
    let (sum, next) = (body.input(row.clone())?, body.input(row.clone())?);
    let sum = body.map(ScalarFn::Add, &[sum, next])?;
    let body = Arc::new(body.finish(&[sum, sum])?);
    let zero = b.scalar(ty.dtype, 0.0)?;
    let start = b.broadcast(zero, &row.dims, &[])?;
    let scan =
        Scan { body, carries: 1, stacks: 1, reverse: false, length: ty.dims[0].clone(), recompute: false };
    Ok(vec![("y", b.op(scan, &[start, x])?[1])])
}

/// h' = tanh(x wx + h wh + b) over axis 0 of x.
fn recurrent<'n>(b: &mut Builder, o: &Operands<'_>) -> Result<Vec<(&'n str, ValueId)>> {
    let names = ["wx", "wh", "b", "h0", "x"];
    let ins = names.iter().map(|n| o.get(n)).collect::<Result<Vec<_>>>()?;
    let length: Dim = b.ty(ins[4]).dims[0].clone();
    let mut inner = Builder::new();
    let mut args = Vec::new();
    for (i, v) in ins.iter().enumerate() {
        let mut ty = b.ty(*v).clone();
        if i == 4 {
            ty.dims.remove(0);
        }
        args.push(inner.input(ty)?);
    }
    let scope = Scope::new(&mut inner);
    let [wx, wh, bias, h, x] = [0, 1, 2, 3, 4].map(|i: usize| scope.expr(args[i]));
    let next = (x.matmul(wx) + h.matmul(wh) + bias).tanh().id();
    scope.finish()?;
    let body = Arc::new(inner.finish(&[next, next])?);
    let outs = b.op(Scan { body, carries: 1, stacks: 1, reverse: false, length, recompute: false }, &ins)?;
    Ok(vec![("h_last", outs[0]), ("ys", outs[1])])
}
