//! What is to be written of a module: names of nodes, functions for the bodies of loops, tensors for a weights file.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use super::decode::Limits;
use super::linker::{MAX_LOOP_NODES, MAX_NESTING};
use super::name::name_problem;
use super::normal::folded;
use super::{ids, v1};
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::module::{Module, OutputMark};
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// State of at most this many elements in all, and constants of at most this many each, stand in the module itself.
pub const INLINE_ELEMENTS: usize = 1024;

/// How a module is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeOptions<'o> {
    /// Name of the weights file that the larger tensors are in; `None` if there is none.
    pub weights: Option<&'o str>,
}

/// The canonical text of a module. Which tensors it says are in the weights file is told by [`weights_of`].
///
/// # Errors
/// If the module cannot be written: invalid or repeated names, clusters, values of state that do not have its type,
/// or tensors that need a weights file where `options` name none.
pub fn encode(module: &Module, options: &EncodeOptions<'_>) -> Result<String> {
    let plan = Plan::new(module)?;
    if let (None, Some((name, tensor))) = (options.weights, plan.tensors().first()) {
        return Err(Error::new(format!(
            "`{name}` has {} elements, and a module holds at most {INLINE_ELEMENTS} itself",
            tensor.len()
        ))
        .help("save it with a weights file"));
    }
    plan.text(options.weights)
}

/// The tensors that [`encode`] says are in the weights file, with their names there.
///
/// # Errors
/// As [`encode`].
pub fn weights_of(module: &Module) -> Result<Vec<(String, Arc<Tensor>)>> {
    Ok(Plan::new(module)?.tensors)
}

/// A graph of the module or of a loop.
pub(super) enum GraphRef<'m> {
    Own(&'m Graph),
    Body(Arc<Graph>),
}

impl Deref for GraphRef<'_> {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        match self {
            GraphRef::Own(g) => g,
            GraphRef::Body(g) => g,
        }
    }
}

/// A function as it is written.
pub(super) struct PlannedFunction<'m> {
    pub name: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<(String, Option<OutputMark>)>,
    pub updates: &'m [usize],
    pub graph: GraphRef<'m>,
    /// Names of the nodes.
    pub ids: Vec<String>,
    /// Names of the tensors of constants in the weights file, by node.
    pub constants: HashMap<usize, String>,
}

impl PlannedFunction<'_> {
    /// A reference to a value.
    pub fn reference(&self, v: ValueId) -> String {
        let info = self.graph.value(v);
        let id = &self.ids[info.node.index()];
        if info.index == 0 { id.clone() } else { format!("{id}#{}", info.index) }
    }
}

/// A module as it is written.
pub(super) struct Plan<'m> {
    pub module: &'m Module,
    pub functions: Vec<PlannedFunction<'m>>,
    /// Whether the values of state are in the weights file.
    pub state_in_file: bool,
    // Looked up only.
    bodies: HashMap<Arc<Graph>, String>,
    tensors: Vec<(String, Arc<Tensor>)>,
}

impl<'m> Plan<'m> {
    pub fn new(module: &'m Module) -> Result<Plan<'m>> {
        check_state(module)?;
        let mut seen = HashSet::new();
        if let Some(name) = module.functions.keys().find(|name| !seen.insert(folded(name))) {
            fail!("two functions are named `{name}`, but for case");
        }
        let elements = module.state.iter().filter_map(|s| s.init.as_ref()).map(|t| t.len()).sum::<usize>();
        let mut plan = Plan {
            module,
            functions: Vec::new(),
            state_in_file: elements > INLINE_ELEMENTS,
            bodies: HashMap::new(),
            tensors: Vec::new(),
        };
        plan.add_functions()?;
        plan.add_bodies()?;
        plan.check_readable()?;
        plan.list_tensors();
        Ok(plan)
    }

    /// The text of the module.
    ///
    /// # Errors
    /// If it is longer than what is read.
    pub fn text(&self, weights: Option<&str>) -> Result<String> {
        let text = v1::write(self, weights);
        let most = Limits::default().json;
        // Every value but the first follows one of these, in a text that holds them in names too.
        let values = 1 + text.bytes().filter(|b| matches!(b, b',' | b'[' | b'{' | b':')).count();
        if text.len() > most.bytes || values > most.nodes {
            let message = format!("the module has {} bytes of text, more than is read", text.len());
            return Err(Error::limit(message).help("cut it into modules of fewer nodes"));
        }
        Ok(text)
    }

    /// Whatever the reader would refuse is not written: types and names, which may be derived from longer or larger ones, and the
    /// nesting of bodies.
    fn check_readable(&self) -> Result<()> {
        let index: HashMap<&str, usize> =
            self.functions.iter().enumerate().map(|(i, f)| (f.name.as_str(), i)).collect();
        let mut known = vec![None; self.functions.len()];
        for (i, f) in self.functions.iter().enumerate() {
            let place = |e: Error| e.at(format!("function `{}`", f.name));
            for (id, node) in f.graph.nodes() {
                let at = |e: Error| {
                    place(Error { message: format!("{}: {}", f.graph.describe(id), e.message), ..e })
                };
                check_name(&f.ids[id.index()]).map_err(at)?;
                node.outs().try_for_each(|v| f.graph.ty(v).check_size()).map_err(at)?;
            }
            let (depth, nodes) = self.nesting(i, &index, &mut known);
            if depth > MAX_NESTING || nodes > MAX_LOOP_NODES {
                let message = format!(
                    "its bodies are nested {depth} deep with {nodes} nodes, and at most {MAX_NESTING} and {MAX_LOOP_NODES} can be read"
                );
                return Err(place(Error::limit(message).help("flatten some loops, branches or calls")));
            }
        }
        Ok(())
    }

    /// How deep the bodies of a function are nested, and how many nodes they have, each counted wherever it stands. Recurses as deep
    /// as they are nested.
    fn nesting(
        &self,
        i: usize,
        index: &HashMap<&str, usize>,
        known: &mut [Option<(usize, usize)>],
    ) -> (usize, usize) {
        if let Some(found) = known[i] {
            return found;
        }
        let (mut depth, mut nodes) = (0, 0usize);
        for (_, node) in self.functions[i].graph.nodes().filter(|(_, n)| n.op.has_bodies()) {
            for (_, body) in node.op.bodies() {
                let Some(body) = index.get(self.body_name(&body)).copied() else { continue };
                let inner = self.nesting(body, index, known);
                depth = depth.max(inner.0 + 1);
                nodes = nodes.saturating_add(inner.1).saturating_add(self.functions[body].graph.len());
            }
        }
        known[i] = Some((depth, nodes));
        (depth, nodes)
    }

    /// The tensors of the weights file.
    pub fn tensors(&self) -> &[(String, Arc<Tensor>)] {
        &self.tensors
    }

    /// The name of the function that is a loop's body.
    pub fn body_name(&self, body: &Arc<Graph>) -> &str {
        self.bodies.get(body).map_or("", String::as_str)
    }

    fn add_functions(&mut self) -> Result<()> {
        let module = self.module;
        let loops = module.functions.values().any(|f| f.graph.nodes().any(|(_, n)| n.op.has_bodies()));
        for (name, f) in &module.functions {
            let at = |e: Error| e.at(format!("function `{name}`"));
            check_name(name).map_err(at)?;
            let results = f.outputs.len() + f.updates.len();
            if f.inputs.len() != f.graph.inputs().len() || results != f.graph.results().len() {
                return Err(at(Error::new(
                    "the graph does not have the inputs and results that the function names",
                )));
            }
            check_names(module.state.iter().map(|s| &s.name).chain(&f.inputs)).map_err(at)?;
            check_names(f.outputs.iter().map(|o| &o.name)).map_err(at)?;
            check_updates(module, &f.updates).map_err(at)?;
            let ids = ids::assign(&f.graph, &f.inputs, module.state.iter().map(|s| s.name.as_str()));
            if loops && f.updates.is_empty() && !reads_state(&f.graph) {
                self.bodies.entry(Arc::new(f.graph.clone())).or_insert_with(|| name.clone());
            }
            self.functions.push(PlannedFunction {
                name: name.clone(),
                inputs: f.inputs.clone(),
                outputs: f.outputs.iter().map(|o| (o.name.clone(), o.mark)).collect(),
                updates: &f.updates,
                graph: GraphRef::Own(&f.graph),
                ids,
                constants: HashMap::new(),
            });
        }
        Ok(())
    }

    /// Makes a function of every loop's body that is none yet.
    fn add_bodies(&mut self) -> Result<()> {
        let mut names: HashSet<String> = self.functions.iter().map(|f| folded(&f.name)).collect();
        let mut done = 0;
        while done < self.functions.len() {
            let mut found = Vec::new();
            let f = &self.functions[done];
            for (id, node) in f.graph.nodes() {
                if matches!(node.op, Op::Fused(_)) {
                    return Err(Error::new(
                        "a cluster of the fusion pass stands in no file; write the graph before fusion",
                    )
                    .at(format!("function `{}`", f.name)));
                }
                for (attr, body) in node.op.bodies() {
                    found.push((format!("{}.{}.{attr}", f.name, f.ids[id.index()]), body));
                }
            }
            for (name, body) in found {
                if self.bodies.contains_key(&body) {
                    continue;
                }
                if reads_state(&body) {
                    fail!(
                        "the body of a loop reads state, which no file can say; pass the state as an operand"
                    );
                }
                let mut unique = make_unique(&name, &names);
                if name_problem(&unique).is_some() {
                    unique = make_unique("body", &names);
                }
                names.insert(folded(&unique));
                self.bodies.insert(body.clone(), unique.clone());
                self.functions.push(self.body_function(unique, body));
            }
            done += 1;
        }
        Ok(())
    }

    fn body_function(&self, name: String, graph: Arc<Graph>) -> PlannedFunction<'m> {
        let states = || self.module.state.iter().map(|s| s.name.as_str());
        let mut taken: HashSet<String> = states().map(folded).collect();
        let mut inputs = Vec::new();
        for (i, v) in graph.inputs().iter().enumerate() {
            let origin = graph.origins(graph.value(*v).node).iter().next();
            let wanted = origin.map_or_else(|| format!("in{i}"), |o| super::name::make_name(&o.name));
            let wanted = make_unique(&wanted, &taken);
            taken.insert(folded(&wanted));
            inputs.push(wanted);
        }
        let outputs = (0..graph.results().len()).map(|i| (format!("out{i}"), None)).collect();
        let ids = ids::assign(&graph, &inputs, states());
        let graph = GraphRef::Body(graph);
        PlannedFunction { name, inputs, outputs, updates: &[], graph, ids, constants: HashMap::new() }
    }

    fn list_tensors(&mut self) {
        let state = self.module.state.iter().filter(|_| self.state_in_file);
        self.tensors = state.filter_map(|s| Some((s.name.clone(), s.init.clone()?))).collect();
        let mut names: HashSet<String> = self.tensors.iter().map(|(n, _)| folded(n)).collect();
        // The reader allows so many elements in the module itself.
        let mut left = Limits::default().elements;
        if !self.state_in_file {
            left -= self.module.state.iter().filter_map(|s| s.init.as_ref()).map(|t| t.len()).sum::<usize>();
        }
        for f in &mut self.functions {
            for (id, node) in f.graph.nodes() {
                let Op::Const(op) = &node.op else { continue };
                if op.value.len() <= INLINE_ELEMENTS && op.value.len() <= left {
                    left -= op.value.len();
                    continue;
                }
                let name = make_unique(&format!("{}/{}", f.name, f.ids[id.index()]), &names);
                names.insert(folded(&name));
                f.constants.insert(id.index(), name.clone());
                self.tensors.push((name, op.value.clone()));
            }
        }
    }
}

fn reads_state(graph: &Graph) -> bool {
    graph.nodes().any(|(_, n)| matches!(n.op, Op::StateRead(_)))
}

/// A name that no other of those taken, which are folded, looks like.
fn make_unique(wanted: &str, taken: &HashSet<String>) -> String {
    let mut name = wanted.to_owned();
    let mut number = 1;
    while taken.contains(&folded(&name)) {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    name
}

fn check_name(name: &str) -> Result<()> {
    match name_problem(name) {
        None => Ok(()),
        Some((message, help)) => Err(Error::new(message).help(help)),
    }
}

fn check_names<'n>(names: impl Iterator<Item = &'n String>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        check_name(name)?;
        if !seen.insert(folded(name)) {
            fail!(
                "the name `{name}` stands twice, perhaps in another case; inputs and state variables share one \
                 namespace"
            );
        }
    }
    Ok(())
}

fn check_updates(module: &Module, updates: &[usize]) -> Result<()> {
    let mut seen = HashSet::new();
    for i in updates {
        let Some(state) = module.state.get(*i) else {
            fail!("an update of a state variable that does not exist")
        };
        if !seen.insert(i) {
            fail!("`{}` is updated twice", state.name);
        }
    }
    Ok(())
}

fn check_state(module: &Module) -> Result<()> {
    check_names(module.state.iter().map(|s| &s.name))?;
    for s in &module.state {
        if let Some(init) = &s.init {
            let found = TensorType::fixed(init.dtype(), init.shape());
            if found != s.ty {
                fail!("state variable `{}` is {}, but its value is {found}", s.name, s.ty);
            }
        }
    }
    Ok(())
}
