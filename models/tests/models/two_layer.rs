//! The two-layer model against loops over f64.

use crate::common::{Matrix, assert_near, data, session};
use graphc::Tensor;

fn matrix(t: &Tensor) -> Matrix {
    Matrix::new(t.shape()[0], t.shape()[1], t.to_f64())
}

#[test]
fn a_step_goes_down_the_gradient() {
    let mut session = session(graphc_models::two_layer::build().unwrap());
    let (x, y) = (data(&[64, 1000], 1), data(&[64, 1000], 2));
    let (w1, w2) = (data(&[1000, 100], 3), data(&[100, 1000], 4));
    session.set_state("w1", w1.clone()).unwrap();
    session.set_state("w2", w2.clone()).unwrap();

    let (mx, my, m1, m2) = (matrix(&x), matrix(&y), matrix(&w1), matrix(&w2));
    let h = mx.dot(&m1).map(|v, _| v.max(0.0));
    let prediction = h.dot(&m2);
    let found = session.run("predict", [("x", &x)]).unwrap();
    assert_near("prediction", &found["prediction"].to_f64(), &prediction.data, 1e-6);

    let difference = prediction.zip(&my, |p, t| p - t);
    let loss = difference.data.iter().map(|d| d * d).sum::<f64>() / 64.0;
    let upstream = difference.map(|d, _| d * 2.0 / 64.0);
    let g2 = h.transposed().dot(&upstream);
    let masked = upstream.dot(&m2.transposed()).zip(&h, |g, h| if h > 0.0 { g } else { 0.0 });
    let g1 = mx.transposed().dot(&masked);

    let found = session.run("train_step", [("x", &x), ("y", &y)]).unwrap();
    assert_near("loss", &found["loss"].to_f64(), &[loss], 1e-6);
    for (name, old, g) in [("w1", m1, g1), ("w2", m2, g2)] {
        let new = session.state(name).unwrap().unwrap().to_f64();
        let step: Vec<f64> = new.iter().zip(&old.data).map(|(n, o)| n - o).collect();
        let expected: Vec<f64> = g.data.iter().map(|g| -1e-5 * g).collect();
        assert_near(name, &new, &old.zip(&g, |w, g| w - 1e-5 * g).data, 1e-6);
        // The step itself, as far as f32 weights can show it.
        assert_near(name, &step, &expected, 1e-3);
    }
}

#[test]
fn initial_weights_are_normal_and_apart() {
    let mut session = session(graphc_models::two_layer::build().unwrap());
    session.init(0).unwrap();
    let read = |s: &graphc::Session, name: &str| s.state(name).unwrap().unwrap().to_f64();
    let (w1, w2, key) = (read(&session, "w1"), read(&session, "w2"), read(&session, "key"));
    for w in [&w1, &w2] {
        let mean = w.iter().sum::<f64>() / 1e5;
        let variance = w.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5;
        // Five standard errors of 10^5 draws.
        assert!(mean.abs() < 5.0 / 316.0 && (variance - 1.0).abs() < 5.0 * 0.0045, "{mean} {variance}");
    }
    let correlation = w1.iter().zip(&w2).map(|(a, b)| a * b).sum::<f64>() / 1e5;
    assert!(correlation.abs() < 5.0 / 316.0, "w1 and w2 share draws: {correlation}");
    session.run("init", []).unwrap();
    assert_ne!(read(&session, "key"), key);
    assert_ne!(read(&session, "w1"), w1);
}
