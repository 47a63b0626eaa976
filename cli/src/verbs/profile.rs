//! `graphc profile`: how long each step of a function takes, against what the processor can do.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use graphc::ir::wire::json::{Layout, object_document};
use graphc::{Device, Peaks, Profile, Tensor};

use crate::args::Global;
use crate::exit::{Failure, Result};
use crate::feeds::FeedArgs;
use crate::file::Destination;
use crate::open::{self, Opened};
use crate::terminal::Terminal;

/// Options of `profile`.
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
    /// Writes the last run as a trace for chrome://tracing and Perfetto
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let trace = match &args.trace {
        Some(path) => Some(Destination::new(path, [args.model.as_path()])?),
        None => None,
    };
    let Opened { mut session, .. } = open::open(&args.model, global, terminal)?;
    let name = open::function_name(&session, args.function.as_deref())?;
    open::set_state(&mut session, Some(&name), &args.feeds, global, terminal)?;
    let feeds = args.feeds.feeds_or_random(&session, &name, global.seed, 1)?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let profile = session.profile(&name, &feeds, Duration::from_secs_f64(args.seconds))?;
    // The peaks are the processor's.
    let on_cpu = session.device() == Device::Cpu;
    let peaks = on_cpu.then(Peaks::measure).transpose().map_err(Failure::from)?;
    if let Some(trace) = trace {
        trace.write(&mut |out| Ok(out.write_all(chrome_trace(&profile).as_bytes())))?;
    }
    if global.json {
        for (step, time) in profile.steps.iter().zip(&profile.medians) {
            terminal.print(&object_document(Layout::Inline, |o| {
                o.string("kind", step.kind);
                o.string("algorithm", step.algorithm);
                o.string("nodes", &step.origins);
                o.f64("median_us", time.as_secs_f64() * 1e6);
                o.f64("flops", step.flops);
                o.f64("bytes", step.bytes);
            }))?;
        }
        return Ok(());
    }
    terminal.print(&table(&name, &profile, peaks.as_ref(), session.threads()))
}

/// Steps with their times, rates, and parts of the peaks of all threads where they are known.
fn table(name: &str, profile: &Profile, peaks: Option<&Peaks>, threads: usize) -> String {
    let total: f64 = profile.medians.iter().map(Duration::as_secs_f64).sum();
    let mut text = format!(
        "{name}: {:.1} us in {} steps, median of {} runs",
        profile.run.as_secs_f64() * 1e6,
        profile.steps.len(),
        profile.runs
    );
    // Writing to a string cannot fail.
    let _ = match peaks {
        Some(peaks) => writeln!(
            text,
            ", {threads} threads\none core: {:.0} GFLOP/s of f32 multiply-adds, {:.1} GB/s of reads\n\
             {:>4} {:>10} {:>6} {:>9} {:>6} {:>8} {:>6}  kernel",
            peaks.flops / 1e9,
            peaks.bandwidth / 1e9,
            "step",
            "us",
            "%",
            "GFLOP/s",
            "% peak",
            "GB/s",
            "% peak",
        ),
        None => writeln!(
            text,
            " by the device's clock\n{:>4} {:>10} {:>6} {:>9} {:>8}  kernel",
            "step", "us", "%", "GFLOP/s", "GB/s"
        ),
    };
    for (i, (step, time)) in profile.steps.iter().zip(&profile.medians).enumerate() {
        let seconds = time.as_secs_f64().max(1e-9);
        let (flops, bytes) = (step.flops / seconds, step.bytes / seconds);
        let share = |rate: f64, peak: fn(&Peaks) -> f64| {
            let of = |peaks| format!(" {:>6.1}", rate / peak(peaks) / threads as f64 * 100.0);
            peaks.map_or(String::new(), of)
        };
        let _ = writeln!(
            text,
            "{i:>4} {:>10.1} {:>6.1} {:>9.1}{} {:>8.1}{}  {} [{}] {}",
            seconds * 1e6,
            seconds / total * 100.0,
            flops / 1e9,
            share(flops, |peaks| peaks.flops),
            bytes / 1e9,
            share(bytes, |peaks| peaks.bandwidth),
            step.kind,
            step.algorithm,
            step.origins
        );
    }
    text
}

/// The last run in the format of Chrome's trace viewer: one complete event for each step.
fn chrome_trace(profile: &Profile) -> String {
    let mut at = 0.0;
    let mut events = Vec::new();
    for (i, (step, time)) in profile.steps.iter().zip(&profile.last).enumerate() {
        let duration = time.as_secs_f64() * 1e6;
        let event = object_document(Layout::Inline, |o| {
            o.string("name", &format!("{i} {}", step.kind));
            o.string("cat", step.algorithm);
            o.string("ph", "X");
            o.f64("ts", at);
            o.f64("dur", duration);
            o.u64("pid", 1);
            o.u64("tid", 1);
            o.object("args", Layout::Inline, |o| {
                o.string("nodes", &step.origins);
                o.f64("flops", step.flops);
                o.f64("bytes", step.bytes);
            });
        });
        events.push(event.trim_end().to_owned());
        at += duration;
    }
    format!("[\n{}\n]\n", events.join(",\n"))
}
