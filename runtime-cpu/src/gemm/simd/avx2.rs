//! AVX2 with FMA: 8 or 4 lanes, 16 registers, vector masks for tails.

#![allow(unsafe_op_in_unsafe_fn, reason = "each function is one step of the contract that `Simd` states")]

use std::arch::x86_64::*;

use super::{Simd, unroll};

/// Vectors of 8 `f32`; tiles of 6 x 16.
pub struct F32x8;

/// Vectors of 4 `f64`; tiles of 6 x 8.
pub struct F64x4;

/// Any 8 words in a row, from `8 - n` on, begin with `n` that are set.
static MASK_WORDS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Simd for F32x8 {
    type Elem = f32;
    type Vector = __m256;
    type Mask = __m256i;
    const LANES: usize = 8;
    const VECTORS: usize = 2;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        _mm256_setzero_ps()
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        _mm256_storeu_ps(to, v);
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __m256i {
        _mm256_loadu_si256(MASK_WORDS.as_ptr().add(8 - lanes).cast())
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: __m256i) -> __m256 {
        _mm256_maskload_ps(from, mask)
    }

    #[inline(always)]
    unsafe fn store_masked(to: *mut f32, mask: __m256i, v: __m256) {
        _mm256_maskstore_ps(to, mask, v);
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn gate(x: __m256, v: __m256) -> __m256 {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(x, _mm256_setzero_ps()), v)
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn relu(v: __m256) -> __m256 {
        // The second operand is the result where either is NaN.
        _mm256_max_ps(_mm256_setzero_ps(), v)
    }

    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // Pairs of rows, then pairs of pairs, within 128-bit halves; then the halves.
        let mut pairs = [_mm256_setzero_pd(); 8];
        unroll!(I in [0, 1, 2, 3], {
            let (even, odd) = (from.add(2 * I * from_stride), from.add((2 * I + 1) * from_stride));
            let (even, odd) = (_mm256_loadu_ps(even), _mm256_loadu_ps(odd));
            pairs[2 * I] = _mm256_castps_pd(_mm256_unpacklo_ps(even, odd));
            pairs[2 * I + 1] = _mm256_castps_pd(_mm256_unpackhi_ps(even, odd));
        });
        let mut quads = [_mm256_setzero_ps(); 8];
        unroll!(I in [0, 1, 2, 3], {
            const AT: usize = I / 2 * 4 + I % 2;
            quads[AT + I % 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(pairs[AT], pairs[AT + 2]));
            quads[AT + I % 2 + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(pairs[AT], pairs[AT + 2]));
        });
        unroll!(I in [0, 1, 2, 3], {
            let (top, bottom) = (quads[I], quads[I + 4]);
            _mm256_storeu_ps(to.add(I * to_stride), _mm256_permute2f128_ps::<0x20>(top, bottom));
            _mm256_storeu_ps(to.add((I + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(top, bottom));
        });
    }
}

impl Simd for F64x4 {
    type Elem = f64;
    type Vector = __m256d;
    type Mask = __m256i;
    const LANES: usize = 4;
    const VECTORS: usize = 2;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m256d {
        _mm256_setzero_pd()
    }

    #[inline(always)]
    unsafe fn splat(x: f64) -> __m256d {
        _mm256_set1_pd(x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> __m256d {
        _mm256_loadu_pd(from)
    }

    #[inline(always)]
    unsafe fn store(to: *mut f64, v: __m256d) {
        _mm256_storeu_pd(to, v);
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __m256i {
        _mm256_loadu_si256(MASK_WORDS.as_ptr().add(8 - 2 * lanes).cast())
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f64, mask: __m256i) -> __m256d {
        _mm256_maskload_pd(from, mask)
    }

    #[inline(always)]
    unsafe fn store_masked(to: *mut f64, mask: __m256i, v: __m256d) {
        _mm256_maskstore_pd(to, mask, v);
    }

    #[inline(always)]
    unsafe fn add(a: __m256d, b: __m256d) -> __m256d {
        _mm256_add_pd(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: __m256d, b: __m256d) -> __m256d {
        _mm256_sub_pd(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: __m256d, b: __m256d) -> __m256d {
        _mm256_mul_pd(a, b)
    }

    #[inline(always)]
    unsafe fn gate(x: __m256d, v: __m256d) -> __m256d {
        _mm256_and_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(x, _mm256_setzero_pd()), v)
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256d, b: __m256d, c: __m256d) -> __m256d {
        _mm256_fmadd_pd(a, b, c)
    }

    #[inline(always)]
    unsafe fn relu(v: __m256d) -> __m256d {
        // The second operand is the result where either is NaN.
        _mm256_max_pd(_mm256_setzero_pd(), v)
    }

    #[inline(always)]
    unsafe fn sum(v: __m256d) -> f64 {
        let v = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
        _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
        let mut rows = [_mm256_setzero_pd(); 4];
        unroll!(I in [0, 1, 2, 3], {
            rows[I] = _mm256_loadu_pd(from.add(I * from_stride));
        });
        let even = [_mm256_unpacklo_pd(rows[0], rows[1]), _mm256_unpacklo_pd(rows[2], rows[3])];
        let odd = [_mm256_unpackhi_pd(rows[0], rows[1]), _mm256_unpackhi_pd(rows[2], rows[3])];
        _mm256_storeu_pd(to, _mm256_permute2f128_pd::<0x20>(even[0], even[1]));
        _mm256_storeu_pd(to.add(to_stride), _mm256_permute2f128_pd::<0x20>(odd[0], odd[1]));
        _mm256_storeu_pd(to.add(2 * to_stride), _mm256_permute2f128_pd::<0x31>(even[0], even[1]));
        _mm256_storeu_pd(to.add(3 * to_stride), _mm256_permute2f128_pd::<0x31>(odd[0], odd[1]));
    }
}
