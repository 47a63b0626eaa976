//! From JSON to the wire structs: fields, kinds and names.

use std::collections::HashMap;

use super::{Function, Module, Node, Operand, Output, Source, State, Text};
use crate::wire::diagnostic::{Report, shown};
use crate::wire::json::{Member, Node as Json, Value};
use crate::wire::name::name_problem;
use crate::wire::normal::folded;

/// Reads a document that passed the version gate; everything wrong goes to the report.
pub(in crate::wire) fn read<'a>(root: &'a Json, report: &mut Report<'_>) -> Module<'a> {
    let mut module = Module::default();
    const FIELDS: &[&str] = &["format", "version", "producer", "meta", "symbols", "state", "functions"];
    let Some(members) = fields(report, root, "the module", FIELDS) else { return module };
    for m in members {
        match m.key.as_str() {
            "producer" => module.producer = text(report, &m.value, "\"producer\"").map_or("", |t| t.text),
            "meta" => module.meta = object(report, &m.value, "\"meta\"").map(|_| &m.value),
            "symbols" => module.symbols = symbols(report, &m.value),
            "state" => {
                let items = array(report, &m.value, "\"state\"").unwrap_or_default();
                module.state = items.iter().filter_map(|s| state(report, s)).collect();
                unique(report, module.state.iter().map(|s| s.name), "state variables");
            }
            "functions" => {
                let all = object(report, &m.value, "\"functions\"").unwrap_or_default();
                module.functions = all.iter().filter_map(|f| function(report, f)).collect();
                unique(report, module.functions.iter().map(|f| f.name), "functions");
            }
            _ => {}
        }
    }
    if root.get("functions").is_none() {
        report.problem(
            root.span.start,
            "the module has no \"functions\"",
            Some("add \"functions\": {}".into()),
        );
    }
    module
}

/// Reports names that stand twice, or again with other capitals.
fn unique<'a>(report: &mut Report<'_>, names: impl Iterator<Item = Text<'a>>, of: &str) {
    let mut seen: HashMap<String, Text<'a>> = HashMap::new();
    for name in names {
        let Some(first) = seen.get(&folded(name.text)) else {
            seen.insert(folded(name.text), name);
            continue;
        };
        let at = report.place(first.at);
        let (shown, other) = (shown(name.text), shown(first.text));
        let message = if first.text == name.text {
            format!("two {of} are named `{shown}` (the first one at {at})")
        } else {
            format!("two {of} are named `{other}` (at {at}) and `{shown}`, which differ in case only")
        };
        report.problem(name.at, message, Some("rename one of the two".into()));
    }
}

fn wrong_kind(report: &mut Report<'_>, node: &Json, what: &str, wanted: &str) {
    report.problem(node.span.start, format!("{what} is {}, not {wanted}", node.value.kind()), None);
}

fn object<'a>(report: &mut Report<'_>, node: &'a Json, what: &str) -> Option<&'a [Member]> {
    let found = node.as_object();
    if found.is_none() {
        wrong_kind(report, node, what, "an object");
    }
    found
}

fn array<'a>(report: &mut Report<'_>, node: &'a Json, what: &str) -> Option<&'a [Json]> {
    let found = node.as_array();
    if found.is_none() {
        wrong_kind(report, node, what, "an array");
    }
    found
}

fn text<'a>(report: &mut Report<'_>, node: &'a Json, what: &str) -> Option<Text<'a>> {
    match node.as_str() {
        Some(text) => Some(Text { text, at: node.span.start }),
        None => {
            wrong_kind(report, node, what, "a string");
            None
        }
    }
}

fn checked_name<'a>(report: &mut Report<'_>, text: Text<'a>) -> Option<Text<'a>> {
    match name_problem(text.text) {
        None => Some(text),
        Some((message, help)) => {
            report.problem(text.at, message, Some(help.into()));
            None
        }
    }
}

fn key_name<'a>(report: &mut Report<'_>, member: &'a Member) -> Option<Text<'a>> {
    checked_name(report, Text { text: &member.key, at: member.key_span.start })
}

/// The members of an object that may have these fields and no others.
fn fields<'a>(report: &mut Report<'_>, node: &'a Json, what: &str, known: &[&str]) -> Option<&'a [Member]> {
    let members = object(report, node, what)?;
    for m in members {
        if known.contains(&m.key.as_str()) {
            continue;
        }
        let message = if m.key == "tests" {
            "the field `tests` is reserved for later versions".into()
        } else {
            format!("{what} has no field `{}`", shown(&m.key))
        };
        let help = report.did_you_mean(&m.key, known.iter().copied());
        let help = help.unwrap_or_else(|| format!("its fields are {}", known.join(", ")));
        report.problem(m.key_span.start, message, Some(help));
    }
    Some(members)
}

/// A field that must be there.
fn required<'a>(report: &mut Report<'_>, node: &'a Json, what: &str, key: &str) -> Option<&'a Json> {
    let found = node.get(key);
    if found.is_none() {
        report.problem(node.span.start, format!("{what} has no \"{key}\""), Some(format!("add \"{key}\"")));
    }
    found
}

fn required_text<'a>(report: &mut Report<'_>, node: &'a Json, what: &str, key: &str) -> Option<Text<'a>> {
    let field = required(report, node, what, key)?;
    text(report, field, &format!("\"{key}\""))
}

fn symbols<'a>(report: &mut Report<'_>, node: &'a Json) -> Vec<(Text<'a>, i64)> {
    let mut found = Vec::new();
    for m in object(report, node, "\"symbols\"").unwrap_or_default() {
        let least = match &m.value.value {
            Value::Number(n) => n.as_i64().map_err(|e| e.to_string()),
            other => Err(format!("the least value of a symbol is an integer, not {}", other.kind())),
        };
        match least {
            Ok(v) if v >= 0 => found.push((Text { text: &m.key, at: m.key_span.start }, v)),
            Ok(v) => {
                let help = Some("symbols are sizes: declare 0 or more".into());
                report.problem(
                    m.value.span.start,
                    format!("the least value of `{}` is {v}", shown(&m.key)),
                    help,
                );
            }
            Err(message) => {
                report.problem(m.value.span.start, message, Some("write it as {\"B\": 1}".into()))
            }
        }
    }
    found
}

fn state<'a>(report: &mut Report<'_>, node: &'a Json) -> Option<State<'a>> {
    let what = "a state variable";
    fields(report, node, what, &["name", "role", "type", "init"])?;
    let name = required_text(report, node, what, "name").and_then(|t| checked_name(report, t));
    let role = required_text(report, node, what, "role");
    let ty = required_text(report, node, what, "type");
    let init = match node.get("init") {
        None | Some(Json { value: Value::Null, .. }) => None,
        Some(init) => source(report, init, "\"init\"", &[]),
    };
    Some(State { name: name?, role, ty, init })
}

/// `{"data": …}` or `{"file": …, "tensor": …, "sha256": …}`, beside other fields.
pub(in crate::wire) fn source<'a>(
    report: &mut Report<'_>,
    node: &'a Json,
    what: &str,
    others: &[&str],
) -> Option<Source<'a>> {
    let known = [others, &["data", "file", "tensor", "sha256"]].concat();
    fields(report, node, what, &known)?;
    match (node.get("data"), node.get("file")) {
        (Some(data), None) => Some(Source::Data(data)),
        (None, Some(file)) => {
            let file = text(report, file, "\"file\"");
            let tensor = required_text(report, node, what, "tensor");
            let sha256 = node.get("sha256").and_then(|s| text(report, s, "\"sha256\""));
            Some(Source::File { file: file?, tensor: tensor?, sha256 })
        }
        (data, _) => {
            let message = if data.is_some() { "both" } else { "neither" };
            let message = format!("{what} has {message} \"data\" and \"file\"");
            let message = message.replace("neither \"data\" and", "neither \"data\" nor");
            report.problem(node.span.start, message, Some("give its elements in one of the two ways".into()));
            None
        }
    }
}

fn function<'a>(report: &mut Report<'_>, member: &'a Member) -> Option<Function<'a>> {
    let name = key_name(report, member);
    report.function = Some(member.key.clone());
    let result = function_body(report, name, &member.value);
    report.function = None;
    result
}

fn function_body<'a>(
    report: &mut Report<'_>,
    name: Option<Text<'a>>,
    node: &'a Json,
) -> Option<Function<'a>> {
    fields(report, node, "a function", &["inputs", "nodes", "outputs", "updates"])?;
    let list = |report: &mut Report<'_>, key: &str| {
        node.get(key).and_then(|n| array(report, n, &format!("\"{key}\""))).unwrap_or_default()
    };
    let inputs = list(report, "inputs").iter().filter_map(|i| input(report, i)).collect();
    let nodes = list(report, "nodes").iter().filter_map(|n| wire_node(report, n)).collect();
    let outputs = required(report, node, "the function", "outputs")
        .and_then(|o| object(report, o, "\"outputs\""))
        .unwrap_or_default();
    let outputs: Vec<Output<'a>> = outputs.iter().filter_map(|o| output(report, o)).collect();
    unique(report, outputs.iter().map(|o| o.name), "outputs");
    let updates = node.get("updates").and_then(|u| object(report, u, "\"updates\"")).unwrap_or_default();
    let updates = updates
        .iter()
        .filter_map(|u| {
            let value = text(report, &u.value, "an update")?;
            Some((Text { text: &u.key, at: u.key_span.start }, value))
        })
        .collect();
    Some(Function { name: name?, inputs, nodes, outputs, updates })
}

fn input<'a>(report: &mut Report<'_>, node: &'a Json) -> Option<(Text<'a>, Option<Text<'a>>)> {
    fields(report, node, "an input", &["name", "type"])?;
    let name = required_text(report, node, "an input", "name").and_then(|t| checked_name(report, t));
    let ty = required_text(report, node, "an input", "type");
    Some((name?, ty))
}

fn output<'a>(report: &mut Report<'_>, member: &'a Member) -> Option<Output<'a>> {
    let name = key_name(report, member);
    let (value, mark) = match &member.value.value {
        Value::Object(_) => {
            fields(report, &member.value, "an output", &["value", "mark"])?;
            let value = required_text(report, &member.value, "an output", "value");
            (value, member.value.get("mark").and_then(|m| text(report, m, "\"mark\"")))
        }
        Value::String(_) => (text(report, &member.value, "an output"), None),
        _ => {
            wrong_kind(report, &member.value, "an output", "the name of a value or an object");
            (None, None)
        }
    };
    Some(Output { name: name?, value: value?, mark })
}

fn wire_node<'a>(report: &mut Report<'_>, node: &'a Json) -> Option<Node<'a>> {
    const FIELDS: &[&str] = &["id", "op", "in", "attrs", "type"];
    object(report, node, "a node")?;
    let id = required_text(report, node, "a node", "id");
    let before = report.count();
    report.node = id.map(|t| t.text.to_owned());
    let id = id.and_then(|t| checked_name(report, t));
    fields(report, node, "a node", FIELDS);
    let op = required_text(report, node, "the node", "op");
    let ins = node.get("in").and_then(|n| array(report, n, "\"in\"")).unwrap_or_default();
    let ins = ins.iter().filter_map(|i| operand(report, i)).collect();
    let attrs = node.get("attrs").and_then(|a| object(report, a, "\"attrs\"")).unwrap_or_default();
    let types = match node.get("type") {
        None => None,
        Some(Json { value: Value::Array(all), .. }) => {
            Some(all.iter().filter_map(|t| text(report, t, "a type")).collect())
        }
        Some(one) => text(report, one, "\"type\"").map(|t| vec![t]),
    };
    report.node = None;
    let broken = report.count() != before;
    Some(Node { id: id?, op, ins, attrs, types, broken })
}

fn operand<'a>(report: &mut Report<'_>, node: &'a Json) -> Option<Operand<'a>> {
    match &node.value {
        Value::String(text) => Some(Operand::Ref(Text { text, at: node.span.start })),
        Value::Number(_) | Value::Bool(_) => Some(Operand::Literal(node)),
        Value::Null => Some(Operand::Absent(node.span.start)),
        _ => {
            wrong_kind(report, node, "an operand", "the name of a value, a number or null");
            None
        }
    }
}
