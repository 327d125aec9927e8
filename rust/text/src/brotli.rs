//! Brotli content coding, decoded under a limit.

use std::io::{self, Read};

/// The decoded bytes, or `None` where there are more than `limit`.
///
/// # Errors
///
/// The data is damaged or ends too early.
pub fn decode_brotli(data: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    const BLOCK: usize = 1 << 14;
    let mut decoded = Vec::new();
    let wanted = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    brotli_decompressor::Decompressor::new(data, BLOCK).take(wanted).read_to_end(&mut decoded)?;
    Ok((decoded.len() <= limit).then_some(decoded))
}
