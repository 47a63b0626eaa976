//! Large and deep modules: linear time, no recursion, limits before memory.

use std::fmt::Write;
use std::time::Instant;

use graphc_ir::wire::json;
use graphc_ir::wire::{DecodeOptions, EncodeOptions, Limits, decode, encode};

use super::{problems, read, with_nodes};

fn chain(n: usize) -> String {
    let mut nodes = String::from("{\"id\": \"n0\", \"op\": \"neg\", \"in\": [\"x\"]}");
    for i in 1..n {
        let _ = write!(nodes, ",\n{{\"id\": \"n{i}\", \"op\": \"neg\", \"in\": [\"n{}\"]}}", i - 1);
    }
    with_nodes(&nodes)
}

/// A million nodes take not much more than twenty times as long as fifty thousand.
#[test]
fn a_chain_of_a_million_nodes() {
    let json = json::Limits { nodes: 50_000_000, ..json::Limits::default() };
    let limits = Limits { json, ..Limits::default() };
    let options = DecodeOptions { limits, ..DecodeOptions::default() };
    let time = |n: usize| {
        let text = chain(n);
        let begin = Instant::now();
        let module = decode(text.as_bytes(), &options).expect("a valid chain");
        let time = begin.elapsed();
        assert_eq!(module.functions["f"].graph.len(), n + 2);
        (time, module)
    };
    let (short, module) = time(50_000);
    let canonical = encode(&module, &EncodeOptions::default()).expect("a module that can be written");
    assert!(canonical.lines().count() > 50_000);
    let (long, _) = time(1_000_000);
    assert!(long < short * 80, "{short:?} {long:?}");
}

#[test]
fn a_chain_written_backwards() {
    let n = 100_000;
    let nodes: Vec<String> = (0..n)
        .rev()
        .map(|i| {
            let operand = if i == 0 { "x".into() } else { format!("n{}", i - 1) };
            format!("{{\"id\": \"n{i}\", \"op\": \"neg\", \"in\": [\"{operand}\"]}}")
        })
        .collect();
    assert_eq!(read(&with_nodes(&nodes.join(",\n"))).functions["f"].graph.len(), n + 2);
}

#[test]
fn a_cycle_of_a_hundred_thousand() {
    let n = 100_000;
    let nodes: Vec<String> = (0..n)
        .map(|i| format!("{{\"id\": \"n{i}\", \"op\": \"neg\", \"in\": [\"n{}\"]}}", (i + 1) % n))
        .collect();
    let found = problems(&with_nodes(&nodes.join(",\n")));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("module:3:8: function `f`, node `n0`: the graph has a cycle: `n0` -> `n1`"),
        "{}",
        found[0]
    );
    assert!(
        found[0].contains("… (99988 more) -> ") && found[0].contains("`n99999` -> `n0`;"),
        "{}",
        found[0]
    );
}

#[test]
fn fan_out_and_diamonds() {
    let wide: Vec<String> = (0..100_000)
        .map(|i| format!("{{\"id\": \"n{i}\", \"op\": \"mul\", \"in\": [\"x\", {i}]}}"))
        .collect();
    assert!(read(&with_nodes(&wide.join(",\n"))).functions["f"].graph.len() > 200_000);
    let mut diamonds = vec!["{\"id\": \"n0\", \"op\": \"neg\", \"in\": [\"x\"]}".to_owned()];
    diamonds.extend(
        (1..1000)
            .map(|i| format!("{{\"id\": \"n{i}\", \"op\": \"add\", \"in\": [\"n{0}\", \"n{0}\"]}}", i - 1)),
    );
    assert_eq!(read(&with_nodes(&diamonds.join(",\n"))).functions["f"].graph.len(), 1002);
    let all: Vec<String> = (0..50_000).map(|_| "\"x\"".into()).collect();
    let concat = format!(
        "{{\"id\": \"c\", \"op\": \"concat\", \"in\": [{}], \"attrs\": {{\"axis\": 0}}}}",
        all.join(", ")
    );
    let module = read(&with_nodes(&concat));
    let graph = &module.functions["f"].graph;
    assert_eq!(graph.ty(graph.nodes().last().expect("a node").1.out(0)).to_string(), "f32[100000,3]");
}

/// Loops in loops: a chain of functions of which each runs the next, and one whose size doubles at every level.
#[test]
fn nested_loops_are_limited() {
    let function = |name: String, body: Option<String>, times: usize| {
        let nodes: Vec<String> = body.map_or(Vec::new(), |b| {
            (0..times)
                .map(|i| {
                    format!(
                        "{{\"id\": \"r{i}\", \"op\": \"scan\", \"in\": [\"h\"], \"attrs\": {{\"body\": \"{b}\", \"carries\": 1, \"stacks\": 0, \"length\": {i}}}}}"
                    )
                })
                .collect()
        });
        format!(
            "\"{name}\": {{\"inputs\": [{{\"name\": \"h\", \"type\": \"f32[]\"}}], \"nodes\": [{}], \"outputs\": {{\"h\": \"h\"}}}}",
            nodes.join(", ")
        )
    };
    let module = |levels: usize, times: usize| {
        let functions: Vec<String> = (0..levels)
            .map(|i| function(format!("f{i}"), (i + 1 < levels).then(|| format!("f{}", i + 1)), times))
            .collect();
        format!(
            "{{\"format\": \"graphc.module\", \"version\": 1, \"functions\": {{{}}}}}",
            functions.join(",\n")
        )
    };
    assert_eq!(problems(&module(10, 2)), Vec::<String>::new());
    let deep = problems(&module(100_000, 1));
    assert!(deep.len() == 1 && deep[0].contains("the innermost of too many nested bodies"), "{deep:?}");
    let wide = problems(&module(12, 10));
    assert!(
        !wide.is_empty() && wide.iter().all(|p| p.contains("makes the bodies of this function too large")),
        "{wide:?}"
    );
    // Recursion names its path.
    let recursive = module(3, 1).replacen("\"f1\", \"carries\"", "\"f0\", \"carries\"", 1);
    let found = problems(&recursive);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("recursion: `f0` -> `f0`"), "{found:?}");
}

#[test]
fn limits_come_before_memory() {
    let refuse = |text: &str, limits: Limits, part: &str| {
        let options = DecodeOptions { limits, ..DecodeOptions::default() };
        let all = decode(text.as_bytes(), &options).expect_err(part);
        assert!(all[0].message.contains(part), "{}", all[0]);
    };
    let json = |change: fn(&mut json::Limits)| {
        let mut limits = Limits::default();
        change(&mut limits.json);
        limits
    };
    let text = chain(100);
    refuse(&text, json(|l| l.bytes = 1000), "at most 1000 are read");
    refuse(&text, json(|l| l.nodes = 100), "more than 100 values");
    refuse(&"[".repeat(1_000_000), Limits::default(), "nested deeper than 128");
    refuse(&"{\"a\":".repeat(1_000_000), Limits::default(), "nested deeper than 128");
    let name = "n".repeat(1_000_000);
    let long = with_nodes(&format!("{{\"id\": \"{name}\", \"op\": \"neg\", \"in\": [\"x\"]}}"));
    refuse(&long, Limits::default(), "longer than 256 characters");
    let numbers = vec!["1"; 3000].join(",");
    let tensor = with_nodes(&format!(
        "{{\"id\": \"c\", \"op\": \"const\", \"attrs\": {{\"value\": {{\"type\": \"f32[3000]\", \"data\": [{numbers}]}}}}}}"
    ));
    assert_eq!(problems(&tensor), Vec::<String>::new());
    refuse(
        &tensor,
        Limits { elements: 2999, ..Limits::default() },
        "3000 more elements in the module, where 2999 are allowed",
    );
}

/// Many problems are counted, not listed, and looking for what was meant does not take quadratic time.
#[test]
fn a_hundred_thousand_problems() {
    let nodes: Vec<String> =
        (0..100_000).map(|i| format!("{{\"id\": \"n{i}\", \"op\": \"neg\", \"in\": [\"m{i}\"]}}")).collect();
    let found = problems(&with_nodes(&nodes.join(",\n")));
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "module: 99900 more problems are not shown");
}
