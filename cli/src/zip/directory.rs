//! From the end of the archive to its directory, and from there to the entries.

use super::fields::Fields;
use super::record::{Record, Zip64Extra};
use super::{
    DEFLATED, END, Entry, IN_ZIP64, LOCAL_HEADER, ZIP64_END, ZIP64_LOCATOR, ZipError, ZipErrorKind, ZipLimits,
};
use std::collections::BTreeMap;

const END_SIZE: usize = 22;
const LOCATOR_SIZE: usize = 20;
const CENTRAL_SIZE: usize = 46;

/// The entries in the order of the directory.
///
/// # Errors
/// Every [`ZipErrorKind`] but `Contents`.
pub(crate) fn read_directory<'a>(bytes: &'a [u8], limits: &ZipLimits) -> Result<Vec<Entry<'a>>, ZipError> {
    let directory = Directory::find(bytes)?;
    if directory.entries > limits.entries as u64 {
        let message = format!("{} entries; at most {} are read", directory.entries, limits.entries);
        return Err(over_limit(directory.start, message));
    }
    let mut fields = Fields { bytes: &bytes[..directory.end], at: directory.start };
    let mut entries = Vec::new();
    let mut total = 0u64;
    for _ in 0..directory.entries {
        let record = Record::read(&mut fields)?;
        total = total.saturating_add(record.size);
        if record.size > limits.entry_bytes || total > limits.total_bytes {
            return Err(over_limit(
                record.place,
                format!(
                    "{} would inflate to {} bytes, {total} with what stands before it; at most {} and {} are read",
                    record.name, record.size, limits.entry_bytes, limits.total_bytes
                ),
            ));
        }
        entries.push((record.place, locate(record, &bytes[..directory.start])?));
    }
    if fields.at != directory.end {
        return Err(ZipError::damaged(fields.at, "the directory holds more than its entries"));
    }
    refuse_duplicates(&entries)?;
    refuse_overlap(&entries)?;
    Ok(entries.into_iter().map(|(_, located)| located.entry).collect())
}

fn over_limit(offset: usize, message: String) -> ZipError {
    const REMEDY: &str = "split the archive, or raise the limit if you trust it";
    ZipError::new(ZipErrorKind::Limit, offset, message, REMEDY)
}

/// Where the central directory lies and how many entries it claims.
struct Directory {
    start: usize,
    end: usize,
    entries: u64,
}

impl Directory {
    fn find(bytes: &[u8]) -> Result<Directory, ZipError> {
        let Some(at) = find_end(bytes) else {
            return Err(no_end(bytes));
        };
        let mut end = Fields { bytes, at: at + 4 };
        let disks = [end.u16()?, end.u16()?];
        let counts = [end.u16()?, end.u16()?];
        let (size, start) = (end.u32()?, end.u32()?);
        let saturated =
            disks.contains(&u16::MAX) || counts.contains(&u16::MAX) || size == IN_ZIP64 || start == IN_ZIP64;

        let locator = at
            .checked_sub(LOCATOR_SIZE)
            .filter(|&locator| bytes[locator..].starts_with(&ZIP64_LOCATOR.to_le_bytes()));
        let wide = match locator {
            Some(locator) => Some(Zip64End::read(bytes, locator)?),
            None if saturated => {
                return Err(ZipError::damaged(at, "the zip64 part of the directory is missing"));
            }
            None => None,
        };
        if disks.iter().any(|&disk| disk != 0 && disk != u16::MAX) || counts[0] != counts[1] {
            return Err(ZipError::new(
                ZipErrorKind::Unsupported,
                at,
                "an archive of several disks",
                "write it as one file",
            ));
        }
        let narrow = (u64::from(counts[0]), u64::from(size), u64::from(start));
        let (entries, size, start, end) = match wide {
            None => (narrow.0, narrow.1, narrow.2, at),
            Some(wide) => {
                let agree = |narrow: u64, saturated: u64, wide: u64| narrow == saturated || narrow == wide;
                if !(agree(narrow.0, u16::MAX.into(), wide.entries)
                    && agree(narrow.1, IN_ZIP64.into(), wide.size)
                    && agree(narrow.2, IN_ZIP64.into(), wide.start))
                {
                    return Err(ZipError::damaged(
                        wide.at,
                        "the two ends of the directory contradict each other",
                    ));
                }
                (wide.entries, wide.size, wide.start, wide.at)
            }
        };
        // Exactly adjacent: nothing can hide between the parts, and a cut or padded file is noticed.
        let start = usize::try_from(start)
            .ok()
            .filter(|&s| s.checked_add(usize::try_from(size).unwrap_or(usize::MAX)) == Some(end));
        match start {
            Some(start) if entries <= ((end - start) / CENTRAL_SIZE) as u64 => {
                Ok(Directory { start, end, entries })
            }
            Some(start) => {
                Err(ZipError::damaged(start, format!("{entries} entries cannot fit the directory")))
            }
            None => Err(ZipError::damaged(at, "the directory is not where its end says")),
        }
    }
}

/// The offset of the end record, whose comment must reach exactly to the end of the file.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_SIZE)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        let comment = u16::from_le_bytes([bytes[at + END_SIZE - 2], bytes[at + END_SIZE - 1]]);
        bytes[at..].starts_with(&END.to_le_bytes()) && at + END_SIZE + usize::from(comment) == bytes.len()
    })
}

fn no_end(bytes: &[u8]) -> ZipError {
    let (looks_like, remedy) = match bytes {
        [b'P', b'K', ..] | [b'P'] => {
            return ZipError::damaged(bytes.len(), "the end of the archive is missing");
        }
        [] => ("an empty file", "check that the file was written completely"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            ("an .npy file", "give it the ending .npy and name no key")
        }
        [0x1f, 0x8b, ..] => ("gzip data", "unpack it first, as with `gzip -d`"),
        _ => ("something else", "write the file with numpy.savez"),
    };
    ZipError::new(ZipErrorKind::NotZip, 0, format!("not an .npz file: this looks like {looks_like}"), remedy)
}

struct Zip64End {
    at: usize,
    entries: u64,
    size: u64,
    start: u64,
}

impl Zip64End {
    fn read(bytes: &[u8], locator: usize) -> Result<Zip64End, ZipError> {
        let lie = || ZipError::damaged(locator, "the zip64 locator points to no zip64 end record");
        let mut fields = Fields { bytes: &bytes[..locator + LOCATOR_SIZE], at: locator + 4 };
        let disk = fields.u32()?;
        let at = usize::try_from(fields.u64()?).map_err(|_| lie())?;
        let disks = fields.u32()?;
        if at >= locator {
            return Err(lie());
        }
        let mut fields = Fields { bytes: &bytes[..locator], at };
        if fields.u32().map_err(|_| lie())? != ZIP64_END {
            return Err(lie());
        }
        let rest = fields.u64()?;
        let whole = usize::try_from(rest).ok().and_then(|r| fields.at.checked_add(r));
        if whole != Some(locator) {
            return Err(lie());
        }
        fields.skip(4)?;
        let record_disks = [fields.u32()?, fields.u32()?];
        let counts = [fields.u64()?, fields.u64()?];
        if disk != 0 || disks > 1 || record_disks != [0, 0] || counts[0] != counts[1] {
            return Err(ZipError::new(
                ZipErrorKind::Unsupported,
                at,
                "an archive of several disks",
                "write it as one file",
            ));
        }
        Ok(Zip64End { at, entries: counts[0], size: fields.u64()?, start: fields.u64()? })
    }
}

struct Located<'a> {
    entry: Entry<'a>,
    /// Offset of the local header.
    start: usize,
}

impl Located<'_> {
    fn end(&self) -> usize {
        self.entry.offset + self.entry.data.len()
    }
}

/// Finds the bytes of an entry in `body`, the archive before its directory.
fn locate<'a>(record: Record, body: &'a [u8]) -> Result<Located<'a>, ZipError> {
    let Record { place, name, .. } = record;
    let outside = |_| ZipError::damaged(place, format!("{name} does not lie inside the archive"));
    let start = usize::try_from(record.local).unwrap_or(usize::MAX);
    let mut fields = Fields { bytes: body, at: start };
    let header = fields.u32().map_err(outside)?;
    fields.skip(2).map_err(outside)?;
    let (flags, method) = (fields.u16().map_err(outside)?, fields.u16().map_err(outside)?);
    fields.skip(4).map_err(outside)?;
    let crc = fields.u32().map_err(outside)?;
    let (compressed, size) = (fields.u32().map_err(outside)?, fields.u32().map_err(outside)?);
    let (name_length, extra_length) = (fields.u16().map_err(outside)?, fields.u16().map_err(outside)?);
    let local_name = fields.take(name_length.into()).map_err(outside)?;
    let extra = fields.take(extra_length.into()).map_err(outside)?;
    let offset = fields.at;
    let data_length = usize::try_from(record.compressed).unwrap_or(usize::MAX);
    let data = fields.take(data_length).map_err(outside)?;

    // With this flag checksum and sizes stand after the data, and their fields before it are 0.
    const DESCRIPTOR: u16 = 1 << 3;
    let mut agree = header == LOCAL_HEADER
        && local_name == name.as_bytes()
        && (flags, method) == (record.flags, record.method);
    if flags & DESCRIPTOR == 0 {
        let mut wide = Zip64Extra::find(extra, start, &name)?;
        agree &= crc == record.crc;
        agree &= wide.widen(size)? == record.size;
        agree &= wide.widen(compressed)? == record.compressed;
    }
    if !agree {
        return Err(ZipError::damaged(
            start,
            format!("the local header of {name} contradicts the directory"),
        ));
    }
    Ok(Located {
        entry: Entry {
            deflated: record.method == DEFLATED,
            crc: record.crc,
            size: usize::try_from(record.size).unwrap_or(usize::MAX),
            data,
            offset,
            name,
        },
        start,
    })
}

fn refuse_duplicates(entries: &[(usize, Located<'_>)]) -> Result<(), ZipError> {
    let mut seen = BTreeMap::new();
    for (place, located) in entries {
        if let Some(earlier) = seen.insert(&located.entry.name, place) {
            return Err(ZipError::new(
                ZipErrorKind::Duplicate,
                *place,
                format!(
                    "two entries are named {}, the first at byte {earlier} of the directory",
                    located.entry.name
                ),
                "remove or rename one of the two",
            ));
        }
    }
    Ok(())
}

/// Entries that share bytes let a small archive inflate to any size.
fn refuse_overlap(entries: &[(usize, Located<'_>)]) -> Result<(), ZipError> {
    let mut order: Vec<&Located<'_>> = entries.iter().map(|(_, located)| located).collect();
    order.sort_by_key(|located| (located.start, located.end()));
    for pair in order.windows(2) {
        if pair[0].end() > pair[1].start {
            return Err(ZipError::damaged(
                pair[1].start,
                format!("{} and {} share bytes", pair[0].entry.name, pair[1].entry.name),
            ));
        }
    }
    Ok(())
}
