//! The caches of a tokenizer's threads.

use std::sync::{Mutex, MutexGuard};
use std::thread::ThreadId;

use crate::cache::Cache;

/// Caches that wait for their next text, with the threads that had them; as many as ever worked at
/// the same time.
#[derive(Debug, Default)]
pub struct Caches(Mutex<Vec<(ThreadId, Cache)>>);

impl Caches {
    /// Lends a cache for the time of `work`, the one that this thread had before if it waits.
    ///
    /// It never waits long: while the lock can't be had, the work is done with a new cache. A cache
    /// whose work panicked is not taken back.
    pub fn lend<T>(&self, work: impl FnOnce(&mut Cache) -> T) -> T {
        let me = std::thread::current().id();
        let waiting = self.open().and_then(|mut caches| {
            let own = caches.iter().position(|(thread, _)| *thread == me);
            let last = caches.len().checked_sub(1);
            own.or(last).map(|index| caches.swap_remove(index).1)
        });
        let mut cache = waiting.unwrap_or_default();
        let result = work(&mut cache);
        if let Some(mut caches) = self.open() {
            caches.push((me, cache));
        }
        result
    }

    /// Another thread has the lock for a moment; one that a fork left behind, for ever.
    fn open(&self) -> Option<MutexGuard<'_, Vec<(ThreadId, Cache)>>> {
        (0..1_000).find_map(|_| {
            std::hint::spin_loop();
            self.0.try_lock().ok()
        })
    }
}
