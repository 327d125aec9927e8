//! Buffers that the threads of one call, or of all calls, hand on instead of making new ones for each
//! share of rows.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Values to lend; made when none is free.
pub struct Lender<T, F> {
    free: Mutex<Vec<T>>,
    make: F,
    /// Whether a value that comes back is lent again.
    keep: fn(&T) -> bool,
}

impl<T, F> Lender<T, F> {
    pub fn new(make: F) -> Self {
        Self::keeping(make, |_| true)
    }

    /// One that drops what `keep` does not want back.
    pub const fn keeping(make: F, keep: fn(&T) -> bool) -> Self {
        Self { free: Mutex::new(Vec::new()), make, keep }
    }
}

impl<T, F: Fn() -> T> Lender<T, F> {
    /// A value, which comes back when it is dropped.
    pub fn lend(&self) -> Lent<'_, T> {
        let free = open(&self.free).and_then(|mut free| free.pop());
        Lent { value: Some(free.unwrap_or_else(&self.make)), home: &self.free, keep: self.keep }
    }
}

/// The list, unless another holds it: a forked process may have its parent's lock for ever.
fn open<T>(free: &Mutex<Vec<T>>) -> Option<MutexGuard<'_, Vec<T>>> {
    match free.try_lock() {
        Ok(free) => Some(free),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A value that is lent.
pub struct Lent<'a, T> {
    value: Option<T>,
    home: &'a Mutex<Vec<T>>,
    keep: fn(&T) -> bool,
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    #[allow(clippy::expect_used, reason = "only `drop` takes the value")]
    fn deref(&self) -> &T {
        self.value.as_ref().expect("lent until dropped")
    }
}

impl<T> DerefMut for Lent<'_, T> {
    #[allow(clippy::expect_used, reason = "only `drop` takes the value")]
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("lent until dropped")
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        // After a panic the value may be half-way through a text.
        let value =
            self.value.take().filter(|value| !std::thread::panicking() && (self.keep)(value));
        if let (Some(value), Some(mut free)) = (value, open(self.home)) {
            free.push(value);
        }
    }
}
