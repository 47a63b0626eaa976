//! LeNet-5 in its classic form: tanh units and averaging pools.

use graphc::build::ops::{AvgPool, Flatten, Linear};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};

use crate::layers::{self, Param, classifier, convolution};

/// Output channels of the two convolutions of 5x5, and units of the three linear layers.
const FILTERS: [usize; 2] = [6, 16];
const UNITS: [usize; 3] = [120, 84, 10];

/// Elements that the second pool leaves of each channel, 5x5.
const PIXELS: usize = 25;

fn params() -> Vec<Param> {
    let mut params = Vec::new();
    params.extend(convolution::biased_params(1, 1, FILTERS[0], 5));
    params.extend(convolution::biased_params(2, FILTERS[0], FILTERS[1], 5));
    let mut inputs = FILTERS[1] * PIXELS;
    for (n, outputs) in (3..).zip(UNITS) {
        params.push((format!("w{n}"), vec![inputs, outputs]));
        params.push((format!("b{n}"), vec![outputs]));
        inputs = outputs;
    }
    params
}

/// `predict`: `x` f32`[B,1,28,28]` in 0..1 (0 is paper) to `probabilities` f32`[B,10]` and `class` i64`[B]`.
/// `train_step`: one step of momentum on the mean cross-entropy of the labels `y` i32`[B]`. `evaluate`:
/// cross-entropy and `accuracy`. `init`: LeCun's initial values.
///
/// The network of LeCun et al., "Gradient-based learning applied to document recognition", 1998, with what has
/// become usual: the image of 28x28 is padded to 32x32 in the first convolution, the second one sees all
/// channels, pools have no coefficients, tanh is not scaled, and the outputs are linear under a softmax.
pub fn build() -> Result<Module> {
    let params = params();
    let names: Vec<&str> = params.iter().map(|(name, _)| name.as_str()).collect();
    let mut m = ModuleBuilder::new();
    classifier::describe_digits(&mut m);
    m.symbol("B", 1)?;
    layers::declare(&mut m, &params)?;
    layers::declare_momentum(&mut m, 0.01, &params)?;
    m.key("key")?;

    m.function("init", |f| layers::initialize_by(f, &params, true, layers::LECUN))?;
    m.function("predict", |f| classifier::predictions(f, logits(f)?))?;
    m.function("train_step", |f| {
        let loss = classifier::loss(f, logits(f)?)?;
        layers::momentum_step(f, loss, &names)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| classifier::evaluation(f, logits(f)?))?;
    m.finish()
}

fn logits<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let mut h = f.input("x", "f32[B,1,28,28]")?;
    for (n, pad) in [(1, 2), (2, 0)] {
        let z = f.name(&format!("conv{n}"), convolution::biased_convolution(f, h, n, pad)?)?;
        h = f.name(&format!("pool{n}"), f.op(AvgPool::new(&[2, 2]), &[z.tanh()])?)?;
    }
    h = f.name("flat", f.op(Flatten { axis: 1 }, &[h])?)?;
    for n in 3..=5 {
        h = f.op(Linear {}, &[h, f.state(&format!("w{n}"))?, f.state(&format!("b{n}"))?])?;
        h = if n < 5 { f.name(&format!("hidden{n}"), h.tanh())? } else { h };
    }
    f.name("logits", h)
}
