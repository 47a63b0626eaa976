//! Checks of what is fed, and the sizes that it gives to dims.

use std::collections::HashSet;

use graphc_ir::dim::{Binding, InputShape, bind_shapes};
use graphc_ir::{Function, Tensor};

use crate::error::{Error, Result, suggest};

/// The tensor fed under the name of the function's input `i`. It is looked for from there on: feeds mostly come in the
/// order of the inputs, and looking for each from the start would take time that grows with the square of their number.
pub(crate) fn find<'t>(feeds: &[(&str, &'t Tensor)], i: usize, name: &str) -> Option<&'t Tensor> {
    let (before, from) = feeds.split_at(i.min(feeds.len()));
    from.iter().chain(before).find(|(n, _)| *n == name).map(|(_, t)| *t)
}

/// Checks names, element types and shapes, and binds the function's dims on top of those that are known.
pub(crate) fn bind(
    name: &str,
    function: &Function,
    feeds: &[(&str, &Tensor)],
    known: &Binding,
) -> Result<Binding> {
    names(name, function, feeds)?;
    let mut problems = Vec::new();
    let mut shapes = Vec::with_capacity(feeds.len());
    for (i, input) in function.inputs.iter().enumerate() {
        let (ty, Some(fed)) = (function.input_type(i), find(feeds, i, input)) else { continue };
        if fed.dtype() != ty.dtype {
            problems.push(format!(
                "input `{input}` of function `{name}` is {ty}, but was fed {}; convert it to {}",
                described(fed),
                ty.dtype
            ));
        }
        shapes.push(InputShape { name: input, dims: &ty.dims, sizes: fed.shape() });
    }
    let mut binding = known.clone();
    if let Err(e) = bind_shapes(&shapes, &mut binding) {
        let expected: Vec<String> = function
            .inputs
            .iter()
            .enumerate()
            .map(|(i, n)| format!("`{n}` {}", function.input_type(i)))
            .collect();
        problems.push(format!("function `{name}`: {e}; it takes {}", expected.join(", ")));
    }
    if problems.is_empty() { Ok(binding) } else { Err(Error::Data(problems.join("\n"))) }
}

fn names(name: &str, function: &Function, feeds: &[(&str, &Tensor)]) -> Result<()> {
    let known = function.inputs.iter().map(String::as_str);
    let inputs: HashSet<&str> = known.clone().collect();
    let mut seen = HashSet::with_capacity(feeds.len());
    let mut problems = Vec::new();
    for (fed, _) in feeds {
        if !inputs.contains(fed) {
            let remedy = suggest(fed, known.clone());
            problems.push(format!("function `{name}` has no input `{fed}`; {remedy}"));
        } else if !seen.insert(*fed) {
            problems.push(format!("input `{fed}` of function `{name}` is fed twice; feed it once"));
        }
    }
    for (i, input) in function.inputs.iter().enumerate() {
        if !seen.contains(input.as_str()) {
            let ty = function.input_type(i);
            problems.push(format!("input `{input}` of function `{name}` is not fed; feed it a {ty}"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Usage(problems.join("\n"))) }
}

/// Type and shape of a tensor, as types are written.
pub(crate) fn described(t: &Tensor) -> String {
    let sizes: Vec<String> = t.shape().iter().map(ToString::to_string).collect();
    format!("{}[{}]", t.dtype(), sizes.join(","))
}
