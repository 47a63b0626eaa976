//! Initial values: bounds, moments, orthogonality, and that a key determines them.

use graphc::build::{Error, Fan, Initializer, ModuleBuilder, Result};
use graphc::{DType, Device, Session, Tensor};

/// Values of an initializer under the key that a seed gives.
fn draw(how: Initializer, ty: &str, device: Device, seed: u64) -> Result<Tensor> {
    let mut m = ModuleBuilder::new();
    m.key("key")?;
    m.function("draw", |f| {
        let values = f.initial(how, f.state("key")?, ty)?;
        f.output("values", values)
    })?;
    let failed = |e: graphc::Error| Error::new(e.to_string());
    let mut session = Session::from_module(m.finish()?).device(device).threads(2).build().map_err(failed)?;
    session.init(seed).map_err(failed)?;
    let nothing: [(&str, &Tensor); 0] = [];
    let mut outputs = session.run("draw", nothing).map_err(failed)?;
    outputs.swap_remove("values").ok_or_else(|| Error::new("there is no output"))
}

const DEVICES: [Device; 2] = [Device::Reference, Device::Cpu];

/// Checks mean and variance, and that everything lies in mean ± bound.
fn check_moments(how: Initializer, ty: &str, mean: f64, variance: f64, bound: f64) {
    for device in DEVICES {
        let x = draw(how, ty, device, 7).expect("it draws").to_f64();
        let n = x.len() as f64;
        let found = x.iter().sum::<f64>() / n;
        let spread = x.iter().map(|x| (x - found).powi(2)).sum::<f64>() / n;
        // Five standard errors of the mean; the fourth moment is at most three times the variance's square.
        assert!((found - mean).abs() < 5.0 * (variance / n).sqrt(), "{how:?} on {device:?}: mean {found}");
        let error = (spread / variance - 1.0).abs();
        assert!(error < 5.0 * (2.0 / n).sqrt(), "{how:?} on {device:?}: variance {spread} for {variance}");
        let inside = x.iter().all(|x| (x - mean).abs() <= bound * (1.0 + 1e-6));
        assert!(inside, "{how:?} on {device:?} leaves its bounds");
        // Bounds are nearly reached where they are finite.
        if bound.is_finite() {
            let furthest = x.iter().map(|x| (x - mean).abs()).fold(0.0, f64::max);
            assert!(furthest > 0.99 * bound, "{how:?} on {device:?} stays within {furthest} of {bound}");
        }
    }
}

#[test]
fn bounds_and_moments() {
    let (w, filters) = ("f32[60,140]", "f64[40,24,3,3]");
    check_moments(Initializer::Uniform { low: -1.0, high: 3.0 }, w, 1.0, 16.0 / 12.0, 2.0);
    check_moments(Initializer::Normal { mean: 2.0, std: 0.5 }, w, 2.0, 0.25, f64::INFINITY);
    // The variance of a standard normal between -2 and 2 is 1 - 4 φ(2) / (2 Φ(2) - 1).
    let cut = 0.773_741_302_9;
    check_moments(Initializer::TruncatedNormal { mean: 1.0, std: 0.1 }, w, 1.0, 0.01 * cut, 0.2);

    let (inputs, outputs) = (60.0, 140.0);
    let variance = 2.0 / (inputs + outputs);
    let bound = |variance: f64| (3.0 * variance).sqrt();
    check_moments(Initializer::GlorotUniform { gain: 1.0 }, w, 0.0, variance, bound(variance));
    check_moments(Initializer::GlorotNormal { gain: 2.0 }, w, 0.0, 4.0 * variance, f64::INFINITY);
    let (inputs, outputs) = (24.0 * 9.0, 40.0 * 9.0);
    let variance = 2.0 / (inputs + outputs);
    check_moments(Initializer::GlorotUniform { gain: 1.0 }, filters, 0.0, variance, bound(variance));
    let gain = 2f64.sqrt();
    for (fan, connections) in [(Fan::In, inputs), (Fan::Out, outputs)] {
        let variance = 2.0 / connections;
        check_moments(Initializer::HeUniform { fan, gain }, filters, 0.0, variance, bound(variance));
        check_moments(Initializer::HeNormal { fan, gain }, filters, 0.0, variance, f64::INFINITY);
    }
    check_moments(Initializer::HeNormal { fan: Fan::In, gain: 1.0 }, w, 0.0, 1.0 / 60.0, f64::INFINITY);
    check_moments(Initializer::HeNormal { fan: Fan::Out, gain: 1.0 }, w, 0.0, 1.0 / 140.0, f64::INFINITY);
    let torch7 = |inputs| Initializer::Torch7 { inputs };
    check_moments(torch7(None), w, 0.0, 1.0 / (3.0 * 60.0), 1.0 / 60f64.sqrt());
    check_moments(torch7(None), filters, 0.0, 1.0 / (3.0 * 216.0), 1.0 / 216f64.sqrt());
    check_moments(torch7(Some(16)), "f32[3000]", 0.0, 1.0 / 48.0, 0.25);
}

/// The largest element of the difference between the rows' or columns' products and gain² times the identity.
fn defect(q: &[f64], rows: usize, columns: usize, gain: f64) -> f64 {
    let at = |i: usize, k: usize| if rows <= columns { q[i * columns + k] } else { q[k * columns + i] };
    let (few, many) = (rows.min(columns), rows.max(columns));
    let mut worst = 0f64;
    for i in 0..few {
        for j in 0..few {
            let dot: f64 = (0..many).map(|k| at(i, k) * at(j, k)).sum();
            worst = worst.max((dot - if i == j { gain * gain } else { 0.0 }).abs());
        }
    }
    worst
}

#[test]
fn orthogonal_matrices_are_orthogonal() {
    for (ty, rows, columns) in [
        ("f32[1,1]", 1, 1),
        ("f32[64,64]", 64, 64),
        ("f32[40,100]", 40, 100),
        ("f32[100,40]", 100, 40),
        ("f64[96,96]", 96, 96),
        ("f64[20,7]", 20, 7),
        ("f32[16,4,3,3]", 16, 36),
        ("f64[0,3]", 0, 3),
    ] {
        for (device, gain) in [(Device::Reference, 1.0), (Device::Cpu, 1.0), (Device::Cpu, 2.0)] {
            let q = draw(Initializer::Orthogonal { gain }, ty, device, 3).expect("it draws");
            let worst = defect(&q.to_f64(), rows, columns, gain);
            let tolerance = if q.dtype() == DType::F64 { 1e-13 } else { 1e-6 } * gain * gain;
            assert!(worst < tolerance, "{ty} on {device:?}: off by {worst:.1e}");
        }
    }
}

/// Uniform among orthogonal matrices: each element has mean 0 and variance 1 / n, and the first has both signs as often.
#[test]
fn orthogonal_matrices_are_uniform() {
    const N: usize = 400;
    let draws = |seed| draw(Initializer::Orthogonal { gain: 1.0 }, "f64[4,4]", Device::Reference, seed);
    let all: Vec<Vec<f64>> = (0..N as u64).map(|seed| draws(seed).expect("it draws").to_f64()).collect();
    for k in 0..16 {
        let mean = all.iter().map(|q| q[k]).sum::<f64>() / N as f64;
        let square = all.iter().map(|q| q[k] * q[k]).sum::<f64>() / N as f64;
        assert!(mean.abs() < 5.0 * 0.5 / (N as f64).sqrt(), "element {k} has mean {mean}");
        assert!((square - 0.25).abs() < 0.06, "element {k} has mean square {square}");
    }
}

#[test]
fn a_key_determines_the_values() {
    for how in [
        Initializer::GlorotUniform { gain: 1.0 },
        Initializer::TruncatedNormal { mean: 0.0, std: 1.0 },
        Initializer::Orthogonal { gain: 1.0 },
    ] {
        for device in DEVICES {
            let of = |seed| draw(how, "f32[12,9]", device, seed).expect("it draws");
            assert_eq!(of(5).bytes(), of(5).bytes(), "{how:?} on {device:?}");
            assert_ne!(of(5).bytes(), of(6).bytes(), "{how:?} on {device:?}");
        }
    }
}

#[test]
fn refusals_say_why() {
    let glorot = Initializer::GlorotUniform { gain: 1.0 };
    let orthogonal = Initializer::Orthogonal { gain: 1.0 };
    for (how, ty, part) in [
        (glorot, "f32[3]", "no inputs and outputs"),
        (glorot, "f32[]", "no inputs and outputs"),
        (glorot, "i32[3,4]", "draws f32 or f64"),
        (glorot, "f32[B,4]", "size is not known"),
        (glorot, "f32[3,", "expected a number"),
        (orthogonal, "f32[5]", "at least 2 axes"),
        (orthogonal, "f32[]", "at least 2 axes"),
        (Initializer::Torch7 { inputs: None }, "f32[5]", "no inputs and outputs"),
    ] {
        let message = draw(how, ty, Device::Reference, 0).expect_err("it is refused").to_string();
        assert!(message.contains(part), "{how:?} {ty}: {message}");
    }
}
