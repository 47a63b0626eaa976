//! AVX-512: 16 or 8 lanes, 32 registers, masks for tails.

#![allow(unsafe_op_in_unsafe_fn, reason = "each function is one step of the contract that `Simd` states")]

use std::arch::x86_64::*;

use super::{Simd, unroll};

/// Vectors of 16 `f32`; tiles of 6 x 64.
pub struct F32x16;

/// Vectors of 8 `f64`; tiles of 6 x 32.
pub struct F64x8;

impl Simd for F32x16 {
    type Elem = f32;
    type Vector = __m512;
    type Mask = __mmask16;
    const LANES: usize = 16;
    const VECTORS: usize = 4;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        _mm512_setzero_ps()
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        _mm512_storeu_ps(to, v);
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask16 {
        (u32::MAX >> (32 - lanes)) as __mmask16
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: __mmask16) -> __m512 {
        _mm512_maskz_loadu_ps(mask, from)
    }

    #[inline(always)]
    unsafe fn store_masked(to: *mut f32, mask: __mmask16, v: __m512) {
        _mm512_mask_storeu_ps(to, mask, v);
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn gate(x: __m512, v: __m512) -> __m512 {
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps()), v)
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn relu(v: __m512) -> __m512 {
        // The second operand is the result where either is NaN.
        _mm512_max_ps(_mm512_setzero_ps(), v)
    }

    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        let v = _mm512_add_ps(v, _mm512_shuffle_f32x4::<0b01_00_11_10>(v, v));
        let v = _mm512_castps512_ps256(v);
        super::avx2::F32x8::sum(v)
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // Pairs of rows, then pairs of pairs, within 128-bit quarters; then the quarters.
        let mut pairs = [_mm512_setzero_pd(); 16];
        unroll!(I in [0, 1, 2, 3, 4, 5, 6, 7], {
            let (even, odd) = (from.add(2 * I * from_stride), from.add((2 * I + 1) * from_stride));
            let (even, odd) = (_mm512_loadu_ps(even), _mm512_loadu_ps(odd));
            pairs[2 * I] = _mm512_castps_pd(_mm512_unpacklo_ps(even, odd));
            pairs[2 * I + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(even, odd));
        });
        let mut quads = [_mm512_setzero_ps(); 16];
        unroll!(I in [0, 1, 2, 3, 4, 5, 6, 7], {
            const AT: usize = I / 2 * 4 + I % 2;
            quads[AT + I % 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[AT], pairs[AT + 2]));
            quads[AT + I % 2 + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[AT], pairs[AT + 2]));
        });
        unroll!(I in [0, 1, 2, 3], {
            let (a, b, c, d) = (quads[I], quads[I + 4], quads[I + 8], quads[I + 12]);
            let (ab_even, ab_odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let (cd_even, cd_odd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            _mm512_storeu_ps(to.add(I * to_stride), _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even));
            _mm512_storeu_ps(to.add((I + 4) * to_stride), _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd));
            _mm512_storeu_ps(to.add((I + 8) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even));
            _mm512_storeu_ps(to.add((I + 12) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd));
        });
    }
}

impl Simd for F64x8 {
    type Elem = f64;
    type Vector = __m512d;
    type Mask = __mmask8;
    const LANES: usize = 8;
    const VECTORS: usize = 4;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m512d {
        _mm512_setzero_pd()
    }

    #[inline(always)]
    unsafe fn splat(x: f64) -> __m512d {
        _mm512_set1_pd(x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> __m512d {
        _mm512_loadu_pd(from)
    }

    #[inline(always)]
    unsafe fn store(to: *mut f64, v: __m512d) {
        _mm512_storeu_pd(to, v);
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask8 {
        (u32::MAX >> (32 - lanes)) as __mmask8
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f64, mask: __mmask8) -> __m512d {
        _mm512_maskz_loadu_pd(mask, from)
    }

    #[inline(always)]
    unsafe fn store_masked(to: *mut f64, mask: __mmask8, v: __m512d) {
        _mm512_mask_storeu_pd(to, mask, v);
    }

    #[inline(always)]
    unsafe fn add(a: __m512d, b: __m512d) -> __m512d {
        _mm512_add_pd(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: __m512d, b: __m512d) -> __m512d {
        _mm512_sub_pd(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: __m512d, b: __m512d) -> __m512d {
        _mm512_mul_pd(a, b)
    }

    #[inline(always)]
    unsafe fn gate(x: __m512d, v: __m512d) -> __m512d {
        _mm512_maskz_mov_pd(_mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, _mm512_setzero_pd()), v)
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        _mm512_fmadd_pd(a, b, c)
    }

    #[inline(always)]
    unsafe fn relu(v: __m512d) -> __m512d {
        // The second operand is the result where either is NaN.
        _mm512_max_pd(_mm512_setzero_pd(), v)
    }

    #[inline(always)]
    unsafe fn sum(v: __m512d) -> f64 {
        let v = _mm512_add_pd(v, _mm512_shuffle_f64x2::<0b01_00_11_10>(v, v));
        super::avx2::F64x4::sum(_mm512_castpd512_pd256(v))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
        let mut pairs = [_mm512_setzero_pd(); 8];
        unroll!(I in [0, 1, 2, 3], {
            let (even, odd) = (from.add(2 * I * from_stride), from.add((2 * I + 1) * from_stride));
            let (even, odd) = (_mm512_loadu_pd(even), _mm512_loadu_pd(odd));
            pairs[2 * I] = _mm512_unpacklo_pd(even, odd);
            pairs[2 * I + 1] = _mm512_unpackhi_pd(even, odd);
        });
        unroll!(I in [0, 1], {
            let (a, b, c, d) = (pairs[I], pairs[I + 2], pairs[I + 4], pairs[I + 6]);
            let (ab_even, ab_odd) = (_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xdd>(a, b));
            let (cd_even, cd_odd) = (_mm512_shuffle_f64x2::<0x88>(c, d), _mm512_shuffle_f64x2::<0xdd>(c, d));
            _mm512_storeu_pd(to.add(I * to_stride), _mm512_shuffle_f64x2::<0x88>(ab_even, cd_even));
            _mm512_storeu_pd(to.add((I + 2) * to_stride), _mm512_shuffle_f64x2::<0x88>(ab_odd, cd_odd));
            _mm512_storeu_pd(to.add((I + 4) * to_stride), _mm512_shuffle_f64x2::<0xdd>(ab_even, cd_even));
            _mm512_storeu_pd(to.add((I + 6) * to_stride), _mm512_shuffle_f64x2::<0xdd>(ab_odd, cd_odd));
        });
    }
}
