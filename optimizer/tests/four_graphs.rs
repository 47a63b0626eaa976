//! The graphs that stress the lower half: a multilayer perceptron's training step with momentum, a
//! residual block with batch normalization, softmax cross-entropy, and a scan, each with gradients.
//! Program and interpreter must agree, and the number of steps is part of the contract.

use graphc_ir::autodiff::backward;
use graphc_ir::dim::Binding;
use graphc_ir::module::{Function, OutputDecl};
use graphc_ir::ops::{BatchNorm, CrossEntropy, Linear, Mse, Reduction, Scan, attr::Real};
use graphc_ir::program::{Kernel, Program, reference};
use graphc_ir::scalar::ScalarFn::{Add, Mul, Relu, Sub, Tanh};
use graphc_ir::target::Reference;
use graphc_ir::{Builder, DType, Dim, Tensor, TensorType, ValueId, interp};
use graphc_optimizer::compile::{CompileOptions, Compiled};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

type Result<T> = graphc_ir::Result<T>;

/// A function under construction with the state that it trains.
struct Step {
    b: Builder,
    state: Vec<(TensorType, ValueId)>,
    inputs: Vec<String>,
    updates: Vec<(usize, ValueId)>,
}

impl Step {
    fn new() -> Step {
        Step { b: Builder::new(), state: Vec::new(), inputs: Vec::new(), updates: Vec::new() }
    }

    fn input(&mut self, dtype: DType, shape: &[usize]) -> Result<ValueId> {
        self.inputs.push(format!("x{}", self.inputs.len()));
        self.b.input(TensorType::fixed(dtype, shape))
    }

    fn state(&mut self, shape: &[usize]) -> Result<ValueId> {
        let ty = TensorType::fixed(DType::F32, shape);
        let v = self.b.state(self.state.len(), ty.clone())?;
        self.state.push((ty, v));
        Ok(v)
    }

    fn index(&self, v: ValueId) -> usize {
        self.state.iter().position(|(_, s)| *s == v).expect("a state variable")
    }

    /// v' = 0.9 v + g; p' = p - lr v'.
    fn momentum(&mut self, p: ValueId, g: ValueId, lr: ValueId) -> Result<()> {
        let shape = self.b.ty(p).static_shape();
        let v = self.state(&shape)?;
        let m = self.b.full_like(v, 0.9)?;
        let decayed = self.b.map(Mul, &[m, v])?;
        let next = self.b.map(Add, &[decayed, g])?;
        let step = self.b.map(Mul, &[lr, next])?;
        let moved = self.b.map(Sub, &[p, step])?;
        let (pi, vi) = (self.index(p), self.index(v));
        self.updates.push((pi, moved));
        self.updates.push((vi, next));
        Ok(())
    }

    fn train(&mut self, loss: ValueId, params: &[ValueId], lr: ValueId) -> Result<()> {
        let one = self.b.scalar(DType::F32, 1.0)?;
        let grads = backward(&mut self.b, &[(loss, one)], params)?;
        for (p, g) in params.iter().zip(grads) {
            self.momentum(*p, g.expect("the loss depends on every parameter"), lr)?;
        }
        Ok(())
    }

    fn finish(self, outputs: &[ValueId]) -> Result<(Function, Vec<TensorType>)> {
        let mut results = outputs.to_vec();
        results.extend(self.updates.iter().map(|(_, v)| *v));
        let outputs = (0..outputs.len()).map(|i| OutputDecl { name: format!("y{i}"), mark: None }).collect();
        let updates = self.updates.iter().map(|(i, _)| *i).collect();
        let function = Function { inputs: self.inputs, outputs, updates, graph: self.b.finish(&results)? };
        Ok((function, self.state.into_iter().map(|(t, _)| t).collect()))
    }
}

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
    s.train(loss, &params, lr)?;
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
        let running = [s.state(&[c])?, s.state(&[c])?];
        h = s.b.op1(Linear {}, &[h, p[0], p[1]])?;
        let norm = s.b.op(BatchNorm { axis: 1, eps: Real(1e-5) }, &[h, p[2], p[3]])?;
        for (i, old) in running.into_iter().enumerate() {
            let batch = norm[1 + i];
            let scale = if i == 1 { n as f64 / (n as f64 - 1.0) } else { 1.0 };
            let keep = s.b.full_like(old, 0.9)?;
            let take = s.b.full_like(old, 0.1 * scale)?;
            let kept = s.b.map(Mul, &[keep, old])?;
            let taken = s.b.map(Mul, &[take, batch])?;
            let next = s.b.map(Add, &[kept, taken])?;
            let index = s.index(old);
            s.updates.push((index, next));
        }
        h = norm[0];
        if layer == 1 {
            h = s.b.map(Add, &[h, x])?;
        }
        h = s.b.map(Relu, &[h])?;
        params.extend(p);
    }
    let loss = s.b.op1(Mse { reduction: Reduction::Mean }, &[h, target])?;
    s.train(loss, &params, lr)?;
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
    let op = Scan { body: body.into(), carries: 1, stacks: 1, reverse: false, length: Dim::from(length) };
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

fn data(ty: &TensorType, seed: u64) -> Tensor {
    let shape = ty.static_shape();
    if ty.dtype.is_int() {
        return graphc_ir::ops::sample_indices(&shape, 10, seed).cast(ty.dtype);
    }
    graphc_ir::ops::sample_tensor(&shape, seed).cast(ty.dtype)
}

fn compile(function: &Function, compile: CompileOptions) -> Result<Compiled> {
    let options = Options { compile, limit: None };
    let remarks = &mut Remarks::default();
    let graph = driver::optimize(function, &options, remarks)?;
    driver::compile(&graph, function, &Binding::new(), &Reference, &options, remarks)
}

fn compare(name: &str, (function, state): (Function, Vec<TensorType>)) {
    let inputs: Vec<Tensor> =
        (0..function.inputs.len()).map(|i| data(function.input_type(i), i as u64 + 1)).collect();
    let state: Vec<Tensor> = state.iter().enumerate().map(|(i, t)| data(t, 100 + i as u64)).collect();
    let refs = |v: &[Tensor]| v.to_vec();
    let wanted =
        interp::eval(&function.graph, &inputs.iter().collect::<Vec<_>>(), &state.iter().collect::<Vec<_>>())
            .expect("the interpreter runs it");
    for fusion in [true, false] {
        for staging in [true, false] {
            let options = CompileOptions { fusion, staging, ..CompileOptions::default() };
            let compiled = compile(&function, options).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut after = refs(&state);
            let staged = match &compiled.prepare {
                Some(p) => reference::execute(&p.program, &[], &mut refs(&state), &[]).expect("prepare runs"),
                None => Vec::new(),
            };
            let mut got = reference::execute(&compiled.main, &inputs, &mut after, &staged)
                .unwrap_or_else(|e| panic!("{name}: {e}\n{}", compiled.main.dump()));
            got.extend(function.updates.iter().map(|i| after[*i].clone()));
            for (i, (g, w)) in got.iter().zip(&wanted).enumerate() {
                let (g, w) = (g.to_f64(), w.to_f64());
                let norm = w.iter().map(|v| v * v).sum::<f64>().sqrt();
                let diff = g.iter().zip(&w).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
                assert!(
                    diff <= 2e-5 * norm.max(1e-3),
                    "{name}, fusion {fusion}: result {i} is off by {diff} of {norm}"
                );
            }
        }
    }
}

fn kinds(program: &Program) -> Vec<&'static str> {
    program.steps.iter().map(|s| s.kind()).collect()
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
fn a_perceptron_trains_in_twelve_steps() {
    let (function, _) = mlp().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    let kinds = kinds(&compiled.main);
    println!("{kinds:?}");
    let dots = compiled.main.steps.iter().filter(|s| matches!(s.kernel, Kernel::Dot(_))).count();
    assert_eq!(dots, 3 + 3 + 2, "three forward, three weight gradients, two passed down");
    assert!(kinds.len() <= 12, "{kinds:?}");
}

#[test]
fn a_residual_block_trains_in_at_most_sixteen_steps() {
    let (function, _) = residual().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    let kinds = kinds(&compiled.main);
    assert!(kinds.len() <= 16, "{} steps: {kinds:?}", kinds.len());
}
