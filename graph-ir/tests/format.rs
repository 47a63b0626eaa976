//! The file format from outside: what is written, read back and refused.

use graphc_ir::wire::{DecodeOptions, EncodeOptions, decode, encode, load, save};
use graphc_ir::{DType, Module};

const MLP: &str = r#"{"format": "graphc.module", "version": 1, "producer": "a person", "meta": {"classes": ["a", "b"], "mean": 0.5},
 "symbols": {"B": 1},
 "state": [
  {"name": "w1", "role": "param", "type": "f32[4,3]", "init": {"data": [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0.1, -0.0, "nan"]]}},
  {"name": "b1", "role": "param", "type": "f32[3]"},
  {"name": "w2", "role": "param", "type": "f32[3,2]"}],
 "functions": {
  "predict": {
   "inputs": [{"name": "x", "type": "f32[B,4]"}],
   "nodes": [
     {"id": "y", "op": "matmul", "in": ["a", "w2"]},
     {"id": "h", "op": "linear", "in": ["x", "w1", "b1"], "type": "f32[B,3]"},
     {"id": "a", "op": "max", "in": ["h", 0]},
     {"id": "scaled", "op": "mul", "in": ["a", "b1"]}],
   "outputs": {"y": "y", "scaled": {"value": "scaled", "mark": "metric"}}}}}"#;

fn read(text: &str) -> Module {
    match decode(text.as_bytes(), &DecodeOptions::default()) {
        Ok(module) => module,
        Err(all) => panic!("{}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn write(module: &Module) -> String {
    encode(module, &EncodeOptions::default()).expect("the module can be written")
}

#[test]
fn a_hand_written_module_becomes_canonical() {
    let module = read(MLP);
    let text = write(&module);
    println!("{text}");
    assert_eq!(text, write(&read(&text)));
    let f = &module.functions["predict"];
    assert_eq!(f.graph.ty(f.output_values()[0]).to_string(), "f32[B,2]");
    assert_eq!(f.graph.ty(f.output_values()[1]).dtype, DType::F32);
    assert!(text.contains(r#"{"id": "y", "op": "dot""#));
}

#[test]
fn a_module_with_weights_is_saved_and_loaded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mlp.json");
    let module = read(MLP);
    save(&module, &path).expect("saved");
    let again = load(&path).expect("loaded");
    assert_eq!(write(&module), write(&again));
}
