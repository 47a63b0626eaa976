//! The residual network of 18 layers for images of 224x224.

use graphc::build::{Module, ModuleBuilder, Result};

use crate::layers::convolution::Statistics;
use crate::layers::residual::{Residual, Shortcut, Sizes};
use crate::layers::{self, classifier, momentum};

/// He et al., "Deep residual learning for image recognition", 2016, table 1, 18 layers.
const SIZES: Sizes<'_> = Sizes {
    channels: 3,
    size: 224,
    stem: (7, 2),
    pool: true,
    widths: &[64, 128, 256, 512],
    blocks: 2,
    shortcut: Shortcut::Projected,
    classes: 1000,
};

/// Weight of half the squares of all parameters in the loss.
const DECAY: f64 = 1e-4;

const LEARNING_RATE: f32 = 0.1;

const IMAGE: &str = "f32[B,3,224,224]";

/// `predict`: `x` f32`[B,3,224,224]` to `logits` f32`[B,1000]` and `class` i64`[B]`. `train_step`: one step of
/// momentum with weight decay on the cross-entropy of the labels `y` i32`[B]`; the running statistics learn
/// of the batch's. `evaluate`: cross-entropy and `accuracy`. `init`: He's initial values.
pub fn build() -> Result<Module> {
    let net = Residual::new(&SIZES);
    let params = net.params();
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    layers::declare(&mut m, &params)?;
    net.declare_statistics(&mut m)?;
    layers::declare_momentum(&mut m, LEARNING_RATE, &params)?;
    m.key("key")?;

    m.function("init", |f| {
        layers::initialize(f, &params, true)?;
        net.initialize_statistics(f)
    })?;
    m.function("predict", |f| {
        let logits = net.logits(f, f.input("x", IMAGE)?, Statistics::Running)?;
        f.output("logits", logits)?;
        f.output("class", classifier::class(f, logits)?)
    })?;
    m.function("train_step", |f| {
        let x = f.input("x", IMAGE)?;
        let logits = net.logits(f, x, Statistics::of_batch(f, x)?)?;
        let loss = classifier::loss(f, logits)?;
        momentum::decayed_step(f, loss, &params, f.state(momentum::LEARNING_RATE)?, DECAY)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| {
        classifier::evaluation(f, net.logits(f, f.input("x", IMAGE)?, Statistics::Running)?)
    })?;
    m.finish()
}
