//! AVX2 and AVX-512.

#![allow(clippy::undocumented_unsafe_blocks, reason = "all as the trait asks of its callers")]
use super::Simd;
use std::arch::x86_64::*;

/// Two registers of 8 lanes.
#[derive(Clone, Copy)]
pub struct Avx2;

macro_rules! pairs {
    ($f:ident, $a:expr, $b:expr) => {
        unsafe { [$f($a[0], $b[0]), $f($a[1], $b[1])] }
    };
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    type Pairs = [__m256i; 2];
    const ROWS: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        let one = |p: *const u16| unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        unsafe { [one(p), one(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        let one = |p: *const i8| unsafe {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
        };
        unsafe { [one(p), one(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self::V, Self::V) {
        let one = |p: *const u8| unsafe {
            let wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let low = _mm256_and_si256(wide, _mm256_set1_epi32(15));
            (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(wide)))
        };
        let (a, b) = unsafe { (one(p), one(p.add(8))) };
        ([a.0, b.0], [a.1, b.1])
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> Self::Pairs {
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(16).cast())] }
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: u32, b: Self::Pairs, c: Self::V) -> Self::V {
        let one = |b, c| unsafe {
            let high = _mm256_set1_ps(f32::from_bits(a & 0xffff_0000));
            let low = _mm256_set1_ps(f32::from_bits(a << 16));
            let odd = _mm256_and_si256(b, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm256_slli_epi32::<16>(b);
            let c = _mm256_fmadd_ps(high, _mm256_castsi256_ps(odd), c);
            _mm256_fmadd_ps(low, _mm256_castsi256_ps(even), c)
        };
        [one(b[0], c[0]), one(b[1], c[1])]
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        pairs!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        pairs!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        pairs!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        pairs!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    unsafe fn round_pow2(a: Self::V) -> (Self::V, Self::V) {
        let one = |a| unsafe {
            let n = _mm256_cvtps_epi32(a);
            let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)));
            (_mm256_cvtepi32_ps(n), _mm256_castsi256_ps(power))
        };
        let (a, b) = (one(a[0]), one(a[1]));
        ([a.0, b.0], [a.1, b.1])
    }
}

/// One register; with `vdpbf16ps` or without.
#[derive(Clone, Copy)]
pub struct Avx512<const BF16: bool>;

impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    type Pairs = __m512i;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self::V, Self::V) {
        unsafe {
            let wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let low = _mm512_and_si512(wide, _mm512_set1_epi32(15));
            (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> Self::Pairs {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: u32, b: Self::Pairs, c: Self::V) -> Self::V {
        unsafe {
            if BF16 {
                let a = _mm512_set1_epi32(a as i32);
                let [a, b] = std::mem::transmute::<[__m512i; 2], [__m512bh; 2]>([a, b]);
                return _mm512_dpbf16_ps(c, a, b);
            }
            let high = _mm512_set1_ps(f32::from_bits(a & 0xffff_0000));
            let low = _mm512_set1_ps(f32::from_bits(a << 16));
            let odd = _mm512_and_si512(b, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm512_slli_epi32::<16>(b);
            let c = _mm512_fmadd_ps(high, _mm512_castsi512_ps(odd), c);
            _mm512_fmadd_ps(low, _mm512_castsi512_ps(even), c)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round_pow2(a: Self::V) -> (Self::V, Self::V) {
        unsafe {
            let n = _mm512_cvtps_epi32(a);
            let power = _mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127)));
            (_mm512_cvtepi32_ps(n), _mm512_castsi512_ps(power))
        }
    }
}
