//! `graphc train`: runs `train_step` over a data set.
//!
//! The model's own file is where the state is kept: it is written anew, atomically, now and then, at the
//! end, and when the training is stopped. Order and arithmetic depend on the seed alone, and the file
//! tells how far the training is, so that one that was stopped ends with the same bits.

mod dataset;
mod order;
mod record;
pub(crate) mod spec;
pub(crate) mod table;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use graphc::ir::module::OutputMark;
use graphc::ir::wire::json::{Layout, object_document};
use graphc::{Function, Outputs, Session, Started, Tensor};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::feeds::FeedArgs;
use crate::file::Destination;
use crate::limits::Clock;
use crate::open;
use crate::terminal::Terminal;
use dataset::{BatchSize, Dataset, batch_size};
use record::Record;
use spec::DataSpec;

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

/// A training that is killed loses at most about this much.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Runs the verb.
pub fn run(args: &Args, global: &Global, clock: Clock, terminal: &mut Terminal) -> Result<()> {
    let mut session = open::open(&args.model, global, terminal)?.session;
    Destination::new(&args.model, [])?;
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
    let mut training = Training {
        args,
        session,
        data,
        test,
        marked,
        record,
        stop: stop_flag(clock)?,
        saved: Instant::now(),
    };
    training.run(global, terminal)
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

/// Outputs of a function that are averaged.
struct Marked(Vec<String>, usize);

impl Marked {
    /// The losses, of which there is at least one, then the metrics.
    fn of(name: &str, function: &Function) -> Result<Marked> {
        let with = |mark| {
            let marked = function.outputs.iter().filter(move |o| o.mark == Some(mark));
            marked.map(|o| o.name.clone()).collect::<Vec<_>>()
        };
        let losses = with(OutputMark::Loss);
        let count = losses.len();
        if count == 0 && name == STEP {
            return Err(Failure::data(format!("function `{name}` has no output that is marked as a loss")));
        }
        let all = [losses, with(OutputMark::Metric)].concat();
        for (output, value) in function.outputs.iter().zip(function.output_values()) {
            let ty = function.graph.ty(*value);
            if all.contains(&output.name) && (ty.rank() != 0 || !ty.dtype.is_float()) {
                return Err(Failure::data(format!(
                    "output `{}` of function `{name}` is marked, so it must be one float, but it is {ty}",
                    output.name
                )));
            }
        }
        Ok(Marked(all, count))
    }

    /// Adds a batch's values, weighted with its rows.
    fn add(&self, sums: &mut Vec<f64>, outputs: &Outputs, rows: usize) {
        sums.resize(self.0.len(), 0.0);
        for (sum, name) in sums.iter_mut().zip(&self.0) {
            *sum += outputs[name.as_str()].get(0).as_f64() * rows as f64;
        }
    }

    /// Names and averages.
    fn averages<'a>(&'a self, sums: &'a [f64], rows: usize) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().zip(sums).map(move |(name, sum)| (name.as_str(), sum / rows as f64))
    }

    /// A loss that is not a number any more.
    fn broken(&self, outputs: &Outputs) -> Option<(&str, f64)> {
        let losses = self.0[..self.1].iter().map(|n| (n.as_str(), outputs[n.as_str()].get(0).as_f64()));
        losses.into_iter().find(|(_, value)| !value.is_finite())
    }
}

/// The rows of `--test`.
struct Test {
    data: Dataset,
    marked: Marked,
    size: BatchSize,
}

impl Test {
    fn load(spec: &DataSpec, evaluate: &Function) -> Result<Test> {
        let size = batch_size(EVALUATE, evaluate)?;
        let data = Dataset::load(spec, EVALUATE, evaluate)?;
        Ok(Test { data, marked: Marked::of(EVALUATE, evaluate)?, size })
    }

    fn check_batches(&self, batch: usize) -> Result<()> {
        check_batches(EVALUATE, self.size, self.batch(batch), self.data.rows())
    }

    fn batch(&self, batch: usize) -> usize {
        match self.size {
            BatchSize::Fixed(n) => n,
            BatchSize::Any => batch,
        }
    }

    /// Sums over all rows.
    fn sums(&self, session: &Session, batch: usize) -> Result<Vec<f64>> {
        let rows: Vec<usize> = (0..self.data.rows()).collect();
        let mut sums = vec![0.0; self.marked.0.len()];
        for rows in rows.chunks(self.batch(batch)) {
            let outputs = session.run_shared(EVALUATE, as_feeds(&self.data.batch(rows)))?;
            self.marked.add(&mut sums, &outputs, rows.len());
        }
        Ok(sums)
    }
}

fn as_feeds<'t>(batch: &'t [(&'t str, Tensor)]) -> impl Iterator<Item = (&'t str, &'t Tensor)> {
    batch.iter().map(|(name, tensor)| (*name, tensor))
}

struct Training<'a> {
    args: &'a Args,
    session: Session,
    data: Dataset,
    test: Option<Test>,
    marked: Marked,
    record: Record,
    stop: Arc<AtomicBool>,
    saved: Instant,
}

impl Training<'_> {
    fn run(&mut self, global: &Global, terminal: &mut Terminal) -> Result<()> {
        if self.record.epoch >= self.record.epochs {
            terminal.note(&format!("all {} epochs are done; ask for more with --epochs", self.record.epochs));
            return Ok(());
        }
        let bar = progress(&self.record, global);
        while self.record.epoch < self.record.epochs {
            let started = Instant::now();
            self.epoch(&bar)?;
            let sums = std::mem::take(&mut self.record.sums);
            (self.record.epoch, self.record.step) = (self.record.epoch + 1, 0);
            let report = self.report(&sums, global.json, started.elapsed())?;
            bar.suspend(|| terminal.print(&report).and_then(|()| terminal.flush()))?;
            if self.saved.elapsed() >= SAVE_EVERY {
                self.save()?;
            }
        }
        bar.finish_and_clear();
        self.save()?;
        terminal.note(&format!("{}: trained state written", self.args.model.display()));
        Ok(())
    }

    /// The rest of the epoch that the record stands in.
    fn epoch(&mut self, bar: &ProgressBar) -> Result<()> {
        let order = order::shuffled(self.record.rows, self.record.seed, self.record.epoch);
        // A step is made ready while the device works on the one before.
        let mut under_way: Option<(Started, usize)> = None;
        for rows in order.chunks(self.record.batch).skip(self.record.step) {
            let started = self.session.start(STEP, as_feeds(&self.data.batch(rows)));
            let started = started.map_err(|e| self.in_batch(e, rows))?;
            if let Some(before) = under_way.replace((started, rows.len())) {
                self.settle(before, bar)?;
            }
            let stop = self.stop.load(Ordering::Relaxed);
            if stop || self.saved.elapsed() >= SAVE_EVERY {
                under_way.take().map_or(Ok(()), |last| self.settle(last, bar))?;
                self.save()?;
            }
            if stop {
                return Err(Failure::new(
                    Exit::Stopped,
                    format!(
                        "stopped in epoch {} after batch {}; {} holds the state; go on with --resume",
                        self.record.epoch + 1,
                        self.record.step,
                        self.args.model.display()
                    ),
                ));
            }
        }
        under_way.map_or(Ok(()), |last| self.settle(last, bar))
    }

    /// The error of a step, with the rows that it is about.
    fn in_batch(&self, e: graphc::Error, rows: &[usize]) -> Failure {
        const SHOWN: usize = 256;
        let failure = Failure::from(e);
        if failure.exit != Exit::Data {
            return failure;
        }
        let mut list: Vec<String> = rows.iter().take(SHOWN).map(ToString::to_string).collect();
        if rows.len() > SHOWN {
            list.push("…".into());
        }
        let (file, list) = (self.args.data.path.display(), list.join(", "));
        let message =
            format!("{}; the elements of this batch are the rows {list} of {file}", failure.message);
        Failure::new(failure.exit, message)
    }

    /// Waits for a step, and counts what it gives.
    fn settle(&mut self, (started, rows): (Started, usize), bar: &ProgressBar) -> Result<()> {
        let outputs = self.session.finish(started)?;
        if let Some((name, value)) = self.marked.broken(&outputs) {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "epoch {}, batch {}: `{name}` is {value}; the file keeps the state that was saved last; try a smaller learning rate",
                    self.record.epoch + 1,
                    self.record.step + 1
                ),
            ));
        }
        self.marked.add(&mut self.record.sums, &outputs, rows);
        self.record.step += 1;
        bar.inc(1);
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let mut module = self.session.snapshot()?;
        self.record.write(&mut module);
        graphc::file::save(&module, &self.args.model)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// The line of an epoch.
    fn report(&self, sums: &[f64], json: bool, time: Duration) -> Result<String> {
        let tested = match &self.test {
            Some(test) => Some((test, test.sums(&self.session, self.record.batch)?)),
            None => None,
        };
        let trained = || self.marked.averages(sums, self.record.rows);
        if json {
            return Ok(object_document(Layout::Inline, |o| {
                o.u64("epoch", self.record.epoch);
                trained().for_each(|(name, value)| o.f64(name, value));
                if let Some((test, sums)) = &tested {
                    o.object("test", Layout::Inline, |o| {
                        test.marked
                            .averages(sums, test.data.rows())
                            .for_each(|(name, value)| o.f64(name, value));
                    });
                }
            }));
        }
        let mut line = format!("epoch {}/{}", self.record.epoch, self.record.epochs);
        for (name, value) in trained() {
            line += &format!("  {name} {value:.5}");
        }
        if let Some((test, sums)) = &tested {
            for (name, value) in test.marked.averages(sums, test.data.rows()) {
                line += &format!("  test {name} {value:.5}");
            }
        }
        Ok(format!("{line}  {:.2} s\n", time.as_secs_f64()))
    }
}

/// A bar on a terminal, else nothing.
fn progress(record: &Record, global: &Global) -> ProgressBar {
    if global.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let batches = record.rows.div_ceil(record.batch) as u64;
    let bar = ProgressBar::new(batches * (record.epochs - record.epoch));
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} batches, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar.inc(record.step as u64);
    bar
}
