//! A weight matrix packed for products with few rows or many, and the product.
//!
//! Outputs are cut into panels of [`PANEL`]; a panel holds, for each input in turn, the weights of
//! its outputs. Each result is one chain of fused multiply-adds over the inputs in order (for
//! quantised weights: one a group, then over the groups), whatever the number of rows, the
//! instructions or the threads. So the result for a row never depends on its company.
//!
//! With bf16 weights the inputs are rounded to bf16 as well, and go in pairs, the odd one first: the
//! order of `vdpbf16ps`, which rounds after each of the two. (It takes numbers below 2⁻¹²⁶ for 0.)

use rayon::prelude::*;

use crate::Error;
use crate::simd::{LANES, Level, to_bf16};
use crate::tiles::{Rows, SIDE, Target, tiles};

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

pub(crate) enum Store {
    F32(Vec<f32>),
    /// Pairs of inputs side by side; an odd last one has a 0 beside it.
    Bf16(Vec<u16>),
    Int8(Vec<i8>, Vec<f32>),
    Int4(Vec<u8>, Vec<f32>, Vec<f32>),
}

/// A packed matrix.
pub struct Matrix {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) store: Store,
}

/// `[outputs, per]` to `[panels, per / step, PANEL, step]`, with `fill` where there is nothing.
fn panels<T: Copy + Send + Sync>(
    from: &[T],
    outputs: usize,
    per: usize,
    step: usize,
    fill: T,
) -> Vec<T> {
    let size = per.next_multiple_of(step) * PANEL;
    let mut to = vec![fill; outputs.div_ceil(PANEL) * size];
    to.par_chunks_mut(size).enumerate().for_each(|(panel, to)| {
        for lane in 0..PANEL.min(outputs - panel * PANEL) {
            let row = &from[(panel * PANEL + lane) * per..][..per];
            for (i, &x) in row.iter().enumerate() {
                to[(i / step * PANEL + lane) * step + i % step] = x;
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
            Source::F32(w) => Store::F32(panels(w, outputs, inputs, 1, 0.0)),
            Source::Bf16(w) => Store::Bf16(panels(w, outputs, inputs, 2, 0)),
            Source::Int8(w, s) => {
                Store::Int8(panels(w, outputs, inputs, 1, 0), panels(s, outputs, groups, 1, 0.0))
            }
            Source::Int4(w, s, z) => {
                // The two halves of a panel share bytes.
                let wide = panels(w, outputs, inputs, 1, 0);
                let narrow = wide
                    .chunks_exact(PANEL)
                    .flat_map(|p| (0..LANES).map(|i| (p[i] & 15) | (p[i + LANES] << 4)))
                    .collect();
                Store::Int4(
                    narrow,
                    panels(s, outputs, groups, 1, 0.0),
                    panels(z, outputs, groups, 1, 0.0),
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
        let packed = self.rows(x, level.rows());
        let rows = Rows { x: &packed, sums: &sums, count: rows };
        let count = self.outputs.div_ceil(PANEL);
        // Enough shares that a thread which is held up holds up little, none too small to be worth it.
        let share = count.div_ceil(8 * rayon::current_num_threads()).next_multiple_of(SIDE);
        let small = x.len() * self.outputs < 1 << 15;
        let target = Target { out: out.as_mut_ptr(), width: self.outputs };
        let work = |first: usize| {
            let panels = first..(first + share).min(count);
            // SAFETY: `rows` are all there, `out` has room for them, no two panels share outputs.
            unsafe { tiles(level, self, panels, rows, target) }
        };
        if small {
            (0..count).step_by(share).for_each(work);
        } else {
            (0..count.div_ceil(share)).into_par_iter().for_each(|i| work(i * share));
        }
        out
    }

    /// As [`Rows::x`], in blocks of `most` rows.
    fn rows(&self, x: &[f32], most: usize) -> Vec<u32> {
        let k = self.inputs;
        let pairs = matches!(self.store, Store::Bf16(_));
        let size = if pairs { k.div_ceil(2) } else { k };
        let mut to = vec![0; x.len() / k * size];
        let one = |(to, x): (&mut [u32], &[f32])| {
            let rows = x.len() / k;
            for (r, x) in x.chunks_exact(k).enumerate() {
                let to = to[r..].iter_mut().step_by(rows);
                if pairs {
                    for (to, pair) in to.zip(x.chunks(2)) {
                        let odd = pair.get(1).map_or(0, |&x| to_bf16(x));
                        *to = u32::from(to_bf16(pair[0])) | u32::from(odd) << 16;
                    }
                } else {
                    to.zip(x).for_each(|(to, x)| *to = x.to_bits());
                }
            }
        };
        if x.len() < 1 << 16 {
            to.chunks_mut(most * size).zip(x.chunks(most * k)).for_each(one);
        } else {
            to.par_chunks_mut(most * size).zip(x.par_chunks(most * k)).for_each(one);
        }
        to
    }
}
