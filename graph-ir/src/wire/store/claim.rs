//! Saving: a module's file is claimed, and then replaced as often as its holder likes.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use super::super::encode::Plan;
use super::super::safetensors;
use super::lock::Lock;
use super::storage::{Disk, Storage};
use super::target::Target;
use super::{SaveError, step};
use crate::module::Module;

/// The right to write a module's file, which no other process has until this is dropped or the process ends, in
/// whatever way.
pub struct Claim {
    target: Target,
    lock: Lock,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.target.path()).finish()
    }
}

/// Claims a module's file, whether it is there or not. Who reads a module, changes it and writes it claims it before
/// it is read. Reading needs no claim.
///
/// What a process left that was killed while it saved is removed: temporary files, and weights that it wrote or gave
/// up and that no module of the folder mentions.
///
/// # Errors
/// [`SaveError::Held`] at once if another process, or another claim of this one, holds the file; [`SaveError::Io`] if
/// the path cannot be written, or the file system keeps no locks.
pub fn claim(path: impl AsRef<Path>) -> Result<Claim, SaveError> {
    claim_with(&mut Disk, path.as_ref())
}

pub(super) fn claim_with(storage: &mut dyn Storage, path: &Path) -> Result<Claim, SaveError> {
    let target = Target::new(path)?;
    let lock = Lock::take(&target)?;
    let mut claim = Claim { target, lock };
    claim.target.remove_abandoned(storage);
    // A rename that is not on the disk yet may be undone by a failure of power: then the weights count that are
    // given up now.
    if !claim.lock.doubtful().is_empty() && storage.sync_folder(&claim.target.folder).is_ok() {
        claim.remove_doubtful(storage);
    }
    Ok(claim)
}

impl Claim {
    /// Replaces the module and its weights.
    ///
    /// # Errors
    /// Those of [`super::save`] except [`SaveError::Held`].
    pub fn save(&mut self, module: &Module) -> Result<(), SaveError> {
        self.save_to(&mut Disk, module)
    }

    pub(super) fn save_to(&mut self, storage: &mut dyn Storage, module: &Module) -> Result<(), SaveError> {
        let target = &self.target;
        let plan = Plan::new(module).map_err(SaveError::Module)?;
        let weights = match plan.tensors() {
            [] => None,
            _ => Some(target.weights_name(&plan)?),
        };
        // Whatever ends this process, the next one knows what may be left over. Which of them are needed the module
        // that is there then tells.
        let (former, new): (BTreeSet<_>, BTreeSet<_>) =
            (target.former_weights(), weights.iter().cloned().collect());
        let mut doubtful = if former == new { BTreeSet::new() } else { &former | &new };
        doubtful.extend(self.lock.doubtful().iter().cloned());
        self.lock.note(storage, doubtful.into_iter().collect())?;
        let written = self.write(storage, &plan, weights.as_deref());
        if !matches!(written, Err(SaveError::Unsynced { .. })) {
            self.remove_doubtful(storage);
        }
        written
    }

    fn write(
        &self,
        storage: &mut dyn Storage,
        plan: &Plan<'_>,
        weights: Option<&str>,
    ) -> Result<(), SaveError> {
        let Target { folder, name, .. } = &self.target;
        if let Some(name) = weights {
            let tensors: Vec<_> = plan.tensors().iter().map(|(n, t)| (n.as_str(), &**t)).collect();
            self.replace(storage, name, &mut |out| safetensors::write(out, &tensors))?;
            step("sync the folder of", &folder.join(name), storage.sync_folder(folder))?;
        }
        let text = plan.text(weights).map_err(SaveError::Module)?;
        self.replace(storage, name, &mut |out| out.write_all(text.as_bytes()))?;
        storage.sync_folder(folder).map_err(|source| SaveError::Unsynced { path: self.target.path(), source })
    }

    /// Writes a file under a temporary name, syncs it, and gives it its name.
    fn replace(
        &self,
        storage: &mut dyn Storage,
        name: &str,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), SaveError> {
        let path = self.target.folder.join(name);
        let (temporary, file) = step("create a file beside", &path, self.target.create(storage, name))?;
        let mut file = io::BufWriter::with_capacity(1 << 18, file);
        let written = step("write", &path, fill(&mut file).and_then(|()| file.flush()));
        let done = written
            .and_then(|()| step("sync", &path, storage.sync(&mut **file.get_mut())))
            .and_then(|()| step("replace", &path, storage.rename(&temporary, &path)));
        if done.is_err() {
            // The error that counts is the one that led here.
            let _ = storage.remove(&temporary);
        }
        done
    }

    /// Removes the doubtful weights that no module mentions; those that cannot be removed stay noted.
    fn remove_doubtful(&mut self, storage: &mut dyn Storage) {
        let doubtful = self.lock.doubtful().to_vec();
        let left = doubtful.into_iter().filter(|w| self.target.remove_unreferenced(storage, w).is_err());
        let left = left.collect();
        // What stays noted for nothing is looked at once more.
        let _ = self.lock.note(storage, left);
    }
}
