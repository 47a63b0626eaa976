//! `graphc train`: runs `train_step` over a data set.
//!
//! The model's own file is where the state is kept: it is written anew, atomically, now and then, at the
//! end, and when the training is stopped. Order and arithmetic depend on the seed alone, and the file
//! tells how far the training is, so that one that was stopped ends with the same bits.

mod dataset;
mod fingerprint;
mod measures;
mod order;
mod record;
pub(crate) mod spec;
pub(crate) mod table;
mod training;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use graphc::Session;
use graphc::file::Claim;

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::feeds::FeedArgs;
use crate::file;
use crate::finite::Watch;
use crate::limits::Clock;
use crate::open;
use crate::terminal::Terminal;
use dataset::{BatchSize, Dataset, batch_size};
use measures::{Marked, Test};
use record::Record;
use spec::DataSpec;
use training::{Saving, Training};

/// Options of `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model; its file is written anew with the trained state
    model: PathBuf,
    /// Rows to train on: FILE.npz, or FILE.csv[.gz]:rows=0..898:x=0..64/16:y=64
    #[arg(long, value_name = "SPEC")]
    data: DataSpec,
    /// Rows for `evaluate`, which runs after every epoch
    #[arg(long, value_name = "SPEC")]
    test: Option<DataSpec>,
    /// How often all rows are seen [default: 1, or as before with --resume]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), value_name = "N")]
    epochs: Option<u64>,
    /// Rows of a step; the last one of an epoch may have fewer [default: 32, or what the model prescribes]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), value_name = "N")]
    batch: Option<u64>,
    /// Goes on with a training that was stopped
    #[arg(long)]
    resume: bool,
}

const STEP: &str = "train_step";
const EVALUATE: &str = "evaluate";
const DEFAULT_BATCH: usize = 32;

/// A training that is killed loses at most about this much, unless `GRAPHC_SAVE_EVERY` says otherwise.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Runs the verb.
pub fn run(args: &Args, global: &Global, clock: Clock, terminal: &mut Terminal) -> Result<()> {
    let every = save_every()?;
    let claim = claim(args)?;
    let mut session = open::open(&args.model, global, terminal)?.session;
    let step = session.function(STEP)?.clone();
    let fixed = batch_size(STEP, &step)?;
    let data = Dataset::load(&args.data, STEP, &step)?;
    let test = match &args.test {
        Some(spec) => Some(Test::load(spec, session.function(EVALUATE)?)?),
        None => None,
    };
    let marked = Marked::of(STEP, &step)?;
    let record = begin(args, global, &session, (&data, fixed), terminal)?;
    if let Some(test) = &test {
        test.check_batches(record.batch)?;
    }
    open::set_state(&mut session, None, &FeedArgs::default(), global, terminal)?;
    let watch = Watch::new(&session, STEP)?;
    let saving = Saving::new(claim, record.clone(), every);
    Training { args, global, session, data, test, marked, watch, record, saving, stop: stop_flag(clock)? }
        .run(terminal)
}

/// Claims the model before it is read: whoever trains it too would be overwritten, or would overwrite this training.
fn claim(args: &Args) -> Result<Claim> {
    let path = &args.model;
    let metadata = path.metadata().map_err(|e| Failure::reading(path, &e))?;
    if !metadata.is_file() {
        return Err(Failure::new(Exit::Io, format!("{}: is not a regular file", path.display())));
    }
    file::claim(path, [])
}

fn save_every() -> Result<Duration> {
    const NAME: &str = "GRAPHC_SAVE_EVERY";
    let Some(text) = std::env::var_os(NAME) else { return Ok(SAVE_EVERY) };
    let seconds = text.to_str().and_then(|t| t.parse::<f64>().ok()).filter(|s| (0.0..=86_400.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        Failure::usage(format!("{NAME} is `{}`; give a time from 0 to 86400 seconds", text.display()))
    })
}

/// The record to start from: a new one, or with `--resume` that of the model.
fn begin(
    args: &Args,
    global: &Global,
    session: &Session,
    (data, fixed): (&Dataset, BatchSize),
    terminal: &Terminal,
) -> Result<Record> {
    let asked = args.batch.map(|b| b as usize);
    let fingerprint = data.fingerprint();
    let old = if args.resume { Record::read(session.module())? } else { None };
    let record = match old {
        Some(mut record) => {
            if asked.is_some_and(|b| b != record.batch) || ![0, record.seed].contains(&global.seed) {
                return Err(Failure::usage(format!(
                    "the training was begun with --batch {} --seed {}; resume it with these, or leave them out",
                    record.batch, record.seed
                )));
            }
            if record.rows != data.rows() {
                return Err(Failure::data(format!(
                    "{}: has {} rows, but the training was begun with {}",
                    args.data.path.display(),
                    data.rows(),
                    record.rows
                )));
            }
            match record.data {
                Some(begun) if begun != fingerprint => {
                    return Err(Failure::data(format!(
                        "{}: has other rows than those that the training was begun with; give it the same, or train anew without --resume",
                        args.data.path.display()
                    )));
                }
                Some(_) => {}
                None => terminal.note("the model's record of training tells only how many rows the data had"),
            }
            record.data = Some(fingerprint);
            record.epochs = args.epochs.unwrap_or(record.epochs);
            record
        }
        None => {
            if args.resume {
                terminal.note("the model holds no record of a training; this is its beginning");
            }
            let batch = match fixed {
                BatchSize::Fixed(n) => n,
                BatchSize::Any => asked.unwrap_or(DEFAULT_BATCH),
            };
            let (seed, epochs) = (global.seed, args.epochs.unwrap_or(1));
            Record {
                seed,
                batch: asked.unwrap_or(batch),
                rows: data.rows(),
                data: Some(fingerprint),
                epochs,
                epoch: 0,
                step: 0,
                sums: Vec::new(),
            }
        }
    };
    check_batches(STEP, fixed, record.batch, record.rows)?;
    Ok(record)
}

/// A function for one size of batch takes no other.
fn check_batches(name: &str, size: BatchSize, batch: usize, rows: usize) -> Result<()> {
    match size {
        BatchSize::Fixed(n) if batch != n => {
            Err(Failure::usage(format!("function `{name}` takes batches of {n} rows, not of {batch}")))
        }
        BatchSize::Fixed(n) if !rows.is_multiple_of(n) => Err(Failure::data(format!(
            "function `{name}` takes batches of {n} rows, but {rows} rows leave a last batch of {}",
            rows % n
        ))),
        _ => Ok(()),
    }
}

/// A flag that the first interrupt sets, or the end of the time; the second interrupt ends the process.
fn stop_flag(clock: Clock) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    clock.at_end({
        let flag = stop.clone();
        move || flag.store(true, Ordering::Relaxed)
    })?;
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            // Saving is atomic, so that the file is whole whenever this happens.
            std::process::exit(Exit::Stopped as i32);
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Failure::new(Exit::Internal, format!("interrupts cannot be caught: {e}")))?;
    Ok(stop)
}
