//! The instructions, the rows beside and the order of pages change no bit.

use internlm_decoder::Level;
use internlm_decoder::cache::{Cache, Kind, PAGE};
use internlm_decoder::decoder::{Decoder, Embedding, Layer, Segment, Shape};
use internlm_decoder::matrix::{GROUP, Matrix, Source};

/// Numbers in −1 to 1, the same each time (SplitMix64).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn levels() -> Vec<Level> {
    let mut found = vec![Level::Plain];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Level::Avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            found.push(Level::Avx512);
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            found.push(Level::Avx512Bf16);
        }
    }
    found
}

/// The nearest bf16 where it is no tie: to 8 bits of the significand.
fn rounded(x: f32) -> f32 {
    let step = 2_f32.powi(x.abs().log2().floor() as i32 - 7);
    (x / step).round() * step
}

/// Each with its weights, and whether it rounds its inputs.
fn matrices(outputs: usize, inputs: usize) -> Vec<(Matrix, Vec<f64>, bool)> {
    let w = numbers(outputs * inputs, 1);
    let groups = inputs.div_ceil(GROUP);
    let scales: Vec<f32> =
        numbers(outputs * groups, 2).into_iter().map(|x| 0.01 + x.abs()).collect();
    let zeros: Vec<f32> = (0..outputs * groups).map(|i| (i % 16) as f32).collect();
    let halves: Vec<u16> = w.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let bytes: Vec<i8> = w.iter().map(|x| (x * 127.0) as i8).collect();
    let nibbles: Vec<u8> = w.iter().map(|x| ((x + 1.0) * 7.5) as u8).collect();
    let at = |i: usize| (i / inputs) * groups + i % inputs / GROUP;
    let make = |source: Source<'_>| Matrix::pack(outputs, inputs, &source).expect("it fits");
    vec![
        (make(Source::F32(&w)), w.iter().map(|&x| f64::from(x)).collect(), false),
        (
            make(Source::Bf16(&halves)),
            halves.iter().map(|&x| f64::from(f32::from_bits(u32::from(x) << 16))).collect(),
            true,
        ),
        (
            make(Source::Int8(&bytes, &scales)),
            bytes
                .iter()
                .enumerate()
                .map(|(i, &q)| f64::from(q) * f64::from(scales[at(i)]))
                .collect(),
            false,
        ),
        (
            make(Source::Int4(&nibbles, &scales, &zeros)),
            nibbles
                .iter()
                .enumerate()
                .map(|(i, &q)| (f64::from(q) - f64::from(zeros[at(i)])) * f64::from(scales[at(i)]))
                .collect(),
            false,
        ),
    ]
}

#[test]
fn products() {
    let rows = 19;
    // One panel, panels side by side and those left over; inputs even and odd, groups whole and cut.
    for (outputs, inputs) in [(1, 1), (33, 129), (70, 300), (150, 128), (260, 77)] {
        let x = numbers(rows * inputs, 3);
        for (matrix, exact, rounds) in matrices(outputs, inputs) {
            let read: Vec<f32> = x.iter().map(|&x| if rounds { rounded(x) } else { x }).collect();
            let whole = matrix.product(Level::Plain, &x, rows);
            for (i, found) in whole.iter().enumerate() {
                let (row, out) = (i / outputs, i % outputs);
                let dot: f64 = (0..inputs)
                    .map(|k| f64::from(read[row * inputs + k]) * exact[out * inputs + k])
                    .sum();
                assert!((f64::from(*found) - dot).abs() < 2e-3, "{found} for {dot}");
            }
            for level in levels() {
                assert_eq!(matrix.product(level, &x, rows), whole, "{level:?}");
                for few in 1..=9 {
                    let part = matrix.product(level, &x[..few * inputs], few);
                    assert_eq!(part, whole[..few * outputs], "{level:?}, {few} rows");
                }
            }
        }
    }
}

#[test]
fn shapes_are_checked() {
    assert!(Matrix::pack(2, 3, &Source::F32(&[0.0; 5])).is_err());
    assert!(Matrix::pack(0, 3, &Source::F32(&[])).is_err());
    assert!(Matrix::pack(2, 129, &Source::Int8(&[0; 258], &[0.0; 2])).is_err());
}

const SHAPE: Shape = Shape { hidden: 24, kv_heads: 2, group: 3, width: 8, eps: 1e-5 };

fn decoder(kind: Kind) -> Decoder {
    let Shape { hidden, kv_heads, group, width, .. } = SHAPE;
    let mut seed = 10;
    let mut matrix = |outputs: usize, inputs: usize| {
        seed += 1;
        Matrix::pack(outputs, inputs, &Source::F32(&numbers(outputs * inputs, seed))).expect("fits")
    };
    let layers = (0..2)
        .map(|_| Layer {
            attention_norm: vec![1.0; hidden],
            wqkv: matrix(kv_heads * (group + 2) * width, hidden),
            wqkv_bias: Vec::new(),
            wo: matrix(hidden, kv_heads * group * width),
            wo_bias: Vec::new(),
            ffn_norm: vec![1.0; hidden],
            w13: matrix(80, hidden),
            w13_bias: Vec::new(),
            w2: matrix(hidden, 40),
            w2_bias: Vec::new(),
        })
        .collect();
    let head = matrix(50, hidden);
    let angles: Vec<f32> = (0..64 * width / 2).map(|i| i as f32 * 0.01).collect();
    Decoder::new(
        SHAPE,
        Embedding::F32(numbers(50 * hidden, 9)),
        layers,
        vec![1.0; hidden],
        head,
        angles.iter().map(|x| x.cos()).collect(),
        angles.iter().map(|x| x.sin()).collect(),
        Cache::new(kind, 2, 8, kv_heads, width),
    )
    .expect("its parts fit")
}

#[test]
fn pages_and_parts() {
    let ids: Vec<u32> = (0..40).map(|i| i * 7 % 50).collect();
    let all: Vec<u32> = (0..40).collect();
    for kind in [Kind::F32, Kind::Bf16, Kind::Int8] {
        let whole = decoder(kind)
            .hidden(&ids, &[Segment { start: 0, count: 40, table: vec![0, 1, 2] }], &all)
            .expect("it fits");
        // In parts, on other pages, beside another sequence.
        let mut one = decoder(kind);
        let mut found = Vec::new();
        for (start, end) in [(0, 1), (1, 18), (18, 33), (33, 40)] {
            let mut both = ids[start..end].to_vec();
            both.extend([3, 4]);
            let segments = [
                Segment { start, count: end - start, table: vec![6, 2, 5] },
                Segment { start: 0, count: 2, table: vec![1] },
            ];
            let rows: Vec<u32> = (0..(end - start) as u32).collect();
            found.extend(one.hidden(&both, &segments, &rows).expect("it fits"));
        }
        assert_eq!(found, whole, "{kind:?}");
        // The control: a page that belongs to another.
        let mut broken = decoder(kind);
        broken
            .hidden(&ids[..33], &[Segment { start: 0, count: 33, table: vec![0, 1, 2] }], &[])
            .expect("it fits");
        let wrong = Segment { start: 33, count: 7, table: vec![0, 3, 2] };
        let rows: Vec<u32> = (0..7).collect();
        let rest = broken.hidden(&ids[33..], &[wrong], &rows).expect("it fits");
        assert_ne!(rest, whole[33 * SHAPE.hidden..], "{kind:?}");
    }
}

#[test]
fn steps_are_checked() {
    let mut one = decoder(Kind::F32);
    let segment = |start, count, table: &[u32]| Segment { start, count, table: table.to_vec() };
    for (ids, part, rows) in [
        (vec![50], segment(0, 1, &[0]), vec![0]),
        (vec![1], segment(0, 1, &[8]), vec![0]),
        (vec![1], segment(PAGE, 1, &[0]), vec![0]),
        (vec![1], segment(64, 1, &[0, 1, 2, 3, 4]), vec![0]),
        (vec![1], segment(0, 2, &[0]), vec![0]),
        (vec![1], segment(0, 1, &[0]), vec![1]),
    ] {
        assert!(one.hidden(&ids, &[part], &rows).is_err());
    }
    let hidden = one.hidden(&[1, 2], &[segment(0, 2, &[0])], &[0, 1]).expect("it fits");
    assert!(one.log_probs(&hidden, &[1, 50]).is_err());
    let logits = one.logits(&hidden);
    let scores = one.log_probs(&hidden, &[4, 7]).expect("they are in the vocabulary");
    for (row, (label, score)) in [4, 7].into_iter().zip(scores).enumerate() {
        let row = &logits[row * 50..][..50];
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((f64::from(row[label]) - sum.ln() - f64::from(score)).abs() < 1e-5);
    }
}
