//! A small convolutional network for 8x8 handwritten digits.

use graphc::build::ops::attr::Real;
use graphc::build::ops::{Dropout, Flatten, Linear, MaxPool};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};

use crate::layers::{self, Param, classifier, convolution};

const FILTERS: [usize; 2] = [32, 64];
const HIDDEN: usize = 128;
const CLASSES: usize = 10;

/// Elements that two pools leave of each channel.
const PIXELS: usize = 4;

/// How much of each target is spread evenly over all classes.
const SMOOTHING: f64 = 0.1;

/// Share of the hidden layer that a training step leaves out.
const DROPPED: f64 = 0.5;

fn params() -> Vec<Param> {
    let linear = [
        ("w3".into(), vec![FILTERS[1] * PIXELS, HIDDEN]),
        ("b3".into(), vec![HIDDEN]),
        ("w4".into(), vec![HIDDEN, CLASSES]),
        ("b4".into(), vec![CLASSES]),
    ];
    let first = convolution::biased_params(1, 1, FILTERS[0], 3);
    let second = convolution::biased_params(2, FILTERS[0], FILTERS[1], 3);
    first.into_iter().chain(second).chain(linear).collect()
}

/// `predict`: `x` f32`[B,1,8,8]` in 0..1 (0 is paper) to `probabilities` f32`[B,10]` and `class`
/// i64`[B]`. `train_step`: one step of momentum on the cross-entropy with smoothed labels `y` i32`[B]`, with
/// dropout. `evaluate`: cross-entropy without smoothing and `accuracy`. `init`: He's initial values.
pub fn build() -> Result<Module> {
    let params = params();
    let names: Vec<&str> = params.iter().map(|(name, _)| name.as_str()).collect();
    let mut m = ModuleBuilder::new();
    classifier::describe_digits(&mut m);
    m.symbol("B", 1)?;
    layers::declare(&mut m, &params)?;
    layers::declare_momentum(&mut m, 0.02, &params)?;
    m.key("key")?;

    m.function("init", |f| layers::initialize(f, &params, true))?;
    m.function("predict", |f| classifier::predictions(f, logits(f, hidden(f)?)?))?;
    m.function("train_step", |f| {
        let keys = f.split_key(f.state("key")?, 2)?;
        f.update("key", keys[0])?;
        let kept = f.name("kept", f.op(Dropout { p: Real(DROPPED) }, &[hidden(f)?, keys[1]])?)?;
        let loss = classifier::smoothed_loss(f, logits(f, kept)?, SMOOTHING)?;
        layers::momentum_step(f, loss, &names)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| classifier::evaluation(f, logits(f, hidden(f)?)?))?;
    m.finish()
}

/// Twice convolution, rectifier and pool, then a rectified linear layer: f32`[B,128]`.
fn hidden<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let mut h = f.input("x", "f32[B,1,8,8]")?;
    for n in 1..=FILTERS.len() {
        let z = f.name(&format!("conv{n}"), convolution::biased_convolution(f, h, n, 1)?)?;
        h = f.name(&format!("pool{n}"), f.op(MaxPool::new(&[2, 2]), &[z.relu()])?)?;
    }
    let flat = f.name("flat", f.op(Flatten { axis: 1 }, &[h])?)?;
    f.name("hidden", f.op(Linear {}, &[flat, f.state("w3")?, f.state("b3")?])?.relu())
}

fn logits<'s>(f: &'s FunctionBuilder<'_>, hidden: Expr<'_>) -> Result<Expr<'s>> {
    f.name("logits", f.op(Linear {}, &[hidden, f.state("w4")?, f.state("b4")?])?)
}
