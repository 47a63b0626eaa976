//! The straining graphs against loops over f64 and their central differences.

use crate::common::{Matrix, assert_near, data, differences, session};
use graphc::{Session, Tensor};
use graphc_models::stress;

fn values(session: &Session, names: &[&str]) -> Vec<Vec<f64>> {
    names.iter().map(|n| session.state(n).unwrap().unwrap().to_f64()).collect()
}

/// Batch normalization over rows; also mean and biased variance.
fn batch_norm(z: &Matrix, gamma: &[f64], beta: &[f64]) -> (Matrix, Vec<f64>, Vec<f64>) {
    let n = z.rows as f64;
    let mean: Vec<f64> = z.column_sums().iter().map(|s| s / n).collect();
    let squares = z.map(|v, c| (v - mean[c]).powi(2));
    let var: Vec<f64> = squares.column_sums().iter().map(|s| s / n).collect();
    (z.map(|v, c| gamma[c] * (v - mean[c]) / (var[c] + 1e-5).sqrt() + beta[c]), mean, var)
}

const RESIDUAL: [&str; 8] = ["w1", "b1", "gamma1", "beta1", "w2", "b2", "gamma2", "beta2"];

/// Loss of the residual block and the statistics of its two normalizations.
fn residual(p: &[Vec<f64>], x: &Matrix, target: &Matrix) -> (f64, [Vec<f64>; 4]) {
    let n = x.cols;
    let layer = |x: &Matrix, p: &[Vec<f64>]| {
        let z = x.dot(&Matrix::new(n, n, p[0].clone())).map(|v, c| v + p[1][c]);
        batch_norm(&z, &p[2], &p[3])
    };
    let (a, mean1, var1) = layer(x, &p[..4]);
    let (b, mean2, var2) = layer(&a.map(|v, _| v.max(0.0)), &p[4..]);
    let y = x.zip(&b, |x, b| (x + b).max(0.0));
    let squares = y.zip(target, |y, t| (y - t).powi(2));
    (squares.data.iter().sum::<f64>() / squares.data.len() as f64, [mean1, var1, mean2, var2])
}

#[test]
fn residual_block_trains() {
    const ROWS: usize = 6;
    const WIDTH: usize = 5;
    let mut session = session(stress::residual_block(WIDTH).unwrap());
    session.init(1).unwrap();
    for (i, name) in ["b1", "gamma1", "beta1", "b2", "gamma2", "beta2"].iter().enumerate() {
        session.set_state(name, data(&[WIDTH], 30 + i as u64)).unwrap();
    }
    let (x, target) = (data(&[ROWS, WIDTH], 1), data(&[ROWS, WIDTH], 2));
    let (mx, mt) = (Matrix::new(ROWS, WIDTH, x.to_f64()), Matrix::new(ROWS, WIDTH, target.to_f64()));
    let old = values(&session, &RESIDUAL);
    let (loss, statistics) = residual(&old, &mx, &mt);
    let gradients = differences(&old, |p| residual(p, &mx, &mt).0);

    let found = session.run("train_step", [("x", &x), ("target", &target)]).unwrap();
    assert_near("loss", &found["loss"].to_f64(), &[loss], 1e-5);
    let new = values(&session, &RESIDUAL);
    for (i, name) in RESIDUAL.iter().enumerate() {
        let velocity = session.state(&format!("{name}.momentum")).unwrap().unwrap().to_f64();
        if matches!(*name, "b1" | "b2") {
            // The normalization takes any bias out again, so that nothing but rounding is left.
            assert!(velocity.iter().all(|v| v.abs() < 1e-6), "{name}: {velocity:?}");
        } else {
            assert_near(name, &velocity, &gradients[i], 1e-4);
        }
        let expected: Vec<f64> = old[i].iter().zip(&velocity).map(|(p, v)| p - 0.05 * v).collect();
        assert_near(name, &new[i], &expected, 1e-6);
    }
    for (k, name) in ["mean1", "var1", "mean2", "var2"].iter().enumerate() {
        let (start, correction) =
            if k % 2 == 0 { (0.0, 1.0) } else { (1.0, ROWS as f64 / (ROWS - 1) as f64) };
        let expected: Vec<f64> = statistics[k].iter().map(|s| 0.9 * start + 0.1 * correction * s).collect();
        assert_near(name, &values(&session, &[*name])[0], &expected, 1e-5);
    }
}

#[test]
fn cross_entropy_and_its_gradient() {
    let mut session = session(stress::softmax_cross_entropy(4).unwrap());
    let logits = data(&[3, 4], 5);
    let labels = [2usize, 0, 3];
    let y = Tensor::from_slice(&[3], &labels.map(|l| l as i32));
    let found = session.run("gradient", [("logits", &logits), ("y", &y)]).unwrap();
    let mut probabilities = Vec::new();
    for row in logits.to_f64().chunks(4) {
        let sum: f64 = row.iter().map(|v| v.exp()).sum();
        probabilities.extend(row.iter().map(|v| v.exp() / sum));
    }
    let loss = -labels.iter().enumerate().map(|(r, l)| probabilities[r * 4 + l].ln()).sum::<f64>() / 3.0;
    let hot = |i: usize| if labels[i / 4] == i % 4 { 1.0 } else { 0.0 };
    let gradient: Vec<f64> = probabilities.iter().enumerate().map(|(i, p)| (p - hot(i)) / 3.0).collect();
    assert_near("probabilities", &found["probabilities"].to_f64(), &probabilities, 1e-6);
    assert_near("loss", &found["loss"].to_f64(), &[loss], 1e-6);
    assert_near("gradient", &found["gradient"].to_f64(), &gradient, 1e-6);
}

#[test]
fn scan_and_its_gradients() {
    const BATCH: usize = 2;
    const INPUTS: usize = 3;
    const HIDDEN: usize = 4;
    let mut session = session(stress::scan_rnn(INPUTS, HIDDEN).unwrap());
    session.init(2).unwrap();
    session.set_state("b", data(&[HIDDEN], 9)).unwrap();
    let x = data(&[stress::STEPS, BATCH, INPUTS], 1);
    let run = |p: &[Vec<f64>]| {
        let wx = Matrix::new(INPUTS, HIDDEN, p[0].clone());
        let wh = Matrix::new(HIDDEN, HIDDEN, p[1].clone());
        let mut h = Matrix::new(BATCH, HIDDEN, vec![0.0; BATCH * HIDDEN]);
        let mut squares = 0.0;
        for slice in p[3].chunks(BATCH * INPUTS) {
            let from_x = Matrix::new(BATCH, INPUTS, slice.to_vec()).dot(&wx);
            h = from_x.zip(&h.dot(&wh), |a, b| a + b).map(|v, c| (v + p[2][c]).tanh());
            squares += h.data.iter().map(|v| v * v).sum::<f64>();
        }
        (squares / (stress::STEPS * BATCH * HIDDEN) as f64, h)
    };
    let mut params = values(&session, &["wx", "wh", "b"]);
    params.push(x.to_f64());
    let (loss, h) = run(&params);
    let found = session.run("gradients", [("x", &x)]).unwrap();
    assert_near("loss", &found["loss"].to_f64(), &[loss], 1e-6);
    assert_near("h", &found["h"].to_f64(), &h.data, 1e-6);
    let gradients = differences(&params, |p| run(p).0);
    for (name, gradient) in ["wx", "wh", "b", "x"].iter().zip(gradients) {
        assert_near(name, &found[&format!("{name}.gradient")].to_f64(), &gradient, 1e-5);
    }
}
