//! The loss of a training function.

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::fail;
use graphc_ir::graph::ValueId;
use graphc_ir::module::Function;
use graphc_ir::ops::{CrossEntropy, Mse, Op, Reduction};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::types::TensorType;
use graphc_ir::wire::suggest::closest;

use super::replay::named;
use super::spec::Loss;

/// Name of the input that a loss function adds.
pub const TARGET: &str = "target";

impl Loss {
    /// The output that the loss is taken of.
    pub fn output(&self) -> &str {
        match self {
            Loss::Output(output) | Loss::CrossEntropy { output } | Loss::Mse { output } => output,
        }
    }

    /// Whether the training function takes the input `target`.
    pub fn has_target(&self) -> bool {
        !matches!(self, Loss::Output(_))
    }

    /// Appends the loss; `outputs` are the function's output values in this builder.
    pub(super) fn build(
        &self,
        b: &mut Builder,
        function: (&str, &Function),
        outputs: &[ValueId],
    ) -> Result<ValueId> {
        let value = outputs[position(function, self.output())?];
        match self {
            Loss::Output(_) => Ok(value),
            Loss::CrossEntropy { output } => {
                let logits = logits(b, value, output)?;
                let lead = b.ty(logits).dims.split_last().map_or(&[][..], |(_, lead)| lead).to_vec();
                let target = target(b, TensorType::new(DType::I32, lead))?;
                b.op1(CrossEntropy { reduction: Reduction::Mean }, &[logits, target])
            }
            Loss::Mse { output } => {
                let ty = b.ty(value).clone();
                if !ty.dtype.is_float() {
                    fail!("mse takes an output of a float type, but `{output}` is {ty}");
                }
                let target = target(b, ty)?;
                b.op1(Mse { reduction: Reduction::Mean }, &[value, target])
            }
        }
    }
}

fn position((name, function): (&str, &Function), output: &str) -> Result<usize> {
    let found = function.outputs.iter().position(|o| o.name == output);
    found.ok_or_else(|| {
        let names: Vec<&str> = function.outputs.iter().map(|o| o.name.as_str()).collect();
        let problem = format!("the function `{name}` has no output `{output}`");
        Error::new(problem).help(did_you_mean("outputs", output, &names))
    })
}

/// A suggestion where a name is near, else the names there are.
pub(super) fn did_you_mean(what: &str, name: &str, names: &[&str]) -> String {
    match closest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => format!("it has no {what}"),
        None => format!("its {what} are {}", names.join(", ")),
    }
}

fn target(b: &mut Builder, ty: TensorType) -> Result<ValueId> {
    named(b, TARGET, |b| b.input(ty))
}

/// The logits of an output: cross-entropy is computed from them, because the logarithm of a softmax
/// that has underflowed is lost.
fn logits(b: &Builder, value: ValueId, output: &str) -> Result<ValueId> {
    let ty = b.ty(value);
    if !ty.dtype.is_float() || ty.rank() == 0 {
        fail!(
            "cross_entropy takes an output of a float type with classes on its last axis, but `{output}` is {ty}"
        );
    }
    let last = ty.rank() - 1;
    let def = b.graph().def(value);
    let (softmax, axis) = match &def.op {
        Op::Softmax(op) => (def, op.axis),
        Op::LogSoftmax(op) => (def, op.axis),
        Op::Map(map) if map.f == ScalarFn::Exp => {
            let inner = b.graph().def(def.ins[0]);
            let Op::LogSoftmax(op) = &inner.op else { return Ok(value) };
            (inner, op.axis)
        }
        _ => return Ok(value),
    };
    if axis != last {
        let problem = format!(
            "cross_entropy takes classes on the last axis, but `{output}` is a softmax over axis {axis} of {ty}"
        );
        return Err(Error::new(problem).help("transpose the output"));
    }
    Ok(softmax.ins[0])
}
