//! Every operation that takes floats, and its gradients, in f16 and bf16 on every device; and the rules of the optimizer in
//! types that their examples are not written in.

use std::collections::BTreeMap;

use graphc_ir::error::Result;
use graphc_ir::ops::Op;
use graphc_ir::{DType, Graph, Scalar, Tensor};
use graphc_optimizer::driver::Options;
use graphc_optimizer::rules;
use graphc_tests::compare::{identical, relative_l2_above};
use graphc_tests::device::{Device, Reference};
use graphc_tests::gpu::{GpuDevice, adapter};
use graphc_tests::narrow::{narrowed, narrowed_tensor_to, narrowed_to, retyped};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::random_graph::Prng;
use graphc_tests::registry::{Case, applied, cases, differentiate};
use graphc_tests::vectors::{FUNCTION, module_of};

const STORAGE: [DType; 2] = [DType::F16, DType::Bf16];

/// Largest error of a result: a last bit may be rounded the other way, and sums differ in f32.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::Bf16 => 2f64.powi(-7),
        DType::F32 => 1e-5,
        _ => 1e-11,
    }
}

/// Samples with a float operand, or whose dtype is an attribute.
fn floats() -> Vec<Case> {
    let is_float = |case: &Case| {
        case.types().iter().any(|t| t.dtype == DType::F64)
            || matches!(case.sample.op, Op::Iota(_) | Op::Const(_))
    };
    let all = cases().into_iter().filter(|c| !matches!(c.sample.op, Op::Input(_) | Op::StateRead(_)));
    all.filter(is_float).collect()
}

fn differences(device: &dyn Device, graph: &Graph, ins: &[Tensor]) -> Result<Vec<String>> {
    let names = |n: usize, what: &str| (0..n).map(|i| format!("{what}{i}")).collect::<Vec<_>>();
    let module = module_of(graph.clone(), names(ins.len(), "x"), names(graph.results().len(), "y"));
    let wanted = Reference.run(&module, FUNCTION, ins)?;
    let found = device.run(&module, FUNCTION, ins)?;
    let mut failures = Vec::new();
    for (i, (a, b)) in found.outputs.iter().zip(&wanted.outputs).enumerate() {
        let error = if b.dtype().is_float() {
            relative_l2_above(&a.to_f64(), &b.to_f64(), 1e-2)
        } else {
            f64::from(u8::from(!identical(a, b)))
        };
        if a.dtype() != b.dtype() || error.is_nan() || error > tolerance(b.dtype()) {
            failures.push(format!("result {i}: {error:e}"));
        }
    }
    Ok(failures)
}

/// The sample and its gradients in a storage type; on a device without f64, `small`, gradients are seeded in f32.
fn check(device: &dyn Device, case: &Case, storage: DType, failures: &mut Vec<String>, small: bool) {
    let mut note = |what: &str, outcome: Result<Vec<String>>| {
        let problem = match outcome {
            Ok(found) if found.is_empty() => return,
            Ok(found) => found.join(", "),
            Err(e) => e.to_string(),
        };
        failures.push(format!("{} {what} in {storage} of {}: {problem}", device.name(), case.describe()));
    };
    let ins: Vec<Tensor> = case.sample.ins.iter().map(|t| narrowed_tensor_to(t, storage)).collect();
    let graph = applied(&case.sample.op, &case.types()).and_then(|g| narrowed_to(&g, storage));
    // What is left in f64 is the numbers that gradients are seeded with.
    let ready = |g: Graph| if small { narrowed(&g) } else { Ok(g) };
    note("values", graph.clone().and_then(ready).and_then(|g| differences(device, &g, &ins)));
    if !case.sample.wrt.is_empty() {
        let gradient = graph.and_then(|g| differentiate(&g, &case.sample.wrt, 7)).map(|d| d.gradient);
        note("gradients", gradient.and_then(ready).and_then(|g| differences(device, &g, &ins)));
    }
}

fn report(failures: &[String]) {
    let shown = failures.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} failures:\n{shown}", failures.len());
}

#[test]
fn every_sample_runs_on_the_cpu() {
    let cpu = Cpu { threads: 2, options: Options::default() };
    let devices: [&dyn Device; 2] = [&ReferenceProgram::default(), &cpu];
    let mut failures = Vec::new();
    for (device, storage) in devices.iter().flat_map(|d| STORAGE.map(|s| (*d, s))) {
        floats().iter().for_each(|case| check(device, case, storage, &mut failures, false));
    }
    report(&failures);
}

/// The largest sample of each operation. Conversions to 64-bit integers are left out: words may not hold them.
fn largest() -> Vec<Case> {
    let elements = |case: &Case| case.sample.ins.iter().map(Tensor::len).sum::<usize>();
    let mut all: BTreeMap<&str, Case> = BTreeMap::new();
    for case in floats() {
        let wide = matches!(&case.sample.op, Op::Cast(c) if c.to.size() == 8);
        let name = case.sample.op.name();
        if !wide && all.get(name).is_none_or(|old| elements(old) < elements(&case)) {
            all.insert(name, case);
        }
    }
    all.into_values().collect()
}

/// One operation in f16, the next in bf16: words hold both as f32, only their rounding differs. Without an adapter the test
/// is skipped.
#[test]
fn every_operation_runs_on_the_gpu() {
    let Some(gpu) = adapter() else { return };
    let device = GpuDevice::new(gpu);
    let mut failures = Vec::new();
    for (case, storage) in largest().iter().zip(STORAGE.iter().cycle()) {
        check(&device, case, *storage, &mut failures, true);
    }
    report(&failures);
}

/// The examples and counterexamples of every rule, written in f32, mean the same after compilation in every type that they
/// can be written in: numbers that a rule makes wrap with integers, and overflow no storage type.
#[test]
fn rules_hold_in_other_types() {
    let cpu = Cpu { threads: 1, options: Options::default() };
    let types = [
        STORAGE.as_slice(),
        &[DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::I64, DType::U64],
    ];
    let mut prng = Prng::new(5);
    let (mut failures, mut written) = (Vec::new(), [0, 0]);
    for (rule, to) in rules::all().flat_map(|r| types.concat().into_iter().map(move |t| (r, t))) {
        for make in rule.examples.iter().chain(rule.counterexamples) {
            let example = make().expect("the example is sound");
            let Ok(graph) = retyped(&example, DType::F32, to) else { continue };
            written[usize::from(to.is_int())] += 1;
            let mut input = |v| {
                let ty = graph.ty(v).clone();
                Tensor::from_fn(ty.dtype, &ty.static_shape(), |_| match ty.dtype {
                    t if t.is_float() => Scalar::F(prng.real(0.25, 3.0)),
                    t => Scalar::I(prng.word().into()).cast(t),
                })
            };
            let ins: Vec<Tensor> = graph.inputs().iter().map(|v| input(*v)).collect();
            for device in [&ReferenceProgram::default() as &dyn Device, &cpu] {
                match differences(device, &graph, &ins) {
                    Ok(found) if found.is_empty() => {}
                    Err(e) if e.to_string().contains("divides integers by a constant 0") => {}
                    Ok(found) => failures.push(format!(
                        "{} in {to} on {}: {}",
                        rule.name,
                        device.name(),
                        found.join(", ")
                    )),
                    Err(e) => failures.push(format!("{} in {to} on {}: {e}", rule.name, device.name())),
                }
            }
        }
    }
    println!("{written:?} graphs of floats and of integers");
    assert!(written[0] > 200 && written[1] > 100, "{written:?} graphs");
    report(&failures);
}
