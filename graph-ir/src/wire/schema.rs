//! The JSON Schema of module files and the reference of operations, both made from the op list.

use std::fmt::Write;

use super::json::{Layout, ObjectWriter, object_document};
use super::linker::MATMUL;
use super::{FORMAT, MAX_NAME, VERSION};
use crate::dtype::DType;
use crate::module::{OutputMark, StateRole};
use crate::ops::attr::{AttrField, AttrKind, AttrSpec, describe};
use crate::ops::{Map, Op, OpInfo};
use crate::scalar::{Class, ScalarFn};
use crate::types::MAX_RANK;

const INLINE: Layout = Layout::Inline;
const BLOCK: Layout = Layout::Block;

/// The operations that files name, but for scalar functions.
fn listed() -> impl Iterator<Item = &'static OpInfo> {
    Op::LIST.iter().filter(|i| !Op::INTERNAL.contains(&i.name))
}

/// The JSON Schema (draft 2020-12) of a module file, for editors and validators.
///
/// It covers fields, kinds, names of operations, their attributes and numbers of operands; that names refer to
/// something and types agree is for [`decode`](super::decode) to check.
pub fn schema() -> String {
    object_document(BLOCK, |w| {
        w.string("$schema", "https://json-schema.org/draft/2020-12/schema");
        w.string("title", &format!("graphc module, version {VERSION}"));
        record(w, &["format", "version", "functions"], |w| {
            w.object("format", INLINE, |w| w.string("const", FORMAT));
            w.object("version", INLINE, |w| w.u64("const", VERSION));
            w.object("producer", INLINE, |w| w.string("type", "string"));
            w.object("meta", INLINE, |w| w.string("type", "object"));
            w.object("symbols", INLINE, |w| {
                w.string("type", "object");
                w.object("additionalProperties", INLINE, natural);
            });
            list(w, "state", "#/$defs/state");
            w.object("functions", INLINE, |w| {
                w.string("type", "object");
                reference(w, "additionalProperties", "#/$defs/function");
            });
        });
        w.object("$defs", BLOCK, definitions);
    })
}

fn definitions(w: &mut ObjectWriter<'_>) {
    let names: Vec<&str> = DType::ALL.iter().map(|t| t.name()).collect();
    w.object("name", INLINE, |w| {
        w.string("type", "string");
        w.u64("minLength", 1);
        w.u64("maxLength", MAX_NAME as u64);
        w.string("pattern", "^[^#]*$");
    });
    w.object("reference", INLINE, |w| {
        w.string("type", "string");
        w.string("pattern", "^[^#]+(#(0|[1-9][0-9]*))?$");
    });
    w.object("type", INLINE, |w| {
        w.string("type", "string");
        w.string("pattern", &format!("^({})(\\[.*\\])?$", names.join("|")));
    });
    w.object("dim", INLINE, |w| any_of(w, &["integer", "string"]));
    w.object("source", BLOCK, |w| {
        record(w, &[], source_fields);
        one_of_required(w);
    });
    w.object("constant", BLOCK, |w| {
        w.array("anyOf", BLOCK, |w| {
            w.object(INLINE, |w| any_of(w, &["number", "boolean"]));
            w.object(BLOCK, |w| {
                record(w, &["type"], |w| {
                    reference(w, "type", "#/$defs/type");
                    source_fields(w);
                });
                one_of_required(w);
            });
        });
    });
    w.object("state", BLOCK, |w| {
        record(w, &["name", "role", "type"], |w| {
            reference(w, "name", "#/$defs/name");
            w.object("role", INLINE, |w| choices(w, StateRole::KIND));
            reference(w, "type", "#/$defs/type");
            w.object("init", INLINE, |w| {
                w.array("anyOf", INLINE, |w| {
                    w.object(INLINE, |w| w.string("type", "null"));
                    w.object(INLINE, |w| w.string("$ref", "#/$defs/source"));
                });
            });
        });
    });
    w.object("function", BLOCK, function);
    w.object("node", BLOCK, node);
}

fn function(w: &mut ObjectWriter<'_>) {
    record(w, &["outputs"], |w| {
        w.object("inputs", BLOCK, |w| {
            w.string("type", "array");
            w.object("items", BLOCK, |w| {
                record(w, &["name", "type"], |w| {
                    reference(w, "name", "#/$defs/name");
                    reference(w, "type", "#/$defs/type");
                });
            });
        });
        list(w, "nodes", "#/$defs/node");
        w.object("outputs", BLOCK, |w| {
            w.string("type", "object");
            w.object("additionalProperties", BLOCK, |w| {
                w.array("anyOf", BLOCK, |w| {
                    w.object(INLINE, |w| w.string("$ref", "#/$defs/reference"));
                    w.object(BLOCK, |w| {
                        record(w, &["value"], |w| {
                            reference(w, "value", "#/$defs/reference");
                            w.object("mark", INLINE, |w| choices(w, OutputMark::KIND));
                        });
                    });
                });
            });
        });
        w.object("updates", INLINE, |w| {
            w.string("type", "object");
            reference(w, "additionalProperties", "#/$defs/reference");
        });
    });
}

fn node(w: &mut ObjectWriter<'_>) {
    record(w, &["id", "op"], |w| {
        reference(w, "id", "#/$defs/name");
        w.object("op", INLINE, |w| {
            w.array("enum", INLINE, |w| {
                Op::names().iter().chain([&MATMUL.0]).for_each(|n| w.string(n));
            });
        });
        w.object("in", INLINE, |w| {
            w.string("type", "array");
            w.object("items", INLINE, |w| {
                w.array("anyOf", INLINE, |w| {
                    w.object(INLINE, |w| w.string("$ref", "#/$defs/reference"));
                    w.object(INLINE, |w| any_of(w, &["number", "boolean", "null"]));
                });
            });
        });
        w.object("attrs", INLINE, |w| w.string("type", "object"));
        w.object("type", INLINE, |w| {
            w.array("anyOf", INLINE, |w| {
                w.object(INLINE, |w| w.string("$ref", "#/$defs/type"));
                w.object(INLINE, |w| {
                    w.string("type", "array");
                    reference(w, "items", "#/$defs/type");
                });
            });
        });
    });
    w.array("allOf", BLOCK, |w| {
        for f in ScalarFn::ALL {
            w.object(INLINE, |w| rule(w, f.name(), (f.def().arity, f.def().arity), &[]));
        }
        w.object(INLINE, |w| rule(w, MATMUL.0, (2, 2), &[]));
        for info in listed() {
            w.object(INLINE, |w| rule(w, info.name, info.arity, info.attrs));
        }
    });
}

/// What holds of a node with this operation.
fn rule(w: &mut ObjectWriter<'_>, op: &str, arity: (usize, usize), attrs: &[AttrSpec]) {
    w.object("if", INLINE, |w| {
        w.object("properties", INLINE, |w| w.object("op", INLINE, |w| w.string("const", op)));
    });
    w.object("then", INLINE, |w| {
        w.object("properties", INLINE, |w| {
            w.object("in", INLINE, |w| {
                w.u64("minItems", arity.0 as u64);
                // Optional operands may be null, so there is an upper end only where the list is limited.
                if arity.1 != usize::MAX {
                    w.u64("maxItems", arity.1 as u64);
                }
            });
            w.object("attrs", INLINE, |w| {
                let required: Vec<&str> = attrs.iter().filter(|a| !a.optional).map(|a| a.name).collect();
                record(w, &required, |w| {
                    for a in attrs {
                        w.object(a.name, INLINE, |w| attribute(w, a.kind));
                    }
                });
            });
        });
        let mut required = Vec::new();
        if arity.0 > 0 {
            required.push("in");
        }
        if attrs.iter().any(|a| !a.optional) {
            required.push("attrs");
        }
        w.array("required", INLINE, |w| required.iter().for_each(|r| w.string(r)));
    });
}

fn attribute(w: &mut ObjectWriter<'_>, kind: AttrKind) {
    match kind {
        AttrKind::Bool => w.string("type", "boolean"),
        AttrKind::Index => natural(w),
        AttrKind::Real | AttrKind::Number => w.array("anyOf", INLINE, |w| {
            w.object(INLINE, |w| w.string("type", "number"));
            w.object(INLINE, |w| {
                w.array("enum", INLINE, |w| ["nan", "inf", "-inf"].iter().for_each(|v| w.string(v)))
            });
        }),
        AttrKind::Text | AttrKind::Body => w.string("type", "string"),
        AttrKind::OneOf(_) => choices(w, kind),
        AttrKind::DType => w.array("enum", INLINE, |w| DType::ALL.iter().for_each(|t| w.string(t.name()))),
        AttrKind::Indices => {
            w.string("type", "array");
            w.object("items", INLINE, natural);
        }
        AttrKind::Dims => {
            w.string("type", "array");
            reference(w, "items", "#/$defs/dim");
        }
        AttrKind::Dim => w.string("$ref", "#/$defs/dim"),
        AttrKind::Tensor => w.string("$ref", "#/$defs/constant"),
    }
}

/// An object with these fields and no others.
fn record(w: &mut ObjectWriter<'_>, required: &[&str], fields: impl FnOnce(&mut ObjectWriter<'_>)) {
    w.string("type", "object");
    if !required.is_empty() {
        w.array("required", INLINE, |w| required.iter().for_each(|r| w.string(r)));
    }
    w.bool("additionalProperties", false);
    w.object("properties", BLOCK, fields);
}

fn source_fields(w: &mut ObjectWriter<'_>) {
    w.object("data", INLINE, |_| ());
    w.object("file", INLINE, |w| w.string("type", "string"));
    w.object("tensor", INLINE, |w| w.string("type", "string"));
    w.object("sha256", INLINE, |w| w.string("pattern", "^[0-9a-fA-F]{64}$"));
}

fn one_of_required(w: &mut ObjectWriter<'_>) {
    w.array("oneOf", INLINE, |w| {
        for fields in [&["data"][..], &["file", "tensor"]] {
            w.object(INLINE, |w| w.array("required", INLINE, |w| fields.iter().for_each(|f| w.string(f))));
        }
    });
}

fn list(w: &mut ObjectWriter<'_>, key: &str, items: &str) {
    w.object(key, INLINE, |w| {
        w.string("type", "array");
        reference(w, "items", items);
    });
}

fn reference(w: &mut ObjectWriter<'_>, key: &str, to: &str) {
    w.object(key, INLINE, |w| w.string("$ref", to));
}

fn natural(w: &mut ObjectWriter<'_>) {
    w.string("type", "integer");
    w.u64("minimum", 0);
}

fn any_of(w: &mut ObjectWriter<'_>, types: &[&str]) {
    w.array("type", INLINE, |w| types.iter().for_each(|t| w.string(t)));
}

fn choices(w: &mut ObjectWriter<'_>, kind: AttrKind) {
    if let AttrKind::OneOf(names) = kind {
        w.array("enum", INLINE, |w| names.iter().for_each(|n| w.string(n)));
    }
}

/// The reference of all operations in Markdown: `docs/ops.md`.
pub fn ops_reference() -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_reference(&mut out);
    out
}

fn write_reference(out: &mut String) -> std::fmt::Result {
    out.write_str(
        "# Operations\n\nMade from the op list by `graphc ops`; a test keeps this page fresh. How operations stand in a \
         file is told in [format.md](format.md).\n\n## Scalar functions\n\nApplied to every element. Operands \
         broadcast by numpy's rule and may be literal numbers; they have one element type.\n\n\
         | op | value | operands | element types |\n|---|---|---|---|\n",
    )?;
    for f in ScalarFn::ALL {
        let def = f.def();
        let types = match def.class {
            Class::Float => "floats",
            Class::Arith => "floats, integers",
            Class::Bits => "integers, bool",
            Class::Int => "integers",
            Class::Compare => "floats, integers, bool; gives bool",
            Class::Select => "bool, then any type twice",
        };
        let formula = def.formula.replace('|', "\\|");
        writeln!(
            out,
            "| `{}` | {formula} | `{}` | {types} |",
            f.name(),
            Op::from(Map { f: *f }).signature()
        )?;
    }
    for (title, composite) in [("Primitives", false), ("Composites", true)] {
        writeln!(out, "\n## {title}\n")?;
        let what = if composite {
            "Defined by an expansion into primitives."
        } else {
            "What remains after expansion."
        };
        writeln!(out, "{what} Ranks go up to {MAX_RANK}.")?;
        for info in listed().filter(|i| i.composite == composite) {
            writeln!(out, "\n### `{}`\n\n    {}\n\n{}", info.name, info.signature, info.doc)?;
            for (i, a) in info.attrs.iter().enumerate() {
                let need = if a.optional { "optional" } else { "required" };
                let gap = if i == 0 { "\n" } else { "" };
                writeln!(out, "{gap}- `{}`: {} ({need})", a.name, describe(a.kind))?;
            }
        }
    }
    writeln!(
        out,
        "\n## `matmul`\n\n    {}\n\nThe matrix product by numpy's rules, accepted in files and written as `reshape`, \
         `broadcast` and `dot`: a vector is a row on the left and a column on the right, leading dims broadcast.",
        MATMUL.1
    )
}
