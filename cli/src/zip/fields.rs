//! Reads the fields of the archive's tables.

use super::ZipError;

/// A cursor over little-endian fields.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], ZipError> {
        let found = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        match found {
            Some(found) => {
                self.at += length;
                Ok(found)
            }
            None => Err(ZipError::damaged(
                self.at.min(self.bytes.len()),
                "the archive ends inside one of its tables",
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ZipError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn skip(&mut self, length: usize) -> Result<(), ZipError> {
        self.take(length).map(drop)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ZipError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ZipError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ZipError> {
        self.array().map(u64::from_le_bytes)
    }
}
