//! From a failing function to a small one that still fails.

use graphc_ir::error::Result;
use graphc_ir::module::OutputDecl;
use graphc_ir::wire::{EncodeOptions, encode};
use graphc_ir::{Builder, Function, Graph, Node, NodeId, Op, TensorType, ValueId, stage};

use super::{FUNCTION, RandomModule};

impl RandomModule {
    /// The module with a function as small as [`shrink`] makes it, as the text of a file.
    pub fn shrunk(&self, fails: &dyn Fn(&RandomModule) -> bool) -> String {
        let with = |function: &Function| {
            let mut smaller = self.clone();
            smaller.module.functions.insert(FUNCTION.into(), function.clone());
            smaller
        };
        let text = self.function().map(|function| shrink(function, &|f| fails(&with(f)))).and_then(|small| {
            let mut module = with(&small).module;
            // State that nothing reads any more would be most of the text. What is read keeps its place.
            let read = |i: usize| {
                small.updates.contains(&i)
                    || small.graph.nodes().any(|(_, n)| matches!(&n.op, Op::StateRead(s) if s.index == i))
            };
            let used = (0..module.state.len()).rposition(read).map_or(0, |last| last + 1);
            module.state.truncate(used);
            encode(&module, &EncodeOptions::default())
        });
        text.unwrap_or_else(|e| e.to_string())
    }
}

/// Rounds over all nodes: each may make room for the next.
const MAX_ROUNDS: usize = 8;

/// Removes results and bypasses nodes for as long as `fails` holds of what is left.
///
/// Inputs keep their places, so that the same feeds serve. A node is bypassed by an operand of the
/// same type, or else by zeros. Functions that no longer verify are never tried.
pub fn shrink(function: &Function, fails: &dyn Fn(&Function) -> bool) -> Function {
    let mut best = function.clone();
    for _ in 0..MAX_ROUNDS {
        let before = size(&best);
        while let Some(smaller) = fewer_results(&best, fails) {
            best = smaller;
        }
        while let Some(smaller) = earlier_result(&best, fails) {
            best = smaller;
        }
        // From the end, where a bypass cuts off the most.
        for at in (0..best.graph.len()).rev() {
            if let Some(smaller) = bypass(&best, at, fails) {
                best = smaller;
            }
        }
        if size(&best) == before {
            break;
        }
    }
    best
}

/// What shrinks: first the results, then the nodes but for sources and repeated constants (which take
/// the place of others), then all nodes.
fn size(f: &Function) -> (usize, usize, usize) {
    let graph = &f.graph;
    let constant = |v: &ValueId| matches!(graph.def(*v).op, Op::Const(_));
    let trivial =
        |n: &Node| n.ins.is_empty() || (matches!(n.op, Op::Broadcast(_)) && n.ins.iter().all(constant));
    let work = graph.nodes().filter(|(_, n)| !trivial(n)).count();
    (graph.results().len(), work, graph.len())
}

/// The graph with other results, without what they do not need; `effects` says whether what can fail a run stays.
fn with_results(graph: &Graph, results: &[ValueId], effects: bool) -> Result<Graph> {
    let mut b = Builder::with_infer(graph.infer().clone());
    let ins = b.inputs_like(graph)?;
    let all = b.inline_all(graph, &ins)?;
    let results: Vec<ValueId> = results.iter().map(|r| all[r.index()]).collect();
    let graph = b.finish(&results)?;
    let graph = if effects { graph.pruned()? } else { graph.of_results()? };
    stage::verify(&graph)?;
    Ok(graph)
}

/// The function with some of its results.
fn keep(f: &Function, kept: &[usize], effects: bool) -> Result<Function> {
    let results: Vec<ValueId> = kept.iter().map(|i| f.graph.results()[*i]).collect();
    let graph = with_results(&f.graph, &results, effects)?;
    let n = f.outputs.len();
    Ok(Function {
        outputs: kept.iter().filter(|i| **i < n).map(|i| f.outputs[*i].clone()).collect(),
        updates: kept.iter().filter(|i| **i >= n).map(|i| f.updates[*i - n]).collect(),
        ..f.with_graph(graph)
    })
}

/// A half of the results, or all but one.
fn fewer_results(f: &Function, fails: &dyn Fn(&Function) -> bool) -> Option<Function> {
    let n = f.graph.results().len();
    if n < 2 {
        return None;
    }
    let halves = [(0..n / 2).collect::<Vec<_>>(), (n / 2..n).collect()];
    let all_but = |k: usize| (0..n).filter(|i| *i != k).collect::<Vec<_>>();
    let candidates = halves.into_iter().chain((0..n).map(all_but));
    let mut kept = candidates.flat_map(|kept| [false, true].map(|effects| keep(f, &kept, effects)));
    kept.find_map(|smaller| smaller.ok().filter(|f| fails(f)))
}

/// For the only result an operand of its node, as an output.
fn earlier_result(f: &Function, fails: &dyn Fn(&Function) -> bool) -> Option<Function> {
    let [result] = f.graph.results() else { return None };
    let outputs = vec![OutputDecl { name: "y".into(), mark: None }];
    f.graph.def(*result).ins.iter().find_map(|v| {
        [false, true].into_iter().find_map(|effects| {
            let graph = with_results(&f.graph, &[*v], effects).ok()?;
            let earlier = Function { outputs: outputs.clone(), updates: Vec::new(), ..f.with_graph(graph) };
            fails(&earlier).then_some(earlier)
        })
    })
}

/// The function without its node `at`, if it has one and still fails.
fn bypass(f: &Function, at: usize, fails: &dyn Fn(&Function) -> bool) -> Option<Function> {
    let id = NodeId(u32::try_from(at).ok()?);
    if at >= f.graph.len() || matches!(f.graph.node(id).op, Op::Input(_)) {
        return None;
    }
    let mut candidates = f.graph.node(id).ins.clone();
    candidates.dedup();
    let through = candidates.into_iter().map(|v| Some(f.graph.ty(v).clone()));
    through.chain([None]).find_map(|ty| {
        let graph = without(&f.graph, id, ty.as_ref()).ok()?;
        stage::verify(&graph).ok()?;
        let smaller = f.with_graph(graph);
        (size(&smaller) < size(f) && fails(&smaller)).then_some(smaller)
    })
}

/// The graph with a node's results replaced by its operands of those types, or by zeros.
fn without(graph: &Graph, gone: NodeId, through: Option<&TensorType>) -> Result<Graph> {
    let replaced = graph.rebuild(|b, id, node, ins| {
        if id != gone {
            return b.op(node.op.clone(), ins);
        }
        let mut outs = Vec::new();
        for out in node.outs() {
            let ty = graph.ty(out).clone();
            let same = ins.iter().find(|v| through == Some(&ty) && b.ty(**v) == &ty);
            outs.push(match same {
                Some(v) => *v,
                None => {
                    let zero = b.scalar(ty.dtype, 0.0)?;
                    b.broadcast(zero, &ty.dims, &[])?
                }
            });
        }
        Ok(outs)
    })?;
    replaced.pruned()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, random_module};
    use super::*;

    /// A planted bug: whatever contains the operation fails.
    #[test]
    fn what_is_left_is_the_culprit() {
        let config = Config::default();
        for culprit in ["tanh", "softmax", "transpose", "scan", "gather", "scatter_add"] {
            let fails = |f: &Function| {
                let live = f.graph.live_nodes();
                f.graph.nodes().any(|(id, n)| live[id.index()] && n.op.name() == culprit)
            };
            let mut tried = 0;
            for seed in 0..60 {
                let r = random_module(seed, &config).expect("it is made");
                let function = r.function().expect("it has one");
                if !fails(function) {
                    continue;
                }
                tried += 1;
                let small = shrink(function, &fails);
                assert!(fails(&small), "seed {seed}: {culprit} was lost");
                assert_eq!(small.graph.results().len(), 1, "seed {seed}");
                // The culprit, and perhaps what makes an operand's integers valid indices.
                let (_, work, _) = size(&small);
                assert!(work <= 2, "seed {seed}: {work} nodes are left around {culprit}");
                if tried == 3 {
                    break;
                }
            }
            assert!(tried > 0, "no graph has a {culprit}");
        }
    }

    #[test]
    fn what_does_not_fail_stays() {
        let r = random_module(3, &Config::default()).expect("it is made");
        let function = r.function().expect("it has one");
        assert_eq!(shrink(function, &|_| false).graph, function.graph);
    }
}
