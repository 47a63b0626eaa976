//! Graphs as lines of text.

use std::fmt::Write as _;

use graphc::ir::ops::attr::AttrValue;
use graphc::ir::text::visible;
use graphc::ir::{Node, NodeId, ValueId};
use graphc::{Function, Graph, Module, Op};

/// A function: its interface, then a line for each node that a run computes.
pub fn function(name: &str, function: &Function, graph: &Graph, module: &Module) -> String {
    let mut text = format!("function `{name}`\n");
    nodes(&mut text, graph, 1);
    // Writing to a string cannot fail.
    for (output, value) in function.outputs.iter().zip(graph.results()) {
        let _ = writeln!(text, "  output `{}` = {}", output.name, reference(*value));
    }
    let updates = graph.results().iter().skip(function.outputs.len());
    for (state, value) in function.updates.iter().zip(updates) {
        let _ = writeln!(text, "  update `{}` = {}", module.state[*state].name, reference(*value));
    }
    text
}

fn nodes(text: &mut String, graph: &Graph, depth: usize) {
    let live = graph.live_nodes();
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let _ = writeln!(text, "{}{}", "  ".repeat(depth), line(graph, id, node));
        for body in bodies(&node.op) {
            nodes(text, &body, depth + 1);
            let results: Vec<String> = body.results().iter().map(|r| reference(*r)).collect();
            let _ = writeln!(text, "{}results {}", "  ".repeat(depth + 1), results.join(", "));
        }
    }
}

/// `%3 = relu(%2) : f32[B,128]  # h (4:9)`.
pub fn line(graph: &Graph, id: NodeId, node: &Node) -> String {
    let outs: Vec<String> = node.outs().map(reference).collect();
    let ins: Vec<String> = node.ins.iter().map(|v| reference(*v)).collect();
    let types: Vec<String> = node.outs().map(|v| graph.ty(v).to_string()).collect();
    let attrs: Vec<String> = attrs(&node.op);
    let attrs = if attrs.is_empty() { String::new() } else { format!("{{{}}}", attrs.join(", ")) };
    let origins = graph.origins(id);
    let origins = if origins.is_empty() { String::new() } else { format!("  # {origins}") };
    format!(
        "{} = {}{attrs}({}) : {}{origins}",
        outs.join(", "),
        node.op.name(),
        ins.join(", "),
        types.join(", ")
    )
}

/// `%3`.
pub fn reference(v: ValueId) -> String {
    format!("%{}", v.0)
}

/// Graphs inside an operation.
fn bodies(op: &Op) -> Vec<std::sync::Arc<Graph>> {
    let body = |(_, value)| if let AttrValue::Body(graph) = value { Some(graph) } else { None };
    op.attrs().into_iter().filter_map(body).collect()
}

/// Attributes that are short, as `name: value`.
pub fn attrs(op: &Op) -> Vec<String> {
    let attr = |(name, value): (&'static str, AttrValue)| {
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let value = match value {
            AttrValue::Bool(v) => v.to_string(),
            AttrValue::Int(v) => v.to_string(),
            AttrValue::Real(v) => format!("{v:?}"),
            AttrValue::Number(v) => v.to_string(),
            AttrValue::Text(v) => visible(&v).into_owned(),
            AttrValue::Ints(v) => list(v.iter().map(ToString::to_string).collect()),
            AttrValue::Dims(v) => list(v.iter().map(ToString::to_string).collect()),
            AttrValue::Dim(v) => v.to_string(),
            AttrValue::Tensor(t) if t.len() == 1 => format!("{:?}", t.get(0).as_f64()),
            AttrValue::Tensor(t) => format!("{}{:?}", t.dtype(), t.shape()),
            AttrValue::Body(_) => return None,
        };
        Some(format!("{name}: {value}"))
    };
    // Of inputs and states only the number counts; the type stands behind the colon.
    let all = op.attrs().into_iter().filter(|(name, _)| {
        !matches!((op, *name), (Op::Input(_) | Op::StateRead(_), "dtype" | "dims") | (Op::Map(_), "f"))
    });
    all.filter_map(attr).collect()
}
