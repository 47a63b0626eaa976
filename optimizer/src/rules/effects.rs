//! What can fail a run stays, and costs little where nothing else is wanted of it.
//!
//! A node that can fail is computed whether or not its result is used ([`Op::can_fail`]). Where it is not used, only
//! what the failure depends on has to be computed: a check's condition, the indices of a lookup.

use graphc_ir::error::Result;
use graphc_ir::graph::ValueId;
use graphc_ir::ops::{Check, Gather, Op, ScatterAdd};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::{Builder, DType, Dim, Tensor};

use super::pattern::example;
use super::{Context, Exactness, Outcome, Rule};

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "unused-check",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Check(_) = &node.op else { return Ok(Outcome::No) };
            if is_used(cx, node.out(0)) || ins[0] == ins[1] {
                return Ok(Outcome::No);
            }
            cx.b.op1(node.op.clone(), &[ins[1], ins[1]])?;
            Ok(Outcome::Replace(vec![stand_in(cx, node.out(0))?]))
        },
        examples: &[|| {
            example(&[&[3]], |b, x| {
                let zero = b.zeros_like(x[0])?;
                let e = b.map(ScalarFn::Exp, &[x[0]])?;
                let holds = b.map(ScalarFn::Ge, &[e, zero])?;
                let log = b.map(ScalarFn::Log, &[e])?;
                let holds = not_nan(b, holds, x[0])?;
                b.op1(Check { message: "e^x is not negative".into() }, &[log, holds])?;
                b.map(ScalarFn::Neg, &[x[0]])
            })
        }],
        counterexamples: &[|| {
            example(&[&[3]], |b, x| {
                let one = b.full_like(x[0], 1.0)?;
                let holds = b.map(ScalarFn::Eq, &[one, one])?;
                b.op1(Check { message: "1 is 1".into() }, &[x[0], holds])
            })
        }],
    },
    Rule {
        // Over no elements a condition of one element would not be looked at.
        name: "check-of-nothing",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Check(_) = &node.op else { return Ok(Outcome::No) };
            let empty = |v: ValueId| cx.b.ty(v).dims.iter().any(|d| d.as_const() == Some(0));
            if !empty(ins[0]) || empty(ins[1]) {
                return Ok(Outcome::No);
            }
            cx.b.op1(node.op.clone(), &[ins[1], ins[1]])?;
            Ok(Outcome::Replace(vec![ins[0]]))
        },
        examples: &[|| {
            example(&[&[0]], |b, x| {
                let yes = b.constant(Tensor::scalar(DType::Bool, Scalar::B(true)))?;
                let checked = b.op1(Check { message: "it holds".into() }, &[x[0], yes])?;
                b.map(ScalarFn::Exp, &[checked])
            })
        }],
        counterexamples: &[|| {
            example(&[&[1]], |b, x| {
                let yes = b.constant(Tensor::scalar(DType::Bool, Scalar::B(true)))?;
                b.op1(Check { message: "it holds".into() }, &[x[0], yes])
            })
        }],
    },
    Rule {
        name: "unused-lookup",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let axis = match &node.op {
                Op::Gather(op) => op.axis,
                Op::ScatterAdd(op) => op.axis,
                _ => return Ok(Outcome::No),
            };
            let size = cx.b.ty(ins[0]).dims[axis].clone();
            if is_used(cx, node.out(0)) || is_stand_in(cx.b, ins[0]) {
                return Ok(Outcome::No);
            }
            if !are_inside(cx.b, ins[1], &size) {
                let zero = cx.b.scalar(cx.b.ty(ins[0]).dtype, 0.0)?;
                let table = cx.b.broadcast(zero, &[size], &[])?;
                cx.b.op1(Gather { axis: 0 }, &[table, ins[1]])?;
            }
            Ok(Outcome::Replace(vec![stand_in(cx, node.out(0))?]))
        },
        examples: &[
            // Indices that are not known.
            || {
                example(&[&[3, 5], &[2]], |b, x| {
                    let i = zeros_of(b, x[1])?;
                    b.op1(Gather { axis: 1 }, &[x[0], i])?;
                    b.map(ScalarFn::Neg, &[x[0]])
                })
            },
            || {
                example(&[&[3, 5], &[2, 5]], |b, x| {
                    let i = zeros_of(b, x[1])?;
                    let i = b.reduce(graphc_ir::ops::ReduceKind::Max, i, &[1])?;
                    b.op1(ScatterAdd { axis: 0 }, &[x[0], i, x[1]])?;
                    b.map(ScalarFn::Neg, &[x[0]])
                })
            },
            // Indices that are inside, whatever the table holds.
            || {
                example(&[&[3, 5]], |b, x| {
                    let i = b.constant(Tensor::from_slice(&[2], &[2i32, 0]))?;
                    b.op1(Gather { axis: 0 }, &[x[0], i])?;
                    b.map(ScalarFn::Neg, &[x[0]])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let i = b.constant(Tensor::from_slice(&[2], &[2i32, 0]))?;
                b.op1(Gather { axis: 0 }, &[x[0], i])
            })
        }],
    },
];

fn is_used(cx: &Context<'_>, v: ValueId) -> bool {
    cx.uses[v.index()] > 0
}

/// Zeros in the place of a result that nobody uses.
fn stand_in(cx: &mut Context<'_>, old: ValueId) -> Result<ValueId> {
    let ty = cx.old.ty(old).clone();
    let zero = cx.b.constant(Tensor::scalar(ty.dtype, Scalar::zero(ty.dtype)))?;
    cx.b.broadcast(zero, &ty.dims, &[])
}

/// Whether a lookup's table holds nothing that its result could be wanted for.
fn is_stand_in(b: &Builder, table: ValueId) -> bool {
    let node = b.graph().def(table);
    let broadcast = matches!(node.op, Op::Broadcast(_));
    broadcast && b.ty(table).rank() == 1 && matches!(b.graph().def(node.ins[0]).op, Op::Const(_))
}

/// Whether indices are constants of which each is below the size.
fn are_inside(b: &Builder, indices: ValueId, size: &Dim) -> bool {
    let (Op::Const(c), Some(size)) = (&b.graph().def(indices).op, size.as_const()) else { return false };
    (0..c.value.len()).all(|i| (0..i128::from(size)).contains(&c.value.get(i).as_int()))
}

/// A condition, or true where x is NaN: what examples check holds for every x.
fn not_nan(b: &mut Builder, holds: ValueId, x: ValueId) -> Result<ValueId> {
    let nan = b.map(ScalarFn::Ne, &[x, x])?;
    b.map(ScalarFn::Or, &[holds, nan])
}

/// As many zeros, as i32, that no rule sees to be zeros.
fn zeros_of(b: &mut Builder, x: ValueId) -> Result<ValueId> {
    let below = b.map(ScalarFn::Lt, &[x, x])?;
    b.cast(below, DType::I32)
}
