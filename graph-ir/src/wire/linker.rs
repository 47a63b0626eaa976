//! What is known of a module while its functions are linked.

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnostic::{Report, shown};
use super::folder::Folder;
use super::json::Node as Json;
use super::link::KnownState;
use super::normal::folded;
use super::v1::Text;
use crate::dim::Symbol;
use crate::graph::Graph;
use crate::module::Function;
use crate::ops::attr::AttrValue;
use crate::ops::{Op, OpInfo};
use crate::scalar::ScalarFn;

/// Bodies inside bodies, of loops, branches and calls. Comparing graphs looks into bodies, so both that depth and the number of
/// nodes in the bodies of a function, with every body counted wherever it stands, are limited.
pub(super) const MAX_NESTING: usize = 16;
pub(super) const MAX_LOOP_NODES: usize = 1_000_000;

/// What an operation's name in a file stands for.
#[derive(Clone, Copy)]
pub(super) enum OpKind {
    /// A scalar function of every element.
    Map(ScalarFn),
    /// An entry of the op list.
    Listed(&'static OpInfo),
    /// [`crate::Builder::matmul`]: reshapes and broadcasts around a `dot`.
    Matmul,
}

/// Name and signature of the one operation that is always spelled out in others.
pub(super) const MATMUL: (&str, &str) = ("matmul", "matmul(a, b) -> y");

struct Body {
    graph: Arc<Graph>,
    depth: usize,
    /// Nodes, with those of the loops in it.
    nodes: usize,
    updates: bool,
}

/// The state of linking. `'w` is the life of the file's text.
pub(super) struct Linker<'w, 'a> {
    /// Where problems go.
    pub report: &'w mut Report<'a>,
    /// Weights beside the module.
    pub folder: Folder<'w>,
    /// How many more elements the module itself may hold.
    pub elements_left: usize,
    /// Declared lower bounds.
    pub bounds: Vec<(Symbol, i64)>,
    /// State variables in order.
    pub states: Vec<KnownState<'w>>,
    /// Names of the functions in order.
    pub function_names: Vec<&'w str>,
    // The maps are looked up only.
    state_index: HashMap<&'w str, usize>,
    folded_states: HashMap<String, usize>,
    ops: HashMap<&'static str, OpKind>,
    bodies: HashMap<&'w str, Option<Body>>,
    /// Depth and nodes of the loops in the function being linked.
    nesting: usize,
    loop_nodes: usize,
}

impl<'w, 'a> Linker<'w, 'a> {
    /// Nothing linked yet.
    pub fn new(
        report: &'w mut Report<'a>,
        folder: Folder<'w>,
        elements: usize,
        bounds: Vec<(Symbol, i64)>,
    ) -> Linker<'w, 'a> {
        let maps = ScalarFn::ALL.iter().map(|f| (f.name(), OpKind::Map(*f)));
        let listed = Op::LIST.iter().filter(|i| !Op::INTERNAL.contains(&i.name));
        let listed = listed.map(|i| (i.name, OpKind::Listed(i)));
        Linker {
            report,
            folder,
            elements_left: elements,
            bounds,
            states: Vec::new(),
            function_names: Vec::new(),
            state_index: HashMap::new(),
            folded_states: HashMap::new(),
            ops: maps.chain(listed).chain([(MATMUL.0, OpKind::Matmul)]).collect(),
            bodies: HashMap::new(),
            nesting: 0,
            loop_nodes: 0,
        }
    }

    /// What an operation's name stands for.
    pub fn op_kind(&self, name: &str) -> Option<OpKind> {
        self.ops.get(name).copied()
    }

    /// Reports an operation that does not exist.
    pub fn unknown_op(&mut self, at: usize, name: &str) {
        if name.contains('.') {
            let help = Some("names with a dot are reserved for custom operations".into());
            self.report.problem(at, format!("there is no operation `{}`", shown(name)), help);
            return;
        }
        let names = Op::names().into_iter().chain([MATMUL.0]);
        let help = self.report.did_you_mean(name, names);
        let help = help.unwrap_or_else(|| "`graphc ops` lists the operations".into());
        self.report.problem(at, format!("there is no operation `{}`", shown(name)), Some(help));
    }

    /// Adds a state variable; of two with one name the first counts.
    pub fn add_state(&mut self, state: KnownState<'w>) {
        self.state_index.entry(state.name.text).or_insert(self.states.len());
        self.folded_states.entry(folded(state.name.text)).or_insert(self.states.len());
        self.states.push(state);
    }

    /// Position of a state variable.
    pub fn state_index(&self, name: &str) -> Option<usize> {
        self.state_index.get(name).copied()
    }

    /// The name of a state variable that is this one, but for case.
    pub fn similar_state(&self, name: &str) -> Option<Text<'w>> {
        self.folded_states.get(&folded(name)).map(|i| self.states[*i].name)
    }

    /// To be called before a function is linked.
    pub fn begin_function(&mut self) {
        (self.nesting, self.loop_nodes) = (0, 0);
    }

    /// Makes a linked function (`None` if it was wrong) known as a possible body.
    pub fn add_body(&mut self, name: &'w str, function: Option<&Function>) {
        let (depth, loop_nodes) = (self.nesting, self.loop_nodes);
        let body = function.map(|f| Body {
            graph: Arc::new(f.graph.clone()),
            depth,
            nodes: f.graph.len().saturating_add(loop_nodes),
            updates: !f.updates.is_empty(),
        });
        self.bodies.insert(name, body);
    }

    /// A loop's body; `None` if it is wrong and that is reported here or was before.
    pub fn body(&mut self, attr: &str, node: &Json) -> Option<AttrValue> {
        let at = node.span.start;
        let Some(name) = node.as_str() else {
            let message =
                format!("attribute `{attr}`: {} where it takes the name of a function", node.value.kind());
            self.report.problem(at, message, None);
            return None;
        };
        let Some(body) = self.bodies.get(name) else {
            // A function that exists but is not linked yet is on a cycle, which is reported.
            if !self.function_names.contains(&name) {
                let names = self.function_names.iter().copied();
                let help = self.report.did_you_mean(name, names);
                let help = help.unwrap_or_else(|| "a body is another function of the module".into());
                self.report.problem(at, format!("there is no function `{}`", shown(name)), Some(help));
            }
            return None;
        };
        let body = body.as_ref()?;
        self.nesting = self.nesting.max(body.depth + 1);
        self.loop_nodes = self.loop_nodes.saturating_add(body.nodes);
        let refused = if body.updates {
            Some(("has updates", "a body has no updates: carry the value and update after the loop"))
        } else if body.graph.nodes().any(|(_, n)| matches!(n.op, Op::StateRead(_))) {
            Some(("reads state", "pass the state as an operand that every iteration gets"))
        } else if self.nesting > MAX_NESTING {
            Some((
                "is the innermost of too many nested bodies",
                "calls, branches and loops are nested at most 16 deep: flatten some of them",
            ))
        } else if self.loop_nodes > MAX_LOOP_NODES {
            Some((
                "makes the bodies of this function too large",
                "the bodies of a function's calls, branches and loops have at most a million nodes in all, each counted wherever it stands",
            ))
        } else {
            None
        };
        if let Some((what, help)) = refused {
            self.report.problem(at, format!("the body `{}` {what}", shown(name)), Some(help.into()));
            return None;
        }
        Some(AttrValue::Body(body.graph.clone()))
    }
}
