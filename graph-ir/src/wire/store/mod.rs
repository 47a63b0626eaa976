//! Modules as files: reading one with its weights, and replacing one so that a whole module is there at every instant.

mod storage;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::diagnostic::Diagnostic;
use super::encode::Plan;
use super::folder::{file_name_problem, open_regular};
use super::json::{self, Node as Json, Value};
use super::{DecodeOptions, Limits, decode, safetensors};
use crate::error::Error;
use crate::module::Module;
use storage::{Disk, Storage};

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
}

/// Reads a module with its weights, which are looked for in the folder of the file only.
///
/// # Errors
/// If the file cannot be read, or all that is wrong with the module and its weights.
pub fn load(path: impl AsRef<Path>) -> Result<Module, LoadError> {
    load_with(path, Limits::default())
}

/// As [`load`], with limits of its own.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: impl AsRef<Path>, limits: Limits) -> Result<Module, LoadError> {
    let path = path.as_ref();
    let bytes = read_file(path, limits.json.bytes)
        .map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
    let file = path.display().to_string();
    let options = DecodeOptions { file: &file, limits, folder: Some(folder_of(path)) };
    decode(&bytes, &options).map_err(LoadError::Invalid)
}

/// Writes a module and, beside it, the weights file that it needs, named by its content.
///
/// The weights are written, synced and renamed first, the JSON last; a former weights file of this module is removed
/// in the end if no JSON file of the folder mentions it. The bytes depend on the module alone.
///
/// # Errors
/// If the module cannot be written or a step fails; the destination is then the complete former or the complete new
/// module.
pub fn save(module: &Module, path: impl AsRef<Path>) -> Result<(), SaveError> {
    save_to(&mut Disk, module, path.as_ref())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Reads a regular file (or one that a link leads to) of at most `most` bytes and one more.
fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(length.min(most)).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A step of saving with the file that it is about.
fn step<T>(step: &'static str, path: &Path, result: io::Result<T>) -> Result<T, SaveError> {
    result.map_err(|source| SaveError::Io { step, path: path.to_owned(), source })
}

fn save_to(storage: &mut dyn Storage, module: &Module, path: &Path) -> Result<(), SaveError> {
    let target = Target::new(path)?;
    let former = target.former_weights();
    let plan = Plan::new(module).map_err(SaveError::Module)?;
    let weights = match plan.tensors() {
        [] => None,
        _ => Some(target.weights_name(&plan)?),
    };
    let mut write = || {
        if let Some(name) = &weights {
            let tensors: Vec<_> = plan.tensors().iter().map(|(n, t)| (n.as_str(), &**t)).collect();
            target.write_file(storage, name, &mut |out| safetensors::write(out, &tensors))?;
        }
        let text = plan.text(weights.as_deref()).map_err(SaveError::Module)?;
        target.write_file(storage, &target.name, &mut |out| out.write_all(text.as_bytes()))
    };
    if let Err(e) = write() {
        // New weights that no module refers to are of no use, unless they are also the old ones.
        if let Some(name) = weights.filter(|w| !former.contains(w)) {
            target.remove_unreferenced(storage, &name);
        }
        return Err(e);
    }
    for name in former.iter().filter(|f| Some(*f) != weights.as_ref()) {
        target.remove_unreferenced(storage, name);
    }
    Ok(())
}

/// Where a module is saved.
struct Target {
    folder: PathBuf,
    name: String,
    stem: String,
}

impl Target {
    fn new(path: &Path) -> Result<Target, SaveError> {
        let bad = |message: &str| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, message);
            Err(SaveError::Io { step: "write", path: path.to_owned(), source })
        };
        let (Some(name), Some(stem)) = (path.file_name(), path.file_stem()) else {
            return bad("it is not the name of a file");
        };
        let (Some(name), Some(stem)) = (name.to_str(), stem.to_str()) else {
            return bad("its name is not UTF-8");
        };
        if file_name_problem(name).is_some() {
            return bad("its name holds `:`, `\\` or invisible characters, which no module may");
        }
        // Renaming would replace a device or a link instead of writing to it.
        match path.symlink_metadata() {
            Ok(m) if m.is_symlink() => return bad("it is a symbolic link; give the file that it leads to"),
            Ok(m) if !m.is_file() => return bad("it exists and is not a regular file"),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SaveError::Io { step: "write", path: path.to_owned(), source }),
        }
        Ok(Target { folder: folder_of(path).to_owned(), name: name.into(), stem: stem.into() })
    }

    /// The name of the weights file, which says what is in it.
    fn weights_name(&self, plan: &Plan<'_>) -> Result<String, SaveError> {
        let tensors: Vec<_> = plan.tensors().iter().map(|(n, t)| (n.as_str(), &**t)).collect();
        let mut hash = Hashing(Sha256::new());
        step("hash the weights of", &self.folder.join(&self.name), safetensors::write(&mut hash, &tensors))?;
        let digest: String = hash.0.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
        Ok(format!("{}-{digest}.safetensors", self.stem))
    }

    /// Writes a file under a temporary name, syncs it, and gives it its name.
    fn write_file(
        &self,
        storage: &mut dyn Storage,
        name: &str,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), SaveError> {
        let path = self.folder.join(name);
        let (temporary, file) = step("create a file beside", &path, self.create(storage, name))?;
        let mut file = io::BufWriter::with_capacity(1 << 18, file);
        let written = step("write", &path, fill(&mut file).and_then(|()| file.flush()));
        let done = written
            .and_then(|()| step("sync", &path, storage.sync(&mut **file.get_mut())))
            .and_then(|()| step("replace", &path, storage.rename(&temporary, &path)));
        if let Err(e) = done {
            // The error that counts is the one that led here.
            let _ = storage.remove(&temporary);
            return Err(e);
        }
        step("sync the folder of", &path, storage.sync_folder(&self.folder))
    }

    /// Creates a file that did not exist before.
    fn create(
        &self,
        storage: &mut dyn Storage,
        name: &str,
    ) -> io::Result<(PathBuf, Box<dyn storage::SyncFile>)> {
        self.remove_abandoned(storage);
        let mut number = 0;
        loop {
            let temporary = self.folder.join(format!(".{name}.{}-{number}.tmp", std::process::id()));
            match storage.create(&temporary) {
                Ok(file) => return Ok((temporary, file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Removes temporary files of this module whose process is gone, where that can be told.
    fn remove_abandoned(&self, storage: &mut dyn Storage) {
        if !Path::new("/proc/self").exists() {
            return;
        }
        for name in self.file_names() {
            let process = name
                .strip_prefix(&format!(".{}", self.stem))
                .and_then(|rest| rest.strip_suffix(".tmp")?.rsplit_once('.'))
                .and_then(|(_, numbers)| numbers.split_once('-')?.0.parse::<u32>().ok());
            if process.is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists()) {
                let _ = storage.remove(&self.folder.join(name));
            }
        }
    }

    /// Names of the files in the folder, in order.
    fn file_names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    /// The weights files that graphc wrote for the module that is there now.
    fn former_weights(&self) -> BTreeSet<String> {
        let limits = Limits::default().json;
        let bytes = read_file(&self.folder.join(&self.name), limits.bytes).unwrap_or_default();
        let root = json::parse(&bytes, &limits).ok();
        let named = root.iter().flat_map(|r| named_files(r));
        named.filter(|n| self.is_own_weights(n)).map(str::to_owned).collect()
    }

    fn is_own_weights(&self, name: &str) -> bool {
        let digest =
            name.strip_prefix(&format!("{}-", self.stem)).and_then(|r| r.strip_suffix(".safetensors"));
        digest.is_some_and(|d| d.len() == 12 && d.bytes().all(|b| b.is_ascii_hexdigit()))
    }

    /// Removes a weights file that no JSON file of the folder mentions; one that cannot be removed stays.
    fn remove_unreferenced(&self, storage: &mut dyn Storage, weights: &str) {
        let mentions = |name: &String| {
            let path = self.folder.join(name);
            let bytes = open_regular(&path).and_then(|mut f| {
                let mut bytes = Vec::new();
                f.read_to_end(&mut bytes).map(|_| bytes)
            });
            // A file that cannot be read may mention anything.
            bytes.map_or(true, |b| b.windows(weights.len()).any(|w| w == weights.as_bytes()))
        };
        let modules: Vec<String> =
            self.file_names().into_iter().filter(|n| n.ends_with(".json") || *n == self.name).collect();
        if !modules.iter().any(mentions) {
            let _ = storage.remove(&self.folder.join(weights));
        }
    }
}

/// Hashes what is written.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every text of a field `file`, wherever it stands.
fn named_files(root: &Json) -> Vec<&str> {
    let mut found = Vec::new();
    let mut left = vec![root];
    while let Some(node) = left.pop() {
        match &node.value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                for m in members {
                    match &m.value.value {
                        Value::String(text) if m.key == "file" => found.push(text.as_str()),
                        _ => left.push(&m.value),
                    }
                }
            }
            _ => {}
        }
    }
    found
}
