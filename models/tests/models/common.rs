//! Independent implementations in f64, and how results are compared with them.

use graphc::build::Module;
use graphc::ir::ops::sample_tensor;
use graphc::{DType, Device, Session, Tensor};

/// A session on the reference interpreter.
pub fn session(module: Module) -> Session {
    Session::from_module(module).device(Device::Reference).build().unwrap()
}

/// Sample data of type f32.
pub fn data(shape: &[usize], seed: u64) -> Tensor {
    sample_tensor(shape, seed).cast(DType::F32)
}

/// Relative L2 distance: ‖a - b‖ / ‖b‖.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut b.iter().copied()).max(1e-300)
}

pub fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let d = distance(found, expected);
    assert!(d <= tolerance, "{what}: {d:.1e} away");
}

/// A row-major matrix.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<f64>,
}

impl Matrix {
    pub fn new(rows: usize, cols: usize, data: Vec<f64>) -> Matrix {
        assert_eq!(rows * cols, data.len());
        Matrix { rows, cols, data }
    }

    pub fn dot(&self, other: &Matrix) -> Matrix {
        let mut out = vec![0.0; self.rows * other.cols];
        for i in 0..self.rows {
            for k in 0..self.cols {
                let a = self.data[i * self.cols + k];
                for j in 0..other.cols {
                    out[i * other.cols + j] += a * other.data[k * other.cols + j];
                }
            }
        }
        Matrix::new(self.rows, other.cols, out)
    }

    pub fn transposed(&self) -> Matrix {
        let at = |i: usize| self.data[i % self.rows * self.cols + i / self.rows];
        Matrix::new(self.cols, self.rows, (0..self.data.len()).map(at).collect())
    }

    /// Every element with its column.
    pub fn map(&self, f: impl Fn(f64, usize) -> f64) -> Matrix {
        let data = self.data.iter().enumerate().map(|(i, v)| f(*v, i % self.cols)).collect();
        Matrix::new(self.rows, self.cols, data)
    }

    pub fn zip(&self, other: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
        let data = self.data.iter().zip(&other.data).map(|(a, b)| f(*a, *b)).collect();
        Matrix::new(self.rows, self.cols, data)
    }

    pub fn column_sums(&self) -> Vec<f64> {
        (0..self.cols).map(|c| (0..self.rows).map(|r| self.data[r * self.cols + c]).sum()).collect()
    }
}

/// Layers x · w + b with rectifiers between, under a softmax.
pub struct Mlp {
    /// Weights and biases by layer.
    pub layers: Vec<(Matrix, Vec<f64>)>,
}

impl Mlp {
    /// Loss and gradients (w1, b1, w2, …) for targets (1 - smoothing) · onehot + smoothing / classes.
    pub fn loss_and_gradients(&self, x: &Matrix, labels: &[usize], smoothing: f64) -> (f64, Vec<Vec<f64>>) {
        let mut inputs = vec![x.clone()];
        for (i, (w, b)) in self.layers.iter().enumerate() {
            let z = inputs[i].dot(w).map(|v, c| v + b[c]);
            inputs.push(if i + 1 < self.layers.len() { z.map(|v, _| v.max(0.0)) } else { z });
        }
        let logits = &inputs[self.layers.len()];
        let (rows, classes) = (logits.rows, logits.cols);
        let (mut loss, mut upstream) = (0.0, logits.clone());
        for (r, label) in labels.iter().enumerate() {
            let row = &mut upstream.data[r * classes..][..classes];
            let log_sum = row.iter().map(|v| v.exp()).sum::<f64>().ln();
            for (c, v) in row.iter_mut().enumerate() {
                let target = smoothing / classes as f64 + if c == *label { 1.0 - smoothing } else { 0.0 };
                loss -= target * (*v - log_sum) / rows as f64;
                *v = ((*v - log_sum).exp() - target) / rows as f64;
            }
        }
        let mut gradients = Vec::new();
        for (i, (w, _)) in self.layers.iter().enumerate().rev() {
            gradients.insert(0, upstream.column_sums());
            gradients.insert(0, inputs[i].transposed().dot(&upstream).data);
            upstream = upstream.dot(&w.transposed()).zip(&inputs[i], |g, h| if h > 0.0 { g } else { 0.0 });
        }
        (loss, gradients)
    }
}

/// Central differences of a function of parameters, one by one.
pub fn differences(params: &[Vec<f64>], f: impl Fn(&[Vec<f64>]) -> f64) -> Vec<Vec<f64>> {
    const STEP: f64 = 1e-5;
    let mut shifted = params.to_vec();
    let mut all = Vec::new();
    for p in 0..params.len() {
        let mut gradient = Vec::new();
        for i in 0..params[p].len() {
            let mut at = |by: f64| {
                shifted[p][i] = params[p][i] + by;
                let value = f(&shifted);
                shifted[p][i] = params[p][i];
                value
            };
            gradient.push((at(STEP) - at(-STEP)) / (2.0 * STEP));
        }
        all.push(gradient);
    }
    all
}
