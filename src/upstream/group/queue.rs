//! The requests that wait for a place, oldest first; how many of them may go and try again.
//!
//! A place that becomes free wakes one waiter. It is not reserved: whoever asks first has it, and a waiter that comes too
//! late waits again, with the time at which it began, which puts it back where it was.
//!
//! It does not know the places.

use std::collections::VecDeque;

use crate::driver::Time;
use crate::table::Key;

/// A bounded queue of waiting sessions.
#[derive(Debug)]
pub(super) struct Queue {
    /// In the order of their times.
    waiting: VecDeque<(Time, Key)>,
    waiting_max: usize,
    /// How many of the waiters, from the front, may try again. Never more than there are.
    woken: usize,
}

impl Queue {
    /// An empty queue; allocates nothing until someone waits.
    pub(super) const fn new(waiting_max: usize) -> Self {
        Self { waiting: VecDeque::new(), waiting_max, woken: 0 }
    }

    /// Lines up one that has been waiting since then; false: the queue is full.
    pub(super) fn push(&mut self, key: Key, since: Time) -> bool {
        if self.waiting.len() >= self.waiting_max {
            return false;
        }
        let place = self.waiting.iter().rposition(|(time, _)| *time <= since).map_or(0, |before| before + 1);
        self.waiting.insert(place, (since, key));
        true
    }

    /// It no longer waits. If it has been woken already, the next is woken in its place.
    pub(super) fn remove(&mut self, key: Key) {
        match self.waiting.iter().position(|(_, waiter)| *waiter == key) {
            Some(place) => {
                self.waiting.remove(place);
                self.woken = self.woken.min(self.waiting.len());
            }
            None => self.wake_one(),
        }
    }

    /// One place more is free.
    pub(super) fn wake_one(&mut self) {
        self.wake(self.woken.saturating_add(1));
    }

    /// So many places are free in all.
    pub(super) fn wake(&mut self, places: usize) {
        self.woken = self.woken.max(places).min(self.waiting.len());
    }

    /// The next one to try again.
    pub(super) fn pop_woken(&mut self) -> Option<Key> {
        self.woken = self.woken.checked_sub(1)?;
        self.waiting.pop_front().map(|(_, key)| key)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
