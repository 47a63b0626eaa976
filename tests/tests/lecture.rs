//! The examples of a lecture on frameworks: a small network as PyTorch trains it, and a linear layer of Torch7.

use graphc::build::{Module, ModuleBuilder, Result, ops::Linear};
use graphc::ir::Scalar;
use graphc::optimizer::grad::optimizer::Sgd;
use graphc::optimizer::grad::{
    ACC_GRAD_PARAMETERS, Accumulate, Loss, TrainingSpec, UPDATE_PARAMETERS, ZERO_GRAD_PARAMETERS,
    add_training,
};
use graphc::{DType, Device, Session, Tensor};
use graphc_tests::compare::relative_l2;
use graphc_tests::random_graph::Prng;
use serde::Deserialize;

const BATCH: usize = 64;
const INPUTS: usize = 1000;
const HIDDEN: usize = 100;
const OUTPUTS: usize = 10;

/// `lecture.json`: see the script that wrote it.
#[derive(Deserialize)]
struct Vector {
    losses: Vec<(usize, f64)>,
    w1: Vec<f64>,
    w2: Vec<f64>,
}

/// max(x w1, 0) w2, its squared distance from y, and a step of 1e-6 down the gradient.
fn two_layers(dtype: DType, w1: Tensor, w2: Tensor) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.value("w1", w1)?;
    m.value("w2", w2)?;
    m.function("train_step", |f| {
        let x = f.input("x", &format!("{dtype}[{BATCH},{INPUTS}]"))?;
        let y = f.input("y", &format!("{dtype}[{BATCH},{OUTPUTS}]"))?;
        let (w1, w2) = (f.state("w1")?, f.state("w2")?);
        let difference = x.matmul(w1).relu().matmul(w2) - y;
        let loss = f.name("loss", (difference * difference).sum(&[0, 1]))?;
        let gradients = f.gradients(loss, &[w1, w2])?;
        f.update("w1", w1 - gradients[0] * 1e-6)?;
        f.update("w2", w2 - gradients[1] * 1e-6)?;
        f.loss("loss", loss)
    })?;
    m.finish()
}

fn session(module: Module, device: Device) -> Session {
    Session::from_module(module).device(device).threads(2).build().expect("it compiles")
}

fn state(session: &Session, name: &str) -> Vec<f64> {
    session.state(name).expect("it exists").expect("it has a value").to_f64()
}

/// In f32 the losses are sums of thousands of squares that rounding errors of 500 steps have moved.
#[test]
fn the_network_of_the_introduction_to_pytorch() {
    let vector: Vector =
        serde_json::from_str(include_str!("../vectors/lecture.json")).expect("the file is sound");
    // The interpreter takes a second for each step.
    for (dtype, device, steps, tolerance) in [
        (DType::F64, Device::Cpu, 500, 1e-11),
        (DType::F64, Device::Reference, 3, 1e-12),
        (DType::F32, Device::Cpu, 500, 1e-4),
    ] {
        let mut random = Prng::new(4);
        let mut draw = |shape: &[usize]| {
            Tensor::from_fn(dtype, shape, |_| Scalar::F((2.0 * random.unit() - 1.0) * 3f64.sqrt()))
        };
        let (x, y) = (draw(&[BATCH, INPUTS]), draw(&[BATCH, OUTPUTS]));
        let (w1, w2) = (draw(&[INPUTS, HIDDEN]), draw(&[HIDDEN, OUTPUTS]));
        let mut session = session(two_layers(dtype, w1, w2).expect("it is sound"), device);
        let mut checked = 0;
        for step in 0..steps {
            let outputs = session.run("train_step", [("x", &x), ("y", &y)]).expect("it runs");
            if let Some((_, loss)) = vector.losses.iter().find(|(s, _)| *s == step) {
                // The fit becomes exact, and its loss what rounding leaves.
                let error = (outputs["loss"].get(0).as_f64() - loss).abs() / loss.max(1.0);
                assert!(error < tolerance, "{dtype} on {device:?}: loss of step {step} off by {error:.1e}");
                checked += 1;
            }
        }
        assert!(checked >= 3);
        if steps == 500 {
            for (name, every, wanted) in [("w1", 4999, &vector.w1), ("w2", 49, &vector.w2)] {
                let found: Vec<f64> = state(&session, name).into_iter().step_by(every).collect();
                let error = relative_l2(&found, wanted);
                assert!(error < tolerance, "{dtype} on {device:?}: {name} is off by {error:.1e}");
            }
        }
    }
}

/// The input of the lecture's `nn.Linear(5, 4)`, and the first row of its `gradWeight` after one backward call.
const INPUT: [f64; 5] = [0.2647, 0.7477, 0.5382, 0.1914, 0.0834];
// 0.4343 is what the lecture prints, not a logarithm.
#[allow(clippy::approx_constant)]
const FIRST_ROW: [f64; 5] = [0.2135, 0.6033, 0.4343, 0.1544, 0.0673];

/// The gradients that come from above: the first follows from the numbers of the lecture, the others are chosen.
fn upstream() -> [f64; 4] {
    // The quotient of the largest numbers loses the fewest digits.
    [FIRST_ROW[1] / INPUT[1], -0.25, 0.5, 1.0]
}

/// y = n w + b with w `[5,4]` (Torch7 keeps its transpose) and the loss whose gradient in y is given.
fn linear() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    let weights: Vec<f64> = (0..20).map(|i| f64::from(i) / 40.0 - 0.2).collect();
    m.value("w", Tensor::from_slice(&[5, 4], &weights))?;
    m.value("b", Tensor::from_slice(&[4], &[0.1, -0.2, 0.3, 0.0]))?;
    m.function("forward", |f| {
        let n = f.input("n", "f64[1,5]")?;
        let y = f.op(Linear {}, &[n, f.state("w")?, f.state("b")?])?;
        let loss = (y * f.input("gradient", "f64[1,4]")?).sum(&[0, 1]);
        f.output("y", y)?;
        f.output("loss", loss)
    })?;
    m.finish()
}

#[test]
fn the_linear_layer_of_torch7() {
    let module = linear().expect("it is sound");
    const RATE: f64 = 0.01;
    let spec = TrainingSpec {
        update: Sgd { lr: RATE, momentum: 0.0, ..Sgd::default() }.into(),
        accumulate: Some(Accumulate::Sum),
        ..TrainingSpec::new("forward", Loss::Output("loss".into()))
    };
    let trained = add_training(&module, &spec).expect("it can be trained");
    assert_eq!(trained.function(ACC_GRAD_PARAMETERS).expect("it exists").inputs, ["n", "gradient"]);
    let n = Tensor::from_slice(&[1, 5], &INPUT);
    let gradient = Tensor::from_slice(&[1, 4], &upstream());
    for device in [Device::Reference, Device::Cpu] {
        let mut session = session(trained.clone(), device);
        let nothing: [(&str, &Tensor); 0] = [];
        let (w, b) = (state(&session, "w"), state(&session, "b"));
        let mut run = |name: &str, feeds: &[(&'static str, &Tensor)]| {
            session.run(name, feeds.iter().copied()).expect("it runs");
            (state(&session, "w.gradient"), state(&session, "b.gradient"))
        };
        run(ZERO_GRAD_PARAMETERS, &nothing);
        let feeds = [("n", &n), ("gradient", &gradient)];
        let (of_w, of_b) = run(ACC_GRAD_PARAMETERS, &feeds);
        // The lecture prints four digits, cut off or rounded.
        for (i, wanted) in FIRST_ROW.iter().enumerate() {
            assert!((of_w[4 * i] - wanted).abs() < 1e-4, "{} for {wanted}", of_w[4 * i]);
        }
        for (i, input) in INPUT.iter().enumerate() {
            for (o, above) in upstream().iter().enumerate() {
                assert_eq!(of_w[4 * i + o], input * above);
            }
        }
        assert_eq!(of_b, upstream());
        // `accGradParameters` adds, `zeroGradParameters` forgets.
        let (twice, _) = run(ACC_GRAD_PARAMETERS, &feeds);
        assert!(twice.iter().zip(&of_w).all(|(twice, once)| *twice == 2.0 * once));
        let (zero, _) = run(ZERO_GRAD_PARAMETERS, &nothing);
        assert!(zero.iter().all(|z| *z == 0.0));
        run(ACC_GRAD_PARAMETERS, &feeds);
        run(UPDATE_PARAMETERS, &nothing);
        let near = |found: &[f64], old: &[f64], gradient: &[f64]| {
            let new: Vec<f64> = old.iter().zip(gradient).map(|(p, g)| p - RATE * g).collect();
            relative_l2(found, &new) < 1e-15
        };
        assert!(near(&state(&session, "w"), &w, &of_w) && near(&state(&session, "b"), &b, &of_b));
    }
}
