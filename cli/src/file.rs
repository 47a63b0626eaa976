//! Output files: checked before the work begins, complete or not there at all.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use graphc::file::Claim;

use crate::exit::{Exit, Failure, Result};

/// Claims the file that a model is written to, before anything is read that goes into it. The file must be none of the
/// inputs.
pub fn claim<'p>(path: &Path, inputs: impl IntoIterator<Item = &'p Path>) -> Result<Claim> {
    Destination::new(path, inputs)?;
    Ok(graphc::file::claim(path)?)
}

/// A file that will be written.
#[derive(Clone, Debug)]
pub struct Destination {
    path: PathBuf,
    folder: PathBuf,
}

impl Destination {
    /// Checks that the file can be created, and that it is none of the inputs.
    pub fn new<'p>(path: &Path, inputs: impl IntoIterator<Item = &'p Path>) -> Result<Destination> {
        let refused =
            |why: &str| Failure::new(Exit::Create, format!("{}: {why}; nothing was changed", path.display()));
        match path.symlink_metadata() {
            Ok(m) if m.is_dir() => return Err(refused("is a folder; give the name of a file")),
            Ok(m) if m.is_symlink() => {
                return Err(refused("is a symbolic link; give the file that it leads to"));
            }
            Ok(m) if !m.is_file() => return Err(refused("exists and is not a regular file")),
            Ok(m) => {
                if inputs.into_iter().any(|i| i.metadata().is_ok_and(|i| same_file(&i, &m))) {
                    return Err(refused("is also an input of this command; write to another file"));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(refused(&format!("cannot be written: {e}"))),
        }
        if path.file_name().is_none() {
            return Err(refused("is not the name of a file"));
        }
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
            _ => PathBuf::from("."),
        };
        // A file without a name tells whether there can be one, and leaves nothing behind.
        tempfile::tempfile_in(&folder).map_err(|e| refused(&format!("cannot be created: {e}")))?;
        Ok(Destination { path: path.to_owned(), folder })
    }

    /// Writes the file under another name as `fill` says, syncs it, and gives it its own. An error of `fill` leaves the file as it was
    /// before, as does an error of writing.
    pub fn write(&self, fill: &mut dyn FnMut(&mut dyn Write) -> Result<io::Result<()>>) -> Result<()> {
        let failed = |e: io::Error| {
            let message =
                format!("{}: writing failed: {e}; the file is as it was before", self.path.display());
            Failure::new(Exit::Io, message)
        };
        let mut file = self.temporary().map_err(failed)?;
        let mut out = BufWriter::new(&mut file);
        fill(&mut out)?.and_then(|()| out.flush()).map_err(failed)?;
        drop(out);
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|e| failed(e.error))?;
        // Not every system lets a folder be opened or synced; the file is complete either way.
        let Ok(folder) = File::open(&self.folder) else { return Ok(()) };
        match folder.sync_all() {
            Err(e) if !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                let message = format!(
                    "{}: the new file is in place, but its folder cannot be synced: {e}; after a failure of power the former file may be back",
                    self.path.display()
                );
                Err(Failure::new(Exit::Io, message))
            }
            _ => Ok(()),
        }
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".graphc-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any new file: the process's mask takes away what it should.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        builder.tempfile_in(&self.folder)
    }
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len() && a.modified().ok() == b.modified().ok() && a.created().ok() == b.created().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for text in ["one", "two"] {
            let destination = Destination::new(&path, []).unwrap();
            destination.write(&mut |out| Ok(out.write_all(text.as_bytes()))).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_must_not_be_written_is_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        fs::write(&input, "x").unwrap();
        let missing = folder.path().join("missing/out");
        for (path, part) in [
            (folder.path(), "is a folder"),
            (input.as_path(), "also an input"),
            (missing.as_path(), "cannot be created"),
            (Path::new("/dev/null"), "not a regular file"),
        ] {
            let failure = Destination::new(path, [input.as_path()]).unwrap_err();
            assert_eq!(failure.exit, Exit::Create);
            assert!(failure.message.contains(part), "{failure}");
        }
        assert_eq!(fs::read_to_string(&input).unwrap(), "x");
    }
}
