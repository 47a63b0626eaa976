//! The interpreter and the devices against numbers from outside graphc.

use graphc_ir::{DType, ScalarFn};
use graphc_optimizer::driver::Options;
use graphc_tests::device::{Device, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::vectors::scalar::{self, Tolerance};
use graphc_tests::vectors::{case, listed, ops};

fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn scalar_functions_in_f64() {
    let mut failures = Vec::new();
    for vector in scalar::load(DType::F64).expect("the file is sound") {
        // 45 units are 1e-14.
        let tolerance = |_| Tolerance { ulp: 45.0, derivative_ulp: 45.0, absolute: 1e-15 };
        failures.extend(scalar::mismatches(&vector, &Reference, tolerance).expect("it runs"));
    }
    report(&failures);
}

/// A node computes in f64 and rounds once, so that a value in f32 is the nearest one.
#[test]
fn scalar_functions_in_f32() {
    let mut failures = Vec::new();
    for vector in scalar::load(DType::F32).expect("the file is sound") {
        // Composites and derivatives are several nodes, each rounded.
        let tolerance = |f: Option<ScalarFn>| Tolerance {
            ulp: if f.is_some() { 0.0 } else { 4.0 },
            derivative_ulp: 64.0,
            absolute: 3e-7,
        };
        failures.extend(scalar::mismatches(&vector, &Reference, tolerance).expect("it runs"));
    }
    report(&failures);
}

#[test]
fn operations_and_their_gradients() {
    let vectors = ops::load().expect("the file is sound");
    assert!(vectors.len() >= 30, "{} cases", vectors.len());
    let failures: Vec<String> =
        vectors.iter().flat_map(|v| case::mismatches(v, &Reference, 1e-10).expect("it runs")).collect();
    report(&failures);
}

/// Every device runs the cases of a file in both types; `tolerances` are of the interpreter and of the CPU in f32.
fn on_every_device(file: &str, least: usize, wide: f64, narrow: [f64; 2]) {
    let cpu = |threads| Cpu { threads, options: Options::default() };
    let (program, one, two) = (ReferenceProgram::default(), cpu(1), cpu(2));
    let [exact, compiled] = narrow;
    let devices: [(&dyn Device, f64); 4] =
        [(&Reference, exact), (&program, exact), (&one, compiled), (&two, compiled)];
    for float in [DType::F64, DType::F32] {
        let vectors = listed::load(file, float).expect("the file is sound");
        assert!(vectors.len() >= least, "{} cases", vectors.len());
        for (device, narrow) in devices {
            let tolerance = if float == DType::F64 { wide } else { narrow };
            let run = |v| case::mismatches(v, device, tolerance).unwrap_or_else(|e| vec![e.to_string()]);
            let failures: Vec<String> = vectors.iter().flat_map(run).collect();
            assert!(failures.is_empty(), "{} in {float}:\n{}", device.name(), failures.join("\n"));
        }
    }
}

/// In f64 the tolerance is that of the ten digits in the file; in f32 sums of a few dozen products are off by
/// some units in the last place, and Winograd's transforms by some more.
#[test]
fn convolutions_and_pools_and_their_gradients() {
    on_every_device("convolution.json", 150, 1e-9, [1e-6, 4e-6]);
}

/// In f64 the tolerance is that of the twelve digits in the file; in f32 errors go through the steps of a loop.
#[test]
fn recurrent_networks_attention_and_normalization_and_their_gradients() {
    on_every_device("sequences.json", 100, 1e-11, [1e-5, 1e-5]);
}

/// Casts between all types, integers that wrap, edge values, and labels of every type: what one node gives is what the
/// file says, but for the units that its function may be off.
#[test]
fn element_types_and_their_edges() {
    let vectors = listed::load("element_types.json", DType::F64).expect("the file is sound");
    assert!(vectors.len() >= 700, "{} cases", vectors.len());
    let cpu = Cpu { threads: 2, options: Options::default() };
    let devices: [&dyn Device; 3] = [&Reference, &ReferenceProgram::default(), &cpu];
    let mut failures = Vec::new();
    for device in devices {
        let run = |v| case::far(v, device).unwrap_or_else(|e| vec![e.to_string()]);
        failures.extend(vectors.iter().flat_map(run).map(|f| format!("{}: {f}", device.name())));
    }
    report(&failures);
}
