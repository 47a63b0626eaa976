//! Reading and writing module files, with errors by their class.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
/// [`Error::Create`], also if another process holds the file; [`Error::Write`], [`Error::Unsynced`], or
/// [`Error::Data`] for a module that no file can hold.
pub fn save(module: &Module, path: &Path) -> Result<()> {
    claim(path)?.save(module)
}

/// The right to write a module's file, which no other process has until this is dropped or the process ends.
#[derive(Debug)]
pub struct Claim {
    claim: wire::Claim,
    path: PathBuf,
}

/// Claims a module's file, whether it is there or not. Who reads a module, changes it and writes it claims it before it
/// is read; reading alone needs no claim.
///
/// # Errors
/// [`Error::Create`] if another process holds the file, or if it cannot be written; [`Error::Write`].
pub fn claim(path: &Path) -> Result<Claim> {
    let claim = wire::claim(path).map_err(|e| saving(path, e))?;
    Ok(Claim { claim, path: path.to_owned() })
}

impl Claim {
    /// Replaces the module and its weights, as [`save`] does.
    ///
    /// # Errors
    /// [`Error::Create`], [`Error::Write`], [`Error::Unsynced`], or [`Error::Data`] for a module that no file can hold.
    pub fn save(&mut self, module: &Module) -> Result<()> {
        self.claim.save(module).map_err(|e| saving(&self.path, e))
    }
}

/// What an error of saving says about the file: nothing was changed, it is as it was, or it is the new one.
fn saving(path: &Path, e: SaveError) -> Error {
    match e {
        SaveError::Module(e) => Error::Data(format!("{}: the module cannot be written: {e}", path.display())),
        SaveError::Held { .. } => Error::Create(e),
        SaveError::Unsynced { .. } => Error::Unsynced(e),
        SaveError::Io { ref source, .. } => match source.kind() {
            ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Unsupported
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem => Error::Create(e),
            _ => Error::Write(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence about the file is true for every way in which saving fails.
    #[test]
    fn what_is_said_about_the_file_is_true() {
        let path = || PathBuf::from("m.json");
        for kind in [ErrorKind::PermissionDenied, ErrorKind::InvalidInput, ErrorKind::Other] {
            let said = saving(&path(), SaveError::Unsynced { path: path(), source: kind.into() });
            let text = said.to_string();
            assert!(text.contains("the new file is in place"), "{text}");
            assert!(!text.contains("nothing was changed") && !text.contains("as it was before"), "{text}");
            assert_eq!(said.kind(), crate::ErrorKind::Io);
        }
        let held = SaveError::Held { path: path(), holder: "process 17 on host".into() };
        let said = saving(&path(), held);
        assert_eq!(said.kind(), crate::ErrorKind::Create);
        let text = said.to_string();
        assert!(text.contains("process 17 on host") && text.contains("nothing was changed"), "{text}");
        let full = SaveError::Io { step: "write", path: path(), source: ErrorKind::StorageFull.into() };
        assert!(saving(&path(), full).to_string().contains("as it was before"));
    }
}
