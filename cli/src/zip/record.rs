//! One record of the directory, and what is refused in it.

use super::fields::Fields;
use super::{CENTRAL_HEADER, DEFLATED, IN_ZIP64, STORED, ZIP64_EXTRA, ZipError, ZipErrorKind};

/// Deflate cannot make more of a byte than this (258 bytes of two bits), so that a larger claim is a lie.
const LARGEST_RATIO: u64 = 1032;

/// One record of the directory.
pub(super) struct Record {
    /// Offset of the record itself.
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) compressed: u64,
    pub(super) size: u64,
    pub(super) local: u64,
}

impl Record {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Record, ZipError> {
        let place = fields.at;
        if fields.u32()? != CENTRAL_HEADER {
            return Err(ZipError::damaged(place, "a directory entry does not begin as one"));
        }
        fields.skip(4)?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.skip(4)?;
        let crc = fields.u32()?;
        let (compressed, size) = (fields.u32()?, fields.u32()?);
        let lengths = [fields.u16()?, fields.u16()?, fields.u16()?];
        let disk = fields.u16()?;
        fields.skip(6)?;
        let local = fields.u32()?;
        let name = checked_name(place, fields.take(lengths[0].into())?)?;
        let extra = fields.take(lengths[1].into())?;
        fields.skip(lengths[2].into())?;

        let mut wide = Zip64Extra::find(extra, place, &name)?;
        let size = wide.widen(size)?;
        let compressed = wide.widen(compressed)?;
        let local = wide.widen(local)?;
        if disk != 0 && disk != u16::MAX {
            return Err(unsupported(place, &name, "lies on another disk", "write the archive as one file"));
        }
        check_method(place, &name, flags, method)?;
        let possible = match method {
            STORED => size == compressed,
            _ => size <= compressed.saturating_mul(LARGEST_RATIO),
        };
        if !possible {
            return Err(ZipError::damaged(
                place,
                format!("{name} cannot be {size} bytes made of {compressed}"),
            ));
        }
        Ok(Record { place, name, flags, method, crc, compressed, size, local })
    }
}

fn unsupported(place: usize, name: &str, what: &str, remedy: &'static str) -> ZipError {
    ZipError::new(ZipErrorKind::Unsupported, place, format!("{name} {what}"), remedy)
}

fn check_method(place: usize, name: &str, flags: u16, method: u16) -> Result<(), ZipError> {
    const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
    const PATCH: u16 = 1 << 5;
    if flags & ENCRYPTED != 0 {
        return Err(unsupported(place, name, "is encrypted", "write the archive without a password"));
    }
    if flags & PATCH != 0 {
        return Err(unsupported(
            place,
            name,
            "is a patch of another file",
            "write the archive with numpy.savez",
        ));
    }
    if method != STORED && method != DEFLATED {
        let method = match method {
            9 => "deflate64".to_owned(),
            12 => "bzip2".to_owned(),
            14 => "LZMA".to_owned(),
            93 => "zstd".to_owned(),
            other => format!("method {other}"),
        };
        return Err(unsupported(
            place,
            name,
            &format!("is compressed with {method}"),
            "write the archive with numpy.savez or numpy.savez_compressed",
        ));
    }
    Ok(())
}

/// The name, if it is a relative path of plain components. Names are not used as paths here; a name that could do harm
/// as one is a sign of a forged archive all the same.
pub(super) fn checked_name(place: usize, name: &[u8]) -> Result<String, ZipError> {
    let refused = |name: &str, what: &str| {
        Err(ZipError::new(
            ZipErrorKind::Name,
            place,
            format!("the entry name \"{}\" {what}", name.escape_debug()),
            "write the archive with plain names",
        ))
    };
    let Ok(name) = std::str::from_utf8(name) else {
        return refused(&String::from_utf8_lossy(name), "is not UTF-8");
    };
    if name.contains(char::is_control) || name.contains('\\') {
        return refused(name, "holds a control character or a backslash");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refused(name, "is absolute, ends in a slash or has an empty, `.` or `..` part");
    }
    Ok(name.to_owned())
}

/// The zip64 extra field: the values of the fields that are saturated, in the order size, compressed, local offset.
pub(super) struct Zip64Extra<'a> {
    values: Fields<'a>,
    place: usize,
    name: &'a str,
}

impl<'a> Zip64Extra<'a> {
    pub(super) fn find(extra: &'a [u8], place: usize, name: &'a str) -> Result<Zip64Extra<'a>, ZipError> {
        let mut fields = Fields { bytes: extra, at: 0 };
        let mut found = &[][..];
        while fields.at < extra.len() {
            let malformed = |_| ZipError::damaged(place, format!("the extra field of {name} is malformed"));
            let id = fields.u16().map_err(malformed)?;
            let length = fields.u16().map_err(malformed)?;
            let values = fields.take(length.into()).map_err(malformed)?;
            if id == ZIP64_EXTRA {
                found = values;
            }
        }
        Ok(Zip64Extra { values: Fields { bytes: found, at: 0 }, place, name })
    }

    pub(super) fn widen(&mut self, narrow: u32) -> Result<u64, ZipError> {
        if narrow != IN_ZIP64 {
            return Ok(narrow.into());
        }
        self.values.u64().map_err(|_| {
            ZipError::damaged(self.place, format!("the zip64 field of {} lacks a value", self.name))
        })
    }
}
