//! Broken bodies: types, levels, phases, loads and stores.

use super::fixtures::*;
use super::refuse::refuse;
use crate::dtype::DType;
use crate::program::*;
use crate::scalar::{Scalar, ScalarFn};

/// The body of a step of the training step: 1 is the dot (acc, load, add, relu), 3 the row cluster
/// (load, fold, div, const, lt), 4 the reduction (load, fold).
fn body(p: &mut Program, step: usize) -> &mut Body {
    match &mut p.steps[step].kernel {
        Kernel::Nest(n) => &mut n.body,
        Kernel::Dot(d) => &mut d.body,
        _ => panic!("step {step} has no body"),
    }
}

fn inst(op: InstOp, args: &[Reg], dtype: DType, level: Level) -> Inst {
    Inst { op, args: args.to_vec(), dtype, level, post: false }
}

#[test]
fn instructions() {
    refuse(
        training_step,
        &[
            (
                |p| body(p, 3).insts[1].args = vec![Reg(2)],
                "instruction %1: its argument %2 is not computed before it",
            ),
            (|p| body(p, 3).insts[2].args = vec![Reg(0)], "instruction %2: it has 1 arguments, but takes 2"),
            (|p| body(p, 3).insts[2].dtype = DType::F64, "instruction %2: it gives f32, but is declared f64"),
            (|p| body(p, 3).insts[4].op = InstOp::Fn(ScalarFn::And), "and takes an integer type or bool"),
            (|p| body(p, 3).insts[0].op = InstOp::Load(1), "it loads read port 1, but the body's are 0..1"),
            (|p| body(p, 1).insts[1].op = InstOp::Load(1), "it loads read port 1, but the body's are 2..3"),
            (|p| body(p, 3).insts[0].op = InstOp::Acc, "only a dot has a product's element"),
            (
                |p| body(p, 3).insts[3].op = InstOp::Const(Scalar::I(1)),
                "the constant I(1) is not a value of f32",
            ),
            (|p| body(p, 3).insts[0].dtype = DType::F16, "instruction %0: it gives f32, but is declared f16"),
            (
                |p| body(p, 3).insts[3] = inst(InstOp::Index(vec![1]), &[], DType::I64, Level::Elem),
                "it has 1 strides, but the domain [4, 5] has 2 dims",
            ),
            (
                |p| {
                    body(p, 3).insts[3] = inst(InstOp::Index(vec![i64::MAX, 1]), &[], DType::I64, Level::Elem)
                },
                "overflows i64",
            ),
            (
                |p| body(p, 3).insts[3] = inst(InstOp::Index(vec![5, 1]), &[], DType::F32, Level::Elem),
                "it gives i64, but is declared f32",
            ),
            (
                |p| {
                    body(p, 3).insts[4] =
                        inst(InstOp::RandomBits, &[Reg(0), Reg(0), Reg(0)], DType::U32, Level::Elem)
                },
                "random bits take u32, u32 and an i64 or u64",
            ),
            (
                |p| {
                    let fold = InstOp::Fold(FoldKind::Max, FoldAxis::Cols);
                    body(p, 3).insts.push(inst(fold, &[Reg(4)], DType::Bool, Level::Row));
                },
                "a fold Max cannot take bool",
            ),
        ],
    );
}

#[test]
fn levels_and_phases() {
    refuse(
        training_step,
        &[
            (
                |p| body(p, 3).insts[2].level = Level::Row,
                "instruction %2: its level is Elem, but is declared Row",
            ),
            (|p| body(p, 3).insts[3].level = Level::Col, "its level is Scalar, but is declared Col"),
            (
                |p| body(p, 3).insts[0].level = Level::Row,
                "its level is declared Row, but it varies over dim 1",
            ),
            (
                |p| body(p, 1).insts[1].level = Level::Row,
                "its level is declared Row, but it varies over dim 1",
            ),
            (|p| body(p, 1).insts[0].level = Level::Col, "its level is Elem, but is declared Col"),
            (
                |p| {
                    p.steps[1].reads[2].view.strides = vec![0, 0];
                    body(p, 3).insts[3] = inst(InstOp::Index(vec![5, 1]), &[], DType::I64, Level::Row);
                },
                "its level is declared Row, but it varies over dim 1",
            ),
            (
                |p| body(p, 4).insts[1].post = false,
                "it depends on a fold down the columns, but is declared post: false",
            ),
            (|p| body(p, 3).insts[2].post = true, "it does not depend on a fold down the columns"),
            (
                |p| {
                    let add = inst(InstOp::Fn(ScalarFn::Add), &[Reg(0), Reg(1)], DType::F32, Level::Elem);
                    body(p, 4).insts.push(Inst { post: true, ..add });
                },
                "it varies by row and depends on a fold down the columns",
            ),
            (
                |p| {
                    let again = body(p, 4).insts[1].clone();
                    body(p, 4).insts.push(Inst { args: vec![Reg(1)], ..again });
                },
                "a fold down the columns cannot take what depends on another one",
            ),
        ],
    );
}

#[test]
fn loads_stores_and_checks() {
    refuse(
        training_step,
        &[
            (
                |p| {
                    let extra = p.steps[3].reads[0].clone();
                    p.steps[3].reads.push(extra);
                },
                "the body never loads read port 1",
            ),
            (
                |p| {
                    let (extra, port) = (body(p, 3).stores[0], p.steps[3].writes[0].clone());
                    body(p, 3).stores.push(extra);
                    p.steps[3].writes.push(port);
                },
                "%2 is stored to write port 0, which does not exist or has a store already",
            ),
            (|p| body(p, 3).stores[0].write = 1, "stored to write port 1, which does not exist"),
            (|p| body(p, 3).stores[0].reg = Reg(77), "%77 does not exist; there are 5 instructions"),
            (
                |p| body(p, 3).stores[0].reg = Reg(4),
                "%4 is bool, but it is stored to buffer b6, which is f32",
            ),
            (|p| body(p, 3).checks[0].reg = Reg(2), "takes a bool, but %2 is f32"),
            (|p| body(p, 3).checks[0].reg = Reg(9), "%9 does not exist"),
        ],
    );
}

#[test]
fn padding_varies_where_its_guard_does() {
    let make = |level| {
        let mut m = Make::default();
        let x = m.input(DType::F32, &[]);
        let y = m.output(DType::F32, &[3]);
        let mut b = Body::default();
        let v = load(&mut b, 0, DType::F32, level);
        store(&mut b, v, 0);
        let mut read = port(x, 0, &[0]);
        read.view.guard = Some(Guard { lo: vec![1], hi: vec![2], fill: Scalar::F(9.0) });
        m.nest(&[], &[3], b, &[read], &[m.dense(y)]);
        m
    };
    assert_eq!(run1(make(Level::Elem), &[floats(&[], &[4.0])]), floats(&[3], &[9.0, 4.0, 9.0]));
    let e = make(Level::Row).finish().verify().unwrap_err().to_string();
    assert!(e.contains("it varies over dim 0"), "{e}");
}
