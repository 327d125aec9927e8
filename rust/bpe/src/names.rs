//! The strings of a vocabulary and their ids, for files whose merges ask for half a million of them.
//!
//! A string of up to 12 bytes is its own key and its id stands beside it in one integer, so that
//! finding it is one memory access, which a caller with many questions asks for ahead; longer ones
//! are compared with the string itself.

use std::borrow::Cow;

use crate::keys::{MASKS, hash_of_key, hash_of_long};
use crate::merges::prefetch;
use crate::pages::Table;
use crate::{BpeError, Merges};

/// Longest string that is its own key.
const SHORT: usize = 12;
/// Longest string that fits a key without its id, and is hashed from there.
const PACKED: usize = crate::keys::SHORT;
/// Where the id stands: above the string, below its length.
const ID_AT: u32 = 8 * SHORT as u32;
const ID: u128 = 0xFF_FFFF << ID_AT;
/// How many tokens ahead one is asked for.
const AHEAD: usize = 16;
/// Top byte of the key of any other string; for a short one it is the length.
const OTHER: u128 = 0xFF << 120;

/// Token → id, in which a token and an id stand once.
pub(crate) struct Names<'j> {
    /// The file, which most strings are part of.
    file: &'j [u8],
    by_id: Vec<Option<Cow<'j, str>>>,
    /// Key and id of each; 0 is an empty place; at most half are taken.
    keys: Table<u128>,
    len: usize,
}

/// A string to look for.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    key: u128,
    place: usize,
}

#[inline(always)]
fn four(bytes: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes(bytes[..4].try_into().unwrap_or([0; 4])))
}

#[inline(always)]
fn eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap_or([0; 8]))
}

/// Up to 15 bytes as an integer, by loads that overlap where they must.
#[inline(always)]
fn packed(bytes: &[u8]) -> u128 {
    let count = bytes.len();
    match count {
        0 => 0,
        1..4 => {
            let byte = |at: usize| u128::from(bytes[at]) << (8 * at);
            byte(0) | byte(count / 2) | byte(count - 1)
        }
        4..8 => u128::from(four(bytes) | four(&bytes[count - 4..]) << (8 * (count - 4))),
        8 => u128::from(eight(bytes)),
        _ => {
            let rest = eight(&bytes[count - 8..]) >> (8 * (16 - count));
            u128::from(eight(bytes)) | u128::from(rest) << 64
        }
    }
}

/// The key of a string of 1 to [`PACKED`] bytes, given as an integer.
#[inline(always)]
fn short(packed: u128, length: usize) -> u128 {
    match length <= SHORT {
        true => packed | (length as u128) << 120,
        false => OTHER | u128::from(hash_of_key(packed)),
    }
}

impl<'j> Names<'j> {
    /// From the tokens of a file and their ids; ids may leave holes up to `most_holes`.
    ///
    /// # Errors
    /// A token or an id twice, or ids far beyond the number of tokens.
    pub(crate) fn new(
        file: &'j str,
        mut entries: Vec<(Cow<'j, str>, u32)>,
        also: usize,
    ) -> Result<Self, BpeError> {
        let field = "model.vocab";
        let size = entries.iter().map(|&(_, id)| id as usize + 1).max().unwrap_or(0);
        // Ids far beyond the number of tokens are a fault of the file, not a reason to take all
        // memory.
        if size > 2 * (entries.len() + also) + 1024 {
            return Err(BpeError::malformed(field, format!("ids up to {} leave holes", size - 1)));
        }
        Merges::check_sizes(size, 0)?;
        let places = (entries.len() * 2).next_power_of_two().max(16);
        let (len, by_id) = (entries.len(), std::iter::repeat_n(None, size).collect());
        let file = file.as_bytes();
        let mut this = Self { file, by_id, keys: Table::new(places), len };
        // What a token asks for arrives while others are asked for.
        let mut ahead = [Key { key: 0, place: 0 }; AHEAD];
        for (key, (token, _)) in ahead.iter_mut().zip(&entries) {
            *key = this.asked(token);
        }
        for number in 0..len {
            let key = ahead[number % AHEAD];
            if let Some((later, _)) = entries.get(number + AHEAD) {
                ahead[number % AHEAD] = this.asked(later);
            }
            let (token, id) = std::mem::take(&mut entries[number]);
            if this.find(key, || Cow::Borrowed(&*token)).is_some() {
                return Err(BpeError::malformed(field, format!("{token:?} is listed twice")));
            }
            let mut place = key.place;
            while this.keys[place] != 0 {
                place = (place + 1) & (places - 1);
            }
            this.keys[place] = key.key | u128::from(id) << ID_AT;
            let name = &mut this.by_id[id as usize];
            if let Some(other) = name {
                let problem = format!("id {id} is given to {other:?} and {token:?}");
                return Err(BpeError::malformed(field, problem));
            }
            *name = Some(token);
        }
        Ok(this)
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The token of each id.
    pub(crate) fn by_id(&self) -> &[Option<Cow<'j, str>>] {
        &self.by_id
    }

    /// `(token, id)` in order of id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let named = self.by_id.iter().zip(0..);
        named.filter_map(|(name, id)| name.as_deref().map(|name| (name, id)))
    }

    /// The id of a token.
    pub(crate) fn get(&self, token: &str) -> Option<u32> {
        self.find(self.key(token), || Cow::Borrowed(token))
    }

    /// Up to 15 bytes as an integer: where more of the file follows them, by one load and no branch.
    #[inline(always)]
    fn packed(&self, bytes: &[u8]) -> u128 {
        let at = (bytes.as_ptr() as usize).wrapping_sub(self.file.as_ptr() as usize);
        match self.file.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(&more) => u128::from_le_bytes(more) & MASKS[bytes.len()],
            None => packed(bytes),
        }
    }

    #[inline(always)]
    fn placed(&self, key: u128) -> Key {
        let place = hash_of_key(key) as usize & (self.keys.len() - 1);
        Key { key, place }
    }

    /// What to look for, to be asked for ahead.
    #[inline(always)]
    pub(crate) fn key(&self, token: &str) -> Key {
        let (bytes, length) = (token.as_bytes(), token.len());
        self.placed(match length {
            0 => OTHER,
            1..=PACKED => short(self.packed(bytes), length),
            _ => OTHER | u128::from(hash_of_long(bytes)),
        })
    }

    /// As [`Names::key`] for two strings put together.
    #[inline(always)]
    pub(crate) fn key_of_two(&self, left: &str, right: &str) -> Key {
        let length = left.len() + right.len();
        if length > PACKED || left.is_empty() {
            return self.key(&[left, right].concat());
        }
        let both = self.packed(left.as_bytes()) | self.packed(right.as_bytes()) << (8 * left.len());
        self.placed(short(both, length))
    }

    fn asked(&self, token: &str) -> Key {
        let key = self.key(token);
        self.prefetch(key);
        key
    }

    /// Asks for what [`Names::find`] will read.
    #[inline(always)]
    pub(crate) fn prefetch(&self, key: Key) {
        prefetch(&self.keys[key.place]);
    }

    /// The id of a token by its key; `token` is asked where the key alone does not decide.
    #[inline(always)]
    pub(crate) fn find<'t>(&self, key: Key, token: impl Fn() -> Cow<'t, str>) -> Option<u32> {
        let mut place = key.place;
        loop {
            let here = self.keys[place];
            if here == 0 {
                return None;
            }
            let id = ((here & ID) >> ID_AT) as u32;
            if here & !ID == key.key && (here < OTHER || self.is_named(id, &token())) {
                return Some(id);
            }
            place = (place + 1) & (self.keys.len() - 1);
        }
    }

    #[cold]
    fn is_named(&self, id: u32, token: &str) -> bool {
        self.by_id[id as usize].as_deref() == Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tokens: &[(&'static str, u32)]) -> Result<Names<'static>, BpeError> {
        Names::new("", tokens.iter().map(|&(token, id)| (token.into(), id)).collect(), 0)
    }

    #[test]
    fn strings_of_all_lengths() {
        let text = "abcdefghijklmnopqrstuvwxyzäöü的国家".repeat(3);
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let entries = ends.iter().zip(0..).map(|(&end, id)| (text[..end].into(), id)).collect();
        let names = Names::new(&text, entries, 0).unwrap();
        assert_eq!(names.len(), ends.len());
        for (&end, id) in ends.iter().zip(0..) {
            assert_eq!(names.get(&text[..end]), Some(id));
            assert_eq!(names.get(&format!("{}\0", &text[..end])), None);
            assert_eq!(names.by_id()[id as usize].as_deref(), Some(&text[..end]));
            for &cut in ends.iter().filter(|&&cut| cut <= end) {
                let (left, right) = text[..end].split_at(cut);
                let key = names.key_of_two(left, right);
                assert_eq!(names.find(key, || Cow::Borrowed(&text[..end])), Some(id));
            }
        }
        assert_eq!(names.iter().count(), ends.len());
    }

    #[test]
    fn faults() {
        let error = |tokens: &[(&'static str, u32)]| names(tokens).err().unwrap().to_string();
        assert!(error(&[("a", 0), ("a", 1)]).contains("\"a\" is listed twice"));
        assert!(error(&[("a", 0), ("b", 0)]).contains("id 0 is given to \"a\" and \"b\""));
        assert!(error(&[("a", 0), ("b", 5_000)]).contains("leave holes"));
        assert_eq!(names(&[("a", 0), ("b", 9)]).unwrap().iter().last(), Some(("b", 9)));
        assert_eq!(names(&[]).unwrap().get(""), None);
    }
}
