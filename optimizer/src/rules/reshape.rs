//! Reshapes sink below elementwise work and folds.
//!
//! A product of matrices has its rows in one dim; the work on its result that is written for images or sequences has
//! them in several. Fusion renames axes but splits none, so that the reshape between them would keep the two apart.
//! Moved below, the work is done in the product's shape, and reshapes between one product and the next cancel.

use std::ops::Range;

use graphc_ir::error::Result;
use graphc_ir::ops::{Broadcast, Iota, Moments, Op, Reduce, ReduceKind};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::{Dim, ValueId};

use crate::fuse::anchor::is_anchor;

use super::pattern::{dims, example, literal};
use super::{Context, Exactness, Outcome, Rule};

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "sink-reshape",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            if !matches!(node.op, Op::Map(_) | Op::Cast(_)) {
                return Ok(Outcome::No);
            }
            let Some(shape) = ins.iter().find_map(|v| inner_shape(cx, *v)) else { return Ok(Outcome::No) };
            let outer = cx.b.ty(ins[0]).static_shape();
            let Some(runs) = runs(&shape, &outer) else { return Ok(Outcome::No) };
            let fits: Vec<Fit> = ins.iter().map(|v| fit(cx, *v, &shape, &runs)).collect();
            let count = |wanted: fn(&Fit) -> bool| fits.iter().filter(|fit| wanted(fit)).count();
            if count(|fit| matches!(fit, Fit::Reshaped)) > count(|fit| matches!(fit, Fit::Same)) {
                return Ok(Outcome::Rejected("more operands would be reshaped than are now"));
            }
            let whole = dims(&shape);
            let operands = ins.iter().zip(&fits).map(|(v, fit)| in_shape(cx, *v, fit, &whole));
            let operands = operands.collect::<Result<Vec<_>>>()?;
            let y = cx.b.op1(node.op.clone(), &operands)?;
            Ok(Outcome::Replace(vec![cx.b.reshape(y, &dims(&outer))?]))
        },
        examples: &[
            // Of one operand.
            || {
                example(&[&[6, 5]], |b, x| {
                    let product = b.map(ScalarFn::Exp, &[x[0]])?;
                    let y = b.reshape(product, &dims(&[2, 3, 5]))?;
                    let y = b.map(ScalarFn::Neg, &[y])?;
                    b.transpose(y, &[1, 0, 2])
                })
            },
            // Of two, and with a literal.
            || {
                example(&[&[6, 5], &[6, 5]], |b, x| {
                    let (p, q) = (b.map(ScalarFn::Exp, &[x[0]])?, b.map(ScalarFn::Neg, &[x[1]])?);
                    let (p, q) = (b.reshape(p, &dims(&[2, 3, 5]))?, b.reshape(q, &dims(&[2, 3, 5]))?);
                    let two = b.full_like(p, 2.0)?;
                    let p = b.map(ScalarFn::Sub, &[two, p])?;
                    let y = b.map(ScalarFn::Sub, &[p, q])?;
                    b.transpose(y, &[1, 0, 2])
                })
            },
            // With a value a column, a value a row, and the number of the column.
            || {
                example(&[&[6, 5], &[5], &[2, 3]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    let column = b.broadcast(x[1], &dims(&[2, 3, 5]), &[2])?;
                    let row = b.broadcast(x[2], &dims(&[2, 3, 5]), &[0, 1])?;
                    let iota =
                        b.op1(Iota { dtype: graphc_ir::DType::F32, dims: dims(&[2, 3, 5]), axis: 2 }, &[])?;
                    let p = b.map(ScalarFn::Sub, &[p, column])?;
                    let p = b.map(ScalarFn::Sub, &[row, p])?;
                    let y = b.map(ScalarFn::Mul, &[p, iota])?;
                    b.transpose(y, &[1, 0, 2])
                })
            },
            // With an operand of the outer shape.
            || {
                example(&[&[6, 5], &[2, 3, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    let y = b.map(ScalarFn::Sub, &[x[1], p])?;
                    b.transpose(y, &[1, 0, 2])
                })
            },
        ],
        counterexamples: &[
            // An input may as well be read in the outer shape.
            || {
                example(&[&[6, 5], &[2, 3, 5]], |b, x| {
                    let p = b.reshape(x[0], &dims(&[2, 3, 5]))?;
                    b.map(ScalarFn::Sub, &[x[1], p])
                })
            },
            // More dims become fewer.
            || {
                example(&[&[2, 3, 5], &[6, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[6, 5]))?;
                    b.map(ScalarFn::Sub, &[x[1], p])
                })
            },
            // Fusion sees through dims of size 1.
            || {
                example(&[&[6, 5], &[6, 1, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[6, 1, 5]))?;
                    b.map(ScalarFn::Sub, &[x[1], p])
                })
            },
            // Two operands would be reshaped instead of one.
            || {
                example(&[&[6, 5], &[2, 3, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    let less = b.map(ScalarFn::Lt, &[x[1], x[1]])?;
                    b.map(ScalarFn::Select, &[less, x[1], p])
                })
            },
        ],
    },
    Rule {
        name: "fold-of-reshape",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            let axes = match &node.op {
                Op::Reduce(op) => &op.axes,
                Op::Moments(op) => &op.axes,
                _ => return Ok(Outcome::No),
            };
            let Some(shape) = inner_shape(cx, ins[0]) else { return Ok(Outcome::No) };
            let outer = cx.b.ty(ins[0]).static_shape();
            let Some(runs) = runs(&shape, &outer) else { return Ok(Outcome::No) };
            let Some(axes) = inner_axes(&runs, axes, &outer) else {
                return Ok(Outcome::Rejected("it folds a part of what the reshape joins"));
            };
            if axes.is_empty() {
                return Ok(Outcome::No);
            }
            let x = cx.b.graph().def(ins[0]).ins[0];
            let outs = match &node.op {
                Op::Reduce(op) => cx.b.op(Reduce { kind: op.kind, axes }, &[x])?,
                _ => cx.b.op(Moments { axes }, &[x])?,
            };
            let old: Vec<Vec<Dim>> = node.outs().map(|o| cx.old.ty(o).dims.clone()).collect();
            let reshaped = outs.into_iter().zip(old).map(|(v, dims)| cx.b.reshape(v, &dims));
            Ok(Outcome::Replace(reshaped.collect::<Result<Vec<_>>>()?))
        },
        examples: &[
            // Columns that the reshape leaves alone.
            || {
                example(&[&[6, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    b.reduce(ReduceKind::Sum, p, &[2])
                })
            },
            // All rows that it splits.
            || {
                example(&[&[6, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    b.reduce(ReduceKind::Max, p, &[0, 1])
                })
            },
            // Two results.
            || {
                example(&[&[6, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    let m = b.op(Moments { axes: vec![2] }, &[p])?;
                    b.map(ScalarFn::Sub, &[m[0], m[1]])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[6, 5]], |b, x| {
                    let p = b.map(ScalarFn::Exp, &[x[0]])?;
                    let p = b.reshape(p, &dims(&[2, 3, 5]))?;
                    b.reduce(ReduceKind::Sum, p, &[1])
                })
            },
            || {
                example(&[&[6, 5]], |b, x| {
                    let p = b.reshape(x[0], &dims(&[2, 3, 5]))?;
                    b.reduce(ReduceKind::Sum, p, &[2])
                })
            },
        ],
    },
];

/// Neighbouring dims of two shapes that hold the same elements.
struct Run {
    inner: Range<usize>,
    outer: Range<usize>,
}

/// The shortest runs that two shapes of the same elements fall into; `None` if they have none.
fn runs(inner: &[usize], outer: &[usize]) -> Option<Vec<Run>> {
    if inner.contains(&0) || inner.is_empty() || outer.is_empty() {
        return None;
    }
    let mut runs: Vec<Run> = Vec::new();
    let (mut i, mut o) = (0, 0);
    while i < inner.len() && o < outer.len() {
        let (first_inner, first_outer) = (i, o);
        let (mut a, mut b) = (inner[i], outer[o]);
        (i, o) = (i + 1, o + 1);
        while a != b {
            let (product, sizes, next) =
                if a < b { (&mut a, inner, &mut i) } else { (&mut b, outer, &mut o) };
            *product *= sizes.get(*next)?;
            *next += 1;
        }
        runs.push(Run { inner: first_inner..i, outer: first_outer..o });
    }
    // Dims of size 1 may be left.
    let last = runs.last_mut()?;
    last.inner.end = inner.len();
    last.outer.end = outer.len();
    Some(runs)
}

/// The shape of what a value was reshaped from, if that is computed and has fewer dims, not counting those of size 1,
/// which fusion sees through. (The other way the two shapes would take turns.)
fn inner_shape(cx: &Context<'_>, v: ValueId) -> Option<Vec<usize>> {
    let node = cx.b.graph().def(v);
    let Op::Reshape(_) = &node.op else { return None };
    let source = &cx.b.graph().def(node.ins[0]).op;
    let computed =
        is_anchor(source) || matches!(source, Op::Map(_) | Op::Cast(_) | Op::Reduce(_) | Op::Moments(_));
    let (inner, outer) = (cx.b.ty(node.ins[0]).shape()?, cx.b.ty(v).shape()?);
    let wide = |shape: &[usize]| shape.iter().filter(|d| **d != 1).count();
    (computed && wide(&inner) < wide(&outer)).then_some(inner)
}

/// The inner axes that hold what some outer axes hold, if those are whole runs.
fn inner_axes(runs: &[Run], axes: &[usize], outer: &[usize]) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for run in runs {
        let wide = || run.outer.clone().filter(|a| outer[*a] != 1);
        let (all, some) = (wide().count(), wide().filter(|a| axes.contains(a)).count());
        if some == all && all > 0 {
            found.extend(run.inner.clone());
        } else if some > 0 {
            return None;
        }
    }
    Some(found)
}

/// How an operand of the outer shape gets the inner one.
enum Fit {
    /// It was reshaped from it.
    Same,
    /// All of it is this number.
    Number(Scalar),
    /// It is broadcast along other axes than these.
    Broadcast(Vec<usize>),
    /// It counts along this axis.
    Iota(usize),
    /// By a reshape of its own.
    Reshaped,
}

/// The inner axes of a broadcast's operand.
fn broadcast_axes(op: &Broadcast, runs: &[Run]) -> Option<Vec<usize>> {
    let outer: Option<Vec<usize>> =
        op.dims.iter().map(|d| d.as_const().and_then(|d| usize::try_from(d).ok())).collect();
    inner_axes(runs, &op.axes, &outer?)
}

fn fit(cx: &Context<'_>, v: ValueId, shape: &[usize], runs: &[Run]) -> Fit {
    let node = cx.b.graph().def(v);
    if let Some(number) = literal(cx.b, v) {
        return Fit::Number(number);
    }
    match &node.op {
        Op::Broadcast(op) => broadcast_axes(op, runs).map_or(Fit::Reshaped, Fit::Broadcast),
        Op::Iota(op) => iota_axis(op, runs).map_or(Fit::Reshaped, Fit::Iota),
        Op::Reshape(_) if cx.b.ty(node.ins[0]).shape().as_deref() == Some(shape) => Fit::Same,
        _ => Fit::Reshaped,
    }
}

/// The inner axis along which coordinates count, if it is an axis of both shapes.
fn iota_axis(op: &Iota, runs: &[Run]) -> Option<usize> {
    let run = runs.iter().find(|run| run.outer.contains(&op.axis))?;
    (run.inner.len() == 1 && run.outer.len() == 1).then_some(run.inner.start)
}

/// An operand of the outer shape, in the inner one.
fn in_shape(cx: &mut Context<'_>, v: ValueId, fit: &Fit, whole: &[Dim]) -> Result<ValueId> {
    let node = cx.b.graph().def(v);
    let (iota, x) =
        (if let Op::Iota(op) = &node.op { Some(op.clone()) } else { None }, node.ins.first().copied());
    match (fit, iota) {
        (Fit::Number(number), _) => {
            let dtype = cx.b.ty(v).dtype;
            let number = cx.b.constant(graphc_ir::Tensor::scalar(dtype, *number))?;
            cx.b.broadcast(number, whole, &[])
        }
        (Fit::Broadcast(axes), _) => {
            let varying: Vec<Dim> = axes.iter().map(|a| whole[*a].clone()).collect();
            let x = cx.b.reshape(x.unwrap_or(v), &varying)?;
            cx.b.broadcast(x, whole, axes)
        }
        (Fit::Iota(axis), Some(op)) => cx.b.op1(Iota { dims: whole.to_vec(), axis: *axis, ..op }, &[]),
        _ => cx.b.reshape(v, whole),
    }
}
