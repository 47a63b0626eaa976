//! Every sample of every operation, and its gradients, compiled and run on every device.

use graphc_ir::error::Result;
use graphc_ir::ops::Op;
use graphc_ir::{DType, Graph, Tensor};
use graphc_optimizer::driver::{self, Options};
use graphc_tests::compare::tensor_error;
use graphc_tests::device::{Device, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::registry::{Case, applied, cases, differentiate};
use graphc_tests::vectors::{FUNCTION, module_of};

/// Largest relative error of a result: most samples are in f64.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { 1e-6 } else { 1e-11 }
}

fn devices() -> Vec<Box<dyn Device>> {
    let mut plain = Options::default();
    plain.compile.fusion = false;
    // Without the layout pass, kernels meet images in the order of the file.
    let limit = driver::passes().iter().position(|pass| *pass == "layout");
    let first = Options { limit, ..Options::default() };
    vec![
        Box::new(ReferenceProgram::default()),
        Box::new(ReferenceProgram { options: first.clone(), arena: true }),
        Box::new(Cpu { threads: 1, options: Options::default() }),
        Box::new(Cpu { threads: 2, options: plain }),
        Box::new(Cpu { threads: 2, options: first }),
    ]
}

/// Differences between a device and the interpreter.
fn differences(device: &dyn Device, graph: &Graph, ins: &[Tensor]) -> Result<Vec<String>> {
    let names = |n: usize, what: &str| (0..n).map(|i| format!("{what}{i}")).collect::<Vec<_>>();
    let module = module_of(graph.clone(), names(ins.len(), "x"), names(graph.results().len(), "y"));
    let wanted = Reference.run(&module, FUNCTION, ins)?;
    let found = device.run(&module, FUNCTION, ins)?;
    let pairs = found.outputs.iter().zip(&wanted.outputs).enumerate();
    let errors = pairs.map(|(i, (a, b))| (i, tensor_error(a, b), tolerance(b.dtype())));
    Ok(errors
        .filter(|(_, e, tolerance)| e.is_nan() || e > tolerance)
        .map(|(i, e, _)| format!("result {i}: {e:e}"))
        .collect())
}

fn check(device: &dyn Device, case: &Case, failures: &mut Vec<String>) {
    let graph = match applied(&case.sample.op, &case.types()) {
        Ok(graph) => graph,
        Err(e) => return failures.push(format!("{}: {e}", case.describe())),
    };
    let mut note = |what: &str, outcome: Result<Vec<String>>| match outcome {
        Ok(found) if found.is_empty() => {}
        Ok(found) => {
            failures.push(format!("{} {what} of {}: {}", device.name(), case.describe(), found.join(", ")))
        }
        Err(e) => failures.push(format!("{} {what} of {}: {e}", device.name(), case.describe())),
    };
    note("values", differences(device, &graph, &case.sample.ins));
    if !case.sample.wrt.is_empty() {
        let gradient = differentiate(&graph, &case.sample.wrt, 7).map(|d| d.gradient);
        note("gradients", gradient.and_then(|g| differences(device, &g, &case.sample.ins)));
    }
}

#[test]
fn every_sample_runs_on_every_device() {
    let mut failures = Vec::new();
    let cases: Vec<Case> = cases()
        .into_iter()
        // Inputs and state are the modules' own.
        .filter(|case| !matches!(case.sample.op, Op::Input(_) | Op::StateRead(_)))
        .collect();
    for device in devices() {
        for case in &cases {
            check(&*device, case, &mut failures);
        }
    }
    let shown = failures.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} samples:\n{shown}", failures.len(), cases.len());
}
