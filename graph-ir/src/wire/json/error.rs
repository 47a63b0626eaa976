//! Why a document was refused.

use super::place::LineIndex;
use std::fmt;

/// The class of a [`JsonError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No bytes, or white space only.
    Empty,
    /// The bytes are a file of another format.
    OtherFormat,
    /// Not UTF-8 without a byte order mark, or NUL bytes in it.
    Encoding,
    /// The document ends in the middle of a value.
    Truncated,
    /// A character where the grammar allows none of its kind.
    Syntax,
    /// A bad escape or a raw control character in a string.
    BadString,
    /// A number that JSON does not allow, such as `01`, `.5` or `NaN`.
    BadNumber,
    /// Text after the end of the document.
    TrailingData,
    /// A key that stands twice in one object.
    DuplicateKey,
    /// A key with control, bidirectional or invisible characters.
    HiddenCharacter,
    /// One of the [`Limits`](super::Limits) is exceeded.
    Limit,
}

/// A second place that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// Byte offset in the document.
    pub offset: usize,
    /// What stands there, as in "the first one is here".
    pub note: &'static str,
}

/// A refused document: what is wrong, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The class of the error.
    pub kind: ErrorKind,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Byte offset in the document; at most its length.
    pub offset: usize,
    /// How to mend it, in one sentence without a full stop.
    pub remedy: String,
    /// The other place, for errors that are about two.
    pub related: Option<Related>,
}

impl JsonError {
    pub(super) fn new(
        kind: ErrorKind,
        offset: usize,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> JsonError {
        JsonError { kind, message: message.into(), offset, remedy: remedy.into(), related: None }
    }

    pub(super) fn related(mut self, offset: usize, note: &'static str) -> JsonError {
        self.related = Some(Related { offset, note });
        self
    }

    /// The error with `file:line:column` in front, for a reader at a terminal. `index` must be of the same document.
    pub fn describe(&self, file: &str, index: &LineIndex<'_>) -> String {
        let place = index.place(self.offset);
        let related = match &self.related {
            Some(other) => format!(" ({} at {})", other.note, index.place(other.offset)),
            None => String::new(),
        };
        format!("{file}:{place}: {}{related}; {}", self.message, self.remedy)
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.offset, self.message)?;
        if let Some(other) = &self.related {
            write!(f, " ({} at byte {})", other.note, other.offset)?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl std::error::Error for JsonError {}
