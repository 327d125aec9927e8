//! What a line looks like, and repeated lines and paragraphs.

use crate::table::Table;

/// Marks that start a list item by themselves.
const BULLETS: &str = "•‣⁃◦▪▫●○■□◆◇►▶▸➢➤✓✔★☆※";
/// Marks that start one when a blank follows: `-5 degrees` is no list item.
const DASHES: &str = "-*+–—·・";

/// Whether a line (without blanks before it) starts with a list mark.
pub fn starts_with_bullet(line: &str) -> bool {
    // No mark begins with a letter, a digit, or a byte above those of U+3FFF.
    if line.as_bytes().first().is_some_and(|&b| b.is_ascii_alphanumeric() || b >= 0xe4) {
        return false;
    }
    let mut characters = line.chars();
    characters.next().is_some_and(|first| {
        BULLETS.contains(first)
            || DASHES.contains(first) && characters.next().is_none_or(char::is_whitespace)
    })
}

/// Whether a line (without blanks after it) ends with an ellipsis.
pub fn ends_with_ellipsis(line: &str) -> bool {
    line.ends_with("...") || line.ends_with('…')
}

/// Counts things seen before, and their characters.
#[derive(Default)]
pub struct Repeats {
    table: Table,
    /// How many were given.
    pub total: u64,
    /// Their characters.
    pub total_chars: u64,
    /// How many had been given before.
    pub repeated: u64,
    /// Characters of those.
    pub repeated_chars: u64,
}

impl Repeats {
    /// Forgets the last text; about so many things are to come.
    pub fn reset(&mut self, expected: u64) {
        self.table.reset((expected as usize).clamp(32, 1 << 16));
        (self.total, self.total_chars, self.repeated, self.repeated_chars) = (0, 0, 0, 0);
    }

    /// Gives one thing, known by its 64-bit hash, with its length in characters.
    pub fn push(&mut self, hash: u64, chars: u64) {
        let fresh = self.total as u32;
        self.total += 1;
        self.total_chars += chars;
        if self.table.get_or_insert(hash, fresh) != fresh {
            self.repeated += 1;
            self.repeated_chars += chars;
        }
    }
}

/// Joins a paragraph's hash with its next line's.
pub fn join(paragraph: u64, line: u64) -> u64 {
    (paragraph ^ line).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bullets() {
        for line in ["- a", "* a", "• a", "•a", "‣ a", "-", "– a"] {
            assert!(starts_with_bullet(line), "{line}");
        }
        for line in ["-5 degrees", "*bold*", "a - b", "", "--- a"] {
            assert!(!starts_with_bullet(line), "{line}");
        }
    }

    #[test]
    fn repeats() {
        let mut repeats = Repeats::default();
        repeats.reset(0);
        for (hash, chars) in [(1, 5), (2, 7), (1, 5), (1, 5)] {
            repeats.push(hash, chars);
        }
        assert_eq!((repeats.total, repeats.repeated), (4, 2));
        assert_eq!((repeats.total_chars, repeats.repeated_chars), (22, 10));
    }
}
