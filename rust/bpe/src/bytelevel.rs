//! The byte ↔ character table of byte-level vocabularies: printable bytes stand for themselves,
//! the others for characters from U+0100 on (OpenAI GPT-2, encoder.py).

const fn printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const TABLE: [char; 256] = {
    let mut table = ['\0'; 256];
    let (mut byte, mut next) = (0usize, 0x100u32);
    while byte < 256 {
        let code = if printable(byte as u8) {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        table[byte] = match char::from_u32(code) {
            Some(c) => c,
            None => '\0',
        };
        byte += 1;
    }
    table
};

/// The character that stands for a byte.
#[must_use]
pub const fn byte_to_char(byte: u8) -> char {
    TABLE[byte as usize]
}

/// The byte that a character stands for, if any.
#[must_use]
pub fn char_to_byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    if code < 0x100 {
        let byte = code as u8;
        return printable(byte).then_some(byte);
    }
    // Only 68 bytes are moved; they start at U+0100 in byte order.
    (0..=255u8).filter(|&byte| !printable(byte)).nth(code as usize - 0x100)
}

#[cfg(test)]
mod tests {
    use super::{byte_to_char, char_to_byte};

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255u8 {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(char_to_byte(' '), None);
        assert_eq!(char_to_byte('世'), None);
    }
}
