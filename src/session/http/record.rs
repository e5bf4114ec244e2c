//! The line of the access log for an answer whose body is still being sent: how much of it the client got is known at its end.
//! And what stands in the line of a request whose connection ends before an answer to it.

use super::arrival::draft;
use super::{Http, State};
use crate::driver::Time;
use crate::http::Status;
use crate::http::request::{self, Parsed};
use crate::session::Context;
use crate::tcp::Connection;
use crate::telemetry::access::Draft;

/// The status of a request that was not answered, since its connection ended first; other servers write it so, too.
pub(super) const NOT_ANSWERED: u16 = 499;

/// A line that waits for its answer's end.
#[derive(Debug)]
pub(super) struct Record {
    draft: Draft,
    status: Status,
    since: Time,
    /// Bytes sent on the connection before the body's first.
    body_at: u64,
}

impl Record {
    /// A line for a request that came at `since`.
    pub(super) const fn new(draft: Draft, status: Status, since: Time) -> Self {
        Self { draft, status, since, body_at: 0 }
    }

    /// The body begins after so many bytes of the connection's.
    pub(super) const fn begin(&mut self, body_at: u64) {
        self.body_at = body_at;
    }

    /// Writes the line, when so many bytes have been sent on the connection. The kernel has taken what is counted; whether
    /// the client has, nobody knows.
    pub(super) fn finish(self, sent_bytes: u64, now: Time) {
        self.draft.finish(self.status.code(), sent_bytes.saturating_sub(self.body_at), now.since(self.since));
    }
}

impl Http {
    /// Leaves the line of a request in the access log whose answer the end of its connection breaks off, or forestalls.
    pub(super) fn record_end(&mut self, client: &Connection, cx: &Context<'_>) {
        match &mut self.state {
            State::Sending(delivery) => delivery.record_end(client.delivered_bytes(), cx.now),
            State::Forwarding(forward) => {
                forward.record_end(client.undelivered_bytes() + self.outbox.len() as u64, cx.now);
            }
            State::Cut(cut) => {
                if let Some(forward) = &mut cut.forward {
                    forward.record_end(client.undelivered_bytes() + self.outbox.len() as u64, cx.now);
                }
            }
            State::Asking { since, front, .. } => {
                if let Ok(Parsed::Complete { head, .. }) = request::parse(self.inbox.bytes(), &cx.limits.http.head)
                    && let Some(draft) = draft(front, &head, cx)
                {
                    draft.finish(NOT_ANSWERED, 0, cx.now.since(*since));
                }
                self.state = State::Ending;
            }
            State::Head | State::Upgraded(_) | State::Discarding(_) | State::Ending | State::Lingering { .. } => {}
        }
    }
}
