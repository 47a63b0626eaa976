//! Newton's method with conjugate gradients.

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::expr::Scope;
use graphc_ir::graph::ValueId;
use graphc_ir::module::Module;
use graphc_ir::scalar::Scalar;
use graphc_ir::tensor::Tensor;

use super::line_search::{Line, backtrack};
use super::{Objective, Problem, dot, outputs, while_loop};
use crate::grad::LOSS;
use crate::grad::hoist::Hoisted;
use crate::grad::parameters::{Parameters, Range, parameters};

parameters! {
    /// Newton's method whose equation H p = -g is solved by conjugate gradients until the rest is at most
    /// min(forcing, √|g|) |g|, which makes the convergence superlinear, or a direction of negative curvature is met; then
    /// p is halved until the loss falls enough (Nocedal and Wright 2006, algorithm 7.1).
    Newton "newton_cg" {
        /// Largest rest of the equation, relative to the gradient.
        forcing: f64 = 0.5, Range::BETWEEN;
        /// Largest number of products with the Hessian in a step.
        iterations: u32 = 500, Range::COUNT;
        /// What share of the decrease that the slope promises must come true.
        decrease: f64 = 1e-4, Range::BETWEEN;
    }
}

/// Name of the function that [`add_newton_step`] adds.
pub const NEWTON_STEP: &str = "newton_step";

/// The module with a function [`NEWTON_STEP`] of the forward function's inputs and perhaps the target, which takes one step of
/// Newton's method. Its outputs are the loss and the [`outputs::GRADIENT_NORM`] before the step, the
/// [`outputs::STEP_LENGTH`] and, as [`outputs::ITERATIONS`], the number of products with the Hessian. It adds no state.
///
/// # Errors
/// Those of [`add_training`](crate::grad::add_training), a function that updates state, parameters of several element types
/// or without known sizes, and operations without second derivatives.
pub fn add_newton_step(module: &Module, problem: &Problem, newton: &Newton) -> Result<Module> {
    newton.validate()?;
    let (objective, mut module) = Objective::new(module, problem, NEWTON_STEP, &|_, _| Vec::new())?;
    let (mut b, args, x) = objective.begin(&module)?;
    let found = b.inline(&objective.gradient, &[&args[..], &[x]].concat())?;
    let (loss, gradient) = (found[0], found[1]);
    let (direction, iterations) = newton.direction(&mut b, &objective, &args, (x, gradient))?;
    let scope = Scope::new(&mut b);
    let g = scope.expr(gradient);
    let norm = dot(g, g).sqrt().id();
    let slope = dot(g, scope.expr(direction)).id();
    let first = scope.expr(slope).one_like().id();
    scope.finish()?;
    let line = Line { args: &args, x, direction, loss, slope, first };
    let end = backtrack(&mut b, &objective, &line, newton.decrease)?;
    let results = [
        (LOSS, loss),
        (outputs::GRADIENT_NORM, norm),
        (outputs::STEP_LENGTH, end.length),
        (outputs::ITERATIONS, iterations),
    ];
    let function = objective.end(b, &module, end.x, &[], &results)?;
    module.functions.insert(NEWTON_STEP.into(), function);
    Ok(module)
}

impl Newton {
    /// The direction, and how many products with the Hessian it took.
    fn direction(
        &self,
        b: &mut Builder,
        objective: &Objective,
        args: &[ValueId],
        (x, gradient): (ValueId, ValueId),
    ) -> Result<(ValueId, ValueId)> {
        let product = objective.hessian_product()?;
        let hoisted = Hoisted::new(&product, args.len() + 1);
        let fixed = hoisted.outside(b, &[args, &[x]].concat())?;

        let none = b.constant(Tensor::scalar(DType::I32, Scalar::I(0)))?;
        let scope = Scope::new(b);
        let g = scope.expr(gradient);
        let square = dot(g, g);
        let share = square.sqrt().sqrt().min(square.literal(self.forcing));
        let limit = square * share * share;
        let done = square.le(limit).id();
        let (solution, first) = (g.zero_like().id(), (-g).id());
        let (square, limit) = (square.id(), limit.id());
        scope.finish()?;
        // Solution, rest H z + g, direction, square of the rest, count, end.
        let carries = [solution, gradient, first, square, none, done];
        let ended = while_loop(
            b,
            &[&[limit], &fixed[..]].concat(),
            &carries,
            |b, _, carries| {
                let scope = Scope::new(b);
                let (count, done) = (scope.expr(carries[4]), scope.expr(carries[5]));
                let goes_on =
                    done.eq(done.zero_like()).and(count.lt(count.literal(f64::from(self.iterations)))).id();
                scope.finish()?;
                Ok(goes_on)
            },
            |b, fixed, carries| {
                let product = hoisted.inside(b, &fixed[1..], &[carries[2]])?[0];
                let scope = Scope::new(b);
                let [z, rest, d, square, count] =
                    [carries[0], carries[1], carries[2], carries[3], carries[4]].map(|v| scope.expr(v));
                let product = scope.expr(product);
                let curvature = dot(d, product);
                let curved = curvature.gt(curvature.zero_like());
                let length = curved
                    .select(square / curved.select(curvature, curvature.one_like()), square.zero_like());
                // Against the curvature one goes nowhere, or down the gradient if that was the first direction.
                let first = count.eq(count.zero_like());
                let otherwise = first.cast(z.ty().dtype) * d;
                let z = curved.select(z + length * d, curved.select(z, z + otherwise));
                let rest = rest + length * product;
                let next = dot(rest, rest);
                let ratio = curved.select(next / square, square.zero_like());
                let done = next.le(scope.expr(fixed[0])).or(curved.eq(curved.zero_like()));
                let results =
                    [z, rest, ratio * d - rest, next, count + count.one_like(), done].map(|e| e.id());
                scope.finish()?;
                Ok(results.to_vec())
            },
        )?;
        Ok((ended[0], ended[4]))
    }
}
