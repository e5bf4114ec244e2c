//! The queue of requests that wait for a free slot, oldest first.
//!
//! A slot that becomes free wakes one waiter and is reserved for it: a new request that needs a
//! slot meanwhile joins the queue. If the slot is gone all the same, since its upstream went down,
//! the waiter queues again with the time at which it began to wait, and so regains its position.
//!
//! The queue does not know the slots themselves, only how many are free.

use std::collections::VecDeque;

use crate::driver::Time;
use crate::waiter::Waiter;

/// A bounded queue of waiting requests.
#[derive(Debug)]
pub(super) struct Queue {
    /// Ordered by time.
    waiting: VecDeque<(Time, Waiter)>,
    waiting_max: usize,
    /// Number of waiters, from the front, that may pick again. At most the length of `waiting`.
    woken: usize,
    /// Number of woken waiters that have neither picked again nor given up.
    promised: usize,
}

impl Queue {
    /// An empty queue; it allocates with the first waiter.
    pub(super) const fn new(waiting_max: usize) -> Self {
        Self { waiting: VecDeque::new(), waiting_max, woken: 0, promised: 0 }
    }

    /// Adds a waiter that has been waiting since then; `false`: the queue is full.
    pub(super) fn push(&mut self, waiter: Waiter, since: Time) -> bool {
        if self.waiting.len() >= self.waiting_max {
            return false;
        }
        let place = self.waiting.iter().rposition(|(time, _)| *time <= since).map_or(0, |before| before + 1);
        self.waiting.insert(place, (since, waiter));
        true
    }

    /// Removes a waiter. If it has been woken already, the next one is woken in its stead.
    pub(super) fn remove(&mut self, waiter: Waiter) {
        match self.waiting.iter().position(|(_, other)| *other == waiter) {
            Some(place) => {
                self.waiting.remove(place);
                self.woken = self.woken.min(self.waiting.len());
            }
            None if self.promised > 0 => {
                self.promised -= 1;
                self.wake(self.woken.saturating_add(1));
            }
            None => {}
        }
    }

    /// A woken waiter uses its reserved slot.
    pub(super) const fn redeem(&mut self) {
        self.promised = self.promised.saturating_sub(1);
    }

    /// Number of slots reserved for woken waiters.
    pub(super) const fn promised(&self) -> usize {
        self.promised
    }

    /// Wakes waiters for `places` free slots that are not reserved.
    pub(super) fn wake(&mut self, places: usize) {
        self.woken = self.woken.max(places).min(self.waiting.len());
    }

    /// The next waiter to pick again.
    pub(super) fn pop_woken(&mut self) -> Option<Waiter> {
        self.woken = self.woken.checked_sub(1)?;
        let (_, waiter) = self.waiting.pop_front()?;
        self.promised += 1;
        Some(waiter)
    }

    /// Whether it is in the queue and has not been woken.
    pub(super) fn contains(&self, waiter: Waiter) -> bool {
        self.waiting.iter().any(|(_, other)| *other == waiter)
    }

    /// Number of waiters that have not been woken.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::RawKey;
    use crate::waiter::StreamId;

    const fn waiter(index: u32) -> Waiter {
        Waiter::only_stream_of(RawKey::from_parts(index, 0).typed())
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn woken(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop_woken()).map(|waiter| waiter.session.index()).collect()
    }

    /// A queue with waiters 0 to `count`, one a second.
    fn queue_of(count: u32) -> Queue {
        let mut queue = Queue::new(count as usize);
        assert!((0..count).all(|index| queue.push(waiter(index), at(index.into()))));
        queue
    }

    #[test]
    fn the_oldest_is_woken_first_and_one_for_each_place() {
        let mut queue = queue_of(3);
        assert!(woken(&mut queue).is_empty());
        queue.wake(2);
        assert_eq!(woken(&mut queue), [0, 1]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_full_queue_takes_nobody() {
        let mut queue = queue_of(2);
        assert!(!queue.push(waiter(9), at(9)));
        queue.wake(1);
        queue.pop_woken();
        assert!(queue.push(waiter(9), at(9)));
    }

    #[test]
    fn who_was_woken_in_vain_has_its_old_place() {
        let mut queue = queue_of(3);
        queue.wake(1);
        assert_eq!(woken(&mut queue), [0]);
        assert!(queue.push(waiter(0), at(0)));
        queue.wake(usize::MAX);
        assert_eq!(woken(&mut queue), [0, 1, 2]);
    }

    #[test]
    fn who_began_at_the_same_time_is_served_as_it_came() {
        let mut queue = Queue::new(9);
        assert!((0..3).all(|index| queue.push(waiter(index), at(0))));
        queue.wake(3);
        assert_eq!(woken(&mut queue), [0, 1, 2]);
    }

    #[test]
    fn a_place_is_promised_until_its_waiter_comes_or_gives_up() {
        let mut queue = queue_of(3);
        queue.wake(2);
        assert_eq!((woken(&mut queue), queue.promised()), (vec![0, 1], 2));
        queue.redeem();
        assert_eq!(queue.promised(), 1);
        queue.remove(waiter(1));
        assert_eq!(queue.promised(), 0);
        assert_eq!((woken(&mut queue), queue.promised()), (vec![2], 1));
        queue.remove(waiter(2));
        queue.remove(waiter(2));
        assert_eq!(queue.promised(), 0);
    }

    #[test]
    fn a_place_that_the_woken_does_not_want_goes_to_the_next() {
        let mut queue = queue_of(3);
        queue.wake(1);
        assert_eq!(woken(&mut queue), [0]);
        queue.remove(waiter(0));
        assert_eq!(woken(&mut queue), [1]);
    }

    #[test]
    fn who_leaves_while_waiting_is_not_woken_and_costs_nobody_its_turn() {
        let mut queue = queue_of(3);
        queue.wake(1);
        queue.remove(waiter(0));
        assert_eq!(woken(&mut queue), [1]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn streams_of_one_session_wait_each_by_itself() {
        let stream = |number| Waiter { stream: StreamId(number), ..waiter(7) };
        let mut queue = Queue::new(9);
        assert!((0..3).all(|number| queue.push(stream(number), at(0))));
        queue.remove(stream(1));
        queue.wake(2);
        let woken: Vec<Waiter> = std::iter::from_fn(|| queue.pop_woken()).collect();
        assert_eq!(woken, [stream(0), stream(2)]);
    }

    #[test]
    fn a_place_that_becomes_free_while_nobody_waits_wakes_nobody_later() {
        let mut queue = Queue::new(9);
        queue.wake(1);
        queue.wake(usize::MAX);
        assert!(queue.push(waiter(0), at(0)));
        assert_eq!(queue.pop_woken(), None);
    }
}
