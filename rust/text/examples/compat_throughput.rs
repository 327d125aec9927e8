//! Megabytes a second of spaCy's words and of datatrove's statistics over them:
//! `cargo run --release --example compat_throughput FILE…`.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::time::Instant;

use internlm_text::spacy::Tokenizer;
use internlm_text::{Measurer, Metric, Words};

/// Characters of the pieces that each file is cut into, the size of a web page.
const PIECE: usize = 3_000;
/// The fastest of so many rounds counts.
const ROUNDS: usize = 7;

fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path)?;
        let characters: Vec<char> = text.chars().collect();
        let pieces: Vec<String> =
            characters.chunks(PIECE).map(|piece| piece.iter().collect()).collect();
        let mut tokenizer = Tokenizer::default();
        let mut measurer = Measurer::default();
        let mut measure = |words| {
            best(|| {
                let count = |p: &String| measurer.measure_compat(p, words).get(Metric::Words);
                pieces.iter().map(count).sum::<f64>() as usize
            })
        };
        let figures = [
            ("statistics, words by blanks", measure(Words::Blanks)),
            ("statistics, spaCy's words", measure(Words::Spacy)),
            ("words alone", best(|| pieces.iter().map(|p| tokenizer.tokens(p).len()).sum())),
        ];
        for (name, (seconds, words)) in figures {
            let size = text.len() as f64 / 1e6;
            println!("{:7.1} MB/s  {size:5.1} MB  {words:9} words  {name}  {path}", size / seconds);
        }
    }
    Ok(())
}

/// Seconds of the fastest round, and what it returned.
fn best(mut round: impl FnMut() -> usize) -> (f64, usize) {
    let (mut seconds, mut result) = (f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        result = round();
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    (seconds, result)
}
