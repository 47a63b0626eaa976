//! The steps of saving that can fail, behind a trait so that tests can make each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// An open file whose bytes can be forced to the disk.
pub trait SyncFile: Write {
    /// Returns when everything written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file system as saving sees it.
pub trait Storage {
    /// Creates a file that does not exist yet.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SyncFile>>;
    /// Forces a file's bytes to the disk.
    fn sync(&mut self, file: &mut dyn SyncFile) -> io::Result<()>;
    /// Gives a file another name, at once, in place of what had that name.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Forces the names in a folder to the disk.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    /// Writes an open file anew and forces it to the disk.
    fn note(&mut self, file: &mut File, text: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The file system.
pub struct Disk;

impl SyncFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Storage for Disk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SyncFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn sync(&mut self, file: &mut dyn SyncFile) -> io::Result<()> {
        file.sync()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(unix)]
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    #[cfg(not(unix))]
    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        // Folders cannot be opened there, and renames are journalled.
        Ok(())
    }

    fn note(&mut self, file: &mut File, text: &str) -> io::Result<()> {
        super::lock::write(file, text)?;
        file.sync_data()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
