//! Dense tensors in row-major order.

use std::hash::{Hash, Hasher};

use bytemuck::Pod;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::scalar::Scalar;

/// A dense row-major tensor of any element type.
///
/// The storage is a vector of 8-byte words, so that every element type is aligned.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    words: Vec<u64>,
}

/// A Rust type that is an element type.
pub trait Element: Pod {
    /// The element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $( impl Element for $t { const DTYPE: DType = DType::$d; } )* };
}
elements!(f64 => F64, f32 => F32, f16 => F16, bf16 => Bf16, i64 => I64, i32 => I32, i16 => I16,
          i8 => I8, u64 => U64, u32 => U32, u16 => U16, u8 => U8);

/// Number of elements of a shape; `None` on overflow.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= isize::MAX as usize / 8)
}

/// Row-major strides of a shape, in elements.
pub fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1) as isize;
    }
    strides
}

impl Tensor {
    /// All zeros (`false`).
    ///
    /// # Panics
    /// If the size overflows; sizes are checked where shapes enter.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Tensor {
        let n = element_count(shape).expect("shapes are checked before tensors are made");
        Tensor { dtype, shape: shape.to_vec(), words: vec![0; (n * dtype.size()).div_ceil(8)] }
    }

    /// As [`Tensor::zeros`]; `None` if the size overflows or the system refuses the memory.
    pub fn try_zeros(dtype: DType, shape: &[usize]) -> Option<Tensor> {
        let words = element_count(shape)?.checked_mul(dtype.size())?.div_ceil(8);
        let mut room: Vec<u64> = Vec::new();
        room.try_reserve_exact(words).ok()?;
        room.resize(words, 0);
        Some(Tensor { dtype, shape: shape.to_vec(), words: room })
    }

    /// From elements in row-major order.
    ///
    /// # Panics
    /// If the number of elements is not that of the shape.
    pub fn from_slice<T: Element>(shape: &[usize], data: &[T]) -> Tensor {
        let mut t = Tensor::zeros(T::DTYPE, shape);
        t.as_mut_slice::<T>().copy_from_slice(data);
        t
    }

    /// From the bytes of the elements in row-major order, little endian.
    ///
    /// Returns `None` if the length does not fit the shape or a boolean byte is neither 0 nor 1.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Tensor> {
        if element_count(shape)?.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        if dtype == DType::Bool && bytes.iter().any(|b| *b > 1) {
            return None;
        }
        let mut t = Tensor::zeros(dtype, shape);
        t.bytes_mut().copy_from_slice(bytes);
        Some(t)
    }

    /// A tensor whose every element is `value`.
    pub fn full(dtype: DType, shape: &[usize], value: Scalar) -> Tensor {
        Tensor::from_fn(dtype, shape, |_| value)
    }

    /// A rank-0 tensor.
    pub fn scalar(dtype: DType, value: Scalar) -> Tensor {
        Tensor::full(dtype, &[], value)
    }

    /// From a function of the row-major element index; values are rounded to the type.
    pub fn from_fn(dtype: DType, shape: &[usize], mut f: impl FnMut(usize) -> Scalar) -> Tensor {
        let mut t = Tensor::zeros(dtype, shape);
        for i in 0..t.len() {
            t.set(i, f(i));
        }
        t
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the elements.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len() * self.dtype.size()]
    }

    /// The bytes of the elements, writable; booleans must stay 0 or 1.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let n = self.len() * self.dtype.size();
        &mut bytemuck::cast_slice_mut(&mut self.words)[..n]
    }

    /// The elements.
    ///
    /// # Panics
    /// If `T` is not the element type (`u8` also views booleans).
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert!(self.dtype == T::DTYPE || (self.dtype == DType::Bool && T::DTYPE == DType::U8));
        bytemuck::cast_slice(self.bytes())
    }

    /// The elements, writable.
    ///
    /// # Panics
    /// If `T` is not the element type.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert!(self.dtype == T::DTYPE);
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// Element `i` in row-major order.
    pub fn get(&self, i: usize) -> Scalar {
        match self.dtype {
            DType::F64 => Scalar::F(self.as_slice::<f64>()[i]),
            DType::F32 => Scalar::F(f64::from(self.as_slice::<f32>()[i])),
            DType::F16 => Scalar::F(self.as_slice::<f16>()[i].to_f64()),
            DType::Bf16 => Scalar::F(self.as_slice::<bf16>()[i].to_f64()),
            DType::I64 => Scalar::I(self.as_slice::<i64>()[i].into()),
            DType::I32 => Scalar::I(self.as_slice::<i32>()[i].into()),
            DType::I16 => Scalar::I(self.as_slice::<i16>()[i].into()),
            DType::I8 => Scalar::I(self.as_slice::<i8>()[i].into()),
            DType::U64 => Scalar::I(self.as_slice::<u64>()[i].into()),
            DType::U32 => Scalar::I(self.as_slice::<u32>()[i].into()),
            DType::U16 => Scalar::I(self.as_slice::<u16>()[i].into()),
            DType::U8 => Scalar::I(self.as_slice::<u8>()[i].into()),
            DType::Bool => Scalar::B(self.bytes()[i] != 0),
        }
    }

    /// Sets element `i`, converting with the rules of `cast`.
    pub fn set(&mut self, i: usize, value: Scalar) {
        let v = value.cast(self.dtype);
        match self.dtype {
            DType::F64 => self.as_mut_slice::<f64>()[i] = v.as_f64(),
            DType::F32 => self.as_mut_slice::<f32>()[i] = v.as_f64() as f32,
            DType::F16 => self.as_mut_slice::<f16>()[i] = f16::from_f64(v.as_f64()),
            DType::Bf16 => self.as_mut_slice::<bf16>()[i] = bf16::from_f64(v.as_f64()),
            DType::I64 => self.as_mut_slice::<i64>()[i] = v.as_int() as i64,
            DType::I32 => self.as_mut_slice::<i32>()[i] = v.as_int() as i32,
            DType::I16 => self.as_mut_slice::<i16>()[i] = v.as_int() as i16,
            DType::I8 => self.as_mut_slice::<i8>()[i] = v.as_int() as i8,
            DType::U64 => self.as_mut_slice::<u64>()[i] = v.as_int() as u64,
            DType::U32 => self.as_mut_slice::<u32>()[i] = v.as_int() as u32,
            DType::U16 => self.as_mut_slice::<u16>()[i] = v.as_int() as u16,
            DType::U8 => self.as_mut_slice::<u8>()[i] = v.as_int() as u8,
            DType::Bool => self.bytes_mut()[i] = u8::from(v.as_bool()),
        }
    }

    /// The elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::F64 => self.as_slice().to_vec(),
            DType::F32 => self.as_slice::<f32>().iter().copied().map(f64::from).collect(),
            _ => (0..self.len()).map(|i| self.get(i).as_f64()).collect(),
        }
    }

    /// The same elements converted to another type.
    pub fn cast(&self, to: DType) -> Tensor {
        Tensor::from_fn(to, &self.shape, |i| self.get(i).cast(to))
    }

    /// The same elements in another shape of as many elements.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshaped(mut self, shape: &[usize]) -> Tensor {
        assert_eq!(Some(self.len()), element_count(shape));
        self.shape = shape.to_vec();
        self
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl Eq for Tensor {}

impl Hash for Tensor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dtype.hash(state);
        self.shape.hash(state);
        self.bytes().hash(state);
    }
}
