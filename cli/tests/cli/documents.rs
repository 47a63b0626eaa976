//! Files that are no module: rows 1 to 9 of the catalogue of bad inputs.

use crate::command::{Folder, model, relu};

#[test]
fn what_is_no_json_is_named() {
    let folder = Folder::new();
    let utf16: Vec<u8> = relu().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&[u8], &[&str]); 9] = [
        (b"", &["model.json:1:1", "an empty file"]),
        (b" \n\t", &["white space"]),
        (b"\xef\xbb\xbf{}", &["byte order mark", "save it as UTF-8"]),
        (&utf16, &["UTF-16"]),
        (b"{\"format\": \"\xff\"}", &["UTF-8", "1:13"]),
        (b"{\"format\": \"\0\"}", &["NUL"]),
        (b"\x1f\x8b\x08\x00", &["gzip", "unpack it first"]),
        (b"PK\x03\x04", &["zip archive"]),
        (b"\x93NUMPY\x01\x00", &["NumPy"]),
    ];
    for (bytes, parts) in cases {
        folder.refuses(bytes, parts);
    }
    folder.refuses(b"\x08\x07\x12\x07pytorch", &["not a graphc JSON model"]);
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let folder = Folder::new();
    let text = relu();
    let text = text.trim_end();
    for length in 0..text.len() {
        folder.refuses(&text.as_bytes()[..length], &["model.json:"]);
    }
}

#[test]
fn more_than_one_document_is_refused() {
    let folder = Folder::new();
    for tail in ["x", "{}", "null", &relu()] {
        folder.refuses(format!("{}{tail}", relu()), &["model.json:6:1"]);
    }
}

#[test]
fn names_that_stand_twice_are_told_with_both_places() {
    let folder = Folder::new();
    folder.refuses(relu().replace("\"symbols\": {}", "\"version\": 1"), &["version", "1:63", "1:29"]);
    let node = |id: &str| format!(r#"{{"id": "{id}", "op": "relu", "in": ["x"]}}"#);
    folder.refuses(model(&["x:f32[2]"], &[&node("y"), &node("y")], "y"), &["`y`", "5:8", "4:8"]);
    folder.refuses(model(&["x:f32[2]"], &[&node("x")], "x"), &["`x`"]);
    folder.refuses(model(&["x:f32[2]", "x:f32[2]"], &[&node("y")], "y"), &["`x`"]);
    folder
        .refuses(model(&["x:f32[2]"], &[&node("y"), &node("Y")], "y"), &["`Y`", "`y`", "5:8", "4:8", "case"]);
    folder.refuses(model(&["x:f32[2]"], &[&node("X")], "x"), &["`X`", "`x`", "4:8", "3:41", "case"]);
    folder.refuses(model(&["größe:f32[2]", "GRÖSSE:f32[2]"], &[], "größe"), &["`GRÖSSE`", "`größe`", "case"]);
    for name in ["o\u{308}", "\u{212b}", "\u{1112}\u{1161}"] {
        folder.refuses(model(&["x:f32[2]"], &[&node(name)], "x"), &["NFC", "model.json:4:8"]);
    }
    folder.refuses(model(&["x:f32[2]"], &[&node("y\u{202e}")], "x"), &["202e"]);
    folder.refuses(model(&["x:f32[2]"], &[&node("y\\u0000")], "x"), &["model.json:4:"]);
}

#[test]
fn depth_is_limited() {
    let folder = Folder::new();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let text = format!("{}1{}", open.repeat(1_000_000), close.repeat(1_000_000));
        folder.refuses(text, &["nest"]);
    }
}

#[test]
fn numbers_are_typed() {
    let folder = Folder::new();
    let constant = |ty: &str, data: &str| {
        let node = format!(
            r#"{{"id": "c", "op": "const", "attrs": {{"value": {{"type": "{ty}", "data": {data}}}}}}}"#
        );
        model(&[], &[&node], "c")
    };
    for (ty, data, parts) in [
        ("f64[]", "1e400", &["does not fit f64"][..]),
        ("i64[]", "9223372036854775808", &["does not fit i64"]),
        ("u64[]", "18446744073709551616", &["does not fit u64"]),
        ("i32[]", "1.0", &["not an integer"]),
        ("i32[]", "\"3\"", &["string"]),
        ("f32[]", "NaN", &["model.json:4:"]),
        ("f32[0.5]", "[]", &["model.json:4:56"]),
        ("f32[-1]", "[]", &["-1 is below 0"]),
        ("f32[2]", "[1]", &["1 elements", "[2]"]),
    ] {
        folder.refuses(constant(ty, data), parts);
    }
    folder.write("model.json", constant("f32[3]", "[-0.0, \"nan\", \"-inf\"]"));
    let done = folder.graphc(&["run", "model.json"]);
    assert_eq!(done.succeeds(), "{\"y\": [-0.0, \"nan\", \"-inf\"]}\n");
}

#[test]
fn sizes_are_limited() {
    let folder = Folder::new();
    let name = "n".repeat(1_000_000);
    folder.refuses(model(&[&format!("{name}:f32[2]")], &[], &name), &["characters"]);
    folder.refuses(
        relu().replace("\"version\": 1", &format!("\"version\": {}", "1".repeat(100_000))),
        &["digits"],
    );
    // Two GiB of nothing: more than is read.
    let path = folder.write("model.json", "");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(2 << 30).unwrap();
    folder.graphc(&["check", "model.json"]).fails(65, &["at most"], "a large file");
}

#[test]
fn misspelt_names_find_what_was_meant() {
    let folder = Folder::new();
    let node = |text: &str| model(&["x:f32[2,3]"], &[text], "y");
    for (text, parts) in [
        (relu().replace("functions", "functoins"), &["functoins", "did you mean `functions`?"][..]),
        (node(r#"{"id": "y", "op": "rleu", "in": ["x"]}"#), &["rleu", "did you mean `relu`?", "4:19"]),
        (
            node(r#"{"id": "y", "op": "softmax", "in": ["x"], "attrs": {"axes": 1}}"#),
            &["axes", "did you mean `axis`?"],
        ),
        (node(r#"{"id": "y", "opp": "relu", "in": ["x"]}"#), &["opp", "did you mean `op`?"]),
        (node(r#"{"id": "y", "op": "relu", "in": ["X"]}"#), &["`X`", "did you mean `x`?"]),
        (
            node(r#"{"id": "y", "op": "reduce", "in": ["x"], "attrs": {"kind": "summ", "axes": [0]}}"#),
            &["did you mean `sum`?"],
        ),
    ] {
        folder.refuses(text, parts);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let folder = Folder::new();
    let nodes = [
        r#"{"id": "a", "op": "rleu", "in": ["x"]}"#,
        r#"{"id": "b", "op": "tahn", "in": ["x"]}"#,
        r#"{"id": "y", "op": "add", "in": ["a", "missing"]}"#,
    ];
    folder.refuses(model(&["x:f32[2]"], &nodes, "y"), &["4:", "`relu`", "5:", "`tanh`", "6:", "missing"]);
}

#[test]
fn versions_come_before_everything_else() {
    let folder = Folder::new();
    let newer = relu().replace("\"version\": 1", "\"version\": 2").replace("relu", "op_of_the_future");
    folder.refuses(&newer, &["version 2", "it needs test or newer"]);
    folder.write("model.json", newer);
    let done = folder.graphc(&["check", "model.json"]);
    assert!(!done.stderr.contains("op_of_the_future"), "{}", done.stderr);
    for (from, to, part) in [
        ("\"version\": 1", "\"version\": 0", "version 0"),
        ("\"version\": 1, ", "", "no \"version\""),
        ("\"version\": 1", "\"version\": \"1\"", "not an integer"),
        ("graphc.module", "onnx", "not a graphc module"),
    ] {
        folder.refuses(relu().replace(from, to), &[part]);
    }
}
