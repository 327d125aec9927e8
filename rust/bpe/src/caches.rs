//! The caches of a tokenizer's threads.
//!
//! Each thread has its own, and none waits for another. Where several work at the same time, each
//! tells after a stretch of work what pieces it learned, and takes in what the others did before
//! the next: else every thread would learn the same language anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{ThreadId, current};

use crate::cache::{Cache, Known};

/// Most pieces that are kept for other threads.
const MOST_TOLD: usize = 1 << 16;

/// Caches that wait for their next text, with the threads that had them; as many as ever worked at
/// the same time.
#[derive(Debug, Default)]
pub struct Caches(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    caches: Vec<Lent>,
    /// What threads told, and who, oldest first.
    news: VecDeque<(ThreadId, Arc<[Known]>)>,
    /// Pieces in it.
    size: usize,
    /// How many times anything was told.
    told: usize,
}

#[derive(Debug)]
struct Lent {
    thread: ThreadId,
    cache: Cache,
    /// What was told when it last took anything in.
    heard: usize,
}

impl Waiting {
    /// The cache that this thread had before, else one that is left.
    fn take(&mut self, me: ThreadId) -> Option<Lent> {
        let own = self.caches.iter().position(|lent| lent.thread == me);
        let last = self.caches.len().checked_sub(1);
        own.or(last).map(|index| self.caches.swap_remove(index))
    }

    fn tell(&mut self, me: ThreadId, pieces: Vec<Known>) {
        if pieces.is_empty() {
            return;
        }
        self.size += pieces.len();
        self.told += 1;
        self.news.push_back((me, pieces.into()));
        while self.size > MOST_TOLD
            && let Some((_, oldest)) = self.news.pop_front()
        {
            self.size -= oldest.len();
        }
    }

    /// What others told since `lent` last heard of it.
    fn hear(&self, lent: &mut Lent) -> Vec<Arc<[Known]>> {
        let gone = self.told - self.news.len();
        let from = lent.heard.saturating_sub(gone);
        lent.heard = self.told;
        let new = self.news.iter().skip(from).filter(|(thread, _)| *thread != lent.thread);
        new.map(|(_, pieces)| pieces.clone()).collect()
    }
}

impl Caches {
    /// Lends a cache for the time of `work`, the one that this thread had before if it waits; `many`
    /// says whether other threads work on the same texts.
    ///
    /// It never waits long: while the lock can't be had, the work is done with a new cache. A cache
    /// whose work panicked is not taken back.
    pub fn lend<T>(&self, many: bool, work: impl FnOnce(&mut Cache) -> T) -> T {
        let me = current().id();
        let new = || Lent { thread: me, cache: Cache::default(), heard: 0 };
        let (mut lent, news) = match self.open() {
            Some(mut waiting) => {
                let mut lent = waiting.take(me).unwrap_or_else(new);
                lent.thread = me;
                let news = if many { waiting.hear(&mut lent) } else { Vec::new() };
                (lent, news)
            }
            None => (new(), Vec::new()),
        };
        lent.cache.tell(many);
        news.iter().for_each(|pieces| lent.cache.take_in(pieces));
        let result = work(&mut lent.cache);
        if let Some(mut waiting) = self.open() {
            waiting.tell(me, lent.cache.take_news());
            waiting.caches.push(lent);
        }
        result
    }

    /// Another thread has the lock for a moment; one that a fork left behind, for ever.
    fn open(&self) -> Option<MutexGuard<'_, Waiting>> {
        (0..1_000).find_map(|_| {
            std::hint::spin_loop();
            self.0.try_lock().ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cache::Merge;
    use crate::keys::piece_of;

    /// A piece's ids are its length; counts what it was asked for.
    #[derive(Default)]
    struct Lengths(Cell<usize>);

    impl Merge for Lengths {
        fn one(&self, piece: &[u8], _: &mut Vec<u32>, ids: &mut Vec<u32>) {
            ids.push(piece.len() as u32);
        }
        fn ends(&self, _: &[u8], _: &[u32], _: &mut Vec<usize>) -> Option<()> {
            None
        }
        fn many(
            &self,
            count: usize,
            key: impl Fn(usize) -> u128,
            mut done: impl FnMut(usize, &[u32]),
        ) {
            self.0.set(self.0.get() + count);
            (0..count).for_each(|piece| done(piece, &[piece_of(key(piece)).1 as u32]));
        }
    }

    /// How many pieces a cache had to have merged.
    fn merged(cache: &mut Cache) -> usize {
        let (merge, mut ids) = (Lengths::default(), Vec::new());
        cache.extend(b"one three five", 0, &[3, 9, 14], &mut ids, &merge);
        cache.flush(&mut ids, &merge);
        assert_eq!(ids, [3, 6, 5]);
        merge.0.get()
    }

    fn merged_after_another_thread(many: bool) -> usize {
        let caches = Caches::default();
        caches.lend(many, |_| {
            std::thread::scope(|scope| {
                scope.spawn(|| assert_eq!(caches.lend(many, merged), 3));
            });
        });
        caches.lend(many, merged)
    }

    #[test]
    fn what_one_thread_learned_another_knows() {
        assert_eq!(merged_after_another_thread(true), 0);
        assert_eq!(merged_after_another_thread(false), 3);
    }

    #[test]
    fn news_are_bounded_and_late_hearers_get_what_is_left() {
        let me = current().id();
        let other = std::thread::spawn(|| current().id()).join().unwrap();
        let mut waiting = Waiting::default();
        let mut late = Lent { thread: me, cache: Cache::default(), heard: 0 };
        for number in 0..10 {
            waiting.tell(other, vec![(number + 1, [0; 4]); MOST_TOLD / 4]);
            waiting.tell(me, vec![(99, [0; 4])]);
        }
        assert!(waiting.size <= MOST_TOLD);
        let heard: Vec<u128> = waiting.hear(&mut late).iter().map(|news| news[0].0).collect();
        assert_eq!(heard, [8, 9, 10]);
        assert!(waiting.hear(&mut late).is_empty());
    }

    #[test]
    fn pieces_of_others_push_out_none() {
        let mut cache = Cache::default();
        assert_eq!(merged(&mut cache), 3);
        let many: Vec<Known> = (1..2_000).map(|key| (key << 120 | key, [0, 0, 0, 1])).collect();
        cache.take_in(&many);
        assert_eq!(merged(&mut cache), 0);
    }
}
