//! Recurrent networks: what their cells have in common.
//!
//! Of each layer and direction the operands are w_ih `[in, g*h]`, w_hh `[h, g*h]` and, with biases, b_ih and b_hh
//! `[g*h]`, where g is the cell's number of gates. All of the first layer come first; in a layer the forward
//! direction does.

mod gru;
mod lstm;
mod rnn;
mod samples;

pub use gru::Gru;
pub use lstm::Lstm;
pub use rnn::{Rnn, RnnActivation};

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::check_float;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::ops::{Check, Concat, Iota, Linear, Scan};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

/// Largest number of layers; more are a mistake.
const MAX_LAYERS: usize = 1 << 10;

/// How cells are arranged.
#[derive(Clone, Copy)]
struct Arrangement {
    layers: usize,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
}

impl Arrangement {
    fn directions(self) -> usize {
        1 + usize::from(self.bidirectional)
    }

    /// Cells with weights of their own.
    fn cells(self) -> usize {
        self.layers.saturating_mul(self.directions())
    }

    /// Weights and biases of one cell.
    fn params(self) -> usize {
        if self.bias { 4 } else { 2 }
    }

    /// Operands up to the last weight or bias.
    fn required(self) -> usize {
        self.cells().saturating_mul(self.params()).saturating_add(1)
    }
}

/// What a kind of recurrent network is.
trait Cell {
    /// Name in files.
    const NAME: &'static str;
    /// Parts of a product, each as wide as the state.
    const GATES: usize;
    /// Values that are carried, of which the first is the result.
    const STATES: usize;
    /// Whether the bias of the recurrent product cannot be added to the input's.
    const INNER_BIAS: bool = false;

    fn arrangement(&self) -> Arrangement;

    /// The next states from the input's part, the recurrent product and the states. A gate `k` of either is
    /// `gate(k)`.
    fn step<'s>(&self, input: Gates<'s>, product: Gates<'s>, states: &[Expr<'s>]) -> Vec<Expr<'s>>;
}

/// A value whose columns are the gates, one after another.
#[derive(Clone)]
struct Gates<'s> {
    all: Expr<'s>,
    width: Dim,
}

impl<'s> Gates<'s> {
    /// Columns of gate `k`.
    fn gate(&self, k: usize) -> Expr<'s> {
        self.all.slice(1, &multiple(&self.width, k), &multiple(&self.width, k + 1))
    }

    /// Gates of a sum.
    fn plus(&self, other: &Gates<'s>) -> Gates<'s> {
        Gates { all: self.all + other.all, width: self.width.clone() }
    }
}

/// k * d. Overflow shows where the width is checked.
fn multiple(d: &Dim, k: usize) -> Dim {
    d.mul(&Dim::from(k)).unwrap_or_else(|_| d.clone())
}

/// Number of operands: the weights, then perhaps the initial states, then perhaps the lengths.
fn arity<C: Cell>(cell: &C) -> RangeInclusive<usize> {
    let required = cell.arrangement().required();
    required..=required.saturating_add(C::STATES + 1)
}

/// The operands after the weights: initial states (or none), and lengths.
fn optional<T>(ins: &[T], from: usize, is_int: impl Fn(&T) -> bool) -> (&[T], Option<&T>) {
    match ins[from..].split_last() {
        Some((last, states)) if is_int(last) => (states, Some(last)),
        _ => (&ins[from..], None),
    }
}

/// Axes of time and batch in x and the results.
fn time_and_batch(batch_first: bool) -> (usize, usize) {
    if batch_first { (1, 0) } else { (0, 1) }
}

/// Checks all operands, one by one, so that an error names the one that is wrong.
fn infer<C: Cell>(cell: &C, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
    let (name, a, x) = (C::NAME, cell.arrangement(), &ins[0]);
    check_float(name, x)?;
    if x.rank() != 3 {
        fail!("{name} takes sequences of rank 3, [t, b, i] or with batch_first [b, t, i], but got {x}");
    }
    if a.layers == 0 || a.layers > MAX_LAYERS {
        fail!("{name} has 1 to {MAX_LAYERS} layers, but `layers` is {}", a.layers);
    }
    let (time, batch) = time_and_batch(a.batch_first);
    let (time, batch) = (x.dims[time].clone(), x.dims[batch].clone());
    let is = |i: usize, rank: usize, what: &str| -> Result<&TensorType> {
        let t = &ins[i];
        if t.dtype != x.dtype || t.rank() != rank {
            fail!("operand {i} of {name} is {what}, {} of rank {rank}, but got {t}", x.dtype);
        }
        Ok(t)
    };
    let width = is(2, 2, "the recurrent weights of the first layer")?.dims[0].clone();
    let gates = width.mul(&Dim::from(C::GATES))?;
    for k in 0..a.cells() {
        let first = 1 + k * a.params();
        let inputs =
            if k < a.directions() { x.dims[2].clone() } else { width.mul(&Dim::from(a.directions()))? };
        let weights = is(first, 2, "weights of an input")?;
        cx.eq(&weights.dims[0], &inputs, "weights of an input have a row for each of its elements")?;
        cx.eq(&weights.dims[1], &gates, "weights of an input have a column for each unit of each gate")?;
        let weights = is(first + 1, 2, "recurrent weights")?;
        cx.eq(&weights.dims[0], &width, "recurrent weights have a row for each unit")?;
        cx.eq(&weights.dims[1], &gates, "recurrent weights have a column for each unit of each gate")?;
        for i in first + 2..first + a.params() {
            let bias = is(i, 1, "a bias")?;
            cx.eq(&bias.dims[0], &gates, "a bias has an element for each unit of each gate")?;
        }
    }
    let (states, lengths) = optional(ins, a.required(), |t| t.dtype.is_int());
    if ![0, C::STATES].contains(&states.len()) {
        fail!(
            "{name} takes all of its {} initial states or none, and integer lengths after them, but got {} more operands \
             than weights",
            C::STATES,
            ins.len() - a.required()
        );
    }
    let state = TensorType::new(x.dtype, vec![Dim::from(a.cells()), batch.clone(), width.clone()]);
    for i in 0..states.len() {
        let found = is(a.required() + i, 3, "an initial state")?;
        cx.same(&found.dims, &state.dims, "an initial state is [layers * directions, b, h]")?;
    }
    if let Some(lengths) = lengths {
        if !matches!(lengths.dtype, DType::I32 | DType::I64) || lengths.rank() != 1 {
            fail!("lengths of sequences are i32 or i64, one a sequence, but got {lengths}");
        }
        cx.eq(&lengths.dims[0], &batch, "there is one length for each sequence")?;
    }
    let mut y = if a.batch_first { vec![batch, time] } else { vec![time, batch] };
    y.push(width.mul(&Dim::from(a.directions()))?);
    let mut outs = vec![TensorType::new(x.dtype, y)];
    outs.extend((0..C::STATES).map(|_| state.clone()));
    Ok(outs)
}

/// All layers: for each cell one product of all its inputs, and a loop with the recurrent product.
fn expand<C: Cell>(cell: &C, b: &mut Builder, ins: &[ValueId]) -> Result<Vec<ValueId>> {
    let a = cell.arrangement();
    let turn = |b: &mut Builder, v| if a.batch_first { b.transpose(v, &[1, 0, 2]) } else { Ok(v) };
    let mut x = turn(b, ins[0])?;
    let (states, lengths) = optional(ins, a.required(), |v| b.ty(*v).dtype.is_int());
    let valid = lengths.map(|l| valid(b, x, *l)).transpose()?;
    let mut finals: Vec<Vec<ValueId>> = vec![Vec::new(); C::STATES];
    for layer in 0..a.layers {
        let mut ys = Vec::new();
        for direction in 0..a.directions() {
            let k = layer * a.directions() + direction;
            let params = &ins[1 + k * a.params()..][..a.params()];
            let start = initial::<C>(b, x, params[1], states, k)?;
            let sequence = Sequence { x, valid, reverse: direction == 1 };
            let mut outs = run(cell, b, &sequence, params, &start)?;
            ys.extend(outs.pop());
            for (all, last) in finals.iter_mut().zip(outs) {
                let dims = [&[Dim::from(1usize)], &b.ty(last).dims[..]].concat();
                all.push(b.reshape(last, &dims)?);
            }
        }
        x = joined(b, &ys, 2)?;
    }
    let mut outs = vec![turn(b, x)?];
    for all in finals {
        outs.push(joined(b, &all, 0)?);
    }
    Ok(outs)
}

fn joined(b: &mut Builder, parts: &[ValueId], axis: usize) -> Result<ValueId> {
    if let [one] = parts { Ok(*one) } else { b.op1(Concat { axis }, parts) }
}

/// Whether a step is part of a sequence, bool `[t, b]`; fails the run for lengths outside 0..=t.
fn valid(b: &mut Builder, x: ValueId, lengths: ValueId) -> Result<ValueId> {
    let dims = b.ty(x).dims[..2].to_vec();
    let dtype = b.ty(lengths).dtype;
    let time = b.count(&dims[..1], dtype)?;
    let (time, zero) = (b.broadcast(time, &dims[1..], &[])?, b.zeros_like(lengths)?);
    let low = b.map(ScalarFn::Ge, &[lengths, zero])?;
    let high = b.map(ScalarFn::Le, &[lengths, time])?;
    let fine = b.map(ScalarFn::And, &[low, high])?;
    let message = format!("the length of a sequence is outside 0..={}", dims[0]);
    let lengths = b.op1(Check { message }, &[lengths, fine])?;
    let step = b.op1(Iota { dtype, dims: dims.clone(), axis: 0 }, &[])?;
    let lengths = b.broadcast(lengths, &dims, &[1])?;
    b.map(ScalarFn::Lt, &[step, lengths])
}

/// The states `[b, h]` that cell `k` starts from.
fn initial<C: Cell>(
    b: &mut Builder,
    x: ValueId,
    w_hh: ValueId,
    states: &[ValueId],
    k: usize,
) -> Result<Vec<ValueId>> {
    let dims = [b.ty(x).dims[1].clone(), b.ty(w_hh).dims[0].clone()];
    if states.is_empty() {
        let zero = b.scalar(b.ty(x).dtype, 0.0)?;
        let zeros = b.broadcast(zero, &dims, &[])?;
        return Ok(vec![zeros; C::STATES]);
    }
    let row = |b: &mut Builder, v: &ValueId| {
        let row = b.slice_axis(*v, 0, &k.into(), &(k + 1).into())?;
        b.reshape(row, &dims)
    };
    states.iter().map(|v| row(b, v)).collect()
}

/// What one cell goes over.
struct Sequence {
    /// `[t, b, i]`.
    x: ValueId,
    /// Which steps count, `[t, b]`.
    valid: Option<ValueId>,
    /// Whether the last step comes first. Steps that do not count leave the state as it is, so that each
    /// sequence starts at its own end.
    reverse: bool,
}

/// One cell over all steps: the final states, and the results `[t, b, h]`.
fn run<C: Cell>(
    cell: &C,
    b: &mut Builder,
    sequence: &Sequence,
    params: &[ValueId],
    start: &[ValueId],
) -> Result<Vec<ValueId>> {
    let (w_ih, w_hh) = (params[0], params[1]);
    let (bias, inner) = match params[2..] {
        [b_ih, b_hh] if C::INNER_BIAS => (Some(b_ih), Some(b_hh)),
        [b_ih, b_hh] => (Some(b.map(ScalarFn::Add, &[b_ih, b_hh])?), None),
        _ => (None, None),
    };
    let operands: Vec<ValueId> = [sequence.x, w_ih].into_iter().chain(bias).collect();
    let inputs = b.op1(Linear {}, &operands)?;

    let mut body = Builder::with_infer(b.graph().infer().clone());
    let invariants: Vec<ValueId> = [w_hh].into_iter().chain(inner).collect();
    let kept = invariants.iter().map(|v| body.input(b.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
    let states = start.iter().map(|v| body.input(b.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
    let stacks: Vec<ValueId> = [inputs].into_iter().chain(sequence.valid).collect();
    let slices = stacks
        .iter()
        .map(|v| body.input(TensorType::new(b.ty(*v).dtype, &b.ty(*v).dims[1..])))
        .collect::<Result<Vec<_>>>()?;
    let results = iteration(cell, &mut body, &kept, &states, &slices)?;
    let op = Scan {
        body: Arc::new(body.finish(&results)?),
        carries: C::STATES,
        stacks: stacks.len(),
        reverse: sequence.reverse,
        length: b.ty(sequence.x).dims[0].clone(),
        recompute: false,
    };
    b.op(op, &[&invariants[..], start, &stacks].concat())
}

/// The loop's body: the next states, and the result.
fn iteration<C: Cell>(
    cell: &C,
    body: &mut Builder,
    kept: &[ValueId],
    states: &[ValueId],
    slices: &[ValueId],
) -> Result<Vec<ValueId>> {
    let product = match kept[1..] {
        [bias] => body.op1(Linear {}, &[states[0], kept[0], bias])?,
        _ => body.matmul(states[0], kept[0])?,
    };
    let width = body.ty(states[0]).dims[1].clone();
    let scope = Scope::new(body);
    let states: Vec<Expr<'_>> = states.iter().map(|v| scope.expr(*v)).collect();
    let gates = |v: ValueId| Gates { all: scope.expr(v), width: width.clone() };
    let mut results = cell.step(gates(slices[0]), gates(product), &states);
    let mut y = results[0];
    if let Some(valid) = slices.get(1) {
        let valid = scope.expr(*valid).unreduce(y, &[1]);
        for (next, old) in results.iter_mut().zip(&states) {
            *next = valid.select(*next, *old);
        }
        y = valid.select(y, y.zero_like());
    }
    let results = results.into_iter().chain([y]).map(Expr::id).collect();
    scope.finish()?;
    Ok(results)
}

/// Two operations for each weight, step and sequence.
fn flops<C: Cell>(cell: &C, ins: &[TensorType]) -> Option<f64> {
    let (a, x) = (cell.arrangement(), ins[0].shape()?);
    let steps = (x[0] * x[1]) as f64;
    let weights = ins[1..a.required()].iter().filter(|t| t.rank() == 2);
    let elements = weights.map(|t| t.shape().map(|s| (s[0] * s[1]) as f64)).sum::<Option<f64>>()?;
    Some(2.0 * steps * elements)
}

/// Implements an operation by its [`Cell`].
macro_rules! recurrent {
    ($t:ident, $name:literal, $signature:expr, $doc:expr, $samples:expr) => {
        impl OpDef for $t {
            const NAME: &'static str = $name;
            const SIGNATURE: &'static str = $signature;
            const DOC: &'static str = $doc;
            const ARITY: RangeInclusive<usize> = 3..=usize::MAX;

            fn arity(&self) -> RangeInclusive<usize> {
                super::arity(self)
            }

            fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
                super::infer(self, ins, cx)
            }

            fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
                Ok(Vjp::Expand)
            }

            fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
                Ok(Some(super::expand(self, b, ins)?))
            }

            fn flops(&self, ins: &[TensorType], _: &[TensorType]) -> Option<f64> {
                super::flops(self, ins)
            }

            fn samples() -> Vec<Sample> {
                $samples
            }
        }
    };
}

use recurrent;
