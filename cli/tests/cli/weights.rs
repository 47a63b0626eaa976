//! Weights beside a module that are wrong: rows 27 and 28 of the catalogue of bad inputs.

use std::os::unix::fs::symlink;

use crate::command::{Folder, function, module};

/// y = x + w + v, whose state is in `weights.safetensors`.
fn two_tensors() -> String {
    let state = |name: &str| {
        format!(
            r#"{{"name": "{name}", "role": "param", "type": "f32[2]", "init": {{"file": "weights.safetensors", "tensor": "{name}"}}}}"#
        )
    };
    let nodes =
        [r#"{"id": "a", "op": "add", "in": ["x", "w"]}"#, r#"{"id": "y", "op": "add", "in": ["a", "v"]}"#];
    module(&[state("w"), state("v")].join(", "), &function(&["x:f32[2]"], &nodes, "y"))
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn entry(name: &str, dtype: &str, shape: &str, from: usize, to: usize) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

/// Both tensors, 1 everywhere.
fn good() -> Vec<u8> {
    let header = format!("{{{},{}}}", entry("w", "F32", "[2]", 0, 8), entry("v", "F32", "[2]", 8, 16));
    safetensors(&header, &[0, 0, 0x80, 0x3f].repeat(4))
}

#[test]
fn good_weights_are_read() {
    let folder = Folder::new();
    folder.write("model.json", two_tensors());
    folder.write("weights.safetensors", good());
    assert_eq!(folder.graphc(&["run", "model.json", "-i", "x=[1,2]"]).succeeds(), "{\"y\": [3.0, 4.0]}\n");
}

#[test]
fn damaged_weights_are_refused() {
    let folder = Folder::new();
    folder.write("model.json", two_tensors());
    let (w, v) = (entry("w", "F32", "[2]", 0, 8), entry("v", "F32", "[2]", 8, 16));
    let data = [0; 16];
    let with = |w: &str, v: &str| safetensors(&format!("{{{w},{v}}}"), &data);
    let mut long = good();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut over = good();
    over[..8].copy_from_slice(&(200u64 << 20).to_le_bytes());
    let cases: [(&str, Vec<u8>); 12] = [
        ("no header", vec![1, 2, 3]),
        ("header beyond the file", long),
        ("header of 200 MB", over),
        ("not JSON", safetensors("{nonsense", &data)),
        ("overlap", with(&w, &entry("v", "F32", "[2]", 4, 12))),
        ("hole", with(&w, &entry("v", "F32", "[2]", 12, 20))),
        ("offset beyond", with(&w, &entry("v", "F32", "[2]", 8, 1 << 40))),
        ("backwards", with(&w, &entry("v", "F32", "[2]", 16, 8))),
        ("shape and bytes differ", with(&w, &entry("v", "F32", "[3]", 8, 16))),
        ("twice", with(&w, &w)),
        ("unknown type", with(&w, &entry("v", "F99", "[2]", 8, 16))),
        ("trailing bytes", safetensors(&format!("{{{w},{v}}}"), &[0; 17])),
    ];
    for (what, bytes) in cases {
        folder.write("weights.safetensors", bytes);
        folder.graphc(&["check", "model.json"]).fails(65, &["model.json:2:", "weights.safetensors"], what);
    }
}

#[test]
fn weights_of_another_model_are_told_all_at_once() {
    let folder = Folder::new();
    folder.write("model.json", two_tensors());
    let header = format!("{{{},{}}}", entry("module.w", "F32", "[2]", 0, 8), entry("v", "F64", "[1]", 8, 16));
    folder.write("weights.safetensors", safetensors(&header, &[0; 16]));
    let done = folder.graphc(&["check", "model.json"]);
    let parts = ["no tensor `w`", "it has `module.w`", "`v`", "f64[1]", "f32[2]", "nothing refers to"];
    done.fails(65, &parts, "another model");
    std::fs::remove_file(folder.path().join("weights.safetensors")).unwrap();
    folder.graphc(&["check", "model.json"]).fails(
        65,
        &["weights.safetensors", "cannot be opened"],
        "no weights",
    );
}

#[test]
fn changed_weights_are_noticed() {
    let folder = Folder::new();
    let large = r#"{"name": "w", "role": "param", "type": "f32[2000]"}"#;
    let f = function(&["x:f32[2000]"], &[r#"{"id": "y", "op": "add", "in": ["x", "w"]}"#], "y");
    folder.write("model.json", module(large, &f));
    folder
        .graphc(&["run", "model.json", "-i", "x=zeros", "--state", "w=ones", "--save", "saved.json"])
        .succeeds();
    let weights = folder.names().into_iter().find(|n| n.ends_with(".safetensors")).unwrap();
    folder.graphc(&["run", "saved.json", "-i", "x=zeros"]).succeeds();
    let path = folder.path().join(&weights);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    folder.graphc(&["check", "saved.json"]).fails(65, &["`w`", "SHA-256", "good copy"], "a flipped bit");
}

#[test]
fn nothing_outside_the_folder_is_opened() {
    let folder = Folder::new();
    folder.write("elsewhere", good());
    for name in ["../weights.safetensors", "/etc/hostname", "a/b", "..", "C:\\\\x"] {
        folder.refuses(two_tensors().replace("weights.safetensors", name), &["plain name of a file"]);
    }
    symlink("elsewhere", folder.path().join("weights.safetensors")).unwrap();
    folder.refuses(two_tensors(), &["symbolic link"]);
    std::fs::remove_file(folder.path().join("weights.safetensors")).unwrap();
    std::fs::create_dir(folder.path().join("weights.safetensors")).unwrap();
    folder.refuses(two_tensors(), &["not a regular file"]);
}
