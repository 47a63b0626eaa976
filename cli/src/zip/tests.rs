//! Archives that are forged in one place each.

use super::write::Packed;
use super::*;
use flate2::{Compression, write::DeflateEncoder};
use proptest::prelude::*;
use std::io::Write;

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

fn with_entry(name: &str, packed: &Packed<'_>) -> Vec<u8> {
    let mut archive = ZipWriter::new(Vec::new());
    archive.add_packed(name, packed).unwrap();
    archive.finish().unwrap()
}

fn deflated(data: &[u8], size: u64, crc: u32) -> Vec<u8> {
    with_entry("x", &Packed { method: DEFLATED, crc, size, data: &data })
}

fn stored(names: &[&str]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Vec::new());
    for name in names {
        archive.add(name, &&b"contents"[..]).unwrap();
    }
    archive.finish().unwrap()
}

/// Replaces every occurrence of `from`: a change of both headers at once.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let mut found = 0;
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            out[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0);
    out
}

fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ZipError> {
    read_within(bytes, &ZipLimits::default())
}

fn read_within(bytes: &[u8], limits: &ZipLimits) -> Result<Vec<(String, Vec<u8>)>, ZipError> {
    let result = read_directory(bytes, limits).and_then(|entries| {
        entries.iter().map(|entry| Ok((entry.name.clone(), entry.contents()?.into_owned()))).collect()
    });
    if let Err(error) = &result {
        assert!(error.offset <= bytes.len(), "{error}");
        assert!(!error.remedy.is_empty());
    }
    result
}

#[track_caller]
fn assert_refused(bytes: &[u8], kind: ZipErrorKind, message: &str) {
    let error = read(bytes).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(message), "{error}");
}

/// Offset of the only directory entry of an archive without zip64.
fn central(bytes: &[u8]) -> usize {
    let at = bytes.len() - 6;
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn stored_and_deflated_entries_are_read() {
    let zeros = vec![0; 100_000];
    let packed = deflate(&zeros);
    let mut archive = ZipWriter::new(Vec::new());
    archive.add("a/b", &&b"hello"[..]).unwrap();
    archive
        .add_packed(
            "zeros",
            &Packed { method: DEFLATED, crc: crc(&zeros), size: zeros.len() as u64, data: &&packed[..] },
        )
        .unwrap();
    archive.add("empty", &&b""[..]).unwrap();
    let bytes = archive.finish().unwrap();
    let expected =
        [("a/b".to_owned(), b"hello".to_vec()), ("zeros".to_owned(), zeros), ("empty".to_owned(), vec![])];
    assert_eq!(read(&bytes).unwrap(), expected);
    assert_eq!(read(&ZipWriter::new(Vec::new()).finish().unwrap()).unwrap(), []);

    let mut commented = bytes.clone();
    let at = commented.len() - 2;
    commented[at..].copy_from_slice(&5u16.to_le_bytes());
    commented.extend(b"PK\x05\x06!");
    assert_eq!(read(&commented).unwrap(), expected);
}

#[test]
fn zip64_archives_are_written_and_read() {
    let mut archive = ZipWriter::widening_from(Vec::new(), 0);
    archive.add("x", &&b"hello"[..]).unwrap();
    archive.add("y", &&b"world"[..]).unwrap();
    let bytes = archive.finish().unwrap();
    assert_eq!(
        read(&bytes).unwrap(),
        [("x".to_owned(), b"hello".to_vec()), ("y".to_owned(), b"world".to_vec())]
    );
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end}");
    }
    // The entry count, the directory's size and offset, and the sizes of an entry, each a lie of 2^40.
    let lie = (1u64 << 40).to_le_bytes();
    let end64 = bytes.len() - 22 - 20 - 56;
    for at in [end64 + 24, end64 + 32, end64 + 40, end64 + 48, end64 + 4, end64 + 64] {
        let mut forged = bytes.clone();
        forged[at..at + 8].copy_from_slice(&lie);
        let error = read(&forged).unwrap_err();
        assert!(matches!(error.kind, ZipErrorKind::Damaged | ZipErrorKind::Unsupported), "{error}");
    }
    let both = replaced(&bytes, &2u64.to_le_bytes(), &lie);
    assert_refused(&both, ZipErrorKind::Damaged, "cannot fit the directory");
    let sizes = replaced(&bytes, &5u64.to_le_bytes(), &lie);
    assert_refused(&sizes, ZipErrorKind::Limit, "1099511627776");
    // No zip64 part at all, but fields that point to it.
    let mut cut = bytes[..end64].to_vec();
    cut.extend(&bytes[bytes.len() - 22..]);
    assert_refused(&cut, ZipErrorKind::Damaged, "zip64 part");
}

#[test]
fn other_files_are_named() {
    for (bytes, name) in [
        (&b""[..], "an empty file"),
        (b"\x93NUMPY\x01\0", ".npy"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"a,b,c\n1,2,3\n1,2,3\n1,2,3\n", "something else"),
    ] {
        assert_refused(bytes, ZipErrorKind::NotZip, name);
    }
    assert_refused(b"PK\x03\x04", ZipErrorKind::Damaged, "end of the archive");
}

#[test]
fn names_that_climb_or_hide_are_refused() {
    let good = stored(&["aa/bb"]);
    for name in [
        b"../bb",
        b"/a/bb",
        b"aa/..",
        b"./abb",
        b"aa/b/",
        b"a//bb",
        b"aa\\bb",
        b"aa\0bb",
        b"aa\nbb",
        b"aa\xffbb",
    ] {
        assert_refused(&replaced(&good, b"aa/bb", name), ZipErrorKind::Name, "");
    }
    let mut archive = ZipWriter::new(Vec::new());
    for name in ["", "../x", "/x", "a\\b"] {
        assert_eq!(archive.add(name, &&b""[..]).unwrap_err().kind, ZipErrorKind::Name);
    }
    let long = "x".repeat(70_000);
    assert_eq!(archive.add(&long, &&b""[..]).unwrap_err().kind, ZipErrorKind::Name);
    archive.add("x", &&b""[..]).unwrap();
    assert_eq!(archive.add("x", &&b""[..]).unwrap_err().kind, ZipErrorKind::Duplicate);
}

#[test]
fn duplicates_are_refused() {
    let bytes = replaced(&stored(&["one", "two"]), b"two", b"one");
    assert_refused(&bytes, ZipErrorKind::Duplicate, "one");
}

#[test]
fn encryption_and_other_methods_are_refused() {
    let good = stored(&["x"]);
    let at = central(&good);
    for (flag, message) in
        [(1u16, "encrypted"), (1 << 6, "encrypted"), (1 << 13, "encrypted"), (1 << 5, "patch")]
    {
        let mut bytes = good.clone();
        bytes[at + 8..at + 10].copy_from_slice(&flag.to_le_bytes());
        assert_refused(&bytes, ZipErrorKind::Unsupported, message);
    }
    for (method, message) in
        [(9u16, "deflate64"), (12, "bzip2"), (14, "LZMA"), (93, "zstd"), (77, "method 77")]
    {
        let mut bytes = good.clone();
        bytes[at + 10..at + 12].copy_from_slice(&method.to_le_bytes());
        assert_refused(&bytes, ZipErrorKind::Unsupported, message);
    }
}

#[test]
fn bombs_are_refused_before_they_inflate() {
    let zeros = vec![0; 1 << 20];
    let packed = deflate(&zeros);
    let bytes = deflated(&packed, 1 << 20, crc(&zeros));
    assert_eq!(read(&bytes).unwrap()[0].1.len(), 1 << 20);
    let small = ZipLimits { entry_bytes: (1 << 20) - 1, ..ZipLimits::default() };
    assert_eq!(read_within(&bytes, &small).unwrap_err().kind, ZipErrorKind::Limit);
    let little = ZipLimits { total_bytes: 15, ..ZipLimits::default() };
    assert_eq!(read_within(&stored(&["x", "y"]), &little).unwrap_err().kind, ZipErrorKind::Limit);
    let few = ZipLimits { entries: 1, ..ZipLimits::default() };
    assert_eq!(read_within(&stored(&["x", "y"]), &few).unwrap_err().kind, ZipErrorKind::Limit);

    // The size is a lie: smaller, larger, larger than any deflate data can be.
    let crc = crc(&zeros);
    assert_refused(&deflated(&packed, 1000, crc), ZipErrorKind::Contents, "more bytes");
    assert_refused(&deflated(&packed, (1 << 20) + 9, crc), ZipErrorKind::Contents, "fewer bytes");
    assert_refused(&deflated(&packed, 3 << 30, crc), ZipErrorKind::Damaged, "cannot be");
    // So are the data.
    assert_refused(
        &deflated(&packed[..packed.len() - 1], 1 << 20, crc),
        ZipErrorKind::Contents,
        "ends inside",
    );
    assert_refused(
        &deflated(&[packed.as_slice(), b"more"].concat(), 1 << 20, crc),
        ZipErrorKind::Contents,
        "after",
    );
    assert_refused(&deflated(b"\xff\xff\xff\xff", 10, crc), ZipErrorKind::Contents, "not deflate");
    assert_refused(&deflated(&packed, 1 << 20, crc ^ 1), ZipErrorKind::Contents, "checksum");
    assert_refused(&deflated(b"", 0, 0), ZipErrorKind::Contents, "ends inside");
}

#[test]
fn headers_that_disagree_are_refused() {
    let good = stored(&["x"]);
    let at = central(&good);
    // Name, method, checksum, both sizes and flags of the local header.
    for local in [30, 8, 14, 18, 22, 6, 0] {
        let mut bytes = good.clone();
        bytes[local] ^= 1;
        assert_refused(&bytes, ZipErrorKind::Damaged, "contradicts");
    }
    // Checksum of the contents, with both headers agreed.
    let sum = crc(b"contents");
    let forged = replaced(&good, &sum.to_le_bytes(), &(sum ^ 1).to_le_bytes());
    assert_refused(&forged, ZipErrorKind::Contents, "checksum");
    // The place of the local header: beyond the archive.
    let mut bytes = good.clone();
    bytes[at + 42..at + 46].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    assert_refused(&bytes, ZipErrorKind::Damaged, "inside the archive");
    // Bytes between the parts, or before them.
    let mut padded = good.clone();
    padded.insert(at, 0);
    assert_refused(&padded, ZipErrorKind::Damaged, "not where its end says");
    padded = [b"#!/bin/sh\n", good.as_slice()].concat();
    assert_refused(&padded, ZipErrorKind::Damaged, "not where its end says");
    // Several disks.
    let mut disks = good.clone();
    let end = disks.len() - 22;
    disks[end + 4] = 1;
    assert_refused(&disks, ZipErrorKind::Unsupported, "disks");
}

/// Two directory entries for one local header, as archives do that inflate to more than they declare in sum.
#[test]
fn entries_that_share_bytes_are_refused() {
    let bytes = stored(&["xx", "yy"]);
    let start = central(&bytes);
    let second = start + 46 + 2;
    let mut forged = bytes.clone();
    // The second entry's data begins with a local header inside the first's data.
    let inner = stored(&["yy"]);
    let mut archive = ZipWriter::new(Vec::new());
    archive.add("xx", &&inner[..40]).unwrap();
    archive.add("yy", &&b"contents"[..]).unwrap();
    let nested = archive.finish().unwrap();
    let at = central(&nested) + 46 + 2 + 42;
    let mut nested = nested;
    nested[at..at + 4].copy_from_slice(&32u32.to_le_bytes());
    assert_refused(&nested, ZipErrorKind::Damaged, "share bytes");
    // Or both point to the same header, whose name then fits only one.
    forged[second + 42..second + 46].copy_from_slice(&0u32.to_le_bytes());
    assert_refused(&forged, ZipErrorKind::Damaged, "contradicts");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = stored(&["x", "y"]);
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let mut ended = bytes.clone();
        ended.extend(END.to_le_bytes());
        ended.extend([0; 18]);
        let _ = read(&ended);
    }

    #[test]
    fn changed_bytes_never_panic(
        wide in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut archive = ZipWriter::widening_from(Vec::new(), if wide { 0 } else { IN_ZIP64.into() });
        archive.add("first", &&b"hello"[..]).unwrap();
        let packed = deflate(&[7; 1000]);
        let entry = Packed { method: DEFLATED, crc: crc(&[7; 1000]), size: 1000, data: &&packed[..] };
        archive.add_packed("second", &entry).unwrap();
        let mut bytes = archive.finish().unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(entries) = read(&bytes) {
            prop_assert!(entries.len() <= 2);
        }
    }

    #[test]
    fn garbage_never_inflates_beyond_its_claim(data in prop::collection::vec(any::<u8>(), 1..200), size in 0u64..5000) {
        if let Ok(entries) = read(&deflated(&data, size, 0)) {
            prop_assert_eq!(entries[0].1.len() as u64, size);
        }
    }
}
