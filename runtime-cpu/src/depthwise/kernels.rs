//! Which kernel runs: function pointers for each element type and instruction set.

use super::filter::{self, Strip};
use super::rows::{self, Run};
use crate::gemm::simd::Simd;
use crate::isa::Isa;

/// The kernels of one element type on one instruction set.
#[derive(Debug)]
pub struct Kernels<T: 'static> {
    /// Elements in a vector.
    pub lanes: usize,
    pub rows: unsafe fn(&Run<T>),
    /// For 1, 3, 5 and 7 taps at a time.
    pub filters: [unsafe fn(&Strip<T>); 4],
}

/// Element types that have kernels; sealed, because the trait cannot be named outside this crate.
pub trait HasKernels: Sized + 'static {
    fn depthwise_kernels(isa: Isa) -> &'static Kernels<Self>;
}

macro_rules! kernels {
    ($module:ident, $simd:ty, $elem:ty, $vectors:tt, $(#[$target:meta])*) => {
        mod $module {
            use super::*;

            $(#[$target])*
            unsafe fn rows(args: &Run<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { rows::run::<$simd>(args) }
            }

            $(#[$target])*
            unsafe fn filter<const TAPS: usize, const VECTORS: usize>(args: &Strip<$elem>) {
                // SAFETY: as the caller promises.
                unsafe { filter::strip::<$simd, TAPS, VECTORS>(args) }
            }

            pub static KERNELS: Kernels<$elem> =
                Kernels { lanes: <$simd>::LANES, rows, filters: filters!(filter, $vectors) };
        }
    };
}

macro_rules! filters {
    ($filter:ident, [$one:literal, $three:literal, $five:literal, $seven:literal]) => {
        [$filter::<1, $one>, $filter::<3, $three>, $filter::<5, $five>, $filter::<7, $seven>]
    };
}

#[cfg(target_arch = "x86_64")]
kernels! { avx512_f32, crate::gemm::simd::avx512::F32x16, f32, [4, 4, 3, 2],
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx512_f64, crate::gemm::simd::avx512::F64x8, f64, [4, 4, 3, 2],
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f32, crate::gemm::simd::avx2::F32x8, f32, [2, 2, 1, 1],
#[target_feature(enable = "avx2,fma")] }
#[cfg(target_arch = "x86_64")]
kernels! { avx2_f64, crate::gemm::simd::avx2::F64x4, f64, [2, 2, 1, 1],
#[target_feature(enable = "avx2,fma")] }
kernels! { portable_f32, crate::gemm::simd::portable::F32x4, f32, [2, 2, 1, 1], }
kernels! { portable_f64, crate::gemm::simd::portable::F64x2, f64, [2, 2, 1, 1], }

macro_rules! has_kernels {
    ($elem:ty, $avx512:ident, $avx2:ident, $portable:ident) => {
        impl HasKernels for $elem {
            fn depthwise_kernels(isa: Isa) -> &'static Kernels<$elem> {
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
