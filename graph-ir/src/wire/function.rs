//! One function from its wire struct: names to values, nodes in an order that works, types checked.

use std::collections::HashMap;

use super::data;
use super::diagnostic::shown;
use super::json::Node as Json;
use super::linker::{Linker, MATMUL, OpKind};
use super::name::split_reference;
use super::normal::folded;
use super::order::{describe_cycle, order};
use super::v1::{self, Operand, Text};
use crate::builder::Builder;
use crate::graph::ValueId;
use crate::module::{Function, OutputDecl, OutputMark};
use crate::ops::attr::{AttrField, AttrKind, AttrValue};
use crate::ops::{Map, Op};
use crate::origin::Origins;
use crate::scalar::{Class, ScalarFn};
use crate::stage::check_divisor;
use crate::tensor::Tensor;

/// What a name of a function stands for.
#[derive(Clone, Copy)]
enum Def {
    Input(usize),
    Node(usize),
}

/// The values of one function so far.
struct Values<'w, 'f> {
    wire: &'f v1::Function<'w>,
    b: Builder,
    // Looked up only.
    names: HashMap<&'w str, (Def, usize)>,
    /// The first name of each spelling, whatever its case.
    folded: HashMap<String, Text<'w>>,
    inputs: Vec<Option<ValueId>>,
    /// First result and number of results; `None` until it is made, and for ever if it is broken.
    nodes: Vec<Option<(ValueId, usize)>>,
    states: HashMap<usize, ValueId>,
}

/// A value that could not be had; whatever is wrong is reported already.
struct Broken;

impl<'w> Linker<'w, '_> {
    /// Links a function; `None` if something in it was wrong, which is then reported.
    pub fn function(&mut self, wire: &v1::Function<'w>) -> Option<Function> {
        let before = self.report.count();
        self.begin_function();
        let mut v = Values {
            wire,
            b: Builder::new(),
            names: HashMap::with_capacity(wire.inputs.len() + wire.nodes.len()),
            folded: HashMap::with_capacity(wire.inputs.len() + wire.nodes.len()),
            inputs: Vec::new(),
            nodes: vec![None; wire.nodes.len()],
            states: HashMap::new(),
        };
        for (symbol, least) in &self.bounds {
            v.b.bounds_mut().declare(symbol, *least);
        }
        self.declare(&mut v);
        for i in self.node_order(&mut v) {
            self.report.node = Some(wire.nodes[i].id.text.to_owned());
            if let Ok(made) = self.node(&mut v, &wire.nodes[i]) {
                v.nodes[i] = Some(made);
            }
            self.report.node = None;
        }
        let (outputs, mut results) = self.outputs(&mut v);
        let (updates, updated) = self.updates(&mut v);
        results.extend(updated);
        let whole = self.report.count() == before && v.nodes.iter().all(Option::is_some);
        let inputs = wire.inputs.iter().map(|(name, _)| name.text.to_owned()).collect();
        let graph = v.b.finish(&results).ok().filter(|_| whole)?;
        Some(Function { inputs, outputs, updates, graph })
    }

    fn origins(&self, name: Text<'_>) -> Origins {
        let place = self.report.place(name.at);
        Origins::placed(name.text, place.line, place.column)
    }

    /// Enters the names of inputs and nodes and makes the inputs.
    fn declare(&mut self, v: &mut Values<'w, '_>) {
        for (i, (name, ty)) in v.wire.inputs.iter().enumerate() {
            self.declare_name(v, *name, Def::Input(i));
            let value = ty.and_then(|t| self.parse_type(t)).and_then(|ty| {
                v.b.set_origins(self.origins(*name));
                v.b.input(ty).ok()
            });
            v.inputs.push(value);
        }
        for (i, node) in v.wire.nodes.iter().enumerate() {
            self.report.node = Some(node.id.text.to_owned());
            self.declare_name(v, node.id, Def::Node(i));
            self.report.node = None;
        }
    }

    fn declare_name(&mut self, v: &mut Values<'w, '_>, name: Text<'w>, def: Def) {
        let local = v.folded.get(&folded(name.text)).copied();
        let state = self.similar_state(name.text);
        if let Some(first) = local.or(state) {
            let what = if local.is_some() { "an input or node" } else { "a state variable" };
            let at = self.report.place(first.at);
            let (own, other) = (shown(name.text), shown(first.text));
            let message = if first.text == name.text {
                format!("the name `{own}` belongs to {what} already (at {at})")
            } else {
                format!(
                    "the name `{own}` differs in case only from `{other}`, which belongs to {what} (at {at})"
                )
            };
            let help = "inputs, nodes and state variables share one namespace: rename one";
            self.report.problem(name.at, message, Some(help.into()));
        }
        v.folded.entry(folded(name.text)).or_insert(name);
        v.names.entry(name.text).or_insert((def, name.at));
    }

    /// An order in which operands come first; cycles are reported and left out.
    fn node_order(&mut self, v: &mut Values<'w, '_>) -> Vec<usize> {
        let needs: Vec<Vec<usize>> = v
            .wire
            .nodes
            .iter()
            .map(|n| {
                let refs =
                    n.ins.iter().filter_map(|i| if let Operand::Ref(t) = i { Some(t.text) } else { None });
                let names = refs.filter_map(|r| Some(split_reference(r)?.0));
                names
                    .filter_map(|n| if let Def::Node(i) = v.names.get(n)?.0 { Some(i) } else { None })
                    .collect()
            })
            .collect();
        let found = order(&needs);
        for cycle in &found.cycles {
            let path = describe_cycle(cycle, |i| v.wire.nodes[i].id.text);
            let node = &v.wire.nodes[cycle[0]];
            self.report.node = Some(node.id.text.to_owned());
            let help = "each node here takes the next one as an operand: no node may depend on itself";
            self.report.problem(node.id.at, format!("the graph has a cycle: {path}"), Some(help.into()));
            self.report.node = None;
        }
        found.order
    }

    /// Makes a node; what is wrong with it is reported, but not that its operands were wrong.
    fn node(&mut self, v: &mut Values<'w, '_>, node: &v1::Node<'w>) -> Result<(ValueId, usize), Broken> {
        let operands = self.operands(v, node);
        let Some(op) = node.op else { return Err(Broken) };
        let Some(kind) = self.op_kind(op.text) else {
            self.unknown_op(op.at, op.text);
            return Err(Broken);
        };
        // Attributes are looked at even where operands are wrong: their problems are their own.
        let listed = match kind {
            OpKind::Listed(info) => self.listed_op(info, node),
            OpKind::Map(_) | OpKind::Matmul => {
                self.no_attributes(op.text, node);
                None
            }
        };
        if node.broken {
            return Err(Broken);
        }
        self.check_arity(kind, node)?;
        let operands = operands?;
        v.b.set_origins(self.origins(node.id));
        let made = match kind {
            OpKind::Map(f) => {
                let ins = self.map_operands(&mut v.b, f, node, &operands)?;
                v.b.map(f, &ins).map(|z| vec![z])
            }
            OpKind::Matmul => v.b.matmul(values(&operands)?[0], values(&operands)?[1]).map(|z| vec![z]),
            OpKind::Listed(_) => v.b.op(listed.ok_or(Broken)?, &values(&operands)?),
        };
        match made {
            Ok(outs) => {
                let first = outs.first().copied().unwrap_or(ValueId(0));
                let graph = v.b.graph();
                if let Some(Err(e)) = outs.first().map(|v| check_divisor(graph, graph.def(*v))) {
                    self.report.problem(node.id.at, e.message, e.help);
                    return Err(Broken);
                }
                self.check_results(v, node, &outs)?;
                Ok((first, outs.len()))
            }
            Err(e) => {
                self.report.problem(node.id.at, e.message, e.help);
                Err(Broken)
            }
        }
    }

    fn no_attributes(&mut self, op: &str, node: &v1::Node<'_>) {
        for m in node.attrs {
            let message = format!("`{op}` has no attribute `{}`", shown(&m.key));
            self.report.problem(m.key_span.start, message, Some(format!("`{op}` takes no attributes")));
        }
    }

    /// The number of operands, and that only the last ones are left out.
    fn check_arity(&mut self, kind: OpKind, node: &v1::Node<'_>) -> Result<(), Broken> {
        let (least, most, signature) = match kind {
            OpKind::Map(f) => (f.def().arity, f.def().arity, Op::from(Map { f }).signature()),
            OpKind::Listed(info) => (info.arity.0, info.arity.1, info.signature.to_owned()),
            OpKind::Matmul => (2, 2, MATMUL.1.to_owned()),
        };
        let given = given(node);
        let name = node.op.map_or("", |t| t.text);
        let help = Some(format!("its signature is {signature}"));
        if let Some(at) =
            given.iter().find_map(|i| if let Operand::Absent(at) = i { Some(*at) } else { None })
        {
            let message = "null stands for an optional operand at the end, but others follow it";
            self.report.problem(at, message, help);
            return Err(Broken);
        }
        if given.len() < least || given.len() > most {
            let takes = match (least, most) {
                (a, b) if a == b => format!("{a}"),
                (a, usize::MAX) => format!("{a} or more"),
                (a, b) => format!("{a} to {b}"),
            };
            let plural = if (least, most) == (1, 1) { "" } else { "s" };
            let message = format!("`{name}` takes {takes} operand{plural}, but has {}", given.len());
            self.report.problem(node.id.at, message, help);
            return Err(Broken);
        }
        Ok(())
    }

    /// The operands; dangling ones are reported.
    fn operands(&mut self, v: &mut Values<'w, '_>, node: &v1::Node<'w>) -> Result<Vec<Given<'w>>, Broken> {
        let mut all = Ok(Vec::with_capacity(node.ins.len()));
        for operand in given(node) {
            let one = match operand {
                Operand::Ref(text) => self.reference(v, *text).map(Given::Value),
                Operand::Literal(json) => Ok(Given::Literal(json)),
                Operand::Absent(_) => Err(Broken),
            };
            match (one, &mut all) {
                (Ok(one), Ok(list)) => list.push(one),
                (Err(broken), Ok(_)) => all = Err(broken),
                (_, Err(_)) => {}
            }
        }
        let kind = node.op.and_then(|op| self.op_kind(op.text));
        if let (Ok(list), Some(OpKind::Listed(_) | OpKind::Matmul)) = (&all, kind)
            && let Some(json) =
                list.iter().find_map(|g| if let Given::Literal(j) = g { Some(j) } else { None })
        {
            let help = Some("add a const node".into());
            self.report.problem(json.span.start, "only elementwise operations take literal operands", help);
            all = Err(Broken);
        }
        all
    }

    /// The value that `id`, `id#k` or the name of an input or a state variable refers to.
    fn reference(&mut self, v: &mut Values<'w, '_>, text: Text<'w>) -> Result<ValueId, Broken> {
        let Some((name, k)) = split_reference(text.text) else {
            let help =
                Some("write `id` for the first result of a node and `id#1`, `id#2`, … for the others".into());
            self.report.problem(text.at, format!("`{}` is not a reference", shown(text.text)), help);
            return Err(Broken);
        };
        let (value, results) = match (v.names.get(name), self.state_index(name)) {
            (Some((Def::Input(i), _)), _) => (v.inputs.get(*i).copied().flatten().ok_or(Broken)?, 1),
            (Some((Def::Node(i), _)), _) => v.nodes[*i].ok_or(Broken)?,
            (None, Some(i)) => (self.state_value(v, i)?, 1),
            (None, None) => {
                let inputs = v.wire.inputs.iter().map(|(n, _)| n.text);
                let nodes = v.wire.nodes.iter().map(|n| n.id.text);
                let states = self.states.iter().map(|s| s.name.text);
                let help = self.report.did_you_mean(name, inputs.chain(nodes).chain(states));
                let message = format!("no input, node or state variable is named `{}`", shown(name));
                self.report.problem(text.at, message, help);
                return Err(Broken);
            }
        };
        if k >= results {
            let message = format!(
                "`{}` has {}, so there is no `{}`",
                shown(name),
                count_results(results),
                shown(text.text)
            );
            self.report.problem(text.at, message, Some("results are counted from 0".into()));
            return Err(Broken);
        }
        Ok(ValueId(value.0 + k as u32))
    }

    fn state_value(&mut self, v: &mut Values<'w, '_>, i: usize) -> Result<ValueId, Broken> {
        if let Some(value) = v.states.get(&i) {
            return Ok(*value);
        }
        let state = &self.states[i];
        let ty = state.ty.clone().ok_or(Broken)?;
        let outer = v.b.current_origins().clone();
        v.b.set_origins(self.origins(state.name));
        let value = v.b.state(i, ty).map_err(|_| Broken)?;
        v.b.set_origins(outer);
        v.states.insert(i, value);
        Ok(value)
    }

    /// Operands of a map: literals become constants of the others' element type.
    fn map_operands(
        &mut self,
        b: &mut Builder,
        f: ScalarFn,
        node: &v1::Node<'_>,
        operands: &[Given<'w>],
    ) -> Result<Vec<ValueId>, Broken> {
        let first_data = usize::from(f.def().class == Class::Select);
        let mut data = operands.iter().skip(first_data);
        let dtype = data.find_map(|g| if let Given::Value(v) = g { Some(b.ty(*v).dtype) } else { None });
        let mut ins = Vec::with_capacity(operands.len());
        for (i, operand) in operands.iter().enumerate() {
            let json = match operand {
                Given::Value(v) => {
                    ins.push(*v);
                    continue;
                }
                Given::Literal(json) => json,
            };
            let dtype = if i < first_data { Some(crate::dtype::DType::Bool) } else { dtype };
            let Some(dtype) = dtype else {
                let help = Some("add a const node, which has a type".into());
                self.report.problem(node.id.at, "no operand says which element type the literals have", help);
                return Err(Broken);
            };
            match data::element(json, dtype) {
                Ok(value) => ins.push(b.constant(Tensor::scalar(dtype, value)).map_err(|_| Broken)?),
                Err(message) => {
                    let help = Some(format!("a literal has the element type of the other operands, {dtype}"));
                    self.report.problem(json.span.start, message, help);
                    return Err(Broken);
                }
            }
        }
        Ok(ins)
    }

    /// Sizes that can exist, and the declared types.
    fn check_results(
        &mut self,
        v: &Values<'w, '_>,
        node: &v1::Node<'_>,
        outs: &[ValueId],
    ) -> Result<(), Broken> {
        let before = self.report.count();
        for out in outs {
            if let Err(e) = v.b.ty(*out).check_size() {
                self.report.problem(node.id.at, e.message, e.help);
            }
        }
        if let Some(declared) = &node.types {
            if declared.len() != outs.len() {
                let message = format!(
                    "{} types are declared, but the node has {}",
                    declared.len(),
                    count_results(outs.len())
                );
                self.report.problem(
                    node.id.at,
                    message,
                    Some("declare one type for each result, or none".into()),
                );
            }
            for (text, out) in declared.iter().zip(outs) {
                let found = v.b.ty(*out);
                if let Some(ty) = self.parse_type(*text)
                    && ty != *found
                {
                    let message = format!("the type is {found}, but {ty} is declared");
                    let help = Some("correct or remove the declaration, or the operands".into());
                    self.report.problem(text.at, message, help);
                }
            }
        }
        if self.report.count() == before { Ok(()) } else { Err(Broken) }
    }

    fn outputs(&mut self, v: &mut Values<'w, '_>) -> (Vec<OutputDecl>, Vec<ValueId>) {
        let (mut decls, mut values) = (Vec::new(), Vec::new());
        for output in &v.wire.outputs {
            let mark = output.mark.and_then(|m| {
                let mark = OutputMark::from_attr(AttrValue::Text(m.text.into()));
                if mark.is_none() {
                    let AttrKind::OneOf(marks) = OutputMark::KIND else { return None };
                    let help = Some(format!("the marks are {}", marks.join(", ")));
                    self.report.problem(m.at, format!("there is no mark `{}`", shown(m.text)), help);
                }
                mark
            });
            if let Ok(value) = self.reference(v, output.value) {
                decls.push(OutputDecl { name: output.name.text.into(), mark });
                values.push(value);
            }
        }
        (decls, values)
    }

    fn updates(&mut self, v: &mut Values<'w, '_>) -> (Vec<usize>, Vec<ValueId>) {
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for (state, value) in &v.wire.updates {
            let value_id = self.reference(v, *value);
            let Some(i) = self.state_index(state.text) else {
                let names = self.states.iter().map(|s| s.name.text);
                let help = self.report.did_you_mean(state.text, names);
                let help = help.unwrap_or_else(|| "only state variables are updated".into());
                let message = format!("there is no state variable `{}`", shown(state.text));
                self.report.problem(state.at, message, Some(help));
                continue;
            };
            let (Ok(id), Some(wanted)) = (value_id, &self.states[i].ty) else { continue };
            let found = v.b.ty(id);
            if found != wanted {
                let message = format!("`{}` is {wanted}, but is assigned {found}", shown(state.text));
                self.report.problem(value.at, message, Some("a state variable keeps its type".into()));
                continue;
            }
            indices.push(i);
            values.push(id);
        }
        (indices, values)
    }
}

fn count_results(n: usize) -> String {
    if n == 1 { "1 result".into() } else { format!("{n} results") }
}

/// An operand that is there.
enum Given<'w> {
    Value(ValueId),
    Literal(&'w Json),
}

/// The operands without those left out at the end.
fn given<'n, 'w>(node: &'n v1::Node<'w>) -> &'n [Operand<'w>] {
    let kept = node.ins.iter().rposition(|i| !matches!(i, Operand::Absent(_))).map_or(0, |i| i + 1);
    &node.ins[..kept]
}

fn values(operands: &[Given<'_>]) -> Result<Vec<ValueId>, Broken> {
    operands.iter().map(|g| if let Given::Value(v) = g { Ok(*v) } else { Err(Broken) }).collect()
}
