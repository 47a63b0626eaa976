//! Graphs as one page without scripts from elsewhere.

use std::fmt::Write as _;

use graphc::ir::stage::Stage;
use graphc::{Function, Graph, Module};

use super::text;

const STYLE: &str = "body{font:14px/1.5 system-ui;margin:2em}table{border-collapse:collapse}\
td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}\
code,pre{font:13px monospace}tr:target{background:#fef3c7}.o{color:#666}";

/// A table of nodes whose operands are links.
pub fn graph(name: &str, stage: Stage, function: &Function, graph: &Graph, module: &Module) -> String {
    let title = format!("{name} at stage {}", stage.name());
    let mut body = String::from("<table><tr><th>values<th>operation<th>operands<th>types<th>origin</tr>\n");
    let live = graph.live_nodes();
    let link = |v: graphc::ir::ValueId| {
        format!("<a href=\"#n{}\">{}</a>", graph.value(v).node.0, escaped(&text::reference(v)))
    };
    // Writing to a string cannot fail.
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let outs: Vec<String> = node.outs().map(text::reference).collect();
        let ins: Vec<String> = node.ins.iter().map(|v| link(*v)).collect();
        let types: Vec<String> = node.outs().map(|v| graph.ty(v).to_string()).collect();
        let attrs = text::attrs(&node.op).join(", ");
        let _ = writeln!(
            body,
            "<tr id=\"n{}\"><td><code>{}</code><td><b>{}</b> <code>{}</code><td>{}<td><code>{}</code><td class=o>{}</tr>",
            id.0,
            escaped(&outs.join(", ")),
            escaped(node.op.name()),
            escaped(&attrs),
            ins.join(", "),
            escaped(&types.join(", ")),
            escaped(&graph.origins(id).to_string())
        );
    }
    body.push_str("</table>\n<ul>\n");
    let outputs = function.outputs.iter().map(|o| format!("output {}", o.name));
    let updates = function.updates.iter().map(|i| format!("update {}", module.state[*i].name));
    for (result, value) in outputs.chain(updates).zip(graph.results()) {
        let _ = writeln!(body, "<li>{} = {}</li>", escaped(&result), link(*value));
    }
    body.push_str("</ul>\n");
    page(&title, &body)
}

/// The text of a Program.
pub fn program(name: &str, dump: &str) -> String {
    page(&format!("{name} as a Program"), &format!("<pre>{}</pre>\n", escaped(dump)))
}

fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
