//! From an operation's samples to graphs, gradients and central differences.

use graphc_ir::dim::Symbol;
use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Interpolation, OpInfo, PadSource, Sample, Uniform};
use graphc_ir::{Binding, Builder, DType, Dim, Graph, Op, ScalarFn, Tensor, TensorType, ValueId};
use graphc_ir::{autodiff, interp};

/// A sample with the operation it belongs to.
pub struct Case {
    /// The operation's entry.
    pub info: &'static OpInfo,
    /// Operation and operands.
    pub sample: Sample,
}

impl Case {
    /// Operation, attributes and operand types, for messages.
    pub fn describe(&self) -> String {
        let ins: Vec<_> = self.types().iter().map(ToString::to_string).collect();
        format!("{:?} of ({})", self.sample.op, ins.join(", "))
    }

    /// Types of the operands.
    pub fn types(&self) -> Vec<TensorType> {
        self.sample.ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect()
    }

    /// Whether the operation gives a float from a float.
    pub fn is_float(&self) -> Result<bool> {
        let graph = applied(&self.sample.op, &self.types())?;
        let is_float = |v: &ValueId| graph.ty(*v).dtype.is_float();
        Ok(graph.inputs().iter().any(is_float) && graph.results().iter().any(is_float))
    }
}

/// Every sample of every operation.
pub fn cases() -> Vec<Case> {
    let of = |info: &'static OpInfo| (info.samples)().into_iter().map(move |sample| Case { info, sample });
    Op::LIST.iter().flat_map(of).collect()
}

/// The graph of one operation on inputs.
pub fn applied(op: &Op, types: &[TensorType]) -> Result<Graph> {
    let mut b = Builder::new();
    let ins = inputs(&mut b, types)?;
    let outs = b.op(op.clone(), &ins)?;
    b.finish(&outs)
}

fn inputs(b: &mut Builder, types: &[TensorType]) -> Result<Vec<ValueId>> {
    types.iter().map(|t| b.input(t.clone())).collect()
}

/// A random fixed projection of float values to one number, in f64: sum over all of weight * value.
///
/// Weights are drawn by the graph itself, so that the dims may be symbolic.
pub fn project(b: &mut Builder, values: &[ValueId], seed: u32) -> Result<ValueId> {
    let mut total = b.scalar(DType::F64, 0.0)?;
    for (k, v) in values.iter().enumerate() {
        if !b.ty(*v).dtype.is_float() {
            continue;
        }
        let wide = b.cast(*v, DType::F64)?;
        let dims = b.ty(wide).dims.clone();
        let key = b.constant(Tensor::from_slice(&[2], &[seed, k as u32]))?;
        let draw = Uniform { dtype: DType::F64, dims, lo: Real(-1.5), hi: Real(1.5) };
        let weight = b.op1(draw, &[key])?;
        let product = b.map(ScalarFn::Mul, &[weight, wide])?;
        let axes: Vec<usize> = (0..b.ty(product).rank()).collect();
        let sum = b.sum(product, &axes)?;
        total = b.map(ScalarFn::Add, &[total, sum])?;
    }
    Ok(total)
}

/// A scalar and its gradients.
pub struct Differentiated {
    /// Results: the scalar alone.
    pub value: Graph,
    /// Results: one gradient for each operand in `wrt`.
    pub gradient: Graph,
    /// Whether a differentiable path leads to each operand; without one its gradient is zeros.
    pub reached: Vec<bool>,
}

/// The projection of a graph's float results, differentiated with respect to some of its inputs.
///
/// # Errors
/// An operation without a gradient on the only path.
pub fn differentiate(graph: &Graph, wrt: &[usize], seed: u32) -> Result<Differentiated> {
    let mut b = Builder::with_infer(graph.infer().clone());
    let ins = b.inputs_like(graph)?;
    let outs = b.inline(graph, &ins)?;
    let scalar = project(&mut b, &outs, seed)?;
    let one = b.scalar(DType::F64, 1.0)?;
    let targets: Vec<ValueId> = wrt.iter().map(|i| ins[*i]).collect();
    let grads = autodiff::backward(&mut b, &[(scalar, one)], &targets)?;
    let mut found = Vec::new();
    for (g, v) in grads.iter().zip(&targets) {
        found.push(match g {
            Some(g) => *g,
            None => b.zeros_like(*v)?,
        });
    }
    let whole = b.finish(&found)?;
    let copy = |results: &[ValueId]| -> Result<Graph> {
        let mut b = Builder::with_infer(whole.infer().clone());
        let ins = b.inputs_like(&whole)?;
        let all = b.inline_all(&whole, &ins)?;
        let results: Vec<ValueId> = results.iter().map(|r| all[r.index()]).collect();
        b.finish(&results)?.pruned()
    };
    let reached = grads.iter().map(Option::is_some).collect();
    Ok(Differentiated { value: copy(&[scalar])?, gradient: copy(&found)?, reached })
}

/// The same projection and its derivative along a direction: results of a graph that takes, after the given one's
/// inputs, a tangent for each of those in `wrt`.
///
/// # Errors
/// An operation without a derivative.
pub fn pushed_forward(graph: &Graph, wrt: &[usize], seed: u32) -> Result<Graph> {
    let mut b = Builder::with_infer(graph.infer().clone());
    let ins = b.inputs_like(graph)?;
    let targets: Vec<ValueId> = wrt.iter().map(|i| ins[*i]).collect();
    let tangents =
        wrt.iter().map(|i| b.input(graph.ty(graph.inputs()[*i]).clone())).collect::<Result<Vec<_>>>()?;
    let outs = b.inline(graph, &ins)?;
    let scalar = project(&mut b, &outs, seed)?;
    let dual = autodiff::forward(&mut b, &[scalar], &targets, &tangents)?[0];
    let tangent = match dual.tangent {
        Some(t) => t,
        None => b.scalar(DType::F64, 0.0)?,
    };
    b.finish(&[dual.value, tangent])?.pruned()
}

/// Central differences of a graph with one rank-0 result, for every element of operand `wrt`.
pub fn central_differences(value: &Graph, ins: &[Tensor], wrt: usize) -> Result<Vec<f64>> {
    let mut ins = ins.to_vec();
    let mut slopes = Vec::with_capacity(ins[wrt].len());
    for i in 0..ins[wrt].len() {
        let x = ins[wrt].get(i).as_f64();
        // The cube root of the unit roundoff balances truncation against cancellation.
        let step = 6e-6 * x.abs().max(1.0);
        let mut at = |v: f64| -> Result<f64> {
            ins[wrt].set(i, graphc_ir::Scalar::F(v));
            Ok(interp::eval(value, &ins.iter().collect::<Vec<_>>(), &[])?[0].get(0).as_f64())
        };
        let (up, down) = (x + step, x - step);
        slopes.push((at(up)? - at(down)?) / (up - down));
        at(x)?;
    }
    Ok(slopes)
}

/// Evaluates a graph without state.
pub fn eval(graph: &Graph, ins: &[Tensor]) -> Result<Vec<Tensor>> {
    interp::eval(graph, &ins.iter().collect::<Vec<_>>(), &[])
}

/// A sample with its sizes replaced by symbols, and the binding that gives the sizes back.
pub struct Symbolic {
    /// The operation over symbols.
    pub op: Op,
    /// Operand types over symbols.
    pub types: Vec<TensorType>,
    /// The sizes.
    pub binding: Binding,
}

/// Axes of an operand whose sizes are numbers in every graph: the spatial ones of filters, and those along
/// which elements are chosen by their number.
fn number_axes(op: &Op, operand: usize, rank: usize) -> Vec<usize> {
    let axes = match op {
        Op::Conv(op) if operand == 1 => op.layout.kernel_axes(rank),
        Op::ConvInputGrad(op) if operand == 1 => op.layout.kernel_axes(rank),
        Op::ConvBias(op) if operand == 1 => op.layout.kernel_axes(rank),
        Op::ConvTranspose(op) if operand == 1 => op.layout.kernel_axes(rank),
        Op::AdaptiveAvgPool(op) if op.size.iter().any(|s| *s != 1) => op.layout.spatial_axes(rank),
        Op::AdaptiveMaxPool(op) if op.size.iter().any(|s| *s != 1) => op.layout.spatial_axes(rank),
        Op::Upsample(op) if op.mode == Interpolation::Linear => op.layout.spatial_axes(rank),
        Op::PadMode(op) if op.mode == PadSource::Reflect => {
            return (0..rank).filter(|a| op.lo[*a] + op.hi[*a] > 0).collect();
        }
        _ => 0..0,
    };
    axes.collect()
}

/// Replaces every size of operands and attributes by a symbol, equal sizes by one symbol. Random keys,
/// whose type is fixed, and sizes that must be numbers stay.
pub fn symbolic(case: &Case) -> Result<Symbolic> {
    let mut binding = Binding::new();
    let mut replace = |d: &Dim| -> Result<Dim> {
        match d.as_const() {
            Some(n) => {
                let symbol = Symbol::new(&format!("N{n}"))?;
                binding.set(&symbol, n, "the sample")?;
                Ok(Dim::from(symbol))
            }
            None => Ok(d.clone()),
        }
    };
    let op = case.sample.op.map_dims(&mut replace)?;
    let mut types = case.types();
    for (i, t) in types.iter_mut().enumerate() {
        if *t == TensorType::fixed(DType::U32, &[2]) {
            continue;
        }
        let numbers = number_axes(&case.sample.op, i, t.rank());
        for (_, d) in t.dims.iter_mut().enumerate().filter(|(axis, _)| !numbers.contains(axis)) {
            *d = replace(d)?;
        }
    }
    Ok(Symbolic { op, types, binding })
}

/// The graph with every composite replaced by its expansion, down to primitives.
pub fn expanded(graph: &Graph) -> Result<Graph> {
    let mut graph = graph.clone();
    while graph.nodes().any(|(_, n)| n.op.is_composite()) {
        graph = graph.rebuild(|b, _, node, ins| match node.op.expand(b, ins)? {
            Some(outs) => Ok(outs),
            None => b.op(node.op.clone(), ins),
        })?;
    }
    Ok(graph)
}
