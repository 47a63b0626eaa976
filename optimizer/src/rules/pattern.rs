//! What rules recognize.

use graphc_ir::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::ops::{Op, ReduceKind};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::{DType, Dim, TensorType};

/// The operands, if the value is this scalar function of them.
pub fn map_of(b: &Builder, v: ValueId, f: ScalarFn) -> Option<Vec<ValueId>> {
    let node = b.graph().def(v);
    matches!(&node.op, Op::Map(m) if m.f == f).then(|| node.ins.clone())
}

/// The one operand, if the value is this scalar function of it.
pub fn unary(b: &Builder, v: ValueId, f: ScalarFn) -> Option<ValueId> {
    map_of(b, v, f).map(|ins| ins[0])
}

/// The element, if all elements of the value are the same constant.
pub fn literal(b: &Builder, v: ValueId) -> Option<Scalar> {
    let mut node = b.graph().def(v);
    loop {
        match &node.op {
            Op::Const(c) if c.value.len() == 1 => return Some(c.value.get(0)),
            Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) => node = b.graph().def(node.ins[0]),
            _ => return None,
        }
    }
}

/// Whether all elements are this number.
pub fn is(b: &Builder, v: ValueId, number: f64) -> bool {
    literal(b, v).is_some_and(|s| !matches!(s, Scalar::B(_)) && s.as_f64() == number)
}

/// The operand that is not `number`, if the other is.
pub fn other_than(b: &Builder, ins: &[ValueId], number: f64) -> Option<ValueId> {
    match ins {
        [x, y] if is(b, *y, number) => Some(*x),
        [x, y] if is(b, *x, number) => Some(*y),
        _ => None,
    }
}

/// (operand, axes), if the value is a reduction.
pub fn reduction(b: &Builder, v: ValueId, kind: ReduceKind) -> Option<(ValueId, Vec<usize>)> {
    let node = b.graph().def(v);
    match &node.op {
        Op::Reduce(r) if r.kind == kind => Some((node.ins[0], r.axes.clone())),
        _ => None,
    }
}

/// (operand, axes that were added), if the value is a broadcast.
pub fn broadcast(b: &Builder, v: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let node = b.graph().def(v);
    let Op::Broadcast(op) = &node.op else { return None };
    Some((node.ins[0], (0..op.dims.len()).filter(|a| !op.axes.contains(a)).collect()))
}

/// Sizes as dims.
pub fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|d| Dim::from(*d)).collect()
}

/// A small graph for a rule's example: f32 inputs of the given shapes, one result.
pub fn example(
    shapes: &[&[usize]],
    f: impl FnOnce(&mut Builder, &[ValueId]) -> Result<ValueId>,
) -> Result<Graph> {
    let mut b = Builder::new();
    let ins = shapes.iter().map(|s| b.input(TensorType::fixed(DType::F32, s))).collect::<Result<Vec<_>>>()?;
    let out = f(&mut b, &ins)?;
    b.finish(&[out])
}

/// exp(f(x, number)), or with the number on the left: examples of rules about literal operands.
pub fn with_number(f: ScalarFn, number: f64, left: bool) -> Result<Graph> {
    example(&[&[3, 5]], |b, x| {
        let number = b.full_like(x[0], number)?;
        let y = b.map(f, &if left { [number, x[0]] } else { [x[0], number] })?;
        b.map(ScalarFn::Exp, &[y])
    })
}
