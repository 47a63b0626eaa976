//! Functions under construction, and Programs compared with the interpreter.

use graphc_ir::autodiff::backward;
use graphc_ir::dim::Binding;
use graphc_ir::module::{Function, OutputDecl};
use graphc_ir::ops::{BatchNorm, attr::Real};
use graphc_ir::program::{Program, reference};
use graphc_ir::scalar::ScalarFn::{Add, Mul, Sub};
use graphc_ir::target::Reference;
use graphc_ir::{Builder, DType, Tensor, TensorType, ValueId, interp};
use graphc_optimizer::compile::{CompileOptions, Compiled};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

pub type Result<T> = graphc_ir::Result<T>;

/// A function under construction with the state that it trains.
pub struct Step {
    pub b: Builder,
    pub state: Vec<(TensorType, ValueId)>,
    pub inputs: Vec<String>,
    pub updates: Vec<(usize, ValueId)>,
}

impl Step {
    pub fn new() -> Step {
        Step { b: Builder::new(), state: Vec::new(), inputs: Vec::new(), updates: Vec::new() }
    }

    pub fn input(&mut self, dtype: DType, shape: &[usize]) -> Result<ValueId> {
        self.inputs.push(format!("x{}", self.inputs.len()));
        self.b.input(TensorType::fixed(dtype, shape))
    }

    pub fn state(&mut self, shape: &[usize]) -> Result<ValueId> {
        let ty = TensorType::fixed(DType::F32, shape);
        let v = self.b.state(self.state.len(), ty.clone())?;
        self.state.push((ty, v));
        Ok(v)
    }

    pub fn index(&self, v: ValueId) -> usize {
        self.state.iter().position(|(_, s)| *s == v).expect("a state variable")
    }

    /// v' = 0.9 v + g; p' = p - lr v'.
    pub fn momentum(&mut self, p: ValueId, g: ValueId, lr: ValueId) -> Result<()> {
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

    /// Momentum for all parameters, from a result and its gradient; gives the gradients of other values.
    pub fn train(
        &mut self,
        result: (ValueId, ValueId),
        params: &[ValueId],
        others: &[ValueId],
        lr: ValueId,
    ) -> Result<Vec<ValueId>> {
        let wanted = [params, others].concat();
        let grads = backward(&mut self.b, &[result], &wanted)?;
        let grads: Option<Vec<ValueId>> = grads.into_iter().collect();
        let mut grads = grads.expect("the loss depends on all of them");
        let others = grads.split_off(params.len());
        for (p, g) in params.iter().zip(grads) {
            self.momentum(*p, g, lr)?;
        }
        Ok(others)
    }

    /// Batch normalization over axis 1 with running statistics in two state variables of their own.
    pub fn batch_norm(&mut self, x: ValueId, gamma: ValueId, beta: ValueId, count: f64) -> Result<ValueId> {
        let shape = self.b.ty(gamma).static_shape();
        let running = [self.state(&shape)?, self.state(&shape)?];
        let norm = self.b.op(BatchNorm { axis: 1, eps: Real(1e-5) }, &[x, gamma, beta])?;
        for (i, old) in running.into_iter().enumerate() {
            let scale = if i == 1 { count / (count - 1.0) } else { 1.0 };
            let keep = self.b.full_like(old, 0.9)?;
            let take = self.b.full_like(old, 0.1 * scale)?;
            let kept = self.b.map(Mul, &[keep, old])?;
            let taken = self.b.map(Mul, &[take, norm[1 + i]])?;
            let next = self.b.map(Add, &[kept, taken])?;
            let index = self.index(old);
            self.updates.push((index, next));
        }
        Ok(norm[0])
    }

    pub fn finish(self, outputs: &[ValueId]) -> Result<(Function, Vec<TensorType>)> {
        let mut results = outputs.to_vec();
        results.extend(self.updates.iter().map(|(_, v)| *v));
        let outputs = (0..outputs.len()).map(|i| OutputDecl { name: format!("y{i}"), mark: None }).collect();
        let updates = self.updates.iter().map(|(i, _)| *i).collect();
        let function = Function { inputs: self.inputs, outputs, updates, graph: self.b.finish(&results)? };
        Ok((function, self.state.into_iter().map(|(t, _)| t).collect()))
    }
}

fn data(ty: &TensorType, seed: u64) -> Tensor {
    let shape = ty.static_shape();
    if ty.dtype.is_int() {
        return graphc_ir::ops::sample_indices(&shape, 10, seed).cast(ty.dtype);
    }
    graphc_ir::ops::sample_tensor(&shape, seed).cast(ty.dtype)
}

pub fn compile(function: &Function, compile: CompileOptions) -> Result<Compiled> {
    let options = Options { compile, limit: None };
    let remarks = &mut Remarks::default();
    let graph = driver::optimize(function, &options, remarks)?;
    driver::compile(&graph, function, &Binding::new(), &Reference, &options, remarks)
}

pub fn compare(name: &str, (function, state): (Function, Vec<TensorType>)) {
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

pub fn kinds(program: &Program) -> Vec<&'static str> {
    program.steps.iter().map(|s| s.kind()).collect()
}
