//! Folds what scales and shifts the channels of a convolution into its filters and one bias.
//!
//! Normalization with given statistics is such a chain. Filters, scales and shifts that depend on state and
//! constants alone are staged, so that a run pays for none of it.

use graphc_ir::Builder;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::{Broadcast, Conv, Layout, Op};
use graphc_ir::scalar::ScalarFn;

use crate::remarks::Remarks;

/// A convolution and the chain that follows it.
struct Chain {
    conv: NodeId,
    /// What each node does to the channels, with a rank-1 value.
    links: Vec<(Link, ValueId)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Add,
    Sub,
    Mul,
}

/// Rewrites a graph of primitives.
pub fn fold(graph: &Graph, remarks: &mut Remarks) -> Result<Graph> {
    let chains = chains(graph);
    if chains.iter().all(Option::is_none) {
        return Ok(graph.clone());
    }
    let mut new: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    let folded = graph.rebuild(|b, id, node, ins| {
        let outs = match &chains[id.index()] {
            Some(chain) => {
                remarks.applied("fold-norm", || {
                    format!(
                        "{} takes up {} operations on its channels",
                        graph.describe(chain.conv),
                        chain.links.len()
                    )
                });
                vec![emit(graph, b, chain, &new)?]
            }
            None => b.op(node.op.clone(), ins)?,
        };
        for (old, out) in node.outs().zip(&outs) {
            new[old.index()] = Some(*out);
        }
        Ok(outs)
    })?;
    // Without the nodes that the chains were made of.
    folded.pruned()
}

/// For the last node of each chain that is worth folding, the chain.
fn chains(graph: &Graph) -> Vec<Option<Chain>> {
    let mut chains: Vec<Option<Chain>> = Vec::new();
    chains.resize_with(graph.len(), || None);
    let stable = stable(graph);
    let mut users: Vec<Vec<NodeId>> = vec![Vec::new(); graph.value_count()];
    for (id, node) in graph.nodes() {
        node.ins.iter().for_each(|v| users[v.index()].push(id));
    }
    for (id, node) in graph.nodes() {
        let Op::Conv(conv) = &node.op else { continue };
        // Filters of a storage type would be scaled and rounded once more, where the results are scaled in f32.
        if !stable[node.ins[1].index()] || !graph.ty(node.ins[1]).dtype.is_compute_float() {
            continue;
        }
        let channel = conv.layout.channel_axis(graph.ty(node.out(0)).rank());
        let (mut at, mut last, mut links) = (node.out(0), id, Vec::new());
        while let [user] = users[at.index()][..]
            && !graph.results().contains(&at)
        {
            let Some(link) = link(graph, graph.node(user), at, channel, &stable) else { break };
            links.push(link);
            (at, last) = (graph.node(user).out(0), user);
        }
        if links.len() > 1 || links.iter().any(|(link, _)| *link == Link::Mul) {
            chains[last.index()] = Some(Chain { conv: id, links });
        }
    }
    chains
}

/// Which values depend on state and constants alone.
fn stable(graph: &Graph) -> Vec<bool> {
    let mut stable = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is = match &node.op {
            Op::Input(_) => false,
            _ => node.ins.iter().all(|v| stable[v.index()]),
        };
        node.outs().for_each(|o| stable[o.index()] = is);
    }
    stable
}

/// What a node does to the channels of `image`, if it does the same to all of each channel.
fn link(
    graph: &Graph,
    node: &Node,
    image: ValueId,
    channel: usize,
    stable: &[bool],
) -> Option<(Link, ValueId)> {
    let Op::Map(map) = &node.op else { return None };
    let (link, commutes) = match map.f {
        ScalarFn::Add => (Link::Add, true),
        ScalarFn::Mul => (Link::Mul, true),
        ScalarFn::Sub => (Link::Sub, false),
        _ => return None,
    };
    let [a, b] = node.ins[..] else { return None };
    let other = match (a == image, b == image) {
        (true, false) => b,
        (false, true) if commutes => a,
        _ => return None,
    };
    let wide = graph.def(other);
    let Op::Broadcast(Broadcast { axes, .. }) = &wide.op else { return None };
    let vector = wide.ins[0];
    (axes[..] == [channel] && stable[vector.index()]).then_some((link, vector))
}

/// The convolution with its filters scaled, and one bias.
fn emit(graph: &Graph, b: &mut Builder, chain: &Chain, new: &[Option<ValueId>]) -> Result<ValueId> {
    let node = graph.node(chain.conv);
    let Op::Conv(conv) = &node.op else { return Err(Error::new("a chain begins at a convolution")) };
    let known = |v: ValueId| new[v.index()].expect("operands come first");
    let (mut scale, mut shift): (Option<ValueId>, Option<ValueId>) = (None, None);
    for (link, vector) in &chain.links {
        let v = known(*vector);
        match link {
            Link::Add => shift = Some(shift.map_or(Ok(v), |s| b.map(ScalarFn::Add, &[s, v]))?),
            Link::Sub => {
                shift = Some(match shift {
                    Some(s) => b.map(ScalarFn::Sub, &[s, v])?,
                    None => b.map(ScalarFn::Neg, &[v])?,
                });
            }
            Link::Mul => {
                shift = shift.map(|s| b.map(ScalarFn::Mul, &[s, v])).transpose()?;
                scale = Some(scale.map_or(Ok(v), |s| b.map(ScalarFn::Mul, &[s, v]))?);
            }
        }
    }
    let mut filters = known(node.ins[1]);
    if let Some(scale) = scale {
        let dims = b.ty(filters).dims.clone();
        let wide = b.broadcast(scale, &dims, &[output_axis(conv, dims.len())])?;
        filters = b.map(ScalarFn::Mul, &[filters, wide])?;
    }
    let out = b.op1(conv.clone(), &[known(node.ins[0]), filters])?;
    let Some(shift) = shift else { return Ok(out) };
    let dims = b.ty(out).dims.clone();
    let wide = b.broadcast(shift, &dims, &[conv.layout.channel_axis(dims.len())])?;
    b.map(ScalarFn::Add, &[out, wide])
}

/// The axis of filters that numbers the channels made.
fn output_axis(conv: &Conv, rank: usize) -> usize {
    match conv.layout {
        Layout::ChannelsFirst => 0,
        Layout::ChannelsLast => rank - 1,
    }
}

#[cfg(test)]
mod tests {
    use graphc_ir::ops::attr::Real;
    use graphc_ir::ops::{BatchNormInference, sample_positive, sample_tensor};
    use graphc_ir::{DType, Tensor, TensorType, interp};

    use super::*;
    use crate::expand::expand;

    fn check(layout: Layout, image: &[usize], filters: &[usize]) {
        let f64s = |shape: &[usize]| TensorType::fixed(DType::F64, shape);
        let mut b = Builder::new();
        let channels = filters[output_axis(&Conv { layout, ..Conv::default() }, filters.len())];
        let x = b.input(f64s(image)).unwrap();
        let shapes: Vec<Vec<usize>> = [vec![filters.to_vec()], vec![vec![channels]; 5]].concat();
        let state: Vec<ValueId> =
            shapes.iter().enumerate().map(|(i, s)| b.state(i, f64s(s)).unwrap()).collect();
        let y = b.op1(Conv { layout, ..Conv::default() }, &[x, state[0]]).unwrap();
        let axis = layout.channel_axis(image.len());
        let dims = b.ty(y).dims.clone();
        let bias = b.broadcast(state[1], &dims, &[axis]).unwrap();
        let y = b.map(ScalarFn::Add, &[y, bias]).unwrap();
        let norm = BatchNormInference { axis, eps: Real(0.1) };
        let y = b.op1(norm, &[y, state[2], state[3], state[4], state[5]]).unwrap();
        let y = b.map(ScalarFn::Relu, &[y]).unwrap();
        let graph = expand(&b.finish(&[y]).unwrap()).unwrap();
        let folded = fold(&graph, &mut Remarks::default()).unwrap();

        let conv = folded.nodes().find(|(_, n)| matches!(n.op, Op::Conv(_))).unwrap().1;
        let user = |v: ValueId| folded.nodes().find(|(_, n)| n.ins.contains(&v)).unwrap().1;
        let sum = user(conv.out(0));
        assert_eq!(sum.op, Op::from(graphc_ir::ops::Map { f: ScalarFn::Add }));
        assert_eq!(user(sum.out(0)).op, Op::from(graphc_ir::ops::Map { f: ScalarFn::Relu }));
        let x = sample_tensor(image, 1);
        let values: Vec<Tensor> = shapes
            .iter()
            .enumerate()
            .map(|(i, s)| if i == 5 { sample_positive(s, 9) } else { sample_tensor(s, i as u64) })
            .collect();
        let values: Vec<&Tensor> = values.iter().collect();
        let was = interp::eval(&graph, &[&x], &values).unwrap();
        let is = interp::eval(&folded, &[&x], &values).unwrap();
        for i in 0..was[0].len() {
            let (a, b) = (was[0].get(i).as_f64(), is[0].get(i).as_f64());
            assert!((a - b).abs() < 1e-12 * a.abs().max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn a_bias_and_a_normalization_become_one_bias() {
        check(Layout::ChannelsFirst, &[2, 3, 5, 5], &[4, 3, 3, 3]);
        check(Layout::ChannelsLast, &[2, 5, 5, 3], &[3, 3, 3, 4]);
    }

    #[test]
    fn a_convolution_that_others_read_stays() {
        let f64s = |shape: &[usize]| TensorType::fixed(DType::F64, shape);
        let mut b = Builder::new();
        let x = b.input(f64s(&[1, 2, 4, 4])).unwrap();
        let (w, s) = (b.state(0, f64s(&[3, 2, 1, 1])).unwrap(), b.state(1, f64s(&[3])).unwrap());
        let y = b.op1(Conv::default(), &[x, w]).unwrap();
        let dims = b.ty(y).dims.clone();
        let wide = b.broadcast(s, &dims, &[1]).unwrap();
        let z = b.map(ScalarFn::Mul, &[y, wide]).unwrap();
        let graph = b.finish(&[z, y]).unwrap();
        assert_eq!(fold(&graph, &mut Remarks::default()).unwrap().len(), graph.len());
    }
}
