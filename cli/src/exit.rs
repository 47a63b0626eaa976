//! Exit codes, and the errors that end with one.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use graphc::{Error, ErrorKind};

/// The codes of the command line's contract but for 0, which no failure ends with; the numbers above 64 are those of BSD's `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A check or a comparison failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A model or data are not valid.
    Data = 65,
    /// An input file does not exist.
    NotFound = 66,
    /// The device is not available.
    Device = 69,
    /// A bug.
    Internal = 70,
    /// An output file cannot be created.
    Create = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Stopped by the user; it can go on from there.
    Stopped = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What is wrong, where, and how to mend it.
    pub message: String,
}

/// Result with [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Data are not valid.
    pub fn data(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Data, message)
    }

    /// A file could not be read.
    pub fn reading(path: &Path, e: &io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Exit::NotFound,
                format!("{}: there is no such file; check the path", path.display()),
            ),
            io::ErrorKind::IsADirectory => {
                Failure::new(Exit::Io, format!("{}: is a folder; give a file in it", path.display()))
            }
            _ => Failure::new(Exit::Io, format!("{}: cannot be read: {e}", path.display())),
        }
    }

    /// The results could not be written to the standard output.
    pub fn printing(e: &io::Error) -> Failure {
        Failure::new(Exit::Io, format!("the results cannot be written to the standard output: {e}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let exit = match e.kind() {
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Data => Exit::Data,
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::Device => Exit::Device,
            ErrorKind::Internal => Exit::Internal,
            ErrorKind::Create => Exit::Create,
            ErrorKind::Io => Exit::Io,
        };
        Failure::new(exit, e.to_string())
    }
}
