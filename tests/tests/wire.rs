//! What is written is read back: every sample, its symbolic form, its gradient, and random modules.

use graphc_ir::error::{Error, Result};
use graphc_ir::wire::{DecodeOptions, EncodeOptions, decode, encode};
use graphc_ir::{Graph, Module};
use graphc_tests::device::{Device, Reference};
use graphc_tests::random_graph::{self, Config, random_module};
use graphc_tests::registry::{applied, cases, differentiate, symbolic};
use graphc_tests::vectors::{FUNCTION, module_of};

/// Writes and reads a module; what was read, and whether writing it again gives the same text.
fn round_trip(module: &Module) -> Result<(Module, bool)> {
    let text = encode(module, &EncodeOptions::default())?;
    let read = decode(text.as_bytes(), &DecodeOptions::default()).map_err(|problems| {
        let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Error::new(format!("{}\n{text}", all.join("; ")))
    })?;
    let again = encode(&read, &EncodeOptions::default())? == text;
    Ok((read, again))
}

fn check(graph: Graph, failures: &mut Vec<String>, what: &str) {
    let names = |prefix: &str, n: usize| (0..n).map(|i| format!("{prefix}{i}")).collect();
    let (ins, outs) = (names("x", graph.inputs().len()), names("y", graph.results().len()));
    let module = module_of(graph, ins, outs);
    let outcome = round_trip(&module).and_then(|(read, again)| {
        let (was, is) = (module.function(FUNCTION)?, read.function(FUNCTION)?);
        let same = was.graph == is.graph && was.inputs == is.inputs && was.outputs == is.outputs;
        Ok((same, again))
    });
    match outcome {
        Ok((true, true)) => {}
        Ok((false, _)) => failures.push(format!("{what}: another function was read")),
        Ok((_, false)) => failures.push(format!("{what}: another text is written the second time")),
        Err(e) => failures.push(format!("{what}: {e}")),
    }
}

#[test]
fn samples_are_read_as_written() {
    let mut failures = Vec::new();
    for case in cases() {
        let graph = applied(&case.sample.op, &case.types()).expect("samples are well typed");
        check(graph.clone(), &mut failures, &case.describe());
        if !case.sample.wrt.is_empty() {
            let gradient = differentiate(&graph, &case.sample.wrt, 1).expect("it has a gradient").gradient;
            check(gradient, &mut failures, &format!("gradient of {}", case.describe()));
        }
        let s = symbolic(&case).expect("sizes become symbols");
        let graph = applied(&s.op, &s.types).expect("samples are well typed over symbols");
        // Symbols enter through inputs: what has none cannot be fed.
        if !graph.inputs().is_empty() && case.types().iter().any(|t| t.dtype.is_float()) {
            check(graph, &mut failures, &format!("over symbols {}", case.describe()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn random_modules_mean_the_same_when_read() {
    for seed in 0..200 {
        let r = random_module(seed, &Config::default()).expect("it is made");
        let (read, again) = round_trip(&r.module).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(again, "seed {seed}: another text is written the second time");
        let inputs = r.inputs(3).expect("inputs can be made");
        let run = |m: &Module| Reference.run(m, random_graph::FUNCTION, &inputs).expect("it runs");
        let (got, want) = (run(&read), run(&r.module));
        assert_eq!(got.outputs, want.outputs, "seed {seed}");
        assert_eq!(got.state, want.state, "seed {seed}");
    }
}
