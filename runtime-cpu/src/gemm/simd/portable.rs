//! Short arrays that compilers turn into the vectors of the target's baseline.

#![allow(unsafe_op_in_unsafe_fn, reason = "each function is one step of the contract that `Simd` states")]

use super::Simd;

macro_rules! array_simd {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $lanes:literal, [$($lane:literal),*]) => {
        $(#[$doc])*
        pub struct $name;

        impl Simd for $name {
            type Elem = $elem;
            type Vector = [$elem; $lanes];
            type Mask = usize;
            const LANES: usize = $lanes;
            const VECTORS: usize = 4;
            const ROWS: usize = 2;

            #[inline(always)]
            unsafe fn zero() -> Self::Vector {
                [0.0; $lanes]
            }

            #[inline(always)]
            unsafe fn splat(x: $elem) -> Self::Vector {
                [x; $lanes]
            }

            #[inline(always)]
            unsafe fn load(from: *const $elem) -> Self::Vector {
                from.cast::<Self::Vector>().read_unaligned()
            }

            #[inline(always)]
            unsafe fn store(to: *mut $elem, v: Self::Vector) {
                to.cast::<Self::Vector>().write_unaligned(v);
            }

            #[inline(always)]
            unsafe fn mask(lanes: usize) -> usize {
                lanes
            }

            #[inline(always)]
            unsafe fn load_masked(from: *const $elem, mask: usize) -> Self::Vector {
                [$(if $lane < mask { *from.add($lane) } else { 0.0 }),*]
            }

            #[inline(always)]
            unsafe fn store_masked(to: *mut $elem, mask: usize, v: Self::Vector) {
                $(if $lane < mask { *to.add($lane) = v[$lane]; })*
            }

            #[inline(always)]
            unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                [$(a[$lane] + b[$lane]),*]
            }

            #[inline(always)]
            unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                [$(a[$lane] - b[$lane]),*]
            }

            #[inline(always)]
            unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                [$(a[$lane] * b[$lane]),*]
            }

            #[inline(always)]
            unsafe fn gate(x: Self::Vector, v: Self::Vector) -> Self::Vector {
                [$(if x[$lane] > 0.0 { v[$lane] } else { 0.0 }),*]
            }

            #[inline(always)]
            unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // Not `f32::mul_add`, which is a library call where the target has no instruction.
                [$(a[$lane] * b[$lane] + c[$lane]),*]
            }

            #[inline(always)]
            unsafe fn relu(v: Self::Vector) -> Self::Vector {
                [$(if v[$lane] < 0.0 { 0.0 } else { v[$lane] }),*]
            }

            #[inline(always)]
            unsafe fn sum(v: Self::Vector) -> $elem {
                0.0 $(+ v[$lane])*
            }

            #[inline(always)]
            unsafe fn transpose(from: *const $elem, from_stride: usize, to: *mut $elem, to_stride: usize) {
                for i in 0..$lanes {
                    for j in 0..$lanes {
                        *to.add(j * to_stride + i) = *from.add(i * from_stride + j);
                    }
                }
            }
        }
    };
}

array_simd! {
    /// Arrays of 4 `f32`; tiles of 2 x 16.
    F32x4, f32, 4, [0, 1, 2, 3]
}

array_simd! {
    /// Arrays of 2 `f64`; tiles of 2 x 8.
    F64x2, f64, 2, [0, 1]
}
