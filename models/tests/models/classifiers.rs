//! The classifiers' training steps against loops over f64.

use crate::common::{Matrix, Mlp, assert_near, data, session};
use graphc::build::Module;
use graphc::{Session, Tensor};

/// He's initial values with biases off zero, so that their use is seen.
fn start(module: Module, biases: &[&str]) -> Session {
    let mut session = session(module);
    session.init(3).unwrap();
    for (i, name) in biases.iter().enumerate() {
        let shape = session.state(name).unwrap().unwrap().shape().to_vec();
        session.set_state(name, data(&shape, 20 + i as u64)).unwrap();
    }
    session
}

fn state(session: &Session, name: &str) -> Tensor {
    session.state(name).unwrap().unwrap().clone()
}

fn mlp(session: &Session, layers: usize) -> Mlp {
    let layer = |n: usize| {
        let w = state(session, &format!("w{n}"));
        (Matrix::new(w.shape()[0], w.shape()[1], w.to_f64()), state(session, &format!("b{n}")).to_f64())
    };
    Mlp { layers: (1..=layers).map(layer).collect() }
}

/// Two steps: the second one has momentum.
fn check_training(
    mut session: Session,
    layers: usize,
    x: &Tensor,
    labels: &[i32],
    smoothing: f64,
    rate: f64,
) {
    let names: Vec<String> = (1..=layers).flat_map(|n| [format!("w{n}"), format!("b{n}")]).collect();
    let y = Tensor::from_slice(&[labels.len()], labels);
    let rows = Matrix::new(labels.len(), x.len() / labels.len(), x.to_f64());
    let classes: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
    let mut velocity: Vec<Vec<f64>> = names.iter().map(|n| vec![0.0; state(&session, n).len()]).collect();
    for step in 0..2 {
        let old: Vec<Vec<f64>> = names.iter().map(|n| state(&session, n).to_f64()).collect();
        let (loss, gradients) = mlp(&session, layers).loss_and_gradients(&rows, &classes, smoothing);
        let found = session.run("train_step", [("x", x), ("y", &y)]).unwrap();
        assert_near("loss", &found["loss"].to_f64(), &[loss], 1e-6);
        for (i, name) in names.iter().enumerate() {
            velocity[i].iter_mut().zip(&gradients[i]).for_each(|(v, g)| *v = 0.9 * *v + g);
            let momentum = state(&session, &format!("{name}.momentum")).to_f64();
            assert_near(&format!("{name}.momentum, step {step}"), &momentum, &velocity[i], 1e-5);
            let new: Vec<f64> = old[i].iter().zip(&velocity[i]).map(|(p, v)| p - rate * v).collect();
            assert_near(&format!("{name}, step {step}"), &state(&session, name).to_f64(), &new, 1e-6);
        }
    }
}

fn unit(shape: &[usize], seed: u64) -> Tensor {
    let t = data(shape, seed);
    Tensor::from_fn(t.dtype(), shape, |i| graphc::ir::Scalar::F(t.get(i).as_f64() / 4.0 + 0.5))
}

#[test]
fn digits_train_on_smoothed_labels() {
    let session = start(graphc_models::digits_mlp::build().unwrap(), &["b1", "b2"]);
    check_training(session, 2, &unit(&[5, 1, 8, 8], 1), &[0, 9, 3, 3, 1], 0.1, 0.1);
}

#[test]
fn mlp_784_trains() {
    let session = start(graphc_models::mlp_784::build().unwrap(), &["b1", "b2", "b3"]);
    check_training(session, 3, &unit(&[2, 784], 1), &[7, 0], 0.0, 0.01);
}

#[test]
fn digits_are_evaluated_without_smoothing() {
    let mut session = start(graphc_models::digits_mlp::build().unwrap(), &["b1", "b2"]);
    let x = unit(&[7, 1, 8, 8], 2);
    let found = session.run("predict", [("x", &x)]).unwrap();
    let classes = found["class"].to_f64();
    let probabilities = found["probabilities"].to_f64();
    for (row, class) in probabilities.chunks(10).zip(&classes) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(row.iter().all(|p| *p <= row[*class as usize]));
    }
    // Four right, three wrong.
    let labels: Vec<i32> =
        classes.iter().enumerate().map(|(i, c)| (*c as i32 + i32::from(i > 3)) % 10).collect();
    let y = Tensor::from_slice(&[7], &labels);
    let rows = Matrix::new(7, 64, x.to_f64());
    let classes: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
    let (loss, _) = mlp(&session, 2).loss_and_gradients(&rows, &classes, 0.0);
    let found = session.run("evaluate", [("x", &x), ("y", &y)]).unwrap();
    assert_near("loss", &found["loss"].to_f64(), &[loss], 1e-6);
    assert_near("accuracy", &found["accuracy"].to_f64(), &[4.0 / 7.0], 1e-7);
}

#[test]
fn labels_out_of_range_fail_and_change_nothing() {
    for label in [-1, 10] {
        let mut session = start(graphc_models::digits_mlp::build().unwrap(), &[]);
        let before = state(&session, "w1");
        let y = Tensor::from_slice(&[2], &[1, label]);
        let e = session.run("train_step", [("x", &unit(&[2, 1, 8, 8], 1)), ("y", &y)]).unwrap_err();
        assert!(e.to_string().contains("outside the 10 classes"), "{e}");
        assert_eq!(state(&session, "w1"), before);
    }
}

#[test]
fn weights_start_as_he_prescribes() {
    let session = start(graphc_models::digits_mlp::build().unwrap(), &[]);
    for (name, fan_in) in [("w1", 64.0), ("w2", 256.0)] {
        let w = state(&session, name).to_f64();
        let variance = w.iter().map(|v| v * v).sum::<f64>() / w.len() as f64;
        let error = 5.0 * (2.0 / w.len() as f64).sqrt();
        assert!((variance * fan_in / 2.0 - 1.0).abs() < error, "{name}: {variance}");
    }
    for name in ["b1", "b2", "w1.momentum", "b2.momentum"] {
        assert!(state(&session, name).to_f64().iter().all(|v| *v == 0.0), "{name}");
    }
    assert_eq!(state(&session, "learning_rate").to_f64(), [f64::from(0.1f32)]);
}
