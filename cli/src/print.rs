//! Results as JSON, and in short form for a terminal.

use std::borrow::Cow;

use graphc::ir::module::{Meta, Module};
use graphc::ir::text::visible;
use graphc::ir::wire::json::{ArrayWriter, Layout, array_document};
use graphc::{DType, Outputs, Tensor};

use crate::exit::Result;

/// Tensors of more elements are summarized on a terminal.
const LARGE: usize = 100;

/// Elements of one row that are made text at once.
const PIECE: usize = 4096;

/// One line of JSON, every output as nested arrays, in pieces: the text of large results is several times their size.
pub fn json(outputs: &Outputs, out: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    out("{")?;
    for (i, (name, tensor)) in outputs.iter().enumerate() {
        let separator = if i > 0 { ", " } else { "" };
        out(&format!("{separator}{}: ", inner(|a| a.string(name))))?;
        rows(tensor, tensor.shape(), &mut 0, out)?;
    }
    out("}\n")
}

/// As [`json`], in one piece.
fn json_line(outputs: &Outputs) -> String {
    let mut text = String::new();
    // Adding to a string cannot fail.
    let _ = json(outputs, &mut |part| {
        text += part;
        Ok(())
    });
    text
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
    let values = || (0..tensor.len()).map(|i| tensor.get(i).as_f64());
    let first: Vec<String> = values().take(4).map(|v| format!("{v:.6}")).collect();
    let finite = || values().filter(|v| v.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
    let odd = tensor.len() - finite().count();
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
            (0..t.len().min(ROWS + 1)).filter_map(|i| t.get(i).as_int().try_into().ok()).collect()
        }
        (_, Some(t)) if t.shape().last() == Some(&classes.len()) => {
            let shown = classes.len().saturating_mul(ROWS + 1).min(t.len());
            let values: Vec<f64> = (0..shown).map(|i| t.get(i).as_f64()).collect();
            let largest = |row: &[f64]| {
                (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or_default()
            };
            values.chunks(classes.len().max(1)).map(largest).collect()
        }
        _ => return None,
    };
    let mut names: Vec<Cow<'_, str>> =
        winners.iter().take(ROWS).filter_map(|w| classes.get(*w).map(|c| visible(c))).collect();
    if winners.len() > ROWS {
        names.push("...".into());
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// The elements from `at` on in the order of the shape; recurses as deep as the rank.
fn rows(t: &Tensor, shape: &[usize], at: &mut usize, out: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((size, rest)) = shape.split_first() else {
        *at += 1;
        return out(&inner(|a| element(a, t, *at - 1)));
    };
    out("[")?;
    if rest.is_empty() {
        for start in (0..*size).step_by(PIECE) {
            let piece = PIECE.min(size - start);
            let separator = if start > 0 { ", " } else { "" };
            out(separator)?;
            out(&inner(|a| (*at..*at + piece).for_each(|i| element(a, t, i))))?;
            *at += piece;
        }
    } else {
        for i in 0..*size {
            out(if i > 0 { ", " } else { "" })?;
            rows(t, rest, at, out)?;
        }
    }
    out("]")
}

fn element(a: &mut ArrayWriter<'_>, t: &Tensor, i: usize) {
    match (t.dtype(), t.get(i)) {
        (dtype, v) if dtype.is_float() => a.float(v.as_f64(), dtype),
        (DType::Bool, v) => a.bool(v.as_bool()),
        (DType::U64, v) => a.u64(v.as_int() as u64),
        (_, v) => a.i64(v.as_int() as i64),
    }
}

/// What stands between the brackets of an array.
fn inner(fill: impl FnOnce(&mut ArrayWriter<'_>)) -> String {
    let mut text = array_document(Layout::Inline, fill);
    text.truncate(text.trim_end().len() - 1);
    text.remove(0);
    text
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
    fn pieces_make_one_line() {
        for shape in [&[3 * PIECE + 1][..], &[2, PIECE], &[1, 2 * PIECE], &[2, 0, 3], &[3, 1, 1], &[]] {
            let tensor = Tensor::from_fn(DType::I32, shape, |i| Scalar::I(i as i128));
            let mut pieces = 0;
            let (mut text, mut longest) = (String::new(), 0);
            json(&outputs(vec![("y", tensor.clone())]), &mut |part| {
                (pieces, longest) = (pieces + 1, longest.max(part.len()));
                text += part;
                Ok(())
            })
            .unwrap();
            assert!(longest < 16 * PIECE, "{longest}");
            let root = graphc::ir::wire::json::parse(text.as_bytes(), &Default::default()).unwrap();
            let mut flat = Vec::new();
            let mut left = vec![root.get("y").unwrap()];
            while let Some(node) = left.pop() {
                match node.as_array() {
                    Some(items) => left.extend(items.iter().rev()),
                    None => flat.push(node.as_number().unwrap().as_i64().unwrap()),
                }
            }
            assert_eq!(flat, (0..tensor.len() as i64).collect::<Vec<_>>(), "{shape:?}");
            assert!(!text.contains(",,") && !text.contains("[,") && text.ends_with("}\n"), "{shape:?}");
        }
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
