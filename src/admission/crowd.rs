//! [`Crowd`]: how many connections there are, of all workers and of each address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Subscriber;
use crate::driver::Waker;

/// Addresses are counted in so many places, so that workers seldom meet. A power of two.
const SHARDS: usize = 64;

/// Those who are in.
#[derive(Debug)]
pub struct Crowd {
    /// Tickets that live.
    count: AtomicUsize,
    /// As many as there may be before nobody accepts any more; 0: no limit.
    max: AtomicUsize,
    /// How many of them are of which address; no zeros.
    of_address: Box<[Mutex<HashMap<Subscriber, u32>>]>,
    hasher: RandomState,
    /// Those who accept, and are to know at once when there is no room any more, or there is again.
    workers: Mutex<Vec<Waker>>,
}

/// The right to be in; who drops it has left.
#[derive(Debug)]
pub struct Ticket {
    crowd: Arc<Crowd>,
    subscriber: Option<Subscriber>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            max: AtomicUsize::new(0),
            of_address: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            workers: Mutex::default(),
        }
    }
}

impl Crowd {
    /// From now on so many may be in; 0: any number. Who is in stays.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Release);
    }

    /// Whether one more may come in.
    pub fn has_room(&self) -> bool {
        let max = self.max.load(Ordering::Acquire);
        max == 0 || self.count.load(Ordering::Acquire) < max
    }

    /// From now on this worker is woken when room runs out, and when there is some again.
    pub fn enlist(&self, worker: Waker) {
        let mut workers = lock(&self.workers);
        if !workers.iter().any(|other| other.is_same(&worker)) {
            workers.push(worker);
        }
    }

    fn tell_workers(&self) {
        lock(&self.workers).iter().for_each(Waker::wake);
    }

    /// One more, who is also counted as one of this subscriber's, of whom there may be `max`. `None`: there are.
    pub fn enter(self: &Arc<Self>, subscriber: Option<Subscriber>, max: u32) -> Option<Ticket> {
        if let Some(subscriber) = subscriber {
            let mut counts = self.shard(subscriber);
            let count = counts.entry(subscriber).or_insert(0);
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count == self.max.load(Ordering::Acquire) {
            self.tell_workers();
        }
        Some(Ticket { crowd: Arc::clone(self), subscriber })
    }

    fn shard(&self, subscriber: Subscriber) -> MutexGuard<'_, HashMap<Subscriber, u32>> {
        let number = self.hasher.hash_one(subscriber) as usize % self.of_address.len();
        lock(&self.of_address[number])
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(subscriber) = self.subscriber {
            let mut counts = self.crowd.shard(subscriber);
            if let Some(count) = counts.get_mut(&subscriber) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&subscriber);
                }
            }
        }
        let before = self.crowd.count.fetch_sub(1, Ordering::AcqRel);
        if before == self.crowd.max.load(Ordering::Acquire) {
            self.crowd.tell_workers();
        }
    }
}

/// Nobody panics while holding one of these locks; and if so, counts are counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_remembered_of_who_has_left() {
        let crowd = Arc::new(Crowd::default());
        let subscribers = (0..=255).map(|last| Subscriber::of([192, 0, 2, last].into()));
        let tickets: Vec<_> = subscribers.map(|subscriber| crowd.enter(Some(subscriber), 1).unwrap()).collect();
        assert_eq!(crowd.count.load(Ordering::Relaxed), 256);
        drop(tickets);
        assert_eq!(crowd.count.load(Ordering::Relaxed), 0);
        assert!(crowd.of_address.iter().all(|counts| lock(counts).is_empty()));
    }

    #[test]
    fn workers_are_told_when_room_runs_out_and_when_there_is_some_again() {
        let crowd = Arc::new(Crowd::default());
        let worker = Waker::new().unwrap();
        crowd.enlist(worker.clone());
        crowd.set_max(2);
        let first = crowd.enter(None, 0).unwrap();
        assert!(crowd.has_room());
        let second = crowd.enter(None, 0).unwrap();
        worker.wait().unwrap();
        assert!(!crowd.has_room());
        drop((first, second));
        worker.wait().unwrap();
        assert!(crowd.has_room());
    }
}
