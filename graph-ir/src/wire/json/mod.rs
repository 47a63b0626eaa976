//! A JSON reader (RFC 8259) that survives hostile bytes and keeps places, and a canonical writer.
//!
//! The reader differs from a general one in what a model file needs: every value carries its byte range, the members
//! of an object keep their order, duplicate keys are errors that name both places, numbers keep their exact text, and
//! size, depth and count are limited before memory is taken. Files of other formats are recognised and named.

mod error;
mod lexer;
mod parser;
mod place;
#[cfg(test)]
mod round_trip;
mod sniff;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use error::{ErrorKind, JsonError, Related};
pub use parser::parse;
pub use place::{LineIndex, Place};
pub use value::{Member, Node, Number, NumberError, Span, Value, hidden_character, is_hidden};
pub use write::{ArrayWriter, Layout, ObjectWriter, array_document, object_document};

/// What a document may cost. Each limit is checked before the memory it bounds is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Length of the document in bytes.
    pub bytes: usize,
    /// Containers open at once. Values above [`Limits::MAX_DEPTH`] count as that.
    pub depth: usize,
    /// Values in the document, containers included, keys not.
    pub nodes: usize,
    /// Length of one decoded string or key in UTF-8 bytes.
    pub string_bytes: usize,
    /// Length of the text of one number in characters.
    pub number_chars: usize,
}

impl Limits {
    /// The deepest nesting that any setting of [`Limits::depth`] allows: dropping, cloning and comparing a tree of this
    /// depth recurses safely on a thread of 2 MiB.
    pub const MAX_DEPTH: usize = 1024;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 1 << 30, depth: 128, nodes: 20_000_000, string_bytes: 1 << 20, number_chars: 400 }
    }
}
