//! Lines that are the site's and not the page's: menus, notices, footers, buttons.

use std::borrow::Cow;

use regex::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

use crate::blocks::Kind;

/// Lines of a menu in a row from which on they are one: two short lines may be a verse.
const MENU_LINES: usize = 3;

/// Where a line must stand to be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// Anywhere.
    Anywhere,
    /// At the text's start or end, with nothing but such lines before or after it.
    Edge,
    /// In a row of at least three.
    Menu,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    pattern: String,
    place: Place,
    part: bool,
    max_chars: usize,
}

/// Rules about lines, in order: of those that match a line the first gives the reason.
#[derive(Debug)]
pub struct LineRules {
    sets: Vec<Set>,
    longest: usize,
    count: usize,
}

/// The rules of one place.
#[derive(Debug)]
struct Set {
    /// Patterns of whole lines, and of parts of lines.
    patterns: [RegexSet; 2],
    /// Number among all rules and longest line of each.
    rules: [Vec<(usize, usize)>; 2],
    longest: usize,
}

/// Why line rules can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LineRuleError {
    /// Not the JSON that was expected.
    #[error("line rules: {0}")]
    Json(#[from] serde_json::Error),
    /// No regular expression of the crate regex.
    #[error("line rule {number}: {error}")]
    Pattern {
        /// The rule's place in the list, from 0.
        number: usize,
        /// What is wrong with it.
        error: Box<regex::Error>,
    },
}

impl LineRules {
    /// Reads rules from JSON: `[{"pattern", "place", "part", "max_chars"}, …]`; `place` is
    /// `anywhere`, `edge` or `menu`, and a `max_chars` of 0 sets no limit. A pattern must match a
    /// whole line, or with `part` a part of it, without list marks, headings' hashes, emphasis and
    /// the addresses of links.
    ///
    /// # Errors
    /// Wrong JSON, or a pattern that is no regular expression.
    pub fn from_json(json: &str) -> Result<Self, LineRuleError> {
        let raw: Vec<RawRule> = serde_json::from_str(json)?;
        let mut sets = Vec::new();
        let limit = |chars: usize| if chars == 0 { usize::MAX } else { chars };
        for place in [Place::Anywhere, Place::Menu, Place::Edge] {
            let of = |part: bool| {
                raw.iter().enumerate().filter(move |(_, r)| r.place == place && r.part == part)
            };
            let rules = [false, true]
                .map(|part| of(part).map(|(number, r)| (number, limit(r.max_chars))).collect());
            let whole: Vec<_> = of(false).map(|(_, rule)| rule).collect();
            let parts: Vec<_> = of(true).map(|(_, rule)| rule).collect();
            let patterns = [compile(&raw, &whole)?, compile(&raw, &parts)?];
            let longest = whole.iter().chain(&parts).map(|rule| limit(rule.max_chars)).max();
            sets.push(Set { patterns, rules, longest: longest.unwrap_or(0) });
        }
        let longest = sets.iter().map(|set| set.longest).max().unwrap_or(0);
        Ok(Self { sets, longest, count: raw.len() })
    }

    /// Takes out lines of prose; returns number, lines and characters of each rule that took any.
    ///
    /// What stays would all stay if it were done again: first the lines that go anywhere, then
    /// rows of menu lines (blank lines and lines taken out don't part them), then the ends.
    pub(crate) fn apply(
        &self,
        lines: &[Cow<'_, str>],
        kinds: &[Kind],
        stays: &mut [bool],
    ) -> Vec<(usize, u32, u32)> {
        let mut found: Vec<[Option<usize>; 2]> = Vec::new();
        let mut takes = vec![None; lines.len()];
        let mut any = false;
        for (row, line) in lines.iter().enumerate() {
            let mut later = [None; 2];
            if kinds[row] == Kind::Prose && line.len() / 4 <= self.longest {
                let bare = bare(line);
                let chars = bare.chars().count();
                takes[row] = self.sets[0].find(&bare, chars);
                if takes[row].is_none() {
                    later = [self.sets[1].find(&bare, chars), self.sets[2].find(&bare, chars)];
                }
                any |= takes[row].is_some() || later != [None; 2];
            }
            found.push(later);
        }
        if !any {
            return Vec::new();
        }
        let open =
            |takes: &[Option<usize>], row: usize| kinds[row] != Kind::Blank && takes[row].is_none();
        let mut run: Vec<usize> = Vec::new();
        for row in 0..=lines.len() {
            if row < lines.len() && !open(&takes, row) {
                continue;
            }
            if row < lines.len() && found[row][0].is_some() {
                run.push(row);
                continue;
            }
            if run.len() >= MENU_LINES {
                run.iter().for_each(|&row| takes[row] = found[row][0]);
            }
            run.clear();
        }
        let mut strip = |rows: &mut dyn Iterator<Item = usize>| {
            for row in rows {
                if open(&takes, row) {
                    let Some(rule) = found[row][1] else { break };
                    takes[row] = Some(rule);
                }
            }
        };
        strip(&mut (0..lines.len()));
        strip(&mut (0..lines.len()).rev());
        let mut counts = vec![(0, 0); self.count];
        for (row, rule) in takes.iter().enumerate() {
            if let Some(rule) = rule {
                stays[row] = false;
                counts[*rule].0 += 1;
                counts[*rule].1 += lines[row].chars().count() as u32;
            }
        }
        let rows = counts.into_iter().enumerate().filter(|(_, (lines, _))| *lines > 0);
        rows.map(|(rule, (lines, chars))| (rule, lines, chars)).collect()
    }
}

fn compile(raw: &[RawRule], rules: &[&RawRule]) -> Result<RegexSet, LineRuleError> {
    let text = |rule: &RawRule| match rule.part {
        true => rule.pattern.clone(),
        false => format!("^(?:{})$", rule.pattern),
    };
    let set = RegexSetBuilder::new(rules.iter().map(|rule| text(rule)))
        .size_limit(64 << 20)
        .dfa_size_limit(16 << 20)
        .build();
    set.map_err(|error| {
        // The set does not say which pattern is wrong.
        let wrong = raw.iter().position(|rule| regex::Regex::new(&text(rule)).is_err());
        LineRuleError::Pattern { number: wrong.unwrap_or(0), error: Box::new(error) }
    })
}

impl Set {
    fn find(&self, line: &str, chars: usize) -> Option<usize> {
        if chars > self.longest {
            return None;
        }
        let of = |part: usize| {
            let patterns = &self.patterns[part];
            if patterns.is_empty() || !patterns.is_match(line) {
                return None;
            }
            let matches = patterns.matches(line);
            let rules = matches.iter().map(|at| self.rules[part][at]);
            rules.filter(|rule| chars <= rule.1).map(|rule| rule.0).min()
        };
        match (of(0), of(1)) {
            (Some(whole), Some(part)) => Some(whole.min(part)),
            (whole, part) => whole.or(part),
        }
    }
}

/// A line's words: without list mark, heading hashes, emphasis around it, and addresses of links.
fn bare(line: &str) -> Cow<'_, str> {
    let is_mark =
        |c: char| c.is_whitespace() || matches!(c, '-' | '*' | '+' | '#' | '_' | '•' | '·');
    let inner = line.trim_start_matches(is_mark).trim_end();
    let inner = inner.trim_end_matches(['*', '_', '#', '\\']).trim_end();
    if !inner.contains("](") {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find("](") {
        let Some(end) = rest[at..].find(')') else { break };
        let (before, label) = rest[..at].rsplit_once('[').unwrap_or((&rest[..at], ""));
        // An image is no words.
        match before.strip_suffix('!') {
            Some(before) => out.push_str(before),
            None => {
                out.push_str(before);
                out.push_str(label);
            }
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Cow::Owned(out.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::{Repairs, normalise};

    fn rules() -> LineRules {
        LineRules::from_json(
            r#"[{"pattern": "(?i)share this", "place": "anywhere", "part": false, "max_chars": 40},
                {"pattern": "(?i)home|about|news", "place": "menu", "part": false, "max_chars": 40},
                {"pattern": "© \\d+.*", "place": "edge", "part": false, "max_chars": 20}]"#,
        )
        .unwrap()
    }

    fn cleaned(text: &str) -> String {
        let rules = rules();
        let repairs = Repairs { lines: Some(&rules), ..Repairs::default() };
        let once = normalise(text, repairs).0.into_owned();
        assert_eq!(normalise(&once, repairs).0, once);
        once
    }

    #[test]
    fn lines_go_by_place() {
        assert_eq!(cleaned("a\n\n**Share this**\n\nb"), "a\n\n\nb");
        assert_eq!(cleaned("- Home\n- [About](http://x)\n\n- News\n\na"), "a");
        assert_eq!(cleaned("Home\nAbout\nx\nNews"), "Home\nAbout\nx\nNews");
        assert_eq!(cleaned("Home\nAbout\nShare this\nNews\nx"), "x");
        assert_eq!(cleaned("a\n© 2020\nb\n\n© 2021 x\nshare this\n© 2022"), "a\n© 2020\nb");
        assert_eq!(cleaned("a\n© 2020 and a long line that says more"), {
            "a\n© 2020 and a long line that says more"
        });
    }

    #[test]
    fn blocks_stay_whole() {
        for text in [
            "a\n```\nshare this\n```",
            "a\n\n    share this",
            "$$\nshare this\n$$",
            "| share this |",
            "\\begin{x}\nshare this\n\\end{x}",
        ] {
            assert_eq!(cleaned(text), text);
        }
    }

    #[test]
    fn wrong_patterns_are_named() {
        let wrong = r#"[{"pattern": "a", "place": "edge", "part": false, "max_chars": 0},
                        {"pattern": "(", "place": "edge", "part": false, "max_chars": 0}]"#;
        let error = LineRules::from_json(wrong).unwrap_err().to_string();
        assert!(error.contains("line rule 1"), "{error}");
    }
}
