//! Arithmetic identities that hold for NaN and infinities too.

use graphc_ir::ops::{Cast, Op, ReduceKind};
use graphc_ir::scalar::ScalarFn::{self, Add, Div, Mul, Neg, Relu, Select, Sub};
use graphc_ir::{DType, Dim, Scalar, Tensor, ValueId};

use super::pattern::{broadcast, example, is, literal, other_than, unary, with_number};
use super::{Exactness, Outcome, Rule};

fn function(op: &Op) -> Option<ScalarFn> {
    match op {
        Op::Map(m) => Some(m.f),
        _ => None,
    }
}

fn keep(v: ValueId) -> Outcome {
    Outcome::Replace(vec![v])
}

/// One cast after the other.
fn casts(types: &[DType]) -> graphc_ir::Result<graphc_ir::Graph> {
    example(&[&[3]], |b, x| types.iter().try_fold(x[0], |v, to| b.op1(Cast { to: *to }, &[v])))
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "identity-operand",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let b = &*cx.b;
            let same = match function(&node.op) {
                // x + 0 gives +0 for -0: the sign of a zero, which this class allows.
                Some(Add) => other_than(b, ins, 0.0),
                Some(Mul) => other_than(b, ins, 1.0),
                Some(Sub) if is(b, ins[1], 0.0) => Some(ins[0]),
                Some(Div) if is(b, ins[1], 1.0) => Some(ins[0]),
                _ => None,
            };
            Ok(same.map_or(Outcome::No, keep))
        },
        examples: &[
            || with_number(Add, 0.0, false),
            || with_number(Add, 0.0, true),
            || with_number(Mul, 1.0, false),
            || with_number(Mul, 1.0, true),
            || with_number(Sub, 0.0, false),
            || with_number(Div, 1.0, false),
        ],
        counterexamples: &[
            || with_number(Sub, 0.0, true),
            || with_number(Div, 1.0, true),
            || with_number(Add, 1.0, false),
            || with_number(Mul, 0.0, false),
            || with_number(Sub, 1.0, false),
            || with_number(Div, 2.0, false),
        ],
    },
    Rule {
        name: "double-negation",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Neg) {
                return Ok(Outcome::No);
            }
            Ok(unary(cx.b, ins[0], Neg).map_or(Outcome::No, keep))
        },
        examples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let n = b.map(Neg, &[x[0]])?;
                let p = b.map(Neg, &[n])?;
                b.map(ScalarFn::Exp, &[p])
            })
        }],
        counterexamples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let n = b.map(ScalarFn::Abs, &[x[0]])?;
                b.map(Neg, &[n])
            })
        }],
    },
    Rule {
        name: "negated-operand",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let (f, kept, negated) = match function(&node.op) {
                Some(Add) => match (unary(cx.b, ins[0], Neg), unary(cx.b, ins[1], Neg)) {
                    (_, Some(y)) => (Sub, ins[0], y),
                    (Some(x), _) => (Sub, ins[1], x),
                    _ => return Ok(Outcome::No),
                },
                Some(Sub) => match unary(cx.b, ins[1], Neg) {
                    Some(y) => (Add, ins[0], y),
                    None => return Ok(Outcome::No),
                },
                _ => return Ok(Outcome::No),
            };
            cx.map(f, &[kept, negated])
        },
        examples: &[
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let n = b.map(Neg, &[x[1]])?;
                    b.map(Add, &[x[0], n])
                })
            },
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let n = b.map(Neg, &[x[0]])?;
                    b.map(Add, &[n, x[1]])
                })
            },
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let n = b.map(Neg, &[x[1]])?;
                    b.map(Sub, &[x[0], n])
                })
            },
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let (m, n) = (b.map(Neg, &[x[0]])?, b.map(Neg, &[x[1]])?);
                    b.map(Add, &[m, n])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let n = b.map(Neg, &[x[0]])?;
                    b.map(Sub, &[n, x[1]])
                })
            },
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let n = b.map(Neg, &[x[1]])?;
                    b.map(Mul, &[x[0], n])
                })
            },
        ],
    },
    Rule {
        name: "division-by-power-of-two",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Div) || !cx.b.ty(ins[0]).dtype.is_compute_float() {
                return Ok(Outcome::No);
            }
            let Some(d) = literal(cx.b, ins[1]) else { return Ok(Outcome::No) };
            let (d, r) = (d.as_f64(), 1.0 / d.as_f64());
            // Only then is the reciprocal exact, in f32 too.
            let power = d.is_normal() && d.abs().log2().fract() == 0.0 && d.abs().log2().abs() < 100.0;
            if !power {
                return Ok(Outcome::No);
            }
            let r = cx.b.full_like(ins[0], r)?;
            cx.map(Mul, &[ins[0], r])
        },
        examples: &[
            || with_number(Div, 4.0, false),
            || with_number(Div, 0.5, false),
            || with_number(Div, -2.0, false),
        ],
        counterexamples: &[
            || with_number(Div, 3.0, false),
            || with_number(Div, 0.0, false),
            || with_number(Div, 4.0, true),
            || {
                example(&[&[3, 5]], |b, x| {
                    let i = b.cast(x[0], DType::I32)?;
                    let four = b.full_like(i, 4.0)?;
                    b.map(Div, &[i, four])
                })
            },
        ],
    },
    Rule {
        name: "cast-to-own-type",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Cast(c) = &node.op else { return Ok(Outcome::No) };
            Ok(if cx.b.ty(ins[0]).dtype == c.to { keep(ins[0]) } else { Outcome::No })
        },
        examples: &[|| {
            example(&[&[3]], |b, x| {
                let c = b.op1(Cast { to: DType::F32 }, &[x[0]])?;
                b.map(ScalarFn::Exp, &[c])
            })
        }],
        counterexamples: &[|| example(&[&[3]], |b, x| b.op1(Cast { to: DType::F64 }, &[x[0]]))],
    },
    Rule {
        // Between two operations on a storage type that both compute in f32.
        name: "cast-back",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Cast(back) = &node.op else { return Ok(Outcome::No) };
            let there = cx.b.graph().def(ins[0]);
            let Op::Cast(wide) = &there.op else { return Ok(Outcome::No) };
            let (x, wide) = (there.ins[0], wide.to);
            let same = back.to.is_half() && cx.b.ty(x).dtype == back.to && wide.is_compute_float();
            Ok(if same { keep(x) } else { Outcome::No })
        },
        examples: &[|| casts(&[DType::F16, DType::F32, DType::F16, DType::F64])],
        counterexamples: &[
            || casts(&[DType::F16, DType::F32, DType::Bf16]),
            || casts(&[DType::F16, DType::Bf16, DType::F16]),
            || casts(&[DType::F64, DType::F16, DType::F32]),
        ],
    },
    Rule {
        name: "relu-of-relu",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let twice = function(&node.op) == Some(Relu) && unary(cx.b, ins[0], Relu).is_some();
            Ok(if twice { keep(ins[0]) } else { Outcome::No })
        },
        examples: &[|| {
            example(&[&[3]], |b, x| {
                let r = b.map(Relu, &[x[0]])?;
                b.map(Relu, &[r])
            })
        }],
        counterexamples: &[|| {
            example(&[&[3]], |b, x| {
                let r = b.map(Neg, &[x[0]])?;
                b.map(Relu, &[r])
            })
        }],
    },
    Rule {
        name: "select-of-equals",
        exactness: Exactness::Exact,
        apply: |_, node, ins| {
            let same = function(&node.op) == Some(Select) && ins[1] == ins[2];
            Ok(if same { keep(ins[1]) } else { Outcome::No })
        },
        examples: &[|| {
            example(&[&[3], &[3]], |b, x| {
                let c = b.map(ScalarFn::Lt, &[x[0], x[1]])?;
                let s = b.map(Select, &[c, x[0], x[0]])?;
                b.map(ScalarFn::Exp, &[s])
            })
        }],
        counterexamples: &[|| {
            example(&[&[3], &[3]], |b, x| {
                let c = b.map(ScalarFn::Lt, &[x[0], x[1]])?;
                b.map(Select, &[c, x[0], x[1]])
            })
        }],
    },
    Rule {
        name: "extreme-of-broadcast",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Reduce(r) = &node.op else { return Ok(Outcome::No) };
            if !matches!(r.kind, ReduceKind::Max | ReduceKind::Min) {
                return Ok(Outcome::No);
            }
            let Some((x, added)) = broadcast(cx.b, ins[0]) else { return Ok(Outcome::No) };
            // Over nothing the result is the identity, so the repetition must be known to happen.
            let dims = &cx.b.ty(ins[0]).dims;
            if added != r.axes || added.iter().any(|a| dims[*a].as_const().is_none_or(|d| d < 1)) {
                return Ok(Outcome::No);
            }
            Ok(keep(x))
        },
        examples: &[
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Max, w, &[1])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Min, w, &[1])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w =
                        b.broadcast(x[0], &[Dim::from(2usize), Dim::from(3usize), Dim::from(5usize)], &[1])?;
                    let m = b.reduce(ReduceKind::Max, w, &[0, 2])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Max, w, &[0])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(0usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Max, w, &[1])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w =
                        b.broadcast(x[0], &[Dim::from(2usize), Dim::from(3usize), Dim::from(5usize)], &[1])?;
                    let m = b.reduce(ReduceKind::Max, w, &[0])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Prod, w, &[1])?;
                    b.map(ScalarFn::Exp, &[m])
                })
            },
        ],
    },
    Rule {
        name: "sum-of-broadcast",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            let Op::Reduce(r) = &node.op else { return Ok(Outcome::No) };
            let Some((x, added)) = broadcast(cx.b, ins[0]) else { return Ok(Outcome::No) };
            if r.kind != ReduceKind::Sum || added != r.axes {
                return Ok(Outcome::No);
            }
            let dims = cx.b.ty(ins[0]).dims.clone();
            let sizes: Option<Vec<i64>> = added.iter().map(|a| dims[*a].as_const()).collect();
            let Some(sizes) = sizes else {
                return Ok(Outcome::Rejected("the number of repetitions is not known yet"));
            };
            // Of nothing the sum is 0, whatever is repeated (infinity, too).
            if sizes.contains(&0) {
                return Ok(Outcome::No);
            }
            let ty = cx.b.ty(x).clone();
            // Integers wrap, and so does how often they are added. A storage type may not hold the number.
            let count = sizes.iter().fold(1i128, |n, s| n.wrapping_mul((*s).into()));
            let count = match ty.dtype {
                t if t.is_int() => Scalar::I(count).round_to(t),
                t if t.is_compute_float() => Scalar::I(count).cast(t),
                _ => return Ok(Outcome::No),
            };
            let n = cx.b.constant(Tensor::scalar(ty.dtype, count))?;
            let n = cx.b.broadcast(n, &ty.dims, &[])?;
            cx.map(Mul, &[x, n])
        },
        examples: &[
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Sum, w, &[1])?;
                    Ok(m)
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w =
                        b.broadcast(x[0], &[Dim::from(2usize), Dim::from(3usize), Dim::from(5usize)], &[1])?;
                    let m = b.reduce(ReduceKind::Sum, w, &[0, 2])?;
                    Ok(m)
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Sum, w, &[0])?;
                    Ok(m)
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(0usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Sum, w, &[1])?;
                    Ok(m)
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w =
                        b.broadcast(x[0], &[Dim::from(2usize), Dim::from(3usize), Dim::from(5usize)], &[1])?;
                    let m = b.reduce(ReduceKind::Sum, w, &[0])?;
                    Ok(m)
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let w = b.broadcast(x[0], &[Dim::from(3usize), Dim::from(5usize)], &[0])?;
                    let m = b.reduce(ReduceKind::Max, w, &[1])?;
                    Ok(m)
                })
            },
        ],
    },
];
