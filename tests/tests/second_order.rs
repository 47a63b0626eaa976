//! Steps that use the curvature: logistic regression over the digits against SciPy (`vectors/logistic.json`, whose script
//! says what it is), and problems whose minimum is known.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use graphc::build::ops::{CrossEntropy, Linear, Reduction};
use graphc::build::{Module, ModuleBuilder, Result};
use graphc::optimizer::grad::Loss;
use graphc::optimizer::grad::second_order::{
    LBFGS_STEP, Lbfgs, NEWTON_STEP, Newton, Problem, add_lbfgs_step, add_newton_step,
};
use graphc::{DType, Device, Session, Tensor};
use graphc_ir::wire::{DecodeOptions, EncodeOptions, decode, encode};
use serde::Deserialize;

#[derive(Deserialize)]
struct Optimum {
    l2: f64,
    first_loss: f64,
    loss: f64,
    weights_norm: f64,
}

/// Pixels f64`[n,64]` and classes i32`[n]` of all digits.
fn digits() -> (Tensor, Tensor) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/data/digits.csv.gz");
    let lines = BufReader::new(GzDecoder::new(File::open(path).expect("the data is there"))).lines();
    let numbers = |line: String| line.split(',').map(|n| n.parse().expect("a number")).collect::<Vec<u8>>();
    let rows: Vec<Vec<u8>> = lines.map(|line| numbers(line.expect("text"))).collect();
    let x: Vec<f64> = rows.iter().flat_map(|r| r[..64].iter().map(|v| f64::from(*v) / 16.0)).collect();
    let y: Vec<i32> = rows.iter().map(|r| i32::from(r[64])).collect();
    (Tensor::from_slice(&[rows.len(), 64], &x), Tensor::from_slice(&[rows.len()], &y))
}

fn logistic_regression() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    m.value("w", Tensor::zeros(DType::F64, &[64, 10]))?;
    m.value("b", Tensor::zeros(DType::F64, &[10]))?;
    m.function("loss", |f| {
        let (x, y) = (f.input("x", "f64[B,64]")?, f.input("y", "i32[B]")?);
        let logits = f.op(Linear {}, &[x, f.state("w")?, f.state("b")?])?;
        f.output("loss", f.op(CrossEntropy { reduction: Reduction::Mean }, &[logits, y])?)
    })?;
    m.finish()
}

fn session(module: Module, device: Device) -> Session {
    Session::from_module(module).device(device).threads(2).build().expect("it compiles")
}

/// What each step told: loss and gradient norm before it, its length, and its inner iterations.
#[derive(Clone, Copy, Debug)]
struct Told {
    loss: f64,
    norm: f64,
    length: f64,
    iterations: f64,
}

fn step(session: &mut Session, name: &str, feeds: &[(&'static str, &Tensor)]) -> Told {
    let outputs = session.run(name, feeds.iter().copied()).expect("it runs");
    let number = |name: &str| outputs[name].get(0).as_f64();
    Told {
        loss: number("loss"),
        norm: number("gradient_norm"),
        length: number("step_length"),
        iterations: number("iterations"),
    }
}

/// Steps until the gradient is small or `most` were taken.
fn solve(
    session: &mut Session,
    name: &str,
    feeds: &[(&'static str, &Tensor)],
    small: f64,
    most: usize,
) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    while told.last().is_none_or(|t| t.norm >= small) && told.len() <= most {
        told.push(step(session, name, feeds));
    }
    told
}

fn norm(session: &Session, names: &[&str]) -> f64 {
    let state = |name: &&str| session.state(name).expect("it exists").expect("it has a value").to_f64();
    names.iter().flat_map(state).map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn logistic_regression_over_the_digits() {
    let optimum: Optimum =
        serde_json::from_str(include_str!("../vectors/logistic.json")).expect("the file is sound");
    let (x, y) = digits();
    let feeds = [("x", &x), ("y", &y)];
    let problem = Problem { l2: optimum.l2, ..Problem::new("loss", Loss::Output("loss".into())) };
    let module = logistic_regression().expect("it is sound");
    let newton = add_newton_step(&module, &problem, &Newton::default()).expect("it has second derivatives");
    let lbfgs = add_lbfgs_step(&module, &problem, &Lbfgs { history: 20, ..Lbfgs::default() });
    let lbfgs = lbfgs.expect("it has derivatives");
    for (module, name, small, most) in [(newton, NEWTON_STEP, 1e-8, 20), (lbfgs, LBFGS_STEP, 1e-8, 1000)] {
        let mut session = session(module, Device::Cpu);
        let told = solve(&mut session, name, &feeds, small, most);
        let (first, last) = (told[0], told[told.len() - 1]);
        assert!((first.loss - optimum.first_loss).abs() < 1e-13, "{first:?}");
        // The last call's norm is that before its step.
        assert!(last.norm < small && told.len() - 1 < most, "{name} ends at {last:?} after {}", told.len());
        assert!((last.loss - optimum.loss).abs() < 1e-10, "{name}: {} for {}", last.loss, optimum.loss);
        assert!((norm(&session, &["w", "b"]) / optimum.weights_norm - 1.0).abs() < 1e-4);
        // The loss never rises by more than rounding.
        assert!(told.windows(2).all(|t| t[1].loss <= t[0].loss + 1e-14), "{told:?}");
    }
}

/// The valley of Rosenbrock (1960): Σ 100 (x₂ - x₁²)² + (1 - x₁)² over pairs, with the minimum 0 at ones.
fn rosenbrock(dtype: DType) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    let start = Tensor::from_slice(&[2], &[-1.2f64, 1.0]).cast(dtype);
    m.value("x", start.clone())?;
    m.value("y", Tensor::from_slice(&[2], &[1.0f64, 1.0]).cast(dtype))?;
    m.function("loss", |f| {
        let (x, y) = (f.state("x")?, f.state("y")?);
        let (valley, rest) = (y - x * x, x.one_like() - x);
        f.output("loss", (valley * valley * 100.0 + rest * rest).sum(&[0]))
    })?;
    m.finish()
}

#[test]
fn the_valley_of_rosenbrock() {
    let problem = Problem::new("loss", Loss::Output("loss".into()));
    for (dtype, small, close) in [(DType::F64, 1e-9, 1e-8), (DType::F32, 1e-3, 1e-2)] {
        let module = rosenbrock(dtype).expect("it is sound");
        let newton = add_newton_step(&module, &problem, &Newton { forcing: 0.1, ..Newton::default() });
        let lbfgs = add_lbfgs_step(&module, &problem, &Lbfgs::default());
        for (module, name, most) in [(newton, NEWTON_STEP, 80), (lbfgs, LBFGS_STEP, 100)] {
            for device in [Device::Reference, Device::Cpu] {
                let mut session = session(module.clone().expect("it has derivatives"), device);
                let told = solve(&mut session, name, &[], small, most);
                let last = told[told.len() - 1];
                assert!(
                    last.norm < small,
                    "{name} in {dtype} on {device:?}: {} steps to {last:?}",
                    told.len()
                );
                for name in ["x", "y"] {
                    let found = session.state(name).expect("it exists").expect("a value").to_f64();
                    assert!(found.iter().all(|v| (v - 1.0).abs() < close), "{name} {dtype}: {found:?}");
                }
            }
        }
    }
}

/// Newton's method solves a quadratic in one step, and then stays where it is.
#[test]
fn a_quadratic_takes_one_step() {
    let build = || {
        let mut m = ModuleBuilder::new();
        m.value("x", Tensor::zeros(DType::F64, &[3]))?;
        m.value("a", Tensor::from_slice(&[3, 3], &[4.0, 1.0, 0.0, 1.0, 3.0, 0.5, 0.0, 0.5, 2.0]))?;
        m.function("loss", |f| {
            let (x, a) = (f.state("x")?, f.state("a")?);
            let t = f.input("t", "f64[3]")?;
            f.output("loss", (x * a.matmul(x)).sum(&[0]) * 0.5 - (x * t).sum(&[0]))
        })?;
        m.finish()
    };
    let problem =
        Problem { wrt: Some(vec!["x".into()]), ..Problem::new("loss", Loss::Output("loss".into())) };
    let newton = Newton { forcing: 1e-12, ..Newton::default() };
    let module = add_newton_step(&build().expect("it is sound"), &problem, &newton).expect("it is quadratic");
    // Its loops are functions of the file.
    let text = encode(&module, &EncodeOptions::default()).expect("it can be written");
    let module = decode(text.as_bytes(), &DecodeOptions::default()).expect("it can be read");
    let t = Tensor::from_slice(&[3], &[1.0f64, -2.0, 3.0]);
    for device in [Device::Reference, Device::Cpu] {
        let mut session = session(module.clone(), device);
        let first = step(&mut session, NEWTON_STEP, &[("t", &t)]);
        assert!(first.length == 1.0 && first.iterations <= 4.0, "{first:?}");
        let x = session.state("x").expect("it exists").expect("a value").to_f64();
        let rows = [[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]];
        for (row, wanted) in rows.iter().zip([1.0, -2.0, 3.0]) {
            let found: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            assert!((found - wanted).abs() < 1e-12, "{found} for {wanted}");
        }
        let second = step(&mut session, NEWTON_STEP, &[("t", &t)]);
        assert!(second.norm < 1e-12, "{second:?}");
    }
}

#[test]
fn refusals_say_why() {
    let module = rosenbrock(DType::F64).expect("it is sound");
    let good = Problem::new("loss", Loss::Output("loss".into()));
    let refused = |problem: &Problem| {
        add_newton_step(&module, problem, &Newton::default()).expect_err("it is refused").to_string()
    };
    for (problem, part) in [
        (Problem { function: "lost".into(), ..good.clone() }, "did you mean `loss`?"),
        (Problem { wrt: Some(vec!["z".into()]), ..good.clone() }, "no state `z`"),
        (Problem { l2: f64::NAN, ..good.clone() }, "`l2` is NaN"),
        (Problem { loss: Loss::Output("los".into()), ..good.clone() }, "did you mean `loss`?"),
    ] {
        let message = refused(&problem);
        assert!(message.contains(part), "{message}");
    }
    let newton = Newton { forcing: 2.0, ..Newton::default() };
    let message = add_newton_step(&module, &good, &newton).expect_err("it is refused").to_string();
    assert!(message.contains("`forcing` is 2"), "{message}");
    let once = add_lbfgs_step(&module, &good, &Lbfgs::default()).expect("it has derivatives");
    let message = add_lbfgs_step(&once, &good, &Lbfgs::default()).expect_err("it is refused").to_string();
    assert!(message.contains("`lbfgs_step` already"), "{message}");
}
