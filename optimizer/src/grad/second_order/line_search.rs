//! How far to go along a direction.

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::expr::Scope;
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::tensor::Tensor;

use super::{Objective, dot, while_loop};
use crate::grad::hoist::Hoisted;

/// Largest number of steps that are tried.
const TRIES: f64 = 60.0;

/// Where a line search begins.
pub(super) struct Line<'a> {
    /// Data and variables that stay as they are.
    pub args: &'a [ValueId],
    /// The vector.
    pub x: ValueId,
    /// Where to go.
    pub direction: ValueId,
    /// The loss at the vector.
    pub loss: ValueId,
    /// Its derivative along the direction.
    pub slope: ValueId,
    /// The first multiple of the direction that is tried.
    pub first: ValueId,
}

/// Where it ends.
pub(super) struct End {
    /// Multiple of the direction; 0 where none was found.
    pub length: ValueId,
    /// The vector there.
    pub x: ValueId,
    /// The gradient there, where the search computes it.
    pub gradient: Option<ValueId>,
    /// How many multiples were tried.
    pub tries: ValueId,
}

/// The loss alone, of (data, others, vector).
fn value_graph(objective: &Objective) -> Result<Graph> {
    let g = &objective.gradient;
    let mut b = Builder::with_infer(g.infer().clone());
    let args = g.inputs().iter().map(|v| b.input(g.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
    let results = b.inline(g, &args)?;
    b.finish(&results[..1])?.pruned()
}

fn number(b: &mut Builder, dtype: DType, value: Scalar) -> Result<ValueId> {
    b.constant(Tensor::scalar(dtype, value))
}

/// Halves the length until the loss falls by `decrease` times what the slope promises (Armijo 1966).
pub(super) fn backtrack(
    b: &mut Builder,
    objective: &Objective,
    line: &Line<'_>,
    decrease: f64,
) -> Result<End> {
    let value = value_graph(objective)?;
    let hoisted = Hoisted::new(&value, line.args.len());
    let fixed = hoisted.outside(b, line.args)?;
    let invariants = [&[line.x, line.direction, line.loss, line.slope], &fixed[..]].concat();
    // The condition is of the length that was tried last; the first one is tried in the loop as well.
    let carries =
        [line.first, number(b, DType::Bool, Scalar::B(false))?, number(b, DType::I32, Scalar::I(0))?];
    let ended = while_loop(
        b,
        &invariants,
        &carries,
        |b, _, carries| {
            let scope = Scope::new(b);
            let (fits, tries) = (scope.expr(carries[1]), scope.expr(carries[2]));
            let goes_on = fits.eq(fits.zero_like()).and(tries.lt(tries.literal(TRIES))).id();
            scope.finish()?;
            Ok(goes_on)
        },
        |b, fixed, carries| {
            let (length, tries) = (carries[0], carries[2]);
            let one = b.full_like(tries, 1.0)?;
            let zero = b.full_like(tries, 0.0)?;
            let again = b.map(ScalarFn::Gt, &[tries, zero])?;
            let scope = Scope::new(b);
            let length = scope.expr(length);
            let length = scope.expr(again).select(length * 0.5, length);
            let there = (scope.expr(fixed[0]) + length * scope.expr(fixed[1])).id();
            let length = length.id();
            scope.finish()?;
            let found = hoisted.inside(b, &fixed[4..], &[there])?[0];
            let scope = Scope::new(b);
            let (loss, slope) = (scope.expr(fixed[2]), scope.expr(fixed[3]));
            let most = loss + scope.expr(length) * slope * decrease + objective.slack(loss);
            let fits = scope.expr(found).le(most).id();
            let tries = (scope.expr(tries) + scope.expr(one)).id();
            scope.finish()?;
            Ok(vec![length, fits, tries])
        },
    )?;
    let scope = Scope::new(b);
    let length = scope.expr(ended[0]);
    let length = scope.expr(ended[1]).select(length, length.zero_like());
    let x = (scope.expr(line.x) + length * scope.expr(line.direction)).id();
    let length = length.id();
    scope.finish()?;
    Ok(End { length, x, gradient: None, tries: ended[2] })
}

/// Bisects until the loss falls enough and its slope along the direction has become small enough: the strong conditions of
/// Wolfe (Nocedal and Wright 2006, section 3.1, with constants `decrease` and `curvature`), by the bisection of Lewis and
/// Overton (2013) with the upper end moved where the slope is too large as well. The loss at the lower end fulfils the first
/// condition and falls; at the upper end it violates that or rises: between them there is a length that fulfils both.
pub(super) fn strong_wolfe(
    b: &mut Builder,
    objective: &Objective,
    line: &Line<'_>,
    (decrease, curvature): (f64, f64),
) -> Result<End> {
    let hoisted = Hoisted::new(&objective.gradient, line.args.len());
    let fixed = hoisted.outside(b, line.args)?;
    let invariants = [&[line.x, line.direction, line.loss, line.slope], &fixed[..]].concat();
    let dtype = objective.dtype;
    let zero = number(b, dtype, Scalar::F(0.0))?;
    let carries = [
        line.first,
        zero,
        number(b, dtype, Scalar::F(f64::INFINITY))?,
        number(b, DType::Bool, Scalar::B(false))?,
        number(b, DType::I32, Scalar::I(0))?,
        // The length that the gradient belongs to, and the gradient.
        zero,
        b.zeros_like(line.x)?,
    ];
    let ended = while_loop(
        b,
        &invariants,
        &carries,
        |b, _, carries| {
            let scope = Scope::new(b);
            let (fits, tries) = (scope.expr(carries[3]), scope.expr(carries[4]));
            let goes_on = fits.eq(fits.zero_like()).and(tries.lt(tries.literal(TRIES))).id();
            scope.finish()?;
            Ok(goes_on)
        },
        |b, fixed, carries| {
            let scope = Scope::new(b);
            let there = (scope.expr(fixed[0]) + scope.expr(carries[0]) * scope.expr(fixed[1])).id();
            scope.finish()?;
            let found = hoisted.inside(b, &fixed[4..], &[there])?;
            let scope = Scope::new(b);
            let e = |v: &ValueId| scope.expr(*v);
            let (direction, loss, slope) = (e(&fixed[1]), e(&fixed[2]), e(&fixed[3]));
            let (length, low, high, tries) = (e(&carries[0]), e(&carries[1]), e(&carries[2]), e(&carries[4]));
            let steepness = dot(scope.expr(found[1]), direction);
            let falls = scope.expr(found[0]).le(loss + length * slope * decrease + objective.slack(loss));
            let bound = slope * -curvature;
            let flat = steepness.abs().le(bound);
            let fits = falls.and(flat);
            // Where the loss still falls steeply the length is too short, else too long.
            let short = falls.and(steepness.lt(slope * curvature));
            let (low, high) = (short.select(length, low), short.select(high, length));
            let bounded = high.lt(high.literal(f64::INFINITY));
            let middle = (low + bounded.select(high, low)) * 0.5;
            let next = bounded.select(middle, low * 2.0);
            let next = fits.select(length, next);
            let results = [next, low, high, fits, tries + tries.one_like(), length, scope.expr(found[1])]
                .map(|e| e.id());
            scope.finish()?;
            Ok(results.to_vec())
        },
    )?;
    let scope = Scope::new(b);
    let length = scope.expr(ended[5]);
    let length = scope.expr(ended[3]).select(length, length.zero_like());
    let x = (scope.expr(line.x) + length * scope.expr(line.direction)).id();
    let length = length.id();
    scope.finish()?;
    Ok(End { length, x, gradient: Some(ended[6]), tries: ended[4] })
}
