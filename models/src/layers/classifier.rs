//! What classifiers of images have in common: metadata, losses, outputs.

use graphc::build::ops::{ArgKind, ArgReduce, CrossEntropy, LogSoftmax, Reduction, Softmax};
use graphc::build::{DType, Expr, FunctionBuilder, Meta, ModuleBuilder, Result};
use indexmap::IndexMap;

const MEAN_CROSS_ENTROPY: CrossEntropy = CrossEntropy { reduction: Reduction::Mean };

/// Names the ten digits as classes, and says how an image becomes `x`: one gray channel in 0..1, not
/// shifted and not scaled.
pub fn describe_digits(m: &mut ModuleBuilder) {
    m.meta("classes", Meta::List((0..10).map(|c| Meta::Text(c.to_string())).collect()));
    let one = |v: f64| Meta::List(vec![Meta::Real(v)]);
    let entries = [("input", Meta::Text("x".into())), ("mean", one(0.0)), ("std", one(1.0))];
    m.meta(
        "image",
        Meta::Map(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<IndexMap<_, _>>()),
    );
}

/// The loss of the input `y` i32`[B]`: mean cross-entropy with targets (1 - smoothing) · onehot + smoothing /
/// classes (Szegedy et al., "Rethinking the Inception architecture", 2016, section 7).
pub fn smoothed_loss<'s>(f: &'s FunctionBuilder<'_>, logits: Expr<'s>, smoothing: f64) -> Result<Expr<'s>> {
    let y = f.input("y", "i32[B]")?;
    let hard = f.name("cross_entropy", f.op(MEAN_CROSS_ENTROPY, &[logits, y])?)?;
    let even = f.name("log_likelihood", f.op(LogSoftmax { axis: 1 }, &[logits])?.mean(&[0, 1]))?;
    f.name("loss", hard * (1.0 - smoothing) - even * smoothing)
}

/// The mean cross-entropy of the input `y` i32`[B]`.
pub fn loss<'s>(f: &'s FunctionBuilder<'_>, logits: Expr<'_>) -> Result<Expr<'s>> {
    let y = f.input("y", "i32[B]")?;
    f.name("loss", f.op(MEAN_CROSS_ENTROPY, &[logits, y])?)
}

/// Outputs of `predict`: `probabilities` f32`[B,classes]` and `class` i64`[B]`.
pub fn predictions(f: &FunctionBuilder<'_>, logits: Expr<'_>) -> Result<()> {
    f.output("probabilities", f.name("probabilities", f.op(Softmax { axis: 1 }, &[logits])?)?)?;
    f.output("class", class(f, logits)?)
}

/// Outputs of `evaluate`: cross-entropy without smoothing, and `accuracy`; takes the input `y` i32`[B]`.
pub fn evaluation(f: &FunctionBuilder<'_>, logits: Expr<'_>) -> Result<()> {
    let y = f.input("y", "i32[B]")?;
    let hits = class(f, logits)?.eq(y.cast(DType::I64));
    f.loss("loss", f.name("loss", f.op(MEAN_CROSS_ENTROPY, &[logits, y])?)?)?;
    f.metric("accuracy", f.name("accuracy", hits.cast(DType::F32).mean(&[0]))?)
}

/// The most probable class, i64`[B]`.
pub fn class<'s>(f: &'s FunctionBuilder<'_>, logits: Expr<'_>) -> Result<Expr<'s>> {
    f.name("class", f.op(ArgReduce { kind: ArgKind::Max, axis: 1 }, &[logits])?)
}
