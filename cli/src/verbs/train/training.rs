//! The steps of a training: reports, saves, and what happens when it breaks.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use graphc::file::Claim;
use graphc::ir::wire::json::{Layout, object_document};
use graphc::{ErrorKind, Module, Outputs, Session, Started};
use indicatif::{ProgressBar, ProgressStyle};

use super::dataset::{Batch, Dataset};
use super::measures::{Marked, Test};
use super::record::Record;
use super::{Args, STEP, order};
use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::feeds::FeedArgs;
use crate::finite::Watch;
use crate::open;
use crate::terminal::Terminal;

/// A training under way.
pub struct Training<'a> {
    /// What was asked for.
    pub args: &'a Args,
    /// What was asked of every verb.
    pub global: &'a Global,
    /// The model, with the state after the steps that were made.
    pub session: Session,
    /// Rows that are trained on.
    pub data: Dataset,
    /// Rows for `evaluate`.
    pub test: Option<Test>,
    /// What `train_step` measures.
    pub marked: Marked,
    /// State that has to stay finite.
    pub watch: Watch,
    /// How far the training is.
    pub record: Record,
    /// The model's file.
    pub saving: Saving,
    /// Whether the training shall end after the step under way.
    pub stop: Arc<AtomicBool>,
}

/// The model's file, and what it holds.
pub struct Saving {
    claim: Claim,
    /// How far the training in the file is; before the first save, where this one began.
    record: Record,
    at: Instant,
    every: Duration,
}

impl Saving {
    /// A file that holds what `record` tells, to be written anew after this time.
    pub fn new(claim: Claim, record: Record, every: Duration) -> Saving {
        Saving { claim, record, at: Instant::now(), every }
    }

    fn is_due(&self) -> bool {
        self.at.elapsed() >= self.every
    }

    fn write(&mut self, mut module: Module, record: &Record) -> Result<()> {
        record.write(&mut module);
        self.claim.save(&module)?;
        (self.record, self.at) = (record.clone(), Instant::now());
        Ok(())
    }
}

/// Why a training does not go on.
enum Halt {
    Failure(Failure),
    /// A loss or the state is not finite any more, and has not been since this step at the latest.
    Broken {
        what: String,
        step: u64,
        /// Whether the step itself was good, and one that was tried after it told.
        tried: bool,
    },
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Halt {
        Halt::Failure(failure)
    }
}

impl From<graphc::Error> for Halt {
    fn from(e: graphc::Error) -> Halt {
        Halt::Failure(e.into())
    }
}

impl Training<'_> {
    /// Trains until all epochs are done.
    pub fn run(mut self, terminal: &mut Terminal) -> Result<()> {
        if self.record.epoch >= self.record.epochs {
            terminal.note(&format!("all {} epochs are done; ask for more with --epochs", self.record.epochs));
            return Ok(());
        }
        let bar = progress(&self.record, self.global);
        let ended = self.epochs(&bar, terminal);
        bar.finish_and_clear();
        match ended {
            Ok(()) => {
                terminal.note(&format!("{}: trained state written", self.args.model.display()));
                Ok(())
            }
            Err(Halt::Failure(failure)) => Err(failure),
            Err(Halt::Broken { what, step, tried }) => Err(self.before_it_broke(&what, step, tried)),
        }
    }

    fn epochs(&mut self, bar: &ProgressBar, terminal: &mut Terminal) -> std::result::Result<(), Halt> {
        while self.record.epoch < self.record.epochs {
            let started = Instant::now();
            self.epoch(bar)?;
            let sums = self.record.end_epoch();
            if !terminal.reader_is_gone() {
                self.tell(&sums, started.elapsed(), bar, terminal)?;
            }
            if self.saving.is_due() {
                self.save()?;
            }
        }
        self.finish()
    }

    /// Saves the state after the last step, if it gives a finite loss for the rows of that step: no further step tells.
    fn finish(&mut self) -> std::result::Result<(), Halt> {
        let step = self.record.steps();
        if let Some(what) = self.watch.broken(&self.session)? {
            return Err(Halt::Broken { what, step, tried: false });
        }
        let module = self.session.snapshot()?;
        let order = order::shuffled(self.record.rows, self.record.seed, self.record.epoch - 1);
        if let Some(rows) = order.chunks(self.record.batch).last() {
            let mut batch = Batch::default();
            // State that the model's own checks refuse is as bad as a loss that is no number.
            let what = match self.session.run(STEP, self.data.batch(rows, &mut batch)) {
                Ok(outputs) => self.marked.broken(&outputs),
                Err(e) if e.kind() == ErrorKind::Data => Some(e.to_string()),
                Err(e) => return Err(e.into()),
            };
            if let Some(what) = what {
                return Err(Halt::Broken { what: format!("{what} after this step"), step, tried: true });
            }
        }
        Ok(self.saving.write(module, &self.record)?)
    }

    /// The rest of the epoch that the record stands in.
    fn epoch(&mut self, bar: &ProgressBar) -> std::result::Result<(), Halt> {
        let order = order::shuffled(self.record.rows, self.record.seed, self.record.epoch);
        // A step is made ready while the device works on the one before.
        let mut under_way: Option<(Started, usize)> = None;
        let mut batch = Batch::default();
        for rows in order.chunks(self.record.batch).skip(self.record.step) {
            let started = self.session.start(STEP, self.data.batch(rows, &mut batch));
            let started = started.map_err(|e| self.in_batch(e, rows))?;
            if let Some(before) = under_way.replace((started, rows.len())) {
                self.settle(before, bar)?;
            }
            let stop = self.stop.load(Ordering::Relaxed);
            if stop || self.saving.is_due() {
                under_way.take().map_or(Ok(()), |last| self.settle(last, bar))?;
                self.save()?;
            }
            if stop {
                let message = format!("stopped {}; go on with --resume", self.place_of_file());
                return Err(Failure::new(Exit::Stopped, message).into());
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

    /// "in epoch 3 after batch 17; m.json holds the state".
    fn place_of_file(&self) -> String {
        let Record { epoch, step, .. } = self.record;
        format!("in epoch {} after batch {step}; {} holds the state", epoch + 1, self.args.model.display())
    }

    /// Waits for a step, and counts what it gives.
    fn settle(
        &mut self,
        (started, rows): (Started, usize),
        bar: &ProgressBar,
    ) -> std::result::Result<(), Halt> {
        let outputs = self.session.finish(started)?;
        if let Some(what) = self.marked.broken(&outputs) {
            return Err(Halt::Broken { what, step: self.record.steps() + 1, tried: false });
        }
        self.count(&outputs, rows);
        bar.inc(1);
        Ok(())
    }

    fn count(&mut self, outputs: &Outputs, rows: usize) {
        self.marked.add(&mut self.record.sums, outputs, rows);
        self.record.step += 1;
    }

    /// Writes the state, if it is finite.
    fn save(&mut self) -> std::result::Result<(), Halt> {
        if let Some(what) = self.watch.broken(&self.session)? {
            return Err(Halt::Broken { what, step: self.record.steps(), tried: false });
        }
        let module = self.session.snapshot()?;
        Ok(self.saving.write(module, &self.record)?)
    }

    /// Finds the step that broke the training and leaves the state before it in the file.
    fn before_it_broke(&mut self, what: &str, step: u64, tried: bool) -> Failure {
        let model = self.args.model.display();
        let (what, step, kept) = match self.replay(what, step, tried) {
            Ok(Some(first)) => {
                let what = if first == what { first } else { format!("{first}, and later {what}") };
                (what, self.record.steps() + 1, format!("{model} holds the state before it"))
            }
            Ok(None) => (what.into(), step, format!("{model} keeps the state that was saved last")),
            Err(e) => {
                let kept =
                    format!("{model} keeps the state that was saved last, since what followed failed: {e}");
                (what.into(), step, kept)
            }
        };
        let (epoch, batch) = self.record.place_of(step);
        let message = format!("epoch {epoch}, batch {batch}: {what}; {kept}; try a smaller learning rate");
        Failure::new(Exit::Failed, message)
    }

    /// Goes on from the file to a step, each one checked, and writes the state before the first that breaks. Steps
    /// depend on nothing but the file, the data and the record, so that they are the same again. If the last step was
    /// `tried` by a further one, what that one found counts for it.
    fn replay(&mut self, found: &str, until: u64, tried: bool) -> Result<Option<String>> {
        let quiet = Terminal::new(&Global { quiet: true, verbose: false, ..self.global.clone() });
        self.session = open::open(&self.args.model, self.global, &quiet)?.session;
        open::set_state(&mut self.session, None, &FeedArgs::default(), self.global, &quiet)?;
        self.record = self.saving.record.clone();
        while self.record.steps() < until {
            let order = order::shuffled(self.record.rows, self.record.seed, self.record.epoch);
            let mut batch = Batch::default();
            for rows in order.chunks(self.record.batch).skip(self.record.step) {
                if self.record.steps() == until || self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let (before, record) = (self.session.snapshot()?, self.record.clone());
                let outputs = self.session.run(STEP, self.data.batch(rows, &mut batch))?;
                if let Some(what) = self.marked.broken(&outputs).or(self.watch.broken(&self.session)?) {
                    if self.record.steps() > self.saving.record.steps() {
                        self.saving.write(before, &self.record)?;
                    }
                    return Ok(Some(what));
                }
                self.count(&outputs, rows.len());
                if tried && self.record.steps() == until {
                    if record.steps() > self.saving.record.steps() {
                        self.saving.write(before, &record)?;
                    }
                    self.record = record;
                    return Ok(Some(found.to_owned()));
                }
            }
            self.record.end_epoch();
        }
        Ok(None)
    }

    /// Reports an epoch. If that cannot be done, the state is saved.
    fn tell(
        &mut self,
        sums: &[f64],
        time: Duration,
        bar: &ProgressBar,
        terminal: &mut Terminal,
    ) -> std::result::Result<(), Halt> {
        let report = self.report(sums, time);
        let told = report.and_then(|r| bar.suspend(|| terminal.print(&r).and_then(|()| terminal.flush())));
        if let Err(Failure { exit, message }) = told {
            self.save()?;
            let (epoch, model) = (self.record.epoch, self.args.model.display());
            let message = format!(
                "{message}\nstopped after epoch {epoch}; {model} holds the state; go on with --resume"
            );
            return Err(Failure::new(exit, message).into());
        }
        if terminal.reader_is_gone() {
            terminal.note("the reader of the reports went away; the training goes on without them");
        }
        Ok(())
    }

    /// The line of an epoch.
    fn report(&self, sums: &[f64], time: Duration) -> Result<String> {
        let tested = self.test.as_ref().map(|test| test.averages(&self.session, self.record.batch));
        let tested = tested.transpose()?;
        let trained = || self.marked.averages(sums, self.record.rows);
        if self.global.json {
            return Ok(object_document(Layout::Inline, |o| {
                o.u64("epoch", self.record.epoch);
                trained().for_each(|(name, value)| o.f64(name, value));
                if let Some(tested) = &tested {
                    o.object("test", Layout::Inline, |o| {
                        tested.iter().for_each(|(name, value)| o.f64(name, *value));
                    });
                }
            }));
        }
        let mut line = format!("epoch {}/{}", self.record.epoch, self.record.epochs);
        for (name, value) in trained() {
            line += &format!("  {name} {value:.5}");
        }
        for (name, value) in tested.iter().flatten() {
            line += &format!("  test {name} {value:.5}");
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
