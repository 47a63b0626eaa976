//! Models on the GPU, next to the CPU. Without an adapter every test is skipped.

use std::collections::VecDeque;
use std::time::Duration;

use graphc::{Device, Session};
use graphc_gpu::GpuCaps;
use graphc_ir::ops::{sample_indices, sample_tensor};
use graphc_ir::{Module, Tensor};
use graphc_tests::compare::relative_l2;
use graphc_tests::device::Device as _;
use graphc_tests::gpu::{GpuDevice, adapter, windowed};

/// Steps of each training.
const STEPS: usize = 3;

fn session(module: &Module, device: Device) -> Session {
    let mut session = Session::from_module(module.clone()).device(device).build().expect("it opens");
    session.init_missing(0).expect("it initializes");
    session
}

/// Inputs of a function: labels below `classes`.
fn inputs(module: &Module, function: &str, batch: usize, classes: usize) -> Vec<(String, Tensor)> {
    let function = module.function(function).expect("it is there");
    let tensor = |(i, name): (usize, &String)| {
        let ty = function.input_type(i);
        let shape: Vec<usize> =
            ty.dims.iter().map(|d| d.as_const().map_or(batch, |n| usize::try_from(n).unwrap_or(0))).collect();
        let value = match ty.dtype.is_int() {
            true => sample_indices(&shape, classes, i as u64),
            false => sample_tensor(&shape, i as u64),
        };
        (name.clone(), value.cast(ty.dtype))
    };
    function.inputs.iter().enumerate().map(tensor).collect()
}

/// Trains on both devices from the same state, and compares losses and parameters.
fn trains_alike(name: &str, batch: usize, classes: usize, tolerance: f64) {
    if adapter().is_none() {
        return;
    }
    let model = graphc_models::MODELS.iter().find(|m| m.name == name).expect("there is such a model");
    let module = (model.build)().expect("it builds");
    // State of one device is the other's, so that initial values are the same bits.
    let mut cpu = session(&module, Device::Cpu);
    let mut gpu = session(&cpu.snapshot().expect("it has values"), Device::Gpu);
    let feeds = inputs(&module, "train_step", batch, classes);
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    for step in 0..STEPS {
        let wanted = cpu.run("train_step", feeds.iter().copied()).expect("it runs");
        let found = gpu.run("train_step", feeds.iter().copied()).expect("it runs");
        for ((output, a), (_, b)) in found.iter().zip(wanted.iter()) {
            let error = relative_l2(&a.to_f64(), &b.to_f64());
            assert!(error <= tolerance, "{name}: {output} of step {step} is {error:e} off");
        }
    }
    let (found, wanted) = (gpu.snapshot().expect("it is there"), cpu.snapshot().expect("it is there"));
    for (a, b) in found.state.iter().zip(&wanted.state) {
        let (Some(x), Some(y)) = (&a.init, &b.init) else { continue };
        // A softmax does not depend on what is added to all keys: the gradient of that is rounding errors, which Adam
        // divides by their own size.
        if a.name.contains("qkv.b") {
            continue;
        }
        let error = relative_l2(&x.to_f64(), &y.to_f64());
        assert!(error <= 100.0 * tolerance, "{name}: state `{}` is {error:e} off", a.name);
    }
}

#[test]
fn two_layer() {
    trains_alike("two_layer", 64, 1, 1e-5);
}

#[test]
fn digits_cnn() {
    trains_alike("digits_cnn", 16, 10, 1e-5);
}

#[test]
fn resnet20() {
    trains_alike("resnet20", 4, 10, 1e-4);
}

#[test]
fn char_lstm() {
    trains_alike("char_lstm", 4, 90, 1e-5);
}

#[test]
fn encoder() {
    trains_alike("encoder", 1, 90, 1e-4);
}

/// A step of training in pieces gives what it gives in one: products, convolutions, loops over stacks, and state.
#[test]
fn models_run_in_windows() {
    let Some(gpu) = adapter() else { return };
    for (name, batch, classes, kilobytes) in
        [("two_layer", 64, 1, 64), ("digits_cnn", 16, 10, 80), ("char_lstm", 4, 90, 96)]
    {
        let model = graphc_models::MODELS.iter().find(|m| m.name == name).expect("there is such a model");
        let module =
            session(&(model.build)().expect("it builds"), Device::Cpu).snapshot().expect("it has values");
        let feeds = inputs(&module, "train_step", batch, classes);
        let feeds: Vec<Tensor> = feeds.into_iter().map(|(_, value)| value).collect();
        let caps = GpuCaps { binding_bytes: kilobytes << 10, ..gpu.caps().clone() };
        let whole = GpuDevice::new(gpu);
        let pieces = GpuDevice { caps, ..whole.clone() };
        let code = pieces.code(&module, "train_step", &feeds).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(windowed(code.items()) > 2, "{name}: {} windows", windowed(code.items()));
        let wanted = whole.run(&module, "train_step", &feeds).expect("it runs");
        let found = pieces.run(&module, "train_step", &feeds).unwrap_or_else(|e| panic!("{name}: {e}"));
        let pairs = found.outputs.iter().chain(&found.state).zip(wanted.outputs.iter().chain(&wanted.state));
        for (i, (a, b)) in pairs.enumerate() {
            let error = relative_l2(&a.to_f64(), &b.to_f64());
            assert!(error <= 1e-4, "{name}: result {i} is {error:e} off");
        }
    }
}

/// Steps that are started ahead give what steps give that are waited for, and results are kept for the last three.
#[test]
fn steps_are_started_ahead() {
    let mut devices = vec![Device::Cpu];
    if adapter().is_some() {
        devices.push(Device::Gpu);
    }
    let module = graphc_models::two_layer::build().expect("it builds");
    let feeds = inputs(&module, "train_step", 4, 3);
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    for device in devices {
        let mut waiting = session(&module, device);
        let mut ahead = session(&waiting.snapshot().expect("it has values"), device);
        let wanted: Vec<Vec<u8>> = (0..6)
            .map(|_| waiting.run("train_step", feeds.iter().copied()).expect("it runs"))
            .map(|outputs| outputs.iter().flat_map(|(_, t)| t.bytes().to_vec()).collect())
            .collect();
        let mut under_way = VecDeque::new();
        for step in 0..8 {
            if step < 6 {
                under_way.push_back(ahead.start("train_step", feeds.iter().copied()).expect("it starts"));
            }
            if step >= 2 {
                let started = under_way.pop_front().expect("it was started");
                let outputs = ahead.finish(started).expect("it ends");
                let bytes: Vec<u8> = outputs.iter().flat_map(|(_, t)| t.bytes().to_vec()).collect();
                assert_eq!(bytes, wanted[step - 2], "{device}, step {}", step - 2);
            }
        }
        let (a, b) = (ahead.snapshot().expect("it is there"), waiting.snapshot().expect("it is there"));
        for (a, b) in a.state.iter().zip(&b.state) {
            assert_eq!(a.init, b.init, "{device}, {}", a.name);
        }
        let oldest = ahead.start("train_step", feeds.iter().copied()).expect("it starts");
        for _ in 0..3 {
            ahead.start("train_step", feeds.iter().copied()).expect("it starts");
        }
        // Elsewhere than on a GPU a run is over when it has started.
        assert_eq!(ahead.finish(oldest).is_err(), device == Device::Gpu, "{device}");
    }
}

/// A profile tells the time of each step, and its runs are runs: the state goes on.
#[test]
fn profiles_run() {
    if adapter().is_none() {
        return;
    }
    let module = graphc_models::two_layer::build().expect("it builds");
    let feeds = inputs(&module, "train_step", 4, 3);
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let mut plain = session(&module, Device::Gpu);
    let mut profiled = session(&plain.snapshot().expect("it has values"), Device::Gpu);
    let profile = profiled.profile("train_step", &feeds, Duration::ZERO).expect("it runs");
    assert_eq!(profile.runs, 1);
    assert!(profile.medians.iter().all(|time| !time.is_zero()), "{:?}", profile.medians);
    // One run is not measured.
    for _ in 0..2 {
        plain.run("train_step", feeds.iter().copied()).expect("it runs");
    }
    let value = |session: &Session| session.state("w1").expect("it is there").map(|t| t.bytes().to_vec());
    assert_eq!(value(&profiled), value(&plain));
}
