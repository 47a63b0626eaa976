//! A classifier of 8x8 handwritten digits with one hidden layer.

use graphc::build::ops::{Flatten, Linear};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};

use crate::layers::{self, classifier};

const PIXELS: usize = 64;
const HIDDEN: usize = 256;
const CLASSES: usize = 10;
const PARAMS: [(&str, &[usize]); 4] =
    [("w1", &[PIXELS, HIDDEN]), ("b1", &[HIDDEN]), ("w2", &[HIDDEN, CLASSES]), ("b2", &[CLASSES])];

/// How much of each target is spread evenly over all classes.
const SMOOTHING: f64 = 0.1;

/// `predict`: `x` f32`[B,1,8,8]` in 0..1 (0 is paper) to `probabilities` f32`[B,10]` and `class`
/// i64`[B]`. `train_step`: one step of momentum on the cross-entropy with smoothed labels `y` i32`[B]`.
/// `evaluate`: cross-entropy without smoothing and `accuracy`. `init`: He's initial values.
pub fn build() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    classifier::describe_digits(&mut m);
    m.symbol("B", 1)?;
    layers::declare(&mut m, &PARAMS)?;
    layers::declare_momentum(&mut m, 0.1, &PARAMS)?;
    m.key("key")?;

    m.function("init", |f| layers::initialize(f, &PARAMS, true))?;
    m.function("predict", |f| classifier::predictions(f, logits(f)?))?;
    m.function("train_step", |f| {
        let loss = classifier::smoothed_loss(f, logits(f)?, SMOOTHING)?;
        layers::momentum_step(f, loss, &PARAMS.map(|(name, _)| name))?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| classifier::evaluation(f, logits(f)?))?;
    m.finish()
}

fn logits<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let x = f.input("x", "f32[B,1,8,8]")?;
    let pixels = f.name("pixels", f.op(Flatten { axis: 1 }, &[x])?)?;
    let hidden = f.op(Linear {}, &[pixels, f.state("w1")?, f.state("b1")?])?;
    let hidden = f.name("hidden", hidden.relu())?;
    f.name("logits", f.op(Linear {}, &[hidden, f.state("w2")?, f.state("b2")?])?)
}
