//! JSON as a tensor of a given element type; the nesting of arrays is the shape.

use graphc::ir::Scalar;
use graphc::ir::tensor::element_count;
use graphc::ir::types::MAX_RANK;
use graphc::ir::wire::json::{Node, Value};
use graphc::{DType, Tensor};

/// Reads a literal.
pub fn tensor(node: &Node, dtype: DType) -> Result<Tensor, String> {
    let mut shape = Vec::new();
    let mut first = node;
    while let Value::Array(items) = &first.value {
        shape.push(items.len());
        if shape.len() > MAX_RANK {
            return Err(format!("arrays are nested more than {MAX_RANK} deep"));
        }
        match items.first() {
            Some(item) => first = item,
            None => break,
        }
    }
    let mut elements = Vec::new();
    collect(node, &shape, &mut elements)?;
    // Counted by what was written, so that nothing large is made of a short text.
    if element_count(&shape) != Some(elements.len()) {
        return Err(format!(
            "the nesting of arrays is not regular: its first parts make the shape {shape:?}"
        ));
    }
    let scalars = elements.into_iter().map(|e| scalar(e, dtype)).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::from_fn(dtype, &shape, |i| scalars[i]))
}

fn collect<'a>(node: &'a Node, shape: &[usize], out: &mut Vec<&'a Node>) -> Result<(), String> {
    match (&node.value, shape.split_first()) {
        (Value::Array(items), Some((size, rest))) if items.len() == *size => {
            items.iter().try_for_each(|item| collect(item, rest, out))
        }
        (Value::Array(items), Some((size, _))) => {
            Err(format!("an array of {} elements stands beside arrays of {size}", items.len()))
        }
        (Value::Array(_), None) => Err("an array stands beside numbers".into()),
        (_, Some(_)) => Err("a number stands beside arrays".into()),
        (_, None) => {
            out.push(node);
            Ok(())
        }
    }
}

fn scalar(node: &Node, dtype: DType) -> Result<Scalar, String> {
    let refused = || format!("{} where {dtype} is expected", node.value.kind());
    if dtype == DType::Bool {
        return node.as_bool().map(Scalar::B).ok_or_else(refused);
    }
    if dtype.is_float() {
        let read = node.as_float(dtype).ok_or_else(refused)?;
        return read.map(Scalar::F).map_err(|e| e.to_string());
    }
    let number = node.as_number().ok_or_else(refused)?;
    let value = match dtype {
        DType::U64 => number.as_u64().map(i128::from),
        _ => number.as_i64().map(i128::from),
    };
    let (value, (low, high)) = (value.map_err(|e| e.to_string())?, dtype.int_range());
    if (low..=high).contains(&value) {
        Ok(Scalar::I(value))
    } else {
        Err(format!("{value} does not fit {dtype}, which holds {low} to {high}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc::ir::wire::json::{Limits, parse};

    fn read(text: &str, dtype: DType) -> Result<Tensor, String> {
        tensor(&parse(text.as_bytes(), &Limits::default()).unwrap(), dtype)
    }

    #[test]
    fn nesting_is_the_shape() {
        for (text, shape) in [
            ("0.1", &[][..]),
            ("[1, 2]", &[2]),
            ("[[1,2],[3,4]]", &[2, 2]),
            ("[[[]], [[]]]", &[2, 1, 0]),
            ("[]", &[0]),
        ] {
            assert_eq!(read(text, DType::F32).unwrap().shape(), shape, "{text}");
        }
        assert_eq!(read("[[1,2],[3,4]]", DType::F64).unwrap().to_f64(), [1.0, 2.0, 3.0, 4.0]);
        assert!(read("\"nan\"", DType::F32).unwrap().to_f64()[0].is_nan());
    }

    #[test]
    fn what_is_not_regular_or_not_of_the_type_is_refused() {
        for (text, dtype, part) in [
            ("[[1,2],[3]]", DType::F32, "beside arrays of 2"),
            ("[1,[2]]", DType::F32, "an array stands beside numbers"),
            ("[[1],2]", DType::F32, "a number stands beside arrays"),
            ("300", DType::U8, "does not fit u8"),
            ("1.5", DType::I32, "not an integer"),
            ("1", DType::Bool, "a number where bool is expected"),
            ("true", DType::F32, "a boolean where f32 is expected"),
            ("1e39", DType::F32, "does not fit f32"),
            ("70000", DType::F16, "does not fit f16"),
        ] {
            let error = read(text, dtype).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep = format!("{}1{}", "[".repeat(20), "]".repeat(20));
        assert!(read(&deep, DType::F32).unwrap_err().contains("nested"));
    }
}
