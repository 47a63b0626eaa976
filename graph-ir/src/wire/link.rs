//! From the wire structs to a module: state, the order of functions, bodies of loops.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;

use super::decode::Limits;
use super::diagnostic::{Report, shown};
use super::folder::Folder;
use super::json::{Node as Json, Value};
use super::linker::{Linker, OpKind};
use super::order::{describe_cycle, order};
use super::v1;
use crate::dim::Symbol;
use crate::module::{Function, Meta, Module, StateDecl, StateRole};
use crate::ops::attr::{AttrField, AttrKind, AttrValue};
use crate::types::TensorType;

/// A state variable as far as it is known.
pub(super) struct KnownState<'w> {
    pub name: v1::Text<'w>,
    /// `None` if its type was wrong.
    pub ty: Option<TensorType>,
}

/// Links a whole module; what is wrong goes to the report, and then the result is of no use.
pub(super) fn link(
    wire: &v1::Module<'_>,
    report: &mut Report<'_>,
    folder: Option<&Path>,
    limits: &Limits,
) -> Module {
    let mut module = Module { producer: wire.producer.into(), ..Module::default() };
    if let Some(node) = wire.meta {
        module.meta = meta(report, node);
    }
    let mut bounds = Vec::new();
    for (name, least) in &wire.symbols {
        match Symbol::new(name.text) {
            Ok(symbol) => {
                bounds.push((symbol, *least));
                module.symbols.insert(name.text.into(), *least);
            }
            Err(e) => report.problem(name.at, e.to_string(), None),
        }
    }
    let mut linker = Linker::new(report, Folder::new(folder, limits.weights), limits.elements, bounds);
    link_state(&mut linker, wire, &mut module);
    link_functions(&mut linker, wire, &mut module);
    linker.folder.report_unused(linker.report);
    module
}

fn link_state<'w>(linker: &mut Linker<'w, '_>, wire: &v1::Module<'w>, module: &mut Module) {
    for s in &wire.state {
        let role = s.role.and_then(|r| {
            let role = StateRole::from_attr(AttrValue::Text(r.text.into()));
            if role.is_none() {
                let AttrKind::OneOf(roles) = StateRole::KIND else { return None };
                let help = linker.report.did_you_mean(r.text, roles.iter().copied());
                let help = help.unwrap_or_else(|| format!("the roles are {}", roles.join(", ")));
                linker.report.problem(r.at, format!("there is no role `{}`", shown(r.text)), Some(help));
            }
            role
        });
        let ty = s.ty.and_then(|t| linker.parse_type(t));
        let init = match (&ty, s.init) {
            (Some(ty), Some(source)) => {
                linker.inline_limit(source, ty);
                linker.tensor(source, ty, s.name.at)
            }
            _ => None,
        };
        linker.add_state(KnownState { name: s.name, ty: ty.clone() });
        if let (Some(role), Some(ty)) = (role, ty) {
            module.state.push(StateDecl { name: s.name.text.into(), role, ty, init });
        }
    }
}

fn link_functions<'w>(linker: &mut Linker<'w, '_>, wire: &v1::Module<'w>, module: &mut Module) {
    let index: HashMap<&str, usize> =
        wire.functions.iter().enumerate().map(|(i, f)| (f.name.text, i)).collect();
    let needs: Vec<Vec<usize>> = wire
        .functions
        .iter()
        .map(|f| body_names(linker, f).into_iter().filter_map(|n| index.get(n).copied()).collect())
        .collect();
    let mut runs = vec![false; wire.functions.len()];
    needs.iter().flatten().for_each(|i| runs[*i] = true);
    let order = order(&needs);
    for cycle in &order.cycles {
        let path = describe_cycle(cycle, |i| wire.functions[i].name.text);
        let at = wire.functions[cycle[0]].name.at;
        let help = Some("a function may not run itself, directly or through others".into());
        linker.report.problem(at, format!("recursion: {path}"), help);
    }
    linker.function_names = wire.functions.iter().map(|f| f.name.text).collect();
    let mut built: Vec<Option<Function>> = wire.functions.iter().map(|_| None).collect();
    for i in order.order {
        let f = &wire.functions[i];
        linker.report.function = Some(f.name.text.to_owned());
        // A function on a cycle is read for its other problems; its loop has no body then.
        let function = linker.function(f);
        linker.report.function = None;
        if runs[i] {
            linker.add_body(f.name.text, function.as_ref());
        }
        built[i] = function;
    }
    let named = wire.functions.iter().zip(built);
    module.functions =
        named.filter_map(|(f, b)| Some((f.name.text.to_owned(), b?))).collect::<IndexMap<_, _>>();
}

/// Functions that a function's loops run.
fn body_names<'w>(linker: &Linker<'_, '_>, f: &v1::Function<'w>) -> Vec<&'w str> {
    let mut names = Vec::new();
    for node in &f.nodes {
        let Some(OpKind::Listed(info)) = node.op.and_then(|op| linker.op_kind(op.text)) else { continue };
        for spec in info.attrs.iter().filter(|s| s.kind == AttrKind::Body) {
            names.extend(node.attrs.iter().filter(|m| m.key == spec.name).filter_map(|m| m.value.as_str()));
        }
    }
    names
}

fn meta(report: &mut Report<'_>, node: &Json) -> Meta {
    match &node.value {
        Value::Null => Meta::Null,
        Value::Bool(b) => Meta::Bool(*b),
        Value::String(s) => Meta::Text(s.clone()),
        Value::Number(n) => {
            let number = if n.is_integer() { n.as_i64().map(Meta::Int) } else { n.as_f64().map(Meta::Real) };
            number.unwrap_or_else(|e| {
                report.problem(node.span.start, e.to_string(), Some("write it as a string".into()));
                Meta::Null
            })
        }
        // The depth is that of the document, which the reader limits.
        Value::Array(items) => Meta::List(items.iter().map(|i| meta(report, i)).collect()),
        Value::Object(members) => {
            Meta::Map(members.iter().map(|m| (m.key.clone(), meta(report, &m.value))).collect())
        }
    }
}
