//! What is allowed in a module but seldom meant.

use std::collections::BTreeMap;
use std::fmt;

use crate::graph::{Graph, NodeId, ValueId};
use crate::module::{Function, Module};
use crate::ops::Op;

/// Something in a valid module that deserves a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The function, unless it is about the whole module.
    pub function: Option<String>,
    /// One sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            write!(f, "function `{function}`: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Names that are listed in one warning.
const LISTED: usize = 8;

/// Unused inputs, nodes and state, random nodes that draw the same bits.
pub fn warnings(module: &Module) -> Vec<Warning> {
    let mut all = Vec::new();
    for (name, f) in &module.functions {
        let mut add = |message: String| all.push(Warning { function: Some(name.clone()), message });
        if f.outputs.is_empty() && f.updates.is_empty() {
            add("it has neither outputs nor updates".into());
        }
        unused(f, &mut add);
        shared_keys(&f.graph, &mut add);
    }
    unused_state(module, &mut all);
    all
}

fn unused(f: &Function, add: &mut dyn FnMut(String)) {
    let live = f.graph.live_nodes();
    for (name, v) in f.inputs.iter().zip(f.graph.inputs()) {
        if !live[f.graph.value(*v).node.index()] {
            add(format!("the input `{name}` is used by no output and no update"));
        }
    }
    let source = |op: &Op| matches!(op, Op::Input(_) | Op::StateRead(_));
    let dead: Vec<String> = f
        .graph
        .nodes()
        .filter(|(id, n)| !live[id.index()] && !source(&n.op))
        .map(|(id, _)| f.graph.describe(id))
        .collect();
    if !dead.is_empty() {
        add(format!("no output and no update uses {}", listed(&dead)));
    }
}

fn unused_state(module: &Module, all: &mut Vec<Warning>) {
    let mut used = vec![false; module.state.len()];
    let mut use_it = |i: usize| used.get_mut(i).into_iter().for_each(|u| *u = true);
    for f in module.functions.values() {
        f.updates.iter().for_each(|i| use_it(*i));
        f.graph.nodes().for_each(|(_, n)| {
            if let Op::StateRead(op) = &n.op {
                use_it(op.index)
            }
        });
    }
    let names: Vec<String> =
        module.state.iter().zip(&used).filter(|(_, u)| !**u).map(|(s, _)| format!("`{}`", s.name)).collect();
    if !names.is_empty() {
        all.push(Warning {
            function: None,
            message: format!("no function reads or updates the state {}", listed(&names)),
        });
    }
}

/// The key that a node draws random bits with.
fn key_of(graph: &Graph, id: NodeId) -> Option<ValueId> {
    let node = graph.node(id);
    match &node.op {
        Op::RandomBits(_) | Op::Uniform(_) | Op::Normal(_) | Op::TruncatedNormal(_) => {
            node.ins.first().copied()
        }
        Op::Dropout(_) => node.ins.get(1).copied(),
        _ => None,
    }
}

fn shared_keys(graph: &Graph, add: &mut dyn FnMut(String)) {
    let mut users: BTreeMap<ValueId, Vec<String>> = BTreeMap::new();
    for (id, _) in graph.nodes() {
        if let Some(key) = key_of(graph, id) {
            users.entry(key).or_default().push(graph.describe(id));
        }
    }
    for nodes in users.values().filter(|n| n.len() > 1) {
        add(format!("these draw the same random bits, because they share a key: {}", listed(nodes)));
    }
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}
