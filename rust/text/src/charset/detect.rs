//! The encoding by the bytes alone.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, GB18030, GBK, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::lossy::{Lossy, decode_lossy};

/// The likeliest encoding; `doubted` is a label with what it made of the bytes.
pub fn guess(bytes: &[u8], doubted: Option<(&'static Encoding, &Lossy)>) -> &'static Encoding {
    if std::str::from_utf8(bytes).is_ok() {
        // ISO-2022-JP is ASCII with escape sequences.
        let escaped = bytes.contains(&0x1b) && detect(bytes) == ISO_2022_JP;
        return if escaped { ISO_2022_JP } else { UTF_8 };
    }
    // The detector strikes out an encoding at its first malformed sequence, so that a page in UTF-8
    // that is cut within a character, or holds one bad byte, is windows-1252 to it.
    if doubted.is_none_or(|(label, _)| label != UTF_8)
        && decode_lossy(UTF_8, sample(bytes, 1 << 12)).is_plausible_utf8()
    {
        return UTF_8;
    }
    let found = detect(bytes);
    let Some((label, read)) = doubted else { return found };
    // The same for other labels: without their malformed sequences, are the bytes what they say?
    if read.replaced * 10 <= read.wide && same(detect(&without(bytes, read)), label) {
        return label;
    }
    found
}

/// As much as tells the encoding, from the first bytes on that can tell it.
fn sample(bytes: &[u8], enough: usize) -> &[u8] {
    let first = bytes.iter().position(|&byte| byte >= 0x80 || byte == 0x1b).unwrap_or(0);
    let first = first.saturating_sub(64);
    &bytes[first..bytes.len().min(first + enough)]
}

fn detect(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(sample(bytes, 1 << 14), true);
    let found = detector.guess(None, Utf8Detection::Allow);
    if found == WINDOWS_1252 && is_few_hanzi(bytes) { GBK } else { found }
}

/// Whether a very short text is Chinese that the detector takes for accented letters.
///
/// A few bytes tell it nothing; but accented letters stand among plain ones and not in pairs that
/// are all characters of GB 2312.
fn is_few_hanzi(bytes: &[u8]) -> bool {
    const FEW: usize = 8;
    if bytes.iter().filter(|byte| !byte.is_ascii()).take(FEW + 1).count() > FEW {
        return false;
    }
    let hanzi = |pair: &[u8]| matches!(pair, [lead, trail] if (0xb0..=0xf7).contains(lead) && (0xa1..=0xfe).contains(trail));
    let letter =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphabetic);
    let mut at = 0;
    let mut seen = false;
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|byte| !byte.is_ascii()).count();
        if run > 0 {
            let apart = !letter(at.checked_sub(1)) && !letter(Some(at + run));
            if !apart || !bytes[at..at + run].chunks(2).all(hanzi) {
                return false;
            }
            seen = true;
        }
        at += run.max(1);
    }
    seen
}

fn same(left: &'static Encoding, right: &'static Encoding) -> bool {
    let plain = |encoding| if encoding == GBK { GB18030 } else { encoding };
    plain(left) == plain(right)
}

fn without(bytes: &[u8], read: &Lossy) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for bad in &read.malformed {
        kept.extend_from_slice(&bytes[at.min(bad.start)..bad.start]);
        at = bad.end;
    }
    kept.extend_from_slice(&bytes[at..]);
    kept
}

/// UTF-16 without a mark: markup and blanks put a zero in every other byte, on one side only.
pub fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    const LOOKED_AT: usize = 4096;
    let head = &bytes[..bytes.len().min(LOOKED_AT) & !1];
    let zeros = |side: usize| head.iter().skip(side).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd, pairs) = (zeros(0), zeros(1), head.len() / 2);
    let many = |count: usize| pairs >= 4 && count * 10 >= pairs * 3;
    if many(odd) && even * 50 <= pairs {
        Some(UTF_16LE)
    } else if many(even) && odd * 50 <= pairs {
        Some(UTF_16BE)
    } else {
        None
    }
}
