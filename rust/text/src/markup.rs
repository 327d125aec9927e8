//! Left-over HTML: characters inside tags and entities.

/// Longest tag looked for, so that a stray `<` costs little.
const LONGEST_TAG: usize = 300;

/// Bytes of `text` inside `<tag …>`, `</tag>`, `<!--` and `&entity;`. All of them are ASCII or
/// nearly so: bytes stand for characters here.
pub fn markup_chars(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (0, 0);
    while let Some(offset) = memchr::memchr2(b'<', b'&', &bytes[at..]) {
        at += offset;
        let length = if bytes[at] == b'<' { tag(&bytes[at..]) } else { entity(&bytes[at..]) };
        found += length as u64;
        at += length.max(1);
    }
    found
}

fn tag(bytes: &[u8]) -> usize {
    let name = match bytes.get(1) {
        Some(b'/' | b'!') => bytes.get(2),
        other => other,
    };
    if !name.is_some_and(|b| b.is_ascii_alphabetic() || *b == b'-') {
        return 0;
    }
    let end = bytes[1..].iter().take(LONGEST_TAG).position(|b| matches!(b, b'>' | b'<'));
    end.filter(|&end| bytes[end + 1] == b'>').map_or(0, |end| end + 2)
}

fn entity(bytes: &[u8]) -> usize {
    let digits = bytes.get(1) == Some(&b'#');
    let name = if digits { &bytes[2..] } else { &bytes[1..] };
    let length = name.iter().take(10).take_while(|b| b.is_ascii_alphanumeric()).count();
    let closed = length >= 2 && name.get(length) == Some(&b';');
    if closed { length + 2 + usize::from(digits) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::markup_chars;

    #[test]
    fn counts() {
        assert_eq!(markup_chars("a <b>c</b> d"), 7);
        assert_eq!(markup_chars("x &nbsp; y &#160;"), 12);
        assert_eq!(markup_chars("a < b && c > d, AT&T; <"), 0);
        assert_eq!(markup_chars(""), 0);
        assert_eq!(markup_chars("&"), 0);
        assert_eq!(markup_chars("<!-- x -->"), 10);
    }
}
