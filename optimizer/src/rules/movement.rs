//! Movement operations: composed, dropped where they move nothing, and hoisted out of maps.

use graphc_ir::ops::{Broadcast, Concat, Map, Op, Pad, Reduce, ReduceKind, Reshape, Slice, Transpose};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::{Dim, ValueId};

use super::pattern::{dims, example, literal};
use super::{Context, Exactness, Outcome, Rule};

fn keep(v: ValueId) -> Outcome {
    Outcome::Replace(vec![v])
}

/// The operation that makes a value, and its first operands: a movement has one. A concat may have any number, and a
/// copy of all of them for each of its users would be too much.
fn operand(cx: &Context<'_>, v: ValueId) -> (Op, Vec<ValueId>) {
    let node = cx.b.graph().def(v);
    (node.op.clone(), node.ins.iter().take(2).copied().collect())
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "moves-nothing",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Some(x) = ins.first() else { return Ok(Outcome::No) };
            let same_dims = cx.b.ty(*x).dims == cx.old.ty(node.out(0)).dims;
            let nothing = match &node.op {
                Op::Reshape(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Pad(_) => same_dims,
                Op::Transpose(t) => t.perm.iter().copied().eq(0..t.perm.len()),
                Op::Concat(_) => ins.len() == 1,
                Op::Reduce(r) => r.axes.is_empty(),
                _ => false,
            };
            Ok(if nothing { keep(*x) } else { Outcome::No })
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Transpose { perm: vec![0, 1] }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Reshape { dims: dims(&[3, 5]) }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Broadcast { dims: dims(&[3, 5]), axes: vec![0, 1] }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Slice { starts: dims(&[0, 0]), limits: dims(&[3, 5]) }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Pad { lo: dims(&[0, 0]), hi: dims(&[0, 0]), value: 0.into() }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Concat { axis: 1 }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Reduce { kind: ReduceKind::Sum, axes: Vec::new() }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
        ],
        counterexamples: &[
            || example(&[&[3, 3]], |b, x| b.op1(Transpose { perm: vec![1, 0] }, &[x[0]])),
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Slice { starts: dims(&[0, 1]), limits: dims(&[3, 5]) }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || example(&[&[3, 5], &[3, 5]], |b, x| b.op1(Concat { axis: 1 }, &[x[0], x[1]])),
            || {
                example(&[&[3, 5]], |b, x| {
                    let t = b.op1(Reshape { dims: dims(&[5, 3]) }, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
        ],
    },
    Rule {
        name: "reshape-of-reshape",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Reshape(outer) = &node.op else { return Ok(Outcome::No) };
            match operand(cx, ins[0]) {
                (Op::Reshape(_), from) => Ok(keep(cx.b.reshape(from[0], &outer.dims)?)),
                _ => Ok(Outcome::No),
            }
        },
        examples: &[|| {
            example(&[&[6]], |b, x| {
                let r = b.reshape(x[0], &dims(&[2, 3]))?;
                b.reshape(r, &dims(&[3, 2]))
            })
        }],
        counterexamples: &[|| {
            example(&[&[2, 3]], |b, x| {
                let r = b.transpose(x[0], &[1, 0])?;
                b.reshape(r, &dims(&[6]))
            })
        }],
    },
    Rule {
        name: "transpose-of-transpose",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Transpose(outer) = &node.op else { return Ok(Outcome::No) };
            let (Op::Transpose(inner), from) = operand(cx, ins[0]) else { return Ok(Outcome::No) };
            let perm: Vec<usize> = outer.perm.iter().map(|p| inner.perm[*p]).collect();
            Ok(keep(cx.b.transpose(from[0], &perm)?))
        },
        examples: &[
            || {
                example(&[&[2, 3, 5]], |b, x| {
                    let t = b.transpose(x[0], &[1, 0, 2])?;
                    b.transpose(t, &[2, 1, 0])
                })
            },
            || {
                example(&[&[2, 3, 5]], |b, x| {
                    let t = b.transpose(x[0], &[1, 2, 0])?;
                    b.transpose(t, &[1, 2, 0])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[2, 3]], |b, x| {
                let t = b.reshape(x[0], &dims(&[3, 2]))?;
                b.transpose(t, &[1, 0])
            })
        }],
    },
    Rule {
        name: "broadcast-of-broadcast",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Broadcast(outer) = &node.op else { return Ok(Outcome::No) };
            let (Op::Broadcast(inner), from) = operand(cx, ins[0]) else { return Ok(Outcome::No) };
            let axes = inner.axes.iter().map(|a| outer.axes[*a]).collect();
            let op = Broadcast { dims: outer.dims.clone(), axes };
            Ok(keep(cx.b.op1(op, &[from[0]])?))
        },
        examples: &[
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[3, 5]), &[0])?;
                    b.broadcast(w, &dims(&[2, 3, 5]), &[1, 2])
                })
            },
            || {
                example(&[&[3, 2]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[5, 3, 2]), &[1, 2])?;
                    b.broadcast(w, &dims(&[5, 3, 7, 2]), &[0, 1, 3])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let w = b.transpose(x[0], &[1, 0])?;
                b.broadcast(w, &dims(&[2, 5, 3]), &[1, 2])
            })
        }],
    },
    Rule {
        name: "moved-constant",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            if !matches!(node.op, Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_)) {
                return Ok(Outcome::No);
            }
            let Some(value) = literal(cx.b, ins[0]) else { return Ok(Outcome::No) };
            let ty = cx.old.ty(node.out(0)).clone();
            if !matches!(cx.b.graph().def(ins[0]).op, Op::Broadcast(_)) {
                return Ok(Outcome::No);
            }
            let c = cx.b.constant(graphc_ir::Tensor::scalar(ty.dtype, value))?;
            Ok(keep(cx.b.broadcast(c, &ty.dims, &[])?))
        },
        examples: &[
            || {
                example(&[&[5, 3]], |b, x| {
                    let one = b.scalar(graphc_ir::DType::F32, 2.0)?;
                    let w = b.broadcast(one, &dims(&[3, 5]), &[])?;
                    let t = b.op1(Transpose { perm: vec![1, 0] }, &[w])?;
                    b.map(ScalarFn::Add, &[x[0], t])
                })
            },
            || {
                example(&[&[15]], |b, x| {
                    let one = b.scalar(graphc_ir::DType::F32, 2.0)?;
                    let w = b.broadcast(one, &dims(&[3, 5]), &[])?;
                    let t = b.op1(Reshape { dims: dims(&[15]) }, &[w])?;
                    b.map(ScalarFn::Add, &[x[0], t])
                })
            },
            || {
                example(&[&[3, 2]], |b, x| {
                    let one = b.scalar(graphc_ir::DType::F32, 2.0)?;
                    let w = b.broadcast(one, &dims(&[3, 5]), &[])?;
                    let t = b.op1(Slice { starts: dims(&[0, 1]), limits: dims(&[3, 3]) }, &[w])?;
                    b.map(ScalarFn::Add, &[x[0], t])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[5]], |b, x| {
                let w = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                b.transpose(w, &[1, 0])
            })
        }],
    },
    Rule {
        name: "slice-of-slice",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Slice(outer) = &node.op else { return Ok(Outcome::No) };
            let (Op::Slice(inner), from) = operand(cx, ins[0]) else { return Ok(Outcome::No) };
            let shift = |v: &[Dim]| -> graphc_ir::Result<Vec<Dim>> {
                v.iter().zip(&inner.starts).map(|(d, s)| Ok(d.add(s)?)).collect()
            };
            let op = Slice { starts: shift(&outer.starts)?, limits: shift(&outer.limits)? };
            Ok(keep(cx.b.op1(op, &[from[0]])?))
        },
        examples: &[
            || {
                example(&[&[9]], |b, x| {
                    let s = b.op1(Slice { starts: dims(&[2]), limits: dims(&[8]) }, &[x[0]])?;
                    b.op1(Slice { starts: dims(&[1]), limits: dims(&[4]) }, &[s])
                })
            },
            || {
                example(&[&[4, 9]], |b, x| {
                    let s = b.op1(Slice { starts: dims(&[1, 2]), limits: dims(&[4, 8]) }, &[x[0]])?;
                    b.op1(Slice { starts: dims(&[0, 1]), limits: dims(&[2, 4]) }, &[s])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[3, 3]], |b, x| {
                let s = b.transpose(x[0], &[1, 0])?;
                b.op1(Slice { starts: dims(&[1, 0]), limits: dims(&[2, 3]) }, &[s])
            })
        }],
    },
    Rule {
        name: "slice-of-pad",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Slice(s) = &node.op else { return Ok(Outcome::No) };
            let (Op::Pad(p), from) = operand(cx, ins[0]) else { return Ok(Outcome::No) };
            let inner = cx.b.ty(from[0]).dims.clone();
            let whole = s.starts == p.lo
                && s.limits
                    .iter()
                    .zip(&p.lo)
                    .zip(&inner)
                    .all(|((l, lo), d)| lo.add(d).is_ok_and(|e| e == *l));
            Ok(if whole { keep(from[0]) } else { Outcome::No })
        },
        examples: &[
            || {
                example(&[&[3]], |b, x| {
                    let pad = Pad { lo: dims(&[2]), hi: dims(&[1]), value: 0.into() };
                    let t = b.op1(pad, &[x[0]])?;
                    let t = b.op1(Slice { starts: dims(&[2]), limits: dims(&[5]) }, &[t])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let pad = Pad { lo: dims(&[0]), hi: dims(&[4]), value: 0.into() };
                    let t = b.op1(pad, &[x[0]])?;
                    let t = b.op1(Slice { starts: dims(&[0]), limits: dims(&[3]) }, &[t])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3]], |b, x| {
                    let pad = Pad { lo: dims(&[2]), hi: dims(&[1]), value: 0.into() };
                    let t = b.op1(pad, &[x[0]])?;
                    let t = b.op1(Slice { starts: dims(&[1]), limits: dims(&[5]) }, &[t])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let pad = Pad { lo: dims(&[2]), hi: dims(&[1]), value: 0.into() };
                    let t = b.op1(pad, &[x[0]])?;
                    let t = b.op1(Slice { starts: dims(&[2]), limits: dims(&[4]) }, &[t])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let pad = Pad { lo: dims(&[2]), hi: dims(&[1]), value: 0.into() };
                    let t = b.op1(pad, &[x[0]])?;
                    let t = b.op1(Slice { starts: dims(&[0]), limits: dims(&[3]) }, &[t])?;
                    b.map(ScalarFn::Exp, &[t])
                })
            },
        ],
    },
    Rule {
        name: "reduce-over-size-one",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Reduce(r) = &node.op else { return Ok(Outcome::No) };
            let ty = cx.b.ty(ins[0]).clone();
            let narrow = r.axes.iter().all(|a| ty.dims[*a].as_const() == Some(1));
            if r.axes.is_empty() || !narrow {
                return Ok(Outcome::No);
            }
            let kept = cx.old.ty(node.out(0)).dims.clone();
            Ok(keep(cx.b.reshape(ins[0], &kept)?))
        },
        examples: &[
            || example(&[&[3, 1]], |b, x| b.sum(x[0], &[1])),
            || example(&[&[1, 3, 1]], |b, x| b.sum(x[0], &[0, 2])),
            || example(&[&[3, 1]], |b, x| b.reduce(ReduceKind::Prod, x[0], &[1])),
        ],
        counterexamples: &[
            || example(&[&[3, 1]], |b, x| b.sum(x[0], &[0, 1])),
            || example(&[&[3, 2]], |b, x| b.sum(x[0], &[1])),
        ],
    },
    Rule {
        name: "reduce-of-reduce",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            let Op::Reduce(outer) = &node.op else { return Ok(Outcome::No) };
            let (Op::Reduce(inner), from) = operand(cx, ins[0]) else { return Ok(Outcome::No) };
            if inner.kind != outer.kind {
                return Ok(Outcome::No);
            }
            let old = cx.old.def(node.ins[0]);
            if matches!(old.op, Op::Reduce(_)) && cx.uses[node.ins[0].index()] > 1 {
                return Ok(Outcome::Rejected("the inner result is used elsewhere, too"));
            }
            let rank = cx.b.ty(from[0]).rank();
            let kept: Vec<usize> = (0..rank).filter(|a| !inner.axes.contains(a)).collect();
            let mut axes: Vec<usize> = inner.axes.clone();
            axes.extend(outer.axes.iter().map(|a| kept[*a]));
            axes.sort_unstable();
            Ok(keep(cx.b.op1(Reduce { kind: inner.kind, axes }, &[from[0]])?))
        },
        examples: &[
            || {
                example(&[&[3, 5, 2]], |b, x| {
                    let s = b.reduce(ReduceKind::Sum, x[0], &[1])?;
                    b.reduce(ReduceKind::Sum, s, &[1])
                })
            },
            || {
                example(&[&[3, 5, 2]], |b, x| {
                    let s = b.reduce(ReduceKind::Sum, x[0], &[0])?;
                    b.reduce(ReduceKind::Sum, s, &[1])
                })
            },
            || {
                example(&[&[3, 5, 2]], |b, x| {
                    let s = b.reduce(ReduceKind::Max, x[0], &[2])?;
                    b.reduce(ReduceKind::Max, s, &[0])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5, 2]], |b, x| {
                    let s = b.reduce(ReduceKind::Max, x[0], &[1])?;
                    b.reduce(ReduceKind::Sum, s, &[1])
                })
            },
            || {
                example(&[&[3, 5, 2]], |b, x| {
                    let s = b.sum(x[0], &[1])?;
                    let t = b.sum(s, &[1])?;
                    let t = b.broadcast(t, &dims(&[3, 2]), &[0])?;
                    b.map(ScalarFn::Add, &[s, t])
                })
            },
        ],
    },
    Rule {
        name: "hoist-broadcast",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Map(m) = &node.op else { return Ok(Outcome::No) };
            // f(broadcast x, broadcast y, constant) = broadcast f(x, y, constant).
            let mut pattern: Option<Broadcast> = None;
            for v in ins {
                if literal(cx.b, *v).is_some() {
                    continue;
                }
                match (&cx.b.graph().def(*v).op, &pattern) {
                    (Op::Broadcast(op), None) => pattern = Some(op.clone()),
                    (Op::Broadcast(op), Some(p)) if op == p => {}
                    _ => return Ok(Outcome::No),
                }
            }
            let all_literal = pattern.is_none();
            let target = cx.old.ty(node.out(0)).dims.clone();
            if all_literal && target.is_empty() {
                return Ok(Outcome::No);
            }
            let axes = pattern.as_ref().map(|p| p.axes.clone()).unwrap_or_default();
            let inner: Vec<Dim> = match &pattern {
                Some(p) => p.axes.iter().map(|a| p.dims[*a].clone()).collect(),
                None => Vec::new(),
            };
            let mut operands = Vec::new();
            for v in ins {
                operands.push(match literal(cx.b, *v) {
                    Some(value) => {
                        let dtype = cx.b.ty(*v).dtype;
                        let c = cx.b.constant(graphc_ir::Tensor::scalar(dtype, value))?;
                        cx.b.broadcast(c, &inner, &[])?
                    }
                    None => cx.b.graph().def(*v).ins[0],
                });
            }
            let y = cx.b.op1(Map { f: m.f }, &operands)?;
            Ok(keep(cx.b.broadcast(y, &target, &axes)?))
        },
        examples: &[
            || {
                example(&[&[5], &[5]], |b, x| {
                    let p = b.broadcast(x[0], &dims(&[5, 5]), &[1])?;
                    let q = b.broadcast(x[1], &dims(&[5, 5]), &[1])?;
                    b.map(ScalarFn::Sub, &[p, q])
                })
            },
            || {
                example(&[&[5], &[5]], |b, x| {
                    let p = b.broadcast(x[0], &dims(&[5, 5]), &[0])?;
                    let q = b.broadcast(x[1], &dims(&[5, 5]), &[0])?;
                    b.map(ScalarFn::Sub, &[p, q])
                })
            },
            || {
                example(&[&[5]], |b, x| {
                    let p = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                    let q = b.full_like(p, 3.0)?;
                    b.map(ScalarFn::Sub, &[p, q])
                })
            },
            || {
                example(&[&[5]], |b, x| {
                    let p = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                    let q = b.full_like(p, 3.0)?;
                    b.map(ScalarFn::Sub, &[q, p])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let (p, q) = (b.full_like(x[0], 3.0)?, b.full_like(x[0], 4.0)?);
                    let s = b.map(ScalarFn::Sub, &[p, q])?;
                    b.map(ScalarFn::Mul, &[x[0], s])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[5], &[5]], |b, x| {
                    let p = b.broadcast(x[0], &dims(&[5, 5]), &[0])?;
                    let q = b.broadcast(x[1], &dims(&[5, 5]), &[1])?;
                    b.map(ScalarFn::Sub, &[p, q])
                })
            },
            || {
                example(&[&[5], &[3, 5]], |b, x| {
                    let p = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                    b.map(ScalarFn::Sub, &[p, x[1]])
                })
            },
        ],
    },
    Rule {
        name: "unit-reshape-of-broadcast",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            // A reshape that only adds or drops dims of size 1 after a broadcast is one broadcast.
            let Op::Reshape(r) = &node.op else { return Ok(Outcome::No) };
            let (Op::Broadcast(inner), from) = operand(cx, ins[0]) else { return Ok(Outcome::No) };
            let one = Dim::from(1usize);
            let wide = |v: &[Dim]| (0..v.len()).filter(|d| v[*d] != one).collect::<Vec<_>>();
            let (a, b) = (wide(&inner.dims), wide(&r.dims));
            let same = a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| inner.dims[*x] == r.dims[*y]);
            let from_dims = cx.b.ty(from[0]).dims.clone();
            if !same || from_dims.contains(&one) {
                return Ok(Outcome::No);
            }
            let place = |axis: usize| a.iter().position(|x| *x == axis).map(|i| b[i]);
            let Some(axes) = inner.axes.iter().map(|x| place(*x)).collect::<Option<Vec<_>>>() else {
                return Ok(Outcome::No);
            };
            Ok(keep(cx.b.broadcast(from[0], &r.dims, &axes)?))
        },
        examples: &[
            || {
                example(&[&[5], &[3, 1, 5]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                    let r = b.reshape(w, &dims(&[3, 1, 5]))?;
                    b.map(ScalarFn::Mul, &[x[1], r])
                })
            },
            || {
                example(&[&[5], &[3, 5]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[3, 1, 5]), &[2])?;
                    let r = b.reshape(w, &dims(&[3, 5]))?;
                    b.map(ScalarFn::Mul, &[x[1], r])
                })
            },
            || {
                example(&[&[5], &[1, 5, 3]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[5, 3]), &[0])?;
                    let r = b.reshape(w, &dims(&[1, 5, 3]))?;
                    b.map(ScalarFn::Mul, &[x[1], r])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[5], &[15]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                    let r = b.reshape(w, &dims(&[15]))?;
                    b.map(ScalarFn::Mul, &[x[1], r])
                })
            },
            || {
                example(&[&[5], &[5, 3]], |b, x| {
                    let w = b.broadcast(x[0], &dims(&[3, 5]), &[1])?;
                    let r = b.reshape(w, &dims(&[5, 3]))?;
                    b.map(ScalarFn::Mul, &[x[1], r])
                })
            },
        ],
    },
];
