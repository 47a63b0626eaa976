//! Graphs in the DOT language of Graphviz.

use std::fmt::Write;

use crate::graph::Graph;
use crate::ops::Op;
use crate::print::op_text;

/// Characters of an operation that a label shows.
const LABEL: usize = 60;

/// One box a node with its name, operation and types; constants and states are drawn lighter, results end in ovals.
pub fn dot(graph: &Graph, name: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_dot(&mut out, graph, name);
    out
}

fn write_dot(out: &mut String, graph: &Graph, name: &str) -> std::fmt::Result {
    writeln!(out, "digraph {} {{", quoted(name))?;
    writeln!(out, "  node [shape=box, fontname=\"sans-serif\", fontsize=10];")?;
    for (id, node) in graph.nodes() {
        let types: Vec<String> = node.outs().map(|v| graph.ty(v).to_string()).collect();
        let names: Vec<&str> = graph.origins(id).iter().map(|o| &*o.name).collect();
        let mut label: String = op_text(&node.op).chars().take(LABEL).collect();
        if !names.is_empty() {
            label = format!("{}\n{label}", names.join(", "));
        }
        label = format!("{label}\n{}", types.join(", "));
        let style = match &node.op {
            Op::Input(_) => ", shape=oval",
            Op::Const(_) | Op::StateRead(_) => ", color=gray, fontcolor=gray30",
            Op::Fused(_) => ", style=rounded",
            _ => "",
        };
        writeln!(out, "  n{} [label={}{style}];", id.0, quoted(&label))?;
        for v in &node.ins {
            let from = graph.value(*v);
            let label = if graph.def(*v).outs().len() > 1 {
                format!(" [label=\"#{}\"]", from.index)
            } else {
                String::new()
            };
            writeln!(out, "  n{} -> n{}{label};", from.node.0, id.0)?;
        }
    }
    for (i, v) in graph.results().iter().enumerate() {
        writeln!(out, "  r{i} [label=\"result {i}\", shape=oval];")?;
        writeln!(out, "  n{} -> r{i};", graph.value(*v).node.0)?;
    }
    out.write_str("}\n")
}

/// A quoted DOT string; line breaks become DOT's own.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Builder;
    use crate::dtype::DType;
    use crate::ops::Moments;
    use crate::origin::Origins;
    use crate::types::TensorType;

    #[test]
    fn nodes_edges_and_results() {
        let mut b = Builder::new();
        b.set_origins(Origins::named("a \"quoted\" \\ name"));
        let x = b.input(TensorType::fixed(DType::F32, &[2, 3])).expect("an input");
        b.set_origins(Origins::named("m"));
        let m = b.op(Moments { axes: vec![0] }, &[x]).expect("moments");
        let text = dot(&b.finish(&[m[1]]).expect("a graph"), "f");
        assert!(text.starts_with("digraph \"f\" {\n"));
        assert!(
            text.contains(r#"n0 [label="a \"quoted\" \\ name\ninput{index=0}\nf32[2,3]", shape=oval];"#),
            "{text}"
        );
        assert!(text.contains("  n0 -> n1;\n") && text.contains("  n1 -> r0;\n"));
        assert!(text.ends_with("}\n"));
    }
}
