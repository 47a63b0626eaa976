//! The GPU against the interpreter and against numbers from outside graphc. Without an adapter every test is skipped.

use graphc_gpu::{Class, GpuCaps, Tiles};
use graphc_ir::error::Result;
use graphc_ir::ops::{Gather, Op, ScatterAdd, sample_tensor};
use graphc_ir::{Builder, DType, Graph, ScalarFn, Tensor, TensorType};
use graphc_tests::compare::relative_l2_above;
use graphc_tests::device::{Device, Reference};
use graphc_tests::gpu::{GpuDevice, adapter};
use graphc_tests::narrow::{narrowed, narrowed_tensor};
use graphc_tests::random_graph::{Config, random_module};
use graphc_tests::registry::{Case, applied, cases, differentiate};
use graphc_tests::vectors::scalar::{self, Tolerance};
use graphc_tests::vectors::{FUNCTION, case, listed, module_of};

/// Largest error of a result relative to its root mean square, or to this if that is larger.
const TOLERANCE: f64 = 1e-5;
const FLOOR: f64 = 1e-2;

/// Differences between the device and the interpreter, both in f32.
fn differences(device: &GpuDevice, graph: &Graph, ins: &[Tensor]) -> Result<Vec<String>> {
    let names = |n: usize, what: &str| (0..n).map(|i| format!("{what}{i}")).collect::<Vec<_>>();
    let module = module_of(graph.clone(), names(ins.len(), "x"), names(graph.results().len(), "y"));
    let wanted = Reference.run(&module, FUNCTION, ins)?;
    let found = device.run(&module, FUNCTION, ins)?;
    let pairs = found.outputs.iter().zip(&wanted.outputs).enumerate();
    let errors = pairs.map(|(i, (a, b))| (i, relative_l2_above(&a.to_f64(), &b.to_f64(), FLOOR), b.dtype()));
    Ok(errors
        .filter(|(_, e, dtype)| e.is_nan() || *e > if dtype.is_float() { TOLERANCE } else { 0.0 })
        .map(|(i, e, _)| format!("result {i}: {e:e}"))
        .collect())
}

fn check(device: &GpuDevice, case: &Case, failures: &mut Vec<String>, refused: &mut usize) {
    let ins: Vec<Tensor> = case.sample.ins.iter().map(narrowed_tensor).collect();
    let mut note = |what: &str, outcome: Result<Vec<String>>| match outcome {
        Ok(found) if found.is_empty() => {}
        // A word has 32 bits: a conversion to 64 that may need more is refused.
        Err(e) if is_wide(case) && e.to_string().contains("may not fit the 32 bits") => {}
        Err(e) if e.to_string().contains("that a shader of this GPU may bind") => *refused += 1,
        Err(e) if e.to_string().contains("driver ends them") => *refused += 1,
        Ok(found) => failures.push(format!("{what} of {}: {}", case.describe(), found.join(", "))),
        Err(e) => failures.push(format!("{what} of {}: {e}", case.describe())),
    };
    let graph = applied(&case.sample.op, &case.types());
    note("values", graph.clone().and_then(|g| differences(device, &narrowed(&g)?, &ins)));
    if !case.sample.wrt.is_empty() {
        let gradient = graph.and_then(|g| differentiate(&g, &case.sample.wrt, 7)).map(|d| d.gradient);
        note("gradients", gradient.and_then(|g| differences(device, &narrowed(&g)?, &ins)));
    }
}

/// Whether the sample converts to 64-bit integers.
fn is_wide(case: &Case) -> bool {
    matches!(&case.sample.op, Op::Cast(c) if matches!(c.to, DType::I64 | DType::U64))
}

#[test]
fn every_sample_runs() {
    let Some(gpu) = adapter() else { return };
    assert_eq!(samples(&GpuDevice::new(gpu), 1), 0);
}

/// With the kernels of a large card, which keep rows in registers and compute vectors.
#[test]
fn samples_run_as_on_a_large_card() {
    let Some(gpu) = adapter() else { return };
    let caps = GpuCaps { class: Class::Nvidia, busy: 4, ..gpu.caps().clone() };
    assert_eq!(samples(&GpuDevice { caps, ..GpuDevice::new(gpu) }, SAMPLES_OF_A_CARD), 0);
}

/// On adapters whose shaders see little of a tensor at once, steps run in pieces: what they need at once at least is more
/// than this little for few of them.
#[test]
fn samples_run_in_windows() {
    let Some(gpu) = adapter() else { return };
    for (class, binding_bytes, one_in) in [(Class::Software, 96, 2), (Class::Nvidia, 112, 8)] {
        let caps = GpuCaps { class, busy: 4, binding_bytes, ..gpu.caps().clone() };
        let refused = samples(&GpuDevice { caps, ..GpuDevice::new(gpu) }, one_in);
        assert!(refused <= 45, "{refused} samples are refused");
    }
}

/// On adapters whose loops turn a few times alone, steps run in pieces: what cannot be cut is refused.
#[test]
fn samples_run_in_short_loops() {
    let Some(gpu) = adapter() else { return };
    for (class, turns, one_in) in [(Class::Software, 40, 4), (Class::Nvidia, 100, 16)] {
        let caps = GpuCaps { class, busy: 4, turns: Some(turns), ..gpu.caps().clone() };
        let refused = samples(&GpuDevice { caps, ..GpuDevice::new(gpu) }, one_in);
        assert!(refused <= 60, "{refused} samples are refused");
    }
}

/// Elementwise work, sums and products of tensors that no shader of the adapter can bind. A driver that computes on the CPU
/// may have the host's memory for its limit: there, what WebGPU guarantees is the limit.
#[test]
fn tensors_larger_than_a_binding() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let software = gpu.caps().class == Class::Software;
    let most = if software { GpuCaps::portable().binding_bytes } else { usize::MAX };
    let caps = GpuCaps { binding_bytes: gpu.caps().binding_bytes.min(most), ..gpu.caps().clone() };
    if caps.binding_bytes > 1 << 31 {
        eprintln!("SKIPPED: this adapter's shaders bind more than the host should have for a test");
        return Ok(());
    }
    const COLUMNS: usize = 1 << 10;
    let rows = caps.binding_bytes / (COLUMNS * 4) * 5 / 4 + 3;
    let mut b = Builder::new();
    let x = b.input(TensorType::fixed(DType::F32, &[rows, COLUMNS]))?;
    let w = b.input(TensorType::fixed(DType::F32, &[COLUMNS, 2]))?;
    let y = b.map(ScalarFn::Add, &[x, x])?;
    let product = b.matmul(y, w)?;
    let sums = b.sum(y, &[0])?;
    let all = b.sum(y, &[0, 1])?;
    let module = module_of(
        b.finish(&[y, product, sums, all])?,
        vec!["x".into(), "w".into()],
        ["y", "product", "sums", "all"].map(String::from).to_vec(),
    );
    // Sums of small integers are exact.
    let value = |row: usize, column: usize| ((row + column) % 3) as f32;
    let values: Vec<f32> = (0..rows * COLUMNS).map(|i| value(i / COLUMNS, i % COLUMNS)).collect();
    let weights: Vec<f32> = (0..2 * COLUMNS).map(|i| (i % 2) as f32).collect();
    let ins = [Tensor::from_slice(&[rows, COLUMNS], &values), Tensor::from_slice(&[COLUMNS, 2], &weights)];
    let device = GpuDevice { caps, ..GpuDevice::new(gpu) };
    let found = device.run(&module, FUNCTION, &ins)?.outputs;
    let doubled: Vec<f32> = values.iter().map(|x| x + x).collect();
    assert!(found[0].bytes() == Tensor::from_slice(&[rows, COLUMNS], &doubled).bytes());
    let (mut of_rows, mut of_columns) = (vec![0.0; rows], vec![0.0; COLUMNS]);
    for (i, x) in doubled.iter().enumerate() {
        of_rows[i / COLUMNS] += f64::from(*x);
        of_columns[i % COLUMNS] += f64::from(*x);
    }
    let products: Vec<f64> = of_rows.iter().flat_map(|sum| [0.0, *sum]).collect();
    assert_eq!(found[1].to_f64(), products);
    assert_eq!(found[2].to_f64(), of_columns);
    let error = found[3].to_f64()[0] / of_rows.iter().sum::<f64>() - 1.0;
    assert!(error.abs() < 1e-6, "{error}");
    Ok(())
}

/// One in so many samples runs as on another card.
const SAMPLES_OF_A_CARD: usize = 8;

/// Runs samples, and gives how many need more of a tensor at once than a shader may bind.
fn samples(device: &GpuDevice, one_in: usize) -> usize {
    let only = std::env::var("GRAPHC_ONLY").ok();
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| !matches!(case.sample.op, Op::Input(_) | Op::StateRead(_)))
        .filter(|case| only.as_ref().is_none_or(|name| case.info.name == name))
        .step_by(one_in)
        .collect();
    let (mut failures, mut refused) = (Vec::new(), 0);
    for case in &cases {
        check(device, case, &mut failures, &mut refused);
    }
    let shown = failures.iter().take(60).map(|f| f.chars().take(600).collect::<String>()).collect::<Vec<_>>();
    assert!(failures.is_empty(), "{} of {} samples:\n{}", failures.len(), cases.len(), shown.join("\n"));
    refused
}

fn report(failures: &[String]) {
    let shown: Vec<&String> = failures.iter().take(60).collect();
    assert!(failures.is_empty(), "{} failures:\n{shown:#?}", failures.len());
}

/// Functions at special and ordinary values, and their derivatives.
#[test]
fn scalar_functions() {
    let Some(gpu) = adapter() else { return };
    let device = GpuDevice::new(gpu);
    let mut failures = Vec::new();
    for vector in scalar::load(DType::F32).expect("the file is sound") {
        let tolerance = |f: Option<ScalarFn>| Tolerance {
            ulp: f.map_or(16.0, |f| f.def().ulp.max(2.0) * 2.0),
            derivative_ulp: 128.0,
            absolute: 3e-7,
        };
        failures
            .extend(scalar::mismatches(&vector, &device, tolerance).unwrap_or_else(|e| vec![e.to_string()]));
    }
    report(&failures);
}

/// One in so many cases of a file, in f32.
fn vectors(device: &GpuDevice, file: &str, least: usize, one_in: usize, tolerance: f64) {
    let vectors = listed::load(file, DType::F32).expect("the file is sound");
    assert!(vectors.len() >= least, "{} cases", vectors.len());
    let run = |v| case::mismatches(v, device, tolerance).unwrap_or_else(|e| vec![e.to_string()]);
    let failures: Vec<String> = vectors.iter().step_by(one_in).flat_map(run).collect();
    report(&failures);
}

#[test]
fn convolutions_and_pools_and_their_gradients() {
    let Some(gpu) = adapter() else { return };
    vectors(&GpuDevice::new(gpu), "convolution.json", 150, 1, 4e-6);
}

/// On the tiles that other kinds of adapters get, with cuts of k and without.
#[test]
fn convolutions_on_shared_tiles() {
    let Some(gpu) = adapter() else { return };
    let device = |caps| GpuDevice { caps, ..GpuDevice::new(gpu) };
    for (class, busy, one_in) in [(Class::Portable, 1, 1), (Class::Portable, 1000, 1), (Class::Nvidia, 1, 4)]
    {
        let caps = GpuCaps { class, busy, ..gpu.caps().clone() };
        vectors(&device(caps), "convolution.json", 150, one_in, 4e-6);
    }
    // Windows of up to 36 elements are not cut.
    let caps = GpuCaps { turns: Some(40), ..gpu.caps().clone() };
    vectors(&device(caps), "convolution.json", 150, 4, 4e-6);
    let ahead = Tiles { ahead: true, cuts: 2, ..Tiles::SHARED[1] };
    let caps = GpuCaps { tiles: Some(ahead), ..gpu.caps().clone() };
    vectors(&device(caps), "convolution.json", 150, 4, 4e-6);
}

#[test]
fn recurrent_networks_attention_and_normalization_and_their_gradients() {
    let Some(gpu) = adapter() else { return };
    vectors(&GpuDevice::new(gpu), "sequences.json", 100, 1, 1.2e-5);
}

/// Products of every tile and orientation, with cuts of k and without, on shapes that are multiples of tiles and of vectors
/// and on others.
#[test]
fn every_tile_of_products() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let mut failures = Vec::new();
    let mut kinds: Vec<Option<Tiles>> = vec![None];
    for tiles in Tiles::SHARED {
        kinds.extend([(false, 1), (true, 3)].map(|(ahead, cuts)| Some(Tiles { cuts, ahead, ..tiles })));
    }
    for tiles in kinds {
        // Steps are written out on a large card.
        let class = if tiles.is_some_and(|t| t.ahead) { Class::Nvidia } else { gpu.caps().class };
        let caps = GpuCaps { tiles, class, ..gpu.caps().clone() };
        let device = GpuDevice { caps, ..GpuDevice::new(gpu) };
        let whole = tiles.map_or((1, 130, 65, 67), |t| (1, t.block[0], t.block[1], 64));
        // No vectors, whole tiles of vectors, and vectors that end within a tile; drivers compile long texts of large tiles.
        let shapes = [(2, 65, 130, 18), whole, (1, 68, 72, 300)];
        let count = if tiles.is_some_and(|t| t.block[0] > 64) { 2 } else { 3 };
        for (batch, m, n, k) in shapes.into_iter().take(count) {
            for (a_turned, b_turned) in [(false, false), (false, true), (true, false), (true, true)] {
                let (graph, ins) = product([batch, m, n, k], a_turned, b_turned)?;
                for found in differences(&device, &graph, &ins)? {
                    failures.push(format!("{tiles:?}: {batch}x {m}x{n}x{k} {a_turned} {b_turned}: {found}"));
                }
            }
        }
    }
    report(&failures);
    Ok(())
}

/// A batch of products of operands that lie this way or turned, with a bias, a cut at zero, and another operand.
fn product([batch, m, n, k]: [usize; 4], a_turned: bool, b_turned: bool) -> Result<(Graph, Vec<Tensor>)> {
    let shape = |rows: usize, cols: usize, turned: bool| {
        if turned { [batch, cols, rows] } else { [batch, rows, cols] }
    };
    let shapes = [&shape(m, k, a_turned)[..], &shape(k, n, b_turned), &[n], &[batch, m, n]];
    let ins: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, s)| sample_tensor(s, i as u64 + 1).cast(DType::F32)).collect();
    let mut b = Builder::new();
    let x =
        ins.iter().map(|t| b.input(TensorType::fixed(t.dtype(), t.shape()))).collect::<Result<Vec<_>>>()?;
    let a = if a_turned { b.transpose(x[0], &[0, 2, 1])? } else { x[0] };
    let c = if b_turned { b.transpose(x[1], &[0, 2, 1])? } else { x[1] };
    let y = b.matmul(a, c)?;
    let dims = b.ty(y).dims.clone();
    let bias = b.broadcast(x[2], &dims, &[2])?;
    let y = b.map(ScalarFn::Add, &[y, bias])?;
    let y = b.map(ScalarFn::Relu, &[y])?;
    let y = b.map(ScalarFn::Mul, &[y, x[3]])?;
    Ok((b.finish(&[y])?, ins))
}

/// A bad index fails the run, also where the result has no elements.
#[test]
fn indices_are_checked() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let device = GpuDevice::new(gpu);
    for columns in [2, 0] {
        for (bad, fails) in [(2, false), (3, true), (-1, true)] {
            let x = Tensor::zeros(DType::F32, &[3, columns]);
            let indices = Tensor::from_slice(&[2], &[0i32, bad]);
            let updates = Tensor::zeros(DType::F32, &[2, columns]);
            let gather = (Op::from(Gather { axis: 0 }), vec![x.clone(), indices.clone()]);
            let scatter = (Op::from(ScatterAdd { axis: 0 }), vec![x, indices, updates]);
            for (op, ins) in [gather, scatter] {
                let mut b = Builder::new();
                let inputs = ins.iter().map(|t| b.input(TensorType::fixed(t.dtype(), t.shape())));
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                let name = op.name();
                let y = b.op1(op, &inputs)?;
                let inputs = (0..ins.len()).map(|i| format!("x{i}")).collect();
                let module = module_of(b.finish(&[y])?, inputs, vec!["y".into()]);
                let outcome = device.run(&module, FUNCTION, &ins).map(drop);
                assert_eq!(outcome.is_err(), fails, "{name} of index {bad}, {columns} columns: {outcome:?}");
            }
        }
    }
    Ok(())
}

/// Random modules with branches, loops and state, which rounding errors do not decide about.
#[test]
fn random_modules() {
    let Some(gpu) = adapter() else { return };
    // Kernels of the adapter, and of a large card.
    let own = GpuDevice::new(gpu);
    let caps = GpuCaps { class: Class::Nvidia, busy: 4, ..gpu.caps().clone() };
    let card = GpuDevice { caps, ..GpuDevice::new(gpu) };
    let config = Config { float: Some(DType::F32), ..Config::default() };
    let count = std::env::var("GRAPHC_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let (mut failures, mut refused) = (Vec::new(), 0);
    for seed in 0..count {
        let mut r = random_module(seed, &config).expect("it is made");
        let function = &mut r.module.functions[FUNCTION];
        function.graph = narrowed(&function.graph).expect("it takes f32");
        let run = |device: &dyn Device| device.run(&r.module, FUNCTION, &r.inputs(3)?);
        let wanted = run(&Reference).expect("the interpreter runs it");
        let found = match run(if seed % 2 == 0 { &own } else { &card }) {
            Ok(found) => found,
            Err(e) if e.to_string().contains("may not fit the 32 bits") => {
                refused += 1;
                continue;
            }
            Err(e) => {
                failures.push(format!("seed {seed}: {e}"));
                continue;
            }
        };
        let pairs = found.outputs.iter().chain(&found.state).zip(wanted.outputs.iter().chain(&wanted.state));
        for (i, (a, b)) in pairs.enumerate() {
            let error = relative_l2_above(&a.to_f64(), &b.to_f64(), FLOOR);
            let most = if b.dtype().is_float() { 1e-3 } else { 0.0 };
            if a.dtype() != b.dtype() || a.shape() != b.shape() || error.is_nan() || error > most {
                failures.push(format!("seed {seed}: result {i} of {}: {error:e}", b.dtype()));
            }
        }
    }
    report(&failures);
    // Many modules count in 64 bits.
    assert!(refused * 2 <= count, "{refused} of {count} modules are refused");
}
