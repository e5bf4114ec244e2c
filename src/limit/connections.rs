//! [`ConnectionCounter`]: counts open connections of all workers, in total and per client address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ClientKey;
use crate::driver::Waker;

/// Shards of the counts per address, so that workers rarely contend for a lock. A power of two.
const SHARDS: usize = 64;

/// The number of open connections, in total and per client address.
#[derive(Debug)]
pub struct ConnectionCounter {
    /// Permits that have not been dropped.
    count: AtomicUsize,
    /// The limit. 0: no limit.
    max: AtomicUsize,
    /// Permits per client address; no zero entries.
    of_address: Box<[Mutex<HashMap<ClientKey, u32>>]>,
    hasher: RandomState,
    /// Wakers of the accepting workers. They are woken when the limit is reached, and when there is
    /// capacity again.
    workers: Mutex<Vec<Waker>>,
}

/// One counted connection. Dropping it ends the count.
#[derive(Debug)]
pub struct ConnectionPermit {
    counter: Arc<ConnectionCounter>,
    client_key: Option<ClientKey>,
}

impl Default for ConnectionCounter {
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

impl ConnectionCounter {
    /// Sets the limit. 0: no limit. Connections that are already open stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Release);
    }

    /// How many more connections the limit allows now; `usize::MAX` without a limit. Other workers
    /// may take them at the same time.
    pub fn room(&self) -> usize {
        match self.max.load(Ordering::Acquire) {
            0 => usize::MAX,
            max => max.saturating_sub(self.count.load(Ordering::Acquire)),
        }
    }

    /// Wakes this worker from now on when the limit is reached, and when there is capacity again.
    pub fn register_waker(&self, worker: Waker) {
        let mut workers = lock(&self.workers);
        if !workers.iter().any(|other| other.is_same(&worker)) {
            workers.push(worker);
        }
    }

    fn notify_workers(&self) {
        lock(&self.workers).iter().for_each(Waker::wake);
    }

    /// Counts one more connection, also for `client_key`, which may have `max`. `None`: it has as
    /// many.
    pub fn enter(self: &Arc<Self>, client_key: Option<ClientKey>, max: u32) -> Option<ConnectionPermit> {
        if let Some(client_key) = client_key {
            let mut counts = self.shard(client_key);
            let count = counts.entry(client_key).or_insert(0);
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count == self.max.load(Ordering::Acquire) {
            self.notify_workers();
        }
        Some(ConnectionPermit { counter: Arc::clone(self), client_key })
    }

    fn shard(&self, client_key: ClientKey) -> MutexGuard<'_, HashMap<ClientKey, u32>> {
        let number = self.hasher.hash_one(client_key) as usize % self.of_address.len();
        lock(&self.of_address[number])
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(client_key) = self.client_key {
            let mut counts = self.counter.shard(client_key);
            if let Some(count) = counts.get_mut(&client_key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&client_key);
                }
            }
        }
        let before = self.counter.count.fetch_sub(1, Ordering::AcqRel);
        if before == self.counter.max.load(Ordering::Acquire) {
            self.counter.notify_workers();
        }
    }
}

/// No code panics while it holds one of these locks. If it did, the counts would still be usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_remembered_of_who_has_left() {
        let counter = Arc::new(ConnectionCounter::default());
        let client_keys = (0..=255).map(|last| ClientKey::of([192, 0, 2, last].into()));
        let permits: Vec<_> = client_keys.map(|client_key| counter.enter(Some(client_key), 1).unwrap()).collect();
        assert_eq!(counter.count.load(Ordering::Relaxed), 256);
        drop(permits);
        assert_eq!(counter.count.load(Ordering::Relaxed), 0);
        assert!(counter.of_address.iter().all(|counts| lock(counts).is_empty()));
    }

    #[test]
    fn workers_are_told_when_room_runs_out_and_when_there_is_some_again() {
        let counter = Arc::new(ConnectionCounter::default());
        let worker = Waker::new().unwrap();
        counter.register_waker(worker.clone());
        counter.set_max(2);
        let first = counter.enter(None, 0).unwrap();
        assert!(counter.room() > 0);
        let second = counter.enter(None, 0).unwrap();
        worker.wait(None).unwrap();
        assert_eq!(counter.room(), 0);
        drop((first, second));
        worker.wait(None).unwrap();
        assert!(counter.room() > 0);
    }
}
