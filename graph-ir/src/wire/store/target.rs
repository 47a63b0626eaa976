//! The files of one module: their names, and which of them nothing needs any more.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::encode::Plan;
use super::super::folder::file_name_problem;
use super::super::json::{self, Node as Json, Value};
use super::super::{Limits, safetensors};
use super::storage::{Storage, SyncFile};
use super::{SaveError, folder_of, read_file, step};

/// Extensions of files that are no modules, whose contents need not be looked at.
const DATA: [&str; 5] = ["safetensors", "npy", "npz", "csv", "png"];

/// Bytes of a file that tell whether it may be a module.
const BEGINNING: usize = 512;

/// Where a module is saved.
pub(super) struct Target {
    pub folder: PathBuf,
    pub name: String,
    stem: String,
}

impl Target {
    pub fn new(path: &Path) -> Result<Target, SaveError> {
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

    /// The module's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The file whose lock says who may write. Modules of one stem share it, as they share the names of weights files.
    pub fn lock_path(&self) -> PathBuf {
        self.folder.join(format!(".{}.lock", self.stem))
    }

    /// The name of the weights file, which says what is in it.
    pub fn weights_name(&self, plan: &Plan<'_>) -> Result<String, SaveError> {
        let tensors: Vec<_> = plan.tensors().iter().map(|(n, t)| (n.as_str(), &**t)).collect();
        let mut hash = Hashing(Sha256::new());
        step("hash the weights of", &self.path(), safetensors::write(&mut hash, &tensors))?;
        let digest: String = hash.0.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
        Ok(format!("{}-{digest}.safetensors", self.stem))
    }

    /// Creates a file that did not exist before, to be renamed to `name`.
    pub fn create(&self, storage: &mut dyn Storage, name: &str) -> io::Result<(PathBuf, Box<dyn SyncFile>)> {
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

    /// Removes temporary files of this module. Who holds the lock knows that nobody writes them any more.
    pub fn remove_abandoned(&self, storage: &mut dyn Storage) {
        for entry in self.files() {
            if entry.to_str().and_then(made_for).is_some_and(|name| self.is_own(name)) {
                let _ = storage.remove(&self.folder.join(entry));
            }
        }
    }

    /// Whether a file is named as the modules that share this one's lock, or as their weights.
    fn is_own(&self, name: &str) -> bool {
        name == self.name
            || self.is_own_weights(name)
            || Path::new(name).file_stem() == Some(OsStr::new(&self.stem))
    }

    /// Whether a name is that of a weights file which graphc writes for modules of this stem.
    pub fn is_own_weights(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.stem).and_then(|r| r.strip_prefix('-'));
        rest.is_some_and(|r| digest_of(r).is_some_and(|digest| r.starts_with(digest)))
    }

    /// The weights files that graphc wrote for the module that is there now.
    pub fn former_weights(&self) -> BTreeSet<String> {
        let limits = Limits::default().json;
        let bytes = read_file(&self.path(), limits.bytes).map(|(bytes, _)| bytes).unwrap_or_default();
        let root = json::parse(&bytes, &limits).ok();
        let named = root.iter().flat_map(|r| named_files(r));
        named.filter(|n| self.is_own_weights(n)).map(str::to_owned).collect()
    }

    /// Removes a weights file that no module of the folder mentions.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove_unreferenced(&self, storage: &mut dyn Storage, weights: &str) -> io::Result<()> {
        let Some(digest) = digest_of(weights) else { return Ok(()) };
        // Some writers of JSON escape other characters than these; weights of one content have the hash in common.
        let plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.', ' '].contains(&c);
        let mention = if self.stem.chars().all(plain) { weights } else { digest };
        let path = self.folder.join(weights);
        if path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        // A file that cannot be read may mention anything.
        let mentions = |name: OsString| module_mentions(&self.folder.join(name), mention).unwrap_or(true);
        if self.files().into_iter().any(mentions) { Ok(()) } else { storage.remove(&path) }
    }

    /// Names of what is in the folder.
    fn files(&self) -> BTreeSet<OsString> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|e| e.file_name()).collect()
    }
}

/// Whether a file may be a module (it begins as one, or is named as one) and holds this text.
fn module_mentions(path: &Path, mention: &str) -> io::Result<bool> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        // A link that leads nowhere, or a file that is gone.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let is_data = path.extension().and_then(OsStr::to_str).is_some_and(|e| DATA.contains(&e));
    if !metadata.is_file() || is_data {
        return Ok(false);
    }
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 16];
    let mut kept = 0;
    let mut first = path.extension().is_none_or(|e| e != "json");
    loop {
        let most = if first { BEGINNING } else { block.len() };
        let read = match file.read(&mut block[kept..most]) {
            Ok(0) => return Ok(false),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let text = &block[..kept + read];
        let bom = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if std::mem::take(&mut first) && !bom.trim_ascii_start().starts_with(b"{") {
            return Ok(false);
        }
        if text.windows(mention.len()).any(|w| w == mention.as_bytes()) {
            return Ok(true);
        }
        // The text may stand across two blocks.
        let end = text.len();
        kept = end.min(mention.len() - 1);
        block.copy_within(end - kept..end, 0);
    }
}

/// The twelve hexadecimal digits in the name of a weights file.
fn digest_of(weights: &str) -> Option<&str> {
    let digest = weights.strip_suffix(".safetensors")?;
    let digest = digest.rsplit_once('-').map_or(digest, |(_, d)| d);
    (digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digest)
}

/// The name that a temporary file `.NAME.PROCESS-NUMBER.tmp` was made for.
fn made_for(temporary: &str) -> Option<&str> {
    let (name, numbers) = temporary.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (process, number) = numbers.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(process) && digits(number)).then_some(name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights() {
        let target = Target { folder: ".".into(), name: "net-1.json".into(), stem: "net-1".into() };
        assert!(target.is_own_weights("net-1-0123456789ab.safetensors"));
        for name in [
            "net-1-0123456789.safetensors",
            "net-1-0123456789abc.safetensors",
            "net-1-0123456789ag.safetensors",
            "net-1-0123456789ab",
            "net-1-2-0123456789ab.safetensors",
            "net-0123456789ab.safetensors",
            "net-10123456789ab.safetensors",
            "net-1-safetensors",
        ] {
            assert!(!target.is_own_weights(name), "{name}");
        }
    }

    #[test]
    fn names_of_temporary_files() {
        let target = Target { folder: ".".into(), name: "net.json".into(), stem: "net".into() };
        let own = |name: &str| made_for(name).is_some_and(|n| target.is_own(n));
        assert!(own(".net.json.17-0.tmp") && own(".net-0123456789ab.safetensors.17-3.tmp"));
        for name in [".network.json.17-0.tmp", ".net.json.x-0.tmp", ".net.json.17.tmp", "net.json.1-0.tmp"] {
            assert!(!own(name), "{name}");
        }
    }
}
