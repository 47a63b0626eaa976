//! `graphc verify`: every level of compilation against the reference interpreter.

use std::path::PathBuf;

use graphc::ir::wire::json::{Layout, object_document};
use graphc::verify::{Case, Culprit, Verdict, verify};
use graphc::{DType, Function, Module, Options, Session, Tensor};

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::feeds::FeedArgs;
use crate::open;
use crate::terminal::Terminal;

/// Options of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The function; every one if not given
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    feeds: FeedArgs,
    /// Largest relative L2 error of floats [default: 1e-4; 1e-10 for functions of f64 alone, 2e-3 with f16, 2e-2 with bf16]
    #[arg(long, value_parser = tolerance, value_name = "ERROR")]
    tolerance: Option<f64>,
}

/// Size of dims that nothing tells: odd, and not 1, where mistakes hide.
const SIZE: usize = 3;

fn tolerance(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if t >= 0.0 && t.is_finite() => Ok(t),
        _ => Err("give a number from 0 on".into()),
    }
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let mut session = open::open(&args.model, global, terminal)?.session;
    open::set_state(&mut session, args.function.as_deref(), &args.feeds, global, terminal)?;
    let names: Vec<String> = match &args.function {
        Some(name) => vec![open::function_name(&session, Some(name))?],
        None => session.module().functions.keys().cloned().collect(),
    };
    let module = session.snapshot()?;
    let mut wrong = 0;
    for name in &names {
        let verdicts = judge(args, global, &session, &module, name)?;
        wrong += verdicts.iter().filter(|v| v.culprit.is_some()).count();
        for verdict in &verdicts {
            let line = if global.json { json(name, verdict) } else { text(name, verdict) };
            terminal.print(&line)?;
        }
    }
    match wrong {
        0 => Ok(()),
        _ => {
            terminal.flush()?;
            let levels = if wrong == 1 { "level differs" } else { "levels differ" };
            Err(Failure::new(
                Exit::Failed,
                format!("{}: {wrong} {levels} from the definition", args.model.display()),
            ))
        }
    }
}

fn judge(
    args: &Args,
    global: &Global,
    session: &Session,
    module: &Module,
    name: &str,
) -> Result<Vec<Verdict>> {
    let feeds = feeds(args, global, session, name)?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let tolerance = args.tolerance.unwrap_or_else(|| default_tolerance(module.functions.get(name)));
    let case = Case { module, function: name, feeds: &feeds, tolerance, device: global.device };
    Ok(verify(&case, &Options::default())?)
}

/// What is given of the inputs that the function has; the others are random, in small sizes.
fn feeds(args: &Args, global: &Global, session: &Session, name: &str) -> Result<Vec<(String, Tensor)>> {
    let function = session.function(name)?;
    let mut given = args.feeds.clone();
    if args.function.is_none() {
        given.inputs.retain(|a| function.inputs.contains(&a.name));
    }
    given.feeds_or_random(session, name, global.seed, SIZE)
}

/// Of the coarsest float type in the function. A level may round the last bit of f16 and bf16 the other way.
fn default_tolerance(function: Option<&Function>) -> f64 {
    let Some(function) = function else { return 1e-4 };
    let tolerance = |v| match function.graph.ty(v).dtype {
        DType::Bf16 => 2f64.powi(-6),
        DType::F16 => 2f64.powi(-9),
        DType::F32 => 1e-4,
        _ => 1e-10,
    };
    function.graph.nodes().flat_map(|(_, n)| n.outs()).map(tolerance).fold(1e-10, f64::max)
}

fn text(name: &str, verdict: &Verdict) -> String {
    let Verdict { level, worst, culprit } = verdict;
    let of = if worst.name.is_empty() { String::new() } else { format!(" in {}", worst.name) };
    let Some(culprit) = culprit else {
        return format!("{name}: {level} agrees (relative error {:.2e}{of})\n", worst.error);
    };
    let at = worst.index.map(|i| format!(", most at element {i}")).unwrap_or_default();
    format!("{name}: {level} DIFFERS (relative error {:.2e}{of}{at}); {}\n", worst.error, blame(culprit))
}

fn blame(culprit: &Culprit) -> String {
    let pass = match culprit.pass {
        Some(pass) => format!("it appears with pass `{pass}`"),
        None => "it is there without any optional pass".into(),
    };
    match (&culprit.node, &culprit.deviation) {
        (Some(node), Some(d)) => format!("{pass}, first at {node} (relative error {:.2e})", d.error),
        _ => format!("{pass}; each node alone is right"),
    }
}

fn json(name: &str, verdict: &Verdict) -> String {
    object_document(Layout::Inline, |o| {
        o.string("function", name);
        o.string("level", verdict.level.name());
        o.bool("agrees", verdict.culprit.is_none());
        o.string("result", &verdict.worst.name);
        o.f64("error", verdict.worst.error);
        if let Some(culprit) = &verdict.culprit {
            match culprit.pass {
                Some(pass) => o.string("pass", pass),
                None => o.null("pass"),
            }
            match &culprit.node {
                Some(node) => o.string("node", node),
                None => o.null("node"),
            }
        }
    })
}
