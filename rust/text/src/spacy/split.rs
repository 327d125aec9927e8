//! Cutting a chunk (what stands between blanks) into tokens by spaCy's English rules.
//!
//! Prefixes and suffixes are taken off in turn until an exception is left or nothing more comes off;
//! what is left is an exception, an address, or is cut at its infixes.

use std::sync::LazyLock;

use super::classes::{
    BEFORE_STOP, DIGIT, ENDS_UNIT, INFIX, LETTER, LOWER, PREFIX, QUOTE, SUFFIX, SYMBOL, UNITS,
    UPPER, table,
};
use super::exceptions::Exceptions;
use super::url::is_url;

/// Cuts chunks, keeping its buffer.
#[derive(Default)]
pub struct Splitter {
    suffixes: Vec<usize>,
}

impl Splitter {
    /// Calls `out` with the end of each token of `chunk`, in bytes from its start; the tokens cover it.
    ///
    /// Without `exceptions`, only the rules are followed.
    pub fn split(&mut self, chunk: &str, exceptions: Option<&Exceptions>, out: &mut Vec<u32>) {
        let find = |text: &str| exceptions.and_then(|table| table.find(text));
        let (mut from, mut to) = (0, chunk.len());
        let mut exception = find(chunk);
        if exception.is_none() && is_plain(chunk) {
            out.push(to as u32);
            return;
        }
        self.suffixes.clear();
        while from < to && exception.is_none() {
            let rest = &chunk[from..to];
            let prefix = prefix(rest);
            if prefix > 0 {
                exception = find(&rest[prefix..]);
                if exception.is_some() {
                    from += prefix;
                    out.push(from as u32);
                    break;
                }
            }
            let suffix = suffix(&rest[prefix..]);
            if suffix > 0 {
                exception = find(&rest[..rest.len() - suffix]);
                if exception.is_some() {
                    to -= suffix;
                    self.suffixes.push(to);
                    break;
                }
            }
            if prefix + suffix == 0 {
                break;
            }
            if prefix > 0 {
                from += prefix;
                out.push(from as u32);
            }
            if suffix > 0 {
                to -= suffix;
                self.suffixes.push(to);
            }
            exception = find(&chunk[from..to]);
        }
        if from < to {
            let rest = &chunk[from..to];
            if let (Some(number), Some(table)) = (exception, exceptions) {
                for length in table.pieces(number) {
                    from += length;
                    out.push(from as u32);
                }
            } else if is_url(rest) {
                out.push(to as u32);
            } else {
                infixes(rest, from, out);
            }
        }
        // Each suffix begins where the ones inside it end.
        let end = chunk.len();
        for at in (0..self.suffixes.len()).rev() {
            out.push(if at == 0 { end } else { self.suffixes[at - 1] } as u32);
        }
    }
}

/// Only letters of ASCII: no rule but an exception cuts it.
fn is_plain(chunk: &str) -> bool {
    chunk.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn first(text: &str) -> Option<(char, u16)> {
    text.chars().next().map(|c| (c, table()[c as usize]))
}

fn last(text: &str) -> Option<(char, u16)> {
    text.chars().next_back().map(|c| (c, table()[c as usize]))
}

/// Length in bytes of the prefix of `text`, 0 without one.
fn prefix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some((character, flags)) = first(text) else { return 0 };
    match character {
        '.' => stops(bytes),
        '+' => usize::from(!bytes.get(1).is_some_and(u8::is_ascii_digit)),
        'U' if bytes.starts_with(b"US$") => 3,
        'C' | 'A' if bytes.get(1) == Some(&b'$') => 2,
        _ if flags & PREFIX != 0 => character.len_utf8(),
        _ => 0,
    }
}

/// Length of a run of two full stops or more at the start.
fn stops(bytes: &[u8]) -> usize {
    let run = bytes.iter().take_while(|&&byte| byte == b'.').count();
    if run > 1 { run } else { 0 }
}

/// Length in bytes of the longest suffix of `text`, 0 without one.
fn suffix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some((character, flags)) = last(text) else { return 0 };
    let before = &text[..text.len() - character.len_utf8()];
    let single = if flags & SUFFIX != 0 { character.len_utf8() } else { 0 };
    let long = match character {
        '.' => {
            let run = bytes.iter().rev().take_while(|&&byte| byte == b'.').count();
            if run > 1 { run } else { usize::from(parts_stop(before)) }
        }
        '+' => usize::from(before.ends_with(|c: char| c.is_ascii_digit())),
        '…' if before.ends_with('…') => 2 * single,
        's' | 'S' if before.ends_with('\'') => 2,
        's' | 'S' if before.ends_with('\u{2019}') => 4,
        _ => 0,
    };
    let unit = if flags & ENDS_UNIT != 0 { unit(text) } else { 0 };
    single.max(long).max(unit)
}

/// Whether a single full stop after `before` is a token.
fn parts_stop(before: &str) -> bool {
    let Some((character, flags)) = last(before) else { return false };
    if flags & BEFORE_STOP != 0 {
        return true;
    }
    let Some((second, second_flags)) = last(&before[..before.len() - character.len_utf8()]) else {
        return false;
    };
    flags & second_flags & UPPER != 0 || second == '°' && matches!(character, 'F' | 'C' | 'K')
}

static UNIT_LIST: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut units: Vec<&str> = UNITS.split(' ').collect();
    units.sort_unstable();
    units
});

/// Length of a unit or currency that follows a digit at the end of `text`.
fn unit(text: &str) -> usize {
    // No unit holds a digit, and none is longer than ten bytes.
    let bytes = text.as_bytes();
    let Some(length) = bytes.iter().rev().take(11).position(u8::is_ascii_digit) else { return 0 };
    let tail = &text[text.len() - length..];
    let mut characters = tail.chars();
    let currency = matches!((characters.next(), characters.next()), (Some(c), None)
        if table()[c as usize] & (PREFIX | ENDS_UNIT) == PREFIX | ENDS_UNIT);
    if currency || UNIT_LIST.binary_search(&tail).is_ok() { length } else { 0 }
}

/// Cuts `text`, which begins at `base`, around its infixes.
fn infixes(text: &str, base: usize, out: &mut Vec<u32>) {
    let table = table();
    let mut next = 0;
    let (mut start, mut before) = (0, (' ', 0u16));
    for (at, character) in text.char_indices() {
        let flags = table[character as usize];
        if flags & INFIX != 0 && at >= next {
            let length = infix(&text[at..], character, flags, before.1);
            if length > 0 {
                next = at + length;
                // One at the very start is left to the token that follows.
                if at > 0 {
                    if at > start {
                        out.push((base + at) as u32);
                    }
                    out.push((base + next) as u32);
                    start = next;
                }
            }
        }
        before = (character, flags);
    }
    if start < text.len() {
        out.push((base + text.len()) as u32);
    }
}

/// Length in bytes of the infix at the start of `rest`, after a character with the flags `before`.
fn infix(rest: &str, character: char, flags: u16, before: u16) -> usize {
    let table = table();
    let width = character.len_utf8();
    let after = first(&rest[width..]).map_or(0, |(_, flags)| flags);
    let joins = |on: bool| if on { width } else { 0 };
    let after_word = before & (LETTER | DIGIT) != 0;
    if flags & SYMBOL != 0 {
        return width;
    }
    match character {
        '…' => width,
        '.' => match stops(rest.as_bytes()) {
            0 => joins(before & (LOWER | QUOTE) != 0 && after & (UPPER | QUOTE) != 0),
            run => run,
        },
        '+' | '*' | '^' => joins(before & DIGIT != 0 && between_digits(rest, after)),
        ',' => joins(before & after & LETTER != 0),
        '-' if before & DIGIT != 0 && between_digits(rest, after) => 1,
        '-' | '–' | '—' | '~' if after_word => {
            let most = match character {
                '-' => 3,
                '—' => 2,
                _ => 1,
            };
            let run = rest.chars().take_while(|&c| c == character).count();
            let follows = rest[run * width..].chars().next().map_or(0, |c| table[c as usize]);
            if run <= most && follows & LETTER != 0 { run * width } else { 0 }
        }
        ':' | '<' | '>' | '=' | '/' => joins(after_word && after & LETTER != 0),
        _ => 0,
    }
}

/// Whether a digit or a hyphen follows the sign.
fn between_digits(rest: &str, after: u16) -> bool {
    after & DIGIT != 0 || rest.as_bytes().get(1) == Some(&b'-')
}

/// Whether a rule cuts anything off `text` or into it.
pub fn is_cut(text: &str) -> bool {
    let table = table();
    let mut before = 0;
    prefix(text) > 0
        || suffix(text) > 0
        || text.char_indices().any(|(at, character)| {
            let flags = table[character as usize];
            let found = flags & INFIX != 0 && infix(&text[at..], character, flags, before) > 0;
            before = flags;
            found
        })
}
