//! Sixteen fp32 lanes on whatever the processor has.
//!
//! Every operation rounds once, lane by lane, so AVX-512, AVX2 and plain code give the same bits.
//! (`vdpbf16ps` multiplies and adds twice, and rounds after each; the others do as it does.)

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Nearest bf16, ties to even.
#[inline(always)]
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 64;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Sixteen numbers and what is done with them.
///
/// # Safety
///
/// Callers of any method make sure that the processor has the implementation's instructions, and
/// that pointers are valid for the elements named.
pub trait Simd: Copy + 'static {
    /// The lanes.
    type V: Copy;
    /// Sixteen pairs of bf16.
    type Pairs: Copy;
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
    /// 32 bf16.
    unsafe fn load_pairs(p: *const u16) -> Self::Pairs;
    /// a₁·b₁ + c, rounded, then a₀·b₀ + that, rounded; `a` holds a₀ in its low half.
    unsafe fn fma_pairs(a: u32, b: Self::Pairs, c: Self::V) -> Self::V;
    /// Asks for a line of memory.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
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
    type Pairs = [[u16; 2]; LANES];
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
    unsafe fn load_pairs(p: *const u16) -> Self::Pairs {
        // SAFETY: 32 elements, as the trait asks.
        std::array::from_fn(|i| unsafe { [*p.add(2 * i), *p.add(2 * i + 1)] })
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: u32, b: Self::Pairs, c: Self::V) -> Self::V {
        let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
        let [low, high] = [f32::from_bits(a << 16), f32::from_bits(a & 0xffff_0000)];
        std::array::from_fn(|i| low.mul_add(wide(b[i][0]), high.mul_add(wide(b[i][1]), c[i])))
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
mod x86;

/// The instructions that this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512F and AVX512_BF16.
    Avx512Bf16,
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Neither.
    Plain,
}

impl Level {
    /// Rows that a matrix product has registers for.
    pub(crate) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 | Self::Avx512 => Avx512::<false>::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::ROWS,
            _ => Plain::ROWS,
        }
    }
}

/// The widest that the processor has.
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            if std::is_x86_feature_detected!("avx512bf16") {
                return Level::Avx512Bf16;
            }
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
            #[target_feature(enable = "avx512f,avx512bf16")]
            unsafe fn avx512_bf16($($arg: $kind),*) {
                // SAFETY: as the caller of the outer function promises.
                unsafe { $body::<$crate::simd::Avx512<true>>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($arg: $kind),*) {
                // SAFETY: as the caller of the outer function promises.
                unsafe { $body::<$crate::simd::Avx512<false>>($($arg),*) }
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
                    $crate::simd::Level::Avx512Bf16 => avx512_bf16($($arg),*),
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
