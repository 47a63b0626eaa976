//! Memory and time are bounded before they are taken, and what a file says is shown but not obeyed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::command::{Done, Folder, function, model, module};

/// It ended with this code and these words, was not killed, and blamed no bug.
#[track_caller]
fn ends(done: &Done, code: i32, parts: &[&str]) {
    assert_eq!(done.code, Some(code), "{done:?}");
    for part in parts {
        assert!(done.stderr.contains(part), "no `{part}` in {}", done.stderr);
    }
    assert!(!done.stderr.contains("bug of graphc") && !done.stderr.contains("panicked"), "{}", done.stderr);
}

fn sine() -> String {
    model(&["x:f32[B]"], &[r#"{"id": "a", "op": "sin", "in": ["x"]}"#], "a")
}

#[test]
fn a_border_of_many_elements_is_no_constant() {
    let folder = Folder::new();
    let pad = r#"{"id": "a", "op": "pad_mode", "in": ["x"], "attrs": {"lo": [100000000], "hi": [100000000], "mode": "reflect"}}"#;
    folder.write("model.json", model(&["x:f32[100000002]"], &[pad], "a"));
    // Checking takes nothing of that size, and the places are computed where they are used.
    folder.graphc(&["check", "model.json", "--max-mem", "20M"]).succeeds();
    let run = ["run", "model.json", "-i", "x=zeros", "--max-mem", "100M"];
    ends(&folder.graphc(&run), 69, &["needs", "100.0 MiB may be used"]);
}

#[test]
fn outputs_are_written_and_printed_without_a_copy() {
    let folder = Folder::new();
    folder.write("model.json", sine());
    let run = |rest: &[&str]| {
        let args = ["run", "model.json", "-i", "x=zeros", "--dim", "B=4000000", "--max-mem", "44M", "-q"];
        folder.graphc(&[&args, rest].concat())
    };
    // Input and output take 32 MB.
    run(&["-o", "y=@y.npy"]).succeeds();
    assert_eq!(folder.path().join("y.npy").metadata().unwrap().len(), 128 + 16_000_000);
    run(&["--outputs", "y.npz"]).succeeds();
    folder.graphc(&["run", "model.json", "--inputs", "y.npz"]).fails(
        2,
        &["no input `y`"],
        "the archive is read",
    );
    let printed = run(&[]);
    assert_eq!(printed.succeeds().len(), "{\"y\": []}\n".len() + 4_000_000 * 5 - 2);
    ends(&run(&["--max-mem", "20M"]), 2, &["--max-mem"]);
    let less = ["run", "model.json", "-i", "x=zeros", "--dim", "B=4000000", "--max-mem", "20M"];
    ends(&folder.graphc(&less), 69, &["MiB"]);
}

#[test]
fn sparse_weights_are_not_read() {
    let folder = Folder::new();
    let state = r#"{"name": "w", "role": "param", "type": "f32[8589934592]", "init": {"file": "w.safetensors", "tensor": "w"}}"#;
    folder.write("model.json", module(state, &function(&["x:f32[2]"], &[], "x")));
    let header = r#"{"w":{"dtype":"F32","shape":[8589934592],"data_offsets":[0,34359738368]}}"#;
    let path =
        folder.write("w.safetensors", [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(8 + header.len() as u64 + (1 << 35)).unwrap();
    ends(&folder.graphc(&["check", "model.json"]), 65, &["34359738368 bytes", "may be read"]);
}

#[test]
fn a_row_without_end_is_refused() {
    let folder = Folder::new();
    let f = function(
        &["x:f32[B]"],
        &[r#"{"id": "l", "op": "reduce", "in": ["x"], "attrs": {"kind": "sum", "axes": [0]}}"#],
        "l",
    );
    let f = f
        .replace("\"f\"", "\"train_step\"")
        .replace("{\"y\": \"l\"}", "{\"y\": {\"value\": \"l\", \"mark\": \"loss\"}}");
    folder.write("model.json", module("", &f));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"7\n8\n").unwrap();
    (0..64).for_each(|_| encoder.write_all(&[b'0'; 1 << 20]).unwrap());
    folder.write("rows.csv.gz", encoder.finish().unwrap());
    let train = ["train", "model.json", "--data", "rows.csv.gz:x=0", "--max-mem", "200M"];
    ends(&folder.graphc(&train), 65, &["rows.csv.gz: row 2 (counted from 0)", "longer than 16777216 bytes"]);
    folder.write("rows.csv", "1\n2\n\"\u{1b}[31m\n\"\n");
    let train = ["train", "model.json", "--data", "rows.csv:x=0"];
    ends(&folder.graphc(&train), 65, &["row 2 (counted from 0): column 0 (input `x`)", "`\\u{1b}[31m`"]);
}

fn chain(nodes: usize) -> String {
    let mut list = String::new();
    for i in 0..nodes {
        let from = if i == 0 { "x".to_owned() } else { format!("n{}", i - 1) };
        let _ = write!(
            list,
            "{}{{\"id\": \"n{i}\", \"op\": \"neg\", \"in\": [\"{from}\"]}}",
            if i > 0 { ",\n" } else { "" }
        );
    }
    model(&["x:f32[2]"], &[&list], &format!("n{}", nodes - 1))
}

#[test]
fn many_nodes_end_with_an_error_where_memory_does() {
    let folder = Folder::new();
    folder.write("model.json", chain(20_000));
    for most in ["1M", "4M", "8M", "16M", "24M", "32M"] {
        let done = folder.graphc(&["check", "model.json", "--max-mem", most]);
        ends(&done, done.code.filter(|c| [65, 69].contains(c)).unwrap_or(69), &[]);
    }
    folder.graphc(&["check", "model.json", "--max-mem", "120M"]).succeeds();
}

#[test]
fn time_is_bounded() {
    let folder = Folder::new();
    let condition = r#""c": {"inputs": [{"name": "x", "type": "f32[2]"}], "nodes": [
        {"id": "t", "op": "const", "attrs": {"value": true}}], "outputs": {"y": "t"}}"#;
    let body = r#""b": {"inputs": [{"name": "x", "type": "f32[2]"}], "nodes": [{"id": "n", "op": "neg", "in": ["x"]}], "outputs": {"y": "n"}}"#;
    let f = function(
        &["x:f32[2]"],
        &[
            r#"{"id": "w", "op": "while", "in": ["x"], "attrs": {"condition": "c", "body": "b", "carries": 1}}"#,
        ],
        "w",
    );
    folder.write("model.json", module("", &format!("{condition}, {body}, {f}")));
    for args in [
        &["run", "model.json", "--fn", "f", "-i", "x=[1,2]"][..],
        &["run", "model.json", "--fn", "f", "-i", "x=[1,2]", "--device", "reference"],
        &["bench", "model.json", "--fn", "f"],
    ] {
        let started = Instant::now();
        let done = folder.graphc(&[args, &["--max-time", "0.3"]].concat());
        ends(&done, 75, &["stopped after 300ms, as --max-time says"]);
        assert!(started.elapsed() < Duration::from_secs(20), "{args:?}");
    }
}

#[test]
fn sizes_that_no_loop_can_count_are_the_models_fault() {
    let folder = Folder::new();
    let pool = r#"{"id": "a", "op": "max_pool", "in": ["x"], "attrs": {"kernel": [2147483647], "pads_lo": [2147483646], "pads_hi": [2147483646]}}"#;
    folder.write("pool.json", model(&["x:f32[1,2,5]"], &[pool], "a"));
    let dot = [
        r#"{"id": "a", "op": "broadcast", "in": ["x"], "attrs": {"dims": [4, 144115188075855872], "axes": [0]}}"#,
        r#"{"id": "b", "op": "broadcast", "in": ["w"], "attrs": {"dims": [144115188075855872, 4], "axes": [1]}}"#,
        r#"{"id": "d", "op": "dot", "in": ["a", "b"]}"#,
    ];
    folder.write("dot.json", model(&["x:f16[4]", "w:f16[4]"], &dot, "d"));
    for args in [
        &["check", "pool.json"][..],
        &["explain", "pool.json"],
        &["run", "pool.json", "-i", "x=zeros"],
        &["check", "dot.json"],
        &["run", "dot.json", "-i", "x=ones", "-i", "w=ones"],
    ] {
        ends(&folder.graphc(args), 69, &["too large"]);
    }
}

#[test]
fn grad_writes_what_check_accepts_or_nothing() {
    let folder = Folder::new();
    let ty = format!("f32[{}2]", "1,".repeat(15));
    let axes: Vec<String> = (0..16).map(|a| a.to_string()).collect();
    let state = format!(r#"{{"name": "w", "role": "param", "type": "{ty}", "init": {{"data": [1, 2]}}}}"#);
    let body = format!(
        r#""b": {{"inputs": [{{"name": "v", "type": "{ty}"}}], "nodes": [{{"id": "k", "op": "sin", "in": ["v"]}}], "outputs": {{"o": "k"}}}}"#
    );
    let scan = r#"{"id": "a", "op": "scan", "in": ["w"], "attrs": {"body": "b", "carries": 1, "stacks": 0, "length": 3}}"#;
    let sum = format!(
        r#"{{"id": "l", "op": "reduce", "in": ["a"], "attrs": {{"kind": "sum", "axes": [{}]}}}}"#,
        axes.join(", ")
    );
    folder.write("deep.json", module(&state, &format!("{body}, {}", function(&[], &[scan, &sum], "l"))));
    let grad = folder.graphc(&["grad", "deep.json", "--fn", "f", "--loss", "y", "-o", "out.json"]);
    ends(&grad, 65, &["17 dims; at most 16 are supported"]);
    assert!(!folder.names().contains(&"out.json".to_owned()));

    let state = r#"{"name": "w", "role": "param", "type": "f32[3]", "init": {"data": [1, 2, 3]}}"#;
    for length in [250, 251, 256] {
        let long = "a".repeat(length);
        let node = format!(r#"{{"id": "{long}", "op": "add", "in": ["x", "w"]}}"#);
        folder.write("long.json", module(state, &function(&["x:f32[2,3]"], &[&node], &long)));
        folder.graphc(&["grad", "long.json", "--loss", "mse:y", "-o", "out.json"]).succeeds();
        folder.graphc(&["check", "out.json"]).succeeds();
    }
}

#[test]
fn nested_calls_are_said_to_be_calls() {
    let folder = Folder::new();
    let mut functions = r#""f0": {"inputs": [{"name": "x", "type": "f32[]"}], "nodes": [{"id": "n", "op": "sin", "in": ["x"]}], "outputs": {"y": "n"}}"#.to_owned();
    for i in 1..19 {
        let _ = write!(
            functions,
            r#", "f{i}": {{"inputs": [{{"name": "x", "type": "f32[]"}}], "nodes": [{{"id": "n", "op": "call", "in": ["x"], "attrs": {{"body": "f{}"}}}}], "outputs": {{"y": "n"}}}}"#,
            i - 1
        );
    }
    folder.refuses(
        module("", &functions),
        &["too many nested bodies", "calls, branches and loops are nested at most 16 deep"],
    );
}

#[test]
fn text_of_a_model_gives_a_terminal_no_commands() {
    let folder = Folder::new();
    let nodes = [
        r#"{"id": "c", "op": "gt", "in": ["x", 0.0]}"#,
        r#"{"id": "a", "op": "check", "in": ["x", "c"], "attrs": {"message": "\u001b]0;pwned\u0007\nerror: a line of the model's own"}}"#,
    ];
    let text = model(&["x:f32[2]"], &nodes, "a")
        .replace("\"producer\": \"test\"", r#""producer": "\u001b[31m\nerror: own""#);
    folder.write("model.json", text);
    for args in [
        &["check", "model.json"][..],
        &["run", "model.json", "-i", "x=[0,0]"],
        &["run", "model.json", "-i", "x=[0,0]", "--device", "reference"],
        &["show", "model.json"],
        &["show", "model.json", "--stage", "program"],
        &["explain", "model.json"],
        &["fmt", "model.json"],
        &["run", "\u{1b}[31m.json"],
        &["run", "model.json", "--\u{1b}[31m"],
    ] {
        let done = folder.graphc(args);
        for text in [&done.stdout, &done.stderr] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{args:?}: {text:?}");
            assert!(
                !text.lines().any(|l| l.starts_with("error: own") || l.starts_with("error: a line")),
                "{args:?}: {text:?}"
            );
            assert!(!text.lines().any(|l| l.starts_with("error: error:")), "{args:?}: {text:?}");
        }
    }
}

#[test]
fn verify_knows_dims_state_and_what_is_small() {
    let folder = Folder::new();
    let broadcast =
        r#"{"id": "a", "op": "broadcast", "in": ["x"], "attrs": {"dims": ["B", 2], "axes": [1]}}"#;
    folder.write("dim.json", model(&["x:f32[2]"], &[broadcast], "a"));
    let given = folder.graphc(&["verify", "dim.json", "--dim", "B=5"]);
    assert!(given.succeeds().contains("with B=5") && !given.stdout.contains("B=3"), "{}", given.stdout);
    let drawn = folder.graphc(&["verify", "dim.json"]);
    for size in ["with B=3", "with B=4097", "with B=2047"] {
        assert!(drawn.succeeds().contains(size), "{}", drawn.stdout);
    }

    let state = r#"{"name": "s", "role": "buffer", "type": "f32[2]"}, {"name": "r", "role": "buffer", "type": "f32[2]"}"#;
    let f = function(&["x:f32[2]"], &[r#"{"id": "a", "op": "add", "in": ["x", "r"]}"#], "a");
    folder.write("state.json", module(state, &f.replace("\"updates\": {}", "\"updates\": {\"s\": \"a\"}")));
    let done = folder.graphc(&["verify", "state.json", "--fn", "f"]);
    assert!(done.succeeds().contains("cpu agrees"), "{}", done.stdout);
    assert!(done.stderr.contains("compared with a random one"), "{}", done.stderr);

    let moments = r#"{"id": "m", "op": "moments", "in": ["x"], "attrs": {"axes": [0]}}"#;
    folder.write("small.json", model(&["x:f64[7]"], &[moments], "m#1"));
    folder.graphc(&["verify", "small.json", "-i", "x=[0.1,0.1,0.1,0.1,0.1,0.1,0.1]"]).succeeds();
}

#[test]
fn a_bad_label_is_named_with_its_place_and_row() {
    let folder = Folder::new();
    let loss = r#"{"id": "l", "op": "cross_entropy", "in": ["x", "y"]}"#;
    let f = function(&["x:f32[B,3]", "y:u8[B]"], &[loss], "l");
    folder.write("model.json", module("", &f));
    for device in ["cpu", "reference"] {
        let args =
            ["run", "model.json", "-i", "x=[[1,2,3],[1,2,3],[1,2,3]]", "-i", "y=[0,2,7]", "--device", device];
        ends(&folder.graphc(&args), 65, &["a label is outside the 3 classes: element [2] is 7"]);
    }
    let state = r#"{"name": "w", "role": "param", "type": "f32[3]", "init": {"data": [1, 2, 3]}}"#;
    let nodes = [
        r#"{"id": "h", "op": "mul", "in": ["x", "w"]}"#,
        r#"{"id": "l", "op": "cross_entropy", "in": ["h", "y"]}"#,
        r#"{"id": "n", "op": "add", "in": ["w", 1.0]}"#,
    ];
    let f = function(&["x:f32[B,3]", "y:u8[B]"], &nodes, "l")
        .replace("\"f\"", "\"train_step\"")
        .replace("{\"y\": \"l\"}", "{\"y\": {\"value\": \"l\", \"mark\": \"loss\"}}")
        .replace("\"updates\": {}", "\"updates\": {\"w\": \"n\"}");
    folder.write("model.json", module(state, &f));
    folder.write("rows.csv", "1,2,3,0\n1,2,3,9\n1,2,3,1\n");
    let train = ["train", "model.json", "--data", "rows.csv:x=0..3:y=3", "--batch", "1"];
    ends(
        &folder.graphc(&train),
        65,
        &["element [0] is 9; the elements of this batch are the rows 1 of rows.csv"],
    );
    folder.write("rows.csv", "1,2,3,0\n1,2,3,300\n");
    ends(
        &folder.graphc(&train),
        65,
        &["row 1 (counted from 0): column 3 (input `y`) is 300, which is not of type u8"],
    );
}
