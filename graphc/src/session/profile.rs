//! What the steps of a function are, why they are so, and how long each takes.

use std::time::{Duration, Instant};

use graphc_ir::Tensor;
use graphc_ir::dim::Binding;
use graphc_ir::program::{Program, Step};
use graphc_optimizer::driver;
use graphc_optimizer::remarks::{Remark, Remarks};

use super::cache::Specialization;
use super::{Session, feeds};
use crate::error::{Error, Result, compiling};
use crate::executor::lower;

/// A step of a compiled function.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// Kind of its kernel.
    pub kind: &'static str,
    /// The algorithm that the device chose.
    pub algorithm: &'static str,
    /// Error against exact arithmetic, as a multiple of the direct algorithm's.
    pub error_class: f32,
    /// The user's nodes that it does the work of.
    pub origins: String,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that it reads and writes at least.
    pub bytes: f64,
    /// Bytes of scratch.
    pub scratch_bytes: usize,
}

/// A function's steps, and what the passes did.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Steps that run once for each state.
    pub staged: Vec<StepInfo>,
    /// Steps of each run.
    pub steps: Vec<StepInfo>,
    /// What passes and rules did, or did not and why.
    pub remarks: Vec<Remark>,
}

/// How long the steps of a function take.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The steps.
    pub steps: Vec<StepInfo>,
    /// For each step the median of its times over all runs.
    pub medians: Vec<Duration>,
    /// Times of each step in the last run.
    pub last: Vec<Duration>,
    /// Number of runs.
    pub runs: usize,
    /// Median time of a whole run; on a GPU that of its steps on the device.
    pub run: Duration,
}

impl StepInfo {
    fn of(program: &Program, step: &Step) -> StepInfo {
        StepInfo {
            kind: step.kind(),
            algorithm: step.choice.algo,
            error_class: step.choice.error_class,
            origins: step.origins.to_string(),
            flops: step.flops(),
            bytes: step.bytes(program),
            scratch_bytes: step.choice.scratch_bytes,
        }
    }

    fn all(program: &Program) -> Vec<StepInfo> {
        program.steps.iter().map(|step| StepInfo::of(program, step)).collect()
    }
}

impl Session {
    /// What a function becomes for feeds of these shapes, and why.
    ///
    /// # Errors
    /// Those of [`Session::run`] that can be told without running.
    pub fn explain(&self, name: &str, feeds: &[(&str, &Tensor)]) -> Result<Explanation> {
        let function = self.function(name)?;
        let binding = feeds::bind(name, function, feeds, self.state.dims())?;
        self.explain_bound(name, &binding)
    }

    fn explain_bound(&self, name: &str, binding: &Binding) -> Result<Explanation> {
        let (_, function) = self.find(name)?;
        self.bind(name, function, binding)?;
        let internal = |e: graphc_ir::Error| compiling("", &e);
        let (options, target) = (&self.options.optimizer, self.executor.target());
        let mut remarks = Remarks::enabled();
        let graph = driver::optimize(function, options, &mut remarks).map_err(internal)?;
        let compiled =
            driver::compile(&graph, function, binding, target, options, &mut remarks).map_err(internal)?;
        Ok(Explanation {
            staged: compiled.prepare.as_ref().map_or(Vec::new(), |p| StepInfo::all(&p.program)),
            steps: StepInfo::all(&compiled.main),
            remarks: remarks.list().to_vec(),
        })
    }

    /// Runs a function for some time, committing its updates, and measures each of its steps.
    ///
    /// # Errors
    /// Those of [`Session::run`], and [`Error::Usage`] on a device that has no steps.
    pub fn profile(&mut self, name: &str, feeds: &[(&str, &Tensor)], time: Duration) -> Result<Profile> {
        let specialization = self.specialization(name, feeds)?;
        let function = self.function(name)?;
        let binding = feeds::bind(name, function, feeds, self.state.dims())?;
        let (index, function) = self.find(name)?;
        let bound = self.bind(name, function, &binding)?;
        let source = self.source(name, index, function, &bound, &binding)?;
        let compiled = lower(&source, self.executor.target())?;
        let steps = StepInfo::all(&compiled.main);
        let mut outputs = specialization.new_outputs()?;
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); steps.len()];
        let mut runs = Vec::new();
        let started = Instant::now();
        // The first run packs and touches memory for the first time.
        self.run_exclusively(&specialization, feeds, &mut outputs, &mut |_| {})?;
        while runs.is_empty() || started.elapsed() < time {
            let start = Instant::now();
            if let Some(parts) = self.device_times(&specialization, feeds)? {
                let mut sums = vec![Duration::ZERO; steps.len()];
                parts.iter().for_each(|(step, time)| sums[*step] += *time);
                times.iter_mut().zip(&sums).for_each(|(times, sum)| times.push(*sum));
                runs.push(sums.iter().sum());
                continue;
            }
            let mut before = start;
            self.run_exclusively(&specialization, feeds, &mut outputs, &mut |step| {
                let now = Instant::now();
                if let Some(times) = times.get_mut(step) {
                    times.push(now - before);
                }
                before = now;
            })?;
            runs.push(start.elapsed());
        }
        if times.iter().any(Vec::is_empty) {
            return Err(Error::Usage("this device has no steps to measure; profile on the cpu".into()));
        }
        let last = times.iter().map(|t| t[t.len() - 1]).collect();
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        Ok(Profile {
            steps,
            medians: times.iter_mut().map(median).collect(),
            last,
            runs: runs.len(),
            run: median(&mut runs),
        })
    }
    fn device_times(
        &mut self,
        specialization: &Specialization,
        feeds: &[(&str, &Tensor)],
    ) -> Result<Option<Vec<(usize, Duration)>>> {
        let Session { module, executor, state, .. } = self;
        executor.times(&specialization.code, &module.functions[specialization.function], feeds, state)
    }
}
