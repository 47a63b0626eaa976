//! Single kernels at the sizes where their code goes another way, with everything that may follow them, against
//! the interpreter in f64: on every instruction set of the machine, and with the same bits on any number of threads.

use std::ops::Range;

use graphc_cpu::isa::{ISA_VARIABLE, Isa};
use graphc_cpu::threshold;
use graphc_tests::compare::identical;
use graphc_tests::device::Device;
use graphc_tests::kernels::{Case, FUNCTION, case};
use graphc_tests::program::CpuProgram;

/// Threads of the runs that are compared.
const THREADS: [usize; 2] = [1, 3];

/// What is wrong with a case, if anything.
fn wrong(case: &Case, devices: &[CpuProgram]) -> Option<String> {
    let want = case.expected().unwrap_or_else(|e| panic!("{}: {e}", case.text));
    let mut first = None;
    for device in devices {
        let got = match device.run(&case.module, FUNCTION, &case.inputs) {
            Ok(got) => got,
            Err(e) => return Some(e.to_string()),
        };
        if let Some(text) = case.difference(&got, &want) {
            return Some(format!("{} threads: {text}", device.pool.threads()));
        }
        let first = first.get_or_insert_with(|| got.clone());
        let pairs = got.outputs.iter().chain(&got.state).zip(first.outputs.iter().chain(&first.state));
        if pairs.into_iter().any(|(a, b)| !identical(a, b)) {
            return Some(format!("{} threads give other bits than 1", device.pool.threads()));
        }
    }
    None
}

fn sweep(isa: Isa, seeds: Range<u64>, takes: impl Fn(u64, &Case) -> bool) {
    let devices = THREADS.map(|threads| CpuProgram::new(isa, threads).expect("threads"));
    let mut failures = Vec::new();
    for seed in seeds {
        let case = case(seed, isa).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        if takes(seed, &case)
            && let Some(text) = wrong(&case, &devices)
        {
            failures.push(format!("seed {seed} on {isa}: {text}\n  {}", case.text));
        }
    }
    let shown = failures.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} cases are wrong\n{shown}", failures.len());
}

/// The instruction sets under test: all, or the one that is asked for.
fn sets() -> Vec<Isa> {
    match std::env::var_os(ISA_VARIABLE) {
        Some(_) => vec![Isa::detect().expect("an instruction set of this machine")],
        None => Isa::available(),
    }
}

/// Seeds that go through all thresholds once on each side; others on each instruction set.
fn seeds(isa: Isa) -> Range<u64> {
    let round = 3 * threshold::all(isa).len() as u64;
    let first = isa as u64 * 1000 * round;
    first..first + round
}

/// The cases of one instruction set, by its place among those under test.
fn at_thresholds(place: usize) {
    let sets = sets();
    let Some(isa) = sets.get(place) else { return };
    // Large problems take turns on the machine's instruction sets, whether one is under test or all are.
    let available = Isa::available();
    let turn = |seed: u64| available[(seed as usize / 3 + seed as usize) % available.len()] == *isa;
    sweep(*isa, seeds(*isa), |seed, case| !case.large || turn(seed));
}

// A test for each set, so that they run side by side.

#[test]
fn the_widest_kernels_are_right_on_both_sides_of_every_threshold() {
    at_thresholds(0);
}

#[test]
fn the_second_kernels_are_right_on_both_sides_of_every_threshold() {
    at_thresholds(1);
}

#[test]
fn the_third_kernels_are_right_on_both_sides_of_every_threshold() {
    at_thresholds(2);
}

/// More by hand: `GRAPHC_SEEDS=10000..20000 cargo test --test kernels -- --ignored`.
#[test]
#[ignore = "takes as long as one likes"]
fn other_cases() {
    let seeds = std::env::var("GRAPHC_SEEDS").unwrap_or_else(|_| "0..5000".into());
    let (from, to) = seeds.split_once("..").expect("a range");
    let seeds = from.parse().expect("a number")..to.parse().expect("a number");
    for isa in sets() {
        sweep(isa, seeds.clone(), |_, _| true);
    }
}
