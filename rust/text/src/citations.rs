//! Marks that point to notes which the text no longer has: `[1]`, `[2, 3]`, `[citation needed]`.

/// Words in brackets that encyclopaedias put behind a statement or a heading.
const WORDS: [&str; 8] = [
    "citation needed",
    "edit",
    "edit source",
    "clarification needed",
    "来源请求",
    "來源請求",
    "编辑",
    "編輯",
];

/// The line without its citation marks and how many there were; `None` if it has none.
///
/// A mark follows a word or its punctuation directly, and no `(` or `:` follows it (that would be a
/// link or its address). What stands in backquotes or after a backslash stays: `a[1]` is code there.
pub fn without_marks(line: &str) -> Option<(String, u32)> {
    // In TeX brackets are arguments.
    if !line.contains('[') || ["$$", "\\begin{", "\\end{"].iter().any(|tex| line.contains(tex)) {
        return None;
    }
    let (mut text, mut count) = (line.to_owned(), 0);
    // Taking one out may bring two halves of another together.
    while let Some((from, to)) = mark(&text) {
        text.replace_range(from..to, "");
        count += 1;
    }
    (count > 0).then_some((text, count))
}

fn mark(text: &str) -> Option<(usize, usize)> {
    let (mut in_code, mut in_formula) = (false, false);
    let mut last = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '`' => in_code = !in_code,
            '$' => in_formula = !in_formula,
            '[' if !in_code && !in_formula && !last.is_whitespace() && !"\\[(`!".contains(last) => {
                let inside = &text[at + 1..];
                if let Some(length) = inside.find(']')
                    && is_mark(&inside[..length])
                    && !inside[length + 1..].starts_with(['(', ':', '['])
                    && !is_link(&text[..at])
                {
                    return Some((at, at + length + 2));
                }
            }
            _ => {}
        }
        last = c;
    }
    None
}

/// Whether what stands before is the text of a reference link: `[text][1]`.
fn is_link(before: &str) -> bool {
    before
        .strip_suffix(']')
        .and_then(|open| open.rsplit_once('['))
        .is_some_and(|(_, label)| !is_mark(label))
}

fn is_mark(inside: &str) -> bool {
    let is_number = |part: &str| {
        let part = part.trim();
        (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    inside.len() <= 40
        && (inside.split([',', '-', '–', '，']).all(is_number) || {
            let lower = inside.trim().to_lowercase();
            WORDS.contains(&lower.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::without_marks;

    #[test]
    fn marks() {
        let out = |line: &str| without_marks(line).map(|(text, _)| text);
        assert_eq!(out("True.[1][2, 3] So[citation needed] it is[4–6]."), {
            // The first is followed by another, which goes first.
            Some("True. So it is.".to_owned())
        });
        assert_eq!(out("三国时期[12]，魏[来源请求]"), Some("三国时期，魏".to_owned()));
        assert_eq!(out("History[edit]"), Some("History".to_owned()));
        for line in [
            "`a[1]`",
            "see [1]",
            "a[1](http://x)",
            "x[i]",
            "$a[1]$",
            "[a][1]",
            "[1]: http://x",
            "\\[1]",
        ] {
            assert_eq!(out(line), None, "{line}");
        }
    }
}
