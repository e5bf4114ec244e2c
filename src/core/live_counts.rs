//! What can be counted and checked of a worker's state, for tests and for the gauges.

use crate::driver::Token;
use crate::table::Key;

/// How much there is of everything; all zero when a worker has come to rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Listeners not closed yet.
    pub listeners: usize,
    /// Sessions, also those that are closing.
    pub sessions: usize,
    /// Operations without their final outcome.
    pub operations: usize,
    /// Connections to upstreams, idle ones included.
    pub upstream_connections: usize,
    /// Upstreams and names that are watched.
    pub monitored: usize,
    /// Armed timers.
    pub timers: usize,
}

/// An invariant does not hold: a bug of ours, or a driver's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Nothing will ever happen to this session: no operation in flight, no timer.
    #[error("session {0} waits for something that nobody will deliver")]
    Stalled(Key),
    /// An operation in flight belongs to nobody.
    #[error("an operation in flight has no owner: {0:?}")]
    Orphan(Token),
    /// A session holds more than its bound and what can have been on its way.
    #[error("session {session} holds {held_bytes} bytes")]
    OverBudget {
        /// Which.
        session: Key,
        /// Buffer memory, in bytes.
        held_bytes: usize,
    },
}
