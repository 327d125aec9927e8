//! Keys and hashes of pieces.
//!
//! A piece of up to 15 bytes is its own key: the bytes and the length in one integer of 128 bits.

/// Longest piece with a key of its own.
pub(crate) const SHORT: usize = 15;

/// What of sixteen bytes belongs to a piece of so many.
pub(crate) const MASKS: [u128; SHORT + 1] = {
    let mut masks = [0; SHORT + 1];
    let mut length = 1;
    while length <= SHORT {
        masks[length] = u128::MAX >> (128 - 8 * length);
        length += 1;
    }
    masks
};

/// The key of a short piece; 0 belongs to none.
#[inline(always)]
pub(crate) fn key(text: &[u8], start: usize, length: usize) -> u128 {
    let bytes = match text.get(start..start + 16) {
        Some(bytes) => bytes.try_into().unwrap_or([0; 16]),
        None => {
            let mut bytes = [0; 16];
            bytes[..length].copy_from_slice(&text[start..start + length]);
            bytes
        }
    };
    u128::from_le_bytes(bytes) & MASKS[length] | (length as u128) << 120
}

/// The bytes of a key's piece, and how many they are.
#[inline(always)]
pub(crate) fn piece_of(key: u128) -> ([u8; 16], usize) {
    (key.to_le_bytes(), ((key >> 120) as usize).min(SHORT))
}

/// Of a key, or any sixteen bytes.
#[inline(always)]
pub(crate) fn hash_of_key(key: u128) -> u64 {
    fold(key as u64, (key >> 64) as u64)
}

#[inline(always)]
fn fold(left: u64, right: u64) -> u64 {
    let product =
        u128::from(left ^ 0x9E37_79B9_7F4A_7C15) * u128::from(right ^ 0xD1B5_4A32_D192_ED03);
    product as u64 ^ (product >> 64) as u64
}

/// Of a piece of sixteen bytes or more.
#[inline]
pub(crate) fn hash_of_long(piece: &[u8]) -> u64 {
    let mut hash = piece.len() as u64;
    for at in (0..piece.len()).step_by(16).take_while(|at| at + 16 <= piece.len()) {
        let key = key_of_sixteen(&piece[at..]);
        hash = fold(hash ^ key as u64, (key >> 64) as u64);
    }
    let key = key_of_sixteen(&piece[piece.len() - 16..]);
    fold(hash ^ key as u64, (key >> 64) as u64)
}

#[inline(always)]
fn key_of_sixteen(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes[..16].try_into().unwrap_or([0; 16]))
}
