//! Graphs in another element type that are otherwise the same: for devices without f64, and for types that samples and
//! examples are not written in.

use graphc_ir::error::{Error, Result};
use graphc_ir::ops::{Cast, Iota, Normal, TruncatedNormal, Uniform};
use graphc_ir::{DType, Graph, Module, Op, Tensor};

/// A tensor with f32 for f64.
pub fn narrowed_tensor(tensor: &Tensor) -> Tensor {
    narrowed_tensor_to(tensor, DType::F32)
}

/// A tensor with another float type for f64.
pub fn narrowed_tensor_to(tensor: &Tensor, to: DType) -> Tensor {
    if tensor.dtype() == DType::F64 { tensor.cast(to) } else { tensor.clone() }
}

/// A graph with f32 for f64.
///
/// # Errors
/// When an operation does not take f32.
pub fn narrowed(graph: &Graph) -> Result<Graph> {
    narrowed_to(graph, DType::F32)
}

/// A graph with another float type for f64.
///
/// # Errors
/// When an operation does not take the type.
pub fn narrowed_to(graph: &Graph, to: DType) -> Result<Graph> {
    retyped(graph, DType::F64, to)
}

/// A graph with one element type in the place of another. What gives f32 whatever it is given is cast.
///
/// # Errors
/// When an operation does not take the type, or an integer type does not hold a constant.
pub fn retyped(graph: &Graph, from: DType, to: DType) -> Result<Graph> {
    let new = |dtype: DType| if dtype == from { to } else { dtype };
    let draw = |dtype: DType| if new(dtype).is_compute_float() { new(dtype) } else { DType::F32 };
    let constant = |value: &Tensor| {
        let other = value.cast(new(value.dtype()));
        if other.dtype().is_int() && other.cast(value.dtype()) != *value {
            return Err(Error::new(format!("a constant does not fit {to}")));
        }
        Ok(other)
    };
    graph.rebuild(|b, _, node, ins| {
        let op = match &node.op {
            Op::Input(_) => {
                let mut ty = graph.ty(node.out(0)).clone();
                ty.dtype = new(ty.dtype);
                return Ok(vec![b.input(ty)?]);
            }
            Op::StateRead(s) => {
                let mut ty = graph.ty(node.out(0)).clone();
                ty.dtype = new(ty.dtype);
                return Ok(vec![b.state(s.index, ty)?]);
            }
            Op::Const(c) => return Ok(vec![b.constant(constant(&c.value)?)?]),
            Op::Cast(c) if new(c.to) == b.ty(ins[0]).dtype => return Ok(vec![ins[0]]),
            Op::Cast(c) => Op::Cast(Cast { to: new(c.to) }),
            Op::Iota(i) => Op::Iota(Iota { dtype: new(i.dtype), ..i.clone() }),
            Op::Uniform(u) => Op::Uniform(Uniform { dtype: draw(u.dtype), ..u.clone() }),
            Op::Normal(n) => Op::Normal(Normal { dtype: draw(n.dtype), ..n.clone() }),
            Op::TruncatedNormal(n) => {
                Op::TruncatedNormal(TruncatedNormal { dtype: draw(n.dtype), ..n.clone() })
            }
            op if op.has_bodies() => op.map_bodies(&mut |body| retyped(body, from, to))?,
            op => op.clone(),
        };
        let outs = b.op(op, ins)?;
        // Products of f16 and bf16 are f32.
        let kept = |(old, v)| {
            let (is, want) = (b.ty(v).dtype, new(graph.ty(old).dtype));
            if is.is_float() && want.is_float() { b.cast(v, want) } else { Ok(v) }
        };
        node.outs().zip(outs).map(kept).collect()
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
        if variable.ty.dtype == DType::F64 {
            variable.ty.dtype = DType::F32;
        }
        variable.init = variable.init.as_ref().map(|value| narrowed_tensor(value).into());
    }
    Ok(module)
}
