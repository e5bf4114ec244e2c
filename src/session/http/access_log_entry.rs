//! The line of the access log for a response whose body is still being sent: how much of it the client got is known at its end.
//! And what stands in the line of a request whose connection ends before a response to it.

use super::dispatch::log_entry;
use super::{Http, State};
use crate::driver::Time;
use crate::http::Status;
use crate::http::request::{self, Parsed};
use crate::session::Context;
use crate::tcp::Connection;
use crate::telemetry::access_log::AccessLogEntry;

/// The status of a request that was not answered, since its connection ended first; other servers write it so, too.
pub(super) const NO_RESPONSE: u16 = 499;

/// A line that waits for its response's end.
#[derive(Debug)]
pub(super) struct PendingLogEntry {
    log_entry: AccessLogEntry,
    status: Status,
    since: Time,
    /// Bytes sent on the connection before the body's first.
    body_at: u64,
}

impl PendingLogEntry {
    /// A line for a request that came at `since`.
    pub(super) const fn new(log_entry: AccessLogEntry, status: Status, since: Time) -> Self {
        Self { log_entry, status, since, body_at: 0 }
    }

    /// The body begins after so many bytes of the connection's.
    pub(super) const fn begin(&mut self, body_at: u64) {
        self.body_at = body_at;
    }

    /// Writes the line, when so many bytes have been sent on the connection. The kernel has taken what is counted; whether
    /// the client has, nobody knows.
    pub(super) fn finish(self, sent_bytes: u64, now: Time) {
        self.log_entry.finish(self.status.code(), sent_bytes.saturating_sub(self.body_at), now.since(self.since));
    }
}

impl Http {
    /// Leaves the line of a request in the access log whose answer the end of its connection breaks off, or forestalls.
    pub(super) fn record_end(&mut self, client: &Connection, cx: &Context<'_>) {
        match &mut self.state {
            State::Sending(response_body) => response_body.record_end(client.delivered_bytes(), cx.now),
            State::Forwarding(forward) => {
                forward.record_end(client.undelivered_bytes() + self.outbox.len() as u64, cx.now);
            }
            State::Truncated(truncated) => {
                if let Some(forward) = &mut truncated.forward {
                    forward.record_end(client.undelivered_bytes() + self.outbox.len() as u64, cx.now);
                }
            }
            State::Asking { since, router, .. } => {
                if let Ok(Parsed::Complete { head, .. }) = request::parse(self.inbox.bytes(), &cx.limits.http.head)
                    && let Some(log_entry) = log_entry(router, &head, cx)
                {
                    log_entry.finish(NO_RESPONSE, 0, cx.now.since(*since));
                }
                self.state = State::Finishing;
            }
            State::Head | State::Upgraded(_) | State::Discarding(_) | State::Finishing | State::Lingering { .. } => {}
        }
    }
}
