//! Files as NumPy writes them, and the round trip.

use super::super::npy::{NpyErrorKind, NpyType, write_npy};
use super::*;
use proptest::prelude::*;

/// What NumPy 2.4.6 writes for
/// `numpy.savez(f, x=numpy.array([1.5], '<f4'), **{'a/b': numpy.array(3, '<i8')})`.
const SAVEZ: &str = "504b03042d00000000000000210054792e83ffffffffffffffff05001400782e6e70790100100084000000000000008400000000000000934e554d5059010076007b276465736372273a20273c6634272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028312c292c207d2020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020200a0000c03f504b03042d000000000000002100d9b6bae8ffffffffffffffff07001400612f622e6e70790100100088000000000000008800000000000000934e554d5059010076007b276465736372273a20273c6938272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028292c207d20202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020200a0300000000000000504b01022d032d00000000000000210054792e838400000084000000050000000000000000000000800100000000782e6e7079504b01022d032d000000000000002100d9b6bae888000000880000000700000000000000000000008001bb000000612f622e6e7079504b05060000000002000200680000007c0100000000";

/// What NumPy 2.4.6 writes for `numpy.savez_compressed(f, x=numpy.zeros(300, '<f4'))`.
const SAVEZ_COMPRESSED: &str = "504b03042d000000080000002100e93ab434ffffffffffffffff05001400782e6e707901001000300500000000000050000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9366a2aea3a09e965f54529498179f5f94920a12774bcc294e058a17672416a402f91ac606063a9a3a0ab50a64032e8651300a46c12818220000504b01022d032d000000080000002100e93ab4345000000030050000050000000000000000000000800100000000782e6e7079504b0506000000000100010033000000870000000000";

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn written(arrays: &[(String, Array)]) -> Result<Vec<u8>, NpzError> {
    let files: Vec<Vec<u8>> = arrays.iter().map(|(_, array)| write_npy(array)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let named = arrays.iter().zip(&files).map(|((key, _), file)| (key.as_str(), file as &dyn Contents));
    let mut out = Vec::new();
    write_npz(&mut out, named).map(|done| {
        done.unwrap();
        out
    })
}

fn read(bytes: &[u8]) -> Result<Vec<(String, Array)>, NpzError> {
    read_npz(bytes, &NpzLimits::default())
}

#[test]
fn numpys_own_files_are_read() {
    let x = Array::new(NpyType::F32, vec![1], 1.5f32.to_le_bytes().to_vec()).unwrap();
    let ab = Array::new(NpyType::I64, vec![], 3i64.to_le_bytes().to_vec()).unwrap();
    assert_eq!(read(&bytes_of(SAVEZ)).unwrap(), [("x".to_owned(), x), ("a/b".to_owned(), ab)]);
    let zeros = Array::new(NpyType::F32, vec![300], vec![0; 1200]).unwrap();
    assert_eq!(read(&bytes_of(SAVEZ_COMPRESSED)).unwrap(), [("x".to_owned(), zeros)]);
}

#[test]
fn every_truncation_is_refused() {
    for whole in [bytes_of(SAVEZ), bytes_of(SAVEZ_COMPRESSED)] {
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
    }
}

#[test]
fn a_bad_array_is_named() {
    let mut archive = ZipWriter::new(Vec::new());
    archive.add("good.npy", &&write_npy(&Array::new(NpyType::U8, vec![0], vec![]).unwrap())[..]).unwrap();
    archive.add("bad.npy", &&b"not an array"[..]).unwrap();
    match read(&archive.finish().unwrap()) {
        Err(NpzError::Array { key, error }) => {
            assert_eq!((key.as_str(), error.kind), ("bad", NpyErrorKind::NotNpy));
        }
        other => panic!("{other:?}"),
    }
    for name in ["readme.txt", ".npy", "x.NPY"] {
        let mut archive = ZipWriter::new(Vec::new());
        archive.add(name, &&b""[..]).unwrap();
        let error = read(&archive.finish().unwrap()).unwrap_err();
        assert!(matches!(&error, NpzError::Zip(zip) if zip.kind == ZipErrorKind::Name), "{error}");
    }
}

#[test]
fn bad_keys_are_not_written() {
    let array = Array::new(NpyType::Bool, vec![], vec![1]).unwrap();
    let key = |key: &str| (key.to_owned(), array.clone());
    for arrays in [vec![key("../x")], vec![key("x"), key("x")], vec![key("a\0b")]] {
        assert!(matches!(written(&arrays), Err(NpzError::Zip(_))));
    }
}

proptest! {
    #[test]
    fn arrays_survive_the_round_trip(
        arrays in prop::collection::btree_map("[a-zé]{1,4}(/[a-z:0-9]{1,4})?", prop::collection::vec(any::<i32>(), 0..6), 0..5),
    ) {
        let arrays: Vec<(String, Array)> = arrays
            .into_iter()
            .map(|(key, values)| {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (key, Array::new(NpyType::I32, vec![values.len()], bytes).unwrap())
            })
            .collect();
        let bytes = written(&arrays).unwrap();
        prop_assert_eq!(written(&arrays).unwrap(), bytes.clone());
        prop_assert_eq!(read(&bytes).unwrap(), arrays);
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        for whole in [bytes_of(SAVEZ), bytes_of(SAVEZ_COMPRESSED)] {
            let mut bytes = whole;
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Err(error) = read(&bytes) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
