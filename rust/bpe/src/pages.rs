//! Large tables in large pages: a random access then seldom waits for an address translation.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const HUGE: usize = 2 << 20;

/// Types for which a value of zero bytes is valid.
///
/// # Safety
/// All bytes zero must be a value of the type.
pub(crate) unsafe trait Zero: Copy {}
// SAFETY: integers, and arrays of them.
unsafe impl Zero for u64 {}
// SAFETY: as above.
unsafe impl Zero for u128 {}
// SAFETY: as above.
unsafe impl<T: Zero, const N: usize> Zero for [T; N] {}

/// A table of fixed length that starts as zeros.
pub(crate) struct Table<T: Zero> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: the table owns its memory and shares nothing.
unsafe impl<T: Zero + Send> Send for Table<T> {}
// SAFETY: as above; a shared table is only read.
unsafe impl<T: Zero + Sync> Sync for Table<T> {}

impl<T: Zero> Table<T> {
    /// `length` zeros.
    pub(crate) fn new(length: usize) -> Self {
        let layout = Self::layout(length);
        if layout.size() == 0 {
            return Self { start: NonNull::dangling(), length: 0 };
        }
        // SAFETY: the size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        if layout.size() >= HUGE {
            // SAFETY: the range was just allocated and starts at a page; this is advice, and what
            // comes of it can't fail the program.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: the range was allocated with this size; zero bytes are values of `T`.
        unsafe { start.as_ptr().write_bytes(0, layout.size()) };
        Self { start: start.cast(), length }
    }

    fn layout(length: usize) -> Layout {
        let plain = Layout::array::<T>(length).expect("a table smaller than the address space");
        let align = if plain.size() >= HUGE { HUGE } else { 64 };
        plain.align_to(align).expect("a power of two")
    }
}

impl<T: Zero> Drop for Table<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.length);
        if layout.size() > 0 {
            // SAFETY: allocated in `new` with the same layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

impl<T: Zero> Deref for Table<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `new` made `length` values there.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Zero> DerefMut for Table<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the table is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T: Zero> Clone for Table<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.length);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Zero> Default for Table<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Zero> std::fmt::Debug for Table<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Table of {}", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_small_large_and_none() {
        for length in [0, 1, 1000, 1 << 19] {
            let mut table = Table::<u64>::new(length);
            assert_eq!(table.len(), length);
            assert!(table.iter().all(|&value| value == 0));
            table.fill(7);
            let copy = table.clone();
            drop(table);
            assert!(copy.iter().all(|&value| value == 7));
        }
    }
}
