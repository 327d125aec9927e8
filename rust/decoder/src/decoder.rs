//! The layers, over the new tokens of many sequences at once.

use rayon::prelude::*;

use crate::Error;
use crate::cache::{Cache, PAGE, Query, attend};
use crate::matrix::Matrix;
use crate::simd::{LANES, Level, Simd, dispatch, level};

/// Numbers of an architecture.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Channels of the residual stream.
    pub hidden: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Query heads of each of them.
    pub group: usize,
    /// Channels of a head.
    pub width: usize,
    /// Under the square root of a norm.
    pub eps: f32,
}

/// One layer's weights. Biases are empty where there are none.
pub struct Layer {
    /// Before attention.
    pub attention_norm: Vec<f32>,
    /// `[kv_heads, group + 2, width]` outputs: queries, the key, the value.
    pub wqkv: Matrix,
    /// Of `wqkv`.
    pub wqkv_bias: Vec<f32>,
    /// Back to the residual stream.
    pub wo: Matrix,
    /// Of `wo`.
    pub wo_bias: Vec<f32>,
    /// Before the feed-forward network.
    pub ffn_norm: Vec<f32>,
    /// Gate and up projection, one after the other.
    pub w13: Matrix,
    /// Of `w13`.
    pub w13_bias: Vec<f32>,
    /// Down projection.
    pub w2: Matrix,
    /// Of `w2`.
    pub w2_bias: Vec<f32>,
}

/// Embeddings by id.
pub enum Embedding {
    /// fp32.
    F32(Vec<f32>),
    /// bf16 bits.
    Bf16(Vec<u16>),
}

/// New tokens of one sequence.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Tokens of the sequence that are in the cache already.
    pub start: usize,
    /// New tokens.
    pub count: usize,
    /// Pages for all of them, in order.
    pub table: Vec<u32>,
}

/// A model with its cache.
pub struct Decoder {
    shape: Shape,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Matrix,
    /// `[positions, width / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
    cache: Cache,
    level: Level,
}

impl Decoder {
    /// Puts a model together.
    ///
    /// # Errors
    ///
    /// Parts that don't fit each other.
    #[allow(clippy::too_many_arguments, reason = "each is one part")]
    pub fn new(
        shape: Shape,
        embedding: Embedding,
        layers: Vec<Layer>,
        norm: Vec<f32>,
        head: Matrix,
        cos: Vec<f32>,
        sin: Vec<f32>,
        cache: Cache,
    ) -> Result<Self, Error> {
        let Shape { hidden, kv_heads, group, width, .. } = shape;
        let rows = kv_heads * (group + 2) * width;
        let heads = kv_heads * group * width;
        let wrong = |what: &str| Err(Error::Shape(format!("{what} of another shape")));
        let entries = match &embedding {
            Embedding::F32(x) => x.len(),
            Embedding::Bf16(x) => x.len(),
        };
        if entries != head.outputs() * hidden || head.inputs() != hidden || norm.len() != hidden {
            return wrong("embeddings, last norm or output head");
        }
        if cos.len() != sin.len() || !cos.len().is_multiple_of(width / 2) {
            return wrong("rotary tables");
        }
        let bias = |b: &Vec<f32>, m: &Matrix| b.is_empty() || b.len() == m.outputs();
        for layer in &layers {
            let inner = layer.w2.inputs();
            let fits = [
                (&layer.wqkv, rows, hidden, &layer.wqkv_bias),
                (&layer.wo, hidden, heads, &layer.wo_bias),
                (&layer.w13, 2 * inner, hidden, &layer.w13_bias),
                (&layer.w2, hidden, inner, &layer.w2_bias),
            ]
            .iter()
            .all(|(m, out, r#in, b)| m.outputs() == *out && m.inputs() == *r#in && bias(b, m));
            if !fits || layer.attention_norm.len() != hidden || layer.ffn_norm.len() != hidden {
                return wrong("a layer");
            }
        }
        Ok(Self { shape, embedding, layers, norm, head, cos, sin, cache, level: level() })
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let layer = |l: &Layer| -> usize {
            [&l.wqkv, &l.wo, &l.w13, &l.w2].into_iter().map(Matrix::bytes).sum()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes()
    }

    /// Reads new tokens into the cache; gives the last hidden states of `wanted` rows, normed.
    ///
    /// # Errors
    ///
    /// Ids, pages, positions or rows that aren't there.
    pub fn hidden(
        &mut self,
        ids: &[u32],
        segments: &[Segment],
        wanted: &[u32],
    ) -> Result<Vec<f32>, Error> {
        self.check(ids, segments, wanted)?;
        let level = self.level;
        let Shape { hidden, kv_heads, group, width, eps } = self.shape;
        let rows = ids.len();
        let mut x = self.embed(ids);
        // Sequence and position of each row.
        let places: Vec<(usize, usize)> = segments
            .iter()
            .enumerate()
            .flat_map(|(s, part)| (part.start..part.start + part.count).map(move |p| (s, p)))
            .collect();
        let scale = (width as f32).powf(-0.5);
        let per_row = kv_heads * (group + 2) * width;
        for number in 0..self.layers.len() {
            let layer = &self.layers[number];
            let normal = rms_norm(level, &x, &layer.attention_norm, eps);
            let mut qkv = layer.wqkv.product(level, &normal, rows);
            add_bias(&mut qkv, &layer.wqkv_bias);
            let half = width / 2;
            let (cos, sin) = (&self.cos, &self.sin);
            let turn = |(row, &(_, position)): (&mut [f32], &(usize, usize))| {
                let (cos, sin) = (&cos[position * half..][..half], &sin[position * half..][..half]);
                for heads in row.chunks_exact_mut((group + 2) * width) {
                    for head in heads[..(group + 1) * width].chunks_exact_mut(width) {
                        let (a, b) = head.split_at_mut(half);
                        for i in 0..half {
                            let (x, y) = (a[i], b[i]);
                            a[i] = x * cos[i] - y * sin[i];
                            b[i] = y * cos[i] + x * sin[i];
                        }
                    }
                }
            };
            qkv.chunks_exact_mut(per_row).zip(&places).for_each(turn);
            let mut key = vec![0.0; kv_heads * width];
            let mut value = key.clone();
            for (row, &(segment, position)) in qkv.chunks_exact(per_row).zip(&places) {
                for head in 0..kv_heads {
                    let at = (head * (group + 2) + group) * width;
                    key[head * width..][..width].copy_from_slice(&row[at..][..width]);
                    value[head * width..][..width].copy_from_slice(&row[at + width..][..width]);
                }
                let page = segments[segment].table[position / PAGE] as usize;
                self.cache.write(number, page, position % PAGE, &key, &value);
            }
            let kv = self.cache.layer(number);
            let mut mixed = vec![0.0; rows * kv_heads * group * width];
            let one = |(n, out): (usize, &mut [f32])| {
                let (row, head) = (n / kv_heads, n % kv_heads);
                let (segment, position) = places[row];
                let mut scores = Vec::new();
                for (g, out) in out.chunks_exact_mut(width).enumerate() {
                    let at = row * per_row + (head * (group + 2) + g) * width;
                    let query = Query {
                        q: &qkv[at..at + width],
                        head,
                        table: &segments[segment].table,
                        length: position + 1,
                        scale,
                    };
                    // SAFETY: `check` saw that all pages are there.
                    unsafe { attend(level, kv, query, &mut scores, out) }
                }
            };
            let work: usize = places.iter().map(|place| place.1 + 1).sum::<usize>() * kv_heads;
            if work * group * width < 1 << 16 {
                mixed.chunks_exact_mut(group * width).enumerate().for_each(one);
            } else {
                mixed.par_chunks_exact_mut(group * width).enumerate().for_each(one);
            }
            let layer = &self.layers[number];
            let mut out = layer.wo.product(level, &mixed, rows);
            add_bias(&mut out, &layer.wo_bias);
            add(&mut x, &out);
            let normal = rms_norm(level, &x, &layer.ffn_norm, eps);
            let mut both = layer.w13.product(level, &normal, rows);
            add_bias(&mut both, &layer.w13_bias);
            let gated = swiglu(level, &both, layer.w2.inputs());
            let mut out = layer.w2.product(level, &gated, rows);
            add_bias(&mut out, &layer.w2_bias);
            add(&mut x, &out);
        }
        let kept: Vec<f32> = wanted
            .iter()
            .flat_map(|&row| x[row as usize * hidden..][..hidden].iter().copied())
            .collect();
        Ok(rms_norm(level, &kept, &self.norm, eps))
    }

    /// Logits `[rows, vocabulary]` of what [`Self::hidden`] gave.
    pub fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        self.head.product(self.level, hidden, hidden.len() / self.shape.hidden)
    }

    /// log Σ eˣ of each row of logits.
    pub fn log_sums(&self, logits: &[f32]) -> Vec<f32> {
        let one = |row: &[f32]| {
            let mut sum = 0.0;
            // SAFETY: the level was detected.
            unsafe { log_sum_exp(self.level, row, &mut sum) };
            sum
        };
        logits.par_chunks_exact(self.head.outputs()).map(one).collect()
    }

    /// log p of one label a row of `hidden`, without holding all logits at once.
    ///
    /// # Errors
    ///
    /// A label outside the vocabulary.
    pub fn log_probs(&self, hidden: &[f32], labels: &[u32]) -> Result<Vec<f32>, Error> {
        let (width, entries) = (self.shape.hidden, self.head.outputs());
        if let Some(&label) = labels.iter().find(|&&label| label as usize >= entries) {
            return Err(Error::Token(label, entries));
        }
        // About 16 MB of logits at a time.
        let rows = ((1 << 22) / entries).max(8);
        let mut result = Vec::with_capacity(labels.len());
        for (hidden, labels) in hidden.chunks(rows * width).zip(labels.chunks(rows)) {
            let logits = self.logits(hidden);
            let rows = logits.chunks_exact(entries).zip(labels).zip(self.log_sums(&logits));
            result.extend(rows.map(|((row, &label), sum)| row[label as usize] - sum));
        }
        Ok(result)
    }

    fn check(&self, ids: &[u32], segments: &[Segment], wanted: &[u32]) -> Result<(), Error> {
        let entries = self.head.outputs();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= entries) {
            return Err(Error::Token(id, entries));
        }
        if segments.iter().map(|part| part.count).sum::<usize>() != ids.len()
            || wanted.iter().any(|&row| row as usize >= ids.len())
        {
            return Err(Error::Shape("segments or rows that don't fit the ids".into()));
        }
        let positions = self.cos.len() / (self.shape.width / 2);
        for part in segments {
            let end = part.start + part.count;
            if end > positions || end > part.table.len() * PAGE {
                return Err(Error::Shape(format!(
                    "{end} tokens in a session of {positions} and {} pages",
                    part.table.len()
                )));
            }
            self.cache.check(&part.table)?;
        }
        Ok(())
    }

    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        let width = self.shape.hidden;
        let at = |id: &u32| *id as usize * width..(*id as usize + 1) * width;
        match &self.embedding {
            Embedding::F32(table) => ids.iter().flat_map(|id| table[at(id)].to_vec()).collect(),
            Embedding::Bf16(table) => ids
                .iter()
                .flat_map(|id| table[at(id)].iter().map(|&x| f32::from_bits(u32::from(x) << 16)))
                .collect(),
        }
    }
}

fn add_bias(x: &mut [f32], bias: &[f32]) {
    if !bias.is_empty() {
        x.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn rms_norm(level: Level, x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    // SAFETY: the level was detected.
    unsafe { rms_norm_rows(level, x, weight, eps, &mut out) };
    out
}

dispatch! {
    /// x/√(mean x² + eps)·weight for each row.
    rms_norm_rows = rms_norm_with(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32])
}

#[inline(always)]
unsafe fn rms_norm_with<S: Simd>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let whole = width / LANES * LANES;
        // SAFETY: whole vectors of the row.
        let mut sum = unsafe {
            let mut sum = S::splat(0.0);
            for i in (0..whole).step_by(LANES) {
                let x = S::load(x.as_ptr().add(i));
                sum = S::fma(x, x, sum);
            }
            S::sum(sum)
        };
        for x in &x[whole..] {
            sum += x * x;
        }
        let factor = 1.0 / (sum / width as f32 + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * factor * w;
        }
    }
}

fn swiglu(level: Level, both: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; both.len() / 2];
    let one = |(both, out): (&[f32], &mut [f32])| {
        // SAFETY: the level was detected.
        unsafe { swiglu_row(level, both, out) }
    };
    if out.len() < 1 << 15 {
        both.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)).for_each(one);
    } else {
        both.par_chunks_exact(2 * width).zip(out.par_chunks_exact_mut(width)).for_each(one);
    }
    out
}

dispatch! {
    /// silu(gate)·up; `both` is the gate, then up.
    swiglu_row = swiglu_with(both: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn swiglu_with<S: Simd>(both: &[f32], out: &mut [f32]) {
    let width = out.len();
    let (gate, up) = both.split_at(width);
    let mut part = [0.0; LANES];
    for i in (0..width).step_by(LANES) {
        let here = LANES.min(width - i);
        // SAFETY: `part` is one vector.
        let e = unsafe {
            part[..here].copy_from_slice(&gate[i..i + here]);
            S::lanes(S::exp(S::sub(S::splat(0.0), S::load(part.as_ptr()))))
        };
        for j in 0..here {
            out[i + j] = gate[i + j] / (1.0 + e[j]) * up[i + j];
        }
    }
}

dispatch! {
    /// log Σ eˣ.
    log_sum_exp = log_sum_exp_with(x: &[f32], out: &mut f32)
}

#[inline(always)]
unsafe fn log_sum_exp_with<S: Simd>(x: &[f32], out: &mut f32) {
    let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let whole = x.len() / LANES * LANES;
    // SAFETY: whole vectors.
    let mut sum = unsafe {
        let mut sum = S::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            sum = S::add(sum, S::exp(S::sub(S::load(x.as_ptr().add(i)), S::splat(top))));
        }
        S::sum(sum)
    };
    for x in &x[whole..] {
        sum += (x - top).exp();
    }
    *out = top + sum.ln();
}
