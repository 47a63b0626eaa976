//! The weights files beside a module: opened with care, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Report, shown};
use super::json::hidden_character;
use super::safetensors::{self, Weights};
use super::v1::Text;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// What keeps a text from being a file name inside the module's folder.
pub(super) fn file_name_problem(name: &str) -> Option<&'static str> {
    let outside = name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(['/', '\\', ':'])
        || hidden_character(name).is_some();
    outside.then_some("it must be the plain name of a file in the module's own folder")
}

/// Opens a regular file of a folder; links, devices and pipes are refused.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let refused = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
    let before = path.symlink_metadata()?;
    if before.is_symlink() {
        return refused("it is a symbolic link; put the file itself there");
    }
    if !before.is_file() {
        return refused("it is not a regular file");
    }
    let file = File::open(path)?;
    if !same_file(&before, &file.metadata()?) {
        return refused("it was replaced while it was opened; try again");
    }
    Ok(file)
}

#[cfg(unix)]
pub(super) fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    a.dev() == b.dev() && a.ino() == b.ino()
}

#[cfg(not(unix))]
pub(super) fn same_file(_: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    b.is_file()
}

/// The weights files of one module.
pub(super) struct Folder<'f> {
    path: Option<&'f Path>,
    /// Bytes of tensors that may still be read.
    bytes_left: usize,
    /// `None` for a file that was reported as unreadable.
    files: BTreeMap<String, Option<Weights<File>>>,
    used: BTreeMap<String, BTreeSet<String>>,
    first: BTreeMap<String, usize>,
}

impl<'f> Folder<'f> {
    /// Without a path no weights are read, and never more than so many bytes.
    pub fn new(path: Option<&'f Path>, bytes: usize) -> Folder<'f> {
        Folder {
            path,
            bytes_left: bytes,
            files: BTreeMap::new(),
            used: BTreeMap::new(),
            first: BTreeMap::new(),
        }
    }

    /// Whether no weights are read.
    pub fn is_absent(&self) -> bool {
        self.path.is_none()
    }

    /// Reads a tensor of the expected type; problems go to the report.
    pub fn tensor(
        &mut self,
        report: &mut Report<'_>,
        (file, tensor, sha256): (Text<'_>, Text<'_>, Option<Text<'_>>),
        ty: &TensorType,
    ) -> Option<Arc<Tensor>> {
        if let Some(rule) = file_name_problem(file.text) {
            let message = format!("\"file\" is `{}`, but {rule}", shown(file.text));
            report.problem(file.at, message, Some("put the weights beside the module".into()));
            return None;
        }
        let path = self.path?;
        self.used.entry(file.text.into()).or_default().insert(tensor.text.into());
        self.first.entry(file.text.into()).or_insert(file.at);
        let opened = self.files.entry(file.text.into()).or_insert_with(|| {
            let opened = open_regular(&path.join(file.text)).map_err(|e| format!("cannot be opened: {e}"));
            opened
                .and_then(Weights::open)
                .map_err(|e| report.problem(file.at, weights(file.text, &e), None))
                .ok()
        });
        let opened = opened.as_mut()?;
        let Some(entry) = opened.entry(tensor.text) else {
            let message = weights(file.text, &format!("has no tensor `{}`", shown(tensor.text)));
            let names: Vec<&str> = opened.entries().iter().map(|e| e.name.as_str()).collect();
            let help = alias(tensor.text, &names).map(|n| format!("it has `{}`", shown(n)));
            let help = help.or_else(|| report.did_you_mean(tensor.text, names.iter().copied()));
            report.problem(tensor.at, message, help);
            return None;
        };
        let found = TensorType::fixed(entry.dtype, &entry.shape);
        if found != *ty {
            let message = format!(
                "tensor `{}` of {} is {found}, but {ty} is declared",
                shown(tensor.text),
                shown(file.text)
            );
            report.problem(tensor.at, message, Some("correct the type, or give the right weights".into()));
            return None;
        }
        let Some(left) = self.bytes_left.checked_sub(entry.bytes()) else {
            let what = format!(
                "has tensor `{}` of {} bytes, but only {} more bytes of weights may be read",
                shown(tensor.text),
                entry.bytes(),
                self.bytes_left
            );
            let help = Some("use smaller weights, or allow more memory".into());
            report.problem(tensor.at, weights(file.text, &what), help);
            return None;
        };
        self.bytes_left = left;
        let value = match opened.read(tensor.text) {
            Ok(value) => value,
            Err(e) => {
                report.problem(tensor.at, weights(file.text, &e), None);
                return None;
            }
        };
        if let Some(sha) = sha256
            && !sha.text.eq_ignore_ascii_case(&safetensors::sha256(value.bytes()))
        {
            let message = format!(
                "tensor `{}` of {} was changed: its SHA-256 is not the one declared",
                shown(tensor.text),
                shown(file.text)
            );
            report.problem(
                sha.at,
                message,
                Some("restore the file from a good copy, or save the module again".into()),
            );
            return None;
        }
        Some(Arc::new(value))
    }

    /// Reports the tensors of opened files that nothing refers to.
    pub fn report_unused(&self, report: &mut Report<'_>) {
        for (file, weights) in &self.files {
            let used = &self.used[file];
            for entry in weights.iter().flat_map(|w| w.entries()).filter(|e| !used.contains(&e.name)) {
                let message = format!(
                    "{} holds the tensor `{}`, which nothing refers to",
                    shown(file),
                    shown(&entry.name)
                );
                report.problem(self.first[file], message, Some("remove it, or refer to it".into()));
            }
        }
    }
}

fn weights(file: &str, what: &str) -> String {
    format!("weights file {} {what}", shown(file))
}

/// A tensor whose name differs by leading or trailing components only, as when a model was wrapped.
fn alias<'n>(wanted: &str, names: &[&'n str]) -> Option<&'n str> {
    let suffix =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with(['.', '/']));
    names.iter().copied().find(|n| suffix(n, wanted) || suffix(wanted, n))
}
