//! Writes archives of stored entries. The same entries always make the same bytes: no clock is read.

use super::record::checked_name;
use super::{
    CENTRAL_HEADER, END, IN_ZIP64, LOCAL_HEADER, STORED, ZIP64_END, ZIP64_EXTRA, ZIP64_LOCATOR, ZipError,
    ZipErrorKind,
};
use flate2::Crc;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Version 4.5 of the format, the first with zip64.
const VERSION: u16 = 45;
/// The names are UTF-8.
const UTF8_FLAG: u16 = 1 << 11;
/// 1 January 1980, the first day that the format can express.
const DATE: u16 = 1 << 5 | 1;

/// Bytes that are made in pieces, each time the same, so that large ones need not be held beside what they are made of.
pub(crate) trait Contents {
    /// The number of bytes.
    fn size(&self) -> u64;
    /// Gives the bytes in order.
    fn send(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

impl Contents for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn send(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        to(self)
    }
}

/// Writes an archive as its entries come.
pub(crate) struct ZipWriter<W> {
    out: W,
    /// Bytes that were written.
    at: u64,
    /// Why no more is written.
    failed: Option<io::Error>,
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
    pub(super) data: &'a dyn Contents,
}

impl<W: Write> ZipWriter<W> {
    pub(crate) fn new(out: W) -> ZipWriter<W> {
        ZipWriter::widening_from(out, IN_ZIP64.into())
    }

    pub(super) fn widening_from(out: W, wide_from: u64) -> ZipWriter<W> {
        let (directory, names) = (Vec::new(), BTreeSet::new());
        ZipWriter { out, at: 0, failed: None, directory, names, wide_from }
    }

    /// Appends a stored entry. That writing failed is told by [`ZipWriter::finish`].
    ///
    /// # Errors
    /// [`ZipErrorKind::Name`] and [`ZipErrorKind::Duplicate`], for what the reader would refuse.
    pub(crate) fn add(&mut self, name: &str, data: &dyn Contents) -> Result<(), ZipError> {
        let mut crc = Crc::new();
        let read = data.send(&mut |piece| {
            crc.update(piece);
            Ok(())
        });
        if let Err(e) = read {
            self.failed.get_or_insert(e);
        }
        let packed = Packed { method: STORED, crc: crc.sum(), size: data.size(), data };
        self.add_packed(name, &packed)
    }

    /// Writes a part and counts its bytes.
    fn put(&mut self, part: &[u8]) -> io::Result<()> {
        self.at += part.len() as u64;
        self.out.write_all(part)
    }

    pub(super) fn add_packed(&mut self, name: &str, packed: &Packed<'_>) -> Result<(), ZipError> {
        let place = usize::try_from(self.at).unwrap_or(usize::MAX);
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
        let (offset, compressed) = (self.at, packed.data.size());
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

        let mut header = LOCAL_HEADER.to_le_bytes().to_vec();
        header.extend(&shared);
        header.extend((local_extra.len() as u16).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(local_extra);
        if self.failed.is_none() {
            self.failed =
                self.put(&header).and_then(|()| packed.data.send(&mut |piece| self.put(piece))).err();
        }

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
    ///
    /// # Errors
    /// The first one of writing.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        let start = self.at;
        let (entries, size) = (self.names.len() as u64, self.directory.len() as u64);
        let mut end = std::mem::take(&mut self.directory);
        let wide = start >= self.wide_from || size >= self.wide_from || entries >= u64::from(u16::MAX);
        if wide {
            let at = start + size;
            end.extend(ZIP64_END.to_le_bytes());
            end.extend(44u64.to_le_bytes());
            end.extend(VERSION.to_le_bytes());
            end.extend(VERSION.to_le_bytes());
            end.extend([0; 8]);
            for field in [entries, entries, size, start] {
                end.extend(field.to_le_bytes());
            }
            end.extend(ZIP64_LOCATOR.to_le_bytes());
            end.extend(0u32.to_le_bytes());
            end.extend(at.to_le_bytes());
            end.extend(1u32.to_le_bytes());
        }
        let count = if wide { u16::MAX } else { entries as u16 };
        let narrow = |value: u64| if wide { IN_ZIP64 } else { value as u32 };
        end.extend(END.to_le_bytes());
        end.extend([0; 4]);
        end.extend(count.to_le_bytes());
        end.extend(count.to_le_bytes());
        end.extend(narrow(size).to_le_bytes());
        end.extend(narrow(start).to_le_bytes());
        end.extend([0; 2]);
        self.put(&end)?;
        Ok(self.out)
    }
}
