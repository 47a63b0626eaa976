//! The few vector operations that the GEMM kernels are made of, once for each instruction set.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod portable;

/// Vectors of one element type on one instruction set, and the register tile that they fill best.
///
/// # Safety
/// Every function needs a processor that has the instruction set. Pointers need no alignment; each
/// names `LANES` elements to read or write, and the masked functions touch unmasked lanes only. All are
/// inlined into a kernel that enables the instruction set, and are slow anywhere else.
pub trait Simd {
    /// Element type.
    type Elem: Copy;
    /// A vector of `LANES` elements.
    type Vector: Copy;
    /// Selects the first lanes of a vector.
    type Mask: Copy;

    /// Elements in a vector.
    const LANES: usize;
    /// Vectors in a row of the register tile.
    const VECTORS: usize;
    /// Rows of the register tile.
    const ROWS: usize;

    unsafe fn zero() -> Self::Vector;
    unsafe fn splat(x: Self::Elem) -> Self::Vector;
    unsafe fn load(from: *const Self::Elem) -> Self::Vector;
    unsafe fn store(to: *mut Self::Elem, v: Self::Vector);
    /// Selects the first `lanes` lanes, 1 to `LANES`.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    /// Zero in the lanes that are not selected.
    unsafe fn load_masked(from: *const Self::Elem, mask: Self::Mask) -> Self::Vector;
    unsafe fn store_masked(to: *mut Self::Elem, mask: Self::Mask, v: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `v` in the lanes where `x > 0`, else 0.
    unsafe fn gate(x: Self::Vector, v: Self::Vector) -> Self::Vector;
    /// `a * b + c`, fused where the instruction set can.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `max(v, 0)`; NaN stays NaN.
    unsafe fn relu(v: Self::Vector) -> Self::Vector;
    /// The sum of all lanes, in an order fixed for the instruction set.
    unsafe fn sum(v: Self::Vector) -> Self::Elem;
    /// Writes the transpose of a `LANES` x `LANES` block; strides are of rows, in elements.
    unsafe fn transpose(from: *const Self::Elem, from_stride: usize, to: *mut Self::Elem, to_stride: usize);
}

/// Asks for the cache line of an address that need not be valid.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and never faults; SSE is part of the target.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same address, of which the compiler forgets where it came from.
///
/// It would otherwise chain the addresses of a register tile's rows, one addition after the other, and
/// tiles of few vectors would wait for that chain.
#[inline(always)]
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(clippy::pointers_in_nomem_asm_block, reason = "the address is not read from")
)]
pub fn opaque<T>(address: *const T) -> *const T {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut address = address;
        // SAFETY: no instruction at all; the register keeps its value.
        unsafe {
            std::arch::asm!("/* {} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
        }
        address
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    address
}

/// Repeats a block for each constant index below a bound of 8 at most, or for each of a list.
///
/// The compiler keeps an array in registers only when every index is a constant before it looks at
/// memory; indices of ordinary loops come too late, and accumulators end up on the stack.
macro_rules! unroll {
    ($i:ident < $n:expr, $body:block) => {
        unroll!(@each $i, $n, $body, 0, 1, 2, 3, 4, 5, 6, 7)
    };
    ($i:ident in [$($index:literal),*], $body:block) => {
        $({
            const $i: usize = $index;
            $body
        })*
    };
    (@each $i:ident, $n:expr, $body:block, $($index:literal),*) => {
        $(
            if $index < $n {
                const $i: usize = $index;
                $body
            }
        )*
    };
}
pub(crate) use unroll;
