//! The part of the zip format (PKWARE APPNOTE 6.3) that `.npz` files use: stored and deflated entries, with zip64.
//!
//! The central directory is the only authority; a local header that contradicts it, entries that share bytes, and
//! sizes beyond the limits are refused before anything is inflated. Nothing is ever extracted to the file system.

mod directory;
mod fields;
mod record;
#[cfg(test)]
mod tests;
mod write;

use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::borrow::Cow;
use std::fmt;

pub(crate) use directory::read_directory;
pub(crate) use write::{Contents, ZipWriter};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
const ZIP64_EXTRA: u16 = 1;
/// In a 32-bit field: the value stands in the zip64 fields.
const IN_ZIP64: u32 = u32::MAX;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// The class of a [`ZipError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZipErrorKind {
    /// The file is no zip archive.
    NotZip,
    /// The archive's tables are cut off or contradict each other.
    Damaged,
    /// Encryption, a compression method other than deflate, or several disks.
    Unsupported,
    /// A name that is absolute, climbs out of its folder, or is no text.
    Name,
    /// Two entries of one name.
    Duplicate,
    /// More entries or bytes than the limits allow.
    Limit,
    /// The bytes of an entry do not inflate to the size and checksum declared.
    Contents,
}

/// A refused archive: what is wrong, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZipError {
    /// The class of the error.
    pub kind: ZipErrorKind,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Byte offset in the archive; at most its length.
    pub offset: usize,
    /// How to mend it, in one sentence without a full stop.
    pub remedy: &'static str,
}

impl ZipError {
    fn new(kind: ZipErrorKind, offset: usize, message: impl Into<String>, remedy: &'static str) -> ZipError {
        ZipError { kind, message: message.into(), offset, remedy }
    }

    fn damaged(offset: usize, message: impl Into<String>) -> ZipError {
        const REMEDY: &str = "the archive is cut off, damaged or forged: write it again";
        ZipError::new(ZipErrorKind::Damaged, offset, message, REMEDY)
    }

    fn contents(offset: usize, message: impl Into<String>) -> ZipError {
        const REMEDY: &str = "the archive is damaged or forged: write it again";
        ZipError::new(ZipErrorKind::Contents, offset, message, REMEDY)
    }
}

impl fmt::Display for ZipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}; {}", self.offset, self.message, self.remedy)
    }
}

impl std::error::Error for ZipError {}

/// What an archive may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZipLimits {
    /// Number of entries.
    pub entries: usize,
    /// Inflated bytes of one entry.
    pub entry_bytes: u64,
    /// Inflated bytes of all entries together.
    pub total_bytes: u64,
}

impl Default for ZipLimits {
    fn default() -> ZipLimits {
        ZipLimits { entries: 10_000, entry_bytes: 4 << 30, total_bytes: 8 << 30 }
    }
}

/// One file of an archive, checked against the directory and the limits but not inflated yet.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    deflated: bool,
    crc: u32,
    /// The size when inflated, as declared.
    size: usize,
    data: &'a [u8],
    /// Offset of `data` in the archive.
    offset: usize,
}

impl<'a> Entry<'a> {
    /// The contents, of exactly the declared size and checksum. Memory grows with what is really inflated, never with
    /// what is declared.
    pub(crate) fn contents(&self) -> Result<Cow<'a, [u8]>, ZipError> {
        let contents = if self.deflated { Cow::Owned(self.inflate()?) } else { Cow::Borrowed(self.data) };
        let mut crc = Crc::new();
        crc.update(&contents);
        if crc.sum() != self.crc {
            return Err(ZipError::contents(
                self.offset,
                format!("the checksum of {} does not match its bytes", self.name),
            ));
        }
        Ok(contents)
    }

    fn inflate(&self) -> Result<Vec<u8>, ZipError> {
        const STEP: usize = 1 << 20;
        let refused = |what: &str| {
            let message = format!("{} {what}", self.name);
            Err(ZipError::contents(self.offset, message))
        };
        let mut inflater = Decompress::new(false);
        let mut out = Vec::new();
        let mut used = 0;
        loop {
            // One byte beyond the declared size is enough to see that there is more.
            let room = (self.size - out.len()).saturating_add(1).min(STEP.max(out.len()));
            if out.try_reserve(room).is_err() {
                return Err(ZipError::new(
                    ZipErrorKind::Limit,
                    self.offset,
                    format!("no memory for the {} bytes of {}", self.size, self.name),
                    "free memory, or split the archive",
                ));
            }
            let before = (used, out.len());
            let status = inflater.decompress_vec(&self.data[used..], &mut out, FlushDecompress::None);
            let Ok(status) = status else {
                return refused("does not inflate: its compressed bytes are not deflate data");
            };
            used = usize::try_from(inflater.total_in()).unwrap_or(self.data.len());
            if out.len() > self.size {
                return refused("inflates to more bytes than declared");
            }
            match status {
                Status::StreamEnd if out.len() < self.size => {
                    return refused("inflates to fewer bytes than declared");
                }
                Status::StreamEnd if used < self.data.len() => {
                    return refused("has bytes after its compressed data");
                }
                Status::StreamEnd => return Ok(out),
                Status::Ok | Status::BufError if before == (used, out.len()) => {
                    return refused("ends inside its compressed data");
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
}
