//! The TLS handshakes in progress, in the order in which they began.
//!
//! A handshake costs a client one packet and the server some kilobytes until its timeout. So the number
//! is limited, and at the limit the oldest gives way to the newest. A flood then displaces mostly its
//! own, and a client is served if it completes its handshake before as many as the limit have begun
//! after it. What else a connection does is unknown here.

use std::collections::VecDeque;

use crate::waiter::SessionKey;

/// Entries of handshakes that are over, beyond as many as are in progress.
const STALE_MAX: usize = 64;

/// The sessions whose handshake is in progress. One that ends in its own time leaves its entry behind,
/// to be dropped later: a search for it would cost more.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    queue: VecDeque<SessionKey>,
    in_progress: usize,
}

impl Handshakes {
    /// Adds a handshake that begins. `is_in_progress` tells which of the others have not ended.
    pub(super) fn begin(&mut self, session: SessionKey, is_in_progress: impl Fn(SessionKey) -> bool) {
        self.in_progress += 1;
        self.queue.push_back(session);
        if self.queue.len() > 2 * self.in_progress + STALE_MAX {
            self.queue.retain(|session| is_in_progress(*session));
        }
    }

    /// Notes that one has ended. From now on it must not count as in progress.
    pub(super) const fn end(&mut self) {
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// Removes the oldest that is in progress.
    pub(super) fn take_oldest(&mut self, is_in_progress: impl Fn(SessionKey) -> bool) -> Option<SessionKey> {
        loop {
            let session = self.queue.pop_front()?;
            if is_in_progress(session) {
                self.end();
                return Some(session);
            }
        }
    }

    /// How many are in progress.
    pub(super) const fn len(&self) -> usize {
        self.in_progress
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::table::RawKey;

    fn key(number: u32) -> SessionKey {
        RawKey::from_parts(number, 0).typed()
    }

    #[test]
    fn the_oldest_that_has_not_ended_goes_first() {
        let (mut handshakes, mut live) = (Handshakes::default(), HashSet::new());
        for number in 0..4 {
            live.insert(key(number));
            handshakes.begin(key(number), |session| live.contains(&session));
        }
        live.remove(&key(0));
        handshakes.end();
        assert_eq!(handshakes.take_oldest(|session| live.contains(&session)), Some(key(1)));
        live.remove(&key(1));
        assert_eq!(handshakes.len(), 2);
        live.remove(&key(3));
        handshakes.end();
        assert_eq!(handshakes.take_oldest(|session| live.contains(&session)), Some(key(2)));
        live.remove(&key(2));
        assert_eq!(handshakes.take_oldest(|session| live.contains(&session)), None);
        assert_eq!(handshakes.len(), 0);
    }

    #[test]
    fn those_that_are_over_take_no_memory() {
        let (mut handshakes, mut live) = (Handshakes::default(), HashSet::from([key(0)]));
        handshakes.begin(key(0), |_| true);
        for number in 1..10_000 {
            live.insert(key(number));
            handshakes.begin(key(number), |session| live.contains(&session));
            live.remove(&key(number));
            handshakes.end();
        }
        assert!(handshakes.queue.len() <= 2 + STALE_MAX + 1, "{}", handshakes.queue.len());
        assert_eq!(handshakes.take_oldest(|session| live.contains(&session)), Some(key(0)));
    }
}
