//! Bytes back to text, whole or as a stream.

/// Turns a stream of bytes into text that never shows half a character.
///
/// Invalid bytes become U+FFFD, one for each maximal invalid part, so that the pieces of any
/// stream, joined, equal the lossy decoding of the whole.
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    /// At most three bytes: the start of a character that may still become whole.
    carry: Vec<u8>,
}

impl Utf8Stream {
    /// Whether no start of a character waits for its rest.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.carry.is_empty()
    }

    /// Text that is certain after these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.carry.is_empty()
            && let Ok(whole) = std::str::from_utf8(bytes)
        {
            return whole.to_owned();
        }
        self.carry.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.carry.len());
        let mut rest = self.carry.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.carry.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(length) => {
                            text.push('\u{fffd}');
                            rest = &after[length..];
                        }
                        None => {
                            self.carry = after.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }

    /// What is left when the stream ends: nothing, or one U+FFFD for a character cut short.
    pub fn flush(&mut self) -> String {
        let rest = std::mem::take(&mut self.carry);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8Stream;

    #[test]
    fn any_cutting_gives_the_whole() {
        let bytes = b"a\xf0\x9f\x99\x82 \xff\xe4\xb8\xe4\xb8\x96\xf0\x9f";
        let whole = String::from_utf8_lossy(bytes);
        for size in 1..=bytes.len() {
            let mut stream = Utf8Stream::default();
            let mut text: String = bytes.chunks(size).map(|part| stream.push(part)).collect();
            text.push_str(&stream.flush());
            assert_eq!(text, whole);
        }
    }

    #[test]
    fn half_a_character_is_held_back() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"x\xf0\x9f\x99"), "x");
        assert_eq!(stream.push(b"\x82y"), "🙂y");
        assert_eq!(stream.flush(), "");
    }
}
