//! A classifier with two hidden layers, trained with momentum.

use graphc::build::ops::{CrossEntropy, Linear, Reduction, Softmax};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};

use crate::layers;

const INPUTS: usize = 784;
const HIDDEN: usize = 512;
const CLASSES: usize = 10;
const PARAMS: [(&str, &[usize]); 6] = [
    ("w1", &[INPUTS, HIDDEN]),
    ("b1", &[HIDDEN]),
    ("w2", &[HIDDEN, HIDDEN]),
    ("b2", &[HIDDEN]),
    ("w3", &[HIDDEN, CLASSES]),
    ("b3", &[CLASSES]),
];

/// `predict`: `x` f32`[B,784]` to `probabilities` f32`[B,10]`. `train_step`: one step of momentum with
/// learning rate 0.01 on the mean cross-entropy of the labels `y` i32`[B]`. `init`: He's initial values.
pub fn build() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    for (n, pair) in [INPUTS, HIDDEN, HIDDEN, CLASSES].windows(2).enumerate() {
        layers::declare_linear(&mut m, n + 1, pair[0], pair[1])?;
    }
    layers::declare_momentum(&mut m, 0.01, &PARAMS)?;
    m.key("key")?;

    m.function("init", |f| layers::initialize(f, &PARAMS, true))?;

    m.function("predict", |f| {
        let logits = logits(f)?;
        f.output("probabilities", f.name("probabilities", f.op(Softmax { axis: 1 }, &[logits])?)?)
    })?;

    m.function("train_step", |f| {
        let logits = logits(f)?;
        let y = f.input("y", "i32[B]")?;
        let loss = f.name("loss", f.op(CrossEntropy { reduction: Reduction::Mean }, &[logits, y])?)?;
        layers::momentum_step(f, loss, &PARAMS.map(|(name, _)| name))?;
        f.loss("loss", loss)
    })?;
    m.finish()
}

fn logits<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let mut h = f.input("x", &format!("f32[B,{INPUTS}]"))?;
    for n in 1..=2 {
        let z = f.op(Linear {}, &[h, f.state(&format!("w{n}"))?, f.state(&format!("b{n}"))?])?;
        h = f.name(&format!("h{n}"), z.relu())?;
    }
    f.name("logits", f.op(Linear {}, &[h, f.state("w3")?, f.state("b3")?])?)
}
