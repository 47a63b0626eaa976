//! The residual network of 20 layers for images of 32x32, over the handwritten digits.

use graphc::build::ops::{Interpolation, Layout, Upsample};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};

use crate::layers::convolution::Statistics;
use crate::layers::residual::{Residual, Shortcut, Sizes};
use crate::layers::{self, augmentation, classifier, momentum};

/// He et al., "Deep residual learning for image recognition", 2016, section 4.2, with n = 3 and one channel.
const SIZES: Sizes<'_> = Sizes {
    channels: 1,
    size: 32,
    stem: (3, 1),
    pool: false,
    widths: &[16, 32, 64],
    blocks: 3,
    shortcut: Shortcut::Padded,
    classes: 10,
};

/// The images of the data set are this many times smaller.
const SCALE: usize = 4;

/// Pixels of the network's image that a training step moves it by, at most.
const SHIFT: f32 = 1.0;

/// Weight of half the squares of all parameters in the loss.
const DECAY: f64 = 1e-4;

const LEARNING_RATE: f32 = 0.05;

/// Steps of a training: 20 epochs of 898 images in batches of 32.
const STEPS: i32 = 580;

/// `predict`: `x` f32`[B,1,8,8]` in 0..1 (0 is paper), which becomes the network's image `image`
/// f32`[B,1,32,32]`, to `probabilities` f32`[B,10]` and `class` i64`[B]`. `train_step`: one step of momentum
/// with weight decay and a step length that falls along a cosine, on the cross-entropy of the labels `y`
/// i32`[B]`; the running statistics learn of the batch's. `evaluate`: cross-entropy and `accuracy`. `init`:
/// He's initial values.
pub fn build() -> Result<Module> {
    let net = Residual::new(&SIZES);
    let params = net.params();
    let mut m = ModuleBuilder::new();
    classifier::describe_digits(&mut m);
    m.symbol("B", 1)?;
    layers::declare(&mut m, &params)?;
    net.declare_statistics(&mut m)?;
    layers::declare_momentum(&mut m, LEARNING_RATE, &params)?;
    momentum::declare_schedule(&mut m, STEPS)?;
    augmentation::declare_shift(&mut m, SHIFT)?;
    m.key("key")?;

    m.function("init", |f| {
        layers::initialize(f, &params, true)?;
        net.initialize_statistics(f)?;
        momentum::initialize_schedule(f)
    })?;
    m.function("predict", |f| classifier::predictions(f, net.logits(f, image(f)?, Statistics::Running)?))?;
    m.function("train_step", |f| {
        let keys = f.split_key(f.state("key")?, 3)?;
        f.update("key", keys[0])?;
        let image = augmentation::shifted(f, image(f)?, SIZES.size, [keys[1], keys[2]])?;
        let image = f.name("shifted", image)?;
        let logits = net.logits(f, image, Statistics::of_batch(f, image)?)?;
        let loss = classifier::loss(f, logits)?;
        momentum::decayed_step(f, loss, &params, momentum::cosine_rate(f)?, DECAY)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| classifier::evaluation(f, net.logits(f, image(f)?, Statistics::Running)?))?;
    m.finish()
}

fn image<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let op = Upsample {
        scale: vec![SCALE; 2],
        mode: Interpolation::Linear,
        align_corners: false,
        layout: Layout::ChannelsFirst,
    };
    f.name("image", f.op(op, &[f.input("x", "f32[B,1,8,8]")?])?)
}
