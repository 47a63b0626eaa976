//! Attributes from JSON.

use super::data;
use super::diagnostic::shown;
use super::encode::INLINE_ELEMENTS;
use super::json::{self, Node as Json, Value};
use super::linker::Linker;
use super::v1::{self, Source, Text};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::attr::{AttrKind, AttrValue, describe};
use crate::ops::{Op, OpInfo};
use crate::tensor::{Tensor, element_count};
use crate::types::TensorType;
use std::sync::Arc;

impl Linker<'_, '_> {
    /// The operation of a node with its attributes. All that is wrong with them is reported; then, or
    /// where it was reported of a loop's body before, there is none.
    pub(super) fn listed_op(&mut self, info: &'static OpInfo, node: &v1::Node<'_>) -> Option<Op> {
        let before = self.report.count();
        for m in node.attrs.iter().filter(|m| !info.attrs.iter().any(|s| s.name == m.key)) {
            let message = format!("`{}` has no attribute `{}`", info.name, shown(&m.key));
            let names: Vec<&str> = info.attrs.iter().map(|s| s.name).collect();
            let help = self.report.did_you_mean(&m.key, names.iter().copied());
            let help = help.unwrap_or_else(|| match names.is_empty() {
                true => format!("`{}` takes no attributes", info.name),
                false => format!("its attributes are {}", names.join(", ")),
            });
            self.report.problem(m.key_span.start, message, Some(help));
        }
        let mut values: Vec<(&str, AttrValue)> = Vec::new();
        let mut missing = false;
        for spec in info.attrs {
            match node.attrs.iter().find(|m| m.key == spec.name) {
                Some(m) => match self.attr(spec.name, spec.kind, &m.value) {
                    Some(v) => values.push((spec.name, v)),
                    None => missing = true,
                },
                None if spec.optional => {}
                None => {
                    let message = format!("`{}` needs the attribute `{}`", info.name, spec.name);
                    let help = format!("give {}; the signature is {}", describe(spec.kind), info.signature);
                    self.report.problem(node.id.at, message, Some(help));
                }
            }
        }
        if missing || self.report.count() != before {
            return None;
        }
        let mut get = |name: &'static str, _: AttrKind| -> Result<Option<AttrValue>> {
            Ok(values.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()))
        };
        match (info.from_values)(&mut get) {
            Ok(op) => Some(op),
            Err(e) => {
                self.report.problem(node.id.at, e.message, e.help);
                None
            }
        }
    }

    /// One attribute's value; `None` if it was wrong and is reported.
    fn attr(&mut self, name: &str, kind: AttrKind, node: &Json) -> Option<AttrValue> {
        match kind {
            AttrKind::Tensor => return self.constant(name, node).map(AttrValue::Tensor),
            AttrKind::Body => return self.body(name, node),
            _ => {}
        }
        match plain(kind, node) {
            Ok(value) => Some(value),
            Err(Wrong { at, message }) => {
                let help = match kind {
                    AttrKind::OneOf(names) => {
                        self.report.did_you_mean(node.as_str().unwrap_or(""), names.iter().copied())
                    }
                    AttrKind::DType => self
                        .report
                        .did_you_mean(node.as_str().unwrap_or(""), DType::ALL.iter().map(|t| t.name())),
                    AttrKind::Index | AttrKind::Indices if message.contains("negative") => {
                        Some("axes are counted from 0: write the rank plus the negative number".into())
                    }
                    _ => None,
                };
                self.report.problem(at, format!("attribute `{name}`: {message}"), help);
                None
            }
        }
    }

    /// A constant: `{"type": …, "data": …}`, with a weights file instead of data, or a number, which is an f32.
    fn constant(&mut self, name: &str, node: &Json) -> Option<Arc<Tensor>> {
        let (ty, source) = match &node.value {
            Value::Number(_) => (TensorType::fixed(DType::F32, &[]), Source::Data(node)),
            Value::Bool(_) => (TensorType::fixed(DType::Bool, &[]), Source::Data(node)),
            _ => {
                let source = v1::source(self.report, node, &format!("attribute `{name}`"), &["type"]);
                let Some((text, at)) = node.get("type").and_then(|t| Some((t.as_str()?, t.span.start)))
                else {
                    if source.is_some() {
                        let help = Some("write it as {\"type\": \"f32[2]\", \"data\": [1, 2]}".into());
                        self.report.problem(
                            node.span.start,
                            format!("attribute `{name}` has no \"type\""),
                            help,
                        );
                    }
                    return None;
                };
                (self.parse_type(Text { text, at })?, source?)
            }
        };
        if matches!(source, Source::File { .. }) && self.folder.is_absent() {
            let help = Some("read the module from its folder".into());
            self.report.problem(
                node.span.start,
                "the constant is in a weights file, but no folder is given",
                help,
            );
        }
        self.tensor(source, &ty, node.span.start)
    }

    /// Reports state with more elements in the module than it may have there.
    pub(super) fn inline_limit(&mut self, source: Source<'_>, ty: &TensorType) {
        let count = ty.shape().and_then(|s| element_count(&s));
        if let Source::Data(node) = source
            && count.is_some_and(|n| n > INLINE_ELEMENTS)
        {
            let message = format!(
                "a value of type {ty} in the module, where at most {INLINE_ELEMENTS} elements may stand"
            );
            self.report.problem(node.span.start, message, Some("keep it in a weights file".into()));
        }
    }

    /// The tensor of a constant or of a state's initial value.
    pub(super) fn tensor(&mut self, source: Source<'_>, ty: &TensorType, at: usize) -> Option<Arc<Tensor>> {
        let Some(shape) = ty.shape() else {
            let message = format!("a tensor of type {ty} is given, but its dims are symbols");
            self.report.problem(at, message, Some("give it a type whose dims are numbers".into()));
            return None;
        };
        match source {
            Source::Data(node) => match data::read(node, ty.dtype, &shape, &mut self.elements_left) {
                Ok(tensor) => Some(Arc::new(tensor)),
                Err((at, message, help)) => {
                    self.report.problem(at, message, help);
                    None
                }
            },
            Source::File { file, tensor, sha256 } => {
                self.folder.tensor(self.report, (file, tensor, sha256), ty)
            }
        }
    }

    /// A type; problems are reported.
    pub(super) fn parse_type(&mut self, text: Text<'_>) -> Option<TensorType> {
        match TensorType::parse(text.text) {
            Ok(ty) => Some(ty),
            Err(e) => {
                self.report.problem(text.at, e.message, e.help);
                None
            }
        }
    }
}

/// What is wrong with an attribute and where.
struct Wrong {
    at: usize,
    message: String,
}

fn plain(kind: AttrKind, node: &Json) -> std::result::Result<AttrValue, Wrong> {
    let wrong = |at: &Json, message: String| Wrong { at: at.span.start, message };
    let kind_of = || wrong(node, format!("{} where it takes {}", node.value.kind(), describe(kind)));
    Ok(match kind {
        AttrKind::Bool => AttrValue::Bool(node.as_bool().ok_or_else(kind_of)?),
        AttrKind::Index => AttrValue::Int(index(node)?),
        AttrKind::Real => match node.as_f64() {
            Some(Ok(v)) => AttrValue::Real(v),
            Some(Err(e)) => return Err(wrong(node, e.to_string())),
            None => return Err(kind_of()),
        },
        AttrKind::Number => match (node.as_number().and_then(json::Number::as_large_int), node.as_f64()) {
            (Some(v), _) => AttrValue::Number(v.into()),
            (None, Some(Ok(v))) => AttrValue::Number(v.into()),
            (None, Some(Err(e))) => return Err(wrong(node, e.to_string())),
            (None, None) => return Err(kind_of()),
        },
        AttrKind::Text => AttrValue::Text(node.as_str().ok_or_else(kind_of)?.into()),
        AttrKind::OneOf(names) => {
            let text = node.as_str().ok_or_else(kind_of)?;
            if !names.contains(&text) {
                return Err(wrong(node, format!("`{}` is not {}", shown(text), describe(kind))));
            }
            AttrValue::Text(text.into())
        }
        AttrKind::DType => {
            let text = node.as_str().ok_or_else(kind_of)?;
            if DType::parse(text).is_none() {
                return Err(wrong(node, format!("`{}` is not {}", shown(text), describe(kind))));
            }
            AttrValue::Text(text.into())
        }
        AttrKind::Indices => {
            let items = node.as_array().ok_or_else(kind_of)?;
            AttrValue::Ints(items.iter().map(index).collect::<std::result::Result<_, _>>()?)
        }
        AttrKind::Dims => {
            let items = node.as_array().ok_or_else(kind_of)?;
            AttrValue::Dims(items.iter().map(dim).collect::<std::result::Result<_, _>>()?)
        }
        AttrKind::Dim => AttrValue::Dim(dim(node)?),
        AttrKind::Tensor | AttrKind::Body => return Err(kind_of()),
    })
}

/// A non-negative integer.
fn index(node: &Json) -> std::result::Result<i64, Wrong> {
    let wrong = |message: String| Wrong { at: node.span.start, message };
    let number = node
        .as_number()
        .ok_or_else(|| wrong(format!("{} where it takes a non-negative integer", node.value.kind())))?;
    match number.as_i64() {
        Ok(v) if v >= 0 => Ok(v),
        Ok(v) => Err(wrong(format!("{v} is negative"))),
        Err(e) => Err(wrong(e.to_string())),
    }
}

/// A size: a number, or text over symbols.
fn dim(node: &Json) -> std::result::Result<Dim, Wrong> {
    let wrong = |message: String| Wrong { at: node.span.start, message };
    match &node.value {
        Value::Number(n) => match n.as_i64() {
            Ok(v) if v >= 0 => Ok(Dim::from(v)),
            Ok(v) => Err(wrong(format!("the size {v} is negative"))),
            Err(e) => Err(wrong(e.to_string())),
        },
        Value::String(text) => {
            let dim = Dim::parse(text).map_err(|e| wrong(format!("`{}`: {e}", shown(text))))?;
            match dim.as_const() {
                Some(v) if v < 0 => Err(wrong(format!("the size {v} is negative"))),
                _ => Ok(dim),
            }
        }
        other => Err(wrong(format!("{} where it takes a size such as 3 or \"2*B\"", other.kind()))),
    }
}
