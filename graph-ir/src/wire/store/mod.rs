//! Modules as files: reading one with its weights, and replacing one so that a whole module is there at every instant.

mod claim;
mod lock;
mod storage;
mod target;
#[cfg(test)]
mod tests;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::{DecodeOptions, Limits, decode};
use crate::error::Error;
use crate::module::Module;

pub use claim::{Claim, claim};

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no valid module.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Diagnostic>),
}

/// Why a module could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The module cannot be written at all.
    #[error("{0}")]
    Module(Error),
    /// A file cannot be written.
    #[error("cannot {step} {}: {source}", .path.display())]
    Io {
        /// What failed.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process holds the file for writing, see [`claim()`].
    #[error("cannot write {}: {holder} writes this file; wait for its end, or end it", .path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// Who holds it, as "process 17 on host".
        holder: String,
    },
    /// The new module is in place, but its folder could not be synced.
    #[error("{}: the new file is in place, but its folder cannot be synced: {source}; after a failure of power the former file may be back", .path.display())]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Reads a module with its weights, which are looked for in the folder of the file only.
///
/// # Errors
/// If the file cannot be read, or all that is wrong with the module and its weights.
pub fn load(path: impl AsRef<Path>) -> Result<Module, LoadError> {
    load_with(path, Limits::default())
}

/// How often a file is looked at that is replaced again and again while it is read.
const LOOKS: usize = 1000;

/// As [`load`], with limits of its own.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: impl AsRef<Path>, limits: Limits) -> Result<Module, LoadError> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let most = limits.json.bytes;
    let options = DecodeOptions { file: &file, limits, folder: Some(folder_of(path)) };
    let mut look = 1;
    loop {
        let (bytes, stamp) =
            read_file(path, most).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
        match decode(&bytes, &options) {
            // Whoever replaced the module in the meantime removed the weights of the one that was read: what is wrong
            // with that one tells nothing about the file.
            Err(_) if look < LOOKS && path.metadata().is_ok_and(|now| Stamp::of(&now) != stamp) => look += 1,
            result => return result.map_err(LoadError::Invalid),
        }
    }
}

/// What tells a file from the one that took its name later.
#[derive(Debug, PartialEq)]
struct Stamp {
    file: u64,
    bytes: u64,
    written: Option<std::time::SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let file = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let file = 0;
        Stamp { file, bytes: metadata.len(), written: metadata.modified().ok() }
    }
}

/// Writes a module and, beside it, the weights file that it needs, named by its content.
///
/// The weights are written, synced and renamed first, the JSON last; a former weights file of this module is removed
/// in the end if no file of the folder mentions it. The bytes depend on the module alone. Only one process at a time
/// writes a module: this is [`claim()`] and [`Claim::save`].
///
/// # Errors
/// If another process holds the file, the module cannot be written, or a step fails; the destination is then the
/// complete former or the complete new module, and the error says which.
pub fn save(module: &Module, path: impl AsRef<Path>) -> Result<(), SaveError> {
    claim(path)?.save(module)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Reads a regular file (or one that a link leads to) of at most `most` bytes and one more.
fn read_file(path: &Path, most: usize) -> io::Result<(Vec<u8>, Stamp)> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    let mut bytes = Vec::new();
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(length.min(most)).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, stamp))
}

/// A step of saving with the file that it is about.
fn step<T>(step: &'static str, path: &Path, result: io::Result<T>) -> Result<T, SaveError> {
    result.map_err(|source| SaveError::Io { step, path: path.to_owned(), source })
}
