//! `graphc run`: one function on given feeds.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use graphc::file::Claim;
use graphc::{Outputs, Tensor};

use crate::args::Global;
use crate::array::NpyFile;
use crate::exit::{Exit, Failure, Result};
use crate::feeds::FeedArgs;
use crate::file::{self, Destination};
use crate::finite::Watch;
use crate::npz::write_npz;
use crate::open::{self, Opened};
use crate::print;
use crate::terminal::Terminal;
use crate::zip::Contents;

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The function; the only one if not given, else `predict`
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    feeds: FeedArgs,
    /// Where an output is written: @FILE.npy
    #[arg(short = 'o', long = "output", value_name = "NAME=FILE")]
    outputs: Vec<OutputFile>,
    /// Where all outputs are written
    #[arg(long = "outputs", value_name = "FILE.npz")]
    all_outputs: Option<PathBuf>,
    /// Runs so many times, with the updates of each committed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    repeat: u64,
    /// Writes the model with its state after the last run
    #[arg(long, value_name = "OUT.json")]
    save: Option<PathBuf>,
}

/// `NAME=FILE`, with or without `@` before the file.
#[derive(Clone, Debug)]
struct OutputFile {
    name: String,
    path: PathBuf,
}

impl FromStr for OutputFile {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<OutputFile, String> {
        match text.split_once('=').map(|(n, f)| (n, f.strip_prefix('@').unwrap_or(f))) {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(OutputFile { name: name.into(), path: file.into() })
            }
            _ => Err("write an output and a file, as in `y=@y.npy`".into()),
        }
    }
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let mut save = args.save.as_deref().map(|path| claim(args, path)).transpose()?;
    let Opened { mut session, load } = open::open(&args.model, global, terminal)?;
    let name = open::function_name(&session, args.function.as_deref())?;
    let known: Vec<String> = session.function(&name)?.outputs.iter().map(|o| o.name.clone()).collect();
    let files = destinations(args, &name, &known)?;
    open::set_state(&mut session, Some(&name), &args.feeds, global, terminal)?;
    let feeds = args.feeds.feeds(&session, &name, global.seed)?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let started = Instant::now();
    session.new_outputs(&name, &feeds)?;
    terminal.detail(&format!("read in {load:.1?}, compiled in {:.1?}", started.elapsed()));
    let watch = save.is_some().then(|| Watch::new(&session, &name)).transpose()?;
    let mut last = Outputs::new();
    for _ in 0..args.repeat {
        // Nobody reads the outputs of more runs, and nothing else comes of them.
        if terminal.reader_is_gone() && save.is_none() {
            break;
        }
        last = session.run(&name, feeds.iter().copied())?;
        if files.is_empty() {
            let summarize = terminal.is_interactive() && !global.json;
            if summarize {
                terminal.print(&print::for_a_terminal(&last))?;
            } else {
                print::json(&last, &mut |part| terminal.print(part))?;
            }
        }
    }
    // If the results cannot be had, nothing is written either.
    terminal.flush()?;
    for file in &files {
        file.write(&last)?;
    }
    if let (Some(claim), Some(watch), Some(path)) = (&mut save, &watch, &args.save) {
        if let Some(what) = watch.broken(&session)? {
            let path = path.display();
            let message = format!("{what} after the last run, and was finite before; {path} was not written");
            return Err(Failure::new(Exit::Failed, message));
        }
        claim.save(&session.snapshot()?)?;
    }
    if let Some(classes) = print::class_names(session.module(), &last) {
        terminal.note(&format!("class: {classes}"));
    }
    Ok(())
}

/// Claims the model's next file. Saving over the model itself goes on from where it was.
fn claim(args: &Args, path: &Path) -> Result<Claim> {
    file::claim(path, args.feeds.files().map(PathBuf::as_path).filter(|i| *i != args.model))
}

/// A file that outputs go to: one output, or all of them.
struct Sink {
    destination: Destination,
    output: Option<String>,
}

impl Sink {
    fn write(&self, outputs: &Outputs) -> Result<()> {
        let file = |name: &str| NpyFile::new(&outputs[name]);
        if let Some(name) = &self.output {
            return self.destination.write(&mut |out| Ok(file(name).send(&mut |piece| out.write_all(piece))));
        }
        let files: Vec<(&String, NpyFile<'_>)> = outputs.keys().map(|name| (name, file(name))).collect();
        self.destination.write(&mut |out| {
            write_npz(out, files.iter().map(|(name, file)| (name.as_str(), file as &dyn Contents)))
                .map_err(|e| Failure::data(format!("the outputs make no .npz file: {e}")))
        })
    }
}

/// Checks all output files before anything runs.
fn destinations(args: &Args, function: &str, known: &[String]) -> Result<Vec<Sink>> {
    let inputs: Vec<&Path> = args.feeds.files().map(PathBuf::as_path).chain([args.model.as_path()]).collect();
    let mut sinks = Vec::new();
    let mut paths: Vec<&Path> = Vec::new();
    for OutputFile { name, path } in &args.outputs {
        if !known.contains(name) {
            let names: Vec<String> = known.iter().map(|n| format!("`{n}`")).collect();
            let remedy = match graphc::ir::wire::suggest::closest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("it has {}", names.join(", ")),
            };
            return Err(Failure::usage(format!("function `{function}` has no output `{name}`; {remedy}")));
        }
        paths.push(path);
        sinks.push(Sink {
            destination: Destination::new(path, inputs.iter().copied())?,
            output: Some(name.clone()),
        });
    }
    if let Some(path) = &args.all_outputs {
        paths.push(path);
        sinks.push(Sink { destination: Destination::new(path, inputs.iter().copied())?, output: None });
    }
    if let Some(path) = &args.save {
        paths.push(path);
    }
    for (i, path) in paths.iter().enumerate() {
        if paths[..i].contains(path) {
            return Err(Failure::usage(format!(
                "{} is given for two outputs; give each its own file",
                path.display()
            )));
        }
    }
    Ok(sinks)
}
