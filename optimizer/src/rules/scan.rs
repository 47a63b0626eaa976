//! Loops: what nobody uses leaves the body, and loops over the same operands become one.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::graph::{Node, ValueId};
use graphc_ir::ops::{Op, Scan};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::{Builder, DType, Dim, TensorType};

use super::{Context, Exactness, Outcome, Rule};

pub(super) static RULES: &[Rule] = &[
    // First: what one loop does not need, the one that it is merged with may.
    Rule {
        name: "merge-loops",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Scan(op) = &node.op else { return Ok(Outcome::No) };
            let twins = twins(cx, op, node);
            if twins.len() < 2 {
                return Ok(Outcome::No);
            }
            // The same order for every twin, so that all become one node.
            let mut b = Builder::with_infer(op.body.infer().clone());
            let inputs = b.inputs_like(&op.body)?;
            let n = op.carries;
            let mut results: Vec<ValueId> = Vec::new();
            for twin in twins {
                let own = b.inline(&twin.body, &inputs)?;
                if results.is_empty() {
                    results.extend(&own[..n]);
                } else if results[..n] != own[..n] {
                    return Ok(Outcome::Rejected("the loops carry different values"));
                }
                for r in &own[n..] {
                    if !results[n..].contains(r) {
                        results.push(*r);
                    }
                }
            }
            let own = b.inline(&op.body, &inputs)?;
            let place = |r: &ValueId| results[n..].iter().position(|x| x == r).map(|i| n + i);
            let places: Option<Vec<usize>> = own[n..].iter().map(place).collect();
            let Some(places) = places else { return Ok(Outcome::No) };
            let body = b.finish(&results)?.pruned()?;
            let outs = cx.b.op(Scan { body: Arc::new(body), ..op.clone() }, ins)?;
            Ok(Outcome::Replace((0..n).chain(places).map(|p| outs[p]).collect()))
        },
        examples: &[|| {
            let (one, mut b, ins) = accumulate(false)?;
            let (two, _, _) = accumulate(true)?;
            let x = b.op(one, &ins)?;
            let y = b.op(two, &ins)?;
            let sum = b.map(ScalarFn::Add, &[x[0], y[0]])?;
            b.finish(&[sum, y[1]])
        }],
        counterexamples: &[],
    },
    Rule {
        name: "unused-in-loop",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Scan(op) = &node.op else { return Ok(Outcome::No) };
            let used: Vec<bool> = node.outs().map(|o| cx.uses[o.index()] > 0).collect();
            let Parts { inputs, results } = parts(op, &used);
            if inputs.iter().chain(&results).all(|kept| *kept) {
                return Ok(Outcome::No);
            }
            let first_carry = ins.len() - op.carries - op.stacks;
            let kept = |flags: &[bool]| (0..flags.len()).filter(|i| flags[*i]).collect::<Vec<_>>();
            let (kept_inputs, kept_results) = (kept(&inputs), kept(&results));
            let mut b = Builder::with_infer(op.body.infer().clone());
            let mut args = Vec::new();
            for (v, kept) in op.body.inputs().iter().zip(&inputs) {
                let ty = op.body.ty(*v).clone();
                // Nothing that is kept looks at the others.
                args.push(if *kept {
                    b.input(ty)?
                } else {
                    let zero = b.scalar(ty.dtype, 0.0)?;
                    b.broadcast(zero, &ty.dims, &[])?
                });
            }
            let all = b.inline(&op.body, &args)?;
            let body = b.finish(&kept_results.iter().map(|i| all[*i]).collect::<Vec<_>>())?.pruned()?;
            let of = |range: std::ops::Range<usize>| kept_inputs.iter().filter(|i| range.contains(i)).count();
            let scan = Scan {
                body: Arc::new(body),
                carries: of(first_carry..first_carry + op.carries),
                stacks: of(first_carry + op.carries..ins.len()),
                ..op.clone()
            };
            let operands: Vec<ValueId> = kept_inputs.iter().map(|i| ins[*i]).collect();
            let outs = cx.b.op(scan, &operands)?;
            // Dropped results are unused, so any value of their type stands in for them.
            let replace = (0..used.len()).map(|i| match kept_results.iter().position(|k| *k == i) {
                Some(k) => Ok(outs[k]),
                None => {
                    let ty = cx.old.ty(node.out(i)).clone();
                    let zero = cx.b.scalar(ty.dtype, 0.0)?;
                    cx.b.broadcast(zero, &ty.dims, &[])
                }
            });
            Ok(Outcome::Replace(replace.collect::<Result<_>>()?))
        },
        examples: &[
            // A stacked result.
            || {
                let (op, mut b, ins) = accumulate(true)?;
                let outs = b.op(op, &ins)?;
                b.finish(&outs[..1])
            },
            // A carry with what only it is computed from.
            || {
                let (op, mut b, ins) = accumulate(true)?;
                let mut body = Builder::new();
                let inputs = body.inputs_like(&op.body)?;
                let results = body.inline(&op.body, &inputs)?;
                let square = body.map(ScalarFn::Mul, &[inputs[1], inputs[1]])?;
                let op = Scan { body: Arc::new(body.finish(&[results[0], square])?), ..op };
                let outs = b.op(op, &ins)?;
                b.finish(&outs[1..])
            },
        ],
        // The carry's end is not looked at, but every iteration's is.
        counterexamples: &[|| {
            let (op, mut b, ins) = accumulate(true)?;
            let outs = b.op(op, &ins)?;
            b.finish(&outs[1..])
        }],
    },
];

/// Which of a body's inputs and results a loop needs.
struct Parts {
    inputs: Vec<bool>,
    results: Vec<bool>,
}

/// What leads to results that are used, and to what can fail. A carry leads to itself if anything needed looks at it.
fn parts(op: &Scan, used: &[bool]) -> Parts {
    let body = &*op.body;
    let first_carry = body.inputs().len() - op.carries - op.stacks;
    let mut results = used.to_vec();
    if body.can_fail() && !results.contains(&true) {
        // It runs for what it checks, and a loop gives something.
        results.iter_mut().take(1).for_each(|first| *first = true);
    }
    loop {
        let mut needed = vec![false; body.value_count()];
        // What can fail an iteration fails the run, whoever uses what it makes.
        for (_, node) in body.nodes().filter(|(_, node)| node.op.can_fail()) {
            node.ins.iter().for_each(|v| needed[v.index()] = true);
        }
        for (r, _) in body.results().iter().zip(&results).filter(|(_, kept)| **kept) {
            needed[r.index()] = true;
        }
        for (_, node) in body.nodes().rev() {
            if node.outs().any(|o| needed[o.index()]) {
                node.ins.iter().for_each(|v| needed[v.index()] = true);
            }
        }
        let mut inputs: Vec<bool> = body.inputs().iter().map(|v| needed[v.index()]).collect();
        let more: Vec<usize> = (0..op.carries).filter(|c| inputs[first_carry + c] && !results[*c]).collect();
        if more.is_empty() {
            // A carry whose end is used is kept, even if no iteration looks at it.
            (0..op.carries).for_each(|c| inputs[first_carry + c] = results[c]);
            return Parts { inputs, results };
        }
        more.iter().for_each(|c| results[*c] = true);
    }
}

/// The loops over the same operands, this one included, in order.
fn twins<'a>(cx: &Context<'a>, op: &Scan, node: &Node) -> Vec<&'a Scan> {
    let same = |other: &&Scan| {
        (other.carries, other.stacks, other.reverse) == (op.carries, op.stacks, op.reverse)
            && other.length == op.length
    };
    cx.loops.get(&node.ins[..]).into_iter().flatten().copied().filter(same).collect()
}

/// s' = s + x over a stack of three, perhaps with every s stacked.
fn accumulate(history: bool) -> Result<(Scan, Builder, Vec<ValueId>)> {
    let ty = TensorType::fixed(DType::F32, &[2]);
    let mut body = Builder::new();
    let (s, x) = (body.input(ty.clone())?, body.input(ty.clone())?);
    let next = body.map(ScalarFn::Add, &[s, x])?;
    let results = if history { vec![next, s] } else { vec![next] };
    let body = Arc::new(body.finish(&results)?);
    let op =
        Scan { body, carries: 1, stacks: 1, reverse: false, length: Dim::from(3usize), recompute: false };
    let mut b = Builder::new();
    let ins = vec![b.input(ty)?, b.input(TensorType::fixed(DType::F32, &[3, 2]))?];
    Ok((op, b, ins))
}
