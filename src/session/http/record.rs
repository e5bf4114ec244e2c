//! The line of the access log for an answer whose body is still being sent: how much of it the client got is known at its end.

use crate::driver::Time;
use crate::http::Status;
use crate::telemetry::access::Draft;

/// A line that waits for its answer's end.
#[derive(Debug)]
pub(super) struct Record {
    draft: Draft,
    status: Status,
    since: Time,
    /// Bytes sent on the connection before the body's first.
    body_at: u64,
    /// Bytes sent on the connection so far.
    sent: u64,
}

impl Record {
    /// A line for a request that came at `since`.
    pub(super) const fn new(draft: Draft, status: Status, since: Time) -> Self {
        Self { draft, status, since, body_at: 0, sent: 0 }
    }

    /// The body begins after so many bytes of the connection's.
    pub(super) const fn begin(&mut self, body_at: u64) {
        self.body_at = body_at;
    }

    /// So many bytes of the connection's have been sent.
    pub(super) const fn note(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// Writes the line. The kernel has taken what is counted; whether the client has, nobody knows.
    pub(super) fn finish(self, now: Time) {
        self.draft.finish(self.status.code(), self.sent.saturating_sub(self.body_at), now.since(self.since));
    }
}
