//! Megabytes a second of the statistics on files:
//! `cargo run --release --example throughput [--rounds N] FILE…`.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::time::Instant;

use internlm_text::{Measurer, Metric};

/// Characters of the pieces that each file is cut into, the size of a web page.
const PIECE: usize = 3_000;
/// Rounds unless told otherwise; the fastest counts.
const ROUNDS: usize = 7;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut rounds = ROUNDS;
    if arguments.next_if(|first| first == "--rounds").is_some() {
        let number = arguments.next().and_then(|number| number.parse().ok());
        rounds = number.unwrap_or(ROUNDS);
    }
    for path in arguments {
        let text = std::fs::read_to_string(&path)?;
        // A record separator parts documents; a file without one is cut.
        let pieces: Vec<String> = if text.contains('\u{1e}') {
            text.split('\u{1e}').map(str::to_owned).collect()
        } else {
            let characters: Vec<char> = text.chars().collect();
            characters.chunks(PIECE).map(|piece| piece.iter().collect()).collect()
        };
        let mut measurer = Measurer::default();
        let mut best = f64::INFINITY;
        let mut words = 0.0;
        for _ in 0..rounds {
            let start = Instant::now();
            words = pieces.iter().map(|p| measurer.measure(p, Some("en")).get(Metric::Words)).sum();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let speed = text.len() as f64 / best / 1e6;
        println!("{speed:7.1} MB/s  {:5.1} MB  {words:9.0} words  {path}", text.len() as f64 / 1e6);
    }
    Ok(())
}
