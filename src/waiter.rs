//! [`Waiter`]: who waits for a result of the file store, for a slot of an upstream, or for an
//! upstream connection.
//!
//! A connection may serve several requests at once, each on a stream of its own. Each of them waits
//! by itself: the core pumps the session of the [`Waiter`], and the session resumes the stream.

use crate::table::Key;

/// Marks the keys of the table of sessions, which only the core knows.
#[derive(Debug)]
pub enum SessionTable {}

/// Identifies a session of a worker.
pub type SessionKey = Key<SessionTable>;

/// One stream of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter {
    /// The session to pump.
    pub session: SessionKey,
    /// The stream of this session to resume.
    pub stream: StreamId,
}

/// Identifies a stream within its session. Other sessions use the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The only stream of a session that serves one request at a time.
    pub const ONLY: Self = Self(0);
}

impl Waiter {
    /// The only stream of a session that serves one request at a time.
    pub const fn only_stream_of(session: SessionKey) -> Self {
        Self { session, stream: StreamId::ONLY }
    }
}
