//! Which lines of a Markdown text are to be left as they are: fenced and indented code, formulas,
//! tables.

/// What a line is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Running text, a heading, a list item.
    Prose,
    /// Nothing but blanks, outside fenced blocks and formulas.
    Blank,
    /// A fenced block, its fences included.
    Fence,
    /// A displayed formula: `$$ … $$`, `\[ … \]`, `\begin{x} … \end{x}`.
    Formula,
    /// Indented by four blanks or a tab: code, or the inside of a list.
    Indented,
    /// A row of a table.
    Table,
}

/// The kinds of consecutive lines.
///
/// A fence that is never closed runs to the end (CommonMark 4.5). A formula must close before a
/// blank line, as TeX asks (an environment anywhere): a lone `$$` in prose opens nothing.
pub fn kinds<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut fence: Option<&str> = None;
    let mut formula_lines = 0usize;
    // Environments that are not closed after the place last looked at.
    let mut unclosed: Vec<&str> = Vec::new();
    let mut rest = lines;
    while let Some(line) = rest.next() {
        if formula_lines > 0 {
            formula_lines -= 1;
            kinds.push(Kind::Formula);
            continue;
        }
        let body = line.trim();
        let is_open = fence.is_some();
        let first = body.as_bytes().first().copied();
        let mark = if matches!(first, Some(b'`' | b'~')) { fence_mark(line) } else { None };
        if is_open || mark.is_some() {
            fence = match (fence, mark) {
                (None, open) => open,
                (Some(open), Some(mark)) if mark.starts_with(open) && body.len() == mark.len() => {
                    None
                }
                (open, _) => open,
            };
            kinds.push(Kind::Fence);
            continue;
        }
        if let Some(length) = formula(body, rest.clone(), &mut unclosed) {
            formula_lines = length;
            kinds.push(Kind::Formula);
            continue;
        }
        kinds.push(match first {
            None => Kind::Blank,
            _ if is_indented(line) => Kind::Indented,
            Some(b'|') => Kind::Table,
            _ => Kind::Prose,
        });
    }
    kinds
}

/// Whether a line's indentation makes it code.
fn is_indented(line: &str) -> bool {
    let body = line.trim_start_matches([' ', '\t', '\u{a0}']);
    let indentation = &line[..line.len() - body.len()];
    indentation.len() >= 4 || indentation.contains('\t')
}

/// How many lines after this one belong to the formula that it opens; 0 if it closes it.
fn formula<'a>(
    body: &'a str,
    mut rest: impl Iterator<Item = &'a str>,
    unclosed: &mut Vec<&'a str>,
) -> Option<usize> {
    if let Some(inside) = body.strip_prefix("$$") {
        let closes = |line: &str| line.contains("$$");
        return if closes(inside) { Some(0) } else { paragraph_until(rest, closes) };
    }
    if let Some(inside) = body.strip_prefix("\\[") {
        let closes = |line: &str| line.contains("\\]");
        return if closes(inside) { Some(0) } else { paragraph_until(rest, closes) };
    }
    let (name, inside) = body.strip_prefix("\\begin{")?.split_once('}')?;
    let closes = |line: &str| {
        line.match_indices("\\end{")
            .any(|(at, end)| line[at + end.len()..].split_once('}').is_some_and(|(n, _)| n == name))
    };
    if closes(inside) {
        return Some(0);
    }
    if unclosed.contains(&name) {
        return None;
    }
    let found = rest.position(closes).map(|place| place + 1);
    if found.is_none() {
        unclosed.push(name);
    }
    found
}

fn paragraph_until<'a>(
    rest: impl Iterator<Item = &'a str>,
    closes: impl Fn(&str) -> bool,
) -> Option<usize> {
    for (number, line) in rest.enumerate() {
        if closes(line) {
            return Some(number + 1);
        }
        if line.trim().is_empty() {
            return None;
        }
    }
    None
}

/// The run of backticks or tildes that opens or closes a fenced block (CommonMark 4.5).
fn fence_mark(line: &str) -> Option<&str> {
    let start = line.trim_start_matches(' ');
    if line.len() - start.len() > 3 {
        return None;
    }
    let first = start.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = start.len() - start.trim_start_matches(first).len();
    (length >= 3).then(|| &start[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> String {
        kinds(text.split('\n'))
            .into_iter()
            .map(|kind| match kind {
                Kind::Prose => 'p',
                Kind::Blank => ' ',
                Kind::Fence => 'f',
                Kind::Formula => 'm',
                Kind::Indented => 'i',
                Kind::Table => 't',
            })
            .collect()
    }

    #[test]
    fn blocks() {
        assert_eq!(letters("a\n```\nb\n\n```\nc\n"), "pffffp ");
        assert_eq!(letters("```\nnever closed\n\nb"), "ffff");
        assert_eq!(letters("~~~\n```\n~~~\nx"), "fffp");
        assert_eq!(letters("a\n$$\nx = 1\n$$\nb"), "pmmmp");
        assert_eq!(letters("$$x$$\nb"), "mp");
        assert_eq!(letters("$$ for cash\nb\n\n$$"), "pp p");
        assert_eq!(letters("\\[\nx\n\\]\nb"), "mmmp");
        assert_eq!(letters("\\begin{align}\nx\n\ny\\end{align}\nb"), "mmmmp");
        assert_eq!(letters("\\begin{a}\n\\begin{a}\nx"), "ppp");
        assert_eq!(letters("    code\n\tcode\n| a | b |\n  p"), "iitp");
    }
}
