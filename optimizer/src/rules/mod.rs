//! Rewriting rules: each replaces one node while the graph is emitted anew.

mod algebra;
mod canonical;
mod constant;
mod contraction;
mod movement;
mod pattern;
mod reshape;
mod scan;

use std::collections::HashMap;

use graphc_ir::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, Node, ValueId};
use graphc_ir::ops::{Op, Scan};
use graphc_ir::scalar::ScalarFn;

use crate::remarks::Remarks;

/// What a rule says about a node.
#[derive(Debug)]
pub enum Outcome {
    /// It is not one of its patterns.
    No,
    /// It is, but the rewrite would be wrong or would not pay, for this reason.
    Rejected(&'static str),
    /// These values take the place of the node's results.
    Replace(Vec<ValueId>),
}

/// How a rule's result relates to the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exactness {
    /// The same bits, except perhaps the sign of a zero or a NaN's payload.
    Exact,
    /// Rounded differently, usually better; or finite where the original overflows.
    Rounds,
}

/// A rewriting rule.
pub struct Rule {
    /// Name in remarks and tests.
    pub name: &'static str,
    /// What it promises.
    pub exactness: Exactness,
    /// Looks at one node, given with its operands in the new graph.
    pub apply: fn(&mut Context<'_>, &Node, &[ValueId]) -> Result<Outcome>,
    /// Graphs in which it fires, at least one for each of its branches.
    pub examples: &'static [fn() -> Result<Graph>],
    /// Graphs that come close but in which it may not fire.
    pub counterexamples: &'static [fn() -> Result<Graph>],
}

/// What a rule sees and writes to.
pub struct Context<'a> {
    /// The new graph.
    pub b: &'a mut Builder,
    /// The old graph, to which the node belongs.
    pub old: &'a Graph,
    /// Uses of the old graph's values.
    pub uses: &'a [u32],
    /// Loops of the old graph.
    loops: &'a Loops<'a>,
}

/// Loops by their operands; looked up, never gone through.
type Loops<'g> = HashMap<&'g [ValueId], Vec<&'g Scan>>;

/// The loops of a graph.
fn loops(graph: &Graph) -> Loops<'_> {
    let mut loops = Loops::new();
    for (_, node) in graph.nodes() {
        if let Op::Scan(scan) = &node.op {
            loops.entry(&node.ins).or_default().push(scan);
        }
    }
    loops
}

impl Context<'_> {
    /// One scalar function of operands of one shape, as a replacement.
    pub fn map(&mut self, f: ScalarFn, ins: &[ValueId]) -> Result<Outcome> {
        Ok(Outcome::Replace(vec![self.b.map(f, ins)?]))
    }
}

/// Rules that run before differentiation: afterwards the naive gradient is already written down.
pub static CANONICAL: &[Rule] = canonical::RULES;

/// Rules that simplify primitives.
pub fn simplifying() -> impl Iterator<Item = &'static Rule> + Clone {
    constant::RULES
        .iter()
        .chain(algebra::RULES)
        .chain(movement::RULES)
        .chain(reshape::RULES)
        .chain(scan::RULES)
        .chain(contraction::RULES)
}

/// Every rule.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    CANONICAL.iter().chain(simplifying())
}

/// More sweeps than this mean that rules undo each other; each sweep is linear.
pub const MAX_SWEEPS: usize = 8;

/// Emits the graph anew, with the first rule that fires on each node, until nothing changes.
pub fn sweep<'r>(
    graph: &Graph,
    rules: impl Iterator<Item = &'r Rule> + Clone,
    remarks: &mut Remarks,
) -> Result<Graph> {
    let mut graph = graph.pruned()?;
    for _ in 0..MAX_SWEEPS {
        let (uses, loops) = (graph.use_counts(), loops(&graph));
        let mut fired = false;
        let next = graph.rebuild(|b, id, node, ins| {
            for rule in rules.clone() {
                let mut cx = Context { b, old: &graph, uses: &uses, loops: &loops };
                match (rule.apply)(&mut cx, node, ins)? {
                    Outcome::No => {}
                    Outcome::Rejected(reason) => {
                        remarks.missed(rule.name, || format!("{}: {reason}", graph.describe(id)));
                    }
                    Outcome::Replace(values) => {
                        fired = true;
                        remarks.applied(rule.name, || graph.describe(id));
                        let origins = graph.origins(id).clone();
                        for v in &values {
                            b.add_origin(*v, &origins);
                        }
                        return Ok(values);
                    }
                }
            }
            b.op(node.op.clone(), ins)
        })?;
        let same = next == graph;
        graph = next;
        if !fired || same {
            break;
        }
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use graphc_ir::{Tensor, interp, ops};

    use super::*;

    fn graphs(rule: &'static Rule, of: &'static [fn() -> Result<Graph>]) -> Vec<(String, Graph)> {
        let graph = |(i, make): (usize, &fn() -> Result<Graph>)| {
            let name = format!("{} {i}", rule.name);
            let graph = make().unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, graph)
        };
        of.iter().enumerate().map(graph).collect()
    }

    fn fired(rule: &Rule, remarks: &Remarks) -> bool {
        remarks.list().iter().any(|r| r.applied && r.pass == rule.name)
    }

    fn alone(rule: &'static Rule, graph: &Graph, remarks: &mut Remarks) -> Graph {
        sweep(graph, std::iter::once(rule), remarks).unwrap_or_else(|e| panic!("{}: {e}", rule.name))
    }

    fn among_all(graph: &Graph, remarks: &mut Remarks) -> Graph {
        let canonical = sweep(graph, CANONICAL.iter(), remarks).expect("canonical rules apply");
        let expanded = crate::expand::expand(&canonical).expect("examples expand");
        sweep(&expanded, simplifying(), remarks).expect("rules apply")
    }

    /// Positive numbers, or numbers of both signs with zeros, infinities and NaN among them.
    fn inputs(graph: &Graph, special: bool) -> Vec<Tensor> {
        let numbers = [0.0, -0.0, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0, 2.5, -0.25];
        let input = |(i, v): (usize, &ValueId)| {
            let (ty, shape) = (graph.ty(*v), graph.ty(*v).static_shape());
            if special {
                let number = |k: usize| numbers[(k + 2 * i) % numbers.len()];
                return Tensor::from_fn(ty.dtype, &shape, |k| graphc_ir::Scalar::F(number(k)));
            }
            ops::sample_positive(&shape, i as u64 + 1).cast(ty.dtype)
        };
        graph.inputs().iter().enumerate().map(input).collect()
    }

    #[track_caller]
    fn same_values(name: &str, before: &Graph, after: &Graph, exactness: Exactness) {
        // What rounds may be finite where the original is not.
        let kinds: &[bool] = if exactness == Exactness::Exact { &[false, true] } else { &[false] };
        for special in kinds {
            let inputs = inputs(before, *special);
            let refs: Vec<_> = inputs.iter().collect();
            let wanted = interp::eval(before, &refs, &[]).expect("evaluates");
            let found = interp::eval(after, &refs, &[]).expect("evaluates");
            for (x, y) in wanted.iter().zip(&found) {
                assert_eq!((x.shape(), x.dtype()), (y.shape(), y.dtype()), "{name}");
                for (p, q) in x.to_f64().into_iter().zip(y.to_f64()) {
                    let same = p == q || (p.is_nan() && q.is_nan());
                    let near = (p - q).abs() <= 1e-5 * p.abs().max(1e-3);
                    assert!(same || exactness == Exactness::Rounds && near, "{name}: {p} became {q}");
                }
            }
        }
    }

    #[test]
    fn every_rule_fires_on_its_examples_and_is_right() {
        for rule in all() {
            assert!(!rule.examples.is_empty(), "{} has no example", rule.name);
            for (name, example) in graphs(rule, rule.examples) {
                let mut remarks = Remarks::enabled();
                let out = alone(rule, &example, &mut remarks);
                assert!(fired(rule, &remarks), "{name} does not fire on its example");
                assert_ne!(out, example, "{name} changes nothing");
                same_values(&name, &example, &out, rule.exactness);
            }
        }
    }

    #[test]
    fn every_rule_fires_among_the_others() {
        for rule in all() {
            for (name, example) in graphs(rule, rule.examples) {
                let mut remarks = Remarks::enabled();
                let out = among_all(&example, &mut remarks);
                assert!(fired(rule, &remarks), "{name} never fires in the pipeline");
                same_values(&name, &example, &out, Exactness::Rounds);
            }
        }
    }

    #[test]
    fn rules_leave_alone_what_only_looks_alike() {
        for rule in all() {
            for (name, graph) in graphs(rule, rule.counterexamples) {
                let mut remarks = Remarks::enabled();
                alone(rule, &graph, &mut remarks);
                assert!(!fired(rule, &remarks), "{name} fires on its counterexample");
                let out = among_all(&graph, &mut Remarks::default());
                same_values(&name, &graph, &out, Exactness::Rounds);
            }
        }
    }
}
