//! The layout pass: images go through convolutions and pools with their channels last.
//!
//! A value that a channels-last operation makes is known in that order, and a map, a reduction or a movement
//! of it is done in that order too; its transpose to the order of the graph is emitted beside it, and is dead
//! unless something asks for it. So whole regions run channels last, and transposes are left at their edges.
//! Filters are read through transposes, which are views.

use std::collections::BTreeMap;

use graphc_ir::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, Node, ValueId};
use graphc_ir::ops::{Broadcast, Concat, Layout, Op, Pad, Slice};

use crate::fuse::anchor::{filters, images};

/// Rewrites a graph whose dims are numbers.
pub fn channels_last(graph: &Graph) -> Result<Graph> {
    let mut known = Known::default();
    let rewritten = graph.rebuild(|b, _, node, ins| known.node(b, node, ins))?;
    // Without the transposes that nothing asked for.
    rewritten.pruned()
}

/// Axis `order[i]` of a value is axis `i` of the value in this order.
type Order = Vec<usize>;

/// Values that exist in another order of their axes, too.
#[derive(Default)]
struct Known {
    laid: BTreeMap<ValueId, (ValueId, Order)>,
}

fn inverse(order: &[usize]) -> Order {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, a)| inverse[*a] = i);
    inverse
}

fn pick<T: Clone>(list: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|a| list[*a].clone()).collect()
}

impl Known {
    /// Notes a value made in an order, and gives it in the order of the graph.
    fn publish(&mut self, b: &mut Builder, value: ValueId, order: &[usize]) -> Result<ValueId> {
        if order.iter().copied().eq(0..order.len()) {
            return Ok(value);
        }
        let plain = b.transpose(value, &inverse(order))?;
        self.laid.insert(plain, (value, order.to_vec()));
        Ok(plain)
    }

    /// A value in an order.
    fn fetch(&self, b: &mut Builder, v: ValueId, order: &[usize]) -> Result<ValueId> {
        if let Some((laid, known)) = self.laid.get(&v) {
            let at = inverse(known);
            let step: Order = order.iter().map(|a| at[*a]).collect();
            return if known == order { Ok(*laid) } else { b.transpose(*laid, &step) };
        }
        let node = b.graph().def(v);
        if let Op::Broadcast(op) = &node.op {
            let (op, x) = (op.clone(), node.ins[0]);
            return self.broadcast(b, &op, x, order);
        }
        b.transpose(v, order)
    }

    /// A broadcast in an order: its operand's axes in the order in which they come there.
    fn broadcast(&self, b: &mut Builder, op: &Broadcast, x: ValueId, order: &[usize]) -> Result<ValueId> {
        let at = inverse(order);
        let mut axes: Vec<(usize, usize)> = op.axes.iter().enumerate().map(|(i, a)| (at[*a], i)).collect();
        axes.sort_unstable();
        let inner: Order = axes.iter().map(|(_, i)| *i).collect();
        let x = if inner.iter().copied().eq(0..inner.len()) { x } else { self.fetch(b, x, &inner)? };
        let axes: Vec<usize> = axes.into_iter().map(|(a, _)| a).collect();
        b.broadcast(x, &pick(&op.dims, order), &axes)
    }

    /// The order in which a node's operands are best combined.
    fn common(&self, ins: &[ValueId]) -> Option<Order> {
        ins.iter().find_map(|v| self.laid.get(v)).map(|(_, order)| order.clone())
    }

    fn node(&mut self, b: &mut Builder, node: &Node, ins: &[ValueId]) -> Result<Vec<ValueId>> {
        if let Some(last) = with_channels_last(&node.op) {
            return self.image_op(b, last, node, ins);
        }
        match (&node.op, self.common(ins)) {
            (Op::Map(_) | Op::Cast(_) | Op::Check(_), Some(order)) => {
                let rank = order.len();
                let alike = ins.iter().all(|v| b.ty(*v).rank() == rank);
                if !alike {
                    return b.op(node.op.clone(), ins);
                }
                let ins: Vec<ValueId> =
                    ins.iter().map(|v| self.fetch(b, *v, &order)).collect::<Result<_>>()?;
                let out = b.op1(node.op.clone(), &ins)?;
                Ok(vec![self.publish(b, out, &order)?])
            }
            (Op::Reduce(op), Some(order)) => {
                let mut op = op.clone();
                let kept = fold(&mut op.axes, &order);
                self.folded(b, op.into(), ins[0], &order, &kept)
            }
            (Op::Moments(op), Some(order)) => {
                let mut op = op.clone();
                let kept = fold(&mut op.axes, &order);
                self.folded(b, op.into(), ins[0], &order, &kept)
            }
            (Op::Transpose(op), Some(order)) => {
                let at = inverse(&order);
                let (laid, _) = self.laid[&ins[0]].clone();
                let perm: Order = op.perm.iter().map(|p| at[*p]).collect();
                Ok(vec![if perm.iter().copied().eq(0..perm.len()) {
                    laid
                } else {
                    b.transpose(laid, &perm)?
                }])
            }
            (Op::Pad(op), Some(order)) => {
                let moved = Pad { lo: pick(&op.lo, &order), hi: pick(&op.hi, &order), value: op.value };
                self.moved(b, moved.into(), ins, &order)
            }
            (Op::Slice(op), Some(order)) => {
                let moved = Slice { starts: pick(&op.starts, &order), limits: pick(&op.limits, &order) };
                self.moved(b, moved.into(), ins, &order)
            }
            (Op::Concat(op), Some(order)) => {
                let moved = Concat { axis: inverse(&order)[op.axis] };
                self.moved(b, moved.into(), ins, &order)
            }
            _ => b.op(node.op.clone(), ins),
        }
    }

    /// A movement in an order.
    fn moved(&mut self, b: &mut Builder, op: Op, ins: &[ValueId], order: &[usize]) -> Result<Vec<ValueId>> {
        let ins: Vec<ValueId> = ins.iter().map(|v| self.fetch(b, *v, order)).collect::<Result<_>>()?;
        let out = b.op1(op, &ins)?;
        Ok(vec![self.publish(b, out, order)?])
    }

    /// A fold in an order; `kept` is the order of what it leaves.
    fn folded(
        &mut self,
        b: &mut Builder,
        op: Op,
        x: ValueId,
        order: &[usize],
        kept: &[usize],
    ) -> Result<Vec<ValueId>> {
        let x = self.fetch(b, x, order)?;
        let outs = b.op(op, &[x])?;
        outs.into_iter().map(|out| self.publish(b, out, kept)).collect()
    }

    /// A convolution or a pool, its image operands in channels-last order.
    fn image_op(&mut self, b: &mut Builder, op: Op, node: &Node, ins: &[ValueId]) -> Result<Vec<ValueId>> {
        let mut operands = Vec::with_capacity(ins.len());
        for (i, v) in ins.iter().enumerate() {
            let rank = b.ty(*v).rank();
            let filter = i == 1 && matches!(node.op, Op::Conv(_) | Op::ConvInputGrad(_));
            let order = if filter { filters } else { images }(Layout::ChannelsFirst, rank);
            operands.push(self.fetch(b, *v, &order)?);
        }
        let outs = b.op(op, &operands)?;
        let order = |b: &Builder, v: ValueId| images(Layout::ChannelsFirst, b.ty(v).rank());
        outs.into_iter()
            .map(|out| {
                let order = order(b, out);
                self.publish(b, out, &order)
            })
            .collect()
    }
}

/// Replaces the axes of a fold by those of an operand in an order; gives the order of what it keeps.
fn fold(axes: &mut [usize], order: &[usize]) -> Order {
    let folded = axes.to_vec();
    let at = inverse(order);
    axes.iter_mut().for_each(|a| *a = at[*a]);
    axes.sort_unstable();
    let rank = |axis: usize| axis - folded.iter().filter(|f| **f < axis).count();
    order.iter().filter(|a| !folded.contains(a)).map(|a| rank(*a)).collect()
}

/// A channels-first operation on images with its channels last. The gradient of filters stays: it would
/// give the filters in another order than their state has, and it reads images through transposes.
fn with_channels_last(op: &Op) -> Option<Op> {
    let layout = Layout::ChannelsLast;
    macro_rules! last {
        ($($op:ident),*) => {
            match op {
                $( Op::$op(o) if o.layout == Layout::ChannelsFirst => {
                    let mut o = o.clone();
                    o.layout = layout;
                    Some(o.into())
                } )*
                _ => None,
            }
        };
    }
    last!(Conv, ConvInputGrad, MaxPool, WindowScatter, WindowGather, AvgPool, AvgPoolGrad)
}

#[cfg(test)]
mod tests {
    use graphc_ir::ops::{Conv, MaxPool, Reduce, ReduceKind, sample_tensor};
    use graphc_ir::scalar::ScalarFn;
    use graphc_ir::{DType, Dim, TensorType, interp};

    use super::*;

    fn dims(sizes: &[usize]) -> Vec<Dim> {
        sizes.iter().map(|d| Dim::from(*d)).collect()
    }

    /// conv, bias, relu, pool, conv, residual-like sum of two branches, and a reduction over the image.
    #[test]
    fn a_region_has_one_transpose_of_images_at_its_input() {
        let mut b = Builder::new();
        let f64s = |shape: &[usize]| TensorType::fixed(DType::F64, shape);
        let shapes: [&[usize]; 4] = [&[2, 3, 9, 7], &[4, 3, 3, 3], &[4], &[4, 4, 3, 3]];
        let v: Vec<ValueId> = shapes.iter().map(|s| b.input(f64s(s)).unwrap()).collect();
        let same = Conv { pads_lo: vec![1, 1], pads_hi: vec![1, 1], ..Conv::default() };
        let h = b.op1(same.clone(), &[v[0], v[1]]).unwrap();
        let bias = b.broadcast(v[2], &dims(&[2, 4, 9, 7]), &[1]).unwrap();
        let h = b.map(ScalarFn::Add, &[h, bias]).unwrap();
        let h = b.map(ScalarFn::Relu, &[h]).unwrap();
        let h = b.op(MaxPool::new(&[2, 2]), &[h]).unwrap()[0];
        let g = b.op1(same, &[h, v[3]]).unwrap();
        let h = b.map(ScalarFn::Add, &[g, h]).unwrap();
        let mean = b.op1(Reduce { kind: ReduceKind::Sum, axes: vec![2, 3] }, &[h]).unwrap();
        let graph = b.finish(&[mean]).unwrap();

        let laid = channels_last(&graph).unwrap();
        let transposed: Vec<usize> = laid
            .nodes()
            .filter(|(_, n)| matches!(n.op, Op::Transpose(_)))
            .map(|(_, n)| laid.ty(n.ins[0]).static_shape().len())
            .collect();
        assert_eq!(transposed, [4, 4, 4], "the image and two filters");
        let firsts = laid.nodes().filter(|(_, n)| with_channels_last(&n.op).is_some()).count();
        assert_eq!(firsts, 0);
        let ins: Vec<_> = shapes.iter().enumerate().map(|(i, s)| sample_tensor(s, i as u64)).collect();
        let ins: Vec<_> = ins.iter().collect();
        let (was, is) = (interp::eval(&graph, &ins, &[]).unwrap(), interp::eval(&laid, &ins, &[]).unwrap());
        for i in 0..was[0].len() {
            let (a, b) = (was[0].get(i).as_f64(), is[0].get(i).as_f64());
            assert!((a - b).abs() < 1e-12 * a.abs().max(1.0), "{a} {b}");
        }
    }
}
