//! State that a function may not fill with infinities and NaN before it is saved.

use graphc::{DType, Session, Tensor};

use crate::exit::Result;

/// The variables that are watched: floats that a function updates and whose values are finite before. A variable that
/// holds an infinity on purpose, as a mask does, is not among them, nor is one that has no value yet.
#[derive(Debug)]
pub struct Watch(Vec<String>);

impl Watch {
    /// Looks at the state as it is before the function runs.
    pub fn new(session: &Session, function: &str) -> Result<Watch> {
        let mut watched = Vec::new();
        for i in &session.function(function)?.updates {
            let name = &session.module().state[*i].name;
            if session.state(name)?.is_some_and(|value| first(value).is_none()) {
                watched.push(name.clone());
            }
        }
        Ok(Watch(watched))
    }

    /// A variable that is not finite any more.
    pub fn broken(&self, session: &Session) -> Result<Option<String>> {
        for name in &self.0 {
            let value = session.state(name)?;
            if let Some((i, found)) = value.and_then(|v| Some((first(v)?, v.get(first(v)?).as_f64()))) {
                return Ok(Some(format!("state `{name}` is {found} at element {i}")));
            }
        }
        Ok(None)
    }
}

/// The first element that is infinite or no number.
fn first(tensor: &Tensor) -> Option<usize> {
    // A float whose exponent is all ones.
    let halves = |exponent: u16| {
        let mut bits = tensor.bytes().chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
        bits.position(|bits| bits & exponent == exponent)
    };
    match tensor.dtype() {
        DType::F32 => tensor.as_slice::<f32>().iter().position(|v| !v.is_finite()),
        DType::F64 => tensor.as_slice::<f64>().iter().position(|v| !v.is_finite()),
        DType::F16 => halves(0x7c00),
        DType::Bf16 => halves(0x7f80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc::ir::Scalar;

    #[test]
    fn the_first_that_is_not_finite() {
        for dtype in [DType::F16, DType::Bf16, DType::F32, DType::F64] {
            let of = |values: [f64; 3]| Tensor::from_fn(dtype, &[3], |i| Scalar::F(values[i]));
            // The largest number of f16 is finite in all of them.
            assert_eq!(first(&of([65504.0, -65504.0, -0.0])), None, "{dtype}");
            for bad in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                assert_eq!(first(&of([1.0, bad, bad])), Some(1), "{dtype} {bad}");
            }
        }
        assert_eq!(first(&Tensor::from_slice(&[1], &[-1i32])), None);
    }
}
