//! Functions of derivatives made from forward functions.

use graphc_ir::attr_enum;
use graphc_ir::builder::Builder;
use graphc_ir::error::{Error, Result};
use graphc_ir::fail;
use graphc_ir::graph::ValueId;
use graphc_ir::module::{Function, Module, OutputDecl};
use graphc_ir::types::TensorType;

use super::derivatives::{hessian, hvp, jacobian, jvp};
use super::gradients::gradients;
use super::loss::did_you_mean;
use super::replay::named;
use super::spec::{Loss, Mode};
use super::{TARGET, canonical, find_function, forward, read};

attr_enum! {
    /// A derivative of a function's output with respect to inputs and state.
    Derivative {
        /// Of one number: its gradient.
        Gradient = "gradient",
        /// Of any output: along directions that are given.
        Jvp = "jvp",
        /// Of one number: the products of its Hessian with vectors that are given.
        Hvp = "hvp",
        /// Of any output: the matrix of all partial derivatives.
        Jacobian = "jacobian",
        /// Of one number: the matrix of all second partial derivatives.
        Hessian = "hessian",
    }
}

/// What a function of derivatives shall give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivativeSpec {
    /// The forward function.
    pub function: String,
    /// What is differentiated.
    pub of: Loss,
    /// Inputs and state variables with respect to which.
    pub wrt: Vec<String>,
    /// Which derivative.
    pub derivative: Derivative,
}

/// Name of the input that gives the direction of an input or a state variable.
pub fn tangent_name(wrt: &str) -> String {
    format!("{wrt}.tangent")
}

/// The module with a function named after the derivative. It takes the forward function's inputs, perhaps
/// [`TARGET`], and for `jvp` and `hvp` a direction `<name>.tangent` for each of the spec's `wrt`. Its outputs are the
/// value that is differentiated, and `tangent`, or for each name `<name>.gradient`, `<name>.hvp`, `<name>.jacobian` or
/// `<name>.hessian`. It updates nothing.
///
/// # Errors
/// Unknown or taken names, an output that is not one number where one is differentiated, and everything that the
/// derivatives refuse.
pub fn add_derivative(module: &Module, spec: &DerivativeSpec) -> Result<Module> {
    let name = spec.derivative.name();
    let function = find_function(module, &spec.function)?;
    if module.functions.contains_key(name) {
        let problem = format!("the module has a function `{name}` already");
        return Err(Error::new(problem).help("remove or rename it"));
    }
    if spec.wrt.is_empty() {
        return Err(Error::new("no value is named that the derivative is taken by")
            .help("name inputs or state variables"));
    }
    let mut b = Builder::with_infer(function.graph.infer().clone());
    let forward = forward::copy(&mut b, &function.with_graph(canonical(&function.graph)?), Mode::Frozen)?;
    let mut inputs = function.inputs.clone();
    let of = output(&mut b, function, spec, &forward.outputs)?;
    if spec.of.has_target() {
        inputs.push(TARGET.into());
    }
    let mut wrt = Vec::new();
    for name in &spec.wrt {
        wrt.push(variable(&mut b, module, function, name)?);
    }
    let mut directions = Vec::new();
    if matches!(spec.derivative, Derivative::Jvp | Derivative::Hvp) {
        for (name, v) in spec.wrt.iter().zip(&wrt) {
            let ty: TensorType = b.ty(*v).clone();
            let direction = tangent_name(name);
            if inputs.contains(&direction) || module.state_index(&direction).is_some() {
                fail!("the derivative adds an input `{direction}`, but that name is taken");
            }
            directions.push(named(&mut b, &direction, |b| b.input(ty))?);
            inputs.push(direction);
        }
    }
    let labelled = |values: Vec<ValueId>| -> Vec<(String, ValueId)> {
        spec.wrt.iter().map(|n| format!("{n}.{name}")).zip(values).collect()
    };
    let (value, found) = match spec.derivative {
        Derivative::Gradient => (of, labelled(gradients(&mut b, of, &wrt)?)),
        Derivative::Jvp => {
            let (value, tangent) = jvp(&mut b, &[of], &wrt, &directions)?[0];
            (value, vec![("tangent".to_owned(), tangent)])
        }
        Derivative::Hvp => {
            let pairs = hvp(&mut b, of, &wrt, &directions)?;
            (of, labelled(pairs.into_iter().map(|(_, product)| product).collect()))
        }
        Derivative::Jacobian => {
            let all = wrt.iter().map(|v| jacobian(&mut b, of, *v)).collect::<Result<_>>()?;
            (of, labelled(all))
        }
        Derivative::Hessian => {
            let all = wrt.iter().map(|v| hessian(&mut b, of, *v)).collect::<Result<_>>()?;
            (of, labelled(all))
        }
    };
    let mut outputs = vec![OutputDecl { name: value_name(&spec.of).into(), mark: None }];
    outputs.extend(found.iter().map(|(name, _)| OutputDecl { name: name.clone(), mark: None }));
    let results: Vec<ValueId> = std::iter::once(value).chain(found.iter().map(|(_, v)| *v)).collect();
    let derived = Function { inputs, outputs, updates: Vec::new(), graph: b.finish(&results)?.pruned()? };
    let mut module = module.clone();
    module.functions.insert(name.into(), derived);
    Ok(module)
}

/// Name of the output that is differentiated.
fn value_name(of: &Loss) -> &str {
    match of {
        Loss::Output(name) => name,
        Loss::CrossEntropy { .. } | Loss::Mse { .. } => super::LOSS,
    }
}

/// What is differentiated: an output of any type, or a loss made of one.
fn output(
    b: &mut Builder,
    function: &Function,
    spec: &DerivativeSpec,
    outputs: &[ValueId],
) -> Result<ValueId> {
    let any = matches!(spec.derivative, Derivative::Jvp | Derivative::Jacobian);
    let place = match &spec.of {
        Loss::Output(name) if any => function.outputs.iter().position(|o| o.name == *name),
        _ => None,
    };
    match place {
        Some(i) => Ok(outputs[i]),
        None => named(b, super::LOSS, |b| spec.of.build(b, (&spec.function, function), outputs)),
    }
}

/// An input of the function, or a state variable.
fn variable(b: &mut Builder, module: &Module, function: &Function, name: &str) -> Result<ValueId> {
    if let Some(i) = function.inputs.iter().position(|input| input == name) {
        return Ok(b.graph().inputs()[i]);
    }
    if let Some(i) = module.state_index(name) {
        return read(b, &module.state, i);
    }
    let names: Vec<&str> =
        function.inputs.iter().chain(module.state.iter().map(|s| &s.name)).map(String::as_str).collect();
    Err(Error::new(format!("there is no input or state variable `{name}`"))
        .help(did_you_mean("names", name, &names)))
}
