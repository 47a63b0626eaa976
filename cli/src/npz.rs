//! NumPy's `.npz` files: zip archives of `.npy` files, whose names without the ending are the keys.

#[cfg(test)]
mod tests;

use super::npy::{Array, NpyError, read_npy, read_npy_owned};
use super::zip::{Contents, ZipError, ZipErrorKind, ZipWriter, read_directory};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

pub use super::zip::ZipLimits as NpzLimits;

/// Why an `.npz` file was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NpzError {
    /// The archive itself is at fault. Offsets count in the archive.
    Zip(ZipError),
    /// One array is at fault. Offsets count in that entry.
    Array {
        /// The key of the array.
        key: String,
        /// What is wrong with it.
        error: NpyError,
    },
}

impl fmt::Display for NpzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NpzError::Zip(error) => error.fmt(f),
            NpzError::Array { key, error } => write!(f, "array {key}, {error}"),
        }
    }
}

impl std::error::Error for NpzError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NpzError::Zip(error) => Some(error),
            NpzError::Array { error, .. } => Some(error),
        }
    }
}

impl From<ZipError> for NpzError {
    fn from(error: ZipError) -> NpzError {
        NpzError::Zip(error)
    }
}

const ENDING: &str = ".npy";

/// Reads every array of an `.npz` file with its key, in the order of the archive.
///
/// # Errors
/// See [`ZipErrorKind`] and [`NpyErrorKind`](super::npy::NpyErrorKind). Sizes are compared with `limits` before and
/// while anything is inflated.
pub fn read_npz(bytes: &[u8], limits: &NpzLimits) -> Result<Vec<(String, Array)>, NpzError> {
    let entries = read_directory(bytes, limits)?;
    let mut keys = Vec::with_capacity(entries.len());
    for entry in &entries {
        let key = entry.name.strip_suffix(ENDING).filter(|key| !key.is_empty());
        keys.push(key.ok_or_else(|| no_array(&entry.name))?);
    }
    let mut arrays = Vec::with_capacity(entries.len());
    for (entry, key) in entries.iter().zip(keys) {
        let array = match entry.contents()? {
            Cow::Borrowed(contents) => read_npy(contents),
            Cow::Owned(contents) => read_npy_owned(contents),
        };
        let key = key.to_owned();
        match array {
            Ok(array) => arrays.push((key, array)),
            Err(error) => return Err(NpzError::Array { key, error }),
        }
    }
    Ok(arrays)
}

fn no_array(name: &str) -> NpzError {
    NpzError::Zip(ZipError {
        kind: ZipErrorKind::Name,
        message: format!("the entry {name} is no .npy file"),
        offset: 0,
        remedy: "write the archive with numpy.savez, with nothing else in it",
    })
}

/// Writes an `.npz` file of these `.npy` files under these keys, uncompressed. Equal arrays make equal bytes.
///
/// # Errors
/// Keys that stand twice or that [`read_npz`] would refuse, and what writing fails of.
pub fn write_npz<'a>(
    out: &mut dyn Write,
    arrays: impl IntoIterator<Item = (&'a str, &'a dyn Contents)>,
) -> Result<io::Result<()>, NpzError> {
    let mut archive = ZipWriter::new(out);
    for (key, array) in arrays {
        archive.add(&format!("{key}{ENDING}"), array)?;
    }
    Ok(archive.finish().map(drop))
}
