//! What models that say something of every token have in common: losses, outputs.

use graphc::build::ops::{ArgKind, ArgReduce, CrossEntropy, Reduction};
use graphc::build::{DType, Expr, FunctionBuilder, Meta, ModuleBuilder, Result};

use crate::text;

/// Names the characters by number, as the key `characters`.
pub fn describe_characters(m: &mut ModuleBuilder) {
    m.meta("characters", Meta::List(text::characters().map(|c| Meta::Text(c.into())).collect()));
}

/// The mean cross-entropy in nats of logits `[B,T,classes]` and labels `[B,T]`.
pub fn loss<'s>(f: &'s FunctionBuilder<'_>, logits: Expr<'_>, labels: Expr<'_>) -> Result<Expr<'s>> {
    f.name("loss", f.op(CrossEntropy { reduction: Reduction::Mean }, &[logits, labels])?)
}

/// Outputs of `evaluate`: the cross-entropy and the share of tokens whose label is the most probable.
pub fn evaluation(f: &FunctionBuilder<'_>, logits: Expr<'_>, labels: Expr<'_>) -> Result<()> {
    let hits = class(f, logits)?.eq(labels.cast(DType::I64));
    f.loss("loss", loss(f, logits, labels)?)?;
    f.metric("accuracy", f.name("accuracy", hits.cast(DType::F32).mean(&[0, 1]))?)
}

/// The most probable class of every token, i64`[B,T]`.
pub fn class<'s>(f: &'s FunctionBuilder<'_>, logits: Expr<'_>) -> Result<Expr<'s>> {
    f.name("class", f.op(ArgReduce { kind: ArgKind::Max, axis: 2 }, &[logits])?)
}
