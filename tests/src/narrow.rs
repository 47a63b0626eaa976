//! Graphs in f32 that are otherwise the same as graphs in f64: for devices without f64.

use graphc_ir::error::Result;
use graphc_ir::{DType, Graph, Module, Op, Tensor};

fn narrow(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F32 } else { dtype }
}

/// A tensor with f32 for f64.
pub fn narrowed_tensor(tensor: &Tensor) -> Tensor {
    tensor.cast(narrow(tensor.dtype()))
}

/// A graph with f32 for f64.
///
/// # Errors
/// When an operation does not take f32.
pub fn narrowed(graph: &Graph) -> Result<Graph> {
    graph.rebuild(|b, _, node, ins| {
        let op = match &node.op {
            Op::Input(_) => {
                let mut ty = graph.ty(node.out(0)).clone();
                ty.dtype = narrow(ty.dtype);
                return Ok(vec![b.input(ty)?]);
            }
            Op::StateRead(s) => {
                let mut ty = graph.ty(node.out(0)).clone();
                ty.dtype = narrow(ty.dtype);
                return Ok(vec![b.state(s.index, ty)?]);
            }
            Op::Const(c) => return Ok(vec![b.constant(narrowed_tensor(&c.value))?]),
            Op::Cast(c) if narrow(c.to) == b.ty(ins[0]).dtype => return Ok(vec![ins[0]]),
            Op::Cast(c) => Op::Cast(graphc_ir::ops::Cast { to: narrow(c.to) }),
            Op::Iota(i) => Op::Iota(graphc_ir::ops::Iota { dtype: narrow(i.dtype), ..i.clone() }),
            Op::Uniform(u) => Op::Uniform(graphc_ir::ops::Uniform { dtype: narrow(u.dtype), ..u.clone() }),
            Op::Normal(n) => Op::Normal(graphc_ir::ops::Normal { dtype: narrow(n.dtype), ..n.clone() }),
            Op::TruncatedNormal(n) => {
                Op::TruncatedNormal(graphc_ir::ops::TruncatedNormal { dtype: narrow(n.dtype), ..n.clone() })
            }
            op if op.has_bodies() => op.map_bodies(&mut |body| narrowed(body))?,
            op => op.clone(),
        };
        b.op(op, ins)
    })
}

/// A module with f32 for f64, in its functions and its state.
///
/// # Errors
/// When an operation does not take f32.
pub fn narrowed_module(module: &Module) -> Result<Module> {
    let mut module = module.clone();
    for function in module.functions.values_mut() {
        function.graph = narrowed(&function.graph)?;
    }
    for variable in &mut module.state {
        variable.ty.dtype = narrow(variable.ty.dtype);
        variable.init = variable.init.as_ref().map(|value| narrowed_tensor(value).into());
    }
    Ok(module)
}
