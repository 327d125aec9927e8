//! The phrases C4 looks for: filler, JavaScript notices, policies (Raffel et al. 2020, §2.2, and the
//! lists of its published code).

/// What a token and the text before it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phrase {
    /// "lorem ipsum".
    Filler,
    /// "javascript", or a cookie, privacy or usage policy.
    Boilerplate,
}

/// The last words of the phrases, with what must stand before them.
const ENDINGS: [(&[u8], &[&[u8]]); 4] = [
    (b"ipsum", &[b"lorem "]),
    (b"use", &[b"terms of "]),
    (b"policy", &[b"privacy ", b"cookie "]),
    (b"cookies", &[b"uses ", b"use of ", b"use "]),
];

/// Whether a token can end one of the phrases; called once for each different token.
pub fn may_hold(token: &[u8]) -> bool {
    starts_with_ending(token).is_some() || has_javascript(token)
}

/// The phrase that the token at `from..to` ends, if any.
pub fn at(bytes: &[u8], from: usize, to: usize) -> Option<Phrase> {
    let token = &bytes[from..to];
    if let Some(ending) = starts_with_ending(token) {
        let before = &bytes[..from];
        if ENDINGS[ending].1.iter().any(|words| ends_with(before, words)) {
            return Some(if ending == 0 { Phrase::Filler } else { Phrase::Boilerplate });
        }
    }
    has_javascript(token).then_some(Phrase::Boilerplate)
}

fn starts_with_ending(token: &[u8]) -> Option<usize> {
    let first = token.first()?.to_ascii_lowercase();
    if !matches!(first, b'i' | b'u' | b'p' | b'c') {
        return None;
    }
    ENDINGS.iter().position(|(ending, _)| {
        token.len() >= ending.len() && token[..ending.len()].eq_ignore_ascii_case(ending)
    })
}

fn has_javascript(token: &[u8]) -> bool {
    let Some(last) = token.len().checked_sub(10) else {
        return false;
    };
    memchr::memchr2_iter(b'j', b'J', &token[..=last])
        .any(|at| token[at..at + 10].eq_ignore_ascii_case(b"javascript"))
}

fn ends_with(text: &[u8], words: &[u8]) -> bool {
    text.len() >= words.len() && text[text.len() - words.len()..].eq_ignore_ascii_case(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Option<Phrase> {
        text.split(' ').find_map(|token| {
            let from = token.as_ptr() as usize - text.as_ptr() as usize;
            at(text.as_bytes(), from, from + token.len())
        })
    }

    #[test]
    fn phrases() {
        assert_eq!(find("Lorem ipsum dolor"), Some(Phrase::Filler));
        assert_eq!(find("ipsum alone"), None);
        assert_eq!(find("please enable JavaScript."), Some(Phrase::Boilerplate));
        assert_eq!(find("our Privacy Policy."), Some(Phrase::Boilerplate));
        assert_eq!(find("the terms of use"), Some(Phrase::Boilerplate));
        assert_eq!(find("This site uses cookies"), Some(Phrase::Boilerplate));
        assert_eq!(find("foreign policy and home-made cookies of use"), None);
    }
}
