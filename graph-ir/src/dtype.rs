//! Element types.

use std::fmt;

/// The type of a tensor's elements.
///
/// `F16` and `Bf16` are storage types: what moves elements, products and convolutions take them as they are, all
/// other operations compute on the f32 that they equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    /// Every element type, in the order of the documentation.
    pub const ALL: [DType; 13] = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::Bf16,
        DType::I64,
        DType::I32,
        DType::I16,
        DType::I8,
        DType::U64,
        DType::U32,
        DType::U16,
        DType::U8,
        DType::Bool,
    ];

    /// The name used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::I16 => "i16",
            DType::I8 => "i8",
            DType::U64 => "u64",
            DType::U32 => "u32",
            DType::U16 => "u16",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }

    /// The type with this name.
    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// f64, f32, f16 or bf16.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::Bf16)
    }

    /// f64 or f32: the types that arithmetic is done in.
    pub fn is_compute_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32)
    }

    /// f16 or bf16.
    pub fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::Bf16)
    }

    /// The largest count or coordinate that the type has a number for, finite and, of integers, exact; `None` where no
    /// size is larger.
    pub fn largest_count(self) -> Option<i64> {
        match self {
            // The largest integer that is not rounded to infinity.
            DType::F16 => Some(65519),
            DType::Bool => Some(1),
            t if t.is_int() => i64::try_from(t.int_range().1).ok(),
            _ => None,
        }
    }

    /// A signed or unsigned integer.
    pub fn is_int(self) -> bool {
        !self.is_float() && self != DType::Bool
    }

    /// A signed integer.
    pub fn is_signed_int(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::I16 | DType::I8)
    }

    /// Bits of an integer type.
    pub fn bits(self) -> u32 {
        self.size() as u32 * 8
    }

    /// The largest finite number of a float type, else of an integer type as near as f64 has it.
    pub fn largest(self) -> f64 {
        match self {
            DType::F64 => f64::MAX,
            DType::F32 => f64::from(f32::MAX),
            DType::F16 => 65_504.0,
            DType::Bf16 => f64::from(f32::from_bits(0x7f7f_0000)),
            integer => integer.int_range().1 as f64,
        }
    }

    /// Smallest and largest value of an integer type.
    pub fn int_range(self) -> (i128, i128) {
        let bits = self.bits();
        if self.is_signed_int() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
