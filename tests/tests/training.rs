//! Training steps and schedules against PyTorch: `vectors/training.json`, whose script says what is in it.

use graphc::build::{Module, ModuleBuilder, UpdateRule};
use graphc::ir::Scalar;
use graphc::optimizer::grad::{Loss, TrainingSpec, add_training};
use graphc::{DType, Device, Session, Tensor};
use graphc_tests::compare::relative_l2;
use graphc_tests::gpu::adapter;
use indexmap::IndexMap;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    steps: Vec<Training>,
    rates: Vec<Rates>,
}

/// The texts of an update as `graphc grad` reads them.
#[derive(Deserialize, Debug)]
struct Texts {
    optimizer: Option<String>,
    schedule: Option<String>,
    warmup: Option<String>,
    regularize: Option<String>,
    clip: Option<String>,
}

impl Texts {
    fn rule(&self) -> UpdateRule {
        let parsed = |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).to_owned();
        UpdateRule {
            optimizer: parsed(&self.optimizer, "sgd:momentum=0").parse().expect("an optimizer"),
            schedule: self.schedule.as_ref().map(|s| s.parse().expect("a schedule")),
            warmup: self.warmup.as_ref().map(|s| s.parse().expect("a warm-up")),
            regularizer: parsed(&self.regularize, "").parse().expect("a regularizer"),
            clip: parsed(&self.clip, "").parse().expect("a clipping"),
        }
    }
}

#[derive(Deserialize)]
struct Training {
    #[serde(flatten)]
    texts: Texts,
    losses: [f64; 3],
    w: Vec<f64>,
    b: Vec<f64>,
    slots: IndexMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Rates {
    learning_rate: f64,
    #[serde(flatten)]
    texts: Texts,
    rates: Vec<(i32, f64)>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/training.json")).expect("the file is sound")
}

const STEPS: i64 = 20;

/// Every number of the cases: see the script.
fn fractions(dtype: DType, first: i64, shape: &[usize]) -> Tensor {
    let mut i = first;
    Tensor::from_fn(dtype, shape, |_| {
        i += 1;
        Scalar::F(((7919 * (i - 1) + 13) % 101) as f64 / 101.0 - 0.5)
    })
}

fn model(dtype: DType) -> Module {
    let build = || {
        let mut m = ModuleBuilder::new();
        m.value("w", fractions(dtype, 0, &[4, 3]))?;
        m.value("b", fractions(dtype, 12, &[3]))?;
        m.function("predict", |f| {
            let x = f.input("x", &format!("{dtype}[5,4]"))?;
            let t = f.input("t", &format!("{dtype}[5,3]"))?;
            let difference = (x.matmul(f.state("w")?) + f.state("b")?).tanh() - t;
            f.output("loss", (difference * difference).mean(&[0, 1]))
        })?;
        m.finish()
    };
    build().expect("it is sound")
}

fn session(module: Module, device: Device) -> Session {
    Session::from_module(module).device(device).threads(1).build().expect("it compiles")
}

fn state(session: &Session, name: &str) -> Vec<f64> {
    session.state(name).expect("it exists").expect("it has a value").to_f64()
}

/// What differs by more than the tolerance.
fn mismatches(case: &Training, dtype: DType, device: Device, tolerance: f64) -> Vec<String> {
    let update = case.texts.rule();
    let spec = TrainingSpec { update, ..TrainingSpec::new("predict", Loss::Output("loss".into())) };
    let trained = add_training(&model(dtype), &spec).expect("it can be trained");
    let mut session = session(trained, device);
    let mut failures = Vec::new();
    let mut check = |what: &str, found: &[f64], wanted: &[f64]| {
        let error = relative_l2(found, wanted);
        if error.is_nan() || error > tolerance || found.len() != wanted.len() {
            failures.push(format!("{:?} in {dtype} on {device:?}: {what} is off by {error:.1e}", case.texts));
        }
    };
    for k in 0..STEPS {
        let x = fractions(dtype, 100 + 35 * k, &[5, 4]);
        let t = fractions(dtype, 120 + 35 * k, &[5, 3]);
        let outputs = session.run("train_step", [("x", &x), ("t", &t)]).expect("it runs");
        let which = [0, 1, STEPS - 1].iter().position(|s| *s == k);
        if let Some(i) = which {
            check("a loss", &outputs["loss"].to_f64(), &case.losses[i..=i]);
        }
    }
    check("w", &state(&session, "w"), &case.w);
    check("b", &state(&session, "b"), &case.b);
    for (name, wanted) in &case.slots {
        check(name, &state(&session, name), wanted);
    }
    failures
}

/// In f32 a slot may be a small difference of large numbers, as in centered RMSProp.
#[test]
fn twenty_steps_of_every_optimizer() {
    let vectors = vectors();
    assert!(vectors.steps.len() >= 60, "{} cases", vectors.steps.len());
    for optimizer in graphc::optimizer::grad::Optimizer::all() {
        let name = optimizer.parameters().name();
        let of =
            |t: &&Training| t.texts.optimizer.as_ref().is_some_and(|o| o.split(':').next() == Some(name));
        assert!(vectors.steps.iter().filter(of).count() >= 2, "{name} has too few cases");
    }
    let mut failures = Vec::new();
    for case in &vectors.steps {
        for device in [Device::Reference, Device::Cpu] {
            failures.extend(mismatches(case, DType::F64, device, 1e-12));
            failures.extend(mismatches(case, DType::F32, device, 2e-5));
        }
        if adapter().is_some() {
            failures.extend(mismatches(case, DType::F32, Device::Gpu, 2e-5));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The gradient of the parameter is 1, so that it falls by the rate in every step.
fn rates(case: &Rates, dtype: DType, device: Device) -> Vec<f64> {
    let rule = case.texts.rule();
    let zero = Tensor::zeros(dtype, &[]);
    let build = || {
        let mut m = ModuleBuilder::new();
        m.value("p", zero.clone())?;
        m.update_state(&rule, &["p"])?;
        m.function("train_step", |f| {
            let p = f.state("p")?;
            let gradient = f.gradients(p, &[p])?[0];
            f.apply(&rule, &[("p", gradient)])
        })?;
        m.finish()
    };
    let mut session = session(build().expect("it is sound"), device);
    let rate = Tensor::full(dtype, &[], Scalar::F(case.learning_rate));
    session.set_state("learning_rate", rate).expect("it fits");
    let mut found = Vec::new();
    for (step, _) in &case.rates {
        session.set_state("p", zero.clone()).expect("it fits");
        session.set_state("step", Tensor::from_slice(&[], &[*step])).expect("it fits");
        let nothing: [(&str, &Tensor); 0] = [];
        session.run("train_step", nothing).expect("it runs");
        assert_eq!(state(&session, "step"), [f64::from(*step) + 1.0]);
        found.push(-state(&session, "p")[0]);
    }
    found
}

#[test]
fn rates_of_every_schedule() {
    let vectors = vectors();
    for schedule in graphc::optimizer::grad::Schedule::all() {
        let name = schedule.parameters().name();
        let of = |r: &&Rates| r.texts.schedule.as_ref().is_some_and(|s| s.split(':').next() == Some(name));
        assert!(vectors.rates.iter().filter(of).count() >= 2, "{name} has too few cases");
    }
    let mut failures = Vec::new();
    for case in &vectors.rates {
        for device in [Device::Reference, Device::Cpu] {
            for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6)] {
                let found = rates(case, dtype, device);
                for ((step, wanted), found) in case.rates.iter().zip(found) {
                    // A rate near the end of a fall is a small difference of shares of the first.
                    let error = (found - wanted).abs();
                    if error.is_nan() || error > tolerance * case.learning_rate {
                        let case = &case.texts;
                        failures.push(format!("{case:?} {dtype} {device:?} {step}: {found} for {wanted}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
