//! `graphc grad`: adds a training function to a module.

use std::path::PathBuf;
use std::str::FromStr;

use graphc::Module;
use graphc::ir::wire::suggest::closest;
use graphc::optimizer::grad::{Loss, Mode, Sgd, TrainingSpec, add_training};

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::file::Destination;
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
    /// State that is trained; all of role `param` if not given
    #[arg(long, value_name = "STATE", num_args = 1..)]
    wrt: Vec<String>,
    /// Whether batch normalization keeps its statistics or uses those of the batch
    #[arg(long, value_enum, default_value_t = ModeArg::Frozen, value_name = "MODE")]
    mode: ModeArg,
    /// The update: sgd with lr, momentum and weight_decay
    #[arg(long, default_value = "sgd:lr=0.1,momentum=0.9", value_name = "NAME:KEY=NUMBER,...")]
    optimizer: OptimizerArg,
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

#[derive(Clone, Copy, Debug, PartialEq)]
struct OptimizerArg(Sgd);

impl FromStr for OptimizerArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<OptimizerArg, String> {
        let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
        if name != "sgd" {
            return Err(format!("there is no optimizer `{name}`; there is `sgd`"));
        }
        let mut sgd = Sgd::default();
        let mut given: Vec<&str> = Vec::new();
        for parameter in parameters.split(',').filter(|p| !p.is_empty()) {
            let (key, number) = parameter.split_once('=').unwrap_or((parameter, ""));
            let field = match key {
                "lr" => &mut sgd.lr,
                "momentum" => &mut sgd.momentum,
                "weight_decay" => &mut sgd.weight_decay,
                _ => {
                    let known = ["lr", "momentum", "weight_decay"];
                    let meant = closest(key, known).map(|m| format!("did you mean `{m}`?"));
                    let remedy = meant.unwrap_or_else(|| format!("it has {}", known.join(", ")));
                    return Err(format!("sgd has no parameter `{key}`; {remedy}"));
                }
            };
            if given.contains(&key) {
                return Err(format!("`{key}` is given twice"));
            }
            given.push(key);
            *field = number.parse().map_err(|_| format!("`{key}` is `{number}`, which is not a number"))?;
        }
        sgd.validate().map_err(|e| e.to_string())?;
        Ok(OptimizerArg(sgd))
    }
}

/// Runs the verb.
pub fn run(args: &Args, _: &Global, terminal: &mut Terminal) -> Result<()> {
    let module = graphc::file::load(&args.model)?;
    // The new module may take the place of the old one.
    Destination::new(&args.output, [])?;
    let function = match &args.function {
        Some(name) => name.clone(),
        None => open::default_function(&module)?,
    };
    let spec = TrainingSpec {
        wrt: (!args.wrt.is_empty()).then(|| args.wrt.clone()),
        mode: match args.mode {
            ModeArg::Frozen => Mode::Frozen,
            ModeArg::Train => Mode::Train,
        },
        optimizer: args.optimizer.0,
        ..TrainingSpec::new(function, args.loss.0.clone())
    };
    let trained = add_training(&module, &spec).map_err(|e| {
        let exit = if names_exist(&module, &spec) { Exit::Data } else { Exit::Usage };
        Failure::new(exit, format!("{}: {e}", args.model.display()))
    })?;
    graphc::file::save(&trained, &args.output)?;
    let inputs = trained.function(&spec.name).map(|f| f.inputs.join(", ")).unwrap_or_default();
    terminal.note(&format!("{}: function `{}` of {inputs} is new", args.output.display(), spec.name));
    Ok(())
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

    #[test]
    fn optimizers() {
        let parse = |text: &str| text.parse::<OptimizerArg>().map(|o| o.0);
        assert_eq!(parse("sgd"), Ok(Sgd::default()));
        let all = Sgd { lr: 0.5, momentum: 0.0, weight_decay: 1e-4 };
        assert_eq!(parse("sgd:lr=0.5,momentum=0,weight_decay=1e-4"), Ok(all));
        for (text, part) in [
            ("adam:lr=1", "no optimizer `adam`"),
            ("sgd:lr=0", "above 0"),
            ("sgd:lr=-1", "above 0"),
            ("sgd:lr=nan", "above 0"),
            ("sgd:lr=1e30", "at most"),
            ("sgd:momentum=1", "below 1"),
            ("sgd:momentun=0.9", "did you mean `momentum`?"),
            ("sgd:lr=fast", "`fast`, which is not a number"),
            ("sgd:lr", "not a number"),
            ("sgd:lr=1,lr=2", "given twice"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
