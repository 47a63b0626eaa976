//! The quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno with limited memory.

use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dim::Dim;
use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::expr::Scope;
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::module::{Module, StateDecl, StateRole};
use graphc_ir::ops::{Concat, Scan};
use graphc_ir::tensor::Tensor;
use graphc_ir::types::TensorType;

use super::line_search::{Line, strong_wolfe};
use super::{Objective, Problem, dot, outputs};
use crate::grad::parameters::{Parameters, Range, parameters};
use crate::grad::{LOSS, read};

parameters! {
    /// L-BFGS: the direction is minus the gradient times an approximation of the inverse Hessian by the last `history` steps
    /// (Nocedal 1980; Nocedal and Wright 2006, algorithm 7.4), the length fulfils the strong conditions of Wolfe.
    Lbfgs "lbfgs" {
        /// Number of steps that are remembered.
        history: u32 = 10, Range::COUNT;
        /// What share of the decrease that the slope promises must come true.
        decrease: f64 = 1e-4, Range::BETWEEN;
        /// What share of the slope may be left.
        curvature: f64 = 0.9, Range::BETWEEN;
    }
}

/// Name of the function that [`add_lbfgs_step`] adds.
pub const LBFGS_STEP: &str = "lbfgs_step";

/// The steps that are remembered, oldest first: their differences of the vector, f`[history,n]`, and of the gradient, and the
/// reciprocals of the products of both, f`[history]`, 0 where there is none yet.
const STEPS: [&str; 3] = ["lbfgs.steps", "lbfgs.changes", "lbfgs.reciprocals"];

/// The module with a function [`LBFGS_STEP`] of the forward function's inputs and perhaps the target, which takes one step.
/// Its outputs are the loss and the [`outputs::GRADIENT_NORM`] before the step, the [`outputs::STEP_LENGTH`] and, as
/// [`outputs::ITERATIONS`], the number of lengths that were tried. New state of role `slot`: `lbfgs.steps`,
/// `lbfgs.changes` and `lbfgs.reciprocals`, zeros at first.
///
/// # Errors
/// Those of [`add_training`](crate::grad::add_training), a function that updates state, and parameters of several element
/// types or without known sizes.
pub fn add_lbfgs_step(module: &Module, problem: &Problem, lbfgs: &Lbfgs) -> Result<Module> {
    lbfgs.validate()?;
    let (objective, mut module) =
        Objective::new(module, problem, LBFGS_STEP, &|dtype, len| lbfgs.state(dtype, len))?;
    let place = |name: &str| module.state_index(name).expect("it was declared");
    let places = STEPS.map(place);
    let (mut b, args, x) = objective.begin(&module)?;
    let memory = places.map(|i| read(&mut b, &module.state, i));
    let [steps, changes, reciprocals] = memory;
    let memory = Memory { steps: steps?, changes: changes?, reciprocals: reciprocals? };

    let found = b.inline(&objective.gradient, &[&args[..], &[x]].concat())?;
    let (loss, gradient) = (found[0], found[1]);
    let direction = memory.direction(&mut b, gradient, lbfgs.history as usize)?;
    let last = b.slice_axis(
        memory.reciprocals,
        0,
        &(lbfgs.history as usize - 1).into(),
        &(lbfgs.history as usize).into(),
    )?;
    let scope = Scope::new(&mut b);
    let g = scope.expr(gradient);
    let norm = dot(g, g).sqrt();
    let slope = dot(g, scope.expr(direction)).id();
    // Without a memory the gradient has no scale: the first step is at most 1 long.
    let some = scope.expr(last).sum(&[0]).gt(norm.zero_like());
    let short =
        (norm.one_like() / norm.max(norm.one_like() * f64::from(f32::MIN_POSITIVE))).min(norm.one_like());
    let first = some.select(norm.one_like(), short).id();
    let norm = norm.id();
    scope.finish()?;

    let line = Line { args: &args, x, direction, loss, slope, first };
    let end = strong_wolfe(&mut b, &objective, &line, (lbfgs.decrease, lbfgs.curvature))?;
    let new = end.gradient.expect("this search computes it");
    let next = memory.with(&mut b, (x, end.x), (gradient, new), end.length)?;
    let state = [(places[0], next.steps), (places[1], next.changes), (places[2], next.reciprocals)];
    let results = [
        (LOSS, loss),
        (outputs::GRADIENT_NORM, norm),
        (outputs::STEP_LENGTH, end.length),
        (outputs::ITERATIONS, end.tries),
    ];
    let function = objective.end(b, &module, end.x, &state, &results)?;
    module.functions.insert(LBFGS_STEP.into(), function);
    Ok(module)
}

impl Lbfgs {
    fn state(&self, dtype: DType, len: usize) -> Vec<StateDecl> {
        let history = self.history as usize;
        let shapes = [vec![history, len], vec![history, len], vec![history]];
        let decl = |(name, shape): (&str, Vec<usize>)| StateDecl {
            name: name.into(),
            role: StateRole::Slot,
            ty: TensorType::fixed(dtype, &shape),
            init: Some(Arc::new(Tensor::zeros(dtype, &shape))),
        };
        STEPS.into_iter().zip(shapes).map(decl).collect()
    }
}

/// The remembered steps: see [`STEPS`].
struct Memory {
    steps: ValueId,
    changes: ValueId,
    reciprocals: ValueId,
}

impl Memory {
    /// Minus the approximate inverse Hessian times the gradient, by the recursion of two loops. A step that is not there
    /// has zeros everywhere and changes nothing.
    fn direction(&self, b: &mut Builder, gradient: ValueId, history: usize) -> Result<ValueId> {
        let ty = b.ty(gradient).clone();
        let length = Dim::from(history);
        let back = Scan {
            body: Arc::new(backward_body(&ty)?),
            carries: 1,
            stacks: 3,
            reverse: true,
            length: length.clone(),
            recompute: false,
        };
        let found = b.op(back, &[gradient, self.steps, self.changes, self.reciprocals])?;
        let (q, alphas) = (found[0], found[1]);
        // The scale of the last step, sᵀy / yᵀy, or 1.
        let last = |b: &mut Builder, v: ValueId| b.slice_axis(v, 0, &(history - 1).into(), &history.into());
        let (change, reciprocal) = (last(b, self.changes)?, last(b, self.reciprocals)?);
        let scope = Scope::new(b);
        let (y, reciprocal) = (scope.expr(change), scope.expr(reciprocal).sum(&[0]));
        let some = reciprocal.gt(reciprocal.zero_like());
        let square = some.select((y * y).sum(&[0, 1]) * reciprocal, reciprocal.one_like());
        let q = (scope.expr(q) / square).id();
        scope.finish()?;
        let forth = Scan {
            body: Arc::new(forward_body(&ty)?),
            carries: 1,
            stacks: 4,
            reverse: false,
            length,
            recompute: false,
        };
        let z = b.op1(forth, &[q, self.steps, self.changes, self.reciprocals, alphas])?;
        let scope = Scope::new(b);
        let direction = (-scope.expr(z)).id();
        scope.finish()?;
        Ok(direction)
    }

    /// The memory with one step more and the oldest forgotten, unless the step was none or shows no curvature.
    fn with(
        &self,
        b: &mut Builder,
        (x, x_next): (ValueId, ValueId),
        (g, g_next): (ValueId, ValueId),
        length: ValueId,
    ) -> Result<Memory> {
        let scope = Scope::new(b);
        let step = scope.expr(x_next) - scope.expr(x);
        let change = scope.expr(g_next) - scope.expr(g);
        let product = dot(step, change);
        let length = scope.expr(length);
        let counts = length.gt(length.zero_like()).and(product.gt(product.zero_like()));
        let reciprocal =
            counts.select(product.one_like() / counts.select(product, product.one_like()), product);
        let row = |e: graphc_ir::expr::Expr<'_>| {
            let mut dims = e.ty().dims;
            dims.insert(0, Dim::from(1usize));
            e.reshape(&dims).id()
        };
        let (rows, counts) = ([row(step), row(change), row(reciprocal)], counts.id());
        scope.finish()?;
        let mut next = Vec::new();
        for (old, new) in [self.steps, self.changes, self.reciprocals].into_iter().zip(rows) {
            let history = b.ty(old).dims[0].clone();
            let rest = b.slice_axis(old, 0, &1usize.into(), &history)?;
            let shifted = b.op1(Concat { axis: 0 }, &[rest, new])?;
            let scope = Scope::new(b);
            next.push(scope.expr(counts).select(scope.expr(shifted), scope.expr(old)).id());
            scope.finish()?;
        }
        Ok(Memory { steps: next[0], changes: next[1], reciprocals: next[2] })
    }
}

/// From the last step to the first: (q, s, y, ρ) to q - α y and α = ρ sᵀq.
fn backward_body(vector: &TensorType) -> Result<Graph> {
    let mut b = Builder::new();
    let inputs = [vector.clone(), vector.clone(), vector.clone(), TensorType::new(vector.dtype, [])];
    let ids = inputs.into_iter().map(|ty| b.input(ty)).collect::<Result<Vec<_>>>()?;
    let scope = Scope::new(&mut b);
    let [q, s, y, reciprocal] = [ids[0], ids[1], ids[2], ids[3]].map(|v| scope.expr(v));
    let alpha = reciprocal * dot(s, q);
    let results = [(q - alpha * y).id(), alpha.id()];
    scope.finish()?;
    b.finish(&results)?.pruned()
}

/// From the first step to the last: (z, s, y, ρ, α) to z + (α - ρ yᵀz) s.
fn forward_body(vector: &TensorType) -> Result<Graph> {
    let mut b = Builder::new();
    let number = TensorType::new(vector.dtype, []);
    let inputs = [vector.clone(), vector.clone(), vector.clone(), number.clone(), number];
    let ids = inputs.into_iter().map(|ty| b.input(ty)).collect::<Result<Vec<_>>>()?;
    let scope = Scope::new(&mut b);
    let [z, s, y, reciprocal, alpha] = [ids[0], ids[1], ids[2], ids[3], ids[4]].map(|v| scope.expr(v));
    let next = (z + (alpha - reciprocal * dot(y, z)) * s).id();
    scope.finish()?;
    b.finish(&[next])?.pruned()
}
