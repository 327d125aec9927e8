//! Decoding that counts, and remembers where, bytes were no text.

use std::ops::Range;

use encoding_rs::{DecoderResult, Encoding};

/// Text with U+FFFD where bytes could not be read.
pub struct Lossy {
    /// The text.
    pub text: String,
    /// How many malformed sequences became U+FFFD.
    pub replaced: usize,
    /// Characters beyond ASCII that were read.
    pub wide: usize,
    /// The malformed sequences, as many as are worth remembering.
    pub malformed: Vec<Range<usize>>,
    /// Whether all that is wrong is a sequence cut short by the end of the bytes.
    pub cut: bool,
}

impl Lossy {
    /// Whether this many malformed sequences say that the encoding is another one.
    ///
    /// One bad byte never does while anything else could be read: it costs one character, not the
    /// page. Beyond that 1 % of all characters is too much, or a fifth of those beyond ASCII, for
    /// markup hides what happens to the text.
    pub fn is_contradicted(&self) -> bool {
        match self.replaced {
            0 => false,
            1 => self.wide == 0,
            bad => bad * 100 > self.text.chars().count() || bad * 5 > self.wide,
        }
    }

    /// For bytes read as UTF-8: whether they are it, but for damage.
    ///
    /// A text in another encoding yields hardly any valid sequence of several bytes.
    pub fn is_plausible_utf8(&self) -> bool {
        self.wide > 0 && (self.cut || self.replaced * 2 <= self.wide)
    }
}

const REMEMBERED: usize = 1 << 16;

/// Decodes without looking for a byte-order mark.
pub fn decode_lossy(encoding: &'static Encoding, bytes: &[u8]) -> Lossy {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut read =
        Lossy { text: String::new(), replaced: 0, wide: 0, malformed: Vec::new(), cut: false };
    read.text.reserve(bytes.len());
    let mut buffer = [0; 8192];
    let mut at = 0;
    loop {
        let (result, used, written) =
            decoder.decode_to_utf8_without_replacement(&bytes[at..], &mut buffer, true);
        at += used;
        // The decoder writes UTF-8 only; checking it is cheaper than reading about why not to.
        read.text.push_str(std::str::from_utf8(&buffer[..written]).unwrap_or_default());
        match result {
            DecoderResult::InputEmpty => break,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(length, after) => {
                let end = at - usize::from(after);
                if read.malformed.len() < REMEMBERED {
                    read.malformed.push(end.saturating_sub(usize::from(length))..end);
                }
                read.text.push('\u{fffd}');
                read.replaced += 1;
            }
        }
    }
    read.cut = read.replaced == 1 && read.malformed[0].end == bytes.len();
    read.wide = read.text.chars().filter(|c| !c.is_ascii()).count() - read.replaced;
    read
}
