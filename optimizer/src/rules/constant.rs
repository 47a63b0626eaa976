//! Constant folding.

use graphc_ir::interp;
use graphc_ir::ops::{Const, Op};
use graphc_ir::scalar::{Class, ScalarFn};
use graphc_ir::{Builder, TensorType};

use super::pattern::example;
use super::{Exactness, Outcome, Rule};

/// Larger results are computed once at run time (staged), never stored in the graph.
const MAX_ELEMENTS: usize = 4096;

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
                    | Op::Scan(_)
                    | Op::RandomBits(_)
            );
            if skip || ins.is_empty() {
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
        example: || {
            example(&[&[3]], |b, x| {
                let c = b.scalar(graphc_ir::DType::F32, 2.0)?;
                let d = b.map(ScalarFn::Exp, &[c])?;
                b.map(ScalarFn::Mul, &[x[0], d])
            })
        },
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
        example: || {
            example(&[&[3], &[3]], |b, x| {
                let yes = graphc_ir::Tensor::scalar(graphc_ir::DType::Bool, graphc_ir::Scalar::B(true));
                let c = b.constant(yes)?;
                let s = b.map(ScalarFn::Select, &[c, x[0], x[1]])?;
                b.map(ScalarFn::Exp, &[s])
            })
        },
    },
];
