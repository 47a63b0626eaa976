//! Saving, made to fail at every byte and every step.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::storage::{Disk, Storage, SyncFile};
use super::*;
use crate::dtype::DType;
use crate::module::{StateDecl, StateRole};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The disk, until a budget is spent: a byte written costs one, any other step costs [`STEP`].
struct Failing {
    budget: std::rc::Rc<std::cell::Cell<usize>>,
    /// Whether failed attempts to tidy up fail as well, as after a crash.
    dead: bool,
}

const STEP: usize = 1;

struct FailingFile {
    file: Box<dyn SyncFile>,
    budget: std::rc::Rc<std::cell::Cell<usize>>,
}

fn spend(budget: &std::cell::Cell<usize>, cost: usize) -> io::Result<()> {
    match budget.get().checked_sub(cost) {
        Some(left) => {
            budget.set(left);
            Ok(())
        }
        None => {
            budget.set(0);
            Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"))
        }
    }
}

impl Write for FailingFile {
    /// Writes short where the budget ends inside.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.budget.get());
        if n == 0 && !bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        let n = self.file.write(&bytes[..n])?;
        spend(&self.budget, n)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SyncFile for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        spend(&self.budget, STEP)
    }
}

impl Storage for Failing {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SyncFile>> {
        spend(&self.budget, STEP)?;
        Ok(Box::new(FailingFile { file: Disk.create(path)?, budget: self.budget.clone() }))
    }

    fn sync(&mut self, file: &mut dyn SyncFile) -> io::Result<()> {
        file.sync()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.budget, STEP)?;
        Disk.rename(from, to)
    }

    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        spend(&self.budget, STEP)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.dead {
            spend(&self.budget, STEP)?;
        }
        Disk.remove(path)
    }
}

fn module(seed: usize) -> Module {
    let value = Tensor::from_fn(DType::U8, &[1100], |i| Scalar::I(((i + seed) % 251) as i128));
    let mut module = Module::default();
    module.state.push(StateDecl {
        name: "w".into(),
        role: StateRole::Param,
        ty: TensorType::fixed(DType::U8, &[1100]),
        init: Some(Arc::new(value)),
    });
    module
}

fn value(path: &Path) -> Option<Arc<Tensor>> {
    load(path).expect("a whole module is there at every instant").state[0].init.clone()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("the folder is there").map(|e| e.expect("an entry").path()).collect()
}

/// Saves over a module with every budget; returns the number of budgets that were too small.
fn fail_everywhere(dead: bool) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    let (old, new) = (module(1), module(2));
    save(&old, &path).expect("saved");
    let before = names(folder.path());
    for budget in 0.. {
        let cell = std::rc::Rc::new(std::cell::Cell::new(budget));
        let result = save_to(&mut Failing { budget: cell, dead }, &new, &path);
        let found = value(&path);
        let is_new = found == new.state[0].init;
        assert!(is_new || found == old.state[0].init, "{budget}");
        assert!(is_new || result.is_err(), "{budget}");
        let files = names(folder.path());
        // The former weights stay where the folder could not be synced: the former module may come back.
        let former = usize::from(is_new && result.is_err());
        assert!(dead || files.len() == 2 + former, "{budget}: {files:?}");
        if result.is_ok() && files.len() == 2 {
            return budget;
        }
        if is_new {
            save(&old, &path).expect("saved");
        }
        for left in names(folder.path()).iter().filter(|f| !before.contains(f)) {
            fs::remove_file(left).expect("what a crash left can be removed");
        }
    }
    0
}

#[test]
fn a_failure_at_any_byte_and_step_leaves_a_whole_module() {
    let steps = fail_everywhere(false);
    assert!(steps > 1500, "{steps} budgets are fewer than the bytes that are written");
    assert!(fail_everywhere(true) >= steps);
}

#[test]
fn a_first_save_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    for budget in (0..1500).step_by(7) {
        let budget = std::rc::Rc::new(std::cell::Cell::new(budget));
        let error =
            save_to(&mut Failing { budget, dead: false }, &module(1), &path).expect_err("a full disk");
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder is there").count(), 0);
    }
}

#[test]
fn files_of_dead_processes_are_removed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dead = folder.path().join(".net.json.4294967295-0.tmp");
    let alive = folder.path().join(format!(".net.json.{}-7.tmp", std::process::id()));
    for f in [&dead, &alive] {
        fs::write(f, "x").expect("written");
    }
    save(&module(1), folder.path().join("net.json")).expect("saved");
    assert_eq!(dead.exists(), !Path::new("/proc/self").exists());
    assert!(alive.exists());
}
