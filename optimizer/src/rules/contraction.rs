//! Sums of products over a loop's iterations become one product after it.
//!
//! The gradient of a loop adds to the gradient of a weight in every iteration: a product with few terms that reads
//! and writes the whole sum. Its factors, stacked, give the same sum as one product with all terms.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::ops::{Dot, Op, Reduce, ReduceKind, Scan};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::{Builder, Dim, TensorType};

use super::{Exactness, Outcome, Rule};

/// Elements that stacked factors may have.
const MAX_ELEMENTS: usize = 1 << 28;

pub(super) static RULES: &[Rule] = &[Rule {
    name: "stack-contraction",
    exactness: Exactness::Rounds,
    apply: |cx, node, ins| {
        let Op::Scan(op) = &node.op else { return Ok(Outcome::No) };
        let Some(length) = op.length.as_const() else { return Ok(Outcome::No) };
        let first_carry = ins.len() - op.carries - op.stacks;
        let Some((carry, term)) = (0..op.carries).find_map(|c| Some((c, term(op, first_carry, c)?))) else {
            return Ok(Outcome::No);
        };
        let factors = term.factors();
        let elements = |v: &ValueId| Some(op.body.ty(*v).shape()?.iter().product::<usize>());
        let all: Option<usize> = factors.iter().map(elements).sum();
        if all.and_then(|n| n.checked_mul(usize::try_from(length).ok()?)).is_none_or(|n| n > MAX_ELEMENTS) {
            return Ok(Outcome::Rejected("the stacked factors are too large"));
        }

        // The loop without the carry, with the factors that are not operands already among its stacks.
        let mut b = Builder::with_infer(op.body.infer().clone());
        let mut args = Vec::new();
        for (i, v) in op.body.inputs().iter().enumerate() {
            let ty = op.body.ty(*v).clone();
            args.push(if i == first_carry + carry {
                // Only the sum looked at it, and that goes.
                let zero = b.scalar(ty.dtype, 0.0)?;
                b.broadcast(zero, &ty.dims, &[])?
            } else {
                b.input(ty)?
            });
        }
        let map = b.inline_all(&op.body, &args)?;
        let mut results: Vec<ValueId> = op.body.results().iter().map(|r| map[r.index()]).collect();
        results.remove(carry);
        let slices = &op.body.inputs()[first_carry + op.carries..];
        let mut places = Vec::new();
        for f in &factors {
            if let Some(k) = slices.iter().position(|s| s == f) {
                places.push(Place::Operand(first_carry + op.carries + k));
                continue;
            }
            let own = results[op.carries - 1..].iter().position(|r| *r == map[f.index()]);
            let place = own.map_or(results.len(), |k| op.carries - 1 + k);
            if own.is_none() {
                results.push(map[f.index()]);
            }
            places.push(Place::Result(place));
        }
        let body = Arc::new(b.finish(&results)?.pruned()?);
        let mut operands = ins.to_vec();
        let initial = operands.remove(first_carry + carry);
        let outs = cx.b.op(Scan { body, carries: op.carries - 1, ..op.clone() }, &operands)?;
        let stacked: Vec<ValueId> = places
            .iter()
            .map(|p| match p {
                Place::Operand(i) => ins[*i],
                Place::Result(i) => outs[*i],
            })
            .collect();
        let sum = term.contracted(cx.b, &stacked)?;
        let total = cx.b.map(ScalarFn::Add, &[initial, sum])?;
        let count = op.body.results().len();
        let replace = (0..count).map(|i| match i.cmp(&carry) {
            std::cmp::Ordering::Less => outs[i],
            std::cmp::Ordering::Equal => total,
            std::cmp::Ordering::Greater => outs[i - 1],
        });
        Ok(Outcome::Replace(replace.collect()))
    },
    examples: &[
        // The product of xᵀ and g, where x is a stack and g is made.
        || weights(Example::Product),
        // The same, transposed.
        || weights(Example::Transposed),
        // A sum over rows of what is stacked already.
        || weights(Example::Bias),
    ],
    counterexamples: &[
        // Another iteration looks at the sum.
        || weights(Example::Watched),
        // What is summed is neither a product nor stacked.
        || weights(Example::Made),
    ],
}];

/// Where a stack of factors is.
enum Place {
    Operand(usize),
    Result(usize),
}

/// What is added to a carry in every iteration.
enum Term {
    /// A product of matrices, perhaps transposed.
    Product { a: Factor, b: Factor, transposed: bool },
    /// A sum over axes of a value.
    Sum { of: [ValueId; 1], axes: Vec<usize> },
}

/// A matrix of the body, and whether the product takes it transposed.
#[derive(Clone, Copy)]
struct Factor {
    value: ValueId,
    transposed: bool,
}

impl Term {
    fn factors(&self) -> Vec<ValueId> {
        match self {
            Term::Product { a, b, .. } => vec![a.value, b.value],
            Term::Sum { of, .. } => of.to_vec(),
        }
    }

    /// The sum over all iterations.
    fn contracted(&self, b: &mut Builder, stacked: &[ValueId]) -> Result<ValueId> {
        match self {
            Term::Product { a, b: second, transposed } => {
                let columns = a.as_rows(b, stacked[0], !a.transposed)?;
                let left = b.transpose(columns, &[1, 0])?;
                let right = second.as_rows(b, stacked[1], second.transposed)?;
                let product = b.op1(Dot {}, &[left, right])?;
                if *transposed { b.transpose(product, &[1, 0]) } else { Ok(product) }
            }
            Term::Sum { axes, .. } => {
                let axes: Vec<usize> = std::iter::once(0).chain(axes.iter().map(|a| a + 1)).collect();
                b.sum(stacked[0], &axes)
            }
        }
    }
}

impl Factor {
    /// The matrices of a stack below each other, each `turned` before.
    fn as_rows(self, b: &mut Builder, stack: ValueId, turned: bool) -> Result<ValueId> {
        let stack = if turned { b.transpose(stack, &[0, 2, 1])? } else { stack };
        let dims = b.ty(stack).dims.clone();
        let rows = dims[0].mul(&dims[1])?;
        b.reshape(stack, &[rows, dims[2].clone()])
    }
}

/// What a body adds to a carry, if it does nothing else with it and the sum can be made after the loop.
fn term(op: &Scan, first_carry: usize, carry: usize) -> Option<Term> {
    let body = &*op.body;
    let (x, y) = (body.inputs()[first_carry + carry], body.results()[carry]);
    let uses = body.use_counts();
    let sum = body.def(y);
    let Op::Map(map) = &sum.op else { return None };
    let looked_at = uses[x.index()] != 1 || uses[y.index()] != 1;
    if map.f != ScalarFn::Add || looked_at || !sum.ins.contains(&x) || sum.ins[0] == sum.ins[1] {
        return None;
    }
    let added = if sum.ins[0] == x { sum.ins[1] } else { sum.ins[0] };
    if !body.ty(added).dtype.is_compute_float() {
        return None;
    }
    let plain = |v: ValueId| match &body.def(v).op {
        Op::Transpose(t) if t.perm == [1, 0] => Factor { value: body.def(v).ins[0], transposed: true },
        _ => Factor { value: v, transposed: false },
    };
    let Factor { value, transposed } = plain(added);
    let node = body.def(value);
    match &node.op {
        Op::Dot(_) if body.ty(value).rank() == 2 && body.ty(node.ins[0]).dtype.is_compute_float() => {
            Some(Term::Product { a: plain(node.ins[0]), b: plain(node.ins[1]), transposed })
        }
        Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, .. }) if !transposed => {
            let of = node.ins[0];
            let stacked = body.results()[op.carries..].contains(&of)
                || body.inputs()[first_carry + op.carries..].contains(&of);
            stacked.then(|| Term::Sum { of: [of], axes: axes.clone() })
        }
        _ => None,
    }
}

/// Loops over x [3, 2] that make g = tanh(x) and sum something of the two.
#[derive(Clone, Copy, PartialEq)]
enum Example {
    Product,
    Transposed,
    Bias,
    Watched,
    Made,
}

fn weights(example: Example) -> Result<Graph> {
    let (rows, cols) = (3, 2);
    let matrix = |m: usize, n: usize| TensorType::fixed(graphc_ir::DType::F32, &[m, n]);
    let sum = match example {
        Example::Bias | Example::Made => TensorType::fixed(graphc_ir::DType::F32, &[cols]),
        _ => matrix(cols, cols),
    };
    let mut body = Builder::new();
    let (s, x) = (body.input(sum.clone())?, body.input(matrix(rows, cols))?);
    let g = body.map(ScalarFn::Tanh, &[x])?;
    let added = match example {
        Example::Bias | Example::Made => body.sum(g, &[0])?,
        _ => {
            let xt = body.transpose(x, &[1, 0])?;
            let product = body.op1(Dot {}, &[xt, g])?;
            if example == Example::Transposed { body.transpose(product, &[1, 0])? } else { product }
        }
    };
    let next = body.map(ScalarFn::Add, &[s, added])?;
    let mut results = vec![next];
    match example {
        Example::Bias => results.push(g),
        Example::Watched => results.push(s),
        _ => {}
    }
    let body = Arc::new(body.finish(&results)?);
    let op =
        Scan { body, carries: 1, stacks: 1, reverse: false, length: Dim::from(4usize), recompute: false };
    let mut b = Builder::new();
    let ins = vec![b.input(sum)?, b.input(TensorType::fixed(graphc_ir::DType::F32, &[4, rows, cols]))?];
    let outs = b.op(op, &ins)?;
    b.finish(&outs)
}
