//! The `graphc` binary: runs, checks, shows and measures models.

mod args;
mod array;
mod exit;
mod feeds;
mod file;
mod finite;
#[cfg(test)]
mod fuzz;
mod limits;
mod npy;
mod npz;
mod open;
mod print;
mod terminal;
mod value;
mod verbs;
mod zip;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use exit::{Exit, Failure};
use limits::Clock;
use terminal::Terminal;

/// Counted and limited, so that no input takes more memory than the process may have.
#[global_allocator]
static HEAP: graphc::memory::heap::Heap = graphc::memory::heap::Heap;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            return match terminal::usage(&e) {
                _ if e.use_stderr() => Exit::Usage.into(),
                // Help and version go to the standard output; whoever closed it wanted no more.
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Exit::Io.into(),
                _ => ExitCode::SUCCESS,
            };
        }
    };
    let clock = Clock::start(&cli.global);
    limits::memory(&cli.global);
    let mut terminal = Terminal::new(&cli.global);
    // Every panic is a bug; the message of the standard hook comes first.
    let result = catch_unwind(AssertUnwindSafe(|| {
        clock.watch(cli.verb.stops_by_itself())?;
        verbs::run(&cli, clock, &mut terminal)?;
        terminal.flush()
    }))
    .unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::Internal,
            "this is a bug of graphc; please report it with the command and the model",
        ))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.error(&failure.message);
            failure.exit.into()
        }
    }
}
