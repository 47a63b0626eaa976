//! The smaller convolutional networks against loops over f64.

use std::collections::HashMap;

use crate::common::{Matrix, assert_near, data, session};
use graphc::build::Module;
use graphc::{Session, Tensor};

/// Channels, height, width, and the elements of one image.
#[derive(Clone)]
struct Image([usize; 3], Vec<f64>);

impl Image {
    fn at(&self, c: usize, row: i64, column: i64) -> f64 {
        let [_, height, width] = self.0;
        let inside = (0..height as i64).contains(&row) && (0..width as i64).contains(&column);
        if inside { self.1[(c * height + row as usize) * width + column as usize] } else { 0.0 }
    }

    fn from_fn(size: [usize; 3], f: impl Fn(usize, i64, i64) -> f64) -> Image {
        let [channels, height, width] = size;
        let places = (0..channels * height * width)
            .map(|i| (i / (height * width), i / width % height, i % width))
            .map(|(c, row, column)| f(c, row as i64, column as i64));
        Image(size, places.collect())
    }

    fn convolved(&self, filters: &[f64], bias: &[f64], kernel: usize, pad: usize) -> Image {
        let [inputs, height, width] = self.0;
        let size = [bias.len(), height + 2 * pad + 1 - kernel, width + 2 * pad + 1 - kernel];
        Image::from_fn(size, |o, row, column| {
            let taps = (0..inputs * kernel * kernel).map(|t| {
                let (c, down, right) = (t / (kernel * kernel), t / kernel % kernel, t % kernel);
                let (row, column) = (row + down as i64 - pad as i64, column + right as i64 - pad as i64);
                filters[o * inputs * kernel * kernel + t] * self.at(c, row, column)
            });
            taps.sum::<f64>() + bias[o]
        })
    }

    /// Windows of 2 x 2 made one by `f`.
    fn pooled(&self, f: fn([f64; 4]) -> f64) -> Image {
        let [channels, height, width] = self.0;
        Image::from_fn([channels, height / 2, width / 2], |c, row, column| {
            f([(0, 0), (0, 1), (1, 0), (1, 1)]
                .map(|(down, right)| self.at(c, 2 * row + down, 2 * column + right)))
        })
    }

    fn map(mut self, f: fn(f64) -> f64) -> Image {
        self.1.iter_mut().for_each(|v| *v = f(*v));
        self
    }
}

type Params = HashMap<String, Vec<f64>>;

fn linear(x: Vec<f64>, p: &Params, n: usize) -> Vec<f64> {
    let (w, b) = (&p[&format!("w{n}")], &p[&format!("b{n}")]);
    let y = Matrix::new(1, x.len(), x.clone()).dot(&Matrix::new(x.len(), b.len(), w.clone()));
    y.map(|v, c| v + b[c]).data
}

fn lenet(image: Image, p: &Params) -> Vec<f64> {
    let mean = |window: [f64; 4]| window.iter().sum::<f64>() / 4.0;
    let h = image.convolved(&p["w1"], &p["b1"], 5, 2).map(f64::tanh).pooled(mean);
    let h = h.convolved(&p["w2"], &p["b2"], 5, 0).map(f64::tanh).pooled(mean).1;
    let tanh = |v: Vec<f64>| v.into_iter().map(f64::tanh).collect();
    linear(tanh(linear(tanh(linear(h, p, 3)), p, 4)), p, 5)
}

fn digits_cnn(image: Image, p: &Params) -> Vec<f64> {
    let largest = |window: [f64; 4]| window.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let relu = |v: f64| v.max(0.0);
    let h = image.convolved(&p["w1"], &p["b1"], 3, 1).map(relu).pooled(largest);
    let h = h.convolved(&p["w2"], &p["b2"], 3, 1).map(relu).pooled(largest).1;
    linear(linear(h, p, 3).into_iter().map(relu).collect(), p, 4)
}

/// Mean cross-entropy.
fn loss(net: fn(Image, &Params) -> Vec<f64>, p: &Params, x: &Tensor, labels: &[i32]) -> f64 {
    let (size, x) = (x.shape()[2], x.to_f64());
    let losses = x.chunks(size * size).zip(labels).map(|(image, label)| {
        let logits = net(Image([1, size, size], image.to_vec()), p);
        logits.iter().map(|v| v.exp()).sum::<f64>().ln() - logits[*label as usize]
    });
    losses.sum::<f64>() / labels.len() as f64
}

/// A session with random biases, and its parameters.
fn start(module: Module, layers: usize) -> (Session, Params) {
    let mut session = session(module);
    session.init(4).unwrap();
    let mut params = Params::new();
    for n in 1..=layers {
        let (w, b) = (format!("w{n}"), format!("b{n}"));
        let shape = session.state(&b).unwrap().unwrap().shape().to_vec();
        session.set_state(&b, data(&shape, n as u64)).unwrap();
        for name in [w, b] {
            let values = session.state(&name).unwrap().unwrap().to_f64();
            params.insert(name, values);
        }
    }
    (session, params)
}

const LABELS: [i32; 3] = [4, 0, 9];

#[test]
fn lenet_and_its_gradient() {
    let (mut session, params) = start(graphc_models::lenet::build().unwrap(), 5);
    let (x, y) = (data(&[3, 1, 28, 28], 1), Tensor::from_slice(&[3], &LABELS));
    let found = session.run("train_step", [("x", &x), ("y", &y)]).unwrap();
    assert_near("loss", &found["loss"].to_f64(), &[loss(lenet, &params, &x, &LABELS)], 1e-6);
    // Along its own direction, each gradient's derivative is its norm.
    for (name, values) in &params {
        let gradient = session.state(&format!("{name}.momentum")).unwrap().unwrap().to_f64();
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let at = |by: f64| {
            let mut params = params.clone();
            let moved = values.iter().zip(&gradient).map(|(v, g)| v + by * g / norm).collect();
            params.insert(name.clone(), moved);
            loss(lenet, &params, &x, &LABELS)
        };
        assert_near(name, &[(at(1e-4) - at(-1e-4)) / 2e-4], &[norm], 1e-5);
    }
}

#[test]
fn digits_cnn_is_evaluated_without_dropout() {
    let (mut session, params) = start(graphc_models::digits_cnn::build().unwrap(), 4);
    let (x, y) = (data(&[3, 1, 8, 8], 1), Tensor::from_slice(&[3], &LABELS));
    let found = session.run("evaluate", [("x", &x), ("y", &y)]).unwrap();
    assert_near("loss", &found["loss"].to_f64(), &[loss(digits_cnn, &params, &x, &LABELS)], 1e-6);
}
