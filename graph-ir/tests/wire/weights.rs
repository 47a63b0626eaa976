//! Modules with weights files: what is read, what is refused, what saving leaves behind.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use graphc_ir::module::{StateDecl, StateRole};
use graphc_ir::wire::{DecodeOptions, LoadError, decode, load, save};
use graphc_ir::{DType, Module, Scalar, Tensor, TensorType};
use safetensors::SafeTensors;

use super::{MLP, read, with_function, write};

/// Three state variables of different types, 2,000 elements and more.
fn module(seed: usize) -> Module {
    let mut module = Module::default();
    for (name, dtype, shape) in [
        ("flag", DType::Bool, &[3][..]),
        ("w", DType::F32, &[40, 50]),
        ("h", DType::F16, &[0, 2]),
        ("n", DType::I64, &[]),
    ] {
        let value = Tensor::from_fn(dtype, shape, |i| Scalar::F(((i * 7 + seed) % 11) as f64 - 5.0));
        module.state.push(StateDecl {
            name: name.into(),
            role: StateRole::Param,
            ty: TensorType::fixed(dtype, shape),
            init: Some(Arc::new(value)),
        });
    }
    module
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut all: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    all.sort();
    all
}

fn values(module: &Module) -> Vec<Option<Arc<Tensor>>> {
    module.state.iter().map(|s| s.init.clone()).collect()
}

#[test]
fn small_state_stands_in_the_module() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mlp.json");
    let module = read(MLP);
    save(&module, &path).expect("saved");
    assert_eq!(names(folder.path()), ["mlp.json"]);
    assert_eq!(fs::read_to_string(&path).expect("text"), write(&module));
    assert_eq!(write(&load(&path).expect("loaded")), write(&module));
}

#[test]
fn weights_are_named_by_their_content() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    save(&module(1), &path).expect("saved");
    let first = names(folder.path());
    assert_eq!(first.len(), 2);
    assert!(first[0].starts_with("net-") && first[0].ends_with(".safetensors") && first[0].len() == 28);
    assert_eq!(values(&load(&path).expect("loaded")), values(&module(1)));
    // The same module gives the same bytes; another one replaces the weights.
    let bytes = fs::read(&path).expect("bytes");
    save(&module(1), &path).expect("saved again");
    assert_eq!((fs::read(&path).expect("bytes"), names(folder.path())), (bytes, first.clone()));
    save(&module(2), &path).expect("saved again");
    assert_eq!(values(&load(&path).expect("loaded")), values(&module(2)));
    let second = names(folder.path());
    assert!(second.len() == 2 && second != first);
    // A copy of the module keeps its weights.
    fs::copy(&path, folder.path().join("copy.json")).expect("copied");
    save(&module(3), &path).expect("saved again");
    assert_eq!(names(folder.path()).len(), 4);
    assert_eq!(values(&load(folder.path().join("copy.json")).expect("loaded")), values(&module(2)));
}

#[test]
fn the_reference_implementation_reads_our_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    save(&module(1), folder.path().join("net.json")).expect("saved");
    let bytes = fs::read(folder.path().join(&names(folder.path())[0])).expect("bytes");
    let theirs = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    for s in module(1).state {
        let (found, wanted) = (theirs.tensor(&s.name).expect(&s.name), s.init.expect("a value"));
        assert_eq!((found.shape(), found.data()), (wanted.shape(), wanted.bytes()), "{}", s.name);
        let aligned = found.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(aligned % wanted.dtype().size(), 0);
    }
}

#[test]
fn large_constants_are_in_the_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("c.json");
    let numbers = vec!["0.5"; 1025].join(",");
    let module = read(&with_function(&format!(
        "{{\"nodes\": [{{\"id\": \"c\", \"op\": \"const\", \"attrs\": {{\"value\": {{\"type\": \"f32[1025]\", \"data\": [{numbers}]}}}}}}], \"outputs\": {{\"y\": \"c\"}}}}"
    )));
    save(&module, &path).expect("saved");
    assert_eq!(names(folder.path()).len(), 2);
    let text = fs::read_to_string(&path).expect("text");
    assert!(text.contains("\"tensor\": \"f/c\"") && text.len() < 1000, "{text}");
    assert_eq!(load(&path).expect("loaded").functions["f"].graph, module.functions["f"].graph);
    let alone = decode(text.as_bytes(), &DecodeOptions::default()).expect_err("no folder");
    assert!(alone[0].to_string().contains("no folder is given"), "{}", alone[0]);
}

/// A module whose state is in `w.safetensors`, with the header and data given.
fn load_weights(state: &[(&str, &str)], file: &[u8]) -> Result<Module, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("w.safetensors"), file).expect("written");
    let state: Vec<String> = state
        .iter()
        .map(|(name, ty)| {
            format!("{{\"name\": \"{name}\", \"role\": \"param\", \"type\": \"{ty}\", \"init\": {{\"file\": \"w.safetensors\", \"tensor\": \"{name}\"}}}}")
        })
        .collect();
    let text = format!(
        "{{\"format\": \"graphc.module\", \"version\": 1, \"state\": [\n{}],\n\"functions\": {{}}}}",
        state.join(",\n")
    );
    let options = DecodeOptions { folder: Some(folder.path()), ..DecodeOptions::default() };
    decode(text.as_bytes(), &options)
        .map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(vec![0; data]);
    bytes
}

#[test]
fn broken_weights_files() {
    let tensor = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!("{{\"dtype\": \"{dtype}\", \"shape\": {shape}, \"data_offsets\": [{begin}, {end}]}}")
    };
    let one = |t: String| format!("{{\"a\": {t}}}");
    let good = one(tensor("F32", "[2]", 0, 8));
    assert!(load_weights(&[("a", "f32[2]")], &file(&good, 8)).is_ok());
    let mut lies = (u64::MAX).to_le_bytes().to_vec();
    lies.extend(b"{}");
    let mut beyond = 100u64.to_le_bytes().to_vec();
    beyond.extend(b"{}");
    let two = |a: String, b: String| format!("{{\"a\": {a}, \"b\": {b}}}");
    for (bytes, part) in [
        (vec![], "it has only 0 bytes"),
        (lies, "more than 100000000"),
        (beyond, "would have 100 of 10 bytes"),
        (file("nonsense", 0), "has a bad header"),
        (file("[]", 0), "no JSON object"),
        (file("{\"a\": 7}", 0), "has no dtype"),
        (file(&one(tensor("F8_E4M3", "[2]", 0, 2)), 2), "the element type `F8_E4M3`"),
        (file(&one(tensor("F32", "[2]", 0, 7)), 7), "its shape and type take 8 bytes"),
        (file(&one(tensor("F32", "[2.5]", 0, 8)), 8), "no shape of non-negative integers"),
        (file(&one(tensor("F32", "[4294967296, 4294967296]", 0, 8)), 8), "overflows"),
        (file(&one(tensor("F32", "[2]", 8, 0)), 8), "take 8 bytes"),
        (file(&one(tensor("F32", "[2]", 0, 8)), 7), "is cut off: "),
        (file(&one(tensor("F32", "[2]", 0, 8)), 9), "1 bytes after its last tensor"),
        (file(&one(tensor("F32", "[2]", 4, 12)), 12), "leaves a gap"),
        (file(&one(tensor("F32", "[2]", u64::MAX - 8, u64::MAX)), 8), "overflows"),
        (file(&two(tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", 4, 12)), 12), "overlaps another"),
        (file(&format!("{{\"a\": {0}, \"a\": {0}}}", tensor("F32", "[2]", 0, 8)), 8), "stands twice"),
        (file(&one(tensor("F32", "[2]", 0, 8).replace("dtype", "dtyp")), 8), "unknown field `dtyp`"),
        (file(&one(tensor("BOOL", "[2]", 0, 2)), 2), "is bool[2], but f32[2] is declared"),
    ] {
        let error = load_weights(&[("a", "f32[2]")], &bytes).expect_err(part);
        assert!(error.starts_with("module:2:") && error.contains(part), "`{part}` is not in: {error}");
    }
    let mut truth = file(&one(tensor("BOOL", "[2]", 0, 2)), 2);
    *truth.last_mut().expect("a byte") = 2;
    let error = load_weights(&[("a", "bool[2]")], &truth).expect_err("2 is no boolean");
    assert!(error.contains("neither 0 nor 1"), "{error}");
}

/// Truncated at every byte, and with every byte changed: never a panic.
#[test]
fn weights_cut_and_changed_anywhere() {
    let whole = file("{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8);
    for end in 0..whole.len() {
        assert!(load_weights(&[("a", "f32[2]")], &whole[..end]).is_err(), "{end}");
        let mut changed = whole.clone();
        changed[end] ^= 0x11;
        let _ = load_weights(&[("a", "f32[2]")], &changed);
    }
}

#[test]
fn every_difference_is_told() {
    let header = "{\"module.a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [8, 12]}, \"extra\": {\"dtype\": \"U8\", \"shape\": [], \"data_offsets\": [12, 13]}}";
    let error = load_weights(&[("a", "f32[2]"), ("b", "f32[2]"), ("c", "f32[]")], &file(header, 13))
        .expect_err("differences");
    let lines: Vec<&str> = error.lines().collect();
    for part in [
        "has no tensor `a`; it has `module.a`",
        "tensor `b` of w.safetensors is f32[1], but f32[2] is declared",
        "has no tensor `c`",
        "holds the tensor `module.a`, which nothing refers to",
        "holds the tensor `extra`, which nothing refers to",
    ] {
        assert!(lines.iter().any(|l| l.contains(part)), "`{part}` is not in:\n{error}");
    }
    assert_eq!(lines.len(), 5, "{error}");
}

#[test]
fn a_flipped_bit_names_its_tensor() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    save(&module(1), &path).expect("saved");
    let weights = folder.path().join(&names(folder.path())[0]);
    let mut bytes = fs::read(&weights).expect("bytes");
    let at = bytes.len() - 100;
    bytes[at] ^= 4;
    fs::write(&weights, bytes).expect("written");
    let error = load(&path).expect_err("a flipped bit").to_string();
    assert!(error.contains("tensor `w` of net-") && error.contains("was changed"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_pipes_and_folders_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.json");
    save(&module(1), &path).expect("saved");
    let weights = folder.path().join(&names(folder.path())[0]);
    let outside = tempfile::tempdir().expect("a temporary folder");
    let moved = outside.path().join("w");
    fs::rename(&weights, &moved).expect("moved");
    let error = load(&path).expect_err("no file").to_string();
    assert!(error.contains("cannot be opened"), "{error}");
    std::os::unix::fs::symlink(&moved, &weights).expect("linked");
    let error = load(&path).expect_err("a link").to_string();
    assert!(error.contains("it is a symbolic link"), "{error}");
    fs::remove_file(&weights).expect("removed");
    fs::create_dir(&weights).expect("a folder");
    let error = load(&path).expect_err("a folder").to_string();
    assert!(error.contains("it is not a regular file"), "{error}");
    // The module itself may be no folder or device either, and is not replaced by renaming.
    for bad in [folder.path(), Path::new("/dev/null"), Path::new("/dev/full")] {
        assert!(matches!(load(bad), Err(LoadError::Io { .. })));
        assert!(save(&module(1), bad).is_err());
    }
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    assert!(save(&module(2), &link).is_err_and(|e| e.to_string().contains("symbolic link")));
    for missing in ["no/such/folder/m.json", "/proc/m.json"] {
        assert!(save(&module(1), folder.path().join(missing)).is_err(), "{missing}");
    }
}
