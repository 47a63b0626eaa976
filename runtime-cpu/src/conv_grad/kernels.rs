//! Which kernel runs: tables of function pointers, one for each element type and instruction set.

use super::microkernel::{self, Tile};
use crate::gemm::simd::Simd;
use crate::isa::Isa;

pub type TileKernel<T> = unsafe fn(&Tile<T>);

/// The kernels of one element type on one instruction set, and the shape of their register tile.
#[derive(Debug)]
pub struct Kernels<T: 'static> {
    /// Elements in a vector.
    pub lanes: usize,
    /// Columns of the register tile.
    pub columns: usize,
    /// Rows of the register tile.
    pub rows: usize,
    /// By rows - 1, vectors - 1, and whether the last vector is masked.
    pub tiles: &'static [&'static [[TileKernel<T>; 2]]],
}

/// Element types that have kernels; sealed, because the trait cannot be named outside this crate.
pub trait HasKernels: Sized + 'static {
    fn filter_grad_kernels(isa: Isa) -> &'static Kernels<Self>;
}

macro_rules! kernels {
    ($module:ident, $simd:ty, $elem:ty, $rows:tt x $vectors:tt, $(#[$target:meta])*) => {
        mod $module {
            use super::*;

            $(#[$target])*
            unsafe fn tile<const MR: usize, const NV: usize, const MASKED: bool>(args: &Tile<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { microkernel::tile::<$simd, MR, NV, MASKED>(args) }
            }

            pub static KERNELS: Kernels<$elem> = Kernels {
                lanes: <$simd>::LANES,
                columns: <$simd>::LANES * <$simd>::VECTORS,
                rows: <$simd>::ROWS,
                tiles: table!(tile, $rows, $vectors),
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
kernels! { avx512_f32, crate::gemm::simd::avx512::F32x16, f32, [1, 2, 3, 4, 5, 6] x [1, 2, 3, 4],
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx512_f64, crate::gemm::simd::avx512::F64x8, f64, [1, 2, 3, 4, 5, 6] x [1, 2, 3, 4],
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f32, crate::gemm::simd::avx2::F32x8, f32, [1, 2, 3, 4, 5, 6] x [1, 2],
#[target_feature(enable = "avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f64, crate::gemm::simd::avx2::F64x4, f64, [1, 2, 3, 4, 5, 6] x [1, 2],
#[target_feature(enable = "avx2,fma")] }
kernels! { portable_f32, crate::gemm::simd::portable::F32x4, f32, [1, 2] x [1, 2, 3, 4], }
kernels! { portable_f64, crate::gemm::simd::portable::F64x2, f64, [1, 2] x [1, 2, 3, 4], }

macro_rules! has_kernels {
    ($elem:ty, $avx512:ident, $avx2:ident, $portable:ident) => {
        impl HasKernels for $elem {
            fn filter_grad_kernels(isa: Isa) -> &'static Kernels<$elem> {
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
