//! What the decisions need to know of documents, wherever these lie.

use crate::Shingler;
use crate::corpus::{Corpus, Signed};

/// Buffers into which a document that lies elsewhere is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
}

/// Documents that are compared with each other, by row.
pub(crate) trait Documents: Sync {
    /// Bytes of its text.
    fn length(&self, row: u32) -> usize;

    /// About how many shingles it has.
    fn shingles(&self, row: u32) -> usize;

    /// Adds its shingles to `shingles`.
    fn feed(
        &self,
        row: u32,
        shingler: &mut Shingler,
        scratch: &mut Scratch,
        shingles: &mut Vec<u64>,
    );

    /// Writes its signature.
    fn signature(&self, row: u32, scratch: &mut Scratch, signature: &mut Vec<u32>);

    /// Whether it stays whatever it is like.
    fn is_fixed(&self, _row: u32) -> bool {
        false
    }
}

/// Documents at hand, as signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtHand<'a> {
    pub(crate) corpus: &'a Corpus<'a>,
    pub(crate) signed: &'a Signed,
}

impl Documents for AtHand<'_> {
    fn length(&self, row: u32) -> usize {
        self.corpus.text(row).len()
    }

    fn shingles(&self, row: u32) -> usize {
        self.signed.identities[row as usize].shingles as usize
    }

    fn feed(
        &self,
        row: u32,
        shingler: &mut Shingler,
        _scratch: &mut Scratch,
        shingles: &mut Vec<u64>,
    ) {
        shingler.feed(self.corpus.text(row), self.corpus.is_code(row), shingles);
    }

    fn signature(&self, row: u32, _scratch: &mut Scratch, signature: &mut Vec<u32>) {
        signature.clear();
        signature.extend_from_slice(self.signed.signature(row));
    }
}
