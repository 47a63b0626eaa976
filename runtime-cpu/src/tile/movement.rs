//! Moves of elements between tiles and memory with strides, by the size of an element.

use graphc_ir::dtype::DType;
use graphc_ir::scalar::Scalar;

/// A two-dimensional move: `rows` by `columns` elements with a stride for each, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub rows: usize,
    pub columns: usize,
    pub row_stride: isize,
    pub column_stride: isize,
}

/// Moves of elements of one size.
#[derive(Clone, Copy, Debug)]
pub struct Movement {
    /// From strided memory to a tile whose rows are `pitch` elements apart.
    pub gather: unsafe fn(tile: *mut u8, pitch: usize, memory: *const u8, block: Block),
    /// From such a tile to strided memory.
    pub scatter: unsafe fn(tile: *const u8, pitch: usize, memory: *mut u8, block: Block),
    /// The element at `value`, `len` times.
    pub fill: unsafe fn(tile: *mut u8, value: *const u8, len: usize),
}

/// The moves of elements of `dtype`.
pub fn movement(dtype: DType) -> Movement {
    match dtype.size() {
        1 => moves::<u8>(),
        2 => moves::<u16>(),
        4 => moves::<u32>(),
        _ => moves::<u64>(),
    }
}

fn moves<T: Copy>() -> Movement {
    Movement { gather: gather::<T>, scatter: scatter::<T>, fill: fill::<T> }
}

/// # Safety
/// Every element of the block is in memory and in the tile, which do not overlap.
unsafe fn gather<T: Copy>(tile: *mut u8, pitch: usize, memory: *const u8, block: Block) {
    let Block { rows, columns, row_stride, column_stride } = block;
    let (tile, memory) = (tile.cast::<T>(), memory.cast::<T>());
    // SAFETY: the caller's promise.
    unsafe {
        if column_stride == 1 {
            for row in 0..rows {
                std::ptr::copy_nonoverlapping(
                    memory.offset(row as isize * row_stride),
                    tile.add(row * pitch),
                    columns,
                );
            }
        } else if row_stride.unsigned_abs() < column_stride.unsigned_abs() && rows > 1 {
            // Down the columns, so that neighbours in memory are read one after the other.
            for column in 0..columns {
                let from = memory.offset(column as isize * column_stride);
                for row in 0..rows {
                    tile.add(row * pitch + column).write(*from.offset(row as isize * row_stride));
                }
            }
        } else {
            for row in 0..rows {
                let from = memory.offset(row as isize * row_stride);
                let to = tile.add(row * pitch);
                for column in 0..columns {
                    to.add(column).write(*from.offset(column as isize * column_stride));
                }
            }
        }
    }
}

/// # Safety
/// As [`gather`].
unsafe fn scatter<T: Copy>(tile: *const u8, pitch: usize, memory: *mut u8, block: Block) {
    let Block { rows, columns, row_stride, column_stride } = block;
    let (tile, memory) = (tile.cast::<T>(), memory.cast::<T>());
    // SAFETY: the caller's promise.
    unsafe {
        if column_stride == 1 {
            for row in 0..rows {
                // A tile may be the memory itself, where a result takes the place of its operand.
                std::ptr::copy(tile.add(row * pitch), memory.offset(row as isize * row_stride), columns);
            }
        } else if row_stride.unsigned_abs() < column_stride.unsigned_abs() && rows > 1 {
            for column in 0..columns {
                let to = memory.offset(column as isize * column_stride);
                for row in 0..rows {
                    to.offset(row as isize * row_stride).write(*tile.add(row * pitch + column));
                }
            }
        } else {
            for row in 0..rows {
                let to = memory.offset(row as isize * row_stride);
                let from = tile.add(row * pitch);
                for column in 0..columns {
                    to.offset(column as isize * column_stride).write(*from.add(column));
                }
            }
        }
    }
}

/// # Safety
/// The tile has `len` elements, and `value` points to one.
unsafe fn fill<T: Copy>(tile: *mut u8, value: *const u8, len: usize) {
    let tile = tile.cast::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let value = *value.cast::<T>();
        for i in 0..len {
            tile.add(i).write(value);
        }
    }
}

/// The bytes of a value of `dtype`, followed by zeros.
pub fn scalar_bytes(value: Scalar, dtype: DType) -> [u8; 8] {
    // By hand and not through a tensor: runs ask for it, and runs allocate nothing.
    let v = value.cast(dtype);
    let low = |bits: u64| bits.to_le_bytes();
    match dtype {
        DType::F64 => low(v.as_f64().to_bits()),
        DType::F32 => low(u64::from((v.as_f64() as f32).to_bits())),
        DType::F16 => low(u64::from(half::f16::from_f64(v.as_f64()).to_bits())),
        DType::Bf16 => low(u64::from(half::bf16::from_f64(v.as_f64()).to_bits())),
        DType::Bool => low(u64::from(v.as_bool())),
        // The low bytes of a two's complement number are those of every narrower type.
        _ => low(v.as_int() as u64),
    }
}
