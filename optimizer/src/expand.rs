//! Expansion: composites become primitives, in loops' bodies too, and arithmetic on f16 and bf16 becomes that on f32.

use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::ops::{Op, ReduceKind};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::{Builder, DType};

/// Replaces every composite by its definition, until none is left, and drops stopped gradients.
pub fn expand(graph: &Graph) -> Result<Graph> {
    graph.rebuild(|b, _, node, ins| emit(b, &node.op, ins))
}

fn emit(b: &mut Builder, op: &Op, ins: &[ValueId]) -> Result<Vec<ValueId>> {
    let whole = op.is_composite() || op.widens(ins.iter().map(|v| b.ty(*v).dtype));
    match op {
        Op::StopGradient(_) => Ok(ins.to_vec()),
        Op::Check(_) => {
            let condition = same_shape_or_scalar(b, ins[0], ins[1])?;
            b.op(op.clone(), &[ins[0], condition])
        }
        op if !whole => b.op(op.map_bodies(&mut expand)?, ins),
        op => {
            // The definition is written apart, so that the composites in it are expanded as well.
            let mut inner = Builder::with_infer(b.graph().infer().clone());
            let args = ins.iter().map(|v| inner.input(b.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
            let outs = op.expand(&mut inner, &args)?.unwrap_or_default();
            let graph = inner.finish(&outs)?;
            let mut map: Vec<ValueId> = Vec::with_capacity(graph.value_count());
            for (_, node) in graph.nodes() {
                if let Op::Input(input) = &node.op {
                    map.push(ins[input.index]);
                    continue;
                }
                let operands: Vec<ValueId> = node.ins.iter().map(|v| map[v.index()]).collect();
                map.extend(emit(b, &node.op, &operands)?);
            }
            Ok(graph.results().iter().map(|r| map[r.index()]).collect())
        }
    }
}

/// A check's condition over the dims of what it guards; else whether all of it holds, as one value.
fn same_shape_or_scalar(b: &mut Builder, x: ValueId, condition: ValueId) -> Result<ValueId> {
    let ty = b.ty(condition).clone();
    if ty.dims == b.ty(x).dims || ty.dims.is_empty() {
        return Ok(condition);
    }
    let all: Vec<usize> = (0..ty.rank()).collect();
    let numbers = b.cast(condition, DType::I32)?;
    let least = b.reduce(ReduceKind::Min, numbers, &all)?;
    let zero = b.scalar(DType::I32, 0.0)?;
    b.map(ScalarFn::Ne, &[least, zero])
}
