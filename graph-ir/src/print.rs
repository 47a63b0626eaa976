//! Graphs as text, one node a line, for people and for comparisons.
//!
//! ```text
//! %4 = linear(%0, %1, %2) : f32[B,128]  // `h` (9:6)
//! ```

use std::fmt::{self, Write};

use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::module::Module;
use crate::ops::Op;
use crate::ops::attr::AttrValue;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Elements of a constant that are shown.
const SHOWN_ELEMENTS: usize = 8;

/// The graph, its results last; the bodies of clusters and loops are indented under their node.
pub fn text(graph: &Graph) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_graph(&mut out, graph, 0);
    out
}

/// The state and every function of a module.
pub fn module_text(module: &Module) -> String {
    let mut out = String::new();
    let _ = write_module(&mut out, module);
    out
}

/// An operation with its attributes, without the bodies of loops and clusters: `softmax{axis=1}`.
pub fn op_text(op: &Op) -> String {
    let mut out = op.name().to_owned();
    // Types of inputs and states stand behind them already.
    let attrs: Vec<String> = match op {
        Op::Input(op) => vec![format!("index={}", op.index)],
        Op::StateRead(op) => vec![format!("index={}", op.index)],
        op => op.attrs().iter().filter_map(|(name, v)| Some(format!("{name}={}", attr_text(v)?))).collect(),
    };
    if !attrs.is_empty() {
        let _ = write!(out, "{{{}}}", attrs.join(", "));
    }
    out
}

fn write_module(out: &mut String, module: &Module) -> fmt::Result {
    for s in &module.state {
        let value = if s.init.is_some() { " = …" } else { "" };
        writeln!(out, "state {} {} : {}{value}", s.role.name(), s.name, s.ty)?;
    }
    for (name, f) in &module.functions {
        let inputs: Vec<String> =
            f.inputs.iter().enumerate().map(|(i, n)| format!("{n}: {}", f.input_type(i))).collect();
        writeln!(out, "\nfunction {name}({})", inputs.join(", "))?;
        write_nodes(out, &f.graph, 1)?;
        for (o, v) in f.outputs.iter().zip(f.output_values()) {
            let mark = o.mark.map_or_else(String::new, |m| format!(" ({})", m.name()));
            writeln!(out, "  output {} = {}{mark}", o.name, Value(*v))?;
        }
        for (i, v) in f.updates.iter().zip(f.update_values()) {
            let state = module.state.get(*i).map_or("?", |s| s.name.as_str());
            writeln!(out, "  update {state} = {}", Value(*v))?;
        }
    }
    Ok(())
}

fn write_graph(out: &mut String, graph: &Graph, depth: usize) -> fmt::Result {
    write_nodes(out, graph, depth)?;
    writeln!(out, "{:1$}results {2}", "", 2 * depth, List(graph.results()))
}

fn write_nodes(out: &mut String, graph: &Graph, depth: usize) -> fmt::Result {
    for (id, node) in graph.nodes() {
        write_node(out, graph, id, node, depth)?;
        for (_, v) in node.op.attrs() {
            if let AttrValue::Body(body) = v {
                write_graph(out, &body, depth + 2)?;
            }
        }
    }
    Ok(())
}

fn write_node(out: &mut String, graph: &Graph, id: NodeId, node: &Node, depth: usize) -> fmt::Result {
    write!(out, "{:1$}", "", 2 * depth)?;
    let outs: Vec<ValueId> = node.outs().collect();
    if !outs.is_empty() {
        write!(out, "{} = ", List(&outs))?;
    }
    let types: Vec<String> = outs.iter().map(|v| graph.ty(*v).to_string()).collect();
    write!(out, "{}({}) : {}", op_text(&node.op), List(&node.ins), types.join(", "))?;
    let origins = graph.origins(id);
    if !origins.is_empty() {
        write!(out, "  // {origins}")?;
    }
    out.write_char('\n')
}

fn attr_text(value: &AttrValue) -> Option<String> {
    let join = |parts: Vec<String>| format!("[{}]", parts.join(", "));
    Some(match value {
        AttrValue::Bool(v) => v.to_string(),
        AttrValue::Int(v) => v.to_string(),
        AttrValue::Real(v) => format!("{v:?}"),
        AttrValue::Number(v) => v.to_string(),
        AttrValue::Text(v) => crate::text::visible(v).into_owned(),
        AttrValue::Ints(all) => join(all.iter().map(ToString::to_string).collect()),
        AttrValue::Dims(all) => join(all.iter().map(ToString::to_string).collect()),
        AttrValue::Dim(d) => d.to_string(),
        AttrValue::Tensor(t) => tensor_text(t),
        AttrValue::Body(_) => return None,
    })
}

fn tensor_text(t: &Tensor) -> String {
    let element = |i| match t.get(i) {
        crate::scalar::Scalar::F(v) => format!("{v:?}"),
        crate::scalar::Scalar::I(v) => v.to_string(),
        crate::scalar::Scalar::B(v) => v.to_string(),
    };
    let mut parts: Vec<String> = (0..t.len().min(SHOWN_ELEMENTS)).map(element).collect();
    if t.len() > SHOWN_ELEMENTS {
        parts.push("…".into());
    }
    format!("{} {}", TensorType::fixed(t.dtype(), t.shape()), parts.join(" "))
}

struct Value(ValueId);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0.0)
    }
}

struct List<'v>(&'v [ValueId]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, v) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            Value(*v).fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Builder;
    use crate::dtype::DType;
    use crate::origin::Origins;
    use crate::scalar::ScalarFn;

    #[test]
    fn one_node_a_line() {
        let mut b = Builder::new();
        b.set_origins(Origins::named("x"));
        let x = b.input(TensorType::parse("f32[B,3]").expect("a type")).expect("an input");
        b.set_origins(Origins::placed("y", 4, 2));
        let c = b.constant(Tensor::from_slice(&[], &[0.5f32])).expect("a constant");
        let y = b.map(ScalarFn::Mul, &[x, c]).expect("a product");
        let graph = b.finish(&[y]).expect("a graph");
        assert_eq!(
            text(&graph),
            "%0 = input{index=0}() : f32[B,3]  // `x`\n\
             %1 = const{value=f32[] 0.5}() : f32[]  // `y` (4:2)\n\
             %2 = broadcast{dims=[B, 3], axes=[]}(%1) : f32[B,3]  // `y` (4:2)\n\
             %3 = mul(%0, %2) : f32[B,3]  // `y` (4:2)\n\
             results %3\n"
        );
        assert_eq!(DType::F32.name(), "f32");
    }

    #[test]
    fn bodies_are_indented() {
        let sample = Op::LIST
            .iter()
            .find(|i| i.name == "scan")
            .and_then(|i| (i.samples)().into_iter().last())
            .expect("scan has samples");
        let mut b = Builder::new();
        let ins: Vec<_> = sample.ins.iter().map(|t| b.constant(t.clone()).expect("a constant")).collect();
        let outs = b.op(sample.op, &ins).expect("a scan");
        let printed = text(&b.finish(&outs).expect("a graph"));
        assert!(printed.contains("\n    %0 = input{index=0}() : f64[3]\n"), "{printed}");
        assert!(printed.contains("\n    results %1, %2\n"), "{printed}");
    }
}
