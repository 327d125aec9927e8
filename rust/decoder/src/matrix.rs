//! A weight matrix packed for products with few rows or many, and the product.
//!
//! Outputs are cut into panels of [`PANEL`]; a panel holds, for each input in turn, the weights of
//! its outputs. Each result is one chain of fused multiply-adds over the inputs in order (for
//! quantised weights: one a group, then over the groups), whatever the number of rows, the
//! instructions or the threads. So the result for a row never depends on its company.

use std::ops::Range;

use rayon::prelude::*;

use crate::Error;
use crate::simd::{LANES, Level, Simd, dispatch};

/// Outputs of a panel.
pub const PANEL: usize = 2 * LANES;

/// Rows of 4-bit and 8-bit weights share a scale over this many inputs.
pub const GROUP: usize = 128;

/// Weights `[outputs, inputs]` as they come, row-major.
pub enum Source<'a> {
    /// fp32.
    F32(&'a [f32]),
    /// bf16 bits.
    Bf16(&'a [u16]),
    /// Signed bytes, and scales `[outputs, ⌈inputs / 128⌉]`: w = q·s.
    Int8(&'a [i8], &'a [f32]),
    /// Numbers 0 to 15 in a byte each, scales and zeros as above: w = (q − z)·s.
    Int4(&'a [u8], &'a [f32], &'a [f32]),
}

enum Store {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    Int8(Vec<i8>, Vec<f32>),
    Int4(Vec<u8>, Vec<f32>, Vec<f32>),
}

/// A packed matrix.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    store: Store,
}

/// `[outputs, per]` to `[panels, per, PANEL]`, with `fill` beyond the last output.
fn panels<T: Copy + Send + Sync>(from: &[T], outputs: usize, per: usize, fill: T) -> Vec<T> {
    let mut to = vec![fill; outputs.div_ceil(PANEL) * per * PANEL];
    to.par_chunks_mut(per * PANEL).enumerate().for_each(|(panel, to)| {
        for lane in 0..PANEL.min(outputs - panel * PANEL) {
            let row = &from[(panel * PANEL + lane) * per..][..per];
            for (i, &x) in row.iter().enumerate() {
                to[i * PANEL + lane] = x;
            }
        }
    });
    to
}

impl Matrix {
    /// Packs `source`.
    ///
    /// # Errors
    ///
    /// Numbers of elements that don't fit the shape.
    pub fn pack(outputs: usize, inputs: usize, source: &Source<'_>) -> Result<Self, Error> {
        let (whole, scales) = (outputs * inputs, outputs * inputs.div_ceil(GROUP));
        let fits = match source {
            Source::F32(w) => w.len() == whole,
            Source::Bf16(w) => w.len() == whole,
            Source::Int8(w, s) => w.len() == whole && s.len() == scales,
            Source::Int4(w, s, z) => w.len() == whole && s.len() == scales && z.len() == scales,
        };
        if !fits || whole == 0 {
            return Err(Error::Shape(format!("weights that are not [{outputs}, {inputs}]")));
        }
        let groups = inputs.div_ceil(GROUP);
        let store = match source {
            Source::F32(w) => Store::F32(panels(w, outputs, inputs, 0.0)),
            Source::Bf16(w) => Store::Bf16(panels(w, outputs, inputs, 0)),
            Source::Int8(w, s) => {
                Store::Int8(panels(w, outputs, inputs, 0), panels(s, outputs, groups, 0.0))
            }
            Source::Int4(w, s, z) => {
                // The two halves of a panel share bytes.
                let wide = panels(w, outputs, inputs, 0);
                let narrow = wide
                    .chunks_exact(PANEL)
                    .flat_map(|p| (0..LANES).map(|i| (p[i] & 15) | (p[i + LANES] << 4)))
                    .collect();
                Store::Int4(
                    narrow,
                    panels(s, outputs, groups, 0.0),
                    panels(z, outputs, groups, 0.0),
                )
            }
        };
        Ok(Self { outputs, inputs, store })
    }

    /// Rows of the weights.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the weights.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::F32(w) => 4 * w.len(),
            Store::Bf16(w) => 2 * w.len(),
            Store::Int8(w, s) => w.len() + 4 * s.len(),
            Store::Int4(w, s, z) => w.len() + 4 * (s.len() + z.len()),
        }
    }

    /// `x` `[rows, inputs]` times the transposed weights, `[rows, outputs]`.
    pub fn product(&self, level: Level, x: &[f32], rows: usize) -> Vec<f32> {
        assert_eq!(x.len(), rows * self.inputs, "rows of another width");
        let mut out = vec![0.0; rows * self.outputs];
        // Of the inputs of each group, for weights with a zero: the same for all panels.
        let sums: Vec<f32> = match self.store {
            Store::Int4(..) => x
                .chunks_exact(self.inputs)
                .flat_map(|row| row.chunks(GROUP).map(|part| part.iter().sum::<f32>()))
                .collect(),
            _ => Vec::new(),
        };
        let count = self.outputs.div_ceil(PANEL);
        // Enough shares that a thread which is held up holds up little, none too small to be worth it.
        let share = count.div_ceil(8 * rayon::current_num_threads()).next_multiple_of(4);
        let small = rows * self.inputs * self.outputs < 1 << 15;
        let target = Target { out: out.as_mut_ptr(), width: self.outputs };
        let work = |first: usize| {
            let panels = first..(first + share).min(count);
            // SAFETY: `x` has `rows` rows, `out` room for them, and no two panels share outputs.
            unsafe { tiles(level, self, panels, x, &sums, rows, target) }
        };
        if small {
            (0..count).step_by(share).for_each(work);
        } else {
            (0..count.div_ceil(share)).into_par_iter().for_each(|i| work(i * share));
        }
        out
    }
}

/// Where results go.
#[derive(Clone, Copy)]
pub struct Target {
    out: *mut f32,
    width: usize,
}

// SAFETY: threads write to different outputs.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

dispatch! {
    /// The outputs of some panels for all rows.
    tiles = tiles_of(matrix: &Matrix, panels: Range<usize>, x: &[f32], sums: &[f32], rows: usize, target: Target)
}

#[inline(always)]
unsafe fn tiles_of<S: Simd>(
    matrix: &Matrix,
    panels: Range<usize>,
    x: &[f32],
    sums: &[f32],
    rows: usize,
    target: Target,
) {
    let mut panel = panels.start;
    while panel < panels.end {
        // With few rows, panels side by side, so that one addition need not wait for the last.
        let left = panels.end - panel;
        let wide = [4, 2].into_iter().find(|&wide| wide * rows <= S::ROWS && wide <= left);
        let p = x.as_ptr();
        // SAFETY: the panels and rows exist.
        unsafe {
            match (wide.unwrap_or(1), rows) {
                (4, 1) => tile::<S, 1, 4>(matrix, panel, p, sums, 0, target),
                (4, _) => tile::<S, 2, 4>(matrix, panel, p, sums, 0, target),
                (2, 1) => tile::<S, 1, 2>(matrix, panel, p, sums, 0, target),
                (2, 2) => tile::<S, 2, 2>(matrix, panel, p, sums, 0, target),
                (2, 3) => tile::<S, 3, 2>(matrix, panel, p, sums, 0, target),
                (2, _) => tile::<S, 4, 2>(matrix, panel, p, sums, 0, target),
                _ => one_panel::<S>(matrix, panel, x, sums, rows, target),
            }
        }
        panel += wide.unwrap_or(1);
    }
}

#[inline(always)]
unsafe fn one_panel<S: Simd>(
    matrix: &Matrix,
    panel: usize,
    x: &[f32],
    sums: &[f32],
    rows: usize,
    target: Target,
) {
    let mut row = 0;
    while row < rows {
        let here = S::ROWS.min(rows - row);
        // SAFETY: `here` rows from `row` exist.
        unsafe {
            let x = x.as_ptr().add(row * matrix.inputs);
            match here {
                1 => tile::<S, 1, 1>(matrix, panel, x, sums, row, target),
                2 => tile::<S, 2, 1>(matrix, panel, x, sums, row, target),
                3 => tile::<S, 3, 1>(matrix, panel, x, sums, row, target),
                4 => tile::<S, 4, 1>(matrix, panel, x, sums, row, target),
                5 => tile::<S, 5, 1>(matrix, panel, x, sums, row, target),
                6 => tile::<S, 6, 1>(matrix, panel, x, sums, row, target),
                7 => tile::<S, 7, 1>(matrix, panel, x, sums, row, target),
                _ => tile::<S, 8, 1>(matrix, panel, x, sums, row, target),
            }
        }
        row += here;
    }
}

/// `R` rows from `x` on, by `P` panels.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const P: usize>(
    matrix: &Matrix,
    panel: usize,
    x: *const f32,
    sums: &[f32],
    row: usize,
    target: Target,
) {
    let k = matrix.inputs;
    let groups = k.div_ceil(GROUP);
    // SAFETY: each panel has `k` times PANEL weights, `x` has `R` rows of `k`.
    let found = unsafe {
        match &matrix.store {
            Store::F32(w) => {
                let w = std::array::from_fn(|p| w.as_ptr().add((panel + p) * k * PANEL));
                chain::<S, _, R, P>(x, k, 0..k, w)
            }
            Store::Bf16(w) => {
                let w = std::array::from_fn(|p| w.as_ptr().add((panel + p) * k * PANEL));
                chain::<S, _, R, P>(x, k, 0..k, w)
            }
            Store::Int8(w, s) => {
                let w = std::array::from_fn(|p| w.as_ptr().add((panel + p) * k * PANEL));
                let s = s.as_ptr().add(panel * groups * PANEL);
                let mut total = [[[S::splat(0.0); 2]; P]; R];
                for group in 0..groups {
                    let range = group * GROUP..k.min((group + 1) * GROUP);
                    let part = chain::<S, _, R, P>(x, k, range, w);
                    for p in 0..P {
                        for half in 0..2 {
                            let at = (p * groups + group) * PANEL + half * LANES;
                            let scale = S::load(s.add(at));
                            for r in 0..R {
                                let sum = &mut total[r][p][half];
                                *sum = S::fma(part[r][p][half], scale, *sum);
                            }
                        }
                    }
                }
                total
            }
            Store::Int4(w, s, z) => {
                let w = std::array::from_fn(|p| Nibbles(w.as_ptr().add((panel + p) * k * LANES)));
                let s = s.as_ptr().add(panel * groups * PANEL);
                let z = z.as_ptr().add(panel * groups * PANEL);
                let mut total = [[[S::splat(0.0); 2]; P]; R];
                for group in 0..groups {
                    let range = group * GROUP..k.min((group + 1) * GROUP);
                    let part = chain::<S, _, R, P>(x, k, range, w);
                    for p in 0..P {
                        for half in 0..2 {
                            let at = (p * groups + group) * PANEL + half * LANES;
                            let (scale, zero) = (S::load(s.add(at)), S::load(z.add(at)));
                            for r in 0..R {
                                // Σ(q − z)x = Σqx − zΣx
                                let shift =
                                    S::mul(zero, S::splat(sums[(row + r) * groups + group]));
                                let value = S::sub(part[r][p][half], shift);
                                total[r][p][half] = S::fma(value, scale, total[r][p][half]);
                            }
                        }
                    }
                }
                total
            }
        }
    };
    for (r, of_row) in found.iter().enumerate() {
        for (p, sums) in of_row.iter().enumerate() {
            let first = (panel + p) * PANEL;
            let width = PANEL.min(matrix.outputs - first);
            // SAFETY: the row and the outputs from `first` on exist in `out`.
            unsafe {
                let to = target.out.add((row + r) * target.width + first);
                if width == PANEL {
                    S::store(to, sums[0]);
                    S::store(to.add(LANES), sums[1]);
                } else {
                    let (low, high) = (S::lanes(sums[0]), S::lanes(sums[1]));
                    for i in 0..width {
                        *to.add(i) = if i < LANES { low[i] } else { high[i - LANES] };
                    }
                }
            }
        }
    }
}

/// Where a panel's weights of one input are read.
trait Weights: Copy {
    /// Of the panel's two halves.
    unsafe fn of<S: Simd>(self, input: usize) -> (S::V, S::V);
}

impl Weights for *const f32 {
    #[inline(always)]
    unsafe fn of<S: Simd>(self, input: usize) -> (S::V, S::V) {
        // SAFETY: the caller's inputs exist.
        unsafe { (S::load(self.add(input * PANEL)), S::load(self.add(input * PANEL + LANES))) }
    }
}

impl Weights for *const u16 {
    #[inline(always)]
    unsafe fn of<S: Simd>(self, input: usize) -> (S::V, S::V) {
        // SAFETY: the caller's inputs exist.
        unsafe {
            let p = self.add(input * PANEL);
            (S::load_bf16(p), S::load_bf16(p.add(LANES)))
        }
    }
}

impl Weights for *const i8 {
    #[inline(always)]
    unsafe fn of<S: Simd>(self, input: usize) -> (S::V, S::V) {
        // SAFETY: the caller's inputs exist.
        unsafe {
            let p = self.add(input * PANEL);
            (S::load_i8(p), S::load_i8(p.add(LANES)))
        }
    }
}

/// 4-bit numbers: the panel's halves share bytes.
#[derive(Clone, Copy)]
struct Nibbles(*const u8);

impl Weights for Nibbles {
    #[inline(always)]
    unsafe fn of<S: Simd>(self, input: usize) -> (S::V, S::V) {
        // SAFETY: the caller's inputs exist.
        unsafe { S::load_u4(self.0.add(input * LANES)) }
    }
}

/// One chain of multiply-adds a result, over `range` of the inputs.
#[inline(always)]
unsafe fn chain<S: Simd, W: Weights, const R: usize, const P: usize>(
    x: *const f32,
    stride: usize,
    range: Range<usize>,
    weights: [W; P],
) -> [[[S::V; 2]; P]; R] {
    // SAFETY: `x` has `R` rows of `stride`, and `range` lies inside.
    unsafe {
        let mut sums = [[[S::splat(0.0); 2]; P]; R];
        for i in range {
            for p in 0..P {
                let (low, high) = weights[p].of::<S>(i);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = S::splat(*x.add(r * stride + i));
                    sum[p][0] = S::fma(x, low, sum[p][0]);
                    sum[p][1] = S::fma(x, high, sum[p][1]);
                }
            }
        }
        sums
    }
}
