//! `graphc explain`: the steps of a function, the algorithms that the device chose, and what the passes did.

use std::fmt::Write as _;
use std::path::PathBuf;

use graphc::{StepInfo, Tensor};

use crate::args::Global;
use crate::exit::{Failure, Result};
use crate::feeds::FeedArgs;
use crate::open::{self, Opened};
use crate::terminal::Terminal;

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Only what concerns this node
    node: Option<String>,
    /// The function; the only one if not given, else `predict`
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    feeds: FeedArgs,
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let Opened { session, .. } = open::open(&args.model, global, terminal)?;
    let name = open::function_name(&session, args.function.as_deref())?;
    let feeds = args.feeds.feeds_or_random(&session, &name, global.seed, 1)?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let explanation = session.explain(&name, &feeds)?;
    let quoted = args.node.as_ref().map(|node| format!("`{node}`"));
    let concerns = |text: &str| quoted.as_ref().is_none_or(|node| text.contains(node.as_str()));
    let mut text = String::new();
    let mut found = false;
    for (title, steps) in [("once for each state", &explanation.staged), ("in each run", &explanation.steps)]
    {
        let lines: Vec<String> = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| concerns(&step.origins))
            .map(|(i, step)| line(i, step))
            .collect();
        found |= !lines.is_empty();
        if !lines.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}, {title}:\n{}", lines.join("\n"));
        }
    }
    for (title, applied) in [("done", true), ("not done", false)] {
        let mut lines: Vec<String> = Vec::new();
        let remarks = explanation.remarks.iter().filter(|r| r.applied == applied);
        for remark in remarks.filter(|r| concerns(&r.text)) {
            let line = format!("  {}: {}", remark.pass, remark.text);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        found |= !lines.is_empty();
        if !lines.is_empty() {
            let _ = writeln!(text, "{title}:\n{}", lines.join("\n"));
        }
    }
    match (&args.node, found) {
        (Some(node), false) => Err(Failure::usage(format!(
            "nothing is known of a node `{node}` in function `{name}`; `graphc show` prints its nodes"
        ))),
        _ => terminal.print(&text),
    }
}

fn line(index: usize, step: &StepInfo) -> String {
    let from = if step.origins.is_empty() { String::new() } else { format!(" from {}", step.origins) };
    format!("  step {index}: {} [{}] error class {:?}{from}", step.kind, step.algorithm, step.error_class)
}
