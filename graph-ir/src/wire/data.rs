//! Elements of tensors as JSON.

use super::json::{ArrayWriter, Node as Json, NumberError, Value};
use crate::dtype::DType;
use crate::scalar::Scalar;
use crate::tensor::{Tensor, element_count};

/// A problem, the byte it is at and the remedy.
pub(super) type Problem = (usize, String, Option<String>);

/// Reads the elements of a tensor, nested as its shape or flat in row-major order, and takes their
/// number from what is `left` of the file's allowance.
pub(super) fn read(node: &Json, dtype: DType, shape: &[usize], left: &mut usize) -> Result<Tensor, Problem> {
    let at = node.span.start;
    let count = element_count(shape).ok_or_else(|| (at, format!("the shape {shape:?} overflows"), None))?;
    // Counted before anything is allocated.
    let mut elements = Vec::new();
    collect(node, shape, count, &mut elements)?;
    if count > *left {
        let help = Some("keep large tensors in a weights file".into());
        return Err((at, format!("{count} more elements in the module, where {left} are allowed"), help));
    }
    *left -= count;
    let mut tensor = Tensor::zeros(dtype, shape);
    for (i, e) in elements.into_iter().enumerate() {
        let value = element(e, dtype).map_err(|m| (e.span.start, m, None))?;
        tensor.set(i, value);
    }
    Ok(tensor)
}

/// Lists the elements in row-major order; recurses as deep as the rank.
fn collect<'a>(
    node: &'a Json,
    shape: &[usize],
    count: usize,
    out: &mut Vec<&'a Json>,
) -> Result<(), Problem> {
    let at = node.span.start;
    let Some(items) = node.as_array() else {
        return match shape {
            [] => {
                out.push(node);
                Ok(())
            }
            _ => Err((at, format!("the elements of a tensor are an array, not {}", node.value.kind()), None)),
        };
    };
    let nested = items.first().is_some_and(|i| matches!(i.value, Value::Array(_)));
    if !nested {
        if items.len() != count {
            return Err((
                at,
                format!("{} elements where the shape {shape:?} has {count}", items.len()),
                None,
            ));
        }
        out.extend(items);
        return Ok(());
    }
    let Some((first, rest)) = shape.split_first() else {
        return Err((at, "elements nested deeper than the shape has axes".into(), None));
    };
    if items.len() != *first {
        return Err((at, format!("{} rows where the shape has {first}", items.len()), None));
    }
    for item in items {
        if rest.is_empty() || !matches!(item.value, Value::Array(_)) {
            let help =
                Some("nest the elements as the shape says, or list them flat in row-major order".into());
            return Err((item.span.start, "elements that are not nested as the shape says".into(), help));
        }
        collect(item, rest, count / first.max(&1), out)?;
    }
    Ok(())
}

/// One element of a type, or what is wrong with it.
pub(super) fn element(node: &Json, dtype: DType) -> Result<Scalar, String> {
    let typed = |e: NumberError| format!("{e}, as the type {dtype} needs");
    if dtype == DType::Bool {
        let value = node.as_bool();
        return value
            .map(Scalar::B)
            .ok_or_else(|| format!("{} where bool takes true or false", node.value.kind()));
    }
    if dtype.is_float() {
        let wrong =
            || format!("{} where {dtype} takes a number, \"nan\", \"inf\" or \"-inf\"", node.value.kind());
        return Ok(Scalar::F(node.as_float(dtype).ok_or_else(wrong)?.map_err(typed)?));
    }
    let number =
        node.as_number().ok_or_else(|| format!("{} where {dtype} takes an integer", node.value.kind()))?;
    let value = match dtype {
        DType::U64 => i128::from(number.as_u64().map_err(typed)?),
        _ => i128::from(number.as_i64().map_err(typed)?),
    };
    let (low, high) = dtype.int_range();
    if value < low || value > high {
        return Err(format!("{value} does not fit {dtype}; it holds {low} to {high}"));
    }
    Ok(Scalar::I(value))
}

/// Writes the elements, flat in row-major order. Every NaN is written as `"nan"`.
pub(super) fn write(w: &mut ArrayWriter<'_>, tensor: &Tensor) {
    for i in 0..tensor.len() {
        match (tensor.dtype(), tensor.get(i)) {
            (dtype, v) if dtype.is_float() => w.float(v.as_f64(), dtype),
            (DType::Bool, v) => w.bool(v.as_bool()),
            (DType::U64, v) => w.u64(v.as_int() as u64),
            (_, v) => w.i64(v.as_int() as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{Layout, Limits, array_document, parse};
    use super::*;

    fn read_text(text: &str, dtype: DType, shape: &[usize]) -> Result<Tensor, String> {
        let node = parse(text.as_bytes(), &Limits::default()).expect("the test's JSON is valid");
        read(&node, dtype, shape, &mut 100).map_err(|(at, message, _)| format!("{at}: {message}"))
    }

    #[test]
    fn nested_and_flat() {
        let flat = read_text("[1, 2, 3, 4, 5, 6]", DType::F32, &[2, 3]);
        assert!(flat.is_ok());
        assert_eq!(flat, read_text("[[1, 2, 3], [4, 5, 6]]", DType::F32, &[2, 3]));
        assert_eq!(read_text("7", DType::I8, &[]), read_text("[7]", DType::I8, &[]));
        assert!(read_text("[]", DType::I8, &[0, 3]).is_ok());
        for (text, shape) in [
            ("[1, 2]", &[3][..]),
            ("[[1, 2], 3]", &[2, 2]),
            ("[[1, 2], [3]]", &[2, 2]),
            ("[[1], [2]]", &[2]),
            ("[[[1]], [[2]]]", &[2, 1]),
            ("1", &[1]),
            ("[[1]]", &[]),
        ] {
            assert!(read_text(text, DType::F32, shape).is_err(), "{text}");
        }
        let huge = read_text("[1]", DType::F32, &[1 << 40, 1 << 40]);
        assert!(huge.is_err_and(|m| m.contains("overflows")));
        assert!(read_text("[1]", DType::F32, &[1 << 40]).is_err());
    }

    #[test]
    fn elements_are_typed() {
        for (text, dtype, what) in [
            ("1e400", DType::F64, "does not fit f64"),
            ("1e39", DType::F32, "does not fit f32"),
            ("70000", DType::F16, "does not fit f16"),
            ("1.0", DType::I32, "not an integer"),
            ("9223372036854775808", DType::I64, "does not fit i64"),
            ("18446744073709551616", DType::U64, "does not fit u64"),
            ("-1", DType::U8, "does not fit u8"),
            ("128", DType::I8, "does not fit i8"),
            ("\"3\"", DType::I32, "takes an integer"),
            ("1", DType::Bool, "true or false"),
            ("null", DType::F32, "takes a number"),
        ] {
            let error = read_text(text, dtype, &[]).expect_err(text);
            assert!(error.contains(what), "{text}: {error}");
        }
        let zero = read_text("-0", DType::F32, &[]).expect("-0 is a number");
        assert!(zero.as_slice::<f32>()[0].is_sign_negative());
    }

    #[test]
    fn every_value_survives() {
        let mut all = vec![f64::NAN, f64::INFINITY, -f64::INFINITY, -0.0, 5e-324, f64::MAX, 0.1];
        all.extend(
            (0..200)
                .map(|i| f64::from_bits(0x1234_5678_9abc_def1u64.wrapping_mul(i)))
                .filter(|v| !v.is_nan()),
        );
        let shape = [all.len()];
        for dtype in DType::ALL {
            let tensor = Tensor::from_fn(dtype, &shape, |i| Scalar::F(all[i]));
            let text = array_document(Layout::Inline, |w| write(w, &tensor));
            let node = parse(text.as_bytes(), &Limits::default()).expect("written JSON is valid");
            let again = read(&node, dtype, &shape, &mut 1000).expect("written elements are valid");
            for i in 0..all.len() {
                let (a, b) = (tensor.get(i), again.get(i));
                assert!(a == b || a.as_f64().is_nan() && b.as_f64().is_nan(), "{dtype} {a:?} {b:?}");
            }
        }
    }
}
