//! `graphc bench`: how long a function takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use graphc::Tensor;
use graphc::ir::wire::json::{Layout, object_document};

use crate::args::Global;
use crate::exit::{Failure, Result};
use crate::feeds::FeedArgs;
use crate::open::{self, Opened};
use crate::terminal::Terminal;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The function; the only one if not given, else `predict`
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    feeds: FeedArgs,
    /// How long to measure
    #[arg(long, default_value_t = 2.0, value_parser = super::seconds, value_name = "S")]
    seconds: f64,
}

/// Runs are at least so many, however long they take.
const FEWEST: usize = 3;

/// More runs than this tell nothing new.
const MOST: usize = 1_000_000;

/// Share of the time that is spent before measuring.
const WARM_UP: f64 = 0.2;

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let Opened { mut session, load } = open::open(&args.model, global, terminal)?;
    if session.is_software() {
        terminal.warning("this GPU is a driver that computes on the CPU: its times tell nothing about a GPU");
    }
    let name = open::function_name(&session, args.function.as_deref())?;
    open::set_state(&mut session, Some(&name), &args.feeds, global, terminal)?;
    let feeds = args.feeds.feeds_or_random(&session, &name, global.seed, 1)?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let started = Instant::now();
    let mut outputs = session.new_outputs(&name, &feeds)?;
    let compile = started.elapsed();
    let plan = session.plan_for(&name, &feeds)?;

    let mut step = || -> Result<Duration> {
        let started = Instant::now();
        session.run_into(&name, &feeds, &mut outputs).map_err(Failure::from)?;
        Ok(started.elapsed())
    };
    let warm_up = Instant::now();
    let mut first = Duration::ZERO;
    while first.is_zero() || warm_up.elapsed().as_secs_f64() < args.seconds * WARM_UP {
        first = step()?;
    }
    let expected = (args.seconds / first.as_secs_f64().max(1e-7)) as usize;
    let mut times = Vec::with_capacity(expected.clamp(FEWEST, MOST));
    let measuring = Instant::now();
    while times.len() < FEWEST || (measuring.elapsed().as_secs_f64() < args.seconds && times.len() < MOST) {
        times.push(step()?);
    }
    let summary = Summary::of(times);
    let milliseconds = |d: Duration| d.as_secs_f64() * 1e3;
    if global.json {
        return terminal.print(&object_document(Layout::Inline, |o| {
            o.f64("median_ms", summary.median);
            o.f64("min_ms", summary.min);
            o.f64("mean_ms", summary.mean);
            o.f64("p99_ms", summary.p99);
            o.u64("runs", summary.runs as u64);
            o.u64("peak_bytes", plan.peak_bytes as u64);
            o.f64("compile_ms", milliseconds(compile));
            o.f64("load_ms", milliseconds(load));
            o.u64("threads", session.threads() as u64);
            o.string("device", session.device().name());
        }));
    }
    let rate = match plan.flops {
        Some(flops) if flops > 0.0 => format!(", {:.2} GFLOP/s", flops / summary.median / 1e6),
        _ => String::new(),
    };
    terminal.print(&format!(
        "{name} on {} with {} threads\n\
         median {:.4} ms, min {:.4} ms, mean {:.4} ms, p99 {:.4} ms of {} runs{rate}\n\
         peak memory {}, {} steps; compiled in {:.1} ms, loaded in {:.1} ms\n",
        session.device(),
        session.threads(),
        summary.median,
        summary.min,
        summary.mean,
        summary.p99,
        summary.runs,
        graphc::memory::readable(plan.peak_bytes),
        plan.steps,
        milliseconds(compile),
        milliseconds(load),
    ))
}

/// Times in milliseconds.
#[derive(Debug, PartialEq)]
struct Summary {
    median: f64,
    min: f64,
    mean: f64,
    p99: f64,
    runs: usize,
}

impl Summary {
    /// Of at least one time. The median of an even number is the mean of the two in the middle, the 99th
    /// percentile the smallest time that 99 % of the runs do not exceed.
    fn of(mut times: Vec<Duration>) -> Summary {
        times.sort_unstable();
        let runs = times.len();
        let at = |i: usize| times[i].as_secs_f64() * 1e3;
        Summary {
            median: (at((runs - 1) / 2) + at(runs / 2)) / 2.0,
            min: at(0),
            mean: times.iter().sum::<Duration>().as_secs_f64() * 1e3 / runs as f64,
            p99: at((runs * 99).div_ceil(100) - 1),
            runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_order_statistics() {
        let times = (1..=200u64).rev().map(Duration::from_millis).collect();
        assert_eq!(
            Summary::of(times),
            Summary { median: 100.5, min: 1.0, mean: 100.5, p99: 198.0, runs: 200 }
        );
        let one = Summary::of(vec![Duration::from_millis(7)]);
        assert_eq!((one.median, one.p99), (7.0, 7.0));
    }
}
