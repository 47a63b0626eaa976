//! The command line.

use std::str::FromStr;

use clap::{Args, Parser, ValueEnum};
use graphc::Device;

use crate::verbs::Verb;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "graphc", version, about = "Runs, trains, checks and measures computation graphs.")]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where functions run: cpu, gpu or reference (the interpreter)
    #[arg(long, global = true, default_value = "cpu", value_parser = device, value_name = "DEVICE")]
    pub device: Device,
    /// Threads that take part in a run; all processors if not given
    #[arg(long, global = true, value_parser = threads, value_name = "N")]
    pub threads: Option<usize>,
    /// Size of a symbolic dim, as in `--dim B=32`
    #[arg(long = "dim", global = true, value_name = "SYMBOL=SIZE")]
    pub dims: Vec<DimSize>,
    /// Seed of random feeds and of `init`
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Most memory that is taken, such as 512M or 2G; what the system allows if not given
    #[arg(long, global = true, value_parser = graphc::memory::parse_bytes, value_name = "BYTES")]
    pub max_mem: Option<usize>,
    /// Seconds after which the command stops, whatever it does
    #[arg(long, global = true, value_parser = crate::verbs::seconds, value_name = "S")]
    pub max_time: Option<f64>,
    /// Results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No notes on the standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More notes on the standard error
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Colored messages
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

/// When messages are colored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `B=32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimSize {
    /// The symbol.
    pub name: String,
    /// Its size.
    pub size: usize,
}

impl FromStr for DimSize {
    type Err = String;

    fn from_str(text: &str) -> Result<DimSize, String> {
        let parsed =
            text.split_once('=').and_then(|(name, size)| Some((name.trim(), size.trim().parse().ok()?)));
        match parsed {
            Some((name, size)) if !name.is_empty() => Ok(DimSize { name: name.into(), size }),
            _ => Err("write a symbol and its size, as in `B=32`".into()),
        }
    }
}

fn device(text: &str) -> Result<Device, String> {
    text.parse::<Device>().map_err(|e| e.to_string())
}

fn threads(text: &str) -> Result<usize, String> {
    let most = graphc::MAX_THREADS;
    match text.parse::<usize>() {
        Ok(threads) if (1..=most).contains(&threads) => Ok(threads),
        _ => Err(format!("give a number of threads from 1 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_of_dims() {
        assert_eq!("B=32".parse(), Ok(DimSize { name: "B".into(), size: 32 }));
        for text in ["", "B", "B=", "=3", "B=-1", "B=1.5", "B=18446744073709551616"] {
            assert!(text.parse::<DimSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_limited() {
        assert_eq!(threads("2"), Ok(2));
        for text in ["0", "1000000", "-1", "two"] {
            assert!(threads(text).unwrap_err().contains("from 1 to"), "{text}");
        }
    }
}
