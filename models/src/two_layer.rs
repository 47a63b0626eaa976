//! Two linear layers fitted to random data by plain gradient descent, all sizes fixed.

use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};

use crate::layers::normal;

const BATCH: usize = 64;
const INPUTS: usize = 1000;
const HIDDEN: usize = 100;
const OUTPUTS: usize = 1000;
const LEARNING_RATE: f64 = 1e-5;

/// `max(x · w1, 0) · w2` with standard normal weights. `init` draws them, `predict` computes
/// `prediction`, `train_step` takes one step of size 1e-5 down the gradient of `loss`, the mean over
/// rows of the sums of squared differences from `y`.
pub fn build() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.param("w1", &format!("f32[{INPUTS},{HIDDEN}]"))?;
    m.param("w2", &format!("f32[{HIDDEN},{OUTPUTS}]"))?;
    m.key("key")?;

    m.function("init", |f| {
        let keys = f.split_key(f.state("key")?, 3)?;
        f.update("key", f.name("next_key", keys[0])?)?;
        f.update("w1", f.name("w1.initial", normal(f, keys[1], &[INPUTS, HIDDEN], 1.0)?)?)?;
        f.update("w2", f.name("w2.initial", normal(f, keys[2], &[HIDDEN, OUTPUTS], 1.0)?)?)
    })?;

    m.function("predict", |f| f.output("prediction", prediction(f)?))?;

    m.function("train_step", |f| {
        let prediction = prediction(f)?;
        let difference =
            f.name("difference", prediction - f.input("y", &format!("f32[{BATCH},{OUTPUTS}]"))?)?;
        let loss = f.name("loss", (difference * difference).sum(&[1]).mean(&[0]))?;
        let (w1, w2) = (f.state("w1")?, f.state("w2")?);
        let gradients = f.gradients(loss, &[w1, w2])?;
        f.update("w1", f.name("w1.next", w1 - gradients[0] * LEARNING_RATE)?)?;
        f.update("w2", f.name("w2.next", w2 - gradients[1] * LEARNING_RATE)?)?;
        f.loss("loss", loss)
    })?;
    m.finish()
}

fn prediction<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let x = f.input("x", &format!("f32[{BATCH},{INPUTS}]"))?;
    let product = f.name("product", x.matmul(f.state("w1")?))?;
    let h = f.name("h", product.max(product.zero_like()))?;
    f.name("prediction", h.matmul(f.state("w2")?))
}
