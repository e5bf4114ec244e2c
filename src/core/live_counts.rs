//! Counts and invariants of a worker's state, for tests and gauges.

use crate::driver::Token;
use crate::session::StreamViolation;
use crate::waiter::SessionKey;

/// Number of live objects of each kind. All are zero when a worker has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Listeners that are not closed yet.
    pub listeners: usize,
    /// Sessions, including those that are closing.
    pub sessions: usize,
    /// Operations without a final outcome.
    pub operations: usize,
    /// Connections to upstreams, including idle ones.
    pub upstream_connections: usize,
    /// Health checks and name lookups of upstreams.
    pub monitored: usize,
    /// Armed timers of the timer wheel.
    pub timers: usize,
    /// HTTP exchanges that have begun, less those that have ended.
    pub exchanges: i64,
}

/// A violated invariant: a bug in xps or in a driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The session can never make progress: no operation in flight and no timer.
    #[error("session {0} has no operation in flight and no timer")]
    Stalled(SessionKey),
    /// Something has happened on the upstream connection of one of the session's streams, and the
    /// session was not pumped.
    #[error("session {0} was not woken for its upstream")]
    NotWoken(SessionKey),
    /// A stream of the session waits for nothing, or what is counted of its streams is not what they have.
    #[error("session {0}: {1}")]
    Stream(SessionKey, StreamViolation),
    /// An operation in flight has no owner.
    #[error("an operation in flight has no owner: {0:?}")]
    Orphan(Token),
    /// An exchange has ended twice, or was dropped before its end.
    #[error("{counted} exchanges have begun and not ended, but {in_progress} are in progress")]
    Exchanges {
        /// Exchanges that have begun, less those that have ended.
        counted: i64,
        /// Exchanges of all sessions.
        in_progress: usize,
    },
    /// The number of TLS handshakes in progress is wrong.
    #[error("{counted} handshakes are counted, but {in_progress} are in progress")]
    Handshakes {
        /// Handshakes that count towards the limit.
        counted: usize,
        /// Handshakes of all sessions.
        in_progress: usize,
    },
    /// A session holds more buffer memory than its limit plus what can have been in flight.
    #[error("session {session} holds {held_bytes} bytes")]
    OverBudget {
        /// Key of the session.
        session: SessionKey,
        /// Buffer memory, in bytes.
        held_bytes: usize,
    },
}
