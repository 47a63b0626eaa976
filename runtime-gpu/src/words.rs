//! How elements lie on a device: every element is one word of 32 bits.
//!
//! WGSL's storage has no narrower types and no portable wider ones. Narrow integers and booleans are widened, floats
//! of 16 bits are kept as the `f32` that they are equal to, and integers of 64 bits have to fit 32.

use bytemuck::{Pod, pod_collect_to_vec};
use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use half::{bf16, f16};

/// The type of a word in WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    /// `f32`.
    F32,
    /// `i32`.
    I32,
    /// `u32`.
    U32,
}

impl Word {
    /// The word that holds an element; `None` for `f64`, which WGSL does not have.
    pub fn of(dtype: DType) -> Option<Word> {
        match dtype {
            DType::F64 => None,
            DType::F32 | DType::F16 | DType::Bf16 => Some(Word::F32),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => Some(Word::I32),
            DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => Some(Word::U32),
        }
    }

    /// Its name in WGSL.
    pub fn name(self) -> &'static str {
        match self {
            Word::F32 => "f32",
            Word::I32 => "i32",
            Word::U32 => "u32",
        }
    }
}

/// Elements as words.
///
/// # Errors
/// When an integer does not fit 32 bits, or the type has no word.
pub fn to_words(dtype: DType, bytes: &[u8]) -> Result<Vec<u32>> {
    fn each<T: Pod>(bytes: &[u8], word: impl Fn(T) -> u32) -> Vec<u32> {
        pod_collect_to_vec::<u8, T>(bytes).into_iter().map(word).collect()
    }
    fn fitting<T: Pod + std::fmt::Display>(
        dtype: DType,
        bytes: &[u8],
        word: impl Fn(T) -> Option<u32>,
    ) -> Result<Vec<u32>> {
        let elements = pod_collect_to_vec::<u8, T>(bytes);
        let words = elements.iter().map(|x| {
            word(*x).ok_or_else(|| {
                Error::new(format!("the {dtype} {x} does not fit the 32 bits that integers have on a GPU"))
            })
        });
        words.collect()
    }
    Ok(match dtype {
        DType::F64 => return Err(no_f64()),
        DType::F32 | DType::I32 | DType::U32 => pod_collect_to_vec(bytes),
        DType::F16 => each(bytes, |x: f16| x.to_f32().to_bits()),
        DType::Bf16 => each(bytes, |x: bf16| x.to_f32().to_bits()),
        DType::I64 => fitting(dtype, bytes, |x: i64| i32::try_from(x).ok().map(|x| x as u32))?,
        DType::U64 => fitting(dtype, bytes, |x: u64| u32::try_from(x).ok())?,
        DType::I16 => each(bytes, |x: i16| i32::from(x) as u32),
        DType::I8 => each(bytes, |x: i8| i32::from(x) as u32),
        DType::U16 => each(bytes, |x: u16| x.into()),
        DType::U8 | DType::Bool => each(bytes, |x: u8| x.into()),
    })
}

/// Writes words as elements, whose bytes are as long as they need.
///
/// # Errors
/// When the type has no word.
pub fn from_words(dtype: DType, words: &[u32], bytes: &mut [u8]) -> Result<()> {
    fn each<T: Pod>(words: &[u32], bytes: &mut [u8], element: impl Fn(u32) -> T) {
        for (to, word) in bytes.chunks_exact_mut(size_of::<T>()).zip(words) {
            to.copy_from_slice(bytemuck::bytes_of(&element(*word)));
        }
    }
    match dtype {
        DType::F64 => return Err(no_f64()),
        DType::F32 | DType::I32 | DType::U32 => each(words, bytes, |w| w),
        DType::F16 => each(words, bytes, |w| f16::from_f32(f32::from_bits(w))),
        DType::Bf16 => each(words, bytes, |w| bf16::from_f32(f32::from_bits(w))),
        DType::I64 => each(words, bytes, |w| i64::from(w as i32)),
        DType::U64 => each(words, bytes, u64::from),
        DType::I16 => each(words, bytes, |w| w as i16),
        DType::I8 => each(words, bytes, |w| w as i8),
        DType::U16 => each(words, bytes, |w| w as u16),
        DType::U8 => each(words, bytes, |w| w as u8),
        DType::Bool => each(words, bytes, |w| u8::from(w != 0)),
    }
    Ok(())
}

/// That a GPU has no f64, and what to do.
pub fn no_f64() -> Error {
    Error::new("a GPU has no f64").help("cast to f32, or run on the cpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_elements() {
        for dtype in DType::ALL.into_iter().filter(|d| *d != DType::F64) {
            let tensor = graphc_ir::Tensor::from_fn(dtype, &[5], |i| {
                graphc_ir::Scalar::F([0.0, 1.0, 3.0, 7.0, 1.0][i]).cast(dtype)
            });
            let words = to_words(dtype, tensor.bytes()).unwrap();
            assert_eq!(words.len(), 5, "{dtype}");
            let mut bytes = vec![0xAA; tensor.bytes().len()];
            from_words(dtype, &words, &mut bytes).unwrap();
            assert_eq!(bytes, tensor.bytes(), "{dtype}");
        }
    }

    #[test]
    fn integers_beyond_32_bits_are_errors() {
        let large = (1i64 << 31).to_ne_bytes();
        let error = to_words(DType::I64, &large).unwrap_err().to_string();
        assert!(error.contains("2147483648 does not fit the 32 bits"), "{error}");
        assert_eq!(to_words(DType::I64, &(-1i64 << 31).to_ne_bytes()).unwrap(), [1 << 31]);
        assert!(to_words(DType::U64, &(1u64 << 32).to_ne_bytes()).is_err());
    }
}
