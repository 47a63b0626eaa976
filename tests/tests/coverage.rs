//! An operation whose samples leave something out fails here: the other registry tests see samples only.

use std::collections::{BTreeMap, BTreeSet};

use graphc_ir::Op;
use graphc_tests::registry::{applied, cases};

/// Operations that have no samples, and why.
const WITHOUT_SAMPLES: [(&str, &str); 3] = [
    ("input", "every operand of every other sample is one"),
    ("state", "it needs a module; the random modules read and write state"),
    ("fused", "it is made by the fusion pass, whose tests run its clusters"),
];

/// Operations of which neither an operand nor a result can have rank 0, and why.
const WITHOUT_RANK_0: [(&str, &str); 32] = [
    ("iota", "it counts along an axis"),
    ("concat", "it joins along an axis that operands and result have"),
    ("dot", "operands and result are matrices"),
    ("conv", "images and filters have channels"),
    ("conv_input_grad", "images and filters have channels"),
    ("conv_filter_grad", "images and filters have channels"),
    ("max_pool", "images have channels"),
    ("window_scatter", "images have channels"),
    ("window_gather", "images have channels"),
    ("avg_pool", "images have channels"),
    ("avg_pool_grad", "images have channels"),
    ("conv_bias", "images have channels"),
    ("conv_transpose", "images have channels"),
    ("global_avg_pool", "images have channels"),
    ("global_max_pool", "images have channels"),
    ("adaptive_avg_pool", "images have channels"),
    ("adaptive_max_pool", "images have channels"),
    ("local_response_norm", "images have channels"),
    ("feature_dropout", "images have channels"),
    ("upsample", "images have channels"),
    ("max_unpool", "images have channels"),
    ("linear", "operands and result have the axis that is mapped"),
    ("softmax", "it is over an axis that the result keeps"),
    ("log_softmax", "it is over an axis that the result keeps"),
    ("layer_norm", "operands and result have the axes of the normalization"),
    ("rms_norm", "operands and result have the axes of the normalization"),
    ("scaled_dot_product_attention", "operands and result are matrices"),
    ("rnn", "operands and results have the axes of sequences and units"),
    ("lstm", "operands and results have the axes of sequences and units"),
    ("gru", "operands and results have the axes of sequences and units"),
    ("batch_norm", "operands and results have the axis of the channels"),
    ("batch_norm_inference", "operands and result have the axis of the channels"),
];

/// What the samples of one operation cover.
#[derive(Default)]
struct Covered {
    samples: usize,
    attrs: BTreeMap<&'static str, BTreeSet<String>>,
    rank_0: bool,
    size_0: bool,
    size_1: bool,
    odd: bool,
}

/// By name; a map by that of its function.
fn covered() -> BTreeMap<&'static str, Covered> {
    let mut all: BTreeMap<&'static str, Covered> = BTreeMap::new();
    for case in cases() {
        let entry = all.entry(case.sample.op.name()).or_default();
        entry.samples += 1;
        for (name, value) in case.sample.op.attrs() {
            entry.attrs.entry(name).or_default().insert(format!("{value:?}"));
        }
        let graph = applied(&case.sample.op, &case.types()).expect("samples are well typed");
        for v in graph.inputs().iter().chain(graph.results()) {
            let shape = graph.ty(*v).static_shape();
            entry.rank_0 |= shape.is_empty();
            entry.size_0 |= shape.contains(&0);
            entry.size_1 |= shape.contains(&1);
            entry.odd |= shape.iter().any(|d| *d > 1 && d % 2 == 1);
        }
    }
    all
}

#[test]
fn every_operation_has_samples_of_every_kind() {
    let covered = covered();
    let mut missing = Vec::new();
    let without = |name: &str| WITHOUT_SAMPLES.iter().any(|(n, _)| *n == name);
    let names = Op::names().into_iter().chain(Op::INTERNAL.iter().copied().filter(|n| *n != "map"));
    for name in names.filter(|n| !without(n)) {
        let Some(c) = covered.get(name) else {
            missing.push(format!("`{name}` has no samples"));
            continue;
        };
        for (attr, values) in &c.attrs {
            if values.len() < 2 {
                missing.push(format!("`{name}` has one value of `{attr}` only: {values:?}"));
            }
        }
        let rank_0 = c.rank_0 || WITHOUT_RANK_0.iter().any(|(n, _)| *n == name);
        let kinds = [
            (rank_0, "rank 0"),
            (c.size_0, "a size of 0"),
            (c.size_1, "a size of 1"),
            (c.odd, "an odd size above 1"),
        ];
        missing.extend(kinds.iter().filter(|(ok, _)| !ok).map(|(_, what)| {
            format!("none of the {} samples of `{name}` has {what} in an operand or result", c.samples)
        }));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn exceptions_are_needed() {
    let covered = covered();
    for (name, reason) in WITHOUT_SAMPLES {
        assert!(!covered.contains_key(name) && Op::INTERNAL.contains(&name), "{name}: {reason}");
    }
    for (name, reason) in WITHOUT_RANK_0 {
        assert!(!covered[name].rank_0, "`{name}` has samples of rank 0 although {reason}");
    }
}
