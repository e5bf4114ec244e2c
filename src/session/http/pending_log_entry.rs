//! Access log entries that cannot be written at once.
//!
//! The bytes sent are known only at the end of the body. A request whose connection ends before its
//! response is logged with status 499.

use super::dispatch::log_entry;
use super::{Http, State};
use crate::driver::Time;
use crate::http::Status;
use crate::http::request::{self, Parsed};
use crate::session::Context;
use crate::telemetry::access_log::AccessLogEntry;
use crate::transport::Transport;

/// The logged status of a request whose connection ended before a response, as in nginx.
pub(super) const NO_RESPONSE: u16 = 499;

/// An entry that is written at the end of the response.
#[derive(Debug)]
pub(super) struct PendingLogEntry {
    log_entry: AccessLogEntry,
    status: Status,
    since: Time,
    /// Bytes sent on the connection before the first byte of the body.
    body_at: u64,
}

impl PendingLogEntry {
    /// An entry for a request that arrived at `since`.
    pub(super) const fn new(log_entry: AccessLogEntry, status: Status, since: Time) -> Self {
        Self { log_entry, status, since, body_at: 0 }
    }

    /// Sets the position of the body: the number of bytes sent on the connection before it.
    pub(super) const fn begin(&mut self, body_at: u64) {
        self.body_at = body_at;
    }

    /// Writes the entry after `sent_bytes` were sent on the connection. These are bytes that the
    /// kernel has taken; the client may not have received them.
    pub(super) fn finish(self, sent_bytes: u64, now: Time) {
        self.log_entry.finish(self.status.code(), sent_bytes.saturating_sub(self.body_at), now.since(self.since));
    }
}

impl Http {
    /// Writes the access log entry of a request if its connection ends before the end of its
    /// response.
    pub(super) fn record_end(&mut self, client: &Transport, cx: &Context<'_>) {
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
