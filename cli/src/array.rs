//! NumPy arrays to tensors and back.

use std::io::Read;
use std::path::Path;

use graphc::{DType, Tensor};

use crate::exit::{Exit, Failure, Result};
use crate::npy::{Array, NpyType, read_npy_owned};
use crate::npz::{NpzLimits, read_npz};

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

/// A tensor as a NumPy array. NumPy has no bf16, so that becomes f32, which holds every value of it.
pub fn array(tensor: &Tensor) -> Result<Array> {
    let wide;
    let tensor = if tensor.dtype() == DType::Bf16 {
        wide = tensor.cast(DType::F32);
        &wide
    } else {
        tensor
    };
    let at = TYPES.iter().position(|(_, d)| *d == tensor.dtype()).unwrap_or_default();
    Array::new(TYPES[at].0, tensor.shape().to_vec(), tensor.bytes().to_vec())
        .map_err(|e| Failure::new(Exit::Internal, format!("a tensor makes no array: {e}")))
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
    let failed = |e: std::io::Error| Failure::reading(path, &e);
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
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::OutOfMemory))
        .and_then(|()| std::fs::File::open(path)?.take(most).read_to_end(&mut bytes));
    read.map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy::{read_npy, write_npy};

    #[test]
    fn every_type_survives() {
        for dtype in DType::ALL {
            let t = Tensor::from_fn(dtype, &[2, 3], |i| graphc::ir::Scalar::I(i as i128 % 2));
            let bytes = write_npy(&array(&t).unwrap());
            let back = tensor("t", &read_npy(&bytes).unwrap()).unwrap();
            let expected = if dtype == DType::Bf16 { t.cast(DType::F32) } else { t };
            assert_eq!(back, expected);
        }
    }
}
