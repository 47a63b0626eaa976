//! Constants.

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::scalar::Scalar;

use crate::words::no_f64;

/// A constant of an element type; booleans are `bool`.
///
/// # Errors
/// When it does not fit 32 bits.
pub fn literal(value: Scalar, dtype: DType) -> Result<String> {
    let too_large = |v: i128| {
        Error::new(format!("the {dtype} constant {v} does not fit the 32 bits that integers have on a GPU"))
    };
    Ok(match dtype {
        DType::F64 => return Err(no_f64()),
        DType::F32 | DType::F16 | DType::Bf16 => float(value.as_f64() as f32),
        DType::Bool => value.as_bool().to_string(),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => {
            match i32::try_from(value.as_int()).map_err(|_| too_large(value.as_int()))? {
                // No constant expression may be larger than the largest number before it is negated.
                i32::MIN => "(-2147483647 - 1)".into(),
                v if v < 0 => format!("({v})"),
                v => v.to_string(),
            }
        }
        _ => format!("{}u", u32::try_from(value.as_int()).map_err(|_| too_large(value.as_int()))?),
    })
}

/// Numbers that no constant expression may have are made of their bits at run time, and zeros too, whose products and quotients
/// drivers take for zeros whatever the other factor is.
fn float(v: f32) -> String {
    if v.is_normal() { format!("{v:?}f") } else { format!("gc_bits(0x{:08x}u)", v.to_bits()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_exact_or_bits() {
        let f = |v: f64| literal(Scalar::F(v), DType::F32).unwrap();
        assert_eq!(f(0.1), "0.1f");
        assert_eq!(f(-1e-10), "-1e-10f");
        assert_eq!(f(f64::INFINITY), "gc_bits(0x7f800000u)");
        assert_eq!(f(-0.0), "gc_bits(0x80000000u)");
        assert_eq!(f(0.0), "gc_bits(0x00000000u)");
        assert_eq!(f(1e-40), "gc_bits(0x000116c2u)");
        assert_eq!(literal(Scalar::I(-7), DType::I64).unwrap(), "(-7)");
        assert!(literal(Scalar::I(1 << 31), DType::I64).is_err());
        assert_eq!(literal(Scalar::B(true), DType::Bool).unwrap(), "true");
    }
}
