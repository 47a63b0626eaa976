//! Random graphs through the whole compiler: every device must compute what the graph means.

use std::collections::BTreeMap;
use std::ops::Range;

use graphc_cpu::isa::Isa;
use graphc_ir::error::Result;
use graphc_ir::{Module, Tensor};
use graphc_optimizer::driver::{self, Options};
use graphc_tests::compare::{identical, relative_l2_above};
use graphc_tests::device::{Device, Outcome, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::random_graph::{Config, FUNCTION, RandomModule, random_module};

/// Relative error that rounding explains in these tame graphs; gradients lose some more.
const TOLERANCE: f64 = 1e-3;

/// What differs between a device and the interpreter, if anything.
fn difference(device: &dyn Device, random: &RandomModule, batch: usize) -> Result<Option<String>> {
    let inputs = random.inputs(batch)?;
    let want = Reference.run(&random.module, FUNCTION, &inputs)?;
    let got = device.run(&random.module, FUNCTION, &inputs)?;
    let pairs = got.outputs.iter().chain(&got.state).zip(want.outputs.iter().chain(&want.state));
    for (i, (g, w)) in pairs.enumerate() {
        // Relative to at least this: a gradient that is zero but for rounding has no relative error.
        let error = relative_l2_above(&g.to_f64(), &w.to_f64(), 1e-3);
        let same_type = g.dtype() == w.dtype() && g.shape() == w.shape();
        if same_type && w.dtype().is_float() && error <= TOLERANCE || identical(g, w) {
            continue;
        }
        return Ok(Some(format!("result {i}: {error:.2e} off\n  {g:?}\n  for {w:?}")));
    }
    Ok(None)
}

/// The graph of a device's failure, made as small as it goes, as a file.
fn shrunk(device: &dyn Device, random: &RandomModule, batch: usize) -> String {
    // An error stays an error, so that shrinking does not wander off to another failure.
    let errs = difference(device, random, batch).is_err();
    random.shrunk(&|smaller| match difference(device, smaller, batch) {
        Ok(found) => found.is_some() && !errs,
        Err(_) => errs,
    })
}

/// The batch that a graph is run with, if it has one: 1 and odd ones among them.
fn batch_of(seed: u64) -> usize {
    [3, 1, 5, 2][seed as usize % 4]
}

fn sweep(device: &dyn Device, seeds: Range<u64>) {
    sweep_with(device, &Config::default(), seeds, &batch_of);
}

fn sweep_with(device: &dyn Device, config: &Config, seeds: Range<u64>, batch_of: &dyn Fn(u64) -> usize) {
    let mut failures = BTreeMap::new();
    for seed in seeds {
        let random = random_module(seed, config).expect("it is made");
        match difference(device, &random, batch_of(seed)) {
            Ok(None) => {}
            Ok(Some(text)) => drop(failures.insert(seed, text)),
            Err(e) => drop(failures.insert(seed, e.to_string())),
        }
    }
    let shown = failures.iter().take(4).map(|(seed, text)| {
        let random = random_module(*seed, config).expect("it is made");
        let text: String = text.chars().take(400).collect();
        format!("seed {seed}: {text}\n{}", shrunk(device, &random, batch_of(*seed)))
    });
    let shown: Vec<String> = shown.collect();
    assert!(
        failures.is_empty(),
        "{} of the graphs differ on {}: {:?}\n{}",
        failures.len(),
        device.name(),
        failures.keys().collect::<Vec<_>>(),
        shown.join("\n")
    );
}

#[test]
fn compiled_programs_equal_the_interpreter() {
    sweep(&ReferenceProgram::default(), 0..1000);
}

#[test]
fn planned_memory_changes_nothing() {
    sweep(&ReferenceProgram { arena: true, ..ReferenceProgram::default() }, 1000..1300);
}

#[test]
fn every_prefix_of_the_pipeline_is_right() {
    for limit in 0..driver::passes().len() {
        let options = Options { limit: Some(limit), ..Options::default() };
        sweep(&ReferenceProgram { options, arena: false }, 2000..2060);
    }
}

#[test]
fn the_cpu_equals_the_interpreter() {
    sweep(&Cpu { threads: 1, options: Options::default() }, 0..1000);
}

/// The batch that a graph of larger sizes is run with, if it has one.
fn large_batch_of(seed: u64) -> usize {
    [1, 5, 17, 24, 49, 65][seed as usize % 6]
}

#[test]
fn the_cpu_equals_the_interpreter_at_the_thresholds_of_kernels() {
    let config = Config::at_thresholds(Isa::detect().expect("an instruction set"));
    sweep_with(&Cpu { threads: 2, options: Options::default() }, &config, 0..250, &large_batch_of);
}

/// A run on two threads against one on one.
struct Threads;

impl Device for Threads {
    fn name(&self) -> &str {
        "cpu with two threads against one"
    }

    /// The result of two threads, or an error where a bit differs.
    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let run = |threads| Cpu { threads, options: Options::default() }.run(module, function, inputs);
        let (one, two) = (run(1)?, run(2)?);
        let pairs = one.outputs.iter().chain(&one.state).zip(two.outputs.iter().chain(&two.state));
        match pairs.enumerate().find(|(_, (a, b))| !identical(a, b)) {
            Some((i, _)) => {
                Err(graphc_ir::Error::new(format!("result {i} depends on the number of threads")))
            }
            None => Ok(two),
        }
    }
}

#[test]
fn the_cpu_gives_the_same_bits_on_any_number_of_threads() {
    sweep(&Threads, 3000..3100);
}

/// More graphs by hand: `GRAPHC_SEEDS=10000..20000 cargo test --test differential -- --ignored`.
#[test]
#[ignore = "takes as long as one likes"]
fn other_graphs() {
    let seeds = std::env::var("GRAPHC_SEEDS").unwrap_or_else(|_| "10000..12000".into());
    let (from, to) = seeds.split_once("..").expect("a range");
    let seeds = from.parse().expect("a number")..to.parse().expect("a number");
    sweep(&ReferenceProgram { arena: true, ..ReferenceProgram::default() }, seeds.clone());
    let config = Config::at_thresholds(Isa::detect().expect("an instruction set"));
    sweep_with(&Threads, &config, seeds.clone(), &large_batch_of);
    sweep(&Threads, seeds);
}
