//! The error of everything that builds, checks or rewrites a graph.

use std::fmt;

use crate::dim::DimError;

/// What is wrong, at which node, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// One sentence.
    pub message: String,
    /// The node (by the user's name where there is one), with its place in the file.
    pub at: Option<String>,
    /// What to change.
    pub help: Option<String>,
    /// Whether sizes are beyond what graphc can count or a machine can hold: the fault of the sizes, wherever it is found.
    pub limit: bool,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a place.
    pub fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), at: None, help: None, limit: false }
    }

    /// An error of sizes that are too large.
    pub fn limit(message: impl Into<String>) -> Error {
        Error { limit: true, ..Error::new(message) }
    }

    /// The same error told in other words.
    pub fn told(&self, message: impl Into<String>) -> Error {
        Error { limit: self.limit, ..Error::new(message) }
    }

    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Error {
        self.help = Some(help.into());
        self
    }

    /// Adds the place, unless a more precise one is known already.
    pub fn at(mut self, at: impl fmt::Display) -> Error {
        self.at.get_or_insert_with(|| at.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl From<DimError> for Error {
    fn from(e: DimError) -> Error {
        let limit = matches!(
            e,
            DimError::Overflow { .. } | DimError::TooComplex { .. } | DimError::SizeTooLarge { .. }
        );
        Error { limit, ..Error::new(e.to_string()) }
    }
}

/// Shorthand for `Err(Error::new(format!(…)))`.
#[macro_export]
macro_rules! fail {
    ($($arg:tt)*) => { return Err($crate::error::Error::new(format!($($arg)*))) };
}
