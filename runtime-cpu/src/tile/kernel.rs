//! How one generic loop becomes one function for each instruction set.

use half::{bf16, f16};

use crate::isa::Isa;

/// A kernel compiled for one instruction set. What it reads and writes stands with its arguments.
pub type TileFn<A> = unsafe fn(&A);

/// The generic source of a [`TileFn`]. Implementations are always inlined into the versions below, so
/// that the compiler vectorizes their loops for each instruction set.
pub trait Kernel {
    /// Pointers and sizes.
    type Args;

    /// # Safety
    /// The pointers are as the arguments' type says, and the machine has the instruction set; `FMA`
    /// only where it has fused multiply-add.
    unsafe fn run<const FMA: bool>(args: &Self::Args);
}

/// # Safety
/// As [`Kernel::run`], on a machine with these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn avx512<K: Kernel>(args: &K::Args) {
    // SAFETY: the caller's promise.
    unsafe { K::run::<true>(args) }
}

/// # Safety
/// As [`Kernel::run`], on a machine with these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<K: Kernel>(args: &K::Args) {
    // SAFETY: the caller's promise.
    unsafe { K::run::<true>(args) }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn portable<K: Kernel>(args: &K::Args) {
    const FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    // SAFETY: the caller's promise.
    unsafe { K::run::<FMA>(args) }
}

/// The kernel compiled for an instruction set.
pub fn compiled<K: Kernel>(isa: Isa) -> TileFn<K::Args> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::<K>,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::<K>,
        _ => portable::<K>,
    }
}

/// Which versions kernels over an element type come in.
pub trait Tuned {
    /// The kernel for an instruction set.
    fn version<K: Kernel>(isa: Isa) -> TileFn<K::Args>;
}

/// Types in every body: a version for each instruction set.
macro_rules! tuned {
    ($($t:ty),*) => { $( impl Tuned for $t {
        fn version<K: Kernel>(isa: Isa) -> TileFn<K::Args> {
            compiled::<K>(isa)
        }
    } )* };
}
tuned!(f32, f64, f16, bf16, i64, i32, u32, super::cast::Bit);

/// Types that are too rare to be worth more than the baseline's version.
macro_rules! untuned {
    ($($t:ty),*) => { $( impl Tuned for $t {
        fn version<K: Kernel>(_: Isa) -> TileFn<K::Args> {
            portable::<K>
        }
    } )* };
}
untuned!(u64, i16, u16, i8, u8);

/// Evaluates an expression with `T` standing for the Rust type of an element type: `Some`, or `None`
/// for a type that is not listed.
macro_rules! with_type {
    ($dtype:expr, [$($d:ident $t:ty),*], $T:ident => $body:expr) => {
        match $dtype {
            $( graphc_ir::dtype::DType::$d => { type $T = $t; Some($body) } )*
            _ => None,
        }
    };
}

/// `f32` and `f64`.
macro_rules! with_real {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::tile::kernel::with_type!($dtype, [F32 f32, F64 f64], $T => $body)
    };
}

/// The integers.
macro_rules! with_integer {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::tile::kernel::with_type!(
            $dtype,
            [I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8],
            $T => $body
        )
    };
}

/// All types of arithmetic.
macro_rules! with_number {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::tile::kernel::with_type!(
            $dtype,
            [F32 f32, F64 f64, I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8],
            $T => $body
        )
    };
}

/// All types of arithmetic, and booleans as the bytes 0 and 1.
macro_rules! with_ordered {
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::tile::kernel::with_type!(
            $dtype,
            [F32 f32, F64 f64, I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8, Bool u8],
            $T => $body
        )
    };
}

pub(crate) use {with_integer, with_number, with_ordered, with_real, with_type};
