//! Canonical and numerically stable forms, found before differentiation.

use graphc_ir::ops::{LogSoftmax, Op, ReduceKind, Softmax, StopGradient};
use graphc_ir::scalar::ScalarFn::{
    self, Add, Div, Exp, Expm1, Log, Log1p, Max, Min, Neg, Recip, Relu, Sigmoid, Softplus, Sub,
};

use super::pattern::{broadcast, example, is, map_of, other_than, reduction, unary, with_number};
use super::{Exactness, Outcome, Rule};

/// The function of a map node.
fn function(op: &Op) -> Option<ScalarFn> {
    match op {
        Op::Map(m) => Some(m.f),
        _ => None,
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "max-zero-is-relu",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Max) {
                return Ok(Outcome::No);
            }
            match other_than(cx.b, ins, 0.0) {
                Some(x) => cx.map(Relu, &[x]),
                None => Ok(Outcome::No),
            }
        },
        examples: &[|| with_number(Max, 0.0, false), || with_number(Max, 0.0, true)],
        counterexamples: &[|| with_number(Max, 1.0, false), || with_number(Min, 0.0, false)],
    },
    Rule {
        // Before log-of-exp-sum: the quotient is what a user means by softmax.
        name: "naive-softmax",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Div) {
                return Ok(Outcome::No);
            }
            let Some(x) = unary(cx.b, ins[0], Exp) else { return Ok(Outcome::No) };
            let Some((sum, added)) = broadcast(cx.b, ins[1]) else { return Ok(Outcome::No) };
            match reduction(cx.b, sum, ReduceKind::Sum) {
                Some((e, axes)) if e == ins[0] && axes == added && axes.len() == 1 => {
                    Ok(Outcome::Replace(vec![cx.b.op1(Softmax { axis: axes[0] }, &[x])?]))
                }
                Some((e, _)) if e == ins[0] => Ok(Outcome::Rejected("only one axis is normalized at a time")),
                _ => Ok(Outcome::No),
            }
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[1])?;
                    let s = b.unreduce(s, e, &[1])?;
                    b.map(Div, &[e, s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[0])?;
                    let s = b.unreduce(s, e, &[0])?;
                    b.map(Div, &[e, s])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[0, 1])?;
                    let s = b.unreduce(s, e, &[0, 1])?;
                    b.map(Div, &[e, s])
                })
            },
            || {
                example(&[&[3, 5], &[3, 5]], |b, x| {
                    let (e, o) = (b.map(Exp, &[x[0]])?, b.map(Exp, &[x[1]])?);
                    let s = b.sum(o, &[1])?;
                    let s = b.unreduce(s, o, &[1])?;
                    b.map(Div, &[e, s])
                })
            },
            || {
                example(&[&[3, 3]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[1])?;
                    let s = b.broadcast(s, &[3usize, 3].map(graphc_ir::Dim::from), &[1])?;
                    b.map(Div, &[e, s])
                })
            },
        ],
    },
    Rule {
        name: "log-of-softmax",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Log) {
                return Ok(Outcome::No);
            }
            let inner = cx.b.graph().def(ins[0]);
            let Op::Softmax(s) = &inner.op else { return Ok(Outcome::No) };
            let (axis, x) = (s.axis, inner.ins[0]);
            Ok(Outcome::Replace(vec![cx.b.op1(LogSoftmax { axis }, &[x])?]))
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let s = b.op1(Softmax { axis: 1 }, &[x[0]])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let s = b.op1(Softmax { axis: 0 }, &[x[0]])?;
                    b.map(Log, &[s])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let s = b.op1(Softmax { axis: 1 }, &[x[0]])?;
                b.map(Log1p, &[s])
            })
        }],
    },
    Rule {
        name: "log-sum-exp",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Log) {
                return Ok(Outcome::No);
            }
            let Some((e, axes)) = reduction(cx.b, ins[0], ReduceKind::Sum) else { return Ok(Outcome::No) };
            let Some(x) = unary(cx.b, e, Exp) else { return Ok(Outcome::No) };
            if is_shifted(cx.b, x) {
                return Ok(Outcome::Rejected("it is shifted by its maximum already"));
            }
            let max = cx.b.reduce(ReduceKind::Max, x, &axes)?;
            // An infinite maximum would leave NaN: it is clipped to the largest number.
            let largest = cx.b.ty(max).dtype.largest();
            let (most, least) = (cx.b.full_like(max, largest)?, cx.b.full_like(max, -largest)?);
            let max = cx.b.map(Min, &[max, most])?;
            let max = cx.b.map(Max, &[max, least])?;
            let max = cx.b.op1(StopGradient {}, &[max])?;
            let wide = cx.b.unreduce(max, x, &axes)?;
            let shifted = cx.b.map(Sub, &[x, wide])?;
            let e = cx.b.map(Exp, &[shifted])?;
            let sum = cx.b.sum(e, &axes)?;
            let log = cx.b.map(Log, &[sum])?;
            cx.map(Add, &[log, max])
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[1])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[0])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.sum(e, &[0, 1])?;
                    b.map(Log, &[s])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let m = b.reduce(ReduceKind::Max, x[0], &[1])?;
                    let m = b.unreduce(m, x[0], &[1])?;
                    let d = b.map(Sub, &[x[0], m])?;
                    let e = b.map(Exp, &[d])?;
                    let s = b.sum(e, &[1])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let s = b.reduce(ReduceKind::Max, e, &[1])?;
                    b.map(Log, &[s])
                })
            },
        ],
    },
    Rule {
        name: "softplus",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            let e = match function(&node.op) {
                Some(Log) => map_of(cx.b, ins[0], Add).and_then(|s| other_than(cx.b, &s, 1.0)),
                Some(Log1p) => Some(ins[0]),
                _ => None,
            };
            match e.and_then(|e| unary(cx.b, e, Exp)) {
                Some(x) => cx.map(Softplus, &[x]),
                None => Ok(Outcome::No),
            }
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[e, one])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    b.map(Log1p, &[e])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 2.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Sub, &[e, one])?;
                    b.map(Log, &[s])
                })
            },
        ],
    },
    Rule {
        name: "log1p",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Log) {
                return Ok(Outcome::No);
            }
            match map_of(cx.b, ins[0], Add).and_then(|s| other_than(cx.b, &s, 1.0)) {
                Some(x) => cx.map(Log1p, &[x]),
                None => Ok(Outcome::No),
            }
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = x[0];
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[e, one])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = x[0];
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Log, &[s])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = x[0];
                    let one = b.full_like(e, 2.0)?;
                    let s = b.map(Add, &[e, one])?;
                    b.map(Log, &[s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = x[0];
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Sub, &[one, e])?;
                    b.map(Log, &[s])
                })
            },
        ],
    },
    Rule {
        name: "expm1",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            let e = match function(&node.op) {
                Some(Sub) if is(cx.b, ins[1], 1.0) => Some(ins[0]),
                Some(Add) => other_than(cx.b, ins, -1.0),
                _ => None,
            };
            match e.and_then(|e| unary(cx.b, e, Exp)) {
                Some(x) => cx.map(Expm1, &[x]),
                None => Ok(Outcome::No),
            }
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Sub, &[e, one])?;
                    Ok(s)
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, -1.0)?;
                    let s = b.map(Add, &[e, one])?;
                    Ok(s)
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, -1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    Ok(s)
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Sub, &[one, e])?;
                    Ok(s)
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[e, one])?;
                    Ok(s)
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 2.0)?;
                    let s = b.map(Sub, &[e, one])?;
                    Ok(s)
                })
            },
        ],
    },
    Rule {
        name: "sigmoid",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            let sum = match function(&node.op) {
                Some(Div) if is(cx.b, ins[0], 1.0) => ins[1],
                Some(Recip) => ins[0],
                _ => return Ok(Outcome::No),
            };
            let e = map_of(cx.b, sum, Add).and_then(|s| other_than(cx.b, &s, 1.0));
            let x = e.and_then(|e| unary(cx.b, e, Exp)).and_then(|n| unary(cx.b, n, Neg));
            match x {
                Some(x) => cx.map(Sigmoid, &[x]),
                None => Ok(Outcome::No),
            }
        },
        examples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = {
                        let n = b.map(Neg, &[x[0]])?;
                        b.map(Exp, &[n])?
                    };
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Div, &[one, s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = {
                        let n = b.map(Neg, &[x[0]])?;
                        b.map(Exp, &[n])?
                    };
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[e, one])?;
                    b.map(Div, &[one, s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = {
                        let n = b.map(Neg, &[x[0]])?;
                        b.map(Exp, &[n])?
                    };
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Recip, &[s])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = b.map(Exp, &[x[0]])?;
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Div, &[one, s])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = {
                        let n = b.map(Neg, &[x[0]])?;
                        b.map(Exp, &[n])?
                    };
                    let one = b.full_like(e, 1.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Div, &[s, one])
                })
            },
            || {
                example(&[&[3, 5]], |b, x| {
                    let e = {
                        let n = b.map(Neg, &[x[0]])?;
                        b.map(Exp, &[n])?
                    };
                    let one = b.full_like(e, 2.0)?;
                    let s = b.map(Add, &[one, e])?;
                    b.map(Div, &[one, s])
                })
            },
        ],
    },
    Rule {
        name: "log-of-sigmoid",
        exactness: Exactness::Rounds,
        apply: |cx, node, ins| {
            if function(&node.op) != Some(Log) {
                return Ok(Outcome::No);
            }
            let Some(x) = unary(cx.b, ins[0], Sigmoid) else { return Ok(Outcome::No) };
            let minus = cx.b.map(Neg, &[x])?;
            let s = cx.b.map(Softplus, &[minus])?;
            cx.map(Neg, &[s])
        },
        examples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let s = b.map(Sigmoid, &[x[0]])?;
                b.map(Log, &[s])
            })
        }],
        counterexamples: &[|| {
            example(&[&[3, 5]], |b, x| {
                let s = b.map(Sigmoid, &[x[0]])?;
                b.map(Log1p, &[s])
            })
        }],
    },
];

/// Whether a value is `something - broadcast(its maximum)`.
fn is_shifted(b: &graphc_ir::Builder, x: graphc_ir::ValueId) -> bool {
    let Some(ins) = map_of(b, x, Sub) else { return false };
    let Some((inner, _)) = broadcast(b, ins[1]) else { return false };
    let node = b.graph().def(inner);
    let mut inner = if matches!(node.op, Op::StopGradient(_)) { node.ins[0] } else { inner };
    // Clipped, perhaps, to finite numbers.
    while let Some(ins) = map_of(b, inner, Max).or_else(|| map_of(b, inner, Min)) {
        if super::pattern::literal(b, ins[1]).is_none() {
            break;
        }
        inner = ins[0];
    }
    reduction(b, inner, ReduceKind::Max).is_some_and(|(of, _)| of == ins[0])
}
