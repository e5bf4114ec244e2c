//! What a session waits for, so that a check of its streams can find one that waits for nothing.

use super::Slot;
use crate::waiter::{SessionKey, StreamId, Waiter};

/// What will resume one session: its operations in flight, and what its streams wait for elsewhere.
#[derive(Debug)]
pub struct Awaited<'a> {
    session: SessionKey,
    /// Sorted: the slots of all sessions that have an operation in flight.
    slots: &'a [(SessionKey, Slot)],
    /// Sorted: those of all sessions that the store, or an upstream connection with an operation in flight, resumes.
    waiters: &'a [Waiter],
}

/// What is wrong with a stream, or with what a connection counts of its streams. A bug in xps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamViolation {
    /// It can never make progress.
    #[error("stream {stream}, {stage}, is not marked to be stepped and waits for nothing")]
    Stalled {
        /// Its identifier.
        stream: u32,
        /// What it does.
        stage: &'static str,
    },
    /// Its time limit is not among those that the connection looks at.
    #[error("stream {0} has a deadline that its connection does not know")]
    Untimed(u32),
    /// The client may never be allowed to send what the stream waits for.
    #[error("stream {0} waits for its client, whose window is closed")]
    Starved(u32),
    /// What is counted for all streams is not the sum of what they have.
    #[error("{what}: {counted} are counted, and there are {found}")]
    Miscounted {
        /// What is counted.
        what: &'static str,
        /// As it is counted.
        counted: usize,
        /// As it is.
        found: usize,
    },
    /// More than there may be.
    #[error("{what}: {found}, of at most {max}")]
    Exceeded {
        /// What there is.
        what: &'static str,
        /// How much may be.
        max: usize,
        /// How much is.
        found: usize,
    },
}

impl<'a> Awaited<'a> {
    /// Of this session. Both lists are sorted.
    pub const fn of(session: SessionKey, slots: &'a [(SessionKey, Slot)], waiters: &'a [Waiter]) -> Self {
        Self { session, slots, waiters }
    }

    /// Whether the session has an operation in flight in this slot.
    pub fn has(&self, slot: Slot) -> bool {
        self.slots.binary_search(&(self.session, slot)).is_ok()
    }

    /// Whether the store or an upstream connection resumes this stream.
    pub fn has_stream(&self, stream: StreamId) -> bool {
        self.waiters.binary_search(&Waiter { session: self.session, stream }).is_ok()
    }
}
