//! The words and sentences of spaCy's English (`spacy.blank("en")` with its sentencizer), which
//! datatrove counts.
//!
//! A text is cut at blanks, each chunk by rules (`split`), and exceptions that the rules cut are put
//! together again (`affixed`). A chunk that occurs again in the text is not cut again.

mod affixed;
mod classes;
mod exceptions;
mod lexicon;
mod ranges;
mod sentences;
mod split;
mod url;

pub use sentences::{count as count_sentences, pieces as sentence_pieces};
pub use url::is_digit;

use affixed::{Match, patterns};
use lexicon::{Cut, Lexicon, Look, Token};

use crate::ascii;
use crate::index::Index;
use crate::vocabulary::{Judge, Word};

/// The tokens of a text, blanks left out.
#[derive(Default)]
pub struct Words {
    /// Different tokens.
    pub words: Vec<Word>,
    /// Number of each token in `words`.
    pub tokens: Vec<u32>,
    /// 0, and the characters of all tokens up to each.
    pub reach: Vec<u32>,
    /// First byte of each token and byte after its last.
    pub spans: Vec<(u32, u32)>,
    lexicon: Lexicon,
    /// What each different token is to patterns and to the sentencizer.
    looks: Vec<Look>,
    /// By number of a chunk: where its tokens stand in `pieces`, and how many they are.
    chunks: Vec<(u32, u32)>,
    pieces: Vec<Piece>,
    /// Where the new chunks of a text stand, and how they are cut.
    firsts: Vec<(u32, u32)>,
    cuts: Vec<(Cut, u32)>,
    /// Tokens that may begin a pattern.
    candidates: Vec<u32>,
    found: Vec<Match>,
    hidden: Vec<bool>,
}

/// A token of a chunk of this text.
#[derive(Clone, Copy)]
struct Piece {
    name: u32,
    from: u32,
    to: u32,
    chars: u32,
    begins: bool,
}

impl Piece {
    #[inline(always)]
    fn new(name: u32, from: u32, to: u32, token: Token) -> Self {
        Self { name, from, to, chars: token.chars, begins: token.look.begins_pattern() }
    }
}

impl Words {
    /// Reads `text` from its `chunks`: first byte, byte after the last, and a number that equal
    /// chunks share, in order of appearance.
    pub fn read(
        &mut self,
        text: &str,
        chunks: impl Iterator<Item = (u32, u32, u32)> + Clone,
        judge: Judge<'_>,
    ) {
        self.begin();
        // Step by step over all new chunks, so that the processor waits for many places in memory at
        // once; and without a branch on what is new, which is a coin toss.
        let mut firsts = std::mem::take(&mut self.firsts);
        let mut fresh = 0;
        firsts.resize(chunks.size_hint().1.unwrap_or(0) + 1, (0, 0));
        for (from, to, number) in chunks.clone() {
            firsts[fresh] = (from, to);
            fresh += usize::from(number as usize == fresh);
        }
        let mut cuts = std::mem::take(&mut self.cuts);
        cuts.clear();
        cuts.extend(firsts[..fresh].iter().map(|&(from, to)| {
            (self.lexicon.chunk(text, from as usize, to as usize, judge), to - from)
        }));
        for &(cut, length) in &cuts {
            let first = self.pieces.len() as u32;
            self.meet(cut, length);
            self.chunks.push((first, self.pieces.len() as u32));
        }
        (self.firsts, self.cuts) = (firsts, cuts);
        for (from, _, number) in chunks {
            let pieces = self.chunks[number as usize];
            self.push(from, pieces);
        }
        if !self.candidates.is_empty() {
            self.join_exceptions(text, judge);
        }
    }

    /// The same from chunks that nothing has numbered: first byte, and byte after the last.
    pub fn read_unnumbered(
        &mut self,
        text: &str,
        chunks: impl Iterator<Item = (u32, u32)>,
        judge: Judge<'_>,
    ) {
        self.begin();
        for (from, to) in chunks {
            let cut = self.lexicon.chunk(text, from as usize, to as usize, judge);
            if let Some(token) = cut.single() {
                let (name, token) = self.name(token);
                let piece = Piece::new(name, 0, to - from, token);
                self.push_piece(from, piece);
                continue;
            }
            let first = self.lexicon.local(cut).unwrap_or_else(|| {
                let first = self.pieces.len() as u32;
                self.lexicon.set_local(cut, first);
                self.meet(cut, to - from);
                first
            });
            self.push(from, (first, first + cut.pieces().len() as u32));
        }
        if !self.candidates.is_empty() {
            self.join_exceptions(text, judge);
        }
    }

    fn begin(&mut self) {
        self.lexicon.next_text();
        self.words.clear();
        self.looks.clear();
        self.tokens.clear();
        self.spans.clear();
        self.reach.clear();
        self.chunks.clear();
        self.pieces.clear();
        self.candidates.clear();
        self.reach.push(0);
    }

    /// Adds the tokens of the chunk that begins at `from`.
    #[inline(always)]
    fn push(&mut self, from: u32, (first, end): (u32, u32)) {
        for at in first..end {
            self.push_piece(from, self.pieces[at as usize]);
        }
    }

    #[inline(always)]
    fn push_piece(&mut self, from: u32, piece: Piece) {
        if piece.begins {
            self.candidates.push(self.tokens.len() as u32);
        }
        self.words[piece.name as usize].count += 1;
        self.reach.push(self.reach[self.tokens.len()] + piece.chars);
        self.tokens.push(piece.name);
        self.spans.push((from + piece.from, from + piece.to));
    }

    /// Names the tokens of a chunk of `length` bytes that is new to the text.
    #[inline(always)]
    fn meet(&mut self, cut: Cut, length: u32) {
        if let Some(token) = cut.single() {
            let (name, token) = self.name(token);
            self.pieces.push(Piece::new(name, 0, length, token));
            return;
        }
        let mut start = 0;
        for at in cut.pieces() {
            let (token, end) = self.lexicon.piece(at);
            let (name, token) = self.name(token);
            self.pieces.push(Piece::new(name, start, end, token));
            start = end;
        }
    }

    /// The number that a token of the lexicon has in this text.
    fn name(&mut self, token: u32) -> (u32, Token) {
        let fresh = self.words.len() as u32;
        let (name, token) = self.lexicon.name(token, fresh);
        if name == fresh {
            self.words.push(Word { count: 0, chars: token.chars, flags: token.flags });
            self.looks.push(token.look);
        }
        (name, token)
    }

    /// Puts the tokens of exceptions in the place of the tokens into which the rules cut them.
    #[inline(never)]
    fn join_exceptions(&mut self, text: &str, judge: Judge<'_>) {
        let bytes = text.as_bytes();
        let (spans, tokens, looks) = (&self.spans, &self.tokens, &self.looks);
        let follows = |at: usize| {
            let (_, end) = spans[at];
            let &(start, _) = spans.get(at + 1)?;
            let near = start == end || start == end + 1 && bytes[end as usize] == b' ';
            near.then(|| looks[tokens[at + 1] as usize].pattern())
        };
        self.found.clear();
        for &at in &self.candidates {
            let first = looks[tokens[at as usize] as usize].pattern();
            patterns().find(at as usize, first, follows, &mut self.found);
        }
        if self.found.is_empty() {
            return;
        }
        affixed::choose(&mut self.found, &mut self.hidden, self.tokens.len());
        // With a blank between its tokens it is none.
        let mut found = std::mem::take(&mut self.found);
        found.retain(|m| self.spans[m.from..m.to].windows(2).all(|pair| pair[0].1 == pair[1].0));
        for m in found.iter().rev() {
            self.put(text, m, judge);
        }
        if !found.is_empty() {
            self.reach.truncate(1);
            let words = &self.words;
            let mut reach = 0;
            self.reach.extend(self.tokens.iter().map(|&name| {
                reach += words[name as usize].chars;
                reach
            }));
            // What does not occur any more is no word of the text.
            self.words.iter_mut().filter(|word| word.count == 0).for_each(|word| word.flags = 0);
        }
        self.found = found;
    }

    fn put(&mut self, text: &str, found: &Match, judge: Judge<'_>) {
        for &name in &self.tokens[found.from..found.to] {
            self.words[name as usize].count -= 1;
        }
        let mut from = self.spans[found.from].0;
        let (mut names, mut spans) = (Vec::new(), Vec::new());
        for length in exceptions::exceptions().pieces(found.exception) {
            let to = from + length as u32;
            let token = self.lexicon.token(&text[from as usize..to as usize], judge);
            let (name, _) = self.name(token);
            self.words[name as usize].count += 1;
            names.push(name);
            spans.push((from, to));
            from = to;
        }
        self.tokens.splice(found.from..found.to, names);
        self.spans.splice(found.from..found.to, spans);
    }
}

/// spaCy's words and sentences of single texts.
#[derive(Default)]
pub struct Tokenizer {
    index: Index,
    chunks: Vec<(u32, u32)>,
    words: Words,
}

impl Tokenizer {
    /// First byte of each token of `text` and byte after its last, blanks left out. Of a text above
    /// 4 GiB, the first 4 GiB are read.
    pub fn tokens(&mut self, text: &str) -> &[(u32, u32)] {
        &self.read(text).spans
    }

    /// The tokens read last.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// How many sentences `text` has; one at least.
    pub fn sentences(&mut self, text: &str) -> u64 {
        self.read(text);
        count_sentences(text, &self.words, 0, text.len(), &mut 0)
    }

    /// The tokens of `text`.
    pub fn read(&mut self, text: &str) -> &Words {
        let judge = Judge { list: 0, stop_words: &[], compat: true };
        let text = crate::measure::within_limit(text);
        self.index.read(text, false, ascii::classify);
        self.chunks.clear();
        let blocks = || self.index.blocks.iter().enumerate();
        for (at, block) in blocks() {
            self.chunks.extend(ones(at, block.start).map(|from| (from, 0)));
        }
        let ends = blocks().flat_map(|(at, block)| ones(at, block.end));
        self.chunks.iter_mut().zip(ends).for_each(|(chunk, to)| chunk.1 = to);
        self.words.read_unnumbered(text, self.chunks.iter().copied(), judge);
        &self.words
    }
}

/// Places of the ones of a block's bitmap.
fn ones(block: usize, mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (bits != 0).then(|| {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            block as u32 * 64 + bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<&str> {
        let mut tokenizer = Tokenizer::default();
        tokenizer.tokens(text).iter().map(|&(from, to)| &text[from as usize..to as usize]).collect()
    }

    /// What spaCy 3.8 answers for these sentences, tokens parted by blanks.
    const GOLDEN: &[(&str, &str)] = &[
        ("Can't stop, won't stop!", "Ca n't stop , wo n't stop !"),
        ("(He'd've told \"them\" so.)", "( He 'd 've told \" them \" so . )"),
        ("Dr. Lee paid US$5,000.50 in the U.S.", "Dr. Lee paid US$ 5,000.50 in the U.S."),
        ("It weighs 12kg, i.e. 26.5lb.", "It weighs 12 kg , i.e. 26.5 lb ."),
        (
            "See https://example.com/a?b=c, or mail me@example.org.",
            "See https://example.com/a?b=c , or mail me@example.org .",
        ),
        ("Ask 10.0.0.1 or 8.8.8.8:53/x.", "Ask 10.0.0.1 or 8.8.8.8:53/x ."),
        ("a well-known 2-3 and x=y, word.Next", "a well - known 2 - 3 and x = y , word . Next"),
        ("Wait...what?! :-) ;) <3", "Wait ... what ? ! :-) ;) <3"),
        ("vitamin-d. foo: 3 bar:)", "vitamin - d. foo : 3 bar :)"),
        (
            "\u{201c}It\u{2019}s 5pm,\u{201d} she\u{2014}Ann\u{2014}said",
            "\u{201c} It \u{2019}s 5 pm , \u{201d} she \u{2014} Ann \u{2014} said",
        ),
        ("今天很好。it's", "今天很好。it 's"),
        ("I cannot; gonna go\u{a0}now\n\n\u{3000}Im ok", "I can not ; gon na go now I m ok"),
    ];

    #[test]
    fn golden_tokens() {
        for (text, want) in GOLDEN {
            assert_eq!(tokens(text).join(" "), *want, "{text}");
        }
    }

    #[test]
    fn sentences() {
        let mut tokenizer = Tokenizer::default();
        for (text, want) in [
            ("One. Two! Three?", 3),
            ("He said \"Go.\" She went...", 2),
            ("Mr. A. came at 5 p.m. and left", 1),
            ("Wait... what", 1),
            ("End. (Aside.) Next", 3),
            ("", 1),
            ("Done.  ", 2),
            ("Done. ", 1),
        ] {
            assert_eq!(tokenizer.sentences(text), want, "{text:?}");
        }
    }

    #[test]
    fn spans_cover_the_text() {
        let mut tokenizer = Tokenizer::default();
        for (text, _) in GOLDEN {
            let joined: String = tokenizer
                .tokens(text)
                .iter()
                .map(|&(from, to)| &text[from as usize..to as usize])
                .collect();
            let whole: String = text.split_whitespace().collect();
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn counts_follow_the_tokens() {
        let mut tokenizer = Tokenizer::default();
        for text in ["x-a. y-a. a . a.", "it's it's :) x:) x:) (:)", "a a a."] {
            let words = tokenizer.read(text);
            let mut counts = vec![0; words.words.len()];
            words.tokens.iter().for_each(|&token| counts[token as usize] += 1);
            let kept: Vec<u32> = words.words.iter().map(|word| word.count).collect();
            assert_eq!(kept, counts, "{text}");
        }
    }
}
