//! Sixteen fp32 lanes on whatever the processor has.
//!
//! Every operation rounds once, lane by lane, so AVX-512, AVX2 and plain code give the same bits.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Sixteen numbers and what is done with them.
///
/// # Safety
///
/// Callers of any method make sure that the processor has the implementation's instructions, and
/// that pointers are valid for the elements named.
pub trait Simd: Copy + 'static {
    /// The lanes.
    type V: Copy;
    /// Rows of a matrix product that its accumulators have registers for.
    const ROWS: usize;

    /// The same number in all lanes.
    unsafe fn splat(x: f32) -> Self::V;
    /// 16 fp32.
    unsafe fn load(p: *const f32) -> Self::V;
    /// 16 bf16.
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// 16 signed bytes.
    unsafe fn load_i8(p: *const i8) -> Self::V;
    /// 16 bytes of two 4-bit numbers each: the low halves, the high halves.
    unsafe fn load_u4(p: *const u8) -> (Self::V, Self::V);
    /// Writes 16 fp32.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// a·b + c, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a·b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number (ties to even), and 2 to its power; for −126 to 127.
    unsafe fn round_pow2(a: Self::V) -> (Self::V, Self::V);

    /// All lanes.
    #[inline(always)]
    unsafe fn lanes(v: Self::V) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: `out` has 16 places; the processor is the caller's promise.
        unsafe { Self::store(out.as_mut_ptr(), v) };
        out
    }

    /// Sum of the lanes, in a fixed order.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        // SAFETY: the processor is the caller's promise.
        let mut lanes = unsafe { Self::lanes(v) };
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }

    /// eˣ to 2 ulp; below −87 it is 0 or nearly, above 88 it stays at e⁸⁸.
    ///
    /// Cody and Waite's reduction to |r| ≤ ln 2 / 2, then the Taylor polynomial of degree 7.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // SAFETY: the processor is the caller's promise.
        unsafe {
            let c = |x: f32| Self::splat(x);
            let negate = |v| Self::sub(c(0.0), v);
            let x = Self::max(x, c(-87.0));
            let x = negate(Self::max(negate(x), c(-88.0)));
            let (n, power) = Self::round_pow2(Self::mul(x, c(std::f32::consts::LOG2_E)));
            let r = Self::fma(n, c(-0.693_359_4), x);
            let r = Self::fma(n, c(2.121_944_4e-4), r);
            let mut y = c(1.0 / 5040.0);
            for k in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
                y = Self::fma(y, r, c(1.0 / k));
            }
            Self::mul(y, power)
        }
    }
}

/// Plain code, for processors with neither of the others, and the reference of both.
#[derive(Clone, Copy)]
pub struct Plain;

impl Simd for Plain {
    type V = [f32; LANES];
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: 16 elements, as the trait asks.
        std::array::from_fn(|i| unsafe { *p.add(i) })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        // SAFETY: 16 elements, as the trait asks.
        std::array::from_fn(|i| f32::from_bits(u32::from(unsafe { *p.add(i) }) << 16))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        // SAFETY: 16 elements, as the trait asks.
        std::array::from_fn(|i| f32::from(unsafe { *p.add(i) }))
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self::V, Self::V) {
        // SAFETY: 16 elements, as the trait asks.
        let at = |i| unsafe { *p.add(i) };
        (
            std::array::from_fn(|i| f32::from(at(i) & 15)),
            std::array::from_fn(|i| f32::from(at(i) >> 4)),
        )
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: 16 elements, as the trait asks.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        // As maxps: the second where either is not a number.
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn round_pow2(a: Self::V) -> (Self::V, Self::V) {
        let n: Self::V = a.map(f32::round_ties_even);
        (n, n.map(|n| f32::from_bits((((n as i32).wrapping_add(127)) << 23) as u32)))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
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

    /// One register.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    impl Simd for Avx512 {
        type V = __m512;
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
}

/// The instructions that this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Neither.
    Plain,
}

/// The widest that the processor has.
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return Level::Avx512;
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Plain
}

/// Defines `$name(level, args)`, which runs the generic `$body` compiled for the level's instructions.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident = $body:ident ( $($arg:ident : $kind:ty),* $(,)? )) => {
        $(#[$doc])*
        pub(crate) unsafe fn $name(level: $crate::simd::Level, $($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($arg: $kind),*) {
                // SAFETY: as the caller of the outer function promises.
                unsafe { $body::<$crate::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $kind),*) {
                // SAFETY: as the caller of the outer function promises.
                unsafe { $body::<$crate::simd::Avx2>($($arg),*) }
            }
            // SAFETY: the level was detected; the rest is the caller's promise.
            unsafe {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Level::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Level::Avx2 => avx2($($arg),*),
                    _ => $body::<$crate::simd::Plain>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;
