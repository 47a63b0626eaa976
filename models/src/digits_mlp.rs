//! A classifier of 8x8 handwritten digits with one hidden layer.

use graphc::build::ops::{ArgKind, ArgReduce, CrossEntropy, Flatten, Linear, LogSoftmax, Reduction, Softmax};
use graphc::build::{DType, Expr, FunctionBuilder, Meta, Module, ModuleBuilder, Result};
use indexmap::IndexMap;

use crate::layers;

const PIXELS: usize = 64;
const HIDDEN: usize = 256;
const CLASSES: usize = 10;
const PARAMS: [(&str, &[usize]); 4] =
    [("w1", &[PIXELS, HIDDEN]), ("b1", &[HIDDEN]), ("w2", &[HIDDEN, CLASSES]), ("b2", &[CLASSES])];

/// How much of each target is spread evenly over all classes (Szegedy et al., "Rethinking the
/// Inception architecture", 2016, section 7).
const SMOOTHING: f64 = 0.1;

const MEAN_CROSS_ENTROPY: CrossEntropy = CrossEntropy { reduction: Reduction::Mean };

/// `predict`: `x` f32`[B,1,8,8]` in 0..1 (0 is paper) to `probabilities` f32`[B,10]` and `class`
/// i64`[B]`. `train_step`: one step of momentum on the cross-entropy with smoothed labels `y` i32`[B]`.
/// `evaluate`: cross-entropy without smoothing and `accuracy`. `init`: He's initial values.
pub fn build() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.meta("classes", Meta::List((0..CLASSES).map(|c| Meta::Text(c.to_string())).collect()));
    m.meta("image", image());
    m.symbol("B", 1)?;
    layers::declare_linear(&mut m, 1, PIXELS, HIDDEN)?;
    layers::declare_linear(&mut m, 2, HIDDEN, CLASSES)?;
    layers::declare_momentum(&mut m, 0.1, &PARAMS)?;
    m.key("key")?;

    m.function("init", |f| layers::initialize(f, &PARAMS, true))?;

    m.function("predict", |f| {
        let logits = logits(f)?;
        f.output("probabilities", f.name("probabilities", f.op(Softmax { axis: 1 }, &[logits])?)?)?;
        f.output("class", class(f, logits)?)
    })?;

    m.function("train_step", |f| {
        let logits = logits(f)?;
        let y = f.input("y", "i32[B]")?;
        let hard = f.name("cross_entropy", f.op(MEAN_CROSS_ENTROPY, &[logits, y])?)?;
        let even = f.name("log_likelihood", f.op(LogSoftmax { axis: 1 }, &[logits])?.mean(&[0, 1]))?;
        let loss = f.name("loss", hard * (1.0 - SMOOTHING) - even * SMOOTHING)?;
        layers::momentum_step(f, loss, &PARAMS.map(|(name, _)| name))?;
        f.loss("loss", loss)
    })?;

    m.function("evaluate", |f| {
        let logits = logits(f)?;
        let y = f.input("y", "i32[B]")?;
        let hits = class(f, logits)?.eq(y.cast(DType::I64));
        f.loss("loss", f.name("loss", f.op(MEAN_CROSS_ENTROPY, &[logits, y])?)?)?;
        f.metric("accuracy", f.name("accuracy", hits.cast(DType::F32).mean(&[0]))?)
    })?;
    m.finish()
}

fn logits<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let x = f.input("x", "f32[B,1,8,8]")?;
    let pixels = f.name("pixels", f.op(Flatten { axis: 1 }, &[x])?)?;
    let hidden = f.op(Linear {}, &[pixels, f.state("w1")?, f.state("b1")?])?;
    let hidden = f.name("hidden", hidden.relu())?;
    f.name("logits", f.op(Linear {}, &[hidden, f.state("w2")?, f.state("b2")?])?)
}

fn class<'s>(f: &'s FunctionBuilder<'_>, logits: Expr<'_>) -> Result<Expr<'s>> {
    f.name("class", f.op(ArgReduce { kind: ArgKind::Max, axis: 1 }, &[logits])?)
}

/// How an image becomes `x`: one gray channel in 0..1, not shifted and not scaled.
fn image() -> Meta {
    let one = |v: f64| Meta::List(vec![Meta::Real(v)]);
    let entries = [("input", Meta::Text("x".into())), ("mean", one(0.0)), ("std", one(1.0))];
    Meta::Map(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<IndexMap<_, _>>())
}
