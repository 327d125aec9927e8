//! The identity of a record, the same on every machine and for every order of work.

use xxhash_rust::xxh3::Xxh3;

/// 128-bit xxh3 over `source ‖ 0 ‖ url ‖ 0 ‖ text`, as 32 lower-case hex digits.
///
/// A byte-order mark and the difference between CRLF, CR and LF do not change it.
#[must_use]
pub fn record_id(source: &str, url: &str, text: &str) -> String {
    let mut hash = Xxh3::new();
    hash.update(source.as_bytes());
    hash.update(&[0]);
    hash.update(url.as_bytes());
    hash.update(&[0]);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split('\r');
    if let Some(first) = lines.next() {
        hash.update(first.as_bytes());
    }
    for line in lines {
        if !line.starts_with('\n') {
            hash.update(b"\n");
        }
        hash.update(line.as_bytes());
    }
    format!("{:032x}", hash.digest128())
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
