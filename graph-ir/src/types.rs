//! Tensor types and what inference may assume and require of dims.

use std::fmt;

use crate::dim::{Bounds, Dim, Requires};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Element type and dims of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// From parts.
    pub fn new(dtype: DType, dims: impl Into<Vec<Dim>>) -> TensorType {
        TensorType { dtype, dims: dims.into() }
    }

    /// With constant dims.
    pub fn fixed(dtype: DType, shape: &[usize]) -> TensorType {
        TensorType { dtype, dims: shape.iter().map(|d| Dim::from(*d)).collect() }
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The sizes, if all dims are constants.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(|d| d.as_const().and_then(|v| usize::try_from(v).ok())).collect()
    }

    /// The sizes of a bound graph's value.
    ///
    /// # Panics
    /// If a dim is symbolic; the stage table forbids that after binding.
    pub fn static_shape(&self) -> Vec<usize> {
        self.shape().expect("dims are numbers after binding")
    }

    /// The same dims with another element type.
    pub fn with_dtype(&self, dtype: DType) -> TensorType {
        TensorType { dtype, dims: self.dims.clone() }
    }

    /// Parses `f32[B,784]`.
    pub fn parse(text: &str) -> Result<TensorType> {
        let (name, dims) = crate::dim::parse_type(text).map_err(|e| Error::new(e.to_string()))?;
        let Some(dtype) = DType::parse(name) else {
            let names: Vec<_> = DType::ALL.iter().map(|t| t.name()).collect();
            fail!("unknown element type `{name}` in `{text}`; the types are {}", names.join(", "));
        };
        let ty = TensorType { dtype, dims };
        ty.check_size()?;
        Ok(ty)
    }

    /// Checks that a tensor of this type can exist: its rank, no constant size below 0, no overflow of
    /// the bytes of its constant sizes.
    pub fn check_size(&self) -> Result<()> {
        if self.rank() > MAX_RANK {
            let message = format!("{self} has {} dims; at most {MAX_RANK} are supported", self.rank());
            return Err(Error::limit(message));
        }
        let mut bytes = Some(self.dtype.size() as i64);
        for v in self.dims.iter().filter_map(Dim::as_const) {
            if v < 0 {
                fail!("{self} has the negative dim {v}");
            }
            bytes = bytes.and_then(|b| b.checked_mul(v.max(1)));
        }
        if bytes.is_none_or(|b| b > isize::MAX as i64) {
            return Err(Error::limit(format!(
                "the size of {self} overflows; no tensor that large can exist"
            )));
        }
        Ok(())
    }
}

/// Largest rank of a tensor.
pub const MAX_RANK: usize = 16;

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.dims.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

/// What inference knows of symbols, and where it leaves what it could not prove.
#[derive(Clone, Debug, Default)]
pub struct Infer {
    /// Lower bounds of symbols.
    pub bounds: Bounds,
    /// Equalities and divisibilities to check when the dims are bound.
    pub requires: Requires,
}

impl Infer {
    /// Demands equality of two dims, now or at binding.
    pub fn eq(&mut self, a: &Dim, b: &Dim, why: &str) -> Result<()> {
        Ok(self.requires.require_eq(a, b, why, &self.bounds)?)
    }

    /// Demands that a dim is at least `least`, now or at binding.
    pub fn at_least(&mut self, d: &Dim, least: i64, why: &str) -> Result<()> {
        Ok(self.requires.require_at_least(d, least, why, &self.bounds)?)
    }

    /// Demands that an element type has a number for a count or a coordinate, now or at binding.
    pub fn fits(&mut self, count: &Dim, dtype: DType, what: &str) -> Result<()> {
        let Some(most) = dtype.largest_count() else { return Ok(()) };
        let why = format!("{what}, which must fit {dtype}");
        Ok(self.requires.require_at_most(count, most, &why, &self.bounds)?)
    }

    /// Demands equality of two lists of dims.
    pub fn same(&mut self, a: &[Dim], b: &[Dim], why: &str) -> Result<()> {
        if a.len() != b.len() {
            fail!("{why}: ranks {} and {} differ", a.len(), b.len());
        }
        a.iter().zip(b).try_for_each(|(x, y)| self.eq(x, y, why))
    }
}
