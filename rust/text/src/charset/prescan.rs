//! The encoding that a page names itself, found as browsers find it.
//!
//! Source: the HTML Standard, "prescan a byte stream to determine its encoding".

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

const HEAD: usize = 4096;

/// The encoding of the first `<meta charset>`, `<meta http-equiv content>` or XML declaration.
pub fn declared_in_head(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(HEAD)];
    if let Some(found) = xml_declaration(head) {
        return Some(found);
    }
    let mut at = 0;
    while at < head.len() {
        let rest = &head[at..];
        if rest.starts_with(b"<!--") {
            at += 2 + find(&rest[2..], b"-->").map_or(rest.len(), |end| end + 3);
        } else if starts_with(rest, b"<meta")
            && rest.get(5).is_some_and(|&b| is_blank(b) || b == b'/')
        {
            let mut tag = Attributes { bytes: head, at: at + 5 };
            if let Some(found) = from_meta(&mut tag) {
                return Some(found);
            }
            at = tag.at;
        } else if rest[0] == b'<'
            && rest.get(1).is_some_and(|&b| b.is_ascii_alphabetic() || b == b'/')
        {
            // Attributes may hold `>` and `<meta`; they are stepped over one by one.
            let name = rest[1..].iter().position(|&b| is_blank(b) || b == b'>');
            let mut tag = Attributes { bytes: head, at: at + 1 + name.unwrap_or(rest.len()) };
            while tag.next().is_some() {}
            at = tag.at.max(at + 1);
        } else {
            at += 1;
        }
    }
    None
}

fn from_meta(tag: &mut Attributes<'_>) -> Option<&'static Encoding> {
    let (mut pragma, mut from_content, mut charset) = (false, None, None);
    for (name, value) in tag.by_ref() {
        match name.as_slice() {
            b"http-equiv" => pragma = value.eq_ignore_ascii_case(b"content-type"),
            b"charset" => charset = charset.or_else(|| Some(value.clone())),
            b"content" => from_content = from_content.or_else(|| charset_in(&value)),
            _ => {}
        }
    }
    let label = charset.or_else(|| from_content.filter(|_| pragma))?;
    by_label(&label)
}

/// What a page in ASCII can truly be: it can't be read as UTF-16 if it names it in ASCII.
fn by_label(label: &[u8]) -> Option<&'static Encoding> {
    let found = Encoding::for_label(label)?;
    match found {
        _ if found == UTF_16LE || found == UTF_16BE => Some(UTF_8),
        _ if found == X_USER_DEFINED => Some(WINDOWS_1252),
        _ => Some(found),
    }
}

/// `charset=…` within the value of a `content` attribute or of a Content-Type header.
pub fn charset_in(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        rest = &rest[find_ignoring_case(rest, b"charset")? + b"charset".len()..];
        let after = trim(rest);
        if let Some(value) = after.strip_prefix(b"=") {
            let value = trim(value);
            return match value.first()? {
                quote @ (b'"' | b'\'') => {
                    let end = value[1..].iter().position(|byte| byte == quote)?;
                    Some(value[1..=end].to_vec())
                }
                _ => {
                    let end = value.iter().position(|&byte| is_blank(byte) || byte == b';');
                    Some(value[..end.unwrap_or(value.len())].to_vec())
                }
            };
        }
    }
}

fn xml_declaration(head: &[u8]) -> Option<&'static Encoding> {
    let rest = head.strip_prefix(b"<?xml")?;
    let declaration = &rest[..find(rest, b"?>")?];
    let after = trim(&declaration[find(declaration, b"encoding")? + b"encoding".len()..]);
    let value = trim(after.strip_prefix(b"=")?);
    let quote = *value.first()?;
    let end = value[1..].iter().position(|&byte| byte == quote)?;
    by_label(&value[1..=end])
}

/// The attributes of a tag, names in lower case; afterwards `at` is behind its `>`.
struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Attributes<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_while(&mut self, test: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&test) {
            self.at += 1;
        }
    }

    fn take_while(&mut self, test: impl Fn(u8) -> bool) -> &[u8] {
        let start = self.at;
        self.skip_while(test);
        &self.bytes[start..self.at]
    }
}

impl Iterator for Attributes<'_> {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_while(|b| is_blank(b) || b == b'/');
        if self.peek()? == b'>' {
            self.at += 1;
            return None;
        }
        let name = self.take_while(|b| !is_blank(b) && !matches!(b, b'=' | b'>' | b'/'));
        let name = name.to_ascii_lowercase();
        self.skip_while(is_blank);
        if self.peek() != Some(b'=') {
            return Some((name, Vec::new()));
        }
        self.at += 1;
        self.skip_while(is_blank);
        let value = match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                self.at += 1;
                let value = self.take_while(|b| b != quote).to_vec();
                self.at = (self.at + 1).min(self.bytes.len());
                value
            }
            _ => self.take_while(|b| !is_blank(b) && b != b'>').to_vec(),
        };
        Some((name, value))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

fn starts_with(bytes: &[u8], lower: &[u8]) -> bool {
    bytes.get(..lower.len()).is_some_and(|head| head.eq_ignore_ascii_case(lower))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn find_ignoring_case(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}
