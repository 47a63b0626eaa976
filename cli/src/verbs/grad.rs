//! `graphc grad`: adds a training function, or a function of derivatives, to a module.

use std::path::PathBuf;
use std::str::FromStr;

use graphc::Module;
use graphc::file::Claim;
use graphc::ir::wire::suggest::closest;
use graphc::optimizer::grad::{
    Accumulate, Clip, Derivative, DerivativeSpec, Loss, Mode, Optimizer, Regularizer, Schedule, TrainingSpec,
    UpdateRule, Warmup, add_derivative, add_training, new_functions,
};

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::file::claim;
use crate::open;
use crate::terminal::Terminal;

/// Options of `grad`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The forward function; the only one if not given, else `predict`
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    /// The output that is made small, or the loss of an output against the new input `target`
    #[arg(long, value_name = "NAME|cross_entropy:OUTPUT|mse:OUTPUT")]
    loss: LossArg,
    /// State that is trained; all of role `param` if not given. For derivatives: state or inputs
    #[arg(long, value_name = "STATE", num_args = 1..)]
    wrt: Vec<String>,
    /// Adds a function of this derivative of the loss, or of any output, instead of a training function
    #[arg(long, value_enum, value_name = "WHICH", requires = "wrt",
          conflicts_with_all = ["mode", "optimizer", "schedule", "warmup", "regularize", "clip", "accumulate"])]
    derivative: Option<DerivativeArg>,
    /// Whether batch normalization keeps its statistics or uses those of the batch
    #[arg(long, value_enum, default_value_t = ModeArg::Frozen, value_name = "MODE")]
    mode: ModeArg,
    /// The update, such as adam:lr=1e-3,beta2=0.99; docs/training.md lists all, and the keys of the next four
    #[arg(long, default_value = "sgd:lr=0.1,momentum=0.9", value_name = "NAME:KEY=VALUE,...")]
    optimizer: Optimizer,
    /// How the learning rate changes, such as cosine:steps=1000
    #[arg(long, value_name = "NAME:KEY=VALUE,...")]
    schedule: Option<Schedule>,
    /// A linear warm-up before the schedule, such as steps=100
    #[arg(long, value_name = "KEY=VALUE,...")]
    warmup: Option<Warmup>,
    /// Penalties and bounds: l1, l2, max_norm, max_norm_axis
    #[arg(long, value_name = "KEY=VALUE,...")]
    regularize: Option<Regularizer>,
    /// Clipping of gradients, by value or by their norm
    #[arg(long, value_name = "KEY=VALUE,...")]
    clip: Option<Clip>,
    /// Adds zero_grad_parameters, acc_grad_parameters and update_parameters instead, for steps over several batches
    #[arg(long, value_enum, value_name = "HOW")]
    accumulate: Option<AccumulateArg>,
    /// Where the module is written
    #[arg(short, long, value_name = "OUT.json")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModeArg {
    /// The statistics are constants
    Frozen,
    /// The statistics are those of the batch, and are updated
    Train,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DerivativeArg {
    /// Of one number
    Gradient,
    /// Of any output, along directions that the new function takes
    Jvp,
    /// Of one number: its Hessian times vectors that the new function takes
    Hvp,
    /// Of any output: all partial derivatives
    Jacobian,
    /// Of one number: all second partial derivatives
    Hessian,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AccumulateArg {
    /// The step is that of the batches' mean gradient
    Mean,
    /// The step is that of the batches' gradients added
    Sum,
}

#[derive(Clone, Debug, PartialEq)]
struct LossArg(Loss);

const LOSSES: [&str; 2] = ["cross_entropy", "mse"];

impl FromStr for LossArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<LossArg, String> {
        let output = |output: &str| {
            if output.is_empty() { Err("name an output".to_owned()) } else { Ok(output.into()) }
        };
        let loss = match text.split_once(':') {
            Some(("cross_entropy", of)) => Loss::CrossEntropy { output: output(of)? },
            Some(("mse", of)) => Loss::Mse { output: output(of)? },
            Some((name, of)) if closest(name, LOSSES).is_some() => {
                let meant = closest(name, LOSSES).unwrap_or_default();
                return Err(format!("there is no loss `{name}`; did you mean `{meant}:{of}`?"));
            }
            _ => Loss::Output(output(text)?),
        };
        Ok(LossArg(loss))
    }
}

/// Runs the verb.
pub fn run(args: &Args, _: &Global, terminal: &mut Terminal) -> Result<()> {
    // The new module may take the place of the old one.
    let mut claim = claim(&args.output, [])?;
    let module = graphc::file::load(&args.model)?;
    let function = match &args.function {
        Some(name) => name.clone(),
        None => open::default_function(&module)?,
    };
    if let Some(derivative) = args.derivative {
        return derive(args, (&module, function), derivative, &mut claim, terminal);
    }
    let spec = TrainingSpec {
        wrt: (!args.wrt.is_empty()).then(|| args.wrt.clone()),
        mode: match args.mode {
            ModeArg::Frozen => Mode::Frozen,
            ModeArg::Train => Mode::Train,
        },
        update: UpdateRule {
            optimizer: args.optimizer.clone(),
            schedule: args.schedule.clone(),
            warmup: args.warmup.clone(),
            regularizer: args.regularize.clone().unwrap_or_default(),
            clip: args.clip.clone().unwrap_or_default(),
        },
        accumulate: args.accumulate.map(|how| match how {
            AccumulateArg::Mean => Accumulate::Mean,
            AccumulateArg::Sum => Accumulate::Sum,
        }),
        ..TrainingSpec::new(function, args.loss.0.clone())
    };
    let trained = add_training(&module, &spec).map_err(|e| {
        let asked = spec.update.validate().is_ok() && names_exist(&module, &spec);
        let exit = if asked { Exit::Data } else { Exit::Usage };
        Failure::new(exit, format!("{}: {e}", args.model.display()))
    })?;
    claim.save(&trained)?;
    new_functions(&spec).into_iter().for_each(|name| announce(args, &trained, name, terminal));
    Ok(())
}

/// Adds a function of derivatives.
fn derive(
    args: &Args,
    (module, function): (&Module, String),
    derivative: DerivativeArg,
    claim: &mut Claim,
    terminal: &mut Terminal,
) -> Result<()> {
    let derivative = match derivative {
        DerivativeArg::Gradient => Derivative::Gradient,
        DerivativeArg::Jvp => Derivative::Jvp,
        DerivativeArg::Hvp => Derivative::Hvp,
        DerivativeArg::Jacobian => Derivative::Jacobian,
        DerivativeArg::Hessian => Derivative::Hessian,
    };
    let spec = DerivativeSpec { function, of: args.loss.0.clone(), wrt: args.wrt.clone(), derivative };
    let derived = add_derivative(module, &spec).map_err(|e| {
        let function = module.functions.get(&spec.function);
        let has_output = function.is_some_and(|f| f.outputs.iter().any(|o| o.name == spec.of.output()));
        let known = |name: &String| {
            module.state_index(name).is_some() || function.is_some_and(|f| f.inputs.contains(name))
        };
        let exit = if has_output && spec.wrt.iter().all(known) { Exit::Data } else { Exit::Usage };
        Failure::new(exit, format!("{}: {e}", args.model.display()))
    })?;
    claim.save(&derived)?;
    announce(args, &derived, derivative.name(), terminal);
    Ok(())
}

fn announce(args: &Args, module: &Module, name: &str, terminal: &mut Terminal) {
    let inputs = module.function(name).map(|f| f.inputs.join(", ")).unwrap_or_default();
    let of = if inputs.is_empty() { "without inputs".to_owned() } else { format!("of {inputs}") };
    terminal.note(&format!("{}: function `{name}` {of} is new", args.output.display()));
}

/// Whether an error is about the module rather than about what was asked for.
fn names_exist(module: &Module, spec: &TrainingSpec) -> bool {
    let has_output = module
        .functions
        .get(&spec.function)
        .is_some_and(|f| f.outputs.iter().any(|o| o.name == spec.loss.output()));
    has_output && spec.wrt.iter().flatten().all(|name| module.state_index(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses() {
        let parse = |text: &str| text.parse::<LossArg>().map(|l| l.0);
        assert_eq!(parse("loss"), Ok(Loss::Output("loss".into())));
        assert_eq!(parse("mse:y"), Ok(Loss::Mse { output: "y".into() }));
        assert_eq!(parse("cross_entropy:p"), Ok(Loss::CrossEntropy { output: "p".into() }));
        assert!(parse("crossentropy:p").unwrap_err().contains("did you mean `cross_entropy:p`?"));
        assert!(parse("mse:").is_err() && parse("").is_err());
    }
}
