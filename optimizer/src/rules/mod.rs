//! Rewriting rules: each replaces one node while the graph is emitted anew.

mod algebra;
mod canonical;
mod constant;
mod movement;
mod pattern;
mod scan;

use graphc_ir::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, Node, ValueId};
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
    /// A graph in which it fires.
    pub example: fn() -> Result<Graph>,
}

/// What a rule sees and writes to.
pub struct Context<'a> {
    /// The new graph.
    pub b: &'a mut Builder,
    /// The old graph, to which the node belongs.
    pub old: &'a Graph,
    /// Uses of the old graph's values.
    pub uses: &'a [u32],
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
    constant::RULES.iter().chain(algebra::RULES).chain(movement::RULES).chain(scan::RULES)
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
    let mut graph = graph.rebuild(|b, _, node, ins| b.op(node.op.clone(), ins))?;
    for _ in 0..MAX_SWEEPS {
        let uses = graph.use_counts();
        let mut fired = false;
        let next = graph.rebuild(|b, id, node, ins| {
            for rule in rules.clone() {
                let mut cx = Context { b, old: &graph, uses: &uses };
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
    use super::*;

    #[test]
    fn every_rule_fires_on_its_example() {
        for rule in all() {
            let example = (rule.example)().unwrap_or_else(|e| panic!("{}: {e}", rule.name));
            let mut remarks = Remarks::enabled();
            let out = sweep(&example, std::iter::once(rule), &mut remarks)
                .unwrap_or_else(|e| panic!("{}: {e}", rule.name));
            let fired = remarks.list().iter().any(|r| r.applied && r.pass == rule.name);
            assert!(fired, "{} does not fire on its example", rule.name);
            assert_ne!(out, example, "{} changes nothing", rule.name);
        }
    }

    #[test]
    fn every_rule_fires_among_the_others() {
        for rule in all() {
            let example = (rule.example)().unwrap_or_else(|e| panic!("{}: {e}", rule.name));
            let mut remarks = Remarks::enabled();
            let canonical = sweep(&example, CANONICAL.iter(), &mut remarks).expect("canonical rules apply");
            let expanded = crate::expand::expand(&canonical).expect("examples expand");
            sweep(&expanded, simplifying(), &mut remarks).expect("rules apply");
            let fired = remarks.list().iter().any(|r| r.applied && r.pass == rule.name);
            assert!(fired, "{} never fires in the pipeline", rule.name);
        }
    }

    #[test]
    fn rules_keep_values() {
        for rule in all() {
            let example = (rule.example)().unwrap_or_else(|e| panic!("{}: {e}", rule.name));
            let out = sweep(&example, std::iter::once(rule), &mut Remarks::default()).expect("applies");
            let inputs: Vec<_> = example
                .inputs()
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    let shape = example.ty(*v).static_shape();
                    let t = graphc_ir::ops::sample_positive(&shape, i as u64 + 1);
                    t.cast(example.ty(*v).dtype)
                })
                .collect();
            let refs: Vec<_> = inputs.iter().collect();
            let before = graphc_ir::interp::eval(&example, &refs, &[]).expect("evaluates");
            let after = graphc_ir::interp::eval(&out, &refs, &[]).expect("evaluates");
            for (x, y) in before.iter().zip(&after) {
                assert_eq!(x.shape(), y.shape(), "{}", rule.name);
                for (p, q) in x.to_f64().into_iter().zip(y.to_f64()) {
                    assert!((p - q).abs() <= 1e-5 * p.abs().max(1e-3), "{}: {p} became {q}", rule.name);
                }
            }
        }
    }
}
