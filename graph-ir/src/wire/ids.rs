//! Names of nodes on output: the user's where there is one, so that an edit changes few lines.

use std::collections::{HashMap, HashSet};

use super::name::{MAX_NAME, make_name};
use super::normal::folded;
use crate::graph::Graph;
use crate::ops::Op;

/// A name for every node of a function, unique among its inputs, the module's state and each other, whatever the case.
///
/// A name that several nodes come from goes to the last of them, which computes what the user named; the others, such
/// as the broadcasts before an addition, have the operation added. Nodes without a name are called by their
/// operation and numbered.
pub(super) fn assign<'n>(
    graph: &Graph,
    inputs: &[String],
    states: impl Iterator<Item = &'n str> + Clone,
) -> Vec<String> {
    let states: Vec<&str> = states.collect();
    let mut taken: HashSet<String> = inputs.iter().map(|n| folded(n)).collect();
    taken.extend(states.iter().map(|s| folded(s)));
    let mut ids = vec![String::new(); graph.len()];
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (id, node) in graph.nodes() {
        match &node.op {
            Op::Input(op) => ids[id.index()] = inputs.get(op.index).cloned().unwrap_or_default(),
            Op::StateRead(op) => {
                ids[id.index()] = states.get(op.index).map_or_else(String::new, |s| (*s).to_owned());
            }
            _ => last.extend(graph.origins(id).iter().map(|o| (&*o.name, id.index()))),
        }
    }
    let named = |op: &Op| matches!(op, Op::Input(_) | Op::StateRead(_));
    for (id, _) in graph.nodes().filter(|(_, n)| !named(&n.op)) {
        let mut own = graph.origins(id).iter().filter(|o| last.get(&*o.name) == Some(&id.index()));
        if let Some(name) = own.find_map(|o| Some(make_name(&o.name)).filter(|n| !taken.contains(&folded(n))))
        {
            taken.insert(folded(&name));
            ids[id.index()] = name;
        }
    }
    let mut counters: HashMap<String, usize> = HashMap::new();
    for (id, node) in graph.nodes() {
        if !ids[id.index()].is_empty() {
            continue;
        }
        let op = node.op.name();
        let base = match graph.origins(id).iter().next() {
            Some(origin) => {
                let mut name = make_name(&origin.name);
                // Room for the operation and a number.
                while name.chars().count() + op.len() + 24 > MAX_NAME {
                    name.pop();
                }
                format!("{name}_{op}")
            }
            None => op.to_owned(),
        };
        let counter = counters.entry(base.clone()).or_insert(0);
        ids[id.index()] = loop {
            *counter += 1;
            let name = if *counter == 1 { base.clone() } else { format!("{base}_{counter}") };
            if taken.insert(folded(&name)) {
                break name;
            }
        };
    }
    ids
}
