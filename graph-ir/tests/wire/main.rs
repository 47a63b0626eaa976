//! The file format from outside: what is written, read back and refused.

mod docs;
mod refusals;
mod round_trip;
mod scale;
mod weights;

use graphc_ir::Module;
use graphc_ir::wire::{DecodeOptions, EncodeOptions, decode, encode};

/// A module by hand, with every liberty that the format gives.
const MLP: &str = r#"{"format": "graphc.module", "version": 1, "producer": "a person", "meta": {"classes": ["a", "b"], "mean": 0.5},
 "symbols": {"B": 1},
 "state": [
  {"name": "w1", "role": "param", "type": "f32[4,3]", "init": {"data": [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0.1, -0.0, "nan"]]}},
  {"name": "b1", "role": "param", "type": "f32[3]"},
  {"name": "w2", "role": "param", "type": "f32[3,2]"},
  {"name": "steps", "role": "buffer", "type": "i64[]", "init": {"data": 3}}],
 "functions": {
  "predict": {
   "inputs": [{"name": "x", "type": "f32[B,4]"}],
   "nodes": [
     {"id": "y", "op": "matmul", "in": ["a", "w2"]},
     {"id": "h", "op": "linear", "in": ["x", "w1", "b1"], "type": "f32[B,3]"},
     {"id": "a", "op": "max", "in": ["h", 0]},
     {"id": "nobias", "op": "linear", "in": ["a", "w2", null]},
     {"id": "scaled", "op": "mul", "in": ["a", "b1"]},
     {"id": "stats", "op": "moments", "in": ["scaled"], "attrs": {"axes": [0]}, "type": ["f32[3]", "f32[3]"]},
     {"id": "one", "op": "const", "attrs": {"value": {"type": "i64[]", "data": 1}}},
     {"id": "next", "op": "add", "in": ["steps", "one"]}],
   "outputs": {"y": "y", "scaled": {"value": "stats#1", "mark": "metric"}, "same": "x", "z": "nobias"},
   "updates": {"steps": "next"}}}}"#;

fn problems(text: &str) -> Vec<String> {
    match decode(text.as_bytes(), &DecodeOptions::default()) {
        Ok(_) => Vec::new(),
        Err(all) => all.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn read(text: &str) -> Module {
    match decode(text.as_bytes(), &DecodeOptions::default()) {
        Ok(module) => module,
        Err(_) => panic!("{}", problems(text).join("\n")),
    }
}

#[track_caller]
fn write(module: &Module) -> String {
    encode(module, &EncodeOptions::default()).expect("the module can be written")
}

/// A module of one function `f`.
fn with_function(function: &str) -> String {
    format!("{{\"format\": \"graphc.module\", \"version\": 1, \"functions\": {{\"f\":\n{function}}}}}")
}

/// A module of one function over `x: f32[2,3]` and `n: i32[4]` with these nodes and no output.
fn with_nodes(nodes: &str) -> String {
    with_function(&format!(
        "{{\"inputs\": [{{\"name\": \"x\", \"type\": \"f32[2,3]\"}}, {{\"name\": \"n\", \"type\": \"i32[4]\"}}], \"nodes\": [\n{nodes}],\n\"outputs\": {{}}}}"
    ))
}
