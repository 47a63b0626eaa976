//! Graphs for Graphviz.

use std::fmt::Write as _;

use graphc::{Graph, Op};

use super::text;

/// One box a node, one arrow an operand.
pub fn graph(name: &str, graph: &Graph) -> String {
    let mut out = format!("digraph {} {{\n  node [shape=box, fontname=\"monospace\"];\n", quoted(name));
    let live = graph.live_nodes();
    // Writing to a string cannot fail.
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let types: Vec<String> = node.outs().map(|v| graph.ty(v).to_string()).collect();
        let mut label = vec![node.op.name().to_owned(), types.join(", ")];
        label.extend(text::attrs(&node.op));
        if !graph.origins(id).is_empty() {
            label.push(graph.origins(id).to_string());
        }
        let style = match &node.op {
            Op::Input(_) => ", style=filled, fillcolor=\"#dbeafe\"",
            Op::StateRead(_) => ", style=filled, fillcolor=\"#fef3c7\"",
            _ => "",
        };
        let _ = writeln!(out, "  n{} [label={}{style}];", id.0, quoted(&label.join("\n")));
        for v in &node.ins {
            let _ = writeln!(
                out,
                "  n{} -> n{} [label={}];",
                graph.value(*v).node.0,
                id.0,
                quoted(&text::reference(*v))
            );
        }
    }
    for (i, v) in graph.results().iter().enumerate() {
        let _ = writeln!(out, "  r{i} [shape=ellipse, label={}];", quoted(&format!("result {i}")));
        let _ = writeln!(out, "  n{} -> r{i};", graph.value(*v).node.0);
    }
    out.push_str("}\n");
    out
}

/// The steps of a Program's dump in order.
pub fn program(name: &str, dump: &str) -> String {
    let mut out = format!("digraph {} {{\n  node [shape=box, fontname=\"monospace\"];\n", quoted(name));
    let steps = dump.lines().filter(|l| l.starts_with("step "));
    for (i, step) in steps.enumerate() {
        let _ = writeln!(out, "  s{i} [label={}];", quoted(step));
        if i > 0 {
            let _ = writeln!(out, "  s{} -> s{i};", i - 1);
        }
    }
    out.push_str("}\n");
    out
}

/// A string of the DOT language; its line breaks become those of the label.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
    }
}
