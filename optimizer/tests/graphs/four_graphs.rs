//! The graphs that stress the lower half: a multilayer perceptron's training step with momentum, a
//! residual block with batch normalization, softmax cross-entropy, and a scan, each with gradients.
//! Program and interpreter must agree, and the number of steps is part of the contract.

use super::common::{Result, Step, compare, compile, kinds};
use graphc_ir::autodiff::backward;
use graphc_ir::module::Function;
use graphc_ir::ops::{CrossEntropy, Linear, Mse, Reduction, Scan};
use graphc_ir::program::Kernel;
use graphc_ir::scalar::ScalarFn::{Add, Mul, Relu, Tanh};
use graphc_ir::{Builder, DType, Dim, TensorType, ValueId};
use graphc_optimizer::compile::CompileOptions;

fn mlp() -> Result<(Function, Vec<TensorType>)> {
    let mut s = Step::new();
    let x = s.input(DType::F32, &[6, 20])?;
    let labels = s.input(DType::I32, &[6])?;
    let lr = s.state(&[])?;
    let mut params = Vec::new();
    let mut h = x;
    for (i, (k, n)) in [(20, 17), (17, 13), (13, 10)].into_iter().enumerate() {
        let (w, b) = (s.state(&[k, n])?, s.state(&[n])?);
        params.extend([w, b]);
        h = s.b.op1(Linear {}, &[h, w, b])?;
        if i < 2 {
            h = s.b.map(Relu, &[h])?;
        }
    }
    let loss = s.b.op1(CrossEntropy { reduction: Reduction::Mean }, &[h, labels])?;
    let one = s.b.scalar(DType::F32, 1.0)?;
    s.train((loss, one), &params, &[], lr)?;
    s.finish(&[loss])
}

fn residual() -> Result<(Function, Vec<TensorType>)> {
    let mut s = Step::new();
    let (n, c) = (12, 8);
    let x = s.input(DType::F32, &[n, c])?;
    let target = s.input(DType::F32, &[n, c])?;
    let lr = s.state(&[])?;
    let mut params = Vec::new();
    let mut h = x;
    for layer in 0..2 {
        let p: Vec<ValueId> =
            [&[c, c][..], &[c], &[c], &[c]].iter().map(|d| s.state(d)).collect::<Result<_>>()?;
        h = s.b.op1(Linear {}, &[h, p[0], p[1]])?;
        h = s.batch_norm(h, p[2], p[3], n as f64)?;
        if layer == 1 {
            h = s.b.map(Add, &[h, x])?;
        }
        h = s.b.map(Relu, &[h])?;
        params.extend(p);
    }
    let loss = s.b.op1(Mse { reduction: Reduction::Mean }, &[h, target])?;
    let one = s.b.scalar(DType::F32, 1.0)?;
    s.train((loss, one), &params, &[], lr)?;
    s.finish(&[loss])
}

fn cross_entropy() -> Result<(Function, Vec<TensorType>)> {
    let mut s = Step::new();
    let x = s.input(DType::F32, &[6, 10])?;
    let labels = s.input(DType::I32, &[6])?;
    let loss = s.b.op1(CrossEntropy { reduction: Reduction::Mean }, &[x, labels])?;
    let one = s.b.scalar(DType::F32, 1.0)?;
    let g = backward(&mut s.b, &[(loss, one)], &[x])?[0].expect("differentiable");
    s.finish(&[loss, g])
}

fn scan() -> Result<(Function, Vec<TensorType>)> {
    let mut s = Step::new();
    let (batch, width, length) = (4, 5, 3);
    let xs = s.input(DType::F32, &[length, batch, width])?;
    let h0 = s.input(DType::F32, &[batch, width])?;
    let wx = s.state(&[width, width])?;
    let wh = s.state(&[width, width])?;
    let bias = s.state(&[width])?;
    let mut b = Builder::new();
    let ty = |d: &[usize]| TensorType::fixed(DType::F32, d);
    let ins =
        [ty(&[width, width]), ty(&[width, width]), ty(&[width]), ty(&[batch, width]), ty(&[batch, width])];
    let v = ins.into_iter().map(|t| b.input(t)).collect::<Result<Vec<_>>>()?;
    let (p, q) = (b.matmul(v[4], v[0])?, b.matmul(v[3], v[1])?);
    let sum = b.map(Add, &[p, q])?;
    let sum = b.map(Add, &[sum, v[2]])?;
    let h = b.map(Tanh, &[sum])?;
    let body = b.finish(&[h, h])?;
    let op = Scan {
        body: body.into(),
        carries: 1,
        stacks: 1,
        reverse: false,
        length: Dim::from(length),
        recompute: false,
    };
    let outs = s.b.op(op, &[wx, wh, bias, h0, xs])?;
    let all = s.b.map(Mul, &[outs[1], outs[1]])?;
    let loss = s.b.sum(all, &[0, 1, 2])?;
    let one = s.b.scalar(DType::F32, 1.0)?;
    let wrt = [wx, wh, bias, h0, xs];
    let grads = backward(&mut s.b, &[(loss, one)], &wrt)?;
    let mut outputs = vec![loss, outs[0]];
    outputs.extend(grads.into_iter().flatten());
    s.finish(&outputs)
}

#[test]
fn programs_compute_what_the_graphs_mean() {
    compare("mlp", mlp().expect("builds"));
    compare("residual", residual().expect("builds"));
    compare("cross_entropy", cross_entropy().expect("builds"));
    compare("scan", scan().expect("builds"));
}

#[test]
fn softmax_cross_entropy_is_one_row_cluster() {
    let (function, _) = cross_entropy().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    assert_eq!(kinds(&compiled.main), ["rows"]);
}

#[test]
fn a_perceptron_trains_in_ten_steps() {
    let (function, _) = mlp().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    let kinds = kinds(&compiled.main);
    println!("{kinds:?}");
    let dots = compiled.main.steps.iter().filter(|s| matches!(s.kernel, Kernel::Dot(_))).count();
    assert_eq!(dots, 3 + 3 + 2, "three forward, three weight gradients, two passed down");
    assert!(kinds.len() <= 10, "{kinds:?}");
}

#[test]
fn a_residual_block_trains_in_at_most_thirteen_steps() {
    let (function, _) = residual().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    let kinds = kinds(&compiled.main);
    assert!(kinds.len() <= 13, "{} steps: {kinds:?}", kinds.len());
}
