//! Stochastic gradient descent with momentum, and how its step length falls.

use std::f64::consts::PI;

use graphc::build::{DType, Expr, FunctionBuilder, ModuleBuilder, Result, StateRole, Tensor};
use graphc::ir::Scalar;

use super::f32_type;

/// Momentum of every model that has one.
pub const MOMENTUM: f64 = 0.9;

/// Name of the state that holds the learning rate.
pub const LEARNING_RATE: &str = "learning_rate";

/// Name of the state that counts the steps of a training.
const STEP: &str = "step";

/// Name of the state that holds the number of steps of a whole training.
const STEPS: &str = "steps";

/// Name of a parameter's slot.
pub fn slot(param: &str) -> String {
    format!("{param}.momentum")
}

/// Declares the learning rate with its value, and a slot without one for every parameter.
pub fn declare_momentum(
    m: &mut ModuleBuilder,
    learning_rate: f32,
    params: &[(impl AsRef<str>, impl AsRef<[usize]>)],
) -> Result<()> {
    m.state_of(LEARNING_RATE, StateRole::Buffer, Tensor::from_slice(&[], &[learning_rate]))?;
    params.iter().try_for_each(|(name, shape)| {
        m.state(&slot(name.as_ref()), StateRole::Slot, &f32_type(shape.as_ref()), None)
    })
}

/// Differentiates the loss and updates every parameter: v' = 0.9 v + g, p' = p - learning_rate · v'.
pub fn momentum_step(f: &FunctionBuilder<'_>, loss: Expr<'_>, params: &[&str]) -> Result<()> {
    step(f, loss, params, f.state(LEARNING_RATE)?, 0.0)
}

/// As [`momentum_step`] with a given step length and with `decay` · p added to every gradient, which is the
/// gradient of `decay` / 2 · p².
pub fn decayed_step(
    f: &FunctionBuilder<'_>,
    loss: Expr<'_>,
    params: &[(impl AsRef<str>, impl AsRef<[usize]>)],
    rate: Expr<'_>,
    decay: f64,
) -> Result<()> {
    let names: Vec<&str> = params.iter().map(|(name, _)| name.as_ref()).collect();
    step(f, loss, &names, rate, decay)
}

fn step(f: &FunctionBuilder<'_>, loss: Expr<'_>, params: &[&str], rate: Expr<'_>, decay: f64) -> Result<()> {
    let values = params.iter().map(|p| f.state(p)).collect::<Result<Vec<_>>>()?;
    let gradients = f.gradients(loss, &values)?;
    for ((name, value), gradient) in params.iter().zip(values).zip(gradients) {
        let gradient = if decay == 0.0 { gradient } else { gradient + value * decay };
        let velocity =
            f.name(&format!("{name}.momentum.next"), f.state(&slot(name))? * MOMENTUM + gradient)?;
        f.update(name, f.name(&format!("{name}.next"), value - rate * velocity)?)?;
        f.update(&slot(name), velocity)?;
    }
    Ok(())
}

/// Declares the state of [`cosine_rate`]: `steps` i32`[]` with its value, and the slot `step`.
pub fn declare_schedule(m: &mut ModuleBuilder, steps: i32) -> Result<()> {
    m.state_of(STEPS, StateRole::Buffer, Tensor::from_slice(&[], &[steps]))?;
    m.state(STEP, StateRole::Slot, "i32[]", None)
}

/// Assigns 0 to `step`.
pub fn initialize_schedule(f: &FunctionBuilder<'_>) -> Result<()> {
    f.update(STEP, f.constant(Tensor::scalar(DType::I32, Scalar::I(0)))?)
}

/// The step length learning_rate · (1 + cos(π · step / steps)) / 2 and 0 from `steps` on (Loshchilov and
/// Hutter, "SGDR", 2017, without restarts); counts the step.
pub fn cosine_rate<'s>(f: &'s FunctionBuilder<'_>) -> Result<Expr<'s>> {
    let (step, steps) = (f.state(STEP)?, f.state(STEPS)?);
    f.update(STEP, step + step.one_like())?;
    let part = step.min(steps).cast(DType::F32) / steps.cast(DType::F32);
    f.name("rate", f.state(LEARNING_RATE)? * (((part * PI).cos() + 1.0) * 0.5))
}
