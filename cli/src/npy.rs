//! NumPy's `.npy` files, versions 1 to 3 (the format is NEP 1 and `numpy.lib.format`).
//!
//! Reading never runs a pickle, and takes no memory before the header's claims agree with the length of the file.
//! Whatever byte order and memory order the file has, an [`Array`] is little-endian and row-major.

mod header;
#[cfg(test)]
mod tests;

use header::Header;
use std::fmt;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The types of elements that are read and written: integers, IEEE floats and booleans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NpyType {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer.
    U64,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

impl NpyType {
    /// Every type, with NumPy's letter for its kind and its size in bytes.
    const TABLE: [(NpyType, char, usize); 12] = [
        (NpyType::Bool, 'b', 1),
        (NpyType::I8, 'i', 1),
        (NpyType::I16, 'i', 2),
        (NpyType::I32, 'i', 4),
        (NpyType::I64, 'i', 8),
        (NpyType::U8, 'u', 1),
        (NpyType::U16, 'u', 2),
        (NpyType::U32, 'u', 4),
        (NpyType::U64, 'u', 8),
        (NpyType::F16, 'f', 2),
        (NpyType::F32, 'f', 4),
        (NpyType::F64, 'f', 8),
    ];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        self.row().2
    }

    /// NumPy's description of the type in little-endian order, such as `<f4` or `|b1`.
    pub fn descr(self) -> String {
        let (_, kind, size) = self.row();
        let order = if size == 1 { '|' } else { '<' };
        format!("{order}{kind}{size}")
    }

    fn row(self) -> (NpyType, char, usize) {
        // The table holds the variants in their order.
        NpyType::TABLE[self as usize]
    }
}

/// An array in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// The type of the elements.
    pub dtype: NpyType,
    /// The lengths of the axes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, little-endian, in row-major ("C") order. Booleans are 0 or 1.
    pub bytes: Vec<u8>,
}

/// The class of an [`NpyError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NpyErrorKind {
    /// The file does not begin as an `.npy` file does.
    NotNpy,
    /// A version of the format other than 1.0, 2.0 and 3.0.
    Version,
    /// The header is cut off or not the dictionary that it must be.
    Header,
    /// Elements that are not plain numbers or booleans.
    Type,
    /// A shape that no memory can hold.
    Shape,
    /// More or fewer bytes of elements than the header claims.
    Length,
    /// A boolean other than 0 and 1.
    Value,
}

/// A refused file: what is wrong, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NpyError {
    /// The class of the error.
    pub kind: NpyErrorKind,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Byte offset in the file; at most its length.
    pub offset: usize,
    /// How to mend it, in one sentence without a full stop.
    pub remedy: &'static str,
}

impl NpyError {
    fn new(kind: NpyErrorKind, offset: usize, message: impl Into<String>, remedy: &'static str) -> NpyError {
        NpyError { kind, message: message.into(), offset, remedy }
    }
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}; {}", self.offset, self.message, self.remedy)
    }
}

impl std::error::Error for NpyError {}

impl Array {
    /// An array of these elements, little-endian and row-major.
    ///
    /// # Errors
    /// [`NpyErrorKind::Shape`] where the size overflows, [`NpyErrorKind::Length`] where `bytes` is not of that size,
    /// [`NpyErrorKind::Value`] for booleans other than 0 and 1. Offsets count from the first element.
    #[cfg(test)]
    pub fn new(dtype: NpyType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Array, NpyError> {
        let claimed = byte_count(dtype, &shape, 0)?;
        check_length(claimed, bytes.len(), 0)?;
        check_booleans(dtype, &bytes, 0)?;
        Ok(Array { dtype, shape, bytes })
    }
}

/// Reads a whole `.npy` file. Column-major ("Fortran") elements are transposed to row-major, big-endian ones swapped.
///
/// # Errors
/// See [`NpyErrorKind`]. The memory taken is a small multiple of the length of `bytes`, whatever the header claims.
pub fn read_npy(bytes: &[u8]) -> Result<Array, NpyError> {
    let header = check(bytes)?;
    let elements = bytes[header.data_offset..].to_vec();
    array(header, elements)
}

/// As [`read_npy`], but reuses the memory of the file.
pub(crate) fn read_npy_owned(mut bytes: Vec<u8>) -> Result<Array, NpyError> {
    let header = check(&bytes)?;
    bytes.drain(..header.data_offset);
    array(header, bytes)
}

/// The header, with every claim in it checked against the file.
fn check(bytes: &[u8]) -> Result<Header, NpyError> {
    let header = header::read(bytes)?;
    let claimed = byte_count(header.dtype, &header.shape, header.data_offset)?;
    check_length(claimed, bytes.len() - header.data_offset, header.data_offset)?;
    check_booleans(header.dtype, &bytes[header.data_offset..], header.data_offset)?;
    Ok(header)
}

fn array(header: Header, mut elements: Vec<u8>) -> Result<Array, NpyError> {
    let Header { dtype, shape, big_endian, fortran_order, .. } = header;
    if big_endian {
        elements.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
    if fortran_order && shape.len() > 1 && !elements.is_empty() {
        elements = row_major(&elements, &shape, dtype.size());
    }
    Ok(Array { dtype, shape, bytes: elements })
}

/// The bytes that the elements take, which must fit memory. So must the other axes where one is 0: whoever computes
/// strides from the shape relies on it.
fn byte_count(dtype: NpyType, shape: &[usize], offset: usize) -> Result<usize, NpyError> {
    let nonempty = shape
        .iter()
        .try_fold(dtype.size(), |product, &length| product.checked_mul(length.max(1)))
        .filter(|&product| isize::try_from(product).is_ok());
    match nonempty {
        None => Err(NpyError::new(
            NpyErrorKind::Shape,
            offset,
            format!("a shape of {} axes whose size in bytes overflows", shape.len()),
            "the file is damaged or forged: write it again",
        )),
        Some(_) if shape.contains(&0) => Ok(0),
        Some(count) => Ok(count),
    }
}

fn check_length(claimed: usize, found: usize, offset: usize) -> Result<(), NpyError> {
    if claimed == found {
        return Ok(());
    }
    Err(NpyError::new(
        NpyErrorKind::Length,
        offset + found.min(claimed),
        format!("type and shape make {claimed} bytes of elements, the file holds {found}"),
        "the file is cut off or holds more than one array: write it again with numpy.save",
    ))
}

fn check_booleans(dtype: NpyType, bytes: &[u8], offset: usize) -> Result<(), NpyError> {
    if dtype != NpyType::Bool {
        return Ok(());
    }
    match bytes.iter().position(|&b| b > 1) {
        None => Ok(()),
        Some(at) => Err(NpyError::new(
            NpyErrorKind::Value,
            offset + at,
            format!("the boolean at index {at} is {}, not 0 or 1", bytes[at]),
            "save integers with an integer type, as with numpy.uint8",
        )),
    }
}

/// Column-major elements in row-major order. There is at least one axis and one element.
fn row_major(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let Some((&columns, leading)) = shape.split_last() else {
        return bytes.to_vec();
    };
    let mut strides = Vec::with_capacity(leading.len());
    let mut rows = 1;
    for &length in leading {
        strides.push(rows);
        rows *= length;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; leading.len()];
    for _ in 0..rows {
        let row: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        for column in 0..columns {
            let at = (row + column * rows) * size;
            out.extend_from_slice(&bytes[at..at + size]);
        }
        for (i, &length) in index.iter_mut().zip(leading).rev() {
            *i += 1;
            if *i < length {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// What stands before the elements in an `.npy` file of version 1.0 (2.0 where that is too long), row-major and little-endian, so
/// that the elements are aligned to 64 bytes as NumPy does.
pub fn npy_header(dtype: NpyType, shape: &[usize]) -> Vec<u8> {
    header::write(dtype, shape)
}

/// A whole file.
#[cfg(test)]
pub fn write_npy(array: &Array) -> Vec<u8> {
    let mut out = npy_header(array.dtype, &array.shape);
    out.extend_from_slice(&array.bytes);
    out
}
