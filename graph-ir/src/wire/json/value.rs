//! The tree of a parsed document.

use std::fmt;

use crate::dtype::DType;
use crate::scalar::narrow;

/// A range of bytes of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset just past the last byte.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its text in the document, brackets and quotes included.
    pub span: Span,
}

/// A JSON value. Objects keep the order of the document and have no duplicate keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number in its exact text.
    Number(Number),
    /// A string with its escapes decoded.
    String(String),
    /// The elements in order.
    Array(Vec<Node>),
    /// The members in the order of the document.
    Object(Vec<Member>),
}

/// One `"key": value` of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The key with its escapes decoded; it holds no hidden characters.
    pub key: String,
    /// The key with its quotes.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Value {
    /// What the value is, with an article, for error messages: "an object".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

impl Node {
    /// The member of an object with this key. Takes time linear in the number of members; `None` for other values.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_object()?.iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The boolean, or `None` for another kind of value.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The number, or `None` for another kind of value.
    pub fn as_number(&self) -> Option<&Number> {
        match &self.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The string, or `None` for another kind of value.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, or `None` for another kind of value.
    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members of an object, or `None` for another kind of value.
    pub fn as_object(&self) -> Option<&[Member]> {
        match &self.value {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    /// A float of either spelling: a number, or one of the strings `"nan"`, `"inf"` and `"-inf"`, which stand for the
    /// values that JSON numbers cannot express. `None` where the value is neither.
    pub fn as_f64(&self) -> Option<Result<f64, NumberError>> {
        match &self.value {
            Value::Number(number) => Some(number.as_f64()),
            Value::String(text) => non_finite(text).map(Ok),
            _ => None,
        }
    }

    /// As [`Node::as_f64`], rounded once from the text to a float type.
    pub fn as_float(&self, dtype: DType) -> Option<Result<f64, NumberError>> {
        match &self.value {
            Value::Number(number) => Some(number.as_float(dtype)),
            Value::String(text) => non_finite(text).map(Ok),
            _ => None,
        }
    }

    /// As [`Node::as_float`] of `f32`.
    pub fn as_f32(&self) -> Option<Result<f32, NumberError>> {
        Some(self.as_float(DType::F32)?.map(|value| value as f32))
    }
}

fn non_finite(text: &str) -> Option<f64> {
    match text {
        "nan" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A number in the text of the document, which obeys the grammar of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number {
    text: Box<str>,
}

impl Number {
    pub(super) fn from_grammatical(text: &str) -> Number {
        Number { text: text.into() }
    }

    /// The text as it stands in the document.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text is an integer literal: neither a fraction nor an exponent, so `1.0` and `1e3` are not.
    pub fn is_integer(&self) -> bool {
        !self.text.contains(['.', 'e', 'E'])
    }

    /// The integer. `-0` is 0.
    pub fn as_i64(&self) -> Result<i64, NumberError> {
        if !self.is_integer() {
            return Err(self.not_an_integer());
        }
        self.text.parse().map_err(|_| self.out_of_range("i64"))
    }

    /// The integer. `-0` is 0.
    pub fn as_u64(&self) -> Result<u64, NumberError> {
        if !self.is_integer() {
            return Err(self.not_an_integer());
        }
        if &*self.text == "-0" {
            return Ok(0);
        }
        self.text.parse().map_err(|_| self.out_of_range("u64"))
    }

    /// The integer, if it is one of more digits than an `f64` is sure of and of no more than 128 bits hold.
    pub fn as_large_int(&self) -> Option<i128> {
        let value: i128 = self.is_integer().then(|| self.text.parse().ok())??;
        (value.unsigned_abs() > 1 << f64::MANTISSA_DIGITS).then_some(value)
    }

    /// The number rounded once from the text to a float type. Errors as in [`Number::as_f64`].
    pub fn as_float(&self, dtype: DType) -> Result<f64, NumberError> {
        match narrow::from_text(&self.text, dtype) {
            Some(value) if value.is_finite() => Ok(value),
            _ => Err(self.out_of_range(dtype.name())),
        }
    }

    /// The nearest `f64`, with the sign of zero kept. A number whose nearest `f64` is infinite is an error; one that is
    /// too small for `f64` rounds to zero.
    pub fn as_f64(&self) -> Result<f64, NumberError> {
        match self.text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.out_of_range("f64")),
        }
    }

    /// The nearest `f32`, rounded once from the text. Errors as in [`Number::as_f64`].
    pub fn as_f32(&self) -> Result<f32, NumberError> {
        match self.text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.out_of_range("f32")),
        }
    }

    fn not_an_integer(&self) -> NumberError {
        NumberError::NotAnInteger { text: shortened(&self.text) }
    }

    fn out_of_range(&self, wanted: &'static str) -> NumberError {
        NumberError::OutOfRange { text: shortened(&self.text), wanted }
    }
}

/// Why a number could not be had as the type asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberError {
    /// The text has a fraction or an exponent.
    NotAnInteger {
        /// The number, shortened where it is long.
        text: String,
    },
    /// The value does not fit the type named.
    OutOfRange {
        /// The number, shortened where it is long.
        text: String,
        /// The Rust name of the type.
        wanted: &'static str,
    },
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberError::NotAnInteger { text } => {
                write!(f, "{text} is not an integer; write it without fraction and exponent")
            }
            NumberError::OutOfRange { text, wanted } => {
                let (low, high) = match *wanted {
                    "i64" => (i64::MIN.to_string(), i64::MAX.to_string()),
                    "u64" => ("0".into(), u64::MAX.to_string()),
                    "f32" => (format!("{:?}", f32::MIN), format!("{:?}", f32::MAX)),
                    "f16" => ("-65504".into(), "65504".into()),
                    "bf16" => ("-3.3895e38".into(), "3.3895e38".into()),
                    _ => (format!("{:?}", f64::MIN), format!("{:?}", f64::MAX)),
                };
                write!(f, "{text} does not fit {wanted}; it holds {low} to {high}")
            }
        }
    }
}

impl std::error::Error for NumberError {}

/// The text, or its beginning where it is too long for a message.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The first [hidden](is_hidden) character with its byte offset. Names that hold one can look like another name.
pub fn hidden_character(text: &str) -> Option<(usize, char)> {
    text.char_indices().find(|&(_, c)| is_hidden(c))
}

/// Whether a reader would not see a character, or see its neighbours in another order: control characters, line separators,
/// bidirectional controls (Unicode UAX #9) and zero-width characters that no script needs.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}
