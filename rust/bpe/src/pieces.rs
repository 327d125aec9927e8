//! Pieces of text on their way from a splitter to the cache, a few hundred at a time.

/// Where pieces end; each starts where the one before ends.
///
/// Splitters fill it without asking about each piece, so it has some room to spare at the end.
#[derive(Debug)]
pub struct Ends {
    at: [usize; Self::MOST],
    len: usize,
}

impl Default for Ends {
    fn default() -> Self {
        Self { at: [0; Self::MOST], len: 0 }
    }
}

impl Ends {
    /// With so many pieces a splitter should stop.
    pub(crate) const FULL: usize = 240;
    /// How many more it may add before it looks.
    const SPARE: usize = 16;
    /// No more than this.
    pub(crate) const MOST: usize = Self::FULL + Self::SPARE;

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.len >= Self::FULL
    }

    /// Adds an end.
    #[inline(always)]
    pub(crate) fn push(&mut self, end: usize) {
        self.push_if(end, true);
    }

    /// Adds an end if there is one here, without a branch.
    #[inline(always)]
    pub(crate) fn push_if(&mut self, end: usize, is_end: bool) {
        self.at[self.len] = end;
        self.len += usize::from(is_end);
    }

    /// Adds an end for each bit, `from` on, as far as there is room; returns the last, or `from`.
    #[inline(always)]
    pub(crate) fn push_bits(&mut self, from: usize, mut bits: u64) -> usize {
        let mut last = from;
        for place in &mut self.at[self.len..] {
            if bits == 0 {
                break;
            }
            last = from + bits.trailing_zeros() as usize;
            *place = last;
            self.len += 1;
            bits &= bits - 1;
        }
        last
    }

    /// The ends so far; the next ones start afresh.
    pub(crate) fn take(&mut self) -> &[usize] {
        let len = std::mem::take(&mut self.len);
        &self.at[..len]
    }
}
