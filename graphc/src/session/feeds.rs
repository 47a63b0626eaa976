//! Checks of what is fed, and the sizes that it gives to dims.

use graphc_ir::dim::{Binding, InputShape, bind_shapes};
use graphc_ir::{Function, Tensor};

use crate::error::{Error, Result, suggest};

/// The tensor fed under a name.
pub(crate) fn find<'t>(feeds: &[(&str, &'t Tensor)], name: &str) -> Option<&'t Tensor> {
    feeds.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
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
        let (ty, Some(fed)) = (function.input_type(i), find(feeds, input)) else { continue };
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
    let mut problems = Vec::new();
    for (i, (fed, _)) in feeds.iter().enumerate() {
        if !function.inputs.iter().any(|n| n == fed) {
            let remedy = suggest(fed, known.clone());
            problems.push(format!("function `{name}` has no input `{fed}`; {remedy}"));
        } else if feeds[..i].iter().any(|(n, _)| n == fed) {
            problems.push(format!("input `{fed}` of function `{name}` is fed twice; feed it once"));
        }
    }
    for (i, input) in function.inputs.iter().enumerate() {
        if find(feeds, input).is_none() {
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
