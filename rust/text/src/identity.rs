//! The identity of a record, the same on every machine and for every order of work.

use memchr::memchr_iter;
use xxhash_rust::xxh3::Xxh3;

const MARK: &[u8] = "\u{feff}".as_bytes();

/// 128-bit xxh3 over `source ‖ 0 ‖ url ‖ 0 ‖ text`, as 32 lower-case hex digits.
///
/// A byte-order mark and the difference between CRLF, CR and LF do not change it.
#[must_use]
pub fn record_id(source: &str, url: &str, text: &str) -> String {
    let mut id = Vec::with_capacity(32);
    write_id(source.as_bytes(), url.as_bytes(), text.as_bytes(), &mut id);
    id.into_iter().map(char::from).collect()
}

/// Appends the digits of `record_id` to `id`.
pub(crate) fn write_id(source: &[u8], url: &[u8], text: &[u8], id: &mut Vec<u8>) {
    let mut hash = Xxh3::new();
    for field in [source, url] {
        hash.update(field);
        hash.update(&[0]);
    }
    let text = text.strip_prefix(MARK).unwrap_or(text);
    let mut start = 0;
    for end in memchr_iter(b'\r', text) {
        hash.update(&text[start..end]);
        start = end + 1;
        if text.get(start) != Some(&b'\n') {
            hash.update(b"\n");
        }
    }
    hash.update(&text[start..]);
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    id.extend(
        hash.digest128()
            .to_be_bytes()
            .into_iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]),
    );
}

#[cfg(test)]
mod tests {
    use super::record_id;

    #[test]
    fn line_ends_and_bom_do_not_matter() {
        let id = record_id("web", "", "a\nb\n\nc");
        assert_eq!(id, record_id("web", "", "\u{feff}a\r\nb\r\n\rc"));
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn fields_do_not_run_together() {
        assert_ne!(record_id("ab", "", "c"), record_id("a", "b", "c"));
        assert_ne!(record_id("a", "", "b\nc"), record_id("a", "", "b c"));
    }

    #[test]
    fn golden() {
        assert_eq!(
            record_id("web", "http://a.example/", "text"),
            "fbede70d2a39b8b91c2b1fd27c21d45b"
        );
    }
}
