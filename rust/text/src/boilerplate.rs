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
    /// Patterns of whole lines, and of parts of lines.
    sets: [Set; 2],
    longest: usize,
    count: usize,
}

#[derive(Debug)]
struct Set {
    patterns: RegexSet,
    /// Number among all rules, longest line, and place of each.
    rules: Vec<(usize, usize, Place)>,
}

/// The first rule that matches a line, by place.
type Found = [Option<usize>; 3];

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
        let limit = |chars: usize| if chars == 0 { usize::MAX } else { chars };
        let set = |part: bool| -> Result<Set, LineRuleError> {
            let own: Vec<_> = raw.iter().enumerate().filter(|(_, r)| r.part == part).collect();
            Ok(Set {
                patterns: compile(&raw, own.iter().map(|(_, rule)| *rule))?,
                rules: own
                    .iter()
                    .map(|(n, rule)| (*n, limit(rule.max_chars), rule.place))
                    .collect(),
            })
        };
        let longest = raw.iter().map(|rule| limit(rule.max_chars)).max().unwrap_or(0);
        Ok(Self { sets: [set(false)?, set(true)?], longest, count: raw.len() })
    }

    fn find(&self, line: &str) -> Found {
        let mut found = [None; 3];
        let chars = line.chars().count();
        if chars > self.longest {
            return found;
        }
        for set in self.sets.iter().filter(|set| set.patterns.is_match(line)) {
            let matches = set.patterns.matches(line);
            for (number, longest, place) in matches.iter().map(|at| set.rules[at]) {
                let first = &mut found[place as usize];
                if chars <= longest && first.is_none_or(|first| number < first) {
                    *first = Some(number);
                }
            }
        }
        found
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
        let mut found = vec![[None; 3]; lines.len()];
        let mut takes = vec![None; lines.len()];
        let mut any = false;
        for (row, line) in lines.iter().enumerate() {
            if kinds[row] == Kind::Prose && line.len() / 4 <= self.longest {
                found[row] = self.find(&bare(line));
                takes[row] = found[row][Place::Anywhere as usize];
                any |= found[row] != [None; 3];
            }
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
            if row < lines.len() && found[row][Place::Menu as usize].is_some() {
                run.push(row);
                continue;
            }
            if run.len() >= MENU_LINES {
                run.iter().for_each(|&row| takes[row] = found[row][Place::Menu as usize]);
            }
            run.clear();
        }
        let mut strip = |rows: &mut dyn Iterator<Item = usize>| {
            for row in rows {
                if open(&takes, row) {
                    let Some(rule) = found[row][Place::Edge as usize] else { break };
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

fn compile<'a>(
    raw: &[RawRule],
    rules: impl Iterator<Item = &'a RawRule>,
) -> Result<RegexSet, LineRuleError> {
    let text = |rule: &RawRule| match rule.part {
        true => rule.pattern.clone(),
        false => format!("^(?:{})$", rule.pattern),
    };
    let set =
        RegexSetBuilder::new(rules.map(text)).size_limit(64 << 20).dfa_size_limit(16 << 20).build();
    set.map_err(|error| {
        // The set does not say which pattern is wrong.
        let wrong = raw.iter().position(|rule| regex::Regex::new(&text(rule)).is_err());
        LineRuleError::Pattern { number: wrong.unwrap_or(0), error: Box::new(error) }
    })
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
