//! Updates by the rules of [`graphc::optimizer::grad`].

use graphc::build::{DType, Expr, FunctionBuilder, Result, Tensor};
use graphc::ir::Scalar;
use graphc::optimizer::grad::UpdateRule;

use super::{Param, full};

/// Names of parameters.
pub fn names(params: &[Param]) -> Vec<&str> {
    params.iter().map(|(name, _)| name.as_str()).collect()
}

/// Assigns what the rule's slots are before the first step, and 0 to the number of steps, which it counts.
pub fn initialize(f: &FunctionBuilder<'_>, rule: &UpdateRule, params: &[Param]) -> Result<()> {
    f.update("step", f.constant(Tensor::scalar(DType::I32, Scalar::I(0)))?)?;
    for (name, shape) in params {
        for slot in rule.optimizer.slots() {
            let shape: &[usize] = if slot.scalar { &[] } else { shape };
            f.update(&format!("{name}.{}", slot.name), full(f, shape, slot.init)?)?;
        }
    }
    Ok(())
}

/// Differentiates the loss and updates every parameter.
pub fn step(f: &FunctionBuilder<'_>, rule: &UpdateRule, loss: Expr<'_>, params: &[Param]) -> Result<()> {
    let names = names(params);
    let values = names.iter().map(|n| f.state(n)).collect::<Result<Vec<_>>>()?;
    let gradients: Vec<(&str, Expr<'_>)> = names.into_iter().zip(f.gradients(loss, &values)?).collect();
    f.apply(rule, &gradients)
}
