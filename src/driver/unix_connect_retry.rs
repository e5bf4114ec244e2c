//! Connects to a unix socket whose backlog is full: they are tried again.
//!
//! Over TCP the kernel retransmits the SYN. On a unix socket connect(2) fails with `EAGAIN`, and no
//! event reports when the backlog has space again, so the drivers try again at intervals. There is
//! no timeout here: the state machine cancels the operation.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::{Address, OpId, Time};

/// The interval between two rounds.
const PAUSE: Duration = Duration::from_millis(10);

/// The most connects per round; those that have waited longest go first. It limits the cost of a
/// server that accepts nothing.
const ROUND_MAX: usize = 128;

/// The waiting connects, in the order of their last try.
#[derive(Debug, Default)]
pub(super) struct UnixConnectRetries {
    /// Cancelled operations are not removed: the driver skips those that have ended.
    waiting: VecDeque<(OpId, Address)>,
    until: Option<Time>,
}

impl UnixConnectRetries {
    /// Whether a connect failed because the backlog of a unix socket is full.
    pub(super) fn is_meant_by(error: &io::Error, address: &Address) -> bool {
        match address {
            // With TCP the same code means that no local port is left.
            Address::Inet(_) => false,
            Address::Unix(_) => error.raw_os_error() == Some(libc::EAGAIN),
        }
    }

    /// Adds a connect, to be tried again in a later round.
    pub(super) fn add(&mut self, id: OpId, address: Address, now: Time) {
        self.waiting.push_back((id, address));
        self.until.get_or_insert(now + PAUSE);
    }

    /// The time of the next round; `None` if no connect waits.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }

    /// Takes the connects of the round, if its time has come.
    pub(super) fn take_due(&mut self, now: Time) -> Vec<(OpId, Address)> {
        if self.until.is_none_or(|until| now < until) {
            return Vec::new();
        }
        let due = self.waiting.drain(..self.waiting.len().min(ROUND_MAX)).collect();
        self.until = (!self.waiting.is_empty()).then(|| now + PAUSE);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::UnixPath;

    #[test]
    fn all_get_their_turn_and_none_before_its_time() {
        let path = Address::from(UnixPath::new("/full").unwrap());
        let mut unix_connect_retries = UnixConnectRetries::default();
        for number in 0..ROUND_MAX as u64 + 1 {
            unix_connect_retries.add(OpId::from_bits(number), path.clone(), Time::ZERO);
        }
        assert!(unix_connect_retries.take_due(Time::ZERO + PAUSE / 2).is_empty());
        assert_eq!(unix_connect_retries.take_due(Time::ZERO + PAUSE).len(), ROUND_MAX);
        assert_eq!(unix_connect_retries.until(), Some(Time::ZERO + PAUSE * 2));
        assert_eq!(unix_connect_retries.take_due(Time::ZERO + PAUSE * 2), [(OpId::from_bits(ROUND_MAX as u64), path)]);
        assert_eq!(unix_connect_retries.until(), None);
    }
}
