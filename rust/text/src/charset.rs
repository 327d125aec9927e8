//! Bytes of unknown encoding to text: mark, label, `<meta>`, content, in that order.
//!
//! Labels mean what the WHATWG Encoding Standard says (`gb2312` is gb18030, `iso-8859-1` is
//! windows-1252, `shift_jis` is windows-31j). A label that the bytes contradict is not believed.

mod detect;
mod lossy;
mod prescan;

use encoding_rs::{Encoding, GBK, REPLACEMENT, UTF_8};

use detect::{guess, utf16_without_mark};
use lossy::{Lossy, decode_lossy};
use prescan::declared_in_head;

/// What settled the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A byte-order mark.
    Mark,
    /// The `charset` of the HTTP header.
    Http,
    /// A `<meta>` element or an XML declaration.
    Meta,
    /// The bytes themselves.
    Content,
}

impl Evidence {
    /// `bom`, `http`, `meta` or `content`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mark => "bom",
            Self::Http => "http",
            Self::Meta => "meta",
            Self::Content => "content",
        }
    }
}

/// Text, and how it was read.
#[derive(Debug)]
pub struct Decoded {
    /// The text, without a byte-order mark at its start.
    pub text: String,
    /// Name of the encoding by the WHATWG standard, in lower case.
    pub encoding: String,
    /// How many U+FFFD stand for bytes that were no text in this encoding.
    pub replaced: usize,
    /// What settled the encoding.
    pub evidence: Evidence,
}

/// Decodes bytes; never fails: what can't be read becomes U+FFFD and is counted.
///
/// `http` is the label of the HTTP header. `html`: whether the bytes may name their encoding
/// themselves, in a `<meta>` element or an XML declaration within the first 4 KiB (browsers look at
/// 1 KiB; crawled pages put scripts before it).
#[must_use]
pub fn decode(bytes: &[u8], http: Option<&str>, html: bool) -> Decoded {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        return finish(encoding, decode_lossy(encoding, &bytes[length..]), Evidence::Mark);
    }
    let labels = [
        (http.and_then(|label| Encoding::for_label(label.as_bytes())), Evidence::Http),
        (html.then(|| declared_in_head(bytes)).flatten(), Evidence::Meta),
    ];
    for (label, evidence) in labels {
        // `replacement` stands for encodings that only attacks use; their text is read by content.
        let Some(label) = label.filter(|&label| label != REPLACEMENT) else { continue };
        let read = decode_lossy(label, bytes);
        let contradicted = match label == UTF_8 {
            true => read.is_contradicted() && !read.is_plausible_utf8(),
            false => read.is_contradicted() || is_utf8_after_all(bytes, &read),
        };
        if !contradicted {
            return finish(label, read, evidence);
        }
        let found = guess(bytes, Some((label, &read)));
        if found == label {
            return finish(label, read, evidence);
        }
    }
    if let Some(encoding) = utf16_without_mark(bytes) {
        return finish(encoding, decode_lossy(encoding, bytes), Evidence::Content);
    }
    let found = guess(bytes, None);
    finish(found, decode_lossy(found, bytes), Evidence::Content)
}

/// Whether bytes that a label calls something else are UTF-8: any text in another encoding that
/// happens to be valid UTF-8 is a few characters long.
fn is_utf8_after_all(bytes: &[u8], read: &Lossy) -> bool {
    const CHANCE: usize = 3;
    std::str::from_utf8(bytes).is_ok_and(|text| {
        let wide = text.chars().filter(|c| !c.is_ascii()).count();
        wide >= CHANCE || (wide > 0 && read.replaced > 0)
    })
}

fn finish(encoding: &'static Encoding, read: Lossy, evidence: Evidence) -> Decoded {
    // The decoder of GBK is that of gb18030, which is what the text is called.
    let encoding = if encoding == GBK { encoding_rs::GB18030 } else { encoding };
    let mut text = read.text;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Decoded { text, encoding: encoding.name().to_lowercase(), replaced: read.replaced, evidence }
}

#[cfg(test)]
mod tests;
