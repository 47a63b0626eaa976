//! The lock of a module's files: a file beside them, locked in the system as long as its process has it open.
//!
//! The system ends a lock with its process, so that the file that a killed one leaves holds nobody up. What the file
//! says is for people, who holds it, and for the next one that locks it: which weights files a save that may not have
//! come to its end writes or gives up.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::folder::same_file;
use super::storage::Storage;
use super::target::Target;
use super::{SaveError, step};

/// First word of the file.
const MARK: &str = "graphc";

/// Most bytes of the file that are read.
const MOST: u64 = 1 << 16;

/// How often a lock is tried for that others take and give back at the same time.
const ATTEMPTS: usize = 1000;

/// How long a holder may take to write its name.
const PATIENCE: Duration = Duration::from_millis(50);

/// A lock that this process has.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Weights files that nothing may need any more, as the file lists them.
    doubtful: Vec<String>,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(target: &Target) -> Result<Lock, SaveError> {
        let path = target.lock_path();
        let failed = |source| SaveError::Io { step: "lock", path: path.clone(), source };
        for _ in 0..ATTEMPTS {
            let Some(mut file) = open(&path).map_err(failed)? else { continue };
            let taken = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            };
            // Whoever held it before may have removed it after it was opened here.
            if !is_at(&path, &file) {
                continue;
            }
            if !taken {
                return Err(SaveError::Held { path: target.path(), holder: holder(&path) });
            }
            let text = read(&mut file).map_err(failed)?;
            if !text.is_empty() && text.split_whitespace().next() != Some(MARK) {
                let message = "a file that is no lock of graphc has its name; move it away";
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, message)));
            }
            // A line that was cut off names no weights file.
            let names = text.lines().skip(1).filter(|name| target.is_own_weights(name));
            let doubtful: Vec<String> = names.map(str::to_owned).collect();
            let text = text_of(&doubtful);
            return match write(&mut file, &text) {
                Ok(()) => Ok(Lock { file, path, doubtful }),
                Err(source) => Err(failed(source)),
            };
        }
        Err(failed(io::Error::new(io::ErrorKind::TimedOut, "others lock it all the time; try again")))
    }

    /// Weights files that nothing may need any more.
    pub fn doubtful(&self) -> &[String] {
        &self.doubtful
    }

    /// Notes, on the disk, which weights files nothing may need any more from here on.
    pub fn note(&mut self, storage: &mut dyn Storage, doubtful: Vec<String>) -> Result<(), SaveError> {
        if doubtful == self.doubtful {
            return Ok(());
        }
        step("note weights in", &self.path, storage.note(&mut self.file, &text_of(&doubtful)))?;
        self.doubtful = doubtful;
        Ok(())
    }
}

impl Drop for Lock {
    /// Gives the lock back. The file stays where it has something to say to the next one.
    fn drop(&mut self) {
        if self.doubtful.is_empty() && is_at(&self.path, &self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

/// Opens the file, or creates it; `None` if it vanished in between.
fn open(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
        Ok(file) => return Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    match path.symlink_metadata() {
        Ok(m) if m.is_file() => {}
        Ok(_) => {
            let message = "it is not a regular file; move it away";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_at(path: &Path, file: &File) -> bool {
    path.symlink_metadata().is_ok_and(|m| file.metadata().is_ok_and(|f| same_file(&m, &f)))
}

fn text_of(doubtful: &[String]) -> String {
    let mut text = format!("{MARK} {} {}\n", std::process::id(), host());
    for name in doubtful {
        text += name;
        text.push('\n');
    }
    text
}

/// Writes an open file anew. At no instant does it lack a line that stood in it and stands in the new text.
pub(super) fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Who holds a lock, as its file says.
fn holder(path: &Path) -> String {
    let asked = std::time::Instant::now();
    loop {
        let text = File::open(path).and_then(|mut f| read(&mut f)).unwrap_or_default();
        if let Some(holder) = text.lines().next().filter(|_| text.contains('\n')).and_then(named) {
            return holder;
        }
        if asked.elapsed() > PATIENCE {
            return "another process".into();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// "graphc 17 host" in words.
fn named(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (mark, process, host) = (words.next()?, words.next()?.parse::<u32>().ok()?, words.next()?);
    (mark == MARK && is_host(host)).then(|| format!("process {process} on {host}"))
}

fn is_host(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    (1..=255).contains(&name.len()) && name.chars().all(allowed)
}

/// The name of this machine, as far as the system tells it to everybody.
fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let names = [kernel, std::env::var("HOSTNAME").ok(), std::env::var("COMPUTERNAME").ok()];
    let known = names.into_iter().flatten().map(|n| n.trim().to_owned()).find(|n| is_host(n));
    known.unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders() {
        assert_eq!(named("graphc 17 host-1.example"), Some("process 17 on host-1.example".into()));
        for line in ["", "graphc", "graphc x host", "other 17 host", "graphc 17 ho\x1b[31mst", "graphc 17"] {
            assert_eq!(named(line), None, "{line:?}");
        }
        assert!(is_host(&host()));
    }
}
