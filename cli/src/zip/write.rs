//! Writes archives of stored entries. The same entries always make the same bytes: no clock is read.

use super::record::checked_name;
use super::{
    CENTRAL_HEADER, END, IN_ZIP64, LOCAL_HEADER, STORED, ZIP64_END, ZIP64_EXTRA, ZIP64_LOCATOR, ZipError,
    ZipErrorKind,
};
use flate2::Crc;
use std::collections::BTreeSet;

/// Version 4.5 of the format, the first with zip64.
const VERSION: u16 = 45;
/// The names are UTF-8.
const UTF8_FLAG: u16 = 1 << 11;
/// 1 January 1980, the first day that the format can express.
const DATE: u16 = 1 << 5 | 1;

/// Builds an archive in memory.
pub(crate) struct ZipWriter {
    out: Vec<u8>,
    directory: Vec<u8>,
    names: BTreeSet<String>,
    /// Sizes and offsets from here on go to zip64 fields.
    wide_from: u64,
}

/// An entry as it lies in the archive.
pub(super) struct Packed<'a> {
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) size: u64,
    pub(super) data: &'a [u8],
}

impl ZipWriter {
    pub(crate) fn new() -> ZipWriter {
        ZipWriter::widening_from(IN_ZIP64.into())
    }

    pub(super) fn widening_from(wide_from: u64) -> ZipWriter {
        ZipWriter { out: Vec::new(), directory: Vec::new(), names: BTreeSet::new(), wide_from }
    }

    /// Appends a stored entry.
    ///
    /// # Errors
    /// [`ZipErrorKind::Name`] and [`ZipErrorKind::Duplicate`], for what the reader would refuse.
    pub(crate) fn add(&mut self, name: &str, data: &[u8]) -> Result<(), ZipError> {
        let mut crc = Crc::new();
        crc.update(data);
        let packed = Packed { method: STORED, crc: crc.sum(), size: data.len() as u64, data };
        self.add_packed(name, &packed)
    }

    pub(super) fn add_packed(&mut self, name: &str, packed: &Packed<'_>) -> Result<(), ZipError> {
        let place = self.out.len();
        checked_name(place, name.as_bytes())?;
        let refused = |kind, message: &str, remedy| {
            let name = name.escape_debug();
            Err(ZipError::new(kind, place, format!("{message} \"{name}\""), remedy))
        };
        let Ok(name_length) = u16::try_from(name.len()) else {
            return refused(ZipErrorKind::Name, "a name of over 65,535 bytes:", "shorten it");
        };
        if !self.names.insert(name.to_owned()) {
            return refused(ZipErrorKind::Duplicate, "two entries are named", "rename one of the two");
        }
        let (offset, compressed) = (place as u64, packed.data.len() as u64);
        let wide = [offset, compressed, packed.size].iter().any(|&value| value >= self.wide_from);
        let narrow = |value: u64| if wide { IN_ZIP64 } else { value as u32 };
        let extra = |values: &[u64]| {
            let mut extra = Vec::new();
            if wide {
                extra.extend(ZIP64_EXTRA.to_le_bytes());
                extra.extend((8 * values.len() as u16).to_le_bytes());
                extra.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            extra
        };
        let local_extra = extra(&[packed.size, compressed]);
        let central_extra = extra(&[packed.size, compressed, offset]);

        // The fields that both headers share.
        let mut shared = Vec::new();
        for field in [VERSION, UTF8_FLAG, packed.method, 0, DATE] {
            shared.extend(field.to_le_bytes());
        }
        for field in [packed.crc, narrow(compressed), narrow(packed.size)] {
            shared.extend(field.to_le_bytes());
        }
        shared.extend(name_length.to_le_bytes());

        self.out.extend(LOCAL_HEADER.to_le_bytes());
        self.out.extend(&shared);
        self.out.extend((local_extra.len() as u16).to_le_bytes());
        self.out.extend(name.as_bytes());
        self.out.extend(local_extra);
        self.out.extend(packed.data);

        self.directory.extend(CENTRAL_HEADER.to_le_bytes());
        self.directory.extend(VERSION.to_le_bytes());
        self.directory.extend(shared);
        self.directory.extend((central_extra.len() as u16).to_le_bytes());
        // Length of the comment, disk, and three words of attributes.
        self.directory.extend([0; 10]);
        self.directory.extend(narrow(offset).to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.directory.extend(central_extra);
        Ok(())
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let start = self.out.len() as u64;
        let (entries, size) = (self.names.len() as u64, self.directory.len() as u64);
        self.out.append(&mut self.directory);
        let wide = start >= self.wide_from || size >= self.wide_from || entries >= u64::from(u16::MAX);
        if wide {
            let at = self.out.len() as u64;
            self.out.extend(ZIP64_END.to_le_bytes());
            self.out.extend(44u64.to_le_bytes());
            self.out.extend(VERSION.to_le_bytes());
            self.out.extend(VERSION.to_le_bytes());
            self.out.extend([0; 8]);
            for field in [entries, entries, size, start] {
                self.out.extend(field.to_le_bytes());
            }
            self.out.extend(ZIP64_LOCATOR.to_le_bytes());
            self.out.extend(0u32.to_le_bytes());
            self.out.extend(at.to_le_bytes());
            self.out.extend(1u32.to_le_bytes());
        }
        let count = if wide { u16::MAX } else { entries as u16 };
        let narrow = |value: u64| if wide { IN_ZIP64 } else { value as u32 };
        self.out.extend(END.to_le_bytes());
        self.out.extend([0; 4]);
        self.out.extend(count.to_le_bytes());
        self.out.extend(count.to_le_bytes());
        self.out.extend(narrow(size).to_le_bytes());
        self.out.extend(narrow(start).to_le_bytes());
        self.out.extend([0; 2]);
        self.out
    }
}
