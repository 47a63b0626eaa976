//! The verbs that look into models.

use graphc::ir::wire::json::{Limits, Node, parse};

use crate::command::{Folder, counter, model, relu};

fn json(text: &str) -> Node {
    parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn check_tells_what_a_model_holds() {
    let folder = Folder::new();
    folder.write("relu.json", relu());
    folder.write("counter.json", counter());
    let done = folder.graphc(&["check", "relu.json", "--dim", "B=4"]);
    for part in ["f(x f32[B,3]) -> (y f32[B,3])", "B=4", "peak memory", "1 map"] {
        assert!(done.succeeds().contains(part), "no `{part}` in {}", done.stdout);
    }
    let done = folder.graphc(&["check", "counter.json", "--json"]);
    let root = json(done.succeeds());
    let f = root.get("functions").and_then(|f| f.get("f")).unwrap();
    assert_eq!(f.get("inputs").and_then(|i| i.get("x")).and_then(Node::as_str), Some("f32[2]"));
    assert!(f.get("peak_bytes").and_then(Node::as_number).is_some_and(|n| n.as_u64().unwrap() >= 8));
    assert_eq!(root.get("state").and_then(Node::as_array).map(<[Node]>::len), Some(1));
}

#[test]
fn show_prints_every_stage_in_every_format() {
    let folder = Folder::new();
    let nodes = [r#"{"id": "p", "op": "softmax", "in": ["x"], "attrs": {"axis": 1}}"#];
    folder.write("model.json", model(&["x:f32[B,3]"], &nodes, "p"));
    for stage in ["built", "grad", "simplified", "bound", "layout", "fused", "program"] {
        for (format, part) in [("text", "`p`"), ("dot", "digraph"), ("html", "</html>")] {
            let done =
                folder.graphc(&["show", "model.json", "--stage", stage, "--format", format, "--dim", "B=2"]);
            assert!(done.succeeds().contains(part), "{stage} {format}: {}", done.stdout);
        }
    }
    let built = folder.graphc(&["show", "model.json"]);
    assert!(built.succeeds().contains("softmax{axis: 1}(%0) : f32[B,3]  # `p` (4:8)"), "{}", built.stdout);
    let fused = folder.graphc(&["show", "model.json", "--stage", "fused", "--dim", "B=2"]);
    assert!(fused.succeeds().contains("fused{kind: nest}"), "{}", fused.stdout);
    let unbound = folder.graphc(&["show", "model.json", "--stage", "fused"]);
    unbound.fails(65, &["`B`", "--dim B=32"], "symbolic dims");
}

#[test]
fn bench_prints_the_keys_of_the_contract() {
    let folder = Folder::new();
    folder.write("counter.json", counter());
    let done = folder.graphc(&["bench", "counter.json", "--seconds", "0.05", "--json", "--threads", "2"]);
    let root = json(done.succeeds());
    let number = |key: &str| root.get(key).and_then(Node::as_f64).unwrap().unwrap();
    for key in ["median_ms", "min_ms", "mean_ms", "p99_ms", "runs", "peak_bytes", "compile_ms", "load_ms"] {
        assert!(number(key) > 0.0, "{key}");
    }
    assert!(number("min_ms") <= number("median_ms") && number("median_ms") <= number("p99_ms"));
    assert_eq!(number("threads"), 2.0);
    assert_eq!(root.get("device").and_then(Node::as_str), Some("cpu"));
    let done = folder.graphc(&["bench", "counter.json", "--seconds", "0.05"]);
    assert!(done.succeeds().contains("median"), "{}", done.stdout);
}

#[test]
fn verify_compares_every_level() {
    let folder = Folder::new();
    let nodes = [
        r#"{"id": "h", "op": "dot", "in": ["x", "w"]}"#,
        r#"{"id": "p", "op": "softmax", "in": ["h"], "attrs": {"axis": 1}}"#,
    ];
    folder.write("model.json", model(&["x:f32[B,5]", "w:f32[5,4]"], &nodes, "p"));
    folder.write("counter.json", counter());
    for file in ["model.json", "counter.json"] {
        let done = folder.graphc(&["verify", file]);
        for level in ["optimized", "fused", "program", "cpu"] {
            assert!(done.succeeds().contains(&format!("f: {level} agrees")), "{}", done.stdout);
        }
    }
    // Nothing is that exact: the difference is told with its pass and its node.
    let done =
        folder.graphc(&["verify", "model.json", "--tolerance", "1e-12", "-i", "x=random", "--dim", "B=3"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("cpu DIFFERS") && done.stdout.contains("first at `"), "{}", done.stdout);
    assert!(done.stderr.contains("from the definition"), "{}", done.stderr);
    let done = folder.graphc(&["verify", "model.json", "--json"]);
    let lines: Vec<Node> = done.succeeds().lines().map(json).collect();
    // The dim B in three sizes.
    assert!(lines.len() == 12 && lines.iter().all(|l| l.get("agrees").and_then(Node::as_bool) == Some(true)));
}

#[test]
fn fmt_is_idempotent() {
    let folder = Folder::new();
    folder.write("counter.json", counter());
    let unchanged = counter();
    folder.graphc(&["fmt", "counter.json", "--check"]).fails(
        1,
        &["graphc fmt counter.json -o counter.json"],
        "--check",
    );
    let canonical = folder.graphc(&["fmt", "counter.json"]).succeeds().to_owned();
    assert_eq!(std::fs::read_to_string(folder.path().join("counter.json")).unwrap(), unchanged);
    folder.graphc(&["fmt", "counter.json", "-o", "counter.json"]).succeeds();
    assert_eq!(std::fs::read_to_string(folder.path().join("counter.json")).unwrap(), canonical);
    folder.graphc(&["fmt", "counter.json", "--check"]).succeeds();
    assert_eq!(folder.names(), ["counter.json"]);
}

#[test]
fn generated_documents_are_printed() {
    let folder = Folder::new();
    assert!(json(folder.graphc(&["schema"]).succeeds()).get("$schema").is_some());
    assert!(folder.graphc(&["ops"]).succeeds().contains("softmax"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.graphc(&["completions", shell]).succeeds().contains("graphc"));
    }
}
