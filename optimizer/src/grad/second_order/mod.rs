//! Steps that use the curvature, for problems whose loss is a function of the parameters and of data that stay the same
//! from step to step.
//!
//! All trained parameters count as one vector. A step is a function of the module as any other: its loops are in the graph.

mod lbfgs;
mod line_search;
mod newton;

use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dim::Dim;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::expr::{Expr, Scope};
use graphc_ir::fail;
use graphc_ir::graph::{Graph, Node, ValueId};
use graphc_ir::module::{Function, Module, OutputDecl, OutputMark, StateDecl};
use graphc_ir::ops::{Concat, Op, While};
use graphc_ir::types::Infer;

pub use lbfgs::{LBFGS_STEP, Lbfgs, add_lbfgs_step};
pub use newton::{NEWTON_STEP, Newton, add_newton_step};

use super::loss::TARGET;
use super::replay::replay;
use super::spec::{Loss, Mode, TrainingSpec};
use super::{LOSS, canonical, check_names, find_function, forward, gradients, named, read, trained};

/// What a second-order step makes small.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The forward function.
    pub function: String,
    /// The loss.
    pub loss: Loss,
    /// State variables that are trained; `None` for every one of role `param` that the function reads.
    pub wrt: Option<Vec<String>>,
    /// Weight of half the parameters' squares, which is added to the loss.
    pub l2: f64,
}

impl Problem {
    /// The loss as a function of every parameter, without a penalty.
    pub fn new(function: impl Into<String>, loss: Loss) -> Problem {
        Problem { function: function.into(), loss, wrt: None, l2: 0.0 }
    }
}

/// Names of a step's outputs beside the loss.
pub mod outputs {
    /// Euclidean norm of the gradient before the step.
    pub const GRADIENT_NORM: &str = "gradient_norm";
    /// Multiple of the direction that was taken; 0 where no decrease was found.
    pub const STEP_LENGTH: &str = "step_length";
    /// Iterations of the step's inner loop.
    pub const ITERATIONS: &str = "iterations";
}

/// The loss as a function of the data and of one vector.
struct Objective {
    /// Names of the data that the step is fed with.
    inputs: Vec<String>,
    /// Trained variables.
    wrt: Vec<usize>,
    /// Variables that are read and stay as they are.
    others: Vec<usize>,
    /// Element type of the vector.
    dtype: DType,
    /// Number of its elements.
    len: usize,
    /// (data, others, vector) to the loss and its gradient, `[len]`.
    gradient: Graph,
}

impl Objective {
    fn new(
        module: &Module,
        problem: &Problem,
        name: &str,
        new: &dyn Fn(DType, usize) -> Vec<StateDecl>,
    ) -> Result<(Objective, Module)> {
        let spec = TrainingSpec {
            wrt: problem.wrt.clone(),
            mode: Mode::Frozen,
            name: name.into(),
            ..TrainingSpec::new(problem.function.clone(), problem.loss.clone())
        };
        let function = find_function(module, &problem.function)?;
        let wrt = trained(module, function, &spec)?;
        if !function.updates.is_empty() {
            let problem = format!(
                "`{}` updates state, but a second-order step runs it several times",
                problem.function
            );
            return Err(Error::new(problem).help("take a function without updates"));
        }
        if !(problem.l2 >= 0.0 && problem.l2.is_finite()) {
            fail!("`l2` is {}; it must be at least 0", problem.l2);
        }
        let dtype = module.state[wrt[0]].ty.dtype;
        let mut len = 0;
        for i in &wrt {
            let decl = &module.state[*i];
            let Some(shape) = decl.ty.shape() else {
                fail!("`{}` is {}, but a second-order step needs its size as numbers", decl.name, decl.ty);
            };
            if decl.ty.dtype != dtype {
                fail!(
                    "`{}` is {}, but `{}` is {dtype}: all must have one element type",
                    decl.name,
                    decl.ty,
                    module.state[wrt[0]].name
                );
            }
            len += shape.iter().product::<usize>();
        }
        let mut module = module.clone();
        let state = new(dtype, len);
        check_names(&module, function, &spec, &state)?;
        module.state.extend(state);

        let canonical = function.with_graph(canonical(&function.graph)?);
        let mut b = Builder::with_infer(function.graph.infer().clone());
        let outputs = forward::copy(&mut b, &canonical, Mode::Frozen)?.outputs;
        let loss = named(&mut b, LOSS, |b| problem.loss.build(b, (&problem.function, function), &outputs))?;
        let loss = super::replay::canonical(&b.finish(&[loss])?.pruned()?)?;
        let others = others(&loss, &wrt);
        let mut inputs = function.inputs.clone();
        if problem.loss.has_target() {
            inputs.push(TARGET.into());
        }
        let mut objective = Objective { inputs, wrt, others, dtype, len, gradient: Graph::default() };
        objective.gradient = objective.differentiate(&module, &loss, problem.l2)?;
        Ok((objective, module))
    }

    /// (data, others, vector) to the loss and its gradient, in primitive operations: so more of it is found to stay the
    /// same in a loop.
    fn differentiate(&self, module: &Module, loss: &Graph, l2: f64) -> Result<Graph> {
        let mut b = Builder::with_infer(loss.infer().clone());
        let data = b.inputs_like(loss)?;
        let others =
            self.others.iter().map(|i| b.input(module.state[*i].ty.clone())).collect::<Result<Vec<_>>>()?;
        let x = b.input(graphc_ir::types::TensorType::fixed(self.dtype, &[self.len]))?;
        let params = self.parts(&mut b, module, x)?;
        let map = replay(&mut b, loss, |b, _, node, ins| match &node.op {
            Op::Input(input) => Ok(vec![data[input.index]]),
            Op::StateRead(state) => match self.wrt.iter().position(|i| *i == state.index) {
                Some(i) => Ok(vec![params[i]]),
                None => {
                    let i = self.others.iter().position(|i| *i == state.index);
                    Ok(vec![others[i.expect("every variable is in one of the lists")]])
                }
            },
            op => b.op(op.clone(), ins),
        })?;
        let mut value = map[loss.results()[0].index()];
        if l2 != 0.0 {
            let scope = Scope::new(&mut b);
            let x = scope.expr(x);
            let penalty = ((x * x).sum(&[0]) * (0.5 * l2)).cast(scope.expr(value).ty().dtype);
            value = (scope.expr(value) + penalty).id();
            scope.finish()?;
        }
        let gradient = gradients(&mut b, value, &[x])?[0];
        let value = b.cast(value, self.dtype)?;
        crate::expand::expand(&b.finish(&[value, gradient])?.pruned()?)
    }

    /// (data, others, vector, direction) to the Hessian's product with the direction: the directional derivative of the
    /// gradient (Pearlmutter 1994).
    fn hessian_product(&self) -> Result<Graph> {
        let g = &self.gradient;
        let mut b = Builder::with_infer(g.infer().clone());
        let args = b.inputs_like(g)?;
        let x = *args.last().expect("the vector is the last input");
        let direction = b.input(b.ty(x).clone())?;
        let results = b.inline(g, &args)?;
        let product = graphc_ir::autodiff::forward(&mut b, &results[1..], &[x], &[direction])?[0].tangent;
        // Without a tangent the loss is linear.
        let product = product.map_or_else(|| b.zeros_like(x), Ok)?;
        crate::expand::expand(&b.finish(&[product])?.pruned()?)
    }

    /// The vector's parts in the shapes of the parameters.
    fn parts(&self, b: &mut Builder, module: &Module, x: ValueId) -> Result<Vec<ValueId>> {
        let mut at = 0;
        let mut parts = Vec::new();
        for i in &self.wrt {
            let dims = &module.state[*i].ty.dims;
            let len: usize = module.state[*i].ty.static_shape().iter().product();
            let part = b.slice_axis(x, 0, &at.into(), &(at + len).into())?;
            parts.push(b.reshape(part, dims)?);
            at += len;
        }
        Ok(parts)
    }

    /// Begins the step: data, others and the parameters as a vector.
    fn begin(&self, module: &Module) -> Result<(Builder, Vec<ValueId>, ValueId)> {
        let g = &self.gradient;
        let mut b = Builder::with_infer(g.infer().clone());
        let mut args = Vec::new();
        for (name, v) in self.inputs.iter().zip(g.inputs()) {
            args.push(named(&mut b, name, |b| b.input(g.ty(*v).clone()))?);
        }
        for i in &self.others {
            args.push(read(&mut b, &module.state, *i)?);
        }
        let mut parts = Vec::new();
        for i in &self.wrt {
            let param = read(&mut b, &module.state, *i)?;
            let len: usize = module.state[*i].ty.static_shape().iter().product();
            parts.push(b.reshape(param, &[Dim::from(len)])?);
        }
        let x = if parts.len() == 1 { parts[0] } else { b.op1(Concat { axis: 0 }, &parts)? };
        Ok((b, args, x))
    }

    /// Ends the step: the parameters become `x`, further state and outputs are given.
    fn end(
        &self,
        mut b: Builder,
        module: &Module,
        x: ValueId,
        state: &[(usize, ValueId)],
        outputs: &[(&str, ValueId)],
    ) -> Result<Function> {
        let mut updates = Vec::new();
        for (i, part) in self.wrt.iter().zip(self.parts(&mut b, module, x)?) {
            updates.push((*i, part));
        }
        updates.extend(state);
        let results: Vec<ValueId> =
            outputs.iter().map(|(_, v)| *v).chain(updates.iter().map(|(_, v)| *v)).collect();
        let mark = |name: &str| (name == LOSS).then_some(OutputMark::Loss);
        Ok(Function {
            inputs: self.inputs.clone(),
            outputs: outputs
                .iter()
                .map(|(name, _)| OutputDecl { name: (*name).into(), mark: mark(name) })
                .collect(),
            updates: updates.iter().map(|(i, _)| *i).collect(),
            graph: b.finish(&results)?.pruned()?,
        })
    }

    /// What a difference of two losses near `loss` may be wrong by, through rounding.
    fn slack<'s>(&self, loss: Expr<'s>) -> Expr<'s> {
        let epsilon = if self.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        loss.abs() * (10.0 * epsilon)
    }
}

/// The variables that a graph reads besides those trained.
fn others(graph: &Graph, wrt: &[usize]) -> Vec<usize> {
    let read = |(_, node): (_, &Node)| match &node.op {
        Op::StateRead(state) if !wrt.contains(&state.index) => Some(state.index),
        _ => None,
    };
    let mut others: Vec<usize> = graph.nodes().filter_map(read).collect();
    others.sort_unstable();
    others.dedup();
    others
}

/// Appends a while loop. `condition` and `body` get a builder with the counterparts of invariants and carries.
fn while_loop(
    b: &mut Builder,
    invariants: &[ValueId],
    carries: &[ValueId],
    condition: impl FnOnce(&mut Builder, &[ValueId], &[ValueId]) -> Result<ValueId>,
    body: impl FnOnce(&mut Builder, &[ValueId], &[ValueId]) -> Result<Vec<ValueId>>,
) -> Result<Vec<ValueId>> {
    let all = [invariants, carries].concat();
    let types: Vec<_> = all.iter().map(|v| b.ty(*v).clone()).collect();
    let infer: Infer = b.graph().infer().clone();
    let begin = || -> Result<(Builder, Vec<ValueId>)> {
        let mut inner = Builder::with_infer(infer.clone());
        let args = types.iter().map(|ty| inner.input(ty.clone())).collect::<Result<Vec<_>>>()?;
        Ok((inner, args))
    };
    let (mut inner, args) = begin()?;
    let (fixed, moving) = args.split_at(invariants.len());
    let goes_on = condition(&mut inner, fixed, moving)?;
    let condition = Arc::new(inner.finish(&[goes_on])?.pruned()?);
    let (mut inner, args) = begin()?;
    let (fixed, moving) = args.split_at(invariants.len());
    let next = body(&mut inner, fixed, moving)?;
    let body = Arc::new(inner.finish(&next)?.pruned()?);
    b.op(While { condition, body, carries: carries.len() }, &all)
}

/// The inner product of two vectors.
fn dot<'s>(a: Expr<'s>, b: Expr<'s>) -> Expr<'s> {
    (a * b).sum(&[0])
}
