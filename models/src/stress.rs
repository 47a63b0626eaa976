//! Small graphs that strain the compiler: several results a cluster, reductions between maps, loops.

use std::sync::Arc;

use graphc::build::ops::attr::Real;
use graphc::build::ops::{BatchNorm, CrossEntropy, Linear, Mse, Reduction, Scan, Softmax};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result, StateRole};
use graphc::ir::{Builder, Graph, Scope, TensorType};

use crate::layers::{self, f32_type, full};

/// How much of the batch's statistics a step mixes into the running ones.
const RUNNING: f64 = 0.1;

/// y = relu(x + bn2(linear2(relu(bn1(linear1(x)))))) over `features`, trained with momentum on the mean
/// squared difference of y from `target`. `x` and `target` are f32`[B,features]` with B >= 2.
pub fn residual_block(features: usize) -> Result<Module> {
    let (square, flat) = ([features, features], [features]);
    let params: [(&str, &[usize]); 8] = [
        ("w1", &square),
        ("b1", &flat),
        ("gamma1", &flat),
        ("beta1", &flat),
        ("w2", &square),
        ("b2", &flat),
        ("gamma2", &flat),
        ("beta2", &flat),
    ];
    let mut m = ModuleBuilder::new();
    m.symbol("B", 2)?;
    for (name, shape) in &params {
        m.param(name, &f32_type(shape))?;
    }
    for name in ["mean1", "var1", "mean2", "var2"] {
        m.state(name, StateRole::Buffer, &f32_type(&flat), None)?;
    }
    layers::declare_momentum(&mut m, 0.05, &params)?;
    m.key("key")?;

    m.function("init", |f| {
        layers::initialize(f, &params, true)?;
        for (name, value) in [("mean1", 0.0), ("var1", 1.0), ("mean2", 0.0), ("var2", 1.0)] {
            f.update(name, full(f, &flat, value)?)?;
        }
        Ok(())
    })?;

    m.function("train_step", |f| {
        let ty = format!("f32[B,{features}]");
        let x = f.input("x", &ty)?;
        let rows = x.one_like().sum(&[0]);
        let h = f.name("h", normalized_layer(f, x, 1, rows)?.relu())?;
        let y = f.name("y", (x + normalized_layer(f, h, 2, rows)?).relu())?;
        let target = f.input("target", &ty)?;
        let loss = f.name("loss", f.op(Mse { reduction: Reduction::Mean }, &[y, target])?)?;
        layers::momentum_step(f, loss, &params.map(|(name, _)| name))?;
        f.loss("loss", loss)
    })?;
    m.finish()
}

/// Batch normalization of a linear layer; updates the running mean and the unbiased running variance.
/// `rows` f32`[features]` is the size of the batch.
fn normalized_layer<'s>(
    f: &'s FunctionBuilder<'_>,
    x: Expr<'s>,
    n: usize,
    rows: Expr<'s>,
) -> Result<Expr<'s>> {
    let state = |name: &str| f.state(&format!("{name}{n}"));
    let z = f.name(&format!("z{n}"), f.op(Linear {}, &[x, state("w")?, state("b")?])?)?;
    let norm = f.op_many(BatchNorm { axis: 1, eps: Real(1e-5) }, &[z, state("gamma")?, state("beta")?])?;
    let y = f.name(&format!("norm{n}"), norm[0])?;
    let (mean, unbiased) = (norm[1], norm[2] * rows / (rows - 1.0));
    for (name, new) in [("mean", mean), ("var", unbiased)] {
        f.update(&format!("{name}{n}"), state(name)? * (1.0 - RUNNING) + new * RUNNING)?;
    }
    Ok(y)
}

/// `probabilities`, the mean cross-entropy `loss` of the labels `y` i32`[B]`, and its gradient with
/// respect to the input `logits` f32`[B,classes]`.
pub fn softmax_cross_entropy(classes: usize) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    m.function("gradient", |f| {
        let logits = f.input("logits", &format!("f32[B,{classes}]"))?;
        let y = f.input("y", "i32[B]")?;
        f.output("probabilities", f.op(Softmax { axis: 1 }, &[logits])?)?;
        let loss = f.name("loss", f.op(CrossEntropy { reduction: Reduction::Mean }, &[logits, y])?)?;
        f.loss("loss", loss)?;
        f.output("gradient", f.gradients(loss, &[logits])?[0])
    })?;
    m.finish()
}

/// Steps of [`scan_rnn`].
pub const STEPS: usize = 3;

/// h' = tanh(x_t · wx + h · wh + b) over three steps from h = 0: the last `h` f32`[B,hidden]`, the mean
/// of the squares of all as `loss`, and its gradients with respect to `wx`, `wh`, `b` and the input `x`
/// f32`[3,B,inputs]`.
pub fn scan_rnn(inputs: usize, hidden: usize) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    m.param("wx", &f32_type(&[inputs, hidden]))?;
    m.param("wh", &f32_type(&[hidden, hidden]))?;
    m.param("b", &f32_type(&[hidden]))?;
    m.key("key")?;
    m.function("init", |f| {
        let shapes: [(&str, &[usize]); 3] =
            [("wx", &[inputs, hidden]), ("wh", &[hidden, hidden]), ("b", &[hidden])];
        layers::initialize(f, &shapes, false)
    })?;
    m.function("gradients", |f| {
        let x = f.input("x", &format!("f32[{STEPS},B,{inputs}]"))?;
        let (wx, wh, b) = (f.state("wx")?, f.state("wh")?, f.state("b")?);
        let start = x.sum(&[0, 2]).zero_like();
        let start = f.op(
            graphc::build::ops::Broadcast {
                dims: vec![start.ty().dims[0].clone(), hidden.into()],
                axes: vec![0],
            },
            &[start],
        )?;
        let scan = Scan {
            body: Arc::new(rnn_step(inputs, hidden)?),
            carries: 1,
            stacks: 1,
            reverse: false,
            recompute: false,
            length: STEPS.into(),
        };
        let results = f.op_many(scan, &[wx, wh, b, start, x])?;
        f.output("h", f.name("h", results[0])?)?;
        let loss = f.name("loss", (results[1] * results[1]).mean(&[0, 1, 2]))?;
        f.loss("loss", loss)?;
        let gradients = f.gradients(loss, &[wx, wh, b, x])?;
        for (name, gradient) in ["wx", "wh", "b", "x"].into_iter().zip(gradients) {
            f.output(&format!("{name}.gradient"), gradient)?;
        }
        Ok(())
    })?;
    m.finish()
}

/// (wx, wh, b, h, x_t) to (h', h'): the next carry, also stacked.
fn rnn_step(inputs: usize, hidden: usize) -> Result<Graph> {
    let mut b = Builder::new();
    let types = [
        f32_type(&[inputs, hidden]),
        f32_type(&[hidden, hidden]),
        f32_type(&[hidden]),
        format!("f32[B,{hidden}]"),
        format!("f32[B,{inputs}]"),
    ];
    let ids = types.iter().map(|ty| b.input(TensorType::parse(ty)?)).collect::<Result<Vec<_>>>()?;
    let scope = Scope::new(&mut b);
    let e = |i: usize| scope.expr(ids[i]);
    let next = (e(4).matmul(e(0)) + e(3).matmul(e(1)) + e(2)).tanh().id();
    scope.finish()?;
    b.finish(&[next, next])
}
