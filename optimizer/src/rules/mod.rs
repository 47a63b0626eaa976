//! Rewriting rules: each replaces one node while the graph is emitted anew.

mod algebra;
mod canonical;
mod constant;
mod contraction;
mod effects;
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
    /// Rounded differently, usually better; or finite where the original overflows. Where it does not, infinities and
    /// NaN stay what they are, and a number never becomes one of them.
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
        .chain(effects::RULES)
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

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    /// Numbers whose exponentials, squares and sums do not overflow, and what is no number. Rows of the examples' inputs
    /// begin at different places, so that they hold different ones of them.
    const SPECIAL: [f64; 10] = [0.0, -0.0, -1.5, NAN, INF, -INF, 1.0, 2.5, -0.25, -1.0];

    /// Fewer of them in each row: one NaN hides what a row makes of an infinity.
    const SPARSE: [&[f64]; 7] = [
        &[INF, 1.0, 2.0, 0.5, -1.0],
        &[-INF, 1.0, 2.0, 0.5, -1.0],
        &[-INF],
        &[INF, -INF, 0.0],
        &[NAN, 1.0, 2.0, 0.5, -1.0],
        &[0.0, -0.0],
        &[-1.0, -2.0, -0.5],
    ];

    /// Numbers that rounding makes zeros on the way: not for rules that round, whose results keep them.
    const TINY: [f64; 4] = [1e-40, -1e-40, 1.0, f64::MIN_POSITIVE];

    /// Numbers that overflow on the way, and for which a rule that rounds may give a number where the original does not.
    const LARGE: [&[f64]; 4] = [
        &[60.0, -60.0, 1.0],
        &[1000.0, -1000.0, 0.0],
        &[1e30, 3e30, 2.0],
        &[-1000.0, -1000.0, -1000.0, 60.0],
    ];

    /// Inputs that hold some numbers over and over, the first of each input another one.
    fn inputs(graph: &Graph, numbers: &[f64]) -> Vec<Tensor> {
        let input = |(i, v): (usize, &ValueId)| {
            let (ty, shape) = (graph.ty(*v), graph.ty(*v).static_shape());
            let number = |k: usize| numbers[(k + 2 * i) % numbers.len()];
            Tensor::from_fn(ty.dtype, &shape, |k| graphc_ir::Scalar::F(number(k)))
        };
        graph.inputs().iter().enumerate().map(input).collect()
    }

    fn positive(graph: &Graph) -> Vec<Tensor> {
        let input = |(i, v): (usize, &ValueId)| {
            let (ty, shape) = (graph.ty(*v), graph.ty(*v).static_shape());
            ops::sample_positive(&shape, i as u64 + 1).cast(ty.dtype)
        };
        graph.inputs().iter().enumerate().map(input).collect()
    }

    #[track_caller]
    fn same_values(name: &str, before: &Graph, after: &Graph, exactness: Exactness) {
        let rounds = exactness == Exactness::Rounds;
        let (special, large) = (SPARSE.iter().copied().chain([&SPECIAL[..]]), LARGE.iter());
        let special = special.map(|numbers| (inputs(before, numbers), false));
        let large = large.map(|numbers| (inputs(before, numbers), rounds));
        let tiny = (!rounds).then(|| (inputs(before, &TINY), false));
        for (inputs, overflows) in special.chain(large).chain(tiny).chain([(positive(before), false)]) {
            let refs: Vec<_> = inputs.iter().collect();
            let wanted = interp::eval(before, &refs, &[]).expect("evaluates");
            let found = interp::eval(after, &refs, &[]).expect("evaluates");
            for (x, y) in wanted.iter().zip(&found) {
                assert_eq!((x.shape(), x.dtype()), (y.shape(), y.dtype()), "{name}");
                for (p, q) in x.to_f64().into_iter().zip(y.to_f64()) {
                    let same = p == q || (p.is_nan() && q.is_nan());
                    let near = rounds && (p - q).abs() <= 1e-5 * p.abs().max(1e-3);
                    let better = overflows && !p.is_finite() && q.is_finite();
                    assert!(same || near || better, "{name}: {p} became {q} for {inputs:?}");
                }
            }
        }
    }

    #[test]
    fn rules_that_round_are_listed_in_the_documentation() {
        let page = include_str!("../../../docs/numerics.md");
        for rule in all().filter(|rule| rule.exactness == Exactness::Rounds) {
            assert!(
                page.contains(&format!("`{}`", rule.name)),
                "docs/numerics.md does not list {}",
                rule.name
            );
        }
    }

    /// A rule that is right for positive numbers alone.
    #[test]
    #[should_panic(expected = "NaN became")]
    fn a_rule_that_forgets_the_domain_is_found() {
        let rule: &'static Rule = &Rule {
            name: "exponential-of-logarithm",
            exactness: Exactness::Rounds,
            apply: |cx, node, ins| {
                let exp = matches!(&node.op, Op::Map(m) if m.f == ScalarFn::Exp);
                let log = ins.first().filter(|_| exp).and_then(|v| pattern::unary(cx.b, *v, ScalarFn::Log));
                Ok(log.map_or(Outcome::No, |x| Outcome::Replace(vec![x])))
            },
            examples: &[|| {
                pattern::example(&[&[3, 5]], |b, x| {
                    let log = b.map(ScalarFn::Log, &[x[0]])?;
                    b.map(ScalarFn::Exp, &[log])
                })
            }],
            counterexamples: &[],
        };
        let example = (rule.examples[0])().expect("it is made");
        let out = alone(rule, &example, &mut Remarks::default());
        same_values(rule.name, &example, &out, rule.exactness);
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
