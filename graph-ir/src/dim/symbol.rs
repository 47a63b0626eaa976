//! Names of the unknowns in a dimension.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::error::DimError;

/// The longest symbol name, in bytes.
pub const MAX_SYMBOL: usize = 64;

/// The name of an integer, never negative, that becomes known when a graph is bound to its inputs.
///
/// A name is `[A-Za-z_][A-Za-z0-9_]*`, at most [`MAX_SYMBOL`] bytes, and not the word `floor`.
/// Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// Makes a symbol.
    ///
    /// # Errors
    /// [`DimError::BadSymbol`] when `name` is not a symbol name.
    pub fn new(name: &str) -> Result<Self, DimError> {
        let mut bytes = name.bytes();
        let valid = bytes.next().is_some_and(starts_symbol)
            && bytes.all(continues_symbol)
            && name.len() <= MAX_SYMBOL
            && name != "floor";
        if valid {
            Ok(Self(Arc::from(name)))
        } else {
            // A hostile name may be megabytes long; the message quotes its beginning.
            let shown = name.chars().take(MAX_SYMBOL).collect();
            Err(DimError::BadSymbol { name: shown })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn starts_symbol(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

pub(super) fn continues_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
