//! Reading and writing module files, with errors by their class.

use std::io::ErrorKind;
use std::path::Path;

use graphc_ir::Module;
use graphc_ir::wire::{self, Limits, LoadError, SaveError};

use crate::error::{Error, Result};
use crate::memory;

/// Reads a module with its weights.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Read`], or [`Error::Model`] with everything that is wrong in the file.
pub fn load(path: &Path) -> Result<Module> {
    let most = limits().json.bytes as u64;
    if let Some(bytes) = path.metadata().ok().filter(|m| m.is_file()).map(|m| m.len()).filter(|b| *b > most) {
        let path = path.display();
        return Err(Error::Data(format!(
            "{path}: a file of {bytes} bytes; at most {most} are read: keep tensors in a weights file"
        )));
    }
    wire::load_with(path, limits()).map_err(|e| match e {
        LoadError::Invalid(diagnostics) => Error::Model(diagnostics),
        LoadError::Io { path, source } if source.kind() == ErrorKind::OutOfMemory => {
            let bytes = path.metadata().map_or(0, |m| m.len());
            memory::refused(&path.display().to_string(), usize::try_from(bytes).unwrap_or(usize::MAX))
        }
        LoadError::Io { path, source } if source.kind() == ErrorKind::NotFound => {
            Error::NotFound { path, source }
        }
        LoadError::Io { path, source } => Error::Read { path, source },
    })
}

/// What a file may cost: what graphc ever allows, and no more than this process may have.
fn limits() -> Limits {
    /// Bytes of a value of a parsed document, with its key and places, of which a file may hold one for every two bytes.
    const NODE_BYTES: usize = 160;
    let mut limits = Limits::default();
    if let Some(most) = memory::available() {
        limits.weights = most;
        limits.json.nodes = limits.json.nodes.min(most / NODE_BYTES);
        limits.json.bytes = limits.json.bytes.min(most);
    }
    limits
}

/// Writes a module and its weights; whatever happens, the former or the new module is there as a whole.
///
/// # Errors
/// [`Error::Create`], [`Error::Write`], or [`Error::Data`] for a module that no file can hold.
pub fn save(module: &Module, path: &Path) -> Result<()> {
    wire::save(module, path).map_err(|e| match e {
        SaveError::Module(e) => Error::Data(format!("{}: the module cannot be written: {e}", path.display())),
        SaveError::Io { step, path, source } => {
            let kind = source.kind();
            let refused = matches!(
                kind,
                ErrorKind::InvalidInput
                    | ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
            );
            let e = SaveError::Io { step, path, source };
            if refused { Error::Create(e) } else { Error::Write(e) }
        }
    })
}
