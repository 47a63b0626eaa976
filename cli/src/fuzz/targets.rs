//! The readers under test, with examples that they accept.

use std::io::Cursor;
use std::path::Path;

use graphc::ir::Scalar;
use graphc::ir::wire::json;
use graphc::ir::wire::safetensors::Weights;
use graphc::ir::wire::{self, DecodeOptions, EncodeOptions, Limits};
use graphc::optimizer::grad::{Derivative, DerivativeSpec, Loss, TrainingSpec, add_derivative, add_training};
use graphc::verify::{Case, verify};
use graphc::{DType, Device, ErrorKind, Module, Op, Options, Session, Tensor};

use super::Answer;
use crate::array::NpyFile;
use crate::npy::read_npy;
use crate::npz::{NpzLimits, read_npz, write_npz};
use crate::value::{Recipe, image};
use crate::verbs::train::spec::{Columns, Table};
use crate::verbs::train::table;
use crate::zip::Contents;

/// A reader.
pub struct Target {
    pub name: &'static str,
    /// Inputs in an ordinary test run: a second or two.
    pub runs: u64,
    /// Words of the format.
    pub words: &'static [&'static str],
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub run: fn(&[u8]) -> Answer,
}

const MODULE_WORDS: &[&str] = &[
    "\"op\": \"add\"",
    "\"id\": \"a\"",
    "\"in\": [\"x\"]",
    "\"attrs\": {\"axes\": [0]}",
    "\"type\": \"f32[2]\"",
    "null",
    "true",
    "{}",
    "[]",
    "\"a#1\"",
    "neg",
    "mul",
    "exp",
    "reduce",
    "sum",
    "max",
    "dot",
    "softmax",
    "reshape",
    "transpose",
    "concat",
    "slice",
    "pad",
    "gather",
    "cast",
    "f16",
    "bf16",
    "i8",
    "u64",
    "bool",
    "B",
    "B+1",
    "floor(B/2)",
    "f32[B,3]",
    "f64[]",
    "pad_mode",
    "reflect",
    "max_pool",
    "conv",
    "scan",
    "cond",
    "call",
    "iota",
    "moments",
    "cross_entropy",
    "layer_norm",
    "cumsum",
    "check",
    "\\u001b",
    "\\ud800",
    "é",
];

fn encoded(arrays: &[&Tensor]) -> Vec<Vec<u8>> {
    let of = |t: &&Tensor| {
        let mut bytes = Vec::new();
        NpyFile::new(t)
            .send(&mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        bytes
    };
    arrays.iter().map(of).collect()
}

fn samples() -> Vec<Tensor> {
    let shapes: [(DType, &[usize]); 6] = [
        (DType::F32, &[2, 3]),
        (DType::F64, &[]),
        (DType::I64, &[5]),
        (DType::U8, &[0, 2]),
        (DType::Bool, &[2, 2, 1]),
        (DType::F16, &[3]),
    ];
    shapes.iter().map(|(dtype, shape)| Tensor::from_fn(*dtype, shape, |i| Scalar::I(i as i128 % 2))).collect()
}

fn refused(e: impl std::fmt::Display) -> Answer {
    let text = e.to_string();
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(c) => Err(format!("a message holds the control character {c:?}")),
        None if text.len() > 100_000 => Err("a message of over 100,000 bytes".into()),
        None => Ok(text),
    }
}

pub fn npy() -> Target {
    let run = |bytes: &[u8]| match read_npy(bytes) {
        Ok(array) => Ok(format!("{:?}", array.dtype)),
        Err(e) => refused(e),
    };
    let seeds = || encoded(&samples().iter().collect::<Vec<_>>());
    let words = &[
        "'fortran_order': True",
        "'descr': '>f8'",
        "'shape': (2, 3)",
        "(",
        ")",
        ",",
        "L",
        "|b1",
        "<f2",
        "\u{0}",
    ];
    Target { name: "npy", runs: 20000, words, seeds, run }
}

pub fn npz() -> Target {
    let seeds = || {
        let tensors = samples();
        let files: Vec<NpyFile<'_>> = tensors.iter().map(NpyFile::new).collect();
        let names = ["a", "b/c", "d", "e", "f", "g"];
        let mut out = Vec::new();
        write_npz(&mut out, names.into_iter().zip(files.iter().map(|f| f as &dyn Contents)))
            .unwrap()
            .unwrap();
        let mut one = Vec::new();
        write_npz(&mut one, [("x", &files[0] as &dyn Contents)]).unwrap().unwrap();
        vec![out, one, EMPTY_ARCHIVE.to_vec()]
    };
    let run = |bytes: &[u8]| {
        let limits = NpzLimits { entries: 100, entry_bytes: 1 << 24, total_bytes: 1 << 25 };
        match read_npz(bytes, &limits) {
            Ok(arrays) => Ok(arrays.len().to_string()),
            Err(e) => refused(e),
        }
    };
    Target {
        name: "npz",
        runs: 5000,
        words: &["PK\u{1}\u{2}", "PK\u{3}\u{4}", "PK\u{5}\u{6}", "PK\u{6}\u{6}", ".npy", "../"],
        seeds,
        run,
    }
}

/// No entries.
const EMPTY_ARCHIVE: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub fn safetensors() -> Target {
    let seeds = || {
        let tensors = samples();
        let names = ["a", "b", "c", "d", "e", "f"];
        let named: Vec<(&str, &Tensor)> = names.into_iter().zip(&tensors).collect();
        let (mut all, mut one) = (Vec::new(), Vec::new());
        wire::safetensors::write(&mut all, &named).unwrap();
        wire::safetensors::write(&mut one, &named[..1]).unwrap();
        vec![all, one]
    };
    let run = |bytes: &[u8]| {
        let mut weights = match Weights::open(Cursor::new(bytes)) {
            Ok(weights) => weights,
            Err(e) => return refused(e),
        };
        let entries: Vec<_> = weights.entries().to_vec();
        for e in &entries {
            match weights.read(&e.name) {
                Ok(tensor) if (tensor.dtype(), tensor.shape()) == (e.dtype, &e.shape[..]) => {}
                Ok(_) => return Err("a tensor is not as the header says".into()),
                Err(e) => return refused(e),
            }
        }
        Ok(entries.len().to_string())
    };
    let words = &[
        "\"dtype\": \"F32\"",
        "\"shape\": []",
        "\"data_offsets\": [0, 0]",
        "__metadata__",
        "BF16",
        "BOOL",
        "[",
        "]",
    ];
    Target { name: "safetensors", runs: 10000, words, seeds, run }
}

pub fn csv() -> Target {
    let seeds = || vec![b"1,2,3\n4,5,6\n".to_vec(), b"\"1\",-2.5,0\r\n1e3,4,1\n".to_vec()];
    let run = |bytes: &[u8]| {
        let columns = |input: &str, range| Columns { input: input.into(), range, divisor: 1.0 };
        let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let inputs = vec![columns("x", 0..2), columns("y", 2..3)];
        let table = Table { gzip: first % 8 == 7, first: 0, end: None, inputs };
        let text = if table.gzip { rest } else { bytes };
        match table::read_from(text, Path::new("rows.csv"), &table, &[DType::F32, DType::U8]) {
            Ok((rows, elements)) if elements[1].bytes.len() == rows => Ok(String::new()),
            Ok(_) => Err("not as many elements as rows".into()),
            Err(e) => refused(e),
        }
    };
    Target {
        name: "csv",
        runs: 10000,
        words: &["\"", ",", "\n", "\r", "nan", "inf", "1e309", "\u{feff}", "256", "\u{1b}"],
        seeds,
        run,
    }
}

pub fn png() -> Target {
    let seeds = || {
        let written = |image: ::image::DynamicImage| {
            let mut out = Cursor::new(Vec::new());
            image.write_to(&mut out, ::image::ImageFormat::Png).unwrap();
            out.into_inner()
        };
        let gray = ::image::GrayImage::from_fn(3, 2, |x, y| ::image::Luma([(x * 80 + y) as u8]));
        let rgba = ::image::RgbaImage::from_fn(2, 2, |x, y| ::image::Rgba([x as u8, y as u8, 7, 255]));
        vec![written(gray.into()), written(rgba.into())]
    };
    let run = |bytes: &[u8]| match image::decode(bytes.to_vec()) {
        Ok(image) => Ok(format!("{:?}", image.color())),
        Err(e) => refused(e),
    };
    Target {
        name: "png",
        runs: 5000,
        words: &["IHDR", "IDAT", "IEND", "PLTE", "tRNS", "iCCP", "acTL"],
        seeds,
        run,
    }
}

/// Small modules that use much of the format.
fn modules() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut all = vec![SMALL.as_bytes().to_vec(), LOOPS.as_bytes().to_vec(), OPS.as_bytes().to_vec()];
    all.extend(
        ["two_layer", "mlp_784"]
            .map(|name| std::fs::read(folder.join(name).join(format!("{name}.json"))).unwrap()),
    );
    all
}

const SMALL: &str = r#"{"format": "graphc.module", "version": 1, "symbols": {"B": 1},
 "state": [{"name": "w", "role": "param", "type": "f32[3,2]", "init": {"data": [0.5, -1.0, 0.25, 1.0, 2.0, 0.125]}}],
 "functions": {"f": {"inputs": [{"name": "x", "type": "f32[B,3]"}],
  "nodes": [{"id": "h", "op": "matmul", "in": ["x", "w"]}, {"id": "p", "op": "softmax", "in": ["h"], "attrs": {"axis": 1}}, {"id": "n", "op": "add", "in": ["w", 1.0]}],
  "outputs": {"p": "p"}, "updates": {"w": "n"}}}}"#;

const LOOPS: &str = r#"{"format": "graphc.module", "version": 1,
 "functions": {"b": {"inputs": [{"name": "c", "type": "f32[2]"}, {"name": "s", "type": "f32[2]"}],
  "nodes": [{"id": "k", "op": "add", "in": ["c", "s"]}, {"id": "t", "op": "tanh", "in": ["k"]}], "outputs": {"c": "t", "y": "k"}},
 "f": {"inputs": [{"name": "x", "type": "f32[2]"}, {"name": "xs", "type": "f32[4,2]"}],
  "nodes": [{"id": "a", "op": "scan", "in": ["x", "xs"], "attrs": {"body": "b", "carries": 1, "stacks": 1, "length": 4}},
   {"id": "l", "op": "reduce", "in": ["a#1"], "attrs": {"kind": "sum", "axes": [0, 1]}}], "outputs": {"l": "l", "last": "a"}}}}"#;

const OPS: &str = r#"{"format": "graphc.module", "version": 1,
 "functions": {"f": {"inputs": [{"name": "x", "type": "f32[1,2,5,5]"}, {"name": "k", "type": "f32[3,2,3,3]"}, {"name": "i", "type": "i32[4]"}],
  "nodes": [{"id": "c", "op": "conv", "in": ["x", "k"], "attrs": {"pads_lo": [1, 1], "pads_hi": [1, 1]}},
   {"id": "m", "op": "max_pool", "in": ["c"], "attrs": {"kernel": [2, 2], "strides": [2, 2]}},
   {"id": "r", "op": "relu", "in": ["m"]}, {"id": "s", "op": "reshape", "in": ["r"], "attrs": {"dims": [3, 4]}},
   {"id": "g", "op": "gather", "in": ["s", "i"], "attrs": {"axis": 1}}, {"id": "p", "op": "pad_mode", "in": ["g"], "attrs": {"lo": [0, 2], "hi": [1, 3], "mode": "reflect"}},
   {"id": "t", "op": "transpose", "in": ["p"], "attrs": {"perm": [1, 0]}}, {"id": "o", "op": "moments", "in": ["t"], "attrs": {"axes": [0]}},
   {"id": "q", "op": "concat", "in": ["o", "o#1"], "attrs": {"axis": 0}}, {"id": "z", "op": "cast", "in": ["q"], "attrs": {"to": "f16"}}],
  "outputs": {"y": "z", "t": "t"}}}}"#;

fn decoded(bytes: &[u8]) -> Result<Module, String> {
    let limits =
        Limits { json: json::Limits { nodes: 200_000, ..json::Limits::default() }, ..Limits::default() };
    let options = DecodeOptions { file: "m.json", limits, folder: None };
    wire::decode(bytes, &options)
        .map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

pub fn module() -> Target {
    let run = |bytes: &[u8]| {
        let module = match decoded(bytes) {
            Ok(module) => module,
            Err(e) => return refused(e),
        };
        // What was accepted has a canonical form, which is accepted and its own.
        let options = EncodeOptions { weights: None };
        let text = match wire::encode(&module, &options) {
            Ok(text) => text,
            Err(e) => return refused(e),
        };
        let again = decoded(text.as_bytes()).map_err(|e| format!("the canonical form is refused: {e}"))?;
        match wire::encode(&again, &options) {
            Ok(twice) if twice == text => Ok("accepted".into()),
            Ok(_) => Err("the canonical form is not its own".into()),
            Err(e) => Err(format!("the canonical form has none: {e}")),
        }
    };
    Target { name: "module", runs: 600, words: MODULE_WORDS, seeds: modules, run }
}

/// Elements and operations up to which a module is run.
const WORK: f64 = 2e5;

pub fn graph() -> Target {
    let seeds = || modules().into_iter().take(3).collect();
    Target { name: "graph", runs: 120, words: MODULE_WORDS, seeds, run: run_graph }
}

fn run_graph(bytes: &[u8]) -> Answer {
    let Ok(mut module) = decoded(bytes) else { return Ok("refused".into()) };
    for s in &mut module.state {
        let Some(shape) = s.ty.shape().filter(|s| s.iter().map(|d| *d as f64).product::<f64>() <= WORK)
        else {
            return Ok("state too large".into());
        };
        if s.init.is_none() {
            s.init = Some(Recipe::Random.tensor(&s.name, s.ty.dtype, &shape, 1).into());
        }
    }
    let options = Options { memory_limit: Some(1 << 28), ..Options::default() };
    let mut text = String::new();
    for name in module.functions.keys() {
        text += &run_function(&module, name, &options)?;
    }
    Ok(text)
}

fn run_function(module: &Module, name: &str, options: &Options) -> Answer {
    let function = &module.functions[name];
    let mut ops: Vec<&str> = function.graph.nodes().map(|(_, n)| n.op.name()).collect();
    ops.sort_unstable();
    ops.dedup();
    // Whether a loop ends is nobody's to say, nor how long a counted one takes that is in another.
    if function.graph.nodes().any(|(_, n)| {
        matches!(n.op, Op::While(_))
            || n.op.bodies().iter().any(|(_, b)| b.nodes().any(|(_, n)| n.op.has_bodies()))
    }) {
        return Ok("loops".into());
    }
    let session =
        match Session::from_module(module.clone()).device(Device::Reference).options(options.clone()).build()
        {
            Ok(session) => session,
            Err(e) => return failed(&e),
        };
    let symbols = session.symbols(name).map_err(|e| e.to_string())?;
    let bounds = &function.graph.infer().bounds;
    let dims: Vec<(&str, usize)> =
        symbols.iter().map(|s| (s.as_str(), bounds.lower(s).max(3) as usize)).collect();
    let mut binding = session.dims().clone();
    for (symbol, size) in &dims {
        let symbol = graphc::ir::dim::Symbol::new(symbol).map_err(|e| e.to_string())?;
        if binding.set(&symbol, *size as i64, "the test").is_err() {
            return Ok("other sizes".into());
        }
    }
    let Ok(bound) = function.graph.bind(&binding) else { return Ok("unbound".into()) };
    let sizes = bound
        .nodes()
        .flat_map(|(_, n)| n.outs())
        .map(|v| bound.ty(v).dims.iter().filter_map(|d| d.as_const()).map(|d| d as f64).product::<f64>());
    if sizes.sum::<f64>() + graphc::ir::interp::flops(&bound).unwrap_or(f64::INFINITY) > WORK {
        return Ok("work".into());
    }
    let feed = |i: usize| {
        let ty = bound.ty(bound.inputs()[i]);
        Recipe::Random.tensor(&function.inputs[i], ty.dtype, &ty.static_shape(), 1)
    };
    let tensors: Vec<Tensor> = (0..function.inputs.len()).map(feed).collect();
    let feeds: Vec<(&str, &Tensor)> = function.inputs.iter().map(String::as_str).zip(&tensors).collect();
    let case = Case {
        module,
        function: name,
        feeds: &feeds,
        dims: &dims,
        tolerance: 1e-2,
        strict: false,
        device: Device::Cpu,
    };
    match verify(&case, options) {
        Err(e) => failed(&e),
        Ok(verdicts) => match verdicts.into_iter().find(|v| v.culprit.is_some()) {
            Some(v) => Err(format!("{} differs by {:e}: {:?}", v.level, v.worst.error, v.culprit)),
            None => Ok(ops.join(" ")),
        },
    }
}

/// Whatever training function or derivative is made of a module that is accepted, its file is accepted too.
pub fn grad() -> Target {
    let seeds = || {
        let mut all = modules();
        // Types and names at the limits, beyond which derived ones would lie.
        all.push(
            DEEP.replace("RANK", &format!("f32[{}2]", "1,".repeat(15)))
                .replace("NAME", &"n".repeat(256))
                .into_bytes(),
        );
        all
    };
    Target { name: "grad", runs: 150, words: MODULE_WORDS, seeds, run: run_grad }
}

const DEEP: &str = r#"{"format": "graphc.module", "version": 1,
 "state": [{"name": "w", "role": "param", "type": "RANK", "init": {"data": [1.0, 2.0]}}],
 "functions": {"b": {"inputs": [{"name": "v", "type": "RANK"}], "nodes": [{"id": "k", "op": "sin", "in": ["v"]}], "outputs": {"o": "k"}},
 "f": {"inputs": [], "nodes": [{"id": "a", "op": "scan", "in": ["w"], "attrs": {"body": "b", "carries": 1, "stacks": 0, "length": 3}}], "outputs": {"y": "a"}},
 "g": {"inputs": [{"name": "x", "type": "RANK"}], "nodes": [{"id": "NAME", "op": "mul", "in": ["x", "w"]}], "outputs": {"y": "NAME"}}}}"#;

fn run_grad(bytes: &[u8]) -> Answer {
    let Ok(module) = decoded(bytes) else { return Ok("refused".into()) };
    if module.functions.values().map(|f| f.graph.len()).sum::<usize>() > 500 {
        return Ok("large".into());
    }
    let mut answers = String::new();
    for (name, function) in &module.functions {
        for output in &function.outputs {
            let of = Loss::Mse { output: output.name.clone() };
            let training = TrainingSpec::new(name.clone(), of.clone());
            let derivative = DerivativeSpec {
                function: name.clone(),
                of,
                wrt: function.inputs.clone(),
                derivative: Derivative::Gradient,
            };
            for made in [add_training(&module, &training), add_derivative(&module, &derivative)] {
                answers += &match made {
                    Ok(made) => accepted(&made)?,
                    Err(e) => refused(e)?,
                };
            }
        }
    }
    Ok(answers)
}

/// Whether a module is written as a file that is accepted, or not at all.
fn accepted(module: &Module) -> Answer {
    match wire::encode(module, &EncodeOptions { weights: None }) {
        Ok(text) => decoded(text.as_bytes())
            .map(|_| "accepted".into())
            .map_err(|e| format!("what was written is refused: {e}")),
        Err(e) => refused(e),
    }
}

fn failed(e: &graphc::Error) -> Answer {
    match e.kind() {
        ErrorKind::Internal => Err(e.to_string()),
        _ => refused(e),
    }
}
