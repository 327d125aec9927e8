//! Pieces that were merged before: bounded, one a thread, never locked.

use rustc_hash::FxHashMap;

/// Pieces longer than this are merged anew each time: they hardly ever repeat.
const LONGEST: usize = 64;
/// Entries held before the cache starts afresh (about 64 MB at the longest).
const MOST: usize = 1 << 19;

/// Piece → its ids, in one arena.
#[derive(Debug, Default)]
pub struct Cache {
    places: FxHashMap<Box<[u8]>, (u32, u32)>,
    ids: Vec<u32>,
    scratch: Vec<u32>,
}

impl Cache {
    /// Appends the ids of `piece` to `out`; `merge` makes them where they are not known.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u32>,
        merge: impl FnOnce(&mut Vec<u32>),
    ) {
        if piece.len() > LONGEST {
            self.scratch.clear();
            merge(&mut self.scratch);
            out.extend_from_slice(&self.scratch);
            return;
        }
        if let Some(&(start, end)) = self.places.get(piece) {
            out.extend_from_slice(&self.ids[start as usize..end as usize]);
            return;
        }
        self.scratch.clear();
        merge(&mut self.scratch);
        if self.places.len() >= MOST {
            self.places.clear();
            self.ids.clear();
        }
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(&self.scratch);
        self.places.insert(piece.into(), (start, self.ids.len() as u32));
        out.extend_from_slice(&self.scratch);
    }
}
