//! Results as JSON, and in short form for a terminal.

use graphc::ir::module::{Meta, Module};
use graphc::ir::wire::json::{ArrayWriter, Layout, ObjectWriter, object_document};
use graphc::{DType, Outputs, Tensor};

/// Tensors of more elements are summarized on a terminal.
const LARGE: usize = 100;

/// One line of JSON: every output as nested arrays.
pub fn json_line(outputs: &Outputs) -> String {
    object_document(Layout::Inline, |o| {
        for (name, tensor) in outputs {
            member(o, name, tensor);
        }
    })
}

/// A line for each output; large tensors in short.
pub fn for_a_terminal(outputs: &Outputs) -> String {
    if outputs.values().all(|t| t.len() <= LARGE) {
        return json_line(outputs);
    }
    let line = |(name, tensor): (&String, &Tensor)| {
        if tensor.len() <= LARGE {
            let one = Outputs::from([(name.clone(), tensor.clone())]);
            let text = json_line(&one);
            return text.trim().trim_start_matches('{').trim_end_matches('}').to_owned() + "\n";
        }
        format!("\"{name}\": {}\n", summary(tensor))
    };
    outputs.iter().map(line).collect()
}

/// Type, range and first elements.
pub fn summary(tensor: &Tensor) -> String {
    let sizes: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
    let values = tensor.to_f64();
    let first: Vec<String> = values.iter().take(4).map(|v| format!("{v:.6}")).collect();
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
    let odd = values.len() - finite().count();
    let odd = if odd > 0 { format!(", {odd} not finite") } else { String::new() };
    format!(
        "{}[{}] from {least:.6} to {most:.6}, mean {mean:.6}{odd}: {}, ...",
        tensor.dtype(),
        sizes.join(","),
        first.join(", ")
    )
}

/// Names of the classes that an output `class` or `probabilities` means, by `meta.classes`; at most ten rows.
pub fn class_names(module: &Module, outputs: &Outputs) -> Option<String> {
    const ROWS: usize = 10;
    let classes = module.meta.get("classes").and_then(Meta::texts)?;
    let winners: Vec<usize> = match (outputs.get("class"), outputs.get("probabilities")) {
        (Some(t), _) if t.dtype().is_int() => {
            (0..t.len()).filter_map(|i| t.get(i).as_int().try_into().ok()).collect()
        }
        (_, Some(t)) if t.shape().last() == Some(&classes.len()) => {
            let values = t.to_f64();
            let largest = |row: &[f64]| {
                (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or_default()
            };
            values.chunks(classes.len()).map(largest).collect()
        }
        _ => return None,
    };
    let mut names: Vec<&str> = winners.iter().take(ROWS).filter_map(|w| classes.get(*w).copied()).collect();
    if winners.len() > ROWS {
        names.push("...");
    }
    (!names.is_empty()).then(|| names.join(", "))
}

fn member(o: &mut ObjectWriter<'_>, name: &str, t: &Tensor) {
    if !t.shape().is_empty() {
        return o.array(name, Layout::Inline, |a| rows(a, t, t.shape(), &mut 0));
    }
    match (t.dtype(), t.get(0)) {
        (dtype, v) if dtype.is_float() => o.float(name, v.as_f64(), dtype),
        (DType::Bool, v) => o.bool(name, v.as_bool()),
        (DType::U64, v) => o.u64(name, v.as_int() as u64),
        (_, v) => o.i64(name, v.as_int() as i64),
    }
}

/// Recurses as deep as the rank.
fn rows(a: &mut ArrayWriter<'_>, t: &Tensor, shape: &[usize], at: &mut usize) {
    let Some((size, rest)) = shape.split_first() else { return };
    for _ in 0..*size {
        if !rest.is_empty() {
            a.array(Layout::Inline, |a| rows(a, t, rest, at));
            continue;
        }
        match (t.dtype(), t.get(*at)) {
            (dtype, v) if dtype.is_float() => a.float(v.as_f64(), dtype),
            (DType::Bool, v) => a.bool(v.as_bool()),
            (DType::U64, v) => a.u64(v.as_int() as u64),
            (_, v) => a.i64(v.as_int() as i64),
        }
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc::ir::Scalar;

    fn outputs(list: Vec<(&str, Tensor)>) -> Outputs {
        list.into_iter().map(|(n, t)| (n.to_owned(), t)).collect()
    }

    #[test]
    fn outputs_are_nested_arrays() {
        let all = outputs(vec![
            ("y", Tensor::from_slice(&[2, 2], &[1f32, f32::NAN, 0.1, f32::NEG_INFINITY])),
            ("n", Tensor::scalar(DType::I64, Scalar::I(-3))),
            ("ok", Tensor::from_bytes(DType::Bool, &[2], &[1, 0]).unwrap()),
            ("none", Tensor::zeros(DType::F32, &[0, 2])),
        ]);
        let expected = r#"{"y": [[1.0, "nan"], [0.1, "-inf"]], "n": -3, "ok": [true, false], "none": []}"#;
        assert_eq!(json_line(&all).trim(), expected);
    }

    #[test]
    fn large_outputs_are_summarized_for_a_terminal() {
        let all = outputs(vec![
            ("y", Tensor::zeros(DType::F32, &[200])),
            ("n", Tensor::scalar(DType::I32, Scalar::I(1))),
        ]);
        let text = for_a_terminal(&all);
        assert!(text.contains("f32[200] from 0.000000 to 0.000000") && text.contains("\"n\": 1"), "{text}");
    }

    #[test]
    fn the_first_largest_probability_wins() {
        let mut module = Module::default();
        let names = ["cat", "dog", "cow"].map(|t| Meta::Text(t.into())).to_vec();
        module.meta = Meta::Map([("classes".to_owned(), Meta::List(names))].into_iter().collect());
        let probabilities = Tensor::from_slice(&[2, 3], &[0.1f32, 0.8, 0.1, 0.4, 0.2, 0.4]);
        let all = outputs(vec![("probabilities", probabilities)]);
        assert_eq!(class_names(&module, &all).as_deref(), Some("dog, cat"));
        let all = outputs(vec![("class", Tensor::from_slice(&[2], &[2i64, 9]))]);
        assert_eq!(class_names(&module, &all).as_deref(), Some("cow"));
    }
}
