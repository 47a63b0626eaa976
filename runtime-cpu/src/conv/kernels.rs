//! Which kernel runs: tables of function pointers, one for each element type and instruction set.

use super::microkernel::{self, MAX_ROWS, Sums};
use super::winograd::transform::{self, Filters, TileSums, Window};
use crate::gemm::simd::Simd;
use crate::isa::Isa;

pub type SumsKernel<T> = unsafe fn(&Sums<T>);

/// The kernels of one element type on one instruction set. Their register tile is that of products.
#[derive(Debug)]
pub struct Kernels<T: 'static> {
    /// By rows - 1 and vectors - 1; of tiles whose rows have taps of their own, and the same ones.
    pub sums: &'static [&'static [[SumsKernel<T>; 2]]],
    /// Winograd's transforms.
    pub window: unsafe fn(&Window<T>),
    pub tile: unsafe fn(&TileSums<T>),
    pub filters: unsafe fn(&Filters<T>),
}

/// Element types that have kernels; sealed, because the trait cannot be named outside this crate.
pub trait HasKernels: Copy + Sized + 'static {
    /// Factors of Winograd's transforms.
    const MINUS_ONE: Self;
    const HALF: Self;

    fn conv_kernels(isa: Isa) -> &'static Kernels<Self>;

    fn is_nan(self) -> bool;

    /// `self * factor + term`, rounded once.
    fn times_plus(self, factor: Self, term: Self) -> Self;
}

macro_rules! kernels {
    ($module:ident, $simd:ty, $elem:ty, $rows:tt, $vectors:tt, $(#[$target:meta])*) => {
        mod $module {
            use super::*;

            const _: () = assert!(<$simd>::ROWS <= MAX_ROWS);

            $(#[$target])*
            unsafe fn sums<const MR: usize, const NV: usize, const SHARED: bool>(job: &Sums<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { microkernel::sums::<$simd, MR, NV, SHARED>(job) }
            }

            $(#[$target])*
            unsafe fn window(job: &Window<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { transform::window::<$simd>(job) }
            }

            $(#[$target])*
            unsafe fn tile(job: &TileSums<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { transform::tile::<$simd>(job) }
            }

            $(#[$target])*
            unsafe fn filters(job: &Filters<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { transform::filters::<$simd>(job) }
            }

            pub static KERNELS: Kernels<$elem> =
                Kernels { sums: table!(sums, $rows, $vectors), window, tile, filters };
        }
    };
}

macro_rules! table {
    ($sums:ident, [$($mr:literal),*], $vectors:tt) => {
        &[$(&table!(@row $sums, $mr, $vectors)),*]
    };
    (@row $sums:ident, $mr:literal, [$($nv:literal),*]) => {
        [$([$sums::<$mr, $nv, false>, $sums::<$mr, $nv, true>]),*]
    };
}

#[cfg(target_arch = "x86_64")]
kernels! { avx512_f32, crate::gemm::simd::avx512::F32x16, f32, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4],
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx512_f64, crate::gemm::simd::avx512::F64x8, f64, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4],
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f32, crate::gemm::simd::avx2::F32x8, f32, [1, 2, 3, 4, 5, 6], [1, 2],
#[target_feature(enable = "avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f64, crate::gemm::simd::avx2::F64x4, f64, [1, 2, 3, 4, 5, 6], [1, 2],
#[target_feature(enable = "avx2,fma")] }
kernels! { portable_f32, crate::gemm::simd::portable::F32x4, f32, [1, 2], [1, 2, 3, 4], }
kernels! { portable_f64, crate::gemm::simd::portable::F64x2, f64, [1, 2], [1, 2, 3, 4], }

macro_rules! has_kernels {
    ($elem:ty, $avx512:ident, $avx2:ident, $portable:ident) => {
        impl HasKernels for $elem {
            const MINUS_ONE: $elem = -1.0;
            const HALF: $elem = 0.5;

            fn is_nan(self) -> bool {
                <$elem>::is_nan(self)
            }

            fn times_plus(self, factor: $elem, term: $elem) -> $elem {
                self.mul_add(factor, term)
            }

            fn conv_kernels(isa: Isa) -> &'static Kernels<$elem> {
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
