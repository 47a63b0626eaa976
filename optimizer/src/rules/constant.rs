//! Constant folding.

use graphc_ir::interp;
use graphc_ir::ops::{Const, Moments, Op};
use graphc_ir::scalar::{Class, ScalarFn};
use graphc_ir::{Builder, DType, Scalar, Tensor, TensorType};

use super::pattern::example;
use super::{Exactness, Outcome, Rule};

/// Larger results are computed once at run time (staged), never stored in the graph.
const MAX_ELEMENTS: usize = 4096;

/// A constant without structure, for examples.
fn table(shape: &[usize]) -> Tensor {
    Tensor::from_fn(DType::F32, shape, |i| Scalar::F((i % 7) as f64 / 4.0))
}

pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "fold-constants",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            // Repetition is a view: folding it would only make it larger. A check must be seen to hold.
            let skip = matches!(
                node.op,
                Op::Const(_)
                    | Op::Broadcast(_)
                    | Op::Iota(_)
                    | Op::Input(_)
                    | Op::StateRead(_)
                    | Op::RandomBits(_)
            );
            if skip || node.op.has_bodies() || ins.is_empty() {
                return Ok(Outcome::No);
            }
            let mut operands = Vec::new();
            for v in ins {
                match &cx.b.graph().def(*v).op {
                    Op::Const(c) => operands.push(c.value.clone()),
                    _ => return Ok(Outcome::No),
                }
            }
            let mut b = Builder::new();
            let args = operands
                .iter()
                .map(|t| b.input(TensorType::fixed(t.dtype(), t.shape())))
                .collect::<graphc_ir::Result<Vec<_>>>()?;
            let outs = b.op(node.op.clone(), &args)?;
            for o in &outs {
                match b.ty(*o).shape() {
                    Some(s) if s.iter().product::<usize>() <= MAX_ELEMENTS => {}
                    Some(_) => return Ok(Outcome::Rejected("the result has more than 4,096 elements")),
                    None => return Ok(Outcome::No),
                }
            }
            let refs: Vec<_> = operands.iter().map(|t| &**t).collect();
            // A failing check stays where it is and fails the run.
            let Ok(values) = interp::eval(&b.finish(&outs)?, &refs, &[]) else {
                return Ok(Outcome::Rejected("its evaluation fails"));
            };
            let folded = values.into_iter().map(|t| cx.b.op1(Const { value: t.into() }, &[]));
            Ok(Outcome::Replace(folded.collect::<graphc_ir::Result<_>>()?))
        },
        examples: &[
            || {
                example(&[&[3]], |b, x| {
                    let c = b.scalar(DType::F32, 2.0)?;
                    let d = b.map(ScalarFn::Exp, &[c])?;
                    b.map(ScalarFn::Mul, &[x[0], d])
                })
            },
            || {
                example(&[&[3, 2]], |b, x| {
                    let c = b.constant(table(&[2, 3]))?;
                    let t = b.transpose(c, &[1, 0])?;
                    b.map(ScalarFn::Mul, &[x[0], t])
                })
            },
            || {
                example(&[&[2]], |b, x| {
                    let c = b.constant(table(&[2, 3]))?;
                    let m = b.op(Moments { axes: vec![1] }, &[c])?;
                    let v = b.map(ScalarFn::Mul, &[m[0], m[1]])?;
                    b.map(ScalarFn::Mul, &[x[0], v])
                })
            },
        ],
        counterexamples: &[
            || {
                example(&[&[4097]], |b, x| {
                    let c = b.constant(table(&[4097]))?;
                    let d = b.map(ScalarFn::Exp, &[c])?;
                    b.map(ScalarFn::Mul, &[x[0], d])
                })
            },
            || {
                example(&[&[3]], |b, x| {
                    let c = b.scalar(DType::F32, 2.0)?;
                    b.map(ScalarFn::Mul, &[x[0], c])
                })
            },
        ],
    },
    Rule {
        name: "select-by-constant",
        exactness: Exactness::Exact,
        apply: |cx, node, ins| {
            let Op::Map(m) = &node.op else { return Ok(Outcome::No) };
            if m.f.def().class != Class::Select {
                return Ok(Outcome::No);
            }
            Ok(match super::pattern::literal(cx.b, ins[0]) {
                Some(c) => Outcome::Replace(vec![if c.as_bool() { ins[1] } else { ins[2] }]),
                None => Outcome::No,
            })
        },
        examples: &[
            || {
                example(&[&[3], &[3]], |b, x| {
                    let c = b.constant(Tensor::scalar(DType::Bool, Scalar::B(true)))?;
                    let s = b.map(ScalarFn::Select, &[c, x[0], x[1]])?;
                    b.map(ScalarFn::Exp, &[s])
                })
            },
            || {
                example(&[&[3], &[3]], |b, x| {
                    let c = b.constant(Tensor::scalar(DType::Bool, Scalar::B(false)))?;
                    let s = b.map(ScalarFn::Select, &[c, x[0], x[1]])?;
                    b.map(ScalarFn::Exp, &[s])
                })
            },
        ],
        counterexamples: &[|| {
            example(&[&[2], &[2]], |b, x| {
                let c = b.constant(Tensor::from_fn(DType::Bool, &[2], |i| Scalar::B(i == 0)))?;
                b.map(ScalarFn::Select, &[c, x[0], x[1]])
            })
        }],
    },
];
