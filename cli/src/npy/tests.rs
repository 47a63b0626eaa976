//! Files as NumPy writes them, and files that nobody should write.

use super::*;
use proptest::prelude::*;

/// A file of version 1.0 with this dictionary.
fn file(dictionary: &str, elements: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend((dictionary.len() as u16).to_le_bytes());
    out.extend(dictionary.as_bytes());
    out.extend(elements);
    out
}

fn plain(descr: &str, fortran: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    file(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"), elements)
}

#[track_caller]
fn assert_refused(bytes: &[u8], kind: NpyErrorKind, message: &str) {
    let error = read_npy(bytes).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(message), "{error}");
    assert!(error.offset <= bytes.len() && !error.remedy.is_empty());
    assert_eq!(read_npy_owned(bytes.to_vec()).unwrap_err(), error);
}

fn i16s(values: &[i16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// What NumPy 2.4.6 writes for `numpy.arange(6, dtype='<i2').reshape(2, 3)`.
fn numpy_file() -> Vec<u8> {
    let mut bytes =
        b"\x93NUMPY\x01\x00v\x00{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
    bytes.resize(127, b' ');
    bytes.extend(b"\n\x00\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00");
    bytes
}

#[test]
fn numpys_own_files_are_read_and_written() {
    let array = Array::new(NpyType::I16, vec![2, 3], i16s(&[0, 1, 2, 3, 4, 5])).unwrap();
    assert_eq!(read_npy(&numpy_file()).unwrap(), array);
    assert_eq!(write_npy(&array), numpy_file());

    // numpy.asfortranarray(numpy.arange(6, dtype='>f4').reshape(2, 3)), also by NumPy 2.4.6.
    let swapped = plain(
        ">f4",
        "True",
        "(2, 3)",
        b"\x00\x00\x00\x00@@\x00\x00?\x80\x00\x00@\x80\x00\x00@\x00\x00\x00@\xa0\x00\x00",
    );
    let floats: Vec<u8> = (0..6u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let array = Array::new(NpyType::F32, vec![2, 3], floats).unwrap();
    assert_eq!(read_npy(&swapped).unwrap(), array);
}

#[test]
fn every_type_is_read_in_both_byte_orders() {
    for (dtype, _, size) in NpyType::TABLE {
        let descr = dtype.descr();
        let little: Vec<u8> = match dtype {
            NpyType::Bool => vec![0, 1],
            _ => (1..=2 * size as u8).collect(),
        };
        let big: Vec<u8> = little.chunks(size).flat_map(|element| element.iter().rev().copied()).collect();
        for (order, elements) in [(&descr[..1], &little), ("<", &little), (">", &big)] {
            let bytes = plain(&format!("{order}{}", &descr[1..]), "False", "(2,)", elements);
            let array = read_npy(&bytes).unwrap();
            assert_eq!((array.dtype, &array.bytes), (dtype, &little), "{descr}");
            assert_eq!(array.dtype.size(), size);
        }
    }
}

#[test]
fn column_major_files_are_transposed() {
    // Element [i, j, k] of shape [2, 3, 4] stands at i + 2 j + 6 k.
    let column_major: Vec<u8> = (0..24).collect();
    let array = read_npy(&plain("|u1", "True", "(2, 3, 4)", &column_major)).unwrap();
    let expected: Vec<u8> =
        (0..2u8).flat_map(|i| (0..3).flat_map(move |j| (0..4).map(move |k| i + 2 * j + 6 * k))).collect();
    assert_eq!((array.shape, array.bytes), (vec![2, 3, 4], expected));
    for shape in ["()", "(1,)", "(1, 1, 1)"] {
        let one = read_npy(&plain("<i2", "True", shape, &[7, 0])).unwrap();
        assert_eq!(one.bytes, [7, 0]);
    }
    let none = read_npy(&plain("<i2", "True", "(3, 0, 2)", &[])).unwrap();
    assert_eq!((none.shape, none.bytes), (vec![3, 0, 2], vec![]));
}

#[test]
fn header_spellings_that_python_allows() {
    for dictionary in [
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,), }",
        "{\"shape\":(1,),\"fortran_order\":False,\"descr\":\"<i2\"}   \n",
        " { 'descr' : '<i2' , 'fortran_order' : False , 'shape' : ( 1 , ) } ",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1L,)}",
    ] {
        let array = read_npy(&file(dictionary, &[1, 2])).unwrap();
        assert_eq!(array.shape, [1], "{dictionary}");
    }
    let dictionary = "{'descr': '<i2', 'fortran_order': False, 'shape': (1,)}\n";
    for version in [2, 3] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        bytes.extend((dictionary.len() as u32).to_le_bytes());
        bytes.extend(dictionary.as_bytes());
        bytes.extend([1, 2]);
        assert_eq!(read_npy(&bytes).unwrap().bytes, [1, 2]);
    }
}

#[test]
fn other_files_are_named() {
    for (bytes, name) in [
        (&b""[..], "an empty file"),
        (b"PK\x03\x04", ".npz"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x80\x04\x95", "pickle"),
        (b"1.0,2.0\n", "something else"),
        (b"\x93NUMPX\x01\0", "something else"),
    ] {
        assert_refused(bytes, NpyErrorKind::NotNpy, name);
    }
    assert_refused(b"\x93NUMPY\x04\0\0\0\0\0", NpyErrorKind::Version, "4.0");
    assert_refused(b"\x93NUMPY\x01\x01v\0{}", NpyErrorKind::Version, "1.1");
    assert_refused(b"\x93NUMPY\0\0", NpyErrorKind::Version, "0.0");
    assert_refused(b"\x93NUMPY\x02\0\xff\xff\xff\xff", NpyErrorKind::Header, "4294967295");
}

#[test]
fn types_that_are_not_plain_are_refused() {
    for (descr, message) in [
        ("|O", "pickle"),
        ("<f16", "16, 32 and 64"),
        ("<c8", "complex"),
        ("<U3", "text"),
        ("|S5", "text"),
        ("<M8[ns]", "dates"),
        ("|V2", "bfloat16"),
        ("|f4", "floats"),
        ("=f4", "floats"),
        ("<f1", "floats"),
        ("<b4", "not read"),
        ("f4", "not read"),
        ("", "not read"),
        ("<i\u{1}", "not read"),
    ] {
        assert_refused(&plain(descr, "False", "(1,)", &[0; 8]), NpyErrorKind::Type, message);
    }
    let structured = "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}";
    assert_refused(&file(structured, &[0; 4]), NpyErrorKind::Type, "structured");
}

#[test]
fn headers_that_are_not_the_dictionary_are_refused() {
    for dictionary in [
        "",
        "[]",
        "{}",
        "{'descr'}",
        "{'descr': 4, 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i2', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1.0,)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,,)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,",
        "{'descr': '<i2', 'fortran_order': False}",
        "{'descr': '<i2', 'descr': '<i2', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,)} x",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,)",
        "__import__('os').system('true')",
    ] {
        assert_refused(&file(dictionary, &[0; 2]), NpyErrorKind::Header, "");
    }
}

#[test]
fn claims_are_compared_with_the_file() {
    for (shape, kind) in [
        ("(2,)", NpyErrorKind::Length),
        ("()", NpyErrorKind::Length),
        ("(0,)", NpyErrorKind::Length),
        ("(1000000000000,)", NpyErrorKind::Length),
        ("(4294967296, 4294967296)", NpyErrorKind::Shape),
        ("(0, 4294967296, 4294967296)", NpyErrorKind::Shape),
        ("(9223372036854775807,)", NpyErrorKind::Shape),
        ("(18446744073709551616,)", NpyErrorKind::Shape),
    ] {
        assert_refused(&plain("<f4", "False", shape, &[0; 12]), kind, "");
    }
    let axes = "1, ".repeat(65);
    assert_refused(&plain("|u1", "False", &format!("({axes})"), &[0]), NpyErrorKind::Shape, "64 axes");
    assert_refused(&plain("|b1", "False", "(3,)", &[0, 1, 2]), NpyErrorKind::Value, "index 2");
    assert_eq!(Array::new(NpyType::F64, vec![2], vec![0; 15]).unwrap_err().kind, NpyErrorKind::Length);
}

#[test]
fn every_truncation_is_refused() {
    let whole = numpy_file();
    for end in 0..whole.len() {
        let error = read_npy(&whole[..end]).unwrap_err();
        assert!(error.offset <= end, "{end}: {error}");
    }
}

#[test]
fn elements_are_aligned_and_long_headers_use_version_2() {
    for rank in [0, 1, 2, 9, 64, 30_000] {
        let array = Array::new(NpyType::U8, vec![1; rank], vec![9]).unwrap();
        let bytes = write_npy(&array);
        assert_eq!(bytes.len() % 64, 1, "rank {rank}");
        if rank <= 64 {
            assert_eq!(read_npy(&bytes).unwrap(), array);
        } else {
            assert_eq!(bytes[6], 2);
        }
    }
}

proptest! {
    #[test]
    fn arrays_survive_the_round_trip(
        row in 0..NpyType::TABLE.len(),
        shape in prop::collection::vec(0usize..5, 0..5),
        seed in any::<u8>(),
    ) {
        let dtype = NpyType::TABLE[row].0;
        let count = shape.iter().product::<usize>() * dtype.size();
        let bytes = (0..count)
            .map(|i| seed.wrapping_mul(31).wrapping_add(i as u8))
            .map(|b| if dtype == NpyType::Bool { b & 1 } else { b })
            .collect();
        let array = Array::new(dtype, shape, bytes).unwrap();
        prop_assert_eq!(read_npy(&write_npy(&array)).unwrap(), array);
    }

    #[test]
    fn random_bytes_never_panic(version in 0u8..5, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut whole = MAGIC.to_vec();
        whole.extend([version, 0]);
        whole.extend(&bytes);
        for candidate in [&bytes, &whole] {
            if let Err(error) = read_npy(candidate) {
                prop_assert!(error.offset <= candidate.len());
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((0usize..140, any::<u8>()), 1..4)) {
        let mut bytes = numpy_file();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Err(error) = read_npy(&bytes) {
            prop_assert!(error.offset <= bytes.len());
        }
    }
}
