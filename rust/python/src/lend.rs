//! Buffers that the threads of one call hand on, instead of making new ones for each share of rows.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Values to lend; made when none is free.
pub struct Lender<T, F> {
    free: Mutex<Vec<T>>,
    make: F,
}

impl<T, F: Fn() -> T> Lender<T, F> {
    pub fn new(make: F) -> Self {
        Self { free: Mutex::new(Vec::new()), make }
    }

    /// A value, which comes back when it is dropped.
    pub fn lend(&self) -> Lent<'_, T> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { value: Some(free.unwrap_or_else(&self.make)), home: &self.free }
    }
}

/// A value that is lent.
pub struct Lent<'a, T> {
    value: Option<T>,
    home: &'a Mutex<Vec<T>>,
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
        if let Some(value) = self.value.take().filter(|_| !std::thread::panicking()) {
            self.home.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        }
    }
}
