//! Keys and values in pages of [`PAGE`] tokens, and attention over them.
//!
//! A page of keys is stored `[width, PAGE]`, so that the scores of its tokens are the lanes of a
//! vector; values are `[PAGE, width]`. Attention is computed for each query by itself, page by page
//! in order: it depends on what precedes the query, never on how the pages lie, on other sequences,
//! or on how a prompt was cut.

use crate::Error;
use crate::simd::{LANES, Simd, dispatch, to_bf16};

/// Tokens a page.
pub const PAGE: usize = LANES;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// fp32.
    F32,
    /// bf16, rounded to nearest, ties to even.
    Bf16,
    /// Bytes with a scale and a zero for each head and token.
    Int8,
}

enum Store {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    /// x = (q − zero)·scale; scales and zeros `[pages, heads, 2, PAGE]`.
    Int8(Vec<i8>, Vec<f32>),
}

/// Keys or values of one layer.
pub struct Half {
    store: Store,
    transposed: bool,
    heads: usize,
    /// Channels, rounded up to whole vectors.
    width: usize,
}

impl Half {
    fn new(kind: Kind, pages: usize, heads: usize, width: usize, transposed: bool) -> Self {
        let width = width.next_multiple_of(LANES);
        let count = pages * heads * width * PAGE;
        let store = match kind {
            Kind::F32 => Store::F32(vec![0.0; count]),
            Kind::Bf16 => Store::Bf16(vec![0; count]),
            Kind::Int8 => Store::Int8(vec![0; count], vec![0.0; pages * heads * 2 * PAGE]),
        };
        Self { store, transposed, heads, width }
    }

    fn place(&self, page: usize, head: usize) -> usize {
        (page * self.heads + head) * self.width * PAGE
    }

    /// Stores one token's vector.
    fn write(&mut self, page: usize, slot: usize, head: usize, x: &[f32]) {
        let first = self.place(page, head);
        let (from, step) =
            if self.transposed { (first + slot, PAGE) } else { (first + slot * self.width, 1) };
        match &mut self.store {
            Store::F32(to) => {
                for (i, &x) in x.iter().enumerate() {
                    to[from + i * step] = x;
                }
            }
            Store::Bf16(to) => {
                for (i, &x) in x.iter().enumerate() {
                    to[from + i * step] = to_bf16(x);
                }
            }
            Store::Int8(to, scales) => {
                let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
                for &x in x {
                    low = low.min(x);
                    high = high.max(x);
                }
                // 255 steps between the smallest and the largest value of this head and token.
                let scale = ((high - low) / 255.0).max(1e-12);
                let zero = -128.0 - (low / scale).round_ties_even();
                for (i, &x) in x.iter().enumerate() {
                    to[from + i * step] = (x / scale + zero).round_ties_even() as i8;
                }
                let at = (page * self.heads + head) * 2 * PAGE + slot;
                scales[at] = scale;
                scales[at + PAGE] = zero;
            }
        }
    }
}

/// Keys and values of all layers.
pub struct Cache {
    layers: Vec<[Half; 2]>,
    pages: usize,
    width: usize,
}

impl Cache {
    /// Room for `pages` pages in each of `layers` layers.
    pub fn new(kind: Kind, layers: usize, pages: usize, heads: usize, width: usize) -> Self {
        let both = |_| {
            [
                Half::new(kind, pages, heads, width, true),
                Half::new(kind, pages, heads, width, false),
            ]
        };
        Self { layers: (0..layers).map(both).collect(), pages, width }
    }

    /// Pages of each layer.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The layer's keys and values.
    pub fn layer(&self, layer: usize) -> &[Half; 2] {
        &self.layers[layer]
    }

    /// Stores one token's keys and values, `[heads, width]` each.
    pub fn write(&mut self, layer: usize, page: usize, slot: usize, keys: &[f32], values: &[f32]) {
        for (half, x) in self.layers[layer].iter_mut().zip([keys, values]) {
            for (head, x) in x.chunks_exact(self.width).enumerate() {
                half.write(page, slot, head, x);
            }
        }
    }

    /// Whether all of `pages` are there.
    ///
    /// # Errors
    ///
    /// A page that isn't there.
    pub fn check(&self, pages: &[u32]) -> Result<(), Error> {
        match pages.iter().find(|&&page| page as usize >= self.pages) {
            Some(page) => Err(Error::Page(*page, self.pages)),
            None => Ok(()),
        }
    }
}

/// What one query head attends to.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// `[width]`.
    pub q: &'a [f32],
    /// The key and value head.
    pub head: usize,
    /// Pages of the sequence.
    pub table: &'a [u32],
    /// Tokens that are seen.
    pub length: usize,
    /// Factor on q·k.
    pub scale: f32,
}

dispatch! {
    /// Attention of one query head; `out` `[width]`.
    attend = attend_with(kv: &[Half; 2], query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32])
}

#[inline(always)]
unsafe fn attend_with<S: Simd>(
    kv: &[Half; 2],
    query: Query<'_>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Query { q, head, table, length, scale } = query;
    let pages = length.div_ceil(PAGE);
    scores.clear();
    scores.resize(pages * PAGE, f32::NEG_INFINITY);
    let sum_q: f32 = q.iter().sum();
    // SAFETY: pages of the table were checked; a page has `width` times PAGE numbers a head.
    unsafe {
        let mut top = S::splat(f32::NEG_INFINITY);
        for (n, &page) in table[..pages].iter().enumerate() {
            let at = kv[0].place(page as usize, head);
            let mut dots = match &kv[0].store {
                Store::F32(k) => dots::<S, _>(q, k.as_ptr().add(at)),
                Store::Bf16(k) => dots::<S, _>(q, k.as_ptr().add(at)),
                Store::Int8(k, s) => {
                    let raw = dots::<S, _>(q, k.as_ptr().add(at));
                    let s = s.as_ptr().add((page as usize * kv[0].heads + head) * 2 * PAGE);
                    // Σq·(k − z)s = s·(Σqk − zΣq)
                    let shift = S::mul(S::load(s.add(PAGE)), S::splat(sum_q));
                    S::mul(S::sub(raw, shift), S::load(s))
                }
            };
            dots = S::mul(dots, S::splat(scale));
            let valid = (length - n * PAGE).min(PAGE);
            if valid < PAGE {
                let mut lanes = S::lanes(dots);
                lanes[valid..].fill(f32::NEG_INFINITY);
                dots = S::load(lanes.as_ptr());
            }
            top = S::max(dots, top);
            S::store(scores.as_mut_ptr().add(n * PAGE), dots);
        }
        let top = S::lanes(top).into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut total = S::splat(0.0);
        for n in 0..pages {
            let p = scores.as_mut_ptr().add(n * PAGE);
            let y = S::exp(S::sub(S::load(p), S::splat(top)));
            S::store(p, y);
            let valid = (length - n * PAGE).min(PAGE);
            if valid < PAGE {
                // e^−87 is not quite 0.
                std::slice::from_raw_parts_mut(p.add(valid), PAGE - valid).fill(0.0);
            }
            total = S::add(total, S::load(p));
        }
        let total = 1.0 / S::sum(total);
        for p in scores.iter_mut() {
            *p *= total;
        }
        let mut first = 0;
        while first < out.len() {
            let block = (kv[1].width - first).min(8 * LANES);
            let room = (out.len() - first).min(block);
            let to = &mut out[first..first + room];
            match block / LANES {
                8 => mix::<S, 8>(&kv[1], head, table, length, scores, first, to),
                4..8 => mix::<S, 4>(&kv[1], head, table, length, scores, first, to),
                2 | 3 => mix::<S, 2>(&kv[1], head, table, length, scores, first, to),
                _ => mix::<S, 1>(&kv[1], head, table, length, scores, first, to),
            }
            first += match block / LANES {
                8 => 8,
                4..8 => 4,
                2 | 3 => 2,
                _ => 1,
            } * LANES;
        }
    }
}

/// Numbers that a vector is loaded from.
trait Element: Copy {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's 16 elements.
        unsafe { S::load(p) }
    }
}

impl Element for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's 16 elements.
        unsafe { S::load_bf16(p) }
    }
}

impl Element for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's 16 elements.
        unsafe { S::load_i8(p) }
    }
}

/// q·k of a page's tokens; four chains, so that one addition need not wait for the last.
#[inline(always)]
unsafe fn dots<S: Simd, T: Element>(q: &[f32], k: *const T) -> S::V {
    // SAFETY: the caller's page.
    unsafe {
        let mut sums = [S::splat(0.0); 4];
        let whole = q.len() / 4 * 4;
        for i in (0..whole).step_by(4) {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = S::fma(S::splat(q[i + j]), T::load::<S>(k.add((i + j) * PAGE)), *sum);
            }
        }
        for (i, &x) in q.iter().enumerate().skip(whole) {
            sums[0] = S::fma(S::splat(x), T::load::<S>(k.add(i * PAGE)), sums[0]);
        }
        S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]))
    }
}

/// Σ p·v over the tokens, for `N` vectors of channels from `first` on.
#[inline(always)]
unsafe fn mix<S: Simd, const N: usize>(
    values: &Half,
    head: usize,
    table: &[u32],
    length: usize,
    weights: &[f32],
    first: usize,
    out: &mut [f32],
) {
    // SAFETY: pages of the table were checked; a page has PAGE times `width` numbers a head.
    unsafe {
        let mut sums = [S::splat(0.0); N];
        let mut shift = 0.0_f32;
        for (n, &page) in table[..length.div_ceil(PAGE)].iter().enumerate() {
            let at = values.place(page as usize, head) + first;
            let valid = (length - n * PAGE).min(PAGE);
            for slot in 0..valid {
                let (weight, at) = (weights[n * PAGE + slot], at + slot * values.width);
                match &values.store {
                    Store::F32(v) => add::<S, _, N>(weight, v.as_ptr().add(at), &mut sums),
                    Store::Bf16(v) => add::<S, _, N>(weight, v.as_ptr().add(at), &mut sums),
                    Store::Int8(v, s) => {
                        let s = s.as_ptr().add((page as usize * values.heads + head) * 2 * PAGE);
                        let weight = weight * *s.add(slot);
                        shift += weight * *s.add(slot + PAGE);
                        add::<S, _, N>(weight, v.as_ptr().add(at), &mut sums);
                    }
                }
            }
        }
        for (sum, out) in sums.into_iter().zip(out.chunks_mut(LANES)) {
            let lanes = S::lanes(S::sub(sum, S::splat(shift)));
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

#[inline(always)]
unsafe fn add<S: Simd, T: Element, const N: usize>(weight: f32, v: *const T, sums: &mut [S::V; N]) {
    // SAFETY: the caller's `N` vectors.
    unsafe {
        let weight = S::splat(weight);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = S::fma(weight, T::load::<S>(v.add(i * LANES)), *sum);
        }
    }
}
