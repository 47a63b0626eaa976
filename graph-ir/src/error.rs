//! The error of everything that builds, checks or rewrites a graph.

use std::fmt;

/// What is wrong, at which node, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// One sentence.
    pub message: String,
    /// The node (by the user's name where there is one), with its place in the file.
    pub at: Option<String>,
    /// What to change.
    pub help: Option<String>,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a place.
    pub fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), at: None, help: None }
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

impl From<crate::dim::DimError> for Error {
    fn from(e: crate::dim::DimError) -> Error {
        Error::new(e.to_string())
    }
}

/// Shorthand for `Err(Error::new(format!(…)))`.
#[macro_export]
macro_rules! fail {
    ($($arg:tt)*) => { return Err($crate::error::Error::new(format!($($arg)*))) };
}
