//! Patterns that are no hand-written machine: a list of regular expressions, each cutting what the
//! one before left.
//!
//! Only what means the same here as in the reference's engine (Oniguruma) is taken: literals,
//! classes of general categories, `\s`, `\d`, groups, alternatives, greedy and lazy repetition, the
//! case-insensitive contractions, and the ending `\s+(?!\S)|\s+`. All else is refused by name.

use regex_automata::meta::Regex;
use regex_automata::{Input, PatternID};

/// Steps that cut a text one after the other; none leaves it whole.
#[derive(Debug, Clone, Default)]
pub struct Regexes {
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Step {
    source: String,
    regex: Regex,
    /// The alternative `\s+(?!\S)|\s+`: a run of white space leaves its last character to what follows.
    gives_back: Option<PatternID>,
}

const LEAVES_ONE: &str = r"\s+(?!\S)";

impl Regexes {
    /// Adds a step that cuts out each match.
    ///
    /// # Errors
    /// What the expression holds that is not known to mean the same as in the reference.
    pub fn push(&mut self, source: &str) -> Result<(), String> {
        let mut alternatives = Vec::new();
        let mut gives_back = None;
        let mut leaves = false;
        for part in alternatives_of(source) {
            if part == LEAVES_ONE {
                leaves = true;
                continue;
            }
            if leaves {
                if part != r"\s+" && part != r"\s" {
                    return Err(format!("{LEAVES_ONE} before {part}"));
                }
                (leaves, gives_back) = (false, Some(PatternID::must(alternatives.len())));
                alternatives.push(r"\s+");
                continue;
            }
            check(part)?;
            alternatives.push(part);
        }
        if leaves {
            return Err(format!("{LEAVES_ONE} at the end"));
        }
        let config = Regex::config().utf8_empty(true);
        let regex = Regex::builder().configure(config).build_many(&alternatives);
        let regex = regex.map_err(|error| format!("{source:?} ({error})"))?;
        self.steps.push(Step { source: source.into(), regex, gives_back });
        Ok(())
    }

    /// The expressions.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.source.as_str())
    }

    /// Where the pieces of a text end.
    pub fn ends(&self, text: &str) -> Vec<usize> {
        let mut ends = if text.is_empty() { Vec::new() } else { vec![text.len()] };
        for step in &self.steps {
            let mut finer = Vec::with_capacity(ends.len() * 2);
            let mut start = 0;
            for end in ends {
                step.cut(text, start, end, &mut finer);
                start = end;
            }
            ends = finer;
        }
        ends
    }
}

impl Step {
    fn cut(&self, text: &str, start: usize, end: usize, ends: &mut Vec<usize>) {
        let piece = &text[start..end];
        let mut at = 0;
        while at < piece.len() {
            let Some(found) = self.regex.search(&Input::new(piece).range(at..)) else { break };
            let mut stop = found.end();
            if Some(found.pattern()) == self.gives_back && stop < piece.len() {
                let last = piece[found.start()..stop].chars().next_back().map_or(0, char::len_utf8);
                if stop - last > found.start() {
                    stop -= last;
                }
            }
            if found.start() > at {
                ends.push(start + found.start());
            }
            ends.push(start + stop);
            at = stop;
        }
        if at < piece.len() {
            ends.push(end);
        }
    }
}

/// The alternatives at the top of an expression.
fn alternatives_of(source: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut in_class) = (Vec::new(), 0, 0, 0);
    let mut characters = source.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => _ = characters.next(),
            '[' => in_class += 1,
            ']' if in_class > 0 => in_class -= 1,
            '(' if in_class == 0 => depth += 1,
            ')' if in_class == 0 => depth -= 1,
            '|' if in_class == 0 && depth == 0 => {
                parts.push(&source[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&source[start..]);
    parts
}

/// Whether an alternative holds only what both engines read alike.
fn check(part: &str) -> Result<(), String> {
    let mut rest = part.chars().peekable();
    let (mut in_class, mut repeated) = (0, false);
    while let Some(c) = rest.next() {
        let mut repeats = false;
        match c {
            '\\' => match rest.next() {
                Some('p' | 'P' | 'u' | 'x') if rest.peek() == Some(&'{') => {
                    rest.by_ref().find(|&c| c == '}');
                }
                Some('p' | 'P' | 's' | 'S' | 'd' | 'D' | 'r' | 'n' | 't' | 'u' | 'x') => {}
                Some(c) if !c.is_alphanumeric() => {}
                other => return Err(format!("\\{}", other.map(String::from).unwrap_or_default())),
            },
            '[' => {
                in_class += 1;
                if rest.peek() == Some(&':') {
                    return Err("[: :]".into());
                }
            }
            ']' if in_class > 0 => in_class -= 1,
            '&' if in_class > 0 && rest.peek() == Some(&'&') => return Err("&& in a class".into()),
            _ if in_class > 0 => {}
            '^' | '$' => return Err(c.into()),
            '+' | '*' | '?' | '{' => {
                if c == '+' && repeated {
                    return Err("possessive repetition".into());
                }
                if c == '{' {
                    let inside: String = rest.by_ref().take_while(|&c| c != '}').collect();
                    if !inside.starts_with(|c: char| c.is_ascii_digit()) {
                        return Err(format!("{{{inside}}}"));
                    }
                }
                repeats = true;
            }
            '(' if rest.peek() == Some(&'?') => {
                rest.next();
                match rest.next() {
                    Some(':') => {}
                    Some('i') if rest.next() == Some(':') => {
                        let inside: String = rest.clone().take_while(|&c| c != ')').collect();
                        let ligatures = ["ss", "st", "ff", "fi", "fl"];
                        let lower = inside.to_ascii_lowercase();
                        if !inside.is_ascii() || ligatures.iter().any(|pair| lower.contains(pair)) {
                            return Err(format!("(?i:{inside})"));
                        }
                    }
                    other => {
                        return Err(format!("(?{}", other.map(String::from).unwrap_or_default()));
                    }
                }
            }
            _ => {}
        }
        repeated = repeats;
    }
    match regex_syntax::parse(part) {
        Err(error) => Err(error.to_string()),
        Ok(hir) if hir.properties().minimum_len() == Some(0) => {
            Err(format!("{part:?}, which matches nothing"))
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pattern;

    #[test]
    fn known_patterns_cut_as_their_machines_do() {
        let texts = [
            "I'll pay  $1234.5\r\n\n  now\n'ſo",
            "a   ",
            "HTTPServer don't CAN'T",
            "世界。hello ١٢٣٤",
            "\u{3000}\u{3000}中文 \r\n\r\n x",
            "//x /\n/y",
            "  \t \n  a",
            " ",
            "",
        ];
        for pattern in [Pattern::Gpt2, Pattern::Cl100k, Pattern::Qwen, Pattern::O200k] {
            let mut regexes = Regexes::default();
            regexes.push(pattern.regex()).unwrap();
            for text in texts {
                let mut machine = Vec::new();
                let mut end = 0;
                pattern.each(text, |piece| {
                    end += piece.len();
                    machine.push(end);
                });
                assert_eq!(regexes.ends(text), machine, "{pattern:?} {text:?}");
            }
        }
    }

    #[test]
    fn steps_refine_one_another() {
        let mut regexes = Regexes::default();
        assert_eq!(regexes.ends("ab1"), [3]);
        regexes.push(r"\p{N}{1,3}").unwrap();
        regexes.push(r"[a-z]").unwrap();
        assert_eq!(regexes.ends("ab1234!?c"), [1, 2, 5, 6, 8, 9]);
    }

    #[test]
    fn what_may_mean_something_else_is_refused() {
        for source in [
            r"\w+",
            r"a++",
            r"\bx",
            r"^a",
            r"a$",
            r"(?<=a)b",
            r"(?!a)b",
            r"[[:alpha:]]",
            r"a*",
            r"(?i:straße)",
            r"(?i:st)",
            r"\h",
            r"(?m:a)",
            r"\s+(?!\S)",
            r"\s+(?!\S)|a",
            r"a{,2}",
            r"[a&&b]",
            r"(",
        ] {
            assert!(Regexes::default().push(source).is_err(), "{source}");
        }
    }
}
