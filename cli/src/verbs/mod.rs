//! The verbs, one file each.

mod bench;
mod check;
mod completions;
mod devices;
mod explain;
mod fmt;
mod grad;
mod profile;
mod run;
mod show;
pub(crate) mod train;
mod verify;

use clap::Subcommand;
use graphc::ir::wire;

use crate::args::Cli;
use crate::exit::Result;
use crate::limits::Clock;
use crate::terminal::Terminal;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Runs one function and prints or writes its outputs
    Run(run::Args),
    /// Trains a model on a data set, in its own file
    Train(train::Args),
    /// Adds a training function to a model
    Grad(grad::Args),
    /// Measures the time of a function
    Bench(bench::Args),
    /// Checks a model and prints what it holds
    Check(check::Args),
    /// Prints the graph of a function after a stage of compilation
    Show(show::Args),
    /// Prints the steps of a function with their algorithms, and what the passes did and did not
    Explain(explain::Args),
    /// Measures every step of a function
    Profile(profile::Args),
    /// Compares every level of compilation with the reference interpreter
    Verify(verify::Args),
    /// Lists what functions can run on
    Devices,
    /// Prints a model in its canonical form
    Fmt(fmt::Args),
    /// Prints the JSON Schema of model files
    Schema,
    /// Prints the reference of all operations
    Ops,
    /// Prints a script that completes commands in a shell
    Completions(completions::Args),
}

/// A time on the command line, in seconds.
pub fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(s),
        _ => Err("give a time above 0 and up to 86400 seconds".into()),
    }
}

impl Verb {
    /// Whether it stops by itself, with what it did so far kept, when [`crate::limits::Clock`] says that the time is over.
    pub fn stops_by_itself(&self) -> bool {
        matches!(self, Verb::Train(_) | Verb::Verify(_))
    }
}

/// Does what the command line says.
pub fn run(cli: &Cli, clock: Clock, terminal: &mut Terminal) -> Result<()> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Run(args) => run::run(args, global, terminal),
        Verb::Train(args) => train::run(args, global, clock, terminal),
        Verb::Grad(args) => grad::run(args, global, terminal),
        Verb::Bench(args) => bench::run(args, global, terminal),
        Verb::Check(args) => check::run(args, global, terminal),
        Verb::Show(args) => show::run(args, global, terminal),
        Verb::Explain(args) => explain::run(args, global, terminal),
        Verb::Profile(args) => profile::run(args, global, terminal),
        Verb::Verify(args) => verify::run(args, global, clock, terminal),
        Verb::Devices => devices::run(global, terminal),
        Verb::Fmt(args) => fmt::run(args, terminal),
        Verb::Schema => terminal.print(&wire::schema()),
        Verb::Ops => terminal.print(&wire::ops_reference()),
        Verb::Completions(args) => completions::run(args, terminal),
    }
}
