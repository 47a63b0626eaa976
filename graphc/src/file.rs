//! Reading and writing module files, with errors by their class.

use std::io::ErrorKind;
use std::path::Path;

use graphc_ir::Module;
use graphc_ir::wire::{self, Limits, LoadError, SaveError};

use crate::error::{Error, Result};

/// Reads a module with its weights.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Read`], or [`Error::Model`] with everything that is wrong in the file.
pub fn load(path: &Path) -> Result<Module> {
    let most = Limits::default().json.bytes as u64;
    if let Some(bytes) = path.metadata().ok().filter(|m| m.is_file()).map(|m| m.len()).filter(|b| *b > most) {
        let path = path.display();
        return Err(Error::Data(format!(
            "{path}: a file of {bytes} bytes; at most {most} are read: keep tensors in a weights file"
        )));
    }
    wire::load(path).map_err(|e| match e {
        LoadError::Invalid(diagnostics) => Error::Model(diagnostics),
        LoadError::Io { path, source } if source.kind() == ErrorKind::NotFound => {
            Error::NotFound { path, source }
        }
        LoadError::Io { path, source } => Error::Read { path, source },
    })
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
