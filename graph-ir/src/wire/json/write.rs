//! The canonical text of a document.
//!
//! Two spaces of indentation, one space after `:` and `,`, keys in the order of the calls, no trailing space, one line
//! break at the end. Floats are the shortest decimals that read back to the same bits, and always hold a dot or an
//! exponent; the values that JSON lacks are the strings `"nan"`, `"inf"` and `"-inf"`.

use super::value::{Node, Value, is_hidden};
use crate::dtype::DType;
use crate::scalar::narrow;
use std::fmt::Write;

/// Whether the parts of a container share its line or have a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All on one line, with everything inside.
    Inline,
    /// One part a line, unless the container stands in an inline one or is empty.
    Block,
}

/// Writes a document that is an object.
pub fn object_document(layout: Layout, fill: impl FnOnce(&mut ObjectWriter<'_>)) -> String {
    let mut out = Out::default();
    out.object(layout, fill);
    out.text.push('\n');
    out.text
}

/// Writes a document that is an array.
pub fn array_document(layout: Layout, fill: impl FnOnce(&mut ArrayWriter<'_>)) -> String {
    let mut out = Out::default();
    out.array(layout, fill);
    out.text.push('\n');
    out.text
}

/// Adds members to an open object. Keys must differ; the reader refuses a document where they do not.
pub struct ObjectWriter<'a> {
    out: &'a mut Out,
    parts: Parts,
}

/// Adds elements to an open array.
pub struct ArrayWriter<'a> {
    out: &'a mut Out,
    parts: Parts,
}

impl ObjectWriter<'_> {
    /// Adds `null`.
    pub fn null(&mut self, key: &str) {
        self.key(key).text.push_str("null");
    }

    /// Adds `true` or `false`.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key).bool(value);
    }

    /// Adds an integer.
    pub fn i64(&mut self, key: &str, value: i64) {
        self.key(key).integer(value);
    }

    /// Adds an integer.
    pub fn u64(&mut self, key: &str, value: u64) {
        self.key(key).integer(value);
    }

    /// Adds a float in the shortest text that reads back as the same `f32`.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key).f32(value);
    }

    /// Adds a float in the shortest text that reads back as the same value of its type.
    pub fn float(&mut self, key: &str, value: f64, dtype: DType) {
        self.key(key).float(value, dtype);
    }

    /// Adds a float in the shortest text that reads back as the same `f64`.
    pub fn f64(&mut self, key: &str, value: f64) {
        self.key(key).f64(value);
    }

    /// Adds a string.
    pub fn string(&mut self, key: &str, value: &str) {
        self.key(key).string(value);
    }

    /// Adds a parsed value, in the exact text of its numbers. Containers in it are laid out as `layout` says.
    pub fn node(&mut self, key: &str, layout: Layout, value: &Node) {
        self.key(key).node(layout, value);
    }

    /// Adds an object that `fill` fills, and returns what `fill` returns.
    pub fn object<R>(
        &mut self,
        key: &str,
        layout: Layout,
        fill: impl FnOnce(&mut ObjectWriter<'_>) -> R,
    ) -> R {
        self.key(key).object(layout, fill)
    }

    /// Adds an array that `fill` fills, and returns what `fill` returns.
    pub fn array<R>(&mut self, key: &str, layout: Layout, fill: impl FnOnce(&mut ArrayWriter<'_>) -> R) -> R {
        self.key(key).array(layout, fill)
    }

    fn key(&mut self, key: &str) -> &mut Out {
        self.parts.separate(self.out);
        self.out.string(key);
        self.out.text.push_str(": ");
        self.out
    }
}

impl ArrayWriter<'_> {
    /// Adds `null`.
    pub fn null(&mut self) {
        self.element().text.push_str("null");
    }

    /// Adds `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.element().bool(value);
    }

    /// Adds an integer.
    pub fn i64(&mut self, value: i64) {
        self.element().integer(value);
    }

    /// Adds an integer.
    pub fn u64(&mut self, value: u64) {
        self.element().integer(value);
    }

    /// Adds a float in the shortest text that reads back as the same `f32`.
    pub fn f32(&mut self, value: f32) {
        self.element().f32(value);
    }

    /// Adds a float in the shortest text that reads back as the same value of its type.
    pub fn float(&mut self, value: f64, dtype: DType) {
        self.element().float(value, dtype);
    }

    /// Adds a float in the shortest text that reads back as the same `f64`.
    pub fn f64(&mut self, value: f64) {
        self.element().f64(value);
    }

    /// Adds a string.
    pub fn string(&mut self, value: &str) {
        self.element().string(value);
    }

    /// Adds a parsed value, in the exact text of its numbers. Containers in it are laid out as `layout` says.
    pub fn node(&mut self, layout: Layout, value: &Node) {
        self.element().node(layout, value);
    }

    /// Adds an object that `fill` fills, and returns what `fill` returns.
    pub fn object<R>(&mut self, layout: Layout, fill: impl FnOnce(&mut ObjectWriter<'_>) -> R) -> R {
        self.element().object(layout, fill)
    }

    /// Adds an array that `fill` fills, and returns what `fill` returns.
    pub fn array<R>(&mut self, layout: Layout, fill: impl FnOnce(&mut ArrayWriter<'_>) -> R) -> R {
        self.element().array(layout, fill)
    }

    fn element(&mut self) -> &mut Out {
        self.parts.separate(self.out);
        self.out
    }
}

/// How far a container is.
struct Parts {
    layout: Layout,
    any: bool,
}

impl Parts {
    fn separate(&mut self, out: &mut Out) {
        if self.any {
            out.text.push(',');
        }
        match self.layout {
            Layout::Block => out.line_break(),
            Layout::Inline if self.any => out.text.push(' '),
            Layout::Inline => {}
        }
        self.any = true;
    }

    fn close(self, out: &mut Out, bracket: char) {
        if self.layout == Layout::Block {
            out.block_depth -= 1;
            if self.any {
                out.line_break();
            }
        } else {
            out.inline_depth -= 1;
        }
        out.text.push(bracket);
    }
}

/// The text so far and the containers that are open at its end.
#[derive(Default)]
struct Out {
    text: String,
    block_depth: usize,
    inline_depth: usize,
}

impl Out {
    fn open(&mut self, bracket: char, layout: Layout) -> Parts {
        self.text.push(bracket);
        let layout = if self.inline_depth > 0 { Layout::Inline } else { layout };
        match layout {
            Layout::Block => self.block_depth += 1,
            Layout::Inline => self.inline_depth += 1,
        }
        Parts { layout, any: false }
    }

    fn line_break(&mut self) {
        self.text.push('\n');
        for _ in 0..self.block_depth {
            self.text.push_str("  ");
        }
    }

    fn object<R>(&mut self, layout: Layout, fill: impl FnOnce(&mut ObjectWriter<'_>) -> R) -> R {
        let parts = self.open('{', layout);
        let mut writer = ObjectWriter { out: self, parts };
        let result = fill(&mut writer);
        let ObjectWriter { out, parts } = writer;
        parts.close(out, '}');
        result
    }

    fn array<R>(&mut self, layout: Layout, fill: impl FnOnce(&mut ArrayWriter<'_>) -> R) -> R {
        let parts = self.open('[', layout);
        let mut writer = ArrayWriter { out: self, parts };
        let result = fill(&mut writer);
        let ArrayWriter { out, parts } = writer;
        parts.close(out, ']');
        result
    }

    /// Recurses as deep as the tree, which the reader's depth limit bounds.
    fn node(&mut self, layout: Layout, node: &Node) {
        match &node.value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(value) => self.bool(*value),
            Value::Number(number) => self.text.push_str(number.text()),
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                let parts = self.open('[', layout);
                let mut writer = ArrayWriter { out: self, parts };
                for item in items {
                    writer.node(layout, item);
                }
                let ArrayWriter { out, parts } = writer;
                parts.close(out, ']');
            }
            Value::Object(members) => {
                let parts = self.open('{', layout);
                let mut writer = ObjectWriter { out: self, parts };
                for member in members {
                    writer.node(&member.key, layout, &member.value);
                }
                let ObjectWriter { out, parts } = writer;
                parts.close(out, '}');
            }
        }
    }

    fn bool(&mut self, value: bool) {
        self.text.push_str(if value { "true" } else { "false" });
    }

    fn integer(&mut self, value: impl std::fmt::Display) {
        self.append(format_args!("{value}"));
    }

    // `{:?}` is the shortest text that reads back to the same float, with an exponent where it is far from 1.
    fn f32(&mut self, value: f32) {
        if value.is_finite() {
            self.append(format_args!("{value:?}"));
        } else {
            self.non_finite(f64::from(value));
        }
    }

    fn float(&mut self, value: f64, dtype: DType) {
        match dtype {
            DType::F32 => self.f32(value as f32),
            _ => self.f64(narrow::shortest(value, dtype)),
        }
    }

    fn f64(&mut self, value: f64) {
        if value.is_finite() {
            self.append(format_args!("{value:?}"));
        } else {
            self.non_finite(value);
        }
    }

    fn non_finite(&mut self, value: f64) {
        self.text.push_str(match value {
            _ if value.is_nan() => "\"nan\"",
            _ if value > 0.0 => "\"inf\"",
            _ => "\"-inf\"",
        });
    }

    /// Escapes what JSON demands and what a reader of the file would not see.
    fn string(&mut self, value: &str) {
        self.text.push('"');
        for character in value.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                _ if is_hidden(character) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        self.append(format_args!("\\u{unit:04x}"));
                    }
                }
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    fn append(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(text);
    }
}
