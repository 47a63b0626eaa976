//! Bad modules: each is refused with the place, the cause and the way out, all problems of a file at once.

use super::{MLP, problems, with_function, with_nodes};

/// Stands before each place of a problem; taken out before the module is read.
const MARK: char = '¦';

/// Checks the problems of a module one by one: each stands at its mark, and says its part.
#[track_caller]
fn refused(marked: &str, parts: &[&str]) {
    let (mut text, mut places, mut line, mut column) = (String::new(), Vec::new(), 1, 1);
    for c in marked.chars() {
        match c {
            MARK => {
                places.push(format!("module:{line}:{column}: "));
                continue;
            }
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        text.push(c);
    }
    let found = problems(&text);
    let told = found.join("\n");
    assert_eq!((found.len(), places.len()), (parts.len(), parts.len()), "{told}");
    for (problem, (place, part)) in found.iter().zip(places.iter().zip(parts)) {
        assert!(problem.starts_with(place), "{place}is not the place of: {problem}");
        assert!(problem.contains(part), "`{part}` is not in: {problem}");
    }
}

/// As `refused`, for one node of a module over `x: f32[2,3]` and `n: i32[4]`.
#[track_caller]
fn node_refused(node: &str, part: &str) {
    refused(&with_nodes(node), &[part]);
}

#[test]
fn what_is_no_module() {
    for (bytes, part) in [
        (&b""[..], "an empty file"),
        (b" \n ", "white space"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"{\"a\": \"\xff\"}", "not UTF-8"),
        (b"{\"a\":\0}", "NUL"),
        (b"\x08\x07\x12\x07pytorch", "ONNX"),
        (b"{} {}", "after the end"),
        (b"{\"a\": 1, \"a\": 2}", "stands twice"),
        (b"{\"a\": NaN}", ""),
        (b"[]", "not a graphc module: the document is an array"),
        (b"{}", "it has no \"format\""),
    ] {
        let all = graphc_ir::wire::decode(bytes, &Default::default()).expect_err(part);
        assert_eq!(all.len(), 1);
        assert!(all[0].to_string().contains(part) && all[0].help.is_some(), "{}", all[0]);
    }
}

#[test]
fn versions_come_first() {
    let bad = "\"functions\": 7, \"nonsense\": []}";
    let file = |head: &str| format!("{{{head}, {bad}");
    for (head, part) in [
        (r#""format": ¦"onnx", "version": 1"#, "its format is `onnx`"),
        (r#""format": ¦1, "version": 1"#, "\"format\" is a number"),
        (r#""format": "graphc.module", "version": ¦"1""#, "is a string, not an integer"),
        (r#""format": "graphc.module", "version": ¦1.0"#, "1.0 is not an integer"),
        (r#""format": "graphc.module", "version": ¦0"#, "no version 0"),
        (
            r#""version": ¦2, "format": "graphc.module", "producer": "graphc 9.9.9""#,
            concat!(
                "written by graphc 9.9.9 in version 2 of the format, and graphc 0.1.0 reads up to version 1; ",
                "it needs graphc 9.9.9 or newer"
            ),
        ),
    ] {
        refused(&file(head), &[part]);
    }
    refused(&format!("¦{}", file("\"format\": \"graphc.module\"")), &["has no \"version\""]);
}

#[test]
fn all_independent_problems_at_once() {
    let text = r#"{"format": "graphc.module", "version": 1, ¦"producr": "x",
 "state": [
  {"name": "w", "role": ¦"parm", "type": "f32[3,2]"},
  {"name": ¦"w", "role": "param", "type": "f32[3,2]"},
  {"name": "v", "role": "param", "type": ¦"f23[3]", ¦"colour": 1}],
 "functions": {"f": {
   "inputs": [{"name": "x", "type": ¦"f32[B,3"}, {"name": "z", "type": "f32[B,3]"}],
   "nodes": [
    {"id": "a", "op": ¦"rleu", "in": ["z"]},
    {"id": "b", "op": "relu", "in": ["a"]},
    {"id": "c", "op": "relu", "in": [¦"zz"]},
    {"id": ¦"d", "op": "softmax", "in": ["b"], "attrs": {¦"axes": 1}},
    {"id": ¦"e", "op": "linear", "in": ["z"]},
    {"id": ¦"e", "op": "neg", "in": ["z"]},
    {"id": ¦"w", "op": "neg", "in": ["z"]},
    {"id": "g", "op": "neg", "in": ["v"], "type": "f32[9]"},
    {"id": "h", "op": "neg", "in": ["x"]}],
   "outputs": {"y": "b", "o": {"value": "c", "mark": ¦"los"}}, "updates": {¦"vv": "z"}}}}"#;
    let parts = [
        "the module has no field `producr`; did you mean `producer`?",
        "no role `parm`; did you mean `param`?",
        "two state variables are named `w` (the first one at 3:12)",
        "unknown element type `f23`",
        "a state variable has no field `colour`; its fields are name, role, type, init",
        "function `f`: expected `,` or `]`",
        "function `f`, node `a`: there is no operation `rleu`; did you mean `relu`?",
        "node `c`: no input, node or state variable is named `zz`; did you mean `z`?",
        "`softmax` needs the attribute `axis`; give a non-negative integer",
        "`softmax` has no attribute `axes`; did you mean `axis`?",
        "`linear` takes 2 to 3 operands, but has 1; its signature is linear(x [.., k], w [k, n], b [n] = 0) -> y [.., n]",
        "the name `e` belongs to an input or node already (at 13:12); inputs, nodes and state",
        "the name `w` belongs to a state variable already (at 3:12)",
        "no mark `los`; the marks are loss, metric",
        "no state variable `vv`",
    ];
    refused(text, &parts);
}

#[test]
fn names() {
    for (name, part) in [
        ("", "a name is empty"),
        ("a#1", "selects a node's result"),
        ("a\\u202eb", "invisible character U+202E"),
        ("gro\u{308}ße", "combining character U+0308"),
        ("\u{2126}", "the character U+2126, which is not in Unicode's NFC"),
        ("X", "differs in case only from `x`, which belongs to an input or node (at "),
        ("N", "differs in case only from `n`"),
        ("a\\u0000", "invisible character U+0000"),
    ] {
        node_refused(&format!("{{\"id\": ¦\"{name}\", \"op\": \"neg\", \"in\": [\"x\"]}}"), part);
    }
    for (operand, part) in [
        ("x#1", "`x` has 1 result, so there is no `x#1`"),
        ("x#", "is not a reference"),
        ("x#-1", "is not a reference"),
        ("X", "did you mean `x`?"),
    ] {
        node_refused(&format!("{{\"id\": \"a\", \"op\": \"neg\", \"in\": [¦\"{operand}\"]}}"), part);
    }
}

#[test]
fn names_that_differ_in_case_only() {
    let file = |state: &str, functions: &str| {
        format!(
            "{{\"format\": \"graphc.module\", \"version\": 1, \"state\": [{state}], \"functions\": {{{functions}}}}}"
        )
    };
    let state = |name: &str| format!("{{\"name\": {name}, \"role\": \"param\", \"type\": \"f32[1]\"}}");
    let two = [state("\"w\""), state("¦\"W\"")].join(",\n");
    refused(
        &file(&two, ""),
        &["two state variables are named `w` (at 1:62) and `W`, which differ in case only"],
    );
    let f = "\"f\": {\"outputs\": {}}, ¦\"F\": {\"outputs\": {}}";
    refused(&file("", f), &["two functions are named `f` (at 1:70) and `F`"]);
    let outputs = "\"f\": {\"inputs\": [{\"name\": ¦\"W\", \"type\": \"f32[]\"}], \"outputs\": {\"y\": \"w\", ¦\"Y\": \"w\"}}";
    let parts =
        ["`W` differs in case only from `w`, which belongs to a state variable", "two outputs are named `y`"];
    refused(&file(&state("\"w\""), outputs), &parts);
}

#[test]
fn cycles_and_dangling_names() {
    node_refused(
        r#"{"id": ¦"a", "op": "neg", "in": ["a"]}"#,
        "the graph has a cycle: `a` -> `a`; each node here takes the next one",
    );
    let two = "{\"id\": ¦\"a\", \"op\": \"neg\", \"in\": [\"b\"]},\n{\"id\": \"b\", \"op\": \"add\", \"in\": [\"x\", \"a\"]},\n{\"id\": \"c\", \"op\": \"neg\", \"in\": [\"b\"]}";
    refused(&with_nodes(two), &["cycle: `a` -> `b` -> `a`"]);
    // What depends on a broken node is not reported again.
    let chain = "{\"id\": \"a\", \"op\": \"neg\", \"in\": [¦\"nowhere\"]},\n{\"id\": \"b\", \"op\": \"neg\", \"in\": [\"a\"]},\n{\"id\": \"c\", \"op\": \"linear\", \"in\": [\"b\", \"b\"]}";
    refused(&with_nodes(chain), &["no input, node or state variable is named `nowhere`"]);
    refused(&with_function(r#"{"outputs": {"y": ¦"nothing"}}"#), &["`nothing`"]);
}

#[test]
fn kinds_and_numbers() {
    for (node, part) in [
        (r#"¦7"#, "a node is a number, not an object"),
        (r#"{"id": ¦7, "op": "neg", "in": ["x"]}"#, "\"id\" is a number, not a string"),
        (r#"¦{"id": "a", "in": ["x"]}"#, "the node has no \"op\""),
        (r#"{"id": "a", "op": "neg", "in": ¦"x"}"#, "\"in\" is a string, not an array"),
        (r#"{"id": "a", "op": "neg", "in": [¦["x"]]}"#, "an operand is an array"),
        (r#"{"id": "a", "op": "neg", "in": ["x"], "attrs": ¦[]}"#, "\"attrs\" is an array"),
        (r#"{"id": "a", "op": "neg", "in": ["x"], "attrs": {¦"axis": 1}}"#, "`neg` takes no attributes"),
        (r#"{"id": "a", "op": "softmax", "in": ["x"], "attrs": {"axis": ¦1.0}}"#, "1.0 is not an integer"),
        (
            r#"{"id": "a", "op": "softmax", "in": ["x"], "attrs": {"axis": ¦"1"}}"#,
            "a string where it takes a non-negative integer",
        ),
        (
            r#"{"id": "a", "op": "softmax", "in": ["x"], "attrs": {"axis": ¦-1}}"#,
            "-1 is negative; axes are counted from 0",
        ),
        (
            r#"{"id": "a", "op": "softmax", "in": ["x"], "attrs": {"axis": ¦9223372036854775808}}"#,
            "does not fit i64",
        ),
        (r#"{"id": "a", "op": "leaky_relu", "in": ["x"], "attrs": {"slope": ¦1e400}}"#, "does not fit f64"),
        (
            r#"{"id": "a", "op": "leaky_relu", "in": ["x"], "attrs": {"slope": ¦"a"}}"#,
            "a string where it takes a number",
        ),
        (
            r#"{"id": "a", "op": "reduce", "in": ["x"], "attrs": {"kind": ¦"summ", "axes": [0]}}"#,
            "`summ` is not one of sum, prod, max, min; did you mean `sum`?",
        ),
        (
            r#"{"id": "a", "op": "cast", "in": ["x"], "attrs": {"to": ¦"float32"}}"#,
            "`float32` is not an element type",
        ),
        (r#"{"id": "a", "op": "reshape", "in": ["x"], "attrs": {"dims": [¦2.5]}}"#, "2.5 is not an integer"),
        (
            r#"{"id": "a", "op": "reshape", "in": ["x"], "attrs": {"dims": [¦"B/3"]}}"#,
            "division is only written `floor(e/c)`",
        ),
        (r#"{"id": "a", "op": "max", "in": ["x", ¦1e39]}"#, "does not fit f32"),
        (
            r#"{"id": "a", "op": "max", "in": ["n", ¦1.5]}"#,
            "1.5 is not an integer; write it without fraction and exponent, as the type i32 needs",
        ),
        (r#"{"id": ¦"a", "op": "max", "in": [1, 2]}"#, "no operand says which element type"),
        (
            r#"{"id": "a", "op": "linear", "in": ["x", ¦2]}"#,
            "only elementwise operations take literal operands",
        ),
        (r#"{"id": "a", "op": ¦"acme.op", "in": ["x"]}"#, "names with a dot are reserved"),
        (r#"{"id": "a", "op": ¦"input", "in": []}"#, "there is no operation `input`"),
    ] {
        node_refused(node, part);
    }
}

#[test]
fn operands() {
    for (node, part) in [
        (
            r#"{"id": ¦"a", "op": "add", "in": ["x"]}"#,
            "`add` takes 2 operands, but has 1; its signature is add(x, y) -> z",
        ),
        (r#"{"id": ¦"a", "op": "neg", "in": ["x", "x"]}"#, "`neg` takes 1 operand, but has 2"),
        (
            r#"{"id": "a", "op": "linear", "in": ["x", ¦null, "x"]}"#,
            "null stands for an optional operand at the end",
        ),
        (r#"{"id": ¦"a", "op": "linear", "in": [null, null]}"#, "`linear` takes 2 to 3 operands, but has 0"),
        (r#"{"id": ¦"a", "op": "matmul", "in": ["x"]}"#, "`matmul` takes 2 operands"),
    ] {
        node_refused(node, part);
    }
}

#[test]
fn shapes_and_types() {
    let op = |op: &str, ins: &str, attrs: &str| {
        format!("{{\"id\": ¦\"a\", \"op\": \"{op}\", \"in\": [{ins}], \"attrs\": {{{attrs}}}}}")
    };
    for (node, part) in [
        (op("matmul", "\"x\", \"x\"", ""), "3 = 2 can never hold"),
        (op("matmul", "\"x\", \"n\"", ""), "f32[2,3] and i32[4,1]"),
        (op("add", "\"x\", \"n\"", ""), "one element type, but got f32 and i32"),
        (op("exp", "\"n\"", ""), "exp takes floats, but got i32; add a cast"),
        (op("and", "\"x\", \"x\"", ""), "and takes an integer type or bool"),
        (op("transpose", "\"x\"", "\"perm\": [0, 0]"), "perm"),
        (op("transpose", "\"x\"", "\"perm\": [0]"), "perm"),
        (op("softmax", "\"x\"", "\"axis\": 2"), "axis 2 is out of range for f32[2,3]"),
        (op("reduce", "\"x\"", "\"kind\": \"sum\", \"axes\": [1, 0]"), "increasing"),
        (op("reshape", "\"x\"", "\"dims\": [5]"), "6 = 5 can never hold"),
        (op("concat", "\"x\", \"n\"", "\"axis\": 0"), "i32[4]"),
        (
            op("slice", "\"x\"", "\"starts\": [1, 0], \"limits\": [0, 3]"),
            "a slice ends at its start or later",
        ),
        (op("slice", "\"x\"", "\"starts\": [0, 0], \"limits\": [2, 4]"), "a slice ends inside its operand"),
        (op("gather", "\"x\", \"x\"", "\"axis\": 0"), "indices are i32 or i64"),
        (
            op("iota", "", "\"dtype\": \"i64\", \"dims\": [4294967296, 4294967296], \"axis\": 0"),
            "overflows; no tensor that large can exist",
        ),
        (
            op("broadcast", "\"n\"", "\"dims\": [4,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], \"axes\": [0]"),
            "at most 16 are supported",
        ),
        (op("pad", "\"n\"", "\"lo\": [9223372036854775807], \"hi\": [0]"), "does not fit a 64-bit integer"),
        (
            op("pad", "\"n\"", "\"lo\": [1], \"hi\": [0], \"value\": 0.5"),
            "0.5 is not an integer, as i32 needs",
        ),
        (
            op("pad", "\"n\"", "\"lo\": [1], \"hi\": [0], \"value\": 2147483648"),
            "2147483648 does not fit i32",
        ),
        (op("pad", "\"x\"", "\"lo\": [1, 0], \"hi\": [0, 0], \"value\": 1e39"), "1e39 does not fit f32"),
        (op("leaky_relu", "\"x\"", "\"slope\": 1e39"), "attribute `slope`: 1e39 does not fit f32"),
        (op("iota", "", "\"dtype\": \"u8\", \"dims\": [257], \"axis\": 0"), "256 <= 255 can never hold"),
        (op("iota", "", "\"dtype\": \"f16\", \"dims\": [65521], \"axis\": 0"), "which must fit f16"),
        (op("pad", "\"n\"", "\"lo\": [1152921504606846976], \"hi\": [1152921504606846976]"), "overflows"),
    ] {
        node_refused(&node, part);
    }
    for (ty, part) in [
        ("f32[-1]", "below 0"),
        ("f32[4294967296,4294967296]", "overflows"),
        ("f64[2305843009213693952]", "overflows"),
        ("f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "at most 16"),
        ("f32[0.5]", "expected"),
        ("float[3]", "unknown element type"),
        ("", "expected a type"),
    ] {
        let text = with_function(&format!(
            "{{\"inputs\": [{{\"name\": \"x\", \"type\": ¦\"{ty}\"}}], \"outputs\": {{}}}}"
        ));
        refused(&text, &[part]);
    }
    let declared = |ty: &str| format!("{{\"id\": \"a\", \"op\": \"neg\", \"in\": [\"x\"], \"type\": {ty}}}");
    node_refused(&declared("¦\"f32[3,2]\""), "the type is f32[2,3], but f32[3,2] is declared");
    let two = declared("[\"f32[2,3]\", \"f32[]\"]").replace("\"a\"", "¦\"a\"");
    node_refused(&two, "2 types are declared, but the node has 1 result;");
}

#[test]
fn state_and_updates() {
    let with = |state: &str, rest: &str| {
        format!(
            "{{\"format\": \"graphc.module\", \"version\": 1, \"state\": [\n{state}],\n\"functions\": {{\"f\": {{\"inputs\": [{{\"name\": \"x\", \"type\": \"f32[2]\"}}], {rest}}}}}}}"
        )
    };
    let w = r#"{"name": "w", "role": "param", "type": "f32[3]"}"#;
    refused(&with(w, r#""outputs": {}, "updates": {"w": ¦"x"}"#), &["`w` is f32[3], but is assigned f32[2]"]);
    refused(&with(w, r#""outputs": {}, "updates": {¦"x": "x"}"#), &["there is no state variable `x`"]);
    refused(&with(w, r#""outputs": {}, "updates": {"w": "w", ¦"w": "w"}"#), &["stands twice"]);
    refused(&with_function("¦{}"), &["the function has no \"outputs\""]);
    for (init, part) in [
        (r#"{"data": ¦[1, 2]}"#, "2 elements where the shape [3] has 3"),
        (r#"{"data": [1, 2, ¦1e39]}"#, "does not fit f32"),
        (r#"¦{}"#, "neither \"data\" nor \"file\""),
        (r#"¦{"file": "a.safetensors"}"#, "\"init\" has no \"tensor\""),
        (r#"¦{"data": [1, 2, 3], "file": "a", "tensor": "w"}"#, "both \"data\" and \"file\""),
        (r#"{"file": ¦"../a.safetensors", "tensor": "w"}"#, "the module's own folder"),
        (r#"{"file": ¦"/etc/passwd", "tensor": "w"}"#, "the module's own folder"),
        (r#"{"file": ¦"a\\b", "tensor": "w"}"#, "the module's own folder"),
        (r#"{"file": ¦"..", "tensor": "w"}"#, "the module's own folder"),
    ] {
        let state =
            format!("{{\"name\": \"w\", \"role\": \"param\", \"type\": \"f32[3]\", \"init\": {init}}}");
        refused(&with(&state, "\"outputs\": {}"), &[part]);
    }
    let large = format!(
        r#"{{"name": "w", "role": "param", "type": "f32[1025]", "init": {{"data": ¦[{}]}}}}"#,
        vec!["0"; 1025].join(",")
    );
    refused(&with(&large, "\"outputs\": {}"), &["at most 1024 elements"]);
    let symbolic = r#"{"name": ¦"w", "role": "param", "type": "f32[N]", "init": {"data": [1]}}"#;
    refused(&with(symbolic, "\"outputs\": {}"), &["its dims are symbols"]);
}

#[test]
fn loops() {
    let module = |body: &str, scan: &str| {
        format!(
            "{{\"format\": \"graphc.module\", \"version\": 1, \"state\": [{{\"name\": \"s\", \"role\": \"slot\", \"type\": \"f32[]\"}}], \"functions\": {{\"body\": {{\"inputs\": [{{\"name\": \"h\", \"type\": \"f32[2]\"}}],\n{body}}}, \"f\": {{\"inputs\": [{{\"name\": \"x\", \"type\": \"f32[2]\"}}], \"nodes\": [\n{scan}], \"outputs\": {{}}}}}}}}"
        )
    };
    let scan = |body: &str, length: &str| {
        format!(
            "{{\"id\": \"r\", \"op\": \"scan\", \"in\": [\"x\"], \"attrs\": {{\"body\": {body}, \"carries\": 1, \"stacks\": 0, \"length\": {length}}}}}"
        )
    };
    let good = r#""outputs": {"h": "h"}"#;
    assert_eq!(problems(&module(good, &scan("\"body\"", "3"))), Vec::<String>::new());
    refused(&module(good, &scan("¦\"bdy\"", "3")), &["there is no function `bdy`; did you mean `body`?"]);
    let recursive = module(good, &scan("\"f\"", "3")).replace("\"f\": {", "¦\"f\": {");
    refused(&recursive, &["recursion: `f` -> `f`; a function may not run itself"]);
    refused(&module(good, &scan("\"body\"", "¦-1")), &["the size -1 is negative"]);
    let wider = r#""nodes": [{"id": "c", "op": "concat", "in": ["h", "h"], "attrs": {"axis": 0}}], "outputs": {"h": "c"}"#;
    let carried = scan("\"body\"", "3").replace("\"r\"", "¦\"r\"");
    refused(&module(wider, &carried), &["a carry keeps its shape"]);
    let marked = scan("¦\"body\"", "3");
    let state = r#""nodes": [{"id": "c", "op": "add", "in": ["h", "s"]}], "outputs": {"h": "c"}"#;
    refused(&module(state, &marked), &["the body `body` reads state; pass the state as an operand"]);
    let updates = r#""outputs": {"h": "h"}, "updates": {"s": "s"}"#;
    refused(&module(updates, &marked), &["the body `body` has updates"]);
    // A body that is wrong itself is reported once.
    let broken = r#""nodes": [{"id": "c", "op": ¦"nge", "in": ["h"]}], "outputs": {"h": "c"}"#;
    refused(&module(broken, &scan("\"body\"", "3")), &["there is no operation `nge`"]);
    let huge = scan("\"body\"", "¦9223372036854775808");
    refused(&module(good, &huge), &["9223372036854775808 does not fit i64"]);
}

#[test]
fn symbols_and_meta() {
    let with = |field: &str| {
        format!("{{\"format\": \"graphc.module\", \"version\": 1, \"functions\": {{}}, {field}}}")
    };
    for (field, part) in [
        (r#""symbols": {"B": ¦-1}"#, "the least value of `B` is -1"),
        (r#""symbols": {¦"2B": 1}"#, "not a symbol name"),
        (r#""symbols": {"B": ¦1.5}"#, "1.5 is not an integer"),
        (r#""symbols": {"B": ¦"1"}"#, "is an integer, not a string"),
        (r#""meta": ¦[]"#, "\"meta\" is an array"),
        (r#""meta": {"n": ¦9223372036854775808}"#, "does not fit i64"),
        (r#"¦"tests": []"#, "`tests` is reserved"),
    ] {
        refused(&with(field), &[part]);
    }
}

/// Every byte of a module replaced by others: an error or a module, never a panic.
#[test]
fn any_one_byte_changed() {
    for i in 0..MLP.len() {
        for byte in [b'"', b'0', b'#', b'}', b'x', b' ', 0xff] {
            let mut bytes = MLP.as_bytes().to_vec();
            bytes[i] = byte;
            if let Err(all) = graphc_ir::wire::decode(&bytes, &Default::default()) {
                assert!(!all.is_empty());
            }
        }
    }
}
