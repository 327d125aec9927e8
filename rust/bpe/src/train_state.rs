//! A training that can go on after it was killed: merges and words as they were, in one file.
//!
//! All numbers are little-endian: the mark, characters (count; code points), rules (count; left,
//! right, result), words (count; length and occurrences of each; their symbols, one after the
//! other), and SHA-256 of all that.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::train_learner::Learner;
use crate::{BpeError, Rule};

const MARK: &[u8; 8] = b"ibpe-tr1";

/// What the file holds.
pub(crate) struct State {
    /// Empty for a vocabulary over bytes.
    pub(crate) characters: Vec<char>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) learner: Learner,
}

/// Writes the file beside `path` and renames it, so that it is whole or not there.
pub(crate) fn write(
    path: &Path,
    characters: &[char],
    rules: &[Rule],
    learner: &Learner,
) -> Result<(), BpeError> {
    let partial = path.with_extension("partial");
    let written = File::create(&partial).and_then(|file| {
        let mut out = Hashed { inner: BufWriter::new(file), hash: Sha256::new() };
        out.write_all(MARK)?;
        out.number(characters.len() as u64)?;
        characters.iter().try_for_each(|&c| out.symbol(u32::from(c)))?;
        out.number(rules.len() as u64)?;
        for rule in rules {
            [rule.left, rule.right, rule.result].into_iter().try_for_each(|id| out.symbol(id))?;
        }
        out.number(learner.words().count() as u64)?;
        for (symbols, count) in learner.words() {
            out.symbol(symbols.len() as u32)?;
            out.number(count as u64)?;
        }
        for (symbols, _) in learner.words() {
            symbols.iter().try_for_each(|&id| out.symbol(id))?;
        }
        let digest = out.hash.finalize();
        out.inner.write_all(&digest)?;
        out.inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&partial, path)
    });
    written.map_err(|error| {
        BpeError::Training(format!("{}: {error}; give a folder with more room", path.display()))
    })
}

/// Reads the file; `None` without one.
pub(crate) fn read(path: &Path) -> Result<Option<State>, BpeError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(path, &error)),
    };
    let input = Hashed { inner: BufReader::new(file), hash: Sha256::new() };
    state(input).map(Some).map_err(|error| damaged(path, &error))
}

fn state(mut input: Hashed<BufReader<File>>) -> io::Result<State> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no such state");
    if input.number()?.to_le_bytes() != *MARK {
        return Err(wrong());
    }
    // Pushed one by one: a wrong length ends at the end of the file, not in a huge allocation.
    let mut characters = Vec::new();
    for _ in 0..input.number()? {
        characters.push(char::from_u32(input.symbol()?).ok_or_else(wrong)?);
    }
    let mut rules = Vec::new();
    for rank in 0..input.number()? {
        let (left, right, result) = (input.symbol()?, input.symbol()?, input.symbol()?);
        rules.push(Rule { rank: rank as u32, left, right, result });
    }
    let mut words = Vec::new();
    for _ in 0..input.number()? {
        words.push((input.symbol()?, input.number()? as i64));
    }
    let mut learner = Learner::default();
    let mut symbols = Vec::new();
    for (length, count) in words {
        symbols.clear();
        for _ in 0..length {
            symbols.push(input.symbol()?);
        }
        if !learner.push(&symbols, count) {
            return Err(wrong());
        }
    }
    let mut digest = [0; 32];
    input.inner.read_exact(&mut digest)?;
    if input.hash.finalize()[..] != digest {
        return Err(wrong());
    }
    learner.count_pairs();
    Ok(State { characters, rules, learner })
}

fn damaged(path: &Path, error: &io::Error) -> BpeError {
    BpeError::Training(format!(
        "{}: the state of an interrupted training can't be read ({error}); remove its folder and start anew",
        path.display()
    ))
}

struct Hashed<F> {
    inner: F,
    hash: Sha256,
}

impl<F: Write> Hashed<F> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl Hashed<BufWriter<File>> {
    fn number(&mut self, number: u64) -> io::Result<()> {
        self.write_all(&number.to_le_bytes())
    }

    fn symbol(&mut self, symbol: u32) -> io::Result<()> {
        self.write_all(&symbol.to_le_bytes())
    }
}

impl Hashed<BufReader<File>> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.hash.update(bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn symbol(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }
}
