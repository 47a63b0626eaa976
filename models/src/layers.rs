//! What the models share: initial values and the momentum update.

use graphc::build::ops::attr::Real;
use graphc::build::ops::{Broadcast, Normal};
use graphc::build::{DType, Dim, Expr, FunctionBuilder, ModuleBuilder, Result, StateRole, Tensor};
use graphc::ir::Scalar;

/// Momentum of every model that has one.
pub const MOMENTUM: f64 = 0.9;

/// Name of the state that holds the learning rate.
pub const LEARNING_RATE: &str = "learning_rate";

/// Name of a parameter's slot.
pub fn slot(param: &str) -> String {
    format!("{param}.momentum")
}

/// Sizes as dims.
pub fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|s| Dim::from(*s)).collect()
}

/// A tensor type's text, such as `f32[3,2]`.
pub fn f32_type(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("f32[{}]", sizes.join(","))
}

/// Declares the weights `[inputs, outputs]` and the bias of layer `n`, `w{n}` and `b{n}`.
pub fn declare_linear(m: &mut ModuleBuilder, n: usize, inputs: usize, outputs: usize) -> Result<()> {
    m.param(&format!("w{n}"), &f32_type(&[inputs, outputs]))?;
    m.param(&format!("b{n}"), &f32_type(&[outputs]))
}

/// Declares the learning rate with its value, and a slot without one for every parameter.
pub fn declare_momentum(
    m: &mut ModuleBuilder,
    learning_rate: f32,
    params: &[(&str, &[usize])],
) -> Result<()> {
    m.state_of(LEARNING_RATE, StateRole::Buffer, Tensor::from_slice(&[], &[learning_rate]))?;
    params.iter().try_for_each(|(name, shape)| m.state(&slot(name), StateRole::Slot, &f32_type(shape), None))
}

/// A tensor of one value.
pub fn full<'s>(f: &'s FunctionBuilder<'_>, shape: &[usize], value: f64) -> Result<Expr<'s>> {
    let value = f.constant(Tensor::scalar(DType::F32, Scalar::F(value)))?;
    f.op(Broadcast { dims: dims(shape), axes: Vec::new() }, &[value])
}

/// Normal draws with mean 0.
pub fn normal<'s>(f: &'s FunctionBuilder<'_>, key: Expr<'_>, shape: &[usize], std: f64) -> Result<Expr<'s>> {
    f.op(Normal { dtype: DType::F32, dims: dims(shape), mean: Real(0.0), std: Real(std) }, &[key])
}

/// Weights `[inputs, outputs]` for layers with rectifiers: normal with variance 2 / inputs (He et al.,
/// "Delving deep into rectifiers", 2015).
pub fn he_normal<'s>(f: &'s FunctionBuilder<'_>, key: Expr<'_>, shape: [usize; 2]) -> Result<Expr<'s>> {
    normal(f, key, &shape, (2.0 / shape[0] as f64).sqrt())
}

/// Assigns initial values: He's for matrices, each from a key of its own, `ones` where the name begins
/// with `gamma`, zeros for other vectors and for all slots; advances the state `key`.
pub fn initialize(f: &FunctionBuilder<'_>, params: &[(&str, &[usize])], slots: bool) -> Result<()> {
    let matrices = params.iter().filter(|(_, shape)| shape.len() == 2).count();
    let mut keys = f.split_key(f.state("key")?, matrices + 1)?.into_iter();
    let mut next_key = || keys.next().ok_or_else(|| graphc::build::Error::new("too few keys were derived"));
    f.update("key", next_key()?)?;
    for (name, shape) in params {
        let value = match **shape {
            [inputs, outputs] => he_normal(f, next_key()?, [inputs, outputs])?,
            _ => full(f, shape, if name.starts_with("gamma") { 1.0 } else { 0.0 })?,
        };
        f.update(name, f.name(&format!("{name}.initial"), value)?)?;
    }
    if slots {
        params.iter().try_for_each(|(name, shape)| f.update(&slot(name), full(f, shape, 0.0)?))?;
    }
    Ok(())
}

/// Differentiates the loss and updates every parameter: v' = 0.9 v + g, p' = p - learning_rate · v'.
pub fn momentum_step(f: &FunctionBuilder<'_>, loss: Expr<'_>, params: &[&str]) -> Result<()> {
    let values = params.iter().map(|p| f.state(p)).collect::<Result<Vec<_>>>()?;
    let gradients = f.gradients(loss, &values)?;
    let rate = f.state(LEARNING_RATE)?;
    for ((name, value), gradient) in params.iter().zip(values).zip(gradients) {
        let velocity =
            f.name(&format!("{name}.momentum.next"), f.state(&slot(name))? * MOMENTUM + gradient)?;
        f.update(name, f.name(&format!("{name}.next"), value - rate * velocity)?)?;
        f.update(&slot(name), velocity)?;
    }
    Ok(())
}
