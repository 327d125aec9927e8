//! Encodes one text file with a tokenizer, for profilers and instruction counts.
//!
//! `encode tokenizer.json text.bin [warm.bin] [rounds]`; the files hold texts as a little-endian
//! u32 length and that many bytes of UTF-8 each. One thread. Prints bytes, ids, a checksum and MB/s.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use internlm_bpe::{Allowed, Caches, HfOptions, Pattern, Stop, Tokenizer};

/// Processor time of this process, which others on the machine disturb less than wall time.
fn seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn texts(path: &str) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut texts) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (text, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        rest = after;
    }
    texts
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let file = std::fs::read(&args[0]).unwrap();
    let start = seconds();
    let tokenizer = if args[0].ends_with(".tiktoken") {
        let pattern = if args[0].contains("o200k") { Pattern::O200k } else { Pattern::Cl100k };
        Tokenizer::from_tiktoken(&file, pattern, &[]).unwrap()
    } else {
        Tokenizer::from_hf(std::str::from_utf8(&file).unwrap(), HfOptions { parity: true }).unwrap()
    };
    println!("loaded in {:.1} ms", (seconds() - start) * 1e3);
    let texts_ = texts(&args[1]);
    let warm = args.get(2).map_or(Vec::new(), |path| texts(path));
    let rounds: usize = args.get(3).map_or(1, |text| text.parse().unwrap());
    let size: usize = texts_.iter().map(String::len).sum();
    let (allowed, stop) = (Allowed::none(), Stop::default());
    let rows = |texts: &'static [String]| -> Vec<Option<&str>> {
        texts.iter().map(|text| Some(text.as_str())).collect()
    };
    let (rows_, warm_rows) = (rows(texts_.leak()), rows(warm.leak()));
    let (mut best, mut warm_best, mut ids, mut repeat_best) =
        (f64::MAX, f64::MAX, Vec::new(), f64::MAX);
    for _ in 0..rounds {
        let caches = Caches::default();
        let start = seconds();
        let _ = tokenizer.encode_batch(&warm_rows, &allowed, &caches, &stop);
        warm_best = warm_best.min(seconds() - start);
        for repeat in [false, true] {
            let start = seconds();
            ids = tokenizer.encode_batch(&rows_, &allowed, &caches, &stop).0;
            let took = seconds() - start;
            if repeat {
                repeat_best = repeat_best.min(took)
            } else {
                best = best.min(took)
            };
        }
    }
    let sum = ids.iter().fold(0u64, |sum, &id| sum.wrapping_mul(31).wrapping_add(u64::from(id)));
    let warm_size: usize = warm_rows.iter().flatten().map(|text| text.len()).sum();
    println!(
        "{size} bytes, {} ids, checksum {sum:016x}: unseen {:.1} MB/s, repeat {:.1}, warm-up {:.1}",
        ids.len(),
        size as f64 / 1e6 / best,
        size as f64 / 1e6 / repeat_best,
        warm_size as f64 / 1e6 / warm_best
    );
}
