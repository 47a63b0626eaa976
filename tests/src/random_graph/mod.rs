//! Random well-typed modules for differential tests, and the shrinking of those that fail.
//!
//! A graph is grown from a pool of values by moves: each picks operands, applies one operation (with
//! what makes it safe) and puts the results back. Two facts are kept of every value. A *bound* on its
//! magnitude keeps everything in tame ranges: nothing overflows, no logarithm meets a negative number,
//! and rounding errors stay small. Whether it is *exact* says that all devices agree on its bits;
//! only such values are compared, rounded, turned into integers or searched for an extreme, so that a
//! rounding error never decides about anything. Hence integer outputs must agree exactly, and float
//! outputs up to rounding, relative to a root mean square of 1e-3 or more
//! ([`relative_l2_above`](crate::compare::relative_l2_above)): some gradients are zero but for rounding.

mod branches;
mod elementwise;
mod generator;
mod images;
mod layers;
mod literals;
mod movement;
mod prng;
mod scans;
mod sequences;
mod shrink;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use graphc_cpu::isa::Isa;
use graphc_cpu::threshold;
use graphc_ir::dim::Symbol;
use graphc_ir::error::Result;
use graphc_ir::module::{OutputDecl, StateDecl, StateRole};
use graphc_ir::{Binding, DType, Function, Graph, Module, Scalar, ScalarFn, Tensor, TensorType, ValueId};
use graphc_ir::{autodiff, stage};

use generator::{Generator, InputSpec, Place};
pub use prng::Prng;
pub use shrink::shrink;

/// Name of the one function of a random module.
pub const FUNCTION: &str = "main";

/// What random modules look like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Moves, each of which adds one or more nodes.
    pub moves: RangeInclusive<usize>,
    /// The float type of the arithmetic; drawn between f32 and f64 if absent.
    pub float: Option<DType>,
    /// Probability that gradients of a scalar loss are outputs.
    pub gradients: f64,
    /// Probability that some inputs have a symbolic leading dim `B`.
    pub symbolic: f64,
    /// Probability that the module has state, read and updated.
    pub state: f64,
    /// Probability that sizes of 0 occur.
    pub empty: f64,
    /// What a graph's few sizes are drawn from.
    pub sizes: Vec<usize>,
    /// No value has more elements, for a batch of middling size.
    pub max_elements: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            moves: 8..=28,
            float: None,
            gradients: 0.45,
            symbolic: 0.5,
            state: 0.5,
            empty: 0.04,
            sizes: vec![1, 2, 2, 3, 3, 4, 5, 7],
            max_elements: 400,
        }
    }
}

impl Config {
    /// Sizes at which kernels of an instruction set go another way, among small ones.
    pub fn at_thresholds(isa: Isa) -> Config {
        let of_one_axis = threshold::all(isa).into_iter().filter(|t| t.axes.len() == 1).map(|t| t.value);
        let values: BTreeSet<usize> = of_one_axis.filter(|value| *value <= LARGEST).collect();
        let mut sizes: Vec<usize> =
            values.into_iter().flat_map(|v| [v - 1, v, v + 1]).filter(|v| *v > 0).collect();
        // Half of the sizes are small, or graphs would be of large vectors alone.
        let small = [1, 2, 3, 5];
        sizes.extend(small.iter().cycle().take(sizes.len()));
        Config { moves: 6..=16, sizes, max_elements: 1 << 15, ..Config::default() }
    }
}

/// The largest threshold that random graphs have sizes at.
const LARGEST: usize = 2100;

/// A random module with what is needed to feed it.
#[derive(Clone, Debug)]
pub struct RandomModule {
    /// The module: one function, [`FUNCTION`].
    pub module: Module,
    /// The seed it came from.
    pub seed: u64,
    /// Whether gradients are among the outputs.
    pub has_gradients: bool,
    /// The least value of `B`; `None` without symbolic dims.
    pub least_batch: Option<usize>,
    inputs: Vec<InputSpec>,
}

impl RandomModule {
    /// The function.
    ///
    /// # Errors
    /// Never for modules made here: they have it.
    pub fn function(&self) -> Result<&Function> {
        self.module.function(FUNCTION)
    }

    /// Inputs for a batch of some size (which only symbolic modules heed), raised to the least that
    /// the module takes.
    pub fn inputs(&self, batch: usize) -> Result<Vec<Tensor>> {
        let binding = self.binding(batch)?;
        let mut prng = Prng::new(self.seed ^ 0x5EED);
        self.inputs.iter().map(|spec| spec.fill.tensor(&spec.ty, &binding, &mut prng)).collect()
    }

    /// The value of `B`.
    pub fn binding(&self, batch: usize) -> Result<Binding> {
        let mut binding = Binding::new();
        if let Some(least) = self.least_batch {
            let batch = i64::try_from(batch.max(least)).unwrap_or(i64::MAX);
            binding.set(&Symbol::new("B")?, batch, "the batch")?;
        }
        Ok(binding)
    }
}

/// The module of a seed: the same on every platform.
///
/// # Errors
/// Only if the generator itself is wrong: it builds an ill-typed node, or a graph that does not verify.
pub fn random_module(seed: u64, config: &Config) -> Result<RandomModule> {
    let mut prng = Prng::new(seed);
    let wants_gradients = prng.chance(config.gradients);
    let mut g = Generator::new(prng, config, wants_gradients)?;
    let moves = config.moves.start() + g.prng.below(config.moves.end() - config.moves.start() + 1);
    for _ in 0..moves {
        g.random_move(Place::Function)?;
    }
    let (mut results, mut outputs) = (Vec::new(), Vec::new());
    let mut output = |v: ValueId, name: String| {
        results.push(v);
        outputs.push(OutputDecl { name, mark: None });
    };
    for (i, v) in g.unused().into_iter().enumerate() {
        output(v, format!("y{i}"));
    }
    let mut gradients = Vec::new();
    if wants_gradients {
        gradients = append_gradients(&mut g)?;
        for (i, (_, d)) in gradients.iter().enumerate() {
            output(*d, format!("grad{i}"));
        }
    }
    let (updates, values) = append_updates(&mut g, &gradients)?;
    results.extend(values);
    let least_batch = g.batch.as_ref().map(|_| g.least_batch);
    let Generator { b, inputs, state, .. } = g;
    let graph = b.finish(&results)?.pruned()?;
    stage::verify(&graph)?;
    let function =
        Function { inputs: inputs.iter().map(|s| s.name.clone()).collect(), outputs, updates, graph };
    let mut module = Module { producer: "graphc-tests".into(), state, ..Module::default() };
    if let Some(least) = least_batch.filter(|b| *b > 0) {
        module.symbols.insert("B".into(), least as i64);
    }
    module.functions.insert(FUNCTION.into(), function);
    Ok(RandomModule { module, seed, has_gradients: !gradients.is_empty(), least_batch, inputs })
}

/// A loss of up to three values, and its gradients: pairs of an input or a parameter and its own.
fn append_gradients(g: &mut Generator) -> Result<Vec<(ValueId, ValueId)>> {
    let mut loss = None;
    for _ in 0..3 {
        let v = g.float(|_| true)?;
        let v = g.tame(v, 2.0)?;
        let axes: Vec<usize> = (0..g.b.ty(v.id).rank()).collect();
        let square = g.b.map(ScalarFn::Mul, &[v.id, v.id])?;
        // A sum and not a mean: that of nothing is no number.
        let term = g.b.sum(if g.prng.chance(0.5) { square } else { v.id }, &axes)?;
        loss = Some(match loss {
            Some(l) => g.b.map(ScalarFn::Add, &[l, term])?,
            None => term,
        });
    }
    let Some(loss) = loss else { return Ok(Vec::new()) };
    let one = g.b.scalar(g.float, 1.0)?;
    let leaves = g.leaves();
    let grads = autodiff::backward(&mut g.b, &[(loss, one)], &leaves)?;
    Ok(leaves.into_iter().zip(grads).filter_map(|(v, d)| Some((v, d?))).collect())
}

/// New values of the state variables: a step down the gradient, a moving average, new random words.
fn append_updates(g: &mut Generator, gradients: &[(ValueId, ValueId)]) -> Result<(Vec<usize>, Vec<ValueId>)> {
    let (mut updates, mut values) = (Vec::new(), Vec::new());
    for (i, old) in g.state_values.clone().into_iter().enumerate() {
        let ty = g.b.ty(old).clone();
        let step = match gradients.iter().find(|(v, _)| *v == old) {
            _ if ty.dtype == DType::U32 => {
                values.push(g.b.op1(graphc_ir::ops::RandomBits { dims: ty.dims }, &[old])?);
                updates.push(i);
                continue;
            }
            _ if g.prng.chance(0.2) => continue,
            Some((_, d)) => *d,
            None => {
                let other = g.float(|_| true)?;
                let other = g.fit(other, &ty.dims)?;
                let other = g.tame(other, 2.0)?;
                g.b.map(ScalarFn::Sub, &[old, other.id])?
            }
        };
        let rate = g.b.full_like(step, 0.125)?;
        let step = g.b.map(ScalarFn::Mul, &[step, rate])?;
        values.push(g.b.map(ScalarFn::Sub, &[old, step])?);
        updates.push(i);
    }
    Ok((updates, values))
}

/// How often each operation (a map by its function) stands in a graph, loops' bodies included.
pub fn count_ops(graph: &Graph, counts: &mut std::collections::BTreeMap<&'static str, usize>) {
    for (_, node) in graph.nodes() {
        *counts.entry(node.op.name()).or_default() += 1;
        node.op.bodies().iter().for_each(|(_, body)| count_ops(body, counts));
    }
}

impl Generator {
    /// Declares a state variable with a random initial value and reads it.
    fn declare_state(&mut self, role: StateRole, ty: TensorType) -> Result<ValueId> {
        let index = self.state.len();
        let value = if role == StateRole::Key {
            Tensor::from_slice(&[2], &[self.prng.word() as u32, self.prng.word() as u32])
        } else {
            let shape = ty.static_shape();
            Tensor::from_fn(ty.dtype, &shape, |_| Scalar::F(self.prng.real(-1.5, 1.5)))
        };
        let read = self.b.state(index, ty.clone())?;
        self.state.push(StateDecl { name: format!("s{index}"), role, ty, init: Some(Arc::new(value)) });
        self.state_values.push(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use graphc_ir::Op;

    use super::*;
    use crate::device::{Device, Reference};

    #[test]
    fn a_thousand_graphs_verify_and_run() {
        let config = Config::default();
        let (mut nodes, mut gradients, mut symbolic, mut updating) = (Vec::new(), 0, 0, 0);
        let (mut finite, mut total) = (0usize, 0usize);
        let mut graphs: BTreeMap<&'static str, usize> = BTreeMap::new();
        for seed in 0..1000 {
            let r = random_module(seed, &config).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let function = r.function().expect("it has one");
            nodes.push(function.graph.len());
            gradients += usize::from(r.has_gradients);
            symbolic += usize::from(r.least_batch.is_some());
            updating += usize::from(!function.updates.is_empty());
            let mut counts = BTreeMap::new();
            count_ops(&function.graph, &mut counts);
            for name in counts.keys() {
                *graphs.entry(name).or_default() += 1;
            }
            let inputs = r.inputs(1 + seed as usize % 5).expect("they can be made");
            let outcome =
                Reference.run(&r.module, FUNCTION, &inputs).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for t in outcome.outputs.iter().chain(&outcome.state) {
                total += t.len();
                finite += t.to_f64().iter().filter(|v| v.is_finite()).count();
            }
        }
        nodes.sort_unstable();
        let median = nodes[nodes.len() / 2];
        println!("nodes: median {median}, largest {}", nodes[nodes.len() - 1]);
        println!("with gradients {gradients}, symbolic {symbolic}, with updates {updating}");
        println!("finite elements: {finite} of {total}");
        println!("graphs per operation: {graphs:?}");
        assert!(median >= 20, "median {median}");
        assert!(gradients >= 300 && symbolic >= 300 && updating >= 200);
        assert!(finite as f64 > 0.99 * total as f64, "{finite} of {total} elements are finite");
        let listed = Op::names().into_iter().chain(["input", "state"]);
        let rare: Vec<_> =
            listed.map(|n| (n, graphs.get(n).copied().unwrap_or(0))).filter(|(_, c)| *c < 20).collect();
        assert!(rare.is_empty(), "in fewer than 20 of 1,000 graphs: {rare:?}");
    }

    #[test]
    fn a_seed_gives_one_module() {
        let config = Config { state: 1.0, ..Config::default() };
        for seed in 0..20 {
            let (a, b) = (random_module(seed, &config), random_module(seed, &config));
            let (a, b) = (a.expect("it is made"), b.expect("it is made"));
            assert_eq!(a.function().expect("one").graph, b.function().expect("one").graph);
            assert_eq!(a.inputs(3).expect("inputs"), b.inputs(3).expect("inputs"));
        }
        let other = random_module(21, &config).expect("it is made");
        assert_ne!(
            other.function().expect("one").graph,
            random_module(22, &config).expect("it is made").function().expect("one").graph
        );
    }
}
