//! NumPy arrays to tensors and back.

use std::io::{self, Read};
use std::path::Path;

use graphc::{DType, Tensor};

use crate::exit::{Exit, Failure, Result};
use crate::npy::{Array, NpyType, npy_header, read_npy_owned};
use crate::npz::{NpzLimits, read_npz};
use crate::zip::Contents;

const TYPES: [(NpyType, DType); 12] = [
    (NpyType::Bool, DType::Bool),
    (NpyType::I8, DType::I8),
    (NpyType::I16, DType::I16),
    (NpyType::I32, DType::I32),
    (NpyType::I64, DType::I64),
    (NpyType::U8, DType::U8),
    (NpyType::U16, DType::U16),
    (NpyType::U32, DType::U32),
    (NpyType::U64, DType::U64),
    (NpyType::F16, DType::F16),
    (NpyType::F32, DType::F32),
    (NpyType::F64, DType::F64),
];

/// A NumPy array as a tensor; `what` names it in the error.
pub fn tensor(what: &str, array: &Array) -> Result<Tensor> {
    let (_, dtype) = TYPES[TYPES.iter().position(|(n, _)| *n == array.dtype).unwrap_or_default()];
    graphc::memory::check_tensor(what, dtype, &array.shape)?;
    Tensor::from_bytes(dtype, &array.shape, &array.bytes)
        .ok_or_else(|| Failure::data(format!("{what} does not hold as many elements as its shape says")))
}

/// A tensor as an `.npy` file, whose elements are those of the tensor and no copy. NumPy has no bf16, so that becomes f32, which
/// holds every value of it.
#[derive(Debug)]
pub struct NpyFile<'t> {
    header: Vec<u8>,
    tensor: &'t Tensor,
}

impl NpyFile<'_> {
    /// The file of a tensor.
    pub fn new(tensor: &Tensor) -> NpyFile<'_> {
        let wanted = if tensor.dtype() == DType::Bf16 { DType::F32 } else { tensor.dtype() };
        let at = TYPES.iter().position(|(_, d)| *d == wanted).unwrap_or_default();
        NpyFile { header: npy_header(TYPES[at].0, tensor.shape()), tensor }
    }
}

impl Contents for NpyFile<'_> {
    fn size(&self) -> u64 {
        let widened = if self.tensor.dtype() == DType::Bf16 { 2 } else { 1 };
        (self.header.len() + self.tensor.bytes().len() * widened) as u64
    }

    fn send(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        const PIECE: usize = 1 << 16;
        to(&self.header)?;
        if self.tensor.dtype() != DType::Bf16 {
            return to(self.tensor.bytes());
        }
        for start in (0..self.tensor.len()).step_by(PIECE) {
            let piece = PIECE.min(self.tensor.len() - start);
            to(Tensor::from_fn(DType::F32, &[piece], |i| self.tensor.get(start + i)).bytes())?;
        }
        Ok(())
    }
}

/// Reads an `.npy` file.
pub fn read_npy_file(path: &Path) -> Result<Tensor> {
    let what = path.display().to_string();
    let array = read_npy_owned(read_file(path)?).map_err(|e| Failure::data(format!("{what}: {e}")))?;
    tensor(&what, &array)
}

/// Reads all arrays of an `.npz` file.
pub fn read_npz_file(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let what = path.display().to_string();
    let bytes = read_file(path)?;
    let most = graphc::memory::available().unwrap_or(usize::MAX) as u64;
    let limits =
        NpzLimits { entry_bytes: most.min(4 << 30), total_bytes: most.min(8 << 30), ..NpzLimits::default() };
    let arrays = read_npz(&bytes, &limits).map_err(|e| Failure::data(format!("{what}: {e}")))?;
    arrays.iter().map(|(key, a)| Ok((key.clone(), tensor(&format!("{what}:{key}"), a)?))).collect()
}

/// Reads a regular file that fits memory.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: io::Error| Failure::reading(path, &e);
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::new(Exit::Io, format!("{}: is a folder; give a file in it", path.display())));
    }
    if !metadata.is_file() {
        return Err(Failure::new(Exit::Io, format!("{}: is not a regular file", path.display())));
    }
    let most = graphc::memory::available().unwrap_or(usize::MAX) as u64;
    if metadata.len() > most {
        let message = format!("{}: a file of {} bytes does not fit memory", path.display(), metadata.len());
        return Err(Failure::new(Exit::Device, message));
    }
    let mut bytes = Vec::new();
    // The length may have been a lie, or change: never more than the limit is read.
    let read = bytes
        .try_reserve_exact(metadata.len() as usize)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
        .and_then(|()| std::fs::File::open(path)?.take(most).read_to_end(&mut bytes));
    match read {
        Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {
            Err(graphc::memory::refused(&format!("{}", path.display()), metadata.len() as usize).into())
        }
        read => read.map(|_| bytes).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy::read_npy;

    #[test]
    fn every_type_survives() {
        for dtype in DType::ALL {
            let t = Tensor::from_fn(dtype, &[2, 3], |i| graphc::ir::Scalar::I(i as i128 % 2));
            let file = NpyFile::new(&t);
            let mut bytes = Vec::new();
            file.send(&mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            assert_eq!(bytes.len() as u64, file.size());
            let back = tensor("t", &read_npy(&bytes).unwrap()).unwrap();
            let expected = if dtype == DType::Bf16 { t.cast(DType::F32) } else { t };
            assert_eq!(back, expected);
        }
    }
}
