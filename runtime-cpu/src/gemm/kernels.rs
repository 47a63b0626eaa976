//! Which kernel runs: tables of function pointers, one for each element type and instruction set.

use super::TileCtx;
use super::chain::{self, Instruction};
use super::gemv::{self, Gemv, MAX_VECTORS};
use super::microkernel::{self, Tile};
use super::pack;
use super::simd::Simd;
use crate::isa::Isa;

pub type TileKernel<T> = unsafe fn(&Tile<T>);
pub type GemvKernel<T> = unsafe fn(&Gemv<T>);
pub type ChainKernel<T> = unsafe fn(&[Instruction<T>], &TileCtx<T>);
pub type TransposeKernel<T> = unsafe fn(*const T, usize, usize, usize, *mut T, usize);

/// The kernels of one element type on one instruction set, and the shape of their register tile.
#[derive(Debug)]
pub struct Kernels<T: 'static> {
    /// Elements in a vector.
    pub lanes: usize,
    /// Columns of the register tile, and of a packed panel.
    pub columns: usize,
    /// Rows of the register tile.
    pub rows: usize,
    /// By rows - 1, vectors - 1, and whether the last vector is masked.
    pub tiles: &'static [&'static [[TileKernel<T>; 2]]],
    /// By vectors - 1; the matrix is contiguous along columns.
    pub add_rows: [GemvKernel<T>; MAX_VECTORS],
    /// By vectors - 1; the matrix is contiguous along k.
    pub dot_columns: [GemvKernel<T>; MAX_VECTORS],
    /// Packs one panel of a B that is contiguous along k; see [`pack::transpose_panel`].
    pub transpose_panel: TransposeKernel<T>,
    /// Runs an epilogue on a block of sums; see [`chain::chain`].
    pub chain: ChainKernel<T>,
}

/// Element types that have kernels; sealed, because the trait cannot be named outside this crate.
pub trait HasKernels: Sized + 'static {
    fn kernels(isa: Isa) -> &'static Kernels<Self>;
}

macro_rules! kernels {
    ($module:ident, $simd:ty, $elem:ty, $tiles:ident, $(#[$target:meta])*) => {
        mod $module {
            use super::*;

            $(#[$target])*
            unsafe fn tile<const MR: usize, const NV: usize, const MASKED: bool>(args: &Tile<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { microkernel::tile::<$simd, MR, NV, MASKED>(args) }
            }

            $(#[$target])*
            unsafe fn add_rows<const V: usize>(args: &Gemv<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { gemv::add_rows::<$simd, V>(args) }
            }

            $(#[$target])*
            unsafe fn dot_columns<const V: usize>(args: &Gemv<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { gemv::dot_columns::<$simd, V>(args) }
            }

            $(#[$target])*
            unsafe fn transpose_panel(
                from: *const $elem,
                stride: usize,
                k: usize,
                columns: usize,
                to: *mut $elem,
                width: usize,
            ) {
                // SAFETY: as the caller promises.
                unsafe { pack::transpose_panel::<$simd>(from, stride, k, columns, to, width) }
            }

            $(#[$target])*
            unsafe fn chain(instructions: &[Instruction<$elem>], block: &TileCtx<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { chain::chain::<$simd>(instructions, block) }
            }

            pub static KERNELS: Kernels<$elem> = Kernels {
                lanes: <$simd>::LANES,
                columns: <$simd>::LANES * <$simd>::VECTORS,
                rows: <$simd>::ROWS,
                tiles: $tiles!(tile),
                add_rows: [add_rows::<1>, add_rows::<2>, add_rows::<3>, add_rows::<4>],
                dot_columns: [dot_columns::<1>, dot_columns::<2>, dot_columns::<3>, dot_columns::<4>],
                transpose_panel,
                chain,
            };
        }
    };
}

macro_rules! table {
    ($tile:ident, [$($mr:literal),*], $vectors:tt) => {
        &[$(&table!(@row $tile, $mr, $vectors)),*]
    };
    (@row $tile:ident, $mr:literal, [$($nv:literal),*]) => {
        [$([$tile::<$mr, $nv, false>, $tile::<$mr, $nv, true>]),*]
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! tiles_6x4 {
    ($tile:ident) => {
        table!($tile, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4])
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! tiles_6x2 {
    ($tile:ident) => {
        table!($tile, [1, 2, 3, 4, 5, 6], [1, 2])
    };
}

macro_rules! tiles_2x4 {
    ($tile:ident) => {
        table!($tile, [1, 2], [1, 2, 3, 4])
    };
}

#[cfg(target_arch = "x86_64")]
kernels! { avx512_f32, super::super::simd::avx512::F32x16, f32, tiles_6x4,
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx512_f64, super::super::simd::avx512::F64x8, f64, tiles_6x4,
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f32, super::super::simd::avx2::F32x8, f32, tiles_6x2,
#[target_feature(enable = "avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f64, super::super::simd::avx2::F64x4, f64, tiles_6x2,
#[target_feature(enable = "avx2,fma")] }
kernels! { portable_f32, super::super::simd::portable::F32x4, f32, tiles_2x4, }
kernels! { portable_f64, super::super::simd::portable::F64x2, f64, tiles_2x4, }

macro_rules! has_kernels {
    ($elem:ty, $avx512:ident, $avx2:ident, $portable:ident) => {
        impl HasKernels for $elem {
            fn kernels(isa: Isa) -> &'static Kernels<$elem> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => &$avx512::KERNELS,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => &$avx2::KERNELS,
                    #[cfg(not(target_arch = "x86_64"))]
                    Isa::Avx512 | Isa::Avx2 => &$portable::KERNELS,
                    Isa::Portable => &$portable::KERNELS,
                }
            }
        }
    };
}

has_kernels!(f32, avx512_f32, avx2_f32, portable_f32);
has_kernels!(f64, avx512_f64, avx2_f64, portable_f64);
