//! Training of the residual network against PyTorch: `vectors/resnet20.json`, whose script says what is in it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use graphc::ir::Scalar;
use graphc::ir::module::StateRole;
use graphc::{DType, Device, Session, Tensor};
use graphc_tests::compare::{relative_l2, relative_l2_above};
use graphc_tests::random_graph::Prng;
use indexmap::IndexMap;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    batch: usize,
    learning_rate: f32,
    steps: i32,
    losses: Vec<f64>,
    momentum: IndexMap<String, Summary>,
    statistics: IndexMap<String, Vec<f64>>,
}

/// What the file has of a tensor.
#[derive(Deserialize)]
struct Summary {
    norm: f64,
    elements: Vec<f64>,
    projections: Vec<f64>,
}

impl Summary {
    /// As much of the tensor of this number.
    fn like(&self, values: &[f64], number: usize) -> Summary {
        let count = self.elements.len();
        let projections = self.projections.len();
        let project = |k: usize| {
            let mut signs = Prng::new((number * projections + k) as u64);
            values.iter().map(|v| if signs.word() >> 63 == 1 { -v } else { *v }).sum()
        };
        Summary {
            norm: values.iter().map(|v| v * v).sum::<f64>().sqrt(),
            elements: (0..count).map(|i| values[i * values.len() / count]).collect(),
            projections: (0..projections).map(project).collect(),
        }
    }

    /// The largest relative error of the parts. A projection on signs differs by about the norm of the
    /// difference; elements are taken relative to their own root mean square or that of all `count`.
    fn error(&self, want: &Summary, count: usize) -> f64 {
        let pairs = self.projections.iter().zip(&want.projections);
        let differences = pairs.map(|(a, b)| (a - b).abs()).chain([(self.norm - want.norm).abs()]);
        let elements = relative_l2_above(&self.elements, &want.elements, want.norm / (count as f64).sqrt());
        differences.map(|d| d / want.norm).fold(elements, f64::max)
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The first rows of the digits as batches of `x` and `y`.
fn batches(batch: usize, count: usize) -> Vec<(Tensor, Tensor)> {
    let file = File::open(repository().join("models/data/digits.csv.gz")).expect("the data is there");
    let lines = BufReader::new(GzDecoder::new(file)).lines().take(batch * count);
    let numbers = |line: String| line.split(',').map(|n| n.parse().expect("a number")).collect();
    let rows: Vec<Vec<u8>> = lines.map(|line| numbers(line.expect("text"))).collect();
    let tensors = |rows: &[Vec<u8>]| {
        let x: Vec<f32> = rows.iter().flat_map(|r| r[..64].iter().map(|v| f32::from(*v) / 16.0)).collect();
        let y: Vec<i32> = rows.iter().map(|r| i32::from(r[64])).collect();
        (Tensor::from_slice(&[rows.len(), 1, 8, 8], &x), Tensor::from_slice(&[rows.len()], &y))
    };
    rows.chunks(batch).map(tensors).collect()
}

/// Sets parameters and statistics as the script does.
fn draw(session: &mut Session) {
    let mut random = Prng::new(20);
    let state = session.module().state.clone();
    let (parameters, others): (Vec<_>, Vec<_>) = state.iter().partition(|s| s.role == StateRole::Param);
    let statistics = others.into_iter().filter(|s| s.name.ends_with(".mean") || s.name.ends_with(".var"));
    for decl in parameters.into_iter().chain(statistics) {
        let shape = decl.ty.shape().expect("sizes are numbers");
        let part = decl.name.rsplit('.').next().expect("a name");
        let inputs = if let [inputs, _] = shape[..] { inputs } else { shape[1..].iter().product() };
        let mut value = || {
            let u = random.unit();
            match part {
                "w" => (2.0 * u - 1.0) * (6.0 / inputs as f64).sqrt(),
                "gamma" if decl.name.ends_with("conv2.gamma") => (0.5 + u) * 0.1,
                "gamma" | "var" => 0.5 + u,
                _ => (2.0 * u - 1.0) * 0.2,
            }
        };
        let tensor = Tensor::from_fn(DType::F32, &shape, |_| Scalar::F(value()));
        session.set_state(&decl.name, tensor).expect("it fits");
    }
}

fn state(session: &Session, name: &str) -> Vec<f64> {
    session.state(name).expect("it exists").expect("it has a value").to_f64()
}

#[test]
fn steps_equal_those_of_pytorch() {
    let text = std::fs::read(repository().join("tests/vectors/resnet20.json")).expect("the file is there");
    let vector: Vector = serde_json::from_slice(&text).expect("the file is sound");
    let path = repository().join("models/resnet20/resnet20.json");
    let mut session = Session::open(path).and_then(|s| s.device(Device::Cpu).build()).expect("it loads");
    session.init(0).expect("it starts");
    draw(&mut session);
    // Images that stay where they are: the shifts are random.
    session.set_state("shift", Tensor::from_slice(&[], &[0f32])).expect("it fits");
    session.set_state("learning_rate", Tensor::from_slice(&[], &[vector.learning_rate])).expect("it fits");
    session.set_state("steps", Tensor::from_slice(&[], &[vector.steps])).expect("it fits");

    let mut failures = Vec::new();
    let mut check = |what: String, error: f64, tolerance: f64| {
        if error.is_nan() || error > tolerance {
            failures.push(format!("{what} is off by {error:.1e}"));
        }
    };
    let parameters: Vec<&str> = vector.momentum.keys().map(String::as_str).collect();
    let module = session.module().clone();
    let declared = module.state.iter().filter(|s| s.role == StateRole::Param).map(|s| s.name.as_str());
    assert_eq!(parameters, declared.collect::<Vec<_>>());
    for (step, ((x, y), loss)) in
        batches(vector.batch, vector.losses.len()).iter().zip(&vector.losses).enumerate()
    {
        let outputs = session.run("train_step", [("x", x), ("y", y)]).expect("it runs");
        let error = relative_l2(&outputs["loss"].to_f64(), &[*loss]);
        check(format!("the loss of step {step}"), error, if step == 0 { 1e-5 } else { 1e-3 });
        if step > 0 {
            continue;
        }
        for (number, (name, want)) in vector.momentum.iter().enumerate() {
            let got = state(&session, &format!("{name}.momentum"));
            let error = want.like(&got, number).error(want, got.len());
            check(format!("the gradient of {name}"), error, 1e-4);
        }
        for (name, want) in &vector.statistics {
            check(format!("the running {name}"), relative_l2(&state(&session, name), want), 1e-5);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
