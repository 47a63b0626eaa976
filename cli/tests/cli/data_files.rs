//! NumPy files that are wrong: row 29 of the catalogue of bad inputs.

use crate::command::{Folder, model};

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((header.len() + 1) as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.push(b'\n');
    bytes.extend(data);
    bytes
}

fn header(descr: &str, order: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn good() -> Vec<u8> {
    npy(&header("'<f4'", "False", "(2, 2)"), &floats(&[1.0, 2.0, 3.0, 4.0]))
}

fn folder_with_model() -> Folder {
    let folder = Folder::new();
    folder.write("model.json", model(&["x:f32[2,2]"], &[], "x"));
    folder
}

/// One stored entry in a zip archive, with its parts to be spoilt by the tests.
struct Zip<'a> {
    name: &'a str,
    data: &'a [u8],
    crc: u32,
    method: u16,
    flags: u16,
    size: u32,
}

impl<'a> Zip<'a> {
    fn of(name: &'a str, data: &'a [u8]) -> Zip<'a> {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        Zip { name, data, crc: crc.sum(), method: 0, flags: 0, size: data.len() as u32 }
    }

    fn fields(&self) -> Vec<u8> {
        let mut f = Vec::new();
        for v in [20, self.flags, self.method, 0, 0x21] {
            f.extend(u16::to_le_bytes(v));
        }
        for v in [self.crc, self.data.len() as u32, self.size] {
            f.extend(u32::to_le_bytes(v));
        }
        f.extend((self.name.len() as u16).to_le_bytes());
        f
    }
}

fn archive(entries: &[Zip<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for e in entries {
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(e.fields());
        directory.extend([0; 12]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(e.name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(e.fields());
        out.extend([0; 2]);
        out.extend(e.name.as_bytes());
        out.extend(e.data);
    }
    let (at, count) = (out.len() as u32, entries.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0; 2]);
    out
}

#[test]
fn good_arrays_are_read_in_any_order() {
    let folder = folder_with_model();
    let big: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_be_bytes()).collect();
    for bytes in [
        good(),
        npy(&header("'>f4'", "False", "(2, 2)"), &big),
        npy(&header("'<f4'", "True", "(2, 2)"), &floats(&[1.0, 3.0, 2.0, 4.0])),
    ] {
        folder.write("x.npy", &bytes);
        folder.write("x.npz", archive(&[Zip::of("x.npy", &bytes)]));
        let expected = "{\"y\": [[1.0, 2.0], [3.0, 4.0]]}\n";
        for args in [["-i", "x=@x.npy"], ["-i", "x=@x.npz:x"], ["-i", "x=@x.npz"], ["--inputs", "x.npz"]] {
            assert_eq!(
                folder.graphc(&["run", "model.json", args[0], args[1]]).succeeds(),
                expected,
                "{args:?}"
            );
        }
    }
}

#[test]
fn bad_arrays_are_refused() {
    let folder = folder_with_model();
    let data = floats(&[0.0; 4]);
    let mut version = good();
    version[6] = 9;
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("empty", vec![], "byte 0"),
        ("magic", b"NUMPY!".to_vec(), "byte 0"),
        ("version", version, "version"),
        ("no dictionary", npy("[1, 2]", &data), "byte"),
        ("pickle", npy(&header("'|O'", "False", "(2, 2)"), &data), "numbers"),
        ("structured", npy(&header("[('a', '<f4')]", "False", "(2, 2)"), &data), "byte"),
        ("complex", npy(&header("'<c8'", "False", "(2, 1)"), &data), "numbers"),
        ("overflow", npy(&header("'<f4'", "False", "(4294967296, 4294967296)"), &data), "overflows"),
        ("a lie", npy(&header("'<f4'", "False", "(1000000, 1000000)"), &data), "bytes of elements"),
        ("too long", npy(&header("'<f4'", "False", "(2, 1)"), &data), "bytes of elements"),
        ("cut off", good()[..100.min(good().len() - 3)].to_vec(), "byte"),
    ];
    for (what, bytes, part) in cases {
        folder.write("x.npy", bytes);
        let done = folder.graphc(&["run", "model.json", "-i", "x=@x.npy"]);
        done.fails(65, &["x.npy: byte", part], what);
    }
    folder.write("x.npy", npy(&header("'<f2'", "False", "(2, 2)"), &[0; 8]));
    let done = folder.graphc(&["run", "model.json", "-i", "x=@x.npy"]);
    done.fails(65, &["f16[2,2]", "convert it to f32"], "another type");
}

#[test]
fn bad_archives_are_refused() {
    let folder = folder_with_model();
    let good = good();
    // 200 MB of zeros in 200 KB, and a size that lies.
    let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut bomb).unwrap();
    let bomb = bomb.finish().unwrap();
    let spoilt = |change: fn(&mut Zip<'_>)| {
        let mut zip = Zip::of("x.npy", &good);
        change(&mut zip);
        archive(&[zip])
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("no archive", b"hello".to_vec()),
        ("outside", archive(&[Zip::of("../x.npy", &good)])),
        ("absolute", archive(&[Zip::of("/x.npy", &good)])),
        ("twice", archive(&[Zip::of("x.npy", &good), Zip::of("x.npy", &good)])),
        ("encrypted", spoilt(|z| z.flags = 1)),
        ("deflate64", spoilt(|z| z.method = 9)),
        ("checksum", spoilt(|z| z.crc ^= 1)),
        ("zip64 that is not there", spoilt(|z| z.size = u32::MAX)),
        ("bomb", {
            let mut zip = Zip::of("x.npy", &bomb);
            (zip.method, zip.size) = (8, u32::MAX - 1);
            archive(&[zip])
        }),
    ];
    for (what, bytes) in cases {
        folder.write("x.npz", bytes);
        folder.graphc(&["run", "model.json", "--inputs", "x.npz"]).fails(65, &["x.npz: "], what);
    }
    folder.write("x.npz", archive(&[Zip::of("z.npy", &good)]));
    let done = folder.graphc(&["run", "model.json", "-i", "x=@x.npz"]);
    done.fails(65, &["no array `x`", "`z`"], "another key");
    folder.graphc(&["run", "model.json", "--inputs", "x.npz"]).fails(
        2,
        &["no input `z`"],
        "an unknown input",
    );
    assert_eq!(folder.names(), ["model.json", "x.npz"]);
}
