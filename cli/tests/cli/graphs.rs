//! Graphs and types that are wrong: rows 10 to 26 of the catalogue of bad inputs.

use crate::command::{Folder, function, model, module};

fn node(id: &str, op: &str, ins: &[&str], attrs: &str) -> String {
    let ins: Vec<String> = ins.iter().map(|i| format!("\"{i}\"")).collect();
    format!(r#"{{"id": "{id}", "op": "{op}", "in": [{}], "attrs": {{{attrs}}}}}"#, ins.join(", "))
}

#[test]
fn cycles_are_told_as_a_path() {
    let folder = Folder::new();
    let own = node("a", "relu", &["a"], "");
    folder.refuses(model(&["x:f32[2]"], &[&own], "a"), &["`a`", "4:"]);
    let (a, b) = (node("a", "relu", &["b"], ""), node("b", "relu", &["a"], ""));
    folder.refuses(model(&["x:f32[2]"], &[&a, &b], "a"), &["`a`", "`b`"]);
    let long: Vec<String> = (0..100_000)
        .map(|i| node(&format!("n{i}"), "relu", &[&format!("n{}", (i + 1) % 100_000)], ""))
        .collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    folder.refuses(model(&["x:f32[2]"], &long, "n0"), &["`n0`", "cycle"]);
    folder.refuses(model(&["x:f32[2]"], &[], "gone"), &["gone"]);
}

#[test]
fn odd_but_valid_graphs_run() {
    let folder = Folder::new();
    let one = r#"{"id": "one", "op": "const", "attrs": {"value": {"type": "f32[2]", "data": [1, 1]}}}"#;
    let reversed = [node("b", "relu", &["a"], ""), node("a", "neg", &["x"], "")];
    for (text, expected) in [
        (model(&["x:f32[2]"], &[], "x"), "[1.0, -2.0]"),
        (model(&["x:f32[2]"], &[one], "one"), "[1.0, 1.0]"),
        (model(&["x:f32[2]"], &[&reversed[0], &reversed[1]], "b"), "[0.0, 2.0]"),
    ] {
        folder.write("model.json", text);
        let done = folder.graphc(&["run", "model.json", "-i", "x=[1,-2]"]);
        let printed = done.succeeds().replace("-0.0", "0.0");
        assert_eq!(printed, format!("{{\"y\": {expected}}}\n"));
    }
    folder.write("model.json", model(&["x:f32[2]"], &[one], "one"));
    let done = folder.graphc(&["check", "model.json"]);
    done.succeeds();
    assert!(
        done.stderr.contains("warning") && done.stderr.contains("`x` is used by no output"),
        "{}",
        done.stderr
    );
}

#[test]
fn operands_and_types_are_checked() {
    let folder = Folder::new();
    let of =
        |ty: &str, op: &str, attrs: &str| model(&[&format!("x:{ty}")], &[&node("y", op, &["x"], attrs)], "y");
    let two = |a: &str, b: &str, op: &str, attrs: &str| {
        model(&[&format!("a:{a}"), &format!("b:{b}")], &[&node("y", op, &["a", "b"], attrs)], "y")
    };
    let cases: [(String, &[&str]); 26] = [
        // 12: wrong arity.
        (of("f32[2]", "add", ""), &["`add`", "takes"]),
        (model(&["x:f32[2]"], &[&node("y", "relu", &["x", "x"], "")], "y"), &["`relu`", "takes"]),
        (model(&["x:f32[2,3]"], &[r#"{"id": "y", "op": "linear", "in": ["x", null, "x"]}"#], "y"), &["`y`"]),
        // 18: sizes that overflow, and ranks.
        (model(&["x:f32[4294967296,4294967296]"], &[], "x"), &["overflows"]),
        (model(&["x:f64[4611686018427387904]"], &[], "x"), &["overflows"]),
        (model(&["x:f32[-2]"], &[], "x"), &["-2 is below 0"]),
        (model(&[&format!("x:f32[{}1]", "1,".repeat(999))], &[], "x"), &["dims"]),
        // 19: an argmax of nothing.
        (of("f32[0]", "arg_reduce", r#""kind": "max", "axis": 0"#), &["`y`"]),
        // 21: axes and permutations.
        (of("f32[2,3]", "softmax", r#""axis": 2"#), &["axis"]),
        (of("f32[2,3]", "softmax", r#""axis": -1"#), &["negative"]),
        (of("f32[2,3]", "reduce", r#""kind": "sum", "axes": [0, 0]"#), &["`y`"]),
        (of("f32[2,3]", "transpose", r#""perm": [0, 0]"#), &["`y`"]),
        (two("f32[2]", "f32[2,2]", "concat", r#""axis": 0"#), &["`y`"]),
        (two("f32[2]", "i32[2]", "concat", r#""axis": 0"#), &["`y`"]),
        // 22: slices.
        (of("f32[4]", "slice", r#""starts": [3], "limits": [2]"#), &["`y`", "slice"]),
        (of("f32[4]", "slice", r#""starts": [0], "limits": [5]"#), &["`y`", "inside its operand"]),
        (of("f32[4]", "slice", r#""starts": [-1], "limits": [4]"#), &["-1 is negative"]),
        // 24: element counts and broadcasts.
        (of("f32[6]", "reshape", r#""dims": [4]"#), &["`y`"]),
        (of("f32[6]", "reshape", r#""dims": [-1]"#), &["negative"]),
        (two("f32[2]", "f32[3]", "add", ""), &["f32[2]", "f32[3]"]),
        (of("f32[2]", "pad", r#""lo": [1152921504606846976], "hi": [1152921504606846976]"#), &["`y`"]),
        (of("f32[1]", "broadcast", r#""dims": [1099511627776, 1099511627776], "axes": [1]"#), &["`y`"]),
        // 25: element types.
        (two("f32[2,2]", "i32[2,2]", "dot", ""), &["f32[2,2]", "i32[2,2]"]),
        (two("bool[2]", "bool[2]", "add", ""), &["bool"]),
        (two("f32[2]", "f64[2]", "add", ""), &["f64"]),
        (of("i32[2]", "exp", ""), &["i32"]),
    ];
    for (text, parts) in cases {
        folder.refuses(&text, parts);
        folder.refuses(&text, &["model.json:"]);
    }
}

#[test]
fn loops_are_checked() {
    let folder = Folder::new();
    let step = |carry: &str| {
        let add = node("s", "add", &["c", "x"], "");
        function(&["c:f32[2]", "x:f32[2]"], &[&add], carry)
            .replace("\"f\"", "\"step\"")
            .replace("{\"y\": ", "{\"carry\": \"s\", \"slice\": ")
    };
    let looped = |attrs: &str, step: &str| {
        let scan = node("y", "scan", &["c", "x"], attrs);
        module("", &format!("{}, {step}", function(&["c:f32[2]", "x:f32[3,2]"], &[&scan], "y")))
    };
    let good = r#""body": "step", "carries": 1, "stacks": 1, "length": 3"#;
    folder.write("model.json", looped(good, &step("s")));
    for device in ["cpu", "reference"] {
        let args = ["run", "model.json", "--fn", "f", "-i", "c=[0,1]", "-i", "x=ones", "--device", device];
        assert_eq!(folder.graphc(&args).succeeds(), "{\"y\": [3.0, 4.0]}\n");
    }
    for (attrs, step, parts) in [
        (good.replace("step", "stop"), step("s"), &["stop", "did you mean `step`?"][..]),
        (good.replace("step", "f"), step("s"), &["recursion", "`f`"]),
        (good.replace(": 3", ": 4"), step("s"), &["`y`", "4"]),
        (good.replace(": 3", ": 9223372036854775808"), step("s"), &["does not fit i64"]),
        (good.replace("\"carries\": 1", "\"carries\": 2"), step("s"), &["`y`"]),
        (good.into(), step("s").replace("f32[2]", "f32[3]"), &["`y`"]),
        (good.into(), step("gone"), &["gone"]),
    ] {
        folder.refuses(looped(&attrs, &step), parts);
    }
}

#[test]
fn rewriting_does_not_blow_graphs_up() {
    // A chain of (h·a)·b + h·c invites distributing and factoring for ever.
    let folder = Folder::new();
    let mut nodes = Vec::new();
    for i in 0..300 {
        let (h, next) = (format!("h{i}"), format!("h{}", i + 1));
        nodes.push(node(&format!("p{i}"), "mul", &[&h, "a"], ""));
        nodes.push(node(&format!("q{i}"), "mul", &[&format!("p{i}"), "b"], ""));
        nodes.push(node(&format!("r{i}"), "mul", &[&h, "c"], ""));
        nodes.push(node(&next, "add", &[&format!("q{i}"), &format!("r{i}")], ""));
    }
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let inputs = ["h0:f32[4]", "a:f32[4]", "b:f32[4]", "c:f32[4]"];
    folder.write("model.json", model(&inputs, &nodes, "h300"));
    let done = folder.graphc(&["show", "model.json", "--stage", "simplified"]);
    assert!(
        done.succeeds().lines().count() <= nodes.len() + inputs.len() + 2,
        "{}",
        done.stdout.lines().count()
    );
    let args = ["run", "model.json", "-i", "h0=ones", "-i", "a=ones", "-i", "b=zeros", "-i", "c=ones"];
    assert_eq!(folder.graphc(&args).succeeds(), "{\"y\": [1.0, 1.0, 1.0, 1.0]}\n");
}

#[test]
fn updates_are_checked() {
    let folder = Folder::new();
    let state = r#"{"name": "s", "role": "buffer", "type": "f32[2]", "init": {"data": [1, 2]}}"#;
    let with = |updates: &str| {
        let f = function(&["x:f32[3]", "n:i32[2]"], &[], "x");
        module(state, &f.replace("\"updates\": {}", &format!("\"updates\": {{{updates}}}")))
    };
    for (updates, parts) in [
        (r#""s": "x""#, &["`s`", "f32[2]", "f32[3]"][..]),
        (r#""s": "n""#, &["`s`", "i32[2]"]),
        (r#""x": "x""#, &["`x`"]),
        (r#""s": "s", "s": "s""#, &["\"s\"", "5:49", "5:39"]),
        (r#""s": "gone""#, &["gone"]),
    ] {
        folder.refuses(with(updates), parts);
    }
}

#[test]
fn long_chains_and_wide_fans_take_linear_time() {
    let folder = Folder::new();
    let chain: Vec<String> =
        (0..100_000).map(|i| node(&format!("n{}", i + 1), "neg", &[&format!("n{i}")], "")).collect();
    let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
    folder.write("chain.json", model(&["n0:f32[2]"], &chain, "n100000"));
    let diamond: Vec<String> = (0..1000)
        .map(|i| node(&format!("n{}", i + 1), "mul", &[&format!("n{i}"), &format!("n{i}")], ""))
        .collect();
    let diamond: Vec<&str> = diamond.iter().map(String::as_str).collect();
    folder.write("diamond.json", model(&["n0:f32[2]"], &diamond, "n1000"));
    let started = std::time::Instant::now();
    assert_eq!(folder.graphc(&["run", "chain.json", "-i", "n0=[1,-2]"]).succeeds(), "{\"y\": [1.0, -2.0]}\n");
    assert_eq!(
        folder.graphc(&["run", "diamond.json", "-i", "n0=[1,0.5]"]).succeeds(),
        "{\"y\": [1.0, 0.0]}\n"
    );
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn empty_dims_are_defined() {
    let folder = Folder::new();
    let dot = node("y", "dot", &["a", "b"], "");
    folder.write("dot.json", model(&["a:f32[2,0]", "b:f32[0,3]"], &[&dot], "y"));
    let done = folder.graphc(&["run", "dot.json", "-i", "a=[[],[]]", "-i", "b=zeros"]);
    assert_eq!(done.succeeds(), "{\"y\": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]}\n");
    for (kind, expected) in [("sum", "0.0"), ("prod", "1.0"), ("max", "\"-inf\""), ("min", "\"inf\"")] {
        let reduce = node("y", "reduce", &["x"], &format!(r#""kind": "{kind}", "axes": [0]"#));
        folder.write("reduce.json", model(&["x:f32[0]"], &[&reduce], "y"));
        for device in ["cpu", "reference"] {
            let done = folder.graphc(&["run", "reduce.json", "-i", "x=[]", "--device", device]);
            assert_eq!(done.succeeds(), format!("{{\"y\": {expected}}}\n"), "{kind} on {device}");
        }
    }
}

#[test]
fn symbols_that_contradict_each_other_show_both_sources() {
    let folder = Folder::new();
    folder.write("add.json", model(&["a:f32[N]", "b:f32[N]"], &[&node("y", "add", &["a", "b"], "")], "y"));
    let done = folder.graphc(&["run", "add.json", "-i", "a=[1,2]", "-i", "b=[1,2,3]"]);
    done.fails(65, &["axis 0 of `b` has size 3", "N = 2 by axis 0 of `a`"], "contradiction");
    let done = folder.graphc(&["run", "add.json", "-i", "a=random", "-i", "b=random"]);
    done.fails(2, &["`N`", "--dim N=32"], "unbound");
    let done = folder.graphc(&["run", "add.json", "-i", "a=[1]", "-i", "b=[2]", "--dim", "N=3"]);
    done.fails(65, &["axis 0 of `a` has size 1", "N = 3 by the given dims"], "--dim against a feed");
    let done = folder.graphc(&["run", "add.json", "-i", "a=[1]", "-i", "b=[2]", "--dim", "M=3"]);
    done.fails(2, &["no dim `M`", "`N`"], "unknown symbol");
    let rows = node("y", "reshape", &["x"], r#""dims": ["floor(N/3)", 3]"#);
    folder.write("rows.json", model(&["x:f32[N]"], &[&rows], "y"));
    let done = folder.graphc(&["run", "rows.json", "-i", "x=[1,2,3,4]"]);
    done.fails(65, &["N = 4 by axis 0 of `x`"], "not divisible");
    assert_eq!(
        folder.graphc(&["run", "rows.json", "-i", "x=[1,2,3]"]).succeeds(),
        "{\"y\": [[1.0, 2.0, 3.0]]}\n"
    );
}

#[test]
fn indices_never_clamp() {
    let folder = Folder::new();
    folder.write(
        "gather.json",
        model(&["x:f32[3]", "i:i32[2]"], &[&node("y", "gather", &["x", "i"], r#""axis": 0"#)], "y"),
    );
    for device in ["cpu", "reference"] {
        for bad in ["[0,3]", "[-1,0]", "[-2147483648,0]"] {
            let done = folder.graphc(&[
                "run",
                "gather.json",
                "-i",
                "x=[1,2,3]",
                "-i",
                &format!("i={bad}"),
                "--device",
                device,
            ]);
            done.fails(65, &["`y`"], bad);
        }
        let done =
            folder.graphc(&["run", "gather.json", "-i", "x=[1,2,3]", "-i", "i=[2,0]", "--device", device]);
        assert_eq!(done.succeeds(), "{\"y\": [3.0, 1.0]}\n");
    }
}

#[test]
fn arithmetic_at_the_edges_is_the_same_everywhere() {
    let folder = Folder::new();
    for (op, ty, a, b, expected) in [
        ("div", "i32", "[7, -2147483648, 5]", "[0, -1, 2]", "[0, -2147483648, 2]"),
        ("div", "f32", "[1.0, 0.0, -1.0]", "[0.0, 0.0, 0.0]", "[\"inf\", \"nan\", \"-inf\"]"),
    ] {
        let text =
            model(&[&format!("a:{ty}[3]"), &format!("b:{ty}[3]")], &[&node("y", op, &["a", "b"], "")], "y");
        folder.write("model.json", text);
        for device in ["cpu", "reference"] {
            let args =
                ["run", "model.json", "-i", &format!("a={a}"), "-i", &format!("b={b}"), "--device", device];
            assert_eq!(
                folder.graphc(&args).succeeds(),
                format!("{{\"y\": {expected}}}\n"),
                "{op} {ty} {device}"
            );
        }
    }
    // A constant zero divisor is a mistake, and is told before anything runs.
    for op in ["div", "rem"] {
        let by = |zero: &str| format!(r#"{{"id": "y", "op": "{op}", "in": ["a", {zero}]}}"#);
        let message = format!("`{op}` divides integers by a constant 0");
        folder.refuses(model(&["a:i32[3]"], &[&by("0")], "y"), &["model.json:4:8", "`y`", &message]);
        let some = r#"{"id": "c", "op": "const", "attrs": {"value": {"type": "i32[3]", "data": [1, 0, 2]}}}"#;
        folder.refuses(model(&["a:i32[3]"], &[some, &by("\"c\"")], "y"), &["model.json:5:8", &message]);
        folder.write("model.json", model(&["a:f32[3]"], &[&by("0")], "y"));
        folder.graphc(&["check", "model.json"]).succeeds();
    }
    let cast = node("y", "cast", &["x"], r#""to": "i8""#);
    folder.write("cast.json", model(&["x:f32[3]"], &[&cast], "y"));
    let log = node("y", "log", &["x"], "");
    folder.write("log.json", model(&["x:f32[3]"], &[&log], "y"));
    for device in ["cpu", "reference"] {
        let done = folder.graphc(&["run", "cast.json", "-i", "x=[\"nan\", 1e20, -1e20]", "--device", device]);
        assert_eq!(done.succeeds(), "{\"y\": [0, 127, -128]}\n");
        let done = folder.graphc(&["run", "log.json", "-i", "x=[0, -1, 1]", "--device", device]);
        assert_eq!(done.succeeds(), "{\"y\": [\"-inf\", \"nan\", 0.0]}\n");
    }
}
