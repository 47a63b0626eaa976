//! The canonical text of a planned module.

use crate::graph::Node;
use crate::module::{Meta, StateDecl};
use crate::ops::Op;
use crate::ops::attr::AttrValue;
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::wire::encode::{Plan, PlannedFunction};
use crate::wire::json::{ArrayWriter, Layout, ObjectWriter, object_document};
use crate::wire::{FORMAT, PRODUCER, VERSION, data, safetensors};

/// Writes the whole module; `weights` names the file of its larger tensors.
pub(in crate::wire) fn write(plan: &Plan<'_>, weights: Option<&str>) -> String {
    object_document(Layout::Block, |w| {
        w.string("format", FORMAT);
        w.u64("version", VERSION);
        w.string("producer", PRODUCER);
        match &plan.module.meta {
            Meta::Map(entries) => w.object("meta", Layout::Block, |w| {
                entries.iter().for_each(|(k, v)| meta_entry(w, k, v));
            }),
            _ => w.object("meta", Layout::Block, |_| ()),
        }
        if !plan.module.symbols.is_empty() {
            w.object("symbols", Layout::Inline, |w| {
                plan.module.symbols.iter().for_each(|(k, v)| w.i64(k, *v))
            });
        }
        w.array("state", Layout::Block, |w| {
            for s in &plan.module.state {
                let file = weights.filter(|_| plan.state_in_file);
                w.object(Layout::Inline, |w| state(w, s, file));
            }
        });
        w.object("functions", Layout::Block, |w| {
            for f in &plan.functions {
                w.object(&f.name, Layout::Block, |w| function(w, plan, f, weights));
            }
        });
    })
}

fn meta_entry(w: &mut ObjectWriter<'_>, key: &str, value: &Meta) {
    match value {
        Meta::Null => w.null(key),
        Meta::Bool(v) => w.bool(key, *v),
        Meta::Int(v) => w.i64(key, *v),
        Meta::Real(v) => w.f64(key, *v),
        Meta::Text(v) => w.string(key, v),
        Meta::List(items) => w.array(key, Layout::Inline, |w| items.iter().for_each(|v| meta_item(w, v))),
        Meta::Map(m) => w.object(key, Layout::Inline, |w| m.iter().for_each(|(k, v)| meta_entry(w, k, v))),
    }
}

fn meta_item(w: &mut ArrayWriter<'_>, value: &Meta) {
    match value {
        Meta::Null => w.null(),
        Meta::Bool(v) => w.bool(*v),
        Meta::Int(v) => w.i64(*v),
        Meta::Real(v) => w.f64(*v),
        Meta::Text(v) => w.string(v),
        Meta::List(items) => w.array(Layout::Inline, |w| items.iter().for_each(|v| meta_item(w, v))),
        Meta::Map(m) => w.object(Layout::Inline, |w| m.iter().for_each(|(k, v)| meta_entry(w, k, v))),
    }
}

fn state(w: &mut ObjectWriter<'_>, s: &StateDecl, file: Option<&str>) {
    w.string("name", &s.name);
    w.string("role", s.role.name());
    w.string("type", &s.ty.to_string());
    if let Some(init) = &s.init {
        w.object("init", Layout::Inline, |w| source(w, init, file.map(|f| (f, s.name.as_str()))));
    }
}

/// The elements themselves, or the file and the name that they have there.
fn source(w: &mut ObjectWriter<'_>, tensor: &Tensor, file: Option<(&str, &str)>) {
    match file {
        Some((file, name)) => {
            w.string("file", file);
            w.string("tensor", name);
            w.string("sha256", &safetensors::sha256(tensor.bytes()));
        }
        None => w.array("data", Layout::Inline, |w| data::write(w, tensor)),
    }
}

fn function(w: &mut ObjectWriter<'_>, plan: &Plan<'_>, f: &PlannedFunction<'_>, weights: Option<&str>) {
    w.array("inputs", Layout::Block, |w| {
        for (name, v) in f.inputs.iter().zip(f.graph.inputs()) {
            w.object(Layout::Inline, |w| {
                w.string("name", name);
                w.string("type", &f.graph.ty(*v).to_string());
            });
        }
    });
    w.array("nodes", Layout::Block, |w| {
        for (id, n) in f.graph.nodes() {
            if !matches!(n.op, Op::Input(_) | Op::StateRead(_)) {
                w.object(Layout::Inline, |w| node(w, plan, f, id.index(), n, weights));
            }
        }
    });
    let (outputs, updates) = f.graph.results().split_at(f.outputs.len());
    w.object("outputs", Layout::Block, |w| {
        for ((name, mark), v) in f.outputs.iter().zip(outputs) {
            match mark {
                None => w.string(name, &f.reference(*v)),
                Some(mark) => w.object(name, Layout::Inline, |w| {
                    w.string("value", &f.reference(*v));
                    w.string("mark", mark.name());
                }),
            }
        }
    });
    w.object("updates", Layout::Block, |w| {
        for (i, v) in f.updates.iter().zip(updates) {
            w.string(&plan.module.state[*i].name, &f.reference(*v));
        }
    });
}

fn node(
    w: &mut ObjectWriter<'_>,
    plan: &Plan<'_>,
    f: &PlannedFunction<'_>,
    index: usize,
    node: &Node,
    weights: Option<&str>,
) {
    w.string("id", &f.ids[index]);
    w.string("op", node.op.name());
    if !node.ins.is_empty() {
        w.array("in", Layout::Inline, |w| node.ins.iter().for_each(|v| w.string(&f.reference(*v))));
    }
    let attrs = node.op.attrs();
    if !attrs.is_empty() {
        let file = weights.and_then(|file| Some((file, f.constants.get(&index)?.as_str())));
        w.object("attrs", Layout::Inline, |w| attrs.iter().for_each(|(k, v)| attr(w, plan, k, v, file)));
    }
    let types: Vec<String> = node.outs().map(|v| f.graph.ty(v).to_string()).collect();
    match &types[..] {
        [one] => w.string("type", one),
        all => w.array("type", Layout::Inline, |w| all.iter().for_each(|t| w.string(t))),
    }
}

fn attr(w: &mut ObjectWriter<'_>, plan: &Plan<'_>, key: &str, value: &AttrValue, file: Option<(&str, &str)>) {
    match value {
        AttrValue::Bool(v) => w.bool(key, *v),
        AttrValue::Int(v) => w.i64(key, *v),
        AttrValue::Real(v) => w.f64(key, *v),
        AttrValue::Number(v) => match v.as_large_int() {
            Some(int) => match (i64::try_from(int), u64::try_from(int)) {
                (Ok(int), _) => w.i64(key, int),
                (_, Ok(int)) => w.u64(key, int),
                // No integer type holds it: it stands for a float.
                _ => w.f64(key, v.as_f64()),
            },
            None => w.f64(key, v.as_f64()),
        },
        AttrValue::Text(v) => w.string(key, v),
        AttrValue::Ints(all) => w.array(key, Layout::Inline, |w| all.iter().for_each(|v| w.i64(*v))),
        AttrValue::Dims(all) => w.array(key, Layout::Inline, |w| {
            all.iter().for_each(|d| match d.as_const() {
                Some(v) => w.i64(v),
                None => w.string(&d.to_string()),
            });
        }),
        AttrValue::Dim(d) => match d.as_const() {
            Some(v) => w.i64(key, v),
            None => w.string(key, &d.to_string()),
        },
        AttrValue::Tensor(t) => w.object(key, Layout::Inline, |w| {
            w.string("type", &TensorType::fixed(t.dtype(), t.shape()).to_string());
            source(w, t, file);
        }),
        AttrValue::Body(g) => w.string(key, plan.body_name(g)),
    }
}
