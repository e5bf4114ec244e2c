//! Connects that wait for room in the backlog of a unix socket.
//!
//! Over TCP the kernel asks again by itself. Of a unix socket it says `EAGAIN` (connect(2)) and tells nobody when there is
//! room, so a driver tries again now and then. How long that may go on is not its business: whoever asked may cancel.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::{Address, OpId, Time};

/// How long a connect waits before it tries again.
const PAUSE: Duration = Duration::from_millis(10);

/// So many try again at a time, those who have waited longest; a server that accepts nothing should not cost much.
const ROUND_MAX: usize = 128;

/// Who waits, in the order of their last attempt.
#[derive(Debug, Default)]
pub(super) struct UnixConnectRetries {
    /// Some may have been cancelled meanwhile: their operations have ended, which the driver knows.
    waiting: VecDeque<(OpId, Address)>,
    until: Option<Time>,
}

impl UnixConnectRetries {
    /// Whether that is what a failed connect means.
    pub(super) fn is_meant_by(error: &io::Error, address: &Address) -> bool {
        match address {
            // To TCP the same code means that no local port is left.
            Address::Inet(_) => false,
            Address::Unix(_) => error.raw_os_error() == Some(libc::EAGAIN),
        }
    }

    /// Has a connect tried again after a while.
    pub(super) fn add(&mut self, id: OpId, address: Address, now: Time) {
        self.waiting.push_back((id, address));
        self.until.get_or_insert(now + PAUSE);
    }

    /// When to try again, if any waits.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }

    /// Those whose time has come.
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
