//! The addresses that spaCy keeps in one piece.
//!
//! A scheme and `://`, user information and `@`, an address of four numbers or a name of labels and
//! a top-level domain in letters without capitals, a port, and a path: all but the host may be
//! missing. spaCy's expression for it is Diego Perini's (MIT licence) with changes of its own.

use super::classes::{LOWER, table};
use super::ranges::DIGITS;

/// Whether all of `chunk`, which holds no blanks, is an address.
pub fn is_url(chunk: &str) -> bool {
    if !chunk.contains('.') {
        return false;
    }
    if is_host(chunk) {
        return true;
    }
    if let Some(at) = chunk.find("://") {
        let scheme = &chunk[..at];
        if scheme.chars().nth(1).is_some()
            && scheme.chars().all(is_scheme)
            && is_host(&chunk[at + 3..])
        {
            return true;
        }
    }
    // User information is anything that is not empty.
    chunk.match_indices('@').any(|(at, _)| at > 0 && is_host(&chunk[at + 1..]))
}

fn is_scheme(c: char) -> bool {
    let flags = crate::classes::table()[c as usize];
    flags & crate::classes::ALNUM != 0 || matches!(c, '_' | '+' | '-' | '.')
}

fn is_host(rest: &str) -> bool {
    after_numbers(rest).is_some_and(ends_well) || after_name(rest).is_some_and(ends_well)
}

/// Port and path, or nothing.
fn ends_well(rest: &str) -> bool {
    let rest = match rest.strip_prefix(':') {
        Some(port) => {
            let digits = port.chars().take_while(|&c| is_digit(c)).count();
            if !(2..=5).contains(&digits) {
                return false;
            }
            port.trim_start_matches(is_digit)
        }
        None => rest,
    };
    rest.is_empty() || rest.starts_with(['/', '?', '#'])
}

/// A decimal digit of any script.
pub fn is_digit(c: char) -> bool {
    digit(c).is_some()
}

fn digit(c: char) -> Option<u32> {
    let code = c as u32;
    let zero = DIGITS[..DIGITS.partition_point(|&zero| zero <= code)].last()?;
    Some(code - zero).filter(|&value| value < 10)
}

/// What follows the labels and the top-level domain.
fn after_name(mut rest: &str) -> Option<&str> {
    let is_end = |c: char| c.is_ascii_alphanumeric() || ('\u{a1}'..='\u{ffff}').contains(&c);
    let mut labels = 0;
    loop {
        let after = rest.trim_start_matches(|c| is_end(c) || c == '_' || c == '-');
        let label = &rest[..rest.len() - after.len()];
        let Some(next) = after.strip_prefix('.') else { break };
        let length = label.chars().count();
        if !(1..=64).contains(&length) || !label.starts_with(is_end) || !label.ends_with(is_end) {
            return None;
        }
        labels += 1;
        rest = next;
    }
    let table = table();
    let domain = rest.chars().take_while(|&c| table[c as usize] & LOWER != 0).count();
    let after = rest.trim_start_matches(|c| table[c as usize] & LOWER != 0);
    (labels > 0 && (2..=63).contains(&domain)).then_some(after)
}

/// What follows four numbers that are no private or reserved address.
fn after_numbers(rest: &str) -> Option<&str> {
    let mut numbers = [""; 4];
    let mut at = rest;
    for (place, number) in numbers.iter_mut().enumerate() {
        let after = at.trim_start_matches(is_digit);
        *number = &at[..at.len() - after.len()];
        at = if place < 3 { after.strip_prefix('.')? } else { after };
    }
    let private = matches!(numbers[0], "10" | "127")
        || matches!((numbers[0], numbers[1]), ("169", "254") | ("192", "168"))
        || numbers[0] == "172" && matches!(value(numbers[1])?, (16..=31, 2));
    // The first and the last have no zero in front; those between may. Only the digits after a
    // leading 1 or 2 may be of another script.
    let edge = |number: &str, most: u32| {
        let (value, _) = value(number)?;
        (number.starts_with(|c| ('1'..='9').contains(&c)) && value <= most).then_some(())
    };
    let middle = |number: &str| {
        let (value, digits) = value(number)?;
        let first = number.chars().next()?;
        let fits = match digits {
            1 | 2 => true,
            _ => first == '1' || first == '2' && value <= 255,
        };
        fits.then_some(())
    };
    edge(numbers[0], 223)?;
    middle(numbers[1])?;
    middle(numbers[2])?;
    edge(numbers[3], 254)?;
    (!private).then_some(at)
}

/// Value and number of digits, one to three.
fn value(number: &str) -> Option<(u32, usize)> {
    let digits = number.chars().count();
    if !(1..=3).contains(&digits) {
        return None;
    }
    Some((number.chars().try_fold(0, |value, c| Some(value * 10 + digit(c)?))?, digits))
}

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn addresses() {
        for url in [
            "example.com",
            "www.example.co.uk/a?b#c",
            "http://example.org:8080/x",
            "someone@example.com",
            "mailto:a@b.cd",
            "s3+x://bucket.name.io",
            "8.8.8.8",
            "http://223.255.255.254:80",
            "例子.中国",
            "a.b.c.de",
        ] {
            assert!(is_url(url), "{url}");
        }
        for other in [
            "",
            ".",
            "word",
            "e.g",
            "End.Next",
            "3.14",
            "10.0.0.1",
            "192.168.0.1",
            "172.16.1.1",
            "224.1.1.1",
            "1.2.3.0",
            "example.com:1",
            "example.com:123456",
            "-a.com",
            "a-.com",
            "a..com",
            "x://",
            "@b",
            "lower.Upper",
            "a.com.",
        ] {
            assert!(!is_url(other), "{other}");
        }
        assert!(is_url(&format!("{}.com", "a".repeat(64))));
        assert!(!is_url(&format!("{}.com", "a".repeat(65))));
    }
}
