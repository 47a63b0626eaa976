//! Saving, made to fail at every byte and every step.

use std::fs;
use std::io::Write;
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

    /// Giving up a note is tidying up, as removing is.
    fn note(&mut self, file: &mut File, text: &str) -> io::Result<()> {
        if self.dead || text.lines().count() > 1 {
            spend(&self.budget, STEP)?;
        }
        lock::write(file, text)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.dead {
            spend(&self.budget, STEP)?;
        }
        Disk.remove(path)
    }
}

/// A disk that syncs nothing, so that files are replaced as often as can be.
fn hasty() -> Failing {
    Failing { budget: std::rc::Rc::new(std::cell::Cell::new(usize::MAX)), dead: false }
}

fn claim_hastily(path: &Path) -> Claim {
    claim::claim_with(&mut hasty(), path).expect("nobody holds it")
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

fn save_failing(budget: usize, dead: bool, module: &Module, path: &Path) -> Result<(), SaveError> {
    let budget = std::rc::Rc::new(std::cell::Cell::new(budget));
    claim_hastily(path).save_to(&mut Failing { budget, dead }, module)
}

/// Saves over a module with every budget; returns the number of budgets that were too small.
fn fail_everywhere(dead: bool) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    let (old, new) = (module(1), module(2));
    save(&old, &path).expect("saved");
    let (before, foreign) = (names(folder.path()), "net-0123456789ab.safetensors");
    fs::write(folder.path().join(foreign), "of somebody else").expect("written");
    for budget in 0.. {
        let result = save_failing(budget, dead, &new, &path);
        let found = value(&path);
        let is_new = found == new.state[0].init;
        assert!(is_new || found == old.state[0].init, "{budget}");
        assert!(is_new || result.is_err(), "{budget}");
        let unsynced = matches!(result, Err(SaveError::Unsynced { .. }));
        assert!(!unsynced || is_new, "{budget}: {result:?}");
        assert!(dead || unsynced == (is_new && result.is_err()), "{budget}: {result:?}");
        let files = names(folder.path());
        // The former weights stay where the folder could not be synced: the former module may come back. The lock
        // stays with them, since it names them.
        let former = if unsynced { 2 } else { 0 };
        assert!(dead || files.len() == 3 + former, "{budget}: {files:?}");
        if result.is_ok() && files.len() == 3 {
            return budget;
        }
        // Whoever writes next removes what is left, and nothing else.
        drop(claim_hastily(&path));
        let files = names(folder.path());
        assert_eq!(files.len(), 3, "{budget}: {files:?}");
        assert_eq!(value(&path), found, "{budget}");
        if is_new {
            claim_hastily(&path).save_to(&mut hasty(), &old).expect("saved");
        }
        assert!(before.iter().all(|f| f.exists()), "{budget}: {:?}", names(folder.path()));
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
        let error = save_failing(budget, false, &module(1), &path).expect_err("a full disk");
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder is there").count(), 0);
    }
}

#[test]
fn temporary_files_are_removed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str| fs::write(folder.path().join(name), "x").expect("written");
    // A process that was killed may have had any number, also that of this one.
    let own = format!(".net.json.{}-7.tmp", std::process::id());
    let left = [".net.json.4294967295-0.tmp", ".net-0123456789ab.safetensors.17-0.tmp", &own];
    let others = [".network.json.4294967295-0.tmp", ".net.json.tmp", "net.json.1-0.tmp"];
    left.iter().chain(&others).for_each(|name| write(name));
    save(&module(1), folder.path().join("net.json")).expect("saved");
    assert!(left.iter().all(|name| !folder.path().join(name).exists()), "{:?}", names(folder.path()));
    assert!(others.iter().all(|name| folder.path().join(name).exists()), "{:?}", names(folder.path()));
}

#[test]
fn weights_that_anything_mentions_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("n\u{e9}t.json");
    save(&module(1), &path).expect("saved");
    let weights = names(folder.path()).into_iter().find(|f| *f != path).expect("there are weights");
    let text = fs::read_to_string(&path).expect("it is text");
    let escaped = text.replace('\u{e9}', "\\u00e9");
    let copies =
        [("copy.json", &text), ("net.model", &text), ("net.json.bak", &text), ("escaped.json", &escaped)];
    for (name, text) in copies {
        let copy = folder.path().join(name);
        fs::write(&copy, text).expect("written");
        save(&module(2), &path).expect("saved");
        assert!(weights.exists(), "{name}");
        load(&copy).expect("a whole module");
        fs::remove_file(&copy).expect("removed");
        save(&module(1), &path).expect("saved");
    }
    save(&module(2), &path).expect("saved");
    assert!(!weights.exists());
}

#[test]
fn one_claim_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    let mut first = claim(&path).expect("nobody holds it");
    let held = |path: &Path| match save(&module(1), path) {
        Err(SaveError::Held { holder, .. }) => holder,
        other => panic!("{other:?}"),
    };
    let holder = held(&path);
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
    // They would name their weights alike.
    held(&folder.path().join("net.model"));
    save(&module(1), folder.path().join("other.json")).expect("nobody holds it");
    first.save(&module(2)).expect("saved");
    first.save(&module(1)).expect("saved");
    drop(first);
    save(&module(3), &path).expect("nobody holds it");
    assert_eq!(names(folder.path()).len(), 4, "{:?}", names(folder.path()));
}

#[test]
fn what_is_no_lock_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, lock) = (folder.path().join("net.json"), folder.path().join(".net.lock"));
    fs::write(&lock, "precious").expect("written");
    let error = save(&module(1), &path).expect_err("no lock").to_string();
    assert!(error.contains(".net.lock") && error.contains("move it away"), "{error}");
    assert_eq!(fs::read_to_string(&lock).expect("text"), "precious");
    fs::remove_file(&lock).expect("removed");
    #[cfg(unix)]
    {
        let aim = folder.path().join("aim");
        fs::write(&aim, "precious").expect("written");
        std::os::unix::fs::symlink(&aim, &lock).expect("linked");
        save(&module(1), &path).expect_err("a link is no lock");
        assert_eq!(fs::read_to_string(&aim).expect("text"), "precious");
        fs::remove_file(&lock).expect("removed");
    }
    // The lock of a process that is gone, cut off in a name, holds nobody up.
    fs::write(&lock, "graphc 1 host\nnet-0123").expect("written");
    save(&module(1), &path).expect("saved");
    assert!(!lock.exists());
}

#[test]
fn a_reader_finds_a_whole_module_while_it_is_replaced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    let modules = [module(1), module(2)];
    save(&modules[0], &path).expect("saved");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut claim = claim_hastily(&path);
            for module in modules.iter().cycle() {
                claim.save_to(&mut hasty(), module).expect("saved");
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        let started = std::time::Instant::now();
        let mut failed = None;
        while failed.is_none() && started.elapsed() < std::time::Duration::from_secs(1) {
            failed = load(&path).err();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(failed.is_none(), "{}", failed.map(|e| e.to_string()).unwrap_or_default());
    });
}
