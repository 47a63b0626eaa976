//! What the models share: parameters and their initial values, layers, heads, updates.

pub mod augmentation;
pub mod classifier;
pub mod convolution;
pub mod momentum;
pub mod residual;
pub mod tokens;
pub mod update;

use graphc::build::ops::attr::Real;
use graphc::build::ops::{Broadcast, Normal};
use graphc::build::{DType, Dim, Expr, FunctionBuilder, ModuleBuilder, Result, Tensor};
use graphc::ir::Scalar;

pub use momentum::{declare_momentum, momentum_step, slot};

/// A parameter's name and shape, where they are not constants.
pub type Param = (String, Vec<usize>);

/// Variance of initial weights times the number of inputs of a unit, where rectifiers follow (He et al.,
/// "Delving deep into rectifiers", 2015).
pub const HE: f64 = 2.0;

/// The same where units are nearly linear about 0, such as tanh (LeCun et al., "Efficient backprop", 1998,
/// section 4.6).
pub const LECUN: f64 = 1.0;

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

/// Declares parameters without values.
pub fn declare(m: &mut ModuleBuilder, params: &[(impl AsRef<str>, impl AsRef<[usize]>)]) -> Result<()> {
    params.iter().try_for_each(|(name, shape)| m.param(name.as_ref(), &f32_type(shape.as_ref())))
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

/// Inputs of a unit: of weights `[inputs, outputs]`, and of filters `[outputs, channels, k..]`.
fn fan_in(shape: &[usize]) -> usize {
    if let [inputs, _] = shape { *inputs } else { shape[1..].iter().product() }
}

/// Assigns initial values as [`initialize_by`] does, with the variance of He.
pub fn initialize(
    f: &FunctionBuilder<'_>,
    params: &[(impl AsRef<str>, impl AsRef<[usize]>)],
    slots: bool,
) -> Result<()> {
    initialize_by(f, params, slots, HE)
}

/// Assigns initial values: to matrices and filters normal draws of variance `gain` / inputs, each from a key
/// of its own, to vectors ones if the last part of the name begins with `gamma` and else zeros, and zeros to
/// all slots; advances the state `key`.
pub fn initialize_by(
    f: &FunctionBuilder<'_>,
    params: &[(impl AsRef<str>, impl AsRef<[usize]>)],
    slots: bool,
    gain: f64,
) -> Result<()> {
    let drawn = params.iter().filter(|(_, shape)| shape.as_ref().len() >= 2).count();
    let mut keys = f.split_key(f.state("key")?, drawn + 1)?.into_iter();
    let mut next_key = || keys.next().ok_or_else(|| graphc::build::Error::new("too few keys were derived"));
    f.update("key", next_key()?)?;
    for (name, shape) in params {
        let (name, shape) = (name.as_ref(), shape.as_ref());
        let value = if shape.len() >= 2 {
            normal(f, next_key()?, shape, (gain / fan_in(shape) as f64).sqrt())?
        } else {
            let scale = name.rsplit('.').next().is_some_and(|part| part.starts_with("gamma"));
            full(f, shape, if scale { 1.0 } else { 0.0 })?
        };
        f.update(name, f.name(&format!("{name}.initial"), value)?)?;
    }
    if slots {
        for (name, shape) in params {
            f.update(&slot(name.as_ref()), full(f, shape.as_ref(), 0.0)?)?;
        }
    }
    Ok(())
}
