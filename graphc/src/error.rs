//! What can go wrong between a model's file and its results.

use std::path::PathBuf;

use graphc_ir::wire::{Diagnostic, SaveError};

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model was not read, compiled, run or saved: each message says what, where and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A module or its weights are not valid; all independent problems are listed.
    #[error("{}", lines(.0))]
    Model(Vec<Diagnostic>),
    /// A file is not there.
    #[error("{}: there is no such file; check the path", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be created.
    #[error("{0}; nothing was changed")]
    Create(SaveError),
    /// A file could not be written to its end.
    #[error("{0}; the file is as it was before")]
    Write(SaveError),
    /// A file was replaced, but the system does not promise that it outlasts a failure of power.
    #[error("{0}")]
    Unsynced(SaveError),
    /// A name that the module does not have, a feed that is missing or given twice, an option out of range.
    #[error("{0}")]
    Usage(String),
    /// Values, shapes or dims that do not fit the model, or a check of the model that failed.
    #[error("{0}")]
    Data(String),
    /// The device, or memory of it, cannot be had.
    #[error("{0}")]
    Device(String),
    /// A bug of graphc.
    #[error("{0} (this is a bug of graphc; please report it with the model)")]
    Internal(String),
}

/// The classes of errors, for callers that map them to exit codes or retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller named something that does not exist, or left something out.
    Usage,
    /// A model or data are not valid.
    Data,
    /// An input file does not exist.
    NotFound,
    /// The device or its memory is not available.
    Device,
    /// A bug of graphc.
    Internal,
    /// An output file cannot be created.
    Create,
    /// Reading or writing failed.
    Io,
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Model(_) | Error::Data(_) => ErrorKind::Data,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Read { .. } | Error::Write(_) | Error::Unsynced(_) => ErrorKind::Io,
            Error::Create(_) => ErrorKind::Create,
            Error::Usage(_) => ErrorKind::Usage,
            Error::Device(_) => ErrorKind::Device,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }
}

/// The error of compiling a module that was checked: a bug, unless its sizes are beyond what can be.
pub(crate) fn compiling(what: &str, e: &graphc_ir::Error) -> Error {
    match e.limit {
        true => Error::Device(format!("{what}{e}; use smaller sizes")),
        false => Error::Internal(format!("{what}{e}")),
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// "`a`, `b`", or a word for none.
pub(crate) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    if quoted.is_empty() { "none".into() } else { quoted.join(", ") }
}

/// The remedy for a name that is not there: the nearest one, or all of them.
pub(crate) fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match graphc_ir::wire::suggest::closest(name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are: {}", names(known)),
    }
}
