//! `Flush`: waits until the peer's kernel has acknowledged everything that was sent.
//!
//! The kernel has no event for this, so the socket is polled at growing intervals. Without a
//! waiting flush there is no cost. There is no timeout here: the state machine cancels the
//! operation.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::{Fault, OpId, Outcome, Socket, Time, sys};
use crate::table::Key;

/// The first and the longest interval between two polls of a socket.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How much of what was sent on a socket has been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlushStatus {
    /// All of it.
    Arrived,
    /// All but this number of bytes.
    Left(u64),
    /// The connection is broken: the rest will not arrive.
    Broken(Fault),
}

impl FlushStatus {
    /// Queries the kernel.
    pub(super) fn of(socket: BorrowedFd<'_>) -> Self {
        match sys::unacknowledged(socket) {
            Ok(0) => Self::Arrived,
            Ok(left) => sys::broken(socket).map_or(Self::Left(left), Self::Broken),
            Err(error) => Self::Broken(Fault::from_io(&error)),
        }
    }

    /// The final outcome; `None` if bytes are left.
    pub(super) const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Arrived => Some(Outcome::Done),
            Self::Left(_) => None,
            Self::Broken(fault) => Some(Outcome::Failed(fault)),
        }
    }
}

/// The flushes that wait.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    waiting: Vec<Waiting>,
    until: Option<Time>,
}

#[derive(Debug)]
struct Waiting {
    id: OpId,
    socket: Key<Socket>,
    left: u64,
    next: Time,
    pause: Duration,
}

impl Flushes {
    /// Adds a flush with `left` unacknowledged bytes; the first poll is after the shortest
    /// interval.
    pub(super) fn add(&mut self, id: OpId, socket: Key<Socket>, left: u64, now: Time) {
        let next = now + PAUSE_MIN;
        self.waiting.push(Waiting { id, socket, left, next, pause: PAUSE_MIN });
        self.until = Some(self.until.map_or(next, |until| until.min(next)));
    }

    /// Removes an operation, if it waits.
    pub(super) fn remove(&mut self, id: OpId) {
        self.waiting.retain(|waiting| waiting.id != id);
        if self.waiting.is_empty() {
            self.until = None;
        }
    }

    /// There was an event on the socket of the operation: it is polled in the next round.
    pub(super) fn hasten(&mut self, id: OpId, now: Time) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.next = now;
            self.until = Some(now);
        }
    }

    /// The time of the next poll; `None` if no flush waits.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }

    /// Polls the sockets whose time has come. Returns the outcomes, each with its operation and
    /// socket.
    pub(super) fn ask(
        &mut self,
        now: Time,
        flush_status_of: impl Fn(Key<Socket>) -> FlushStatus,
    ) -> Vec<(OpId, Key<Socket>, Outcome)> {
        let mut told = Vec::new();
        if self.until.is_none_or(|until| now < until) {
            return told;
        }
        self.waiting.retain_mut(|waiting| {
            if now < waiting.next {
                return true;
            }
            let flush_status = flush_status_of(waiting.socket);
            if let FlushStatus::Left(left) = flush_status {
                if left < waiting.left {
                    told.push((waiting.id, waiting.socket, Outcome::Progress(waiting.left - left)));
                }
                waiting.left = left;
                waiting.pause = (waiting.pause * 2).min(PAUSE_MAX);
                waiting.next = now + waiting.pause;
            }
            match flush_status.outcome() {
                None => true,
                Some(outcome) => {
                    told.push((waiting.id, waiting.socket, outcome));
                    false
                }
            }
        });
        self.until = self.waiting.iter().map(|waiting| waiting.next).min();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::RawKey;

    #[test]
    fn it_is_asked_at_growing_intervals_and_told_of_progress_and_the_end() {
        let (id, socket) = (OpId::from_bits(7), RawKey::from_parts(1, 1).typed());
        let mut flushes = Flushes::default();
        flushes.add(id, socket, 100, Time::ZERO);
        let (mut now, mut asked) = (Time::ZERO, 0);
        assert!(flushes.ask(now, |_| panic!("too early")).is_empty());
        while now.as_millis() < 1000 {
            now = flushes.until().unwrap();
            assert!(flushes.ask(now, |_| FlushStatus::Left(100)).is_empty());
            asked += 1;
        }
        assert!((20..40).contains(&asked), "{asked} times in a second");
        let mut at_once = |flush_status| {
            flushes.hasten(id, now);
            flushes.ask(now, move |_| flush_status)
        };
        assert!(matches!(at_once(FlushStatus::Left(60))[..], [(told, _, Outcome::Progress(40))] if told == id));
        assert!(matches!(at_once(FlushStatus::Arrived)[..], [(told, _, Outcome::Done)] if told == id));
        assert_eq!(flushes.until(), None);
    }

    #[test]
    fn what_was_cancelled_is_not_asked_for() {
        let mut flushes = Flushes::default();
        flushes.add(OpId::from_bits(7), RawKey::from_parts(1, 1).typed(), 100, Time::ZERO);
        flushes.remove(OpId::from_bits(7));
        assert_eq!(flushes.until(), None);
        assert!(flushes.ask(Time::ZERO + PAUSE_MAX, |_| panic!("polled after it was cancelled")).is_empty());
    }
}
