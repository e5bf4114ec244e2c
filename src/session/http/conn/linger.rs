//! The time after the FIN in which what the client still sends is read and discarded.
//!
//! A close with unread bytes is a reset, which can reach the client before it has read the response
//! (RFC 9112, 9.6).

use std::time::Duration;

use crate::driver::Time;
use crate::transport::Transport;

/// How long a client may be silent after the FIN without closing its side.
const LINGER: Duration = Duration::from_secs(2);

/// How long the client may continue to send after the FIN.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// The lingering of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linger {
    /// When it ends if the client stays silent.
    until: Time,
    /// When it ends at the latest.
    latest: Time,
}

impl Linger {
    /// Begins when the FIN is sent.
    pub(super) fn begin(now: Time) -> Self {
        Self { until: now + LINGER, latest: now + LINGER_MAX }
    }

    /// Notes that the client has sent something.
    pub(super) fn go_on(&mut self, now: Time) {
        self.until = (now + LINGER).min(self.latest);
    }

    /// When it ends, unless the client closes its side before.
    pub(super) const fn deadline(&self) -> Time {
        self.until
    }

    /// Whether the connection may be closed.
    pub(super) fn is_over(&self, client: &Transport, now: Time) -> bool {
        client.input_end().is_some() || self.until <= now
    }
}
