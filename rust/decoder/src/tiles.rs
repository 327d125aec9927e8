//! Products of packed weights with a few rows, in registers.
//!
//! A block is [`SIDE`] panels, or one where fewer are left. Blocks are read [`GROUP`] inputs at a
//! time from each panel, so that memory is fetched from several places at once while a panel's sums
//! for up to eight rows stay in registers. Whatever the rows and panels side by side, each result is
//! the same chain of multiply-adds over the inputs.

use std::ops::Range;

use crate::matrix::{GROUP, Matrix, PANEL, Store};
use crate::simd::{LANES, Simd, dispatch};

/// Panels of a block.
pub const SIDE: usize = 4;

/// Bytes that are asked for ahead, shared by the panels read side by side: more than what one core reads
/// in the time memory takes to answer; 2 and 4 KiB were slower, without it eight rows took twice as long.
const AHEAD: usize = 8192;

/// Where results go.
#[derive(Clone, Copy)]
pub struct Target {
    /// `[rows, width]`.
    pub out: *mut f32,
    /// Outputs.
    pub width: usize,
}

// SAFETY: threads write to different outputs.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Rows as the kernels read them.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// For each block of rows in turn `[inputs, rows]`: fp32 bits, or for bf16 weights two rounded
    /// inputs each, the even one in the low half.
    pub x: &'a [u32],
    /// Of the inputs of each group, for weights with a zero: `[rows, groups]`.
    pub sums: &'a [f32],
    /// How many.
    pub count: usize,
}

/// How weights are stored.
trait Format: Copy {
    /// Inputs that share a multiply-add.
    const STEP: usize;
    /// Of a panel's weights for one input.
    const BYTES: usize;
    /// Whether a group's sum is scaled.
    const SCALED: bool;

    /// Adds the products of `STEP` inputs.
    unsafe fn add<S: Simd, const R: usize>(w: *const u8, x: *const u32, sums: &mut [[S::V; 2]; R]);

    /// A group's sum as it counts; `at` is the place of its scales, `shift` the sum of the inputs.
    unsafe fn scale<S: Simd>(self, at: usize, part: S::V, shift: f32, total: S::V) -> S::V;
}

/// What all unscaled formats share.
#[inline(always)]
unsafe fn rank1<S: Simd, const R: usize>(
    x: *const u32,
    (low, high): (S::V, S::V),
    sums: &mut [[S::V; 2]; R],
) {
    // SAFETY: `R` numbers at `x`.
    unsafe {
        for (r, sum) in sums.iter_mut().enumerate() {
            let x = S::splat(f32::from_bits(*x.add(r)));
            sum[0] = S::fma(x, low, sum[0]);
            sum[1] = S::fma(x, high, sum[1]);
        }
    }
}

#[derive(Clone, Copy)]
struct F32;

impl Format for F32 {
    const STEP: usize = 1;
    const BYTES: usize = 4 * PANEL;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize>(w: *const u8, x: *const u32, sums: &mut [[S::V; 2]; R]) {
        // SAFETY: the caller's panel.
        unsafe {
            let w = w.cast();
            rank1::<S, R>(x, (S::load(w), S::load(w.add(LANES))), sums);
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(self, _: usize, part: S::V, _: f32, _: S::V) -> S::V {
        part
    }
}

#[derive(Clone, Copy)]
struct Bf16;

impl Format for Bf16 {
    const STEP: usize = 2;
    const BYTES: usize = 2 * PANEL;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize>(w: *const u8, x: *const u32, sums: &mut [[S::V; 2]; R]) {
        // SAFETY: the caller's panel; `R` pairs at `x`.
        unsafe {
            let w = w.cast::<u16>();
            let halves = [S::load_pairs(w), S::load_pairs(w.add(2 * LANES))];
            for (r, sum) in sums.iter_mut().enumerate() {
                for (sum, half) in sum.iter_mut().zip(halves) {
                    *sum = S::fma_pairs(*x.add(r), half, *sum);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(self, _: usize, part: S::V, _: f32, _: S::V) -> S::V {
        part
    }
}

#[derive(Clone, Copy)]
struct Int8(*const f32);

impl Format for Int8 {
    const STEP: usize = 1;
    const BYTES: usize = PANEL;
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize>(w: *const u8, x: *const u32, sums: &mut [[S::V; 2]; R]) {
        // SAFETY: the caller's panel.
        unsafe {
            let w = w.cast();
            rank1::<S, R>(x, (S::load_i8(w), S::load_i8(w.add(LANES))), sums);
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(self, at: usize, part: S::V, _: f32, total: S::V) -> S::V {
        // SAFETY: the caller's place.
        unsafe { S::fma(part, S::load(self.0.add(at)), total) }
    }
}

/// The panel's halves share bytes.
#[derive(Clone, Copy)]
struct Int4(*const f32, *const f32);

impl Format for Int4 {
    const STEP: usize = 1;
    const BYTES: usize = LANES;
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize>(w: *const u8, x: *const u32, sums: &mut [[S::V; 2]; R]) {
        // SAFETY: the caller's panel.
        unsafe { rank1::<S, R>(x, S::load_u4(w), sums) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(self, at: usize, part: S::V, shift: f32, total: S::V) -> S::V {
        // SAFETY: the caller's place.
        unsafe {
            // Σ(q − z)x = Σqx − zΣx
            let shift = S::mul(S::load(self.1.add(at)), S::splat(shift));
            S::fma(S::sub(part, shift), S::load(self.0.add(at)), total)
        }
    }
}

dispatch! {
    /// The outputs of some panels for all rows.
    tiles = tiles_of(matrix: &Matrix, panels: Range<usize>, rows: Rows<'_>, target: Target)
}

#[inline(always)]
unsafe fn tiles_of<S: Simd>(matrix: &Matrix, panels: Range<usize>, rows: Rows<'_>, target: Target) {
    // SAFETY: the caller's panels and rows exist.
    unsafe {
        match &matrix.store {
            Store::F32(w) => all::<S, _>(F32, matrix, w.as_ptr().cast(), panels, rows, target),
            Store::Bf16(w) => all::<S, _>(Bf16, matrix, w.as_ptr().cast(), panels, rows, target),
            Store::Int8(w, s) => {
                let format = Int8(s.as_ptr());
                all::<S, _>(format, matrix, w.as_ptr().cast(), panels, rows, target);
            }
            Store::Int4(w, s, z) => {
                let format = Int4(s.as_ptr(), z.as_ptr());
                all::<S, _>(format, matrix, w.as_ptr(), panels, rows, target);
            }
        }
    }
}

#[inline(always)]
unsafe fn all<S: Simd, F: Format>(
    format: F,
    matrix: &Matrix,
    w: *const u8,
    panels: Range<usize>,
    rows: Rows<'_>,
    target: Target,
) {
    let mut panel = panels.start;
    while panel < panels.end {
        let wide = panels.end - panel >= SIDE;
        let mut row = 0;
        while row < rows.count {
            let here = S::ROWS.min(rows.count - row);
            macro_rules! block {
                ($rows:literal, $side:literal) => {
                    if wide {
                        block::<S, F, $rows, $side, SIDE>(
                            format, matrix, w, panel, rows, row, target,
                        )
                    } else {
                        block::<S, F, $rows, 1, 1>(format, matrix, w, panel, rows, row, target)
                    }
                };
            }
            // With few rows, panels side by side, so that one addition need not wait for the last.
            // SAFETY: the panels and rows exist.
            unsafe {
                match (here, S::ROWS / here) {
                    (1, 4..) => block!(1, 4),
                    (1, _) => block!(1, 2),
                    (2, 4..) => block!(2, 4),
                    (2, _) => block!(2, 1),
                    (3, 2..) => block!(3, 2),
                    (3, _) => block!(3, 1),
                    (4, _) => block!(4, 2),
                    (5, _) => block!(5, 1),
                    (6, _) => block!(6, 1),
                    (7, _) => block!(7, 1),
                    _ => block!(8, 1),
                }
            }
            row += here;
        }
        panel += if wide { SIDE } else { 1 };
    }
}

/// `R` rows from `row` on, by `N` panels, `P` of them at a time.
#[inline(always)]
unsafe fn block<S: Simd, F: Format, const R: usize, const P: usize, const N: usize>(
    format: F,
    matrix: &Matrix,
    w: *const u8,
    panel: usize,
    rows: Rows<'_>,
    row: usize,
    target: Target,
) {
    let k = matrix.inputs.next_multiple_of(F::STEP);
    let (bytes, groups) = (k * F::BYTES, k.div_ceil(GROUP));
    // SAFETY: each panel has `k` inputs of weights, and so has each block of rows.
    unsafe {
        let x = rows.x.as_ptr().add(row * k / F::STEP);
        let mut totals = [[[S::splat(0.0); 2]; R]; N];
        for group in 0..groups {
            let range = group * GROUP..k.min((group + 1) * GROUP);
            for p in (0..N).step_by(P) {
                let w = w.add((panel + p) * bytes);
                let here = &mut *totals.as_mut_ptr().add(p).cast::<[[[S::V; 2]; R]; P]>();
                if !F::SCALED {
                    chain::<S, F, R, P, N>(w, bytes, x, range.clone(), here);
                    continue;
                }
                let mut part = [[[S::splat(0.0); 2]; R]; P];
                chain::<S, F, R, P, N>(w, bytes, x, range.clone(), &mut part);
                for (q, (part, total)) in part.iter().zip(here).enumerate() {
                    for (r, (part, total)) in part.iter().zip(total).enumerate() {
                        let shift = rows.sums.get((row + r) * groups + group);
                        for half in 0..2 {
                            let at = ((panel + p + q) * groups + group) * PANEL + half * LANES;
                            let shift = shift.copied().unwrap_or(0.0);
                            total[half] = format.scale::<S>(at, part[half], shift, total[half]);
                        }
                    }
                }
            }
        }
        for (p, of_panel) in totals.iter().enumerate() {
            let first = (panel + p) * PANEL;
            for (r, halves) in of_panel.iter().enumerate() {
                put::<S>(
                    halves,
                    target.out.add((row + r) * target.width + first),
                    target.width - first,
                );
            }
        }
    }
}

/// Writes a panel's results for one row, those that there are.
#[inline(always)]
unsafe fn put<S: Simd>(halves: &[S::V; 2], to: *mut f32, room: usize) {
    // SAFETY: the caller's place has `room` numbers, or a panel.
    unsafe {
        if room >= PANEL {
            S::store(to, halves[0]);
            S::store(to.add(LANES), halves[1]);
            return;
        }
        let (low, high) = (S::lanes(halves[0]), S::lanes(halves[1]));
        for (i, x) in low.into_iter().chain(high).take(room).enumerate() {
            *to.add(i) = x;
        }
    }
}

/// Goes on with the sums over `range` of the inputs.
#[inline(always)]
unsafe fn chain<S: Simd, F: Format, const R: usize, const P: usize, const N: usize>(
    w: *const u8,
    bytes: usize,
    x: *const u32,
    range: Range<usize>,
    sums: &mut [[[S::V; 2]; R]; P],
) {
    // Inputs of two cache lines.
    let lines = 128 / F::BYTES;
    let step = AHEAD / P;
    let edge = bytes.saturating_sub(step) / F::BYTES;
    let mut now = *sums;
    // SAFETY: the inputs of the panels and rows exist; asking for what isn't there does nothing.
    unsafe {
        let mut from = range.start;
        while from < range.end {
            // At a panel's end, of the panel in its place in the next block.
            let ahead = if from < edge { step } else { step + (N - 1) * bytes };
            for p in 0..P {
                let at = w.wrapping_add(p * bytes + from * F::BYTES + ahead);
                S::prefetch(at);
                S::prefetch(at.wrapping_add(64));
            }
            let end = range.end.min(from + lines);
            while from < end {
                for (p, sums) in now.iter_mut().enumerate() {
                    let at = w.add(p * bytes + from * F::BYTES);
                    F::add::<S, R>(at, x.add(from / F::STEP * R), sums);
                }
                from += F::STEP;
            }
        }
    }
    *sums = now;
}
