//! `graphc completions`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Exit, Failure, Result};
use crate::terminal::Terminal;

/// Options of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the verb.
pub fn run(args: &Args, terminal: &mut Terminal) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "graphc", &mut script);
    let script = String::from_utf8(script).map_err(|e| Failure::new(Exit::Internal, e.to_string()))?;
    terminal.print(&script)
}
