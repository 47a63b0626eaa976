//! Random graphs through the whole compiler: every device must compute what the graph means.

use std::collections::BTreeMap;

use graphc_ir::error::Result;
use graphc_optimizer::driver::{self, Options};
use graphc_tests::compare::{identical, relative_l2_above};
use graphc_tests::device::{Device, Reference};
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

fn sweep(device: &dyn Device, seeds: std::ops::Range<u64>) {
    let mut failures = BTreeMap::new();
    for seed in seeds {
        let random = random_module(seed, &Config::default()).expect("it is made");
        match difference(device, &random, 3) {
            Ok(None) => {}
            Ok(Some(text)) => drop(failures.insert(seed, text)),
            Err(e) => drop(failures.insert(seed, e.to_string())),
        }
    }
    let shown: Vec<String> = failures
        .iter()
        .take(8)
        .map(|(s, t)| format!("seed {s}: {}", t.chars().take(400).collect::<String>()))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of the graphs differ on {}\n{}",
        failures.len(),
        device.name(),
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

#[test]
fn the_cpu_gives_the_same_bits_on_any_number_of_threads() {
    for seed in 3000..3100 {
        let random = random_module(seed, &Config::default()).expect("it is made");
        let inputs = random.inputs(5).expect("inputs");
        let run = |threads| {
            let cpu = Cpu { threads, options: Options::default() };
            cpu.run(&random.module, FUNCTION, &inputs).expect("it runs")
        };
        let (one, two) = (run(1), run(2));
        for (i, (a, b)) in
            one.outputs.iter().chain(&one.state).zip(two.outputs.iter().chain(&two.state)).enumerate()
        {
            assert!(identical(a, b), "seed {seed}: result {i} depends on the number of threads");
        }
    }
}
