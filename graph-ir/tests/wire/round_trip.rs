//! What is written reads back the same.

use graphc_ir::wire::{DecodeOptions, decode, warnings};
use graphc_ir::{Builder, DType, Function, Module, Op, Origins, ScalarFn, TensorType};
use proptest::prelude::*;

use super::{MLP, read, with_function, with_nodes, write};
use graphc_ir::module::OutputDecl;

fn output(name: &str) -> OutputDecl {
    OutputDecl { name: name.into(), mark: None }
}

#[test]
fn a_hand_written_module_becomes_canonical() {
    let module = read(MLP);
    let text = write(&module);
    assert_eq!(text, write(&read(&text)));
    let f = &module.functions["predict"];
    assert_eq!(f.graph.ty(f.output_values()[0]).to_string(), "f32[B,2]");
    assert_eq!(f.graph.ty(f.output_values()[1]).dtype, DType::F32);
    for line in [
        r#"      "nodes": ["#,
        r#"        {"id": "h", "op": "linear", "in": ["x", "w1", "b1"], "type": "f32[B,3]"},"#,
        r#"        {"id": "y", "op": "dot", "in": ["a", "w2"], "type": "f32[B,2]"},"#,
        r#"        {"id": "a_const", "op": "const", "attrs": {"value": {"type": "f32[]", "data": [0.0]}}, "type": "f32[]"},"#,
        r#"        {"id": "a_broadcast", "op": "broadcast", "in": ["a_const"], "attrs": {"dims": ["B", 3], "axes": []}, "type": "f32[B,3]"},"#,
        r#"        {"id": "nobias", "op": "linear", "in": ["a", "w2"], "type": "f32[B,2]"},"#,
        r#"        "scaled": {"value": "stats#1", "mark": "metric"},"#,
        r#"        "steps": "next""#,
        r#"    {"name": "w1", "role": "param", "type": "f32[4,3]", "init": {"data": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 0.1, -0.0, "nan"]}},"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
}

/// Every sample of every operation, as a function of its operands.
#[test]
fn every_sample_of_every_operation() {
    let mut module = Module::default();
    for info in Op::LIST {
        for (i, sample) in (info.samples)().into_iter().enumerate() {
            let mut b = Builder::new();
            let types = sample.ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape()));
            let ins: Vec<_> = types.map(|ty| b.input(ty).expect("an input")).collect();
            b.set_origins(Origins::named("z"));
            let outs = b.op(sample.op, &ins).expect("samples are valid");
            let function = Function {
                inputs: (0..ins.len()).map(|i| format!("x{i}")).collect(),
                outputs: (0..outs.len()).map(|i| output(&format!("y{i}"))).collect(),
                updates: Vec::new(),
                graph: b.finish(&outs).expect("a graph"),
            };
            module.functions.insert(format!("{}.{i}", info.name), function);
        }
    }
    let text = write(&module);
    let again = read(&text);
    for (name, f) in &module.functions {
        assert_eq!(f.graph, again.functions[name].graph, "{name}");
    }
    // Bodies of loops became functions.
    assert!(again.functions.len() > module.functions.len());
    assert_eq!(text, write(&again));
}

#[test]
fn loops_keep_their_bodies() {
    let text = r#"{"format": "graphc.module", "version": 1, "functions": {
      "rnn": {"inputs": [{"name": "w", "type": "f32[3]"}, {"name": "h0", "type": "f32[3]"}, {"name": "xs", "type": "f32[T,3]"}],
        "nodes": [{"id": "r", "op": "scan", "in": ["w", "h0", "xs"],
                   "attrs": {"body": "cell", "carries": 1, "stacks": 1, "length": "T"}}],
        "outputs": {"h": "r", "ys": "r#1"}},
      "cell": {"inputs": [{"name": "w", "type": "f32[3]"}, {"name": "h", "type": "f32[3]"}, {"name": "x", "type": "f32[3]"}],
        "nodes": [{"id": "p", "op": "mul", "in": ["w", "h"]}, {"id": "s", "op": "add", "in": ["p", "x"]}],
        "outputs": {"next": "s", "y": "p"}}}}"#;
    let mut module = read(text);
    let canonical = write(&module);
    assert!(canonical.contains(r#""body": "cell""#), "{canonical}");
    assert_eq!(canonical, write(&read(&canonical)));
    // Without the function, the body gets a name after its loop, and keeps it.
    module.functions.shift_remove("cell");
    let own = write(&module);
    assert!(own.contains(r#""rnn.r.body": {"#), "{own}");
    assert_eq!(own, write(&read(&own)));
}

#[test]
fn names_survive_edits_and_collisions() {
    let mut b = Builder::new();
    let x = b.input(TensorType::parse("f32[4]").expect("a type")).expect("an input");
    b.set_origins(Origins::named("gradient of h"));
    let one = b.scalar(DType::F32, 1.0).expect("a constant");
    let g = b.map(ScalarFn::Add, &[x, one]).expect("a sum");
    b.set_origins(Origins::named("x"));
    let y = b.map(ScalarFn::Neg, &[g]).expect("a negation");
    b.set_origins(Origins::default());
    let z = b.map(ScalarFn::Neg, &[y]).expect("a negation");
    let z = b.map(ScalarFn::Neg, &[z]).expect("a negation");
    let graph = b.finish(&[z]).expect("a graph");
    let function = Function { inputs: vec!["x".into()], outputs: vec![output("z")], updates: vec![], graph };
    let mut module = Module::default();
    module.functions.insert("f".into(), function);
    let text = write(&module);
    for id in ["h_grad_const", "h_grad_broadcast", "h_grad", "x_neg", "neg", "neg_2"] {
        assert!(text.contains(&format!("{{\"id\": \"{id}\", ")), "{id} in {text}");
    }
    assert_eq!(text, write(&read(&text)));
}

#[test]
fn odd_but_valid_modules() {
    // No nodes; an output that is an input, twice; an output that is a constant; nothing at all.
    let same = with_function(
        r#"{"inputs": [{"name": "x", "type": "f32[0]"}, {"name": "u", "type": "bool"}], "outputs": {"a": "x", "b": "x#0"}}"#,
    );
    let module = read(&same);
    assert_eq!(module.functions["f"].output_values().len(), 2);
    assert_eq!(write(&module), write(&read(&write(&module))));
    let told: Vec<String> = warnings(&module).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["function `f`: the input `u` is used by no output and no update"]);
    let constant = with_function(
        r#"{"nodes": [{"id": "c", "op": "const", "attrs": {"value": 1}}], "outputs": {"c": "c"}}"#,
    );
    assert_eq!(
        read(&constant).functions["f"]
            .graph
            .ty(read(&constant).functions["f"].output_values()[0])
            .to_string(),
        "f32[]"
    );
    assert!(read(r#"{"format": "graphc.module", "version": 1, "functions": {}}"#).functions.is_empty());
    // The same expression twice is one node that has both names.
    let twice = with_nodes(r#"{"id": "a", "op": "neg", "in": ["x"]}, {"id": "b", "op": "neg", "in": ["x"]}"#);
    let module = read(&twice);
    assert_eq!(module.functions["f"].graph.nodes().filter(|(_, n)| n.op.name() == "neg").count(), 1);
}

/// Integers among attributes that stand for floats, and that no integer type holds.
#[test]
fn large_numbers_stay_what_they_are() {
    for value in ["1000000000000000000000000000000", "-1000000000000000000000000000000"] {
        let text = with_function(&format!(
            r#"{{"inputs": [{{"name": "x", "type": "f32[2]"}}], "nodes": [{{"id": "p", "op": "pad", "in": ["x"],
                "attrs": {{"lo": [1], "hi": [0], "value": {value}}}}}], "outputs": {{"y": "p"}}}}"#
        ));
        let module = read(&text);
        let again = read(&write(&module));
        assert_eq!(write(&again), write(&module));
        let values = |m: &Module| {
            let graph = &m.functions["f"].graph;
            let found = graph.nodes().find_map(|(_, n)| match &n.op {
                Op::Pad(pad) => Some(pad.value.as_f64()),
                _ => None,
            });
            found.expect("it pads")
        };
        assert_eq!(values(&again), value.parse::<f64>().expect("a number"), "{}", write(&module));
    }
}

#[test]
fn warnings_name_what_is_seldom_meant() {
    let text = with_function(
        r#"{"inputs": [{"name": "k", "type": "u32[2]"}, {"name": "h", "type": "f32[]"}], "nodes": [
            {"id": "a", "op": "uniform", "in": ["k"], "attrs": {"dims": [3]}},
            {"id": "b", "op": "normal", "in": ["k"], "attrs": {"dims": [3]}},
            {"id": "n", "op": "neg", "in": ["h"]},
            {"id": "c", "op": "mul", "in": ["a", "b"]}], "outputs": {"c": "c"}}"#,
    );
    let text = text.replace(
        r#""functions""#,
        r#""state": [{"name": "s", "role": "slot", "type": "f32[]"}], "functions""#,
    );
    let told: Vec<String> = warnings(&read(&text)).iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for (warning, part) in told.iter().zip(["input `h`", "`neg` node `n`", "share a key", "state `s`"]) {
        assert!(warning.contains(part), "{warning}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let text = write(&read(MLP));
    for end in 0..text.len() - 1 {
        if text.is_char_boundary(end) {
            assert!(decode(&text.as_bytes()[..end], &DecodeOptions::default()).is_err(), "{end}");
        }
    }
}

/// One node of a random function: an operation by number and operands by distance.
fn random_function(steps: &[(u8, usize, usize)]) -> Function {
    let mut b = Builder::new();
    let types = ["f32[B,3]", "f32[3]", "f32[B,1]", "f32[1]"];
    let mut values: Vec<_> =
        types.iter().map(|t| b.input(TensorType::parse(t).expect("a type")).expect("an input")).collect();
    for (i, (f, p, q)) in steps.iter().enumerate() {
        if i % 3 != 0 {
            b.set_origins(Origins::named(format!("n{}", i % 7)));
        } else {
            b.set_origins(Origins::default());
        }
        let f = ScalarFn::ALL[*f as usize % ScalarFn::ALL.len()];
        let ins = [values[p % values.len()], values[q % values.len()], values[(p + q) % values.len()]];
        if let Ok(v) = b.map(f, &ins[..f.def().arity]) {
            values.push(v);
        }
    }
    let results = &values[values.len() - 3..];
    Function {
        inputs: ["a", "b", "c", "d"].map(String::from).to_vec(),
        outputs: ["p", "q", "r"].map(output).to_vec(),
        updates: Vec::new(),
        graph: b.finish(results).expect("a graph"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_modules(steps in proptest::collection::vec(any::<(u8, usize, usize)>(), 0..40)) {
        let steps: Vec<_> = steps.iter().map(|(f, p, q)| (*f, p % 1000, q % 1000)).collect();
        let mut module = Module::default();
        module.functions.insert("f".into(), random_function(&steps));
        let text = write(&module);
        let again = read(&text);
        prop_assert_eq!(&module.functions["f"].graph, &again.functions["f"].graph);
        prop_assert_eq!(text, write(&again));
    }

    /// Any operation on operands of any types gives a value or an error, and what is accepted round trips.
    #[test]
    fn any_operation_on_any_types(
        op in any::<prop::sample::Index>(),
        types in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        attrs in proptest::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let all = ["f32[2,3]", "f32[]", "i32[3]", "bool[2]", "u32[2]", "f32[B,3]", "f32[0,2,2]", "f16[3,2]", "f64[1]", "i64[B]"];
        let values = ["0", "1", "3", "[]", "[0]", "[1, 0]", "[0, 0]", "[2, 3]", "[\"B\", 3]", "true", "\"f32\"", "\"sum\"",
            "\"mean\"", "\"max\"", "-1", "1.5", "\"B\"", "\"f\"", "9223372036854775807", "[9223372036854775807, 4]"];
        let names = Op::names();
        let name = names[op.index(names.len())];
        let specs = Op::find(name).map_or(&[][..], |i| i.attrs);
        let attrs: Vec<String> =
            specs.iter().zip(&attrs).map(|(s, v)| format!("\"{}\": {}", s.name, values[v.index(values.len())])).collect();
        let inputs: Vec<String> = types.iter().enumerate()
            .map(|(i, t)| format!("{{\"name\": \"x{i}\", \"type\": \"{}\"}}", all[t.index(all.len())])).collect();
        let ins: Vec<String> = (0..types.len()).map(|i| format!("\"x{i}\"")).collect();
        let text = with_function(&format!(
            "{{\"inputs\": [{}], \"nodes\": [{{\"id\": \"z\", \"op\": \"{name}\", \"in\": [{}], \"attrs\": {{{}}}}}], \"outputs\": {{}}}}",
            inputs.join(", "), ins.join(", "), attrs.join(", ")
        ));
        if let Ok(module) = decode(text.as_bytes(), &DecodeOptions::default()) {
            let canonical = write(&module);
            prop_assert_eq!(&canonical, &write(&read(&canonical)));
        }
    }
}
