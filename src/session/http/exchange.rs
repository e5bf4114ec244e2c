//! An exchange: one request and its response. It begins once and ends once.
//!
//! ```text
//!                  result in the store               end of the body
//!   LookingUp ──────────┬─────────► Responding ──────────────────────┐
//!                       │ all of the response is in memory           ▼
//!                       └──────────────────────────────────────────► end
//!                         end of the body, error before a response   ▲ ▲
//!   Forwarding ──────────────────────────────────────────────────────┘ │
//!     │    │ 101                                 connection closed     │
//!     │    └───────► Upgraded ─────────────────────────────────────────┤
//!     │ broken off                                                     │
//!     └─► Truncated ───────────────────────────────────────────────────┘
//! ```
//!
//! [`Record`] is what is known of an exchange while it lasts. It stays on the stack unless the
//! exchange has to wait for something. If the connection ends first, [`Exchange::abort`] gives up
//! what the exchange holds elsewhere, and the exchange ends once the connection is closed: how
//! many bytes the client has received is known only then.
//!
//! Access log entries are finished here and nowhere else, and exchanges are counted here.

#[cfg(feature = "internals")]
pub mod planted_bug;

use std::rc::Rc;

use super::After;
use super::file_route::FileRoute;
use super::forward::Forward;
use super::response_body::ResponseBody;
use super::stream::StreamState;
use super::truncated_response::TruncatedResponse;
use crate::driver::{Peer, Time};
use crate::http::request::HeadLimits;
use crate::http::{BodyWriter, ErrorResponse, RequestHead, Status};
use crate::session::tunnel::Tunnel;
use crate::session::{CloseReason, Context};
use crate::tcp::CloseKind;
use crate::telemetry::access_log::{AccessLog, AccessLogEntry};
use crate::upstream::group::HealthVerdict;
use crate::upstream::{Release, UpstreamLease};

/// The status of a request whose connection ended before a response, as in nginx.
const NO_RESPONSE: u16 = 499;

/// An exchange that waits for something.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The store looks something up for the response.
    LookingUp(Box<LookUp>),
    /// Sends a body that is not entirely in memory.
    Responding(Box<Responding>),
    /// The request is forwarded to an upstream.
    Forwarding(Box<Forwarding>),
    /// The protocol was upgraded: bytes are relayed both ways.
    Upgraded(Box<Upgraded>),
    /// The response broke off: the connection closes so that the client notices it.
    Truncated(Box<TruncatedResponse>),
}

/// A request whose response waits for the store. Its head stays in the inbox.
#[derive(Debug)]
pub(super) struct LookUp {
    pub(super) record: Record,
    /// The files of the route that was chosen. The router is not held: it may be that of an old
    /// configuration.
    pub(super) file_route: Rc<FileRoute>,
    /// Whether the route keeps the client's connection open.
    pub(super) keep_alive: bool,
    /// The limits that the head was found to be within.
    pub(super) head_limits: HeadLimits,
    /// Whether the result may be there.
    pub(super) has_come: bool,
}

/// A response of the server's own whose body is being sent.
#[derive(Debug)]
pub(super) struct Responding {
    pub(super) record: Record,
    pub(super) body: ResponseBody,
    /// The framing around the data of the body.
    pub(super) writer: BodyWriter,
    pub(super) after: After,
}

/// A request that is forwarded, and its stream.
#[derive(Debug)]
pub(super) struct Forwarding {
    pub(super) stream: StreamState,
    pub(super) forward: Forward,
}

/// A connection whose protocol was switched (101).
#[derive(Debug)]
pub(super) struct Upgraded {
    pub(super) record: Record,
    pub(super) lease: UpstreamLease,
    pub(super) tunnel: Tunnel,
}

impl Exchange {
    /// Gives up what the exchange holds outside of its connection, which is closing.
    pub(super) fn abort(&mut self, close_reason: CloseReason, cx: &mut Context<'_>) {
        let (lease, release) = match self {
            Self::Forwarding(forwarding) => {
                let is_orderly = close_reason.close_kind() == CloseKind::Fin;
                let close_kind = if is_orderly { CloseKind::Fin } else { CloseKind::Reset };
                (forwarding.forward.lease_mut(), Release::Close(close_kind))
            }
            Self::Upgraded(upgraded) => (&mut upgraded.lease, close_reason.release(cx.limits.http.send_timeout)),
            // A look-up goes on, for the cache. The upstream of a truncated response is given up
            // already.
            Self::LookingUp(_) | Self::Responding(_) | Self::Truncated(_) => return,
        };
        if !lease.is_over() {
            lease.finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        }
    }

    /// The record, to end the exchange with.
    pub(super) fn into_record(self) -> Record {
        match self {
            Self::LookingUp(look_up) => look_up.record,
            Self::Responding(responding) => responding.record,
            Self::Forwarding(forwarding) => forwarding.forward.into_parts().0,
            Self::Upgraded(upgraded) => upgraded.record,
            Self::Truncated(truncated) => truncated.into_record(),
        }
    }
}

/// What is known of an exchange. [`Record::end`] consumes it, so an exchange cannot end twice.
#[must_use = "an exchange ends by `end`"]
#[derive(Debug)]
pub(super) struct Record {
    since: Time,
    /// `None`: the virtual host has no access log. Boxed, since a record is moved several times.
    log_entry: Option<Box<AccessLogEntry>>,
    /// [`NO_RESPONSE`] until a response begins.
    status: u16,
    /// Bytes sent on the connection before the first byte of the body.
    body_at: u64,
}

/// How an exchange ends. Bytes of a body are counted as sent, with the framing of chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The whole response is with the writer or in the outbox.
    Complete { body_bytes: u64 },
    /// The connection has ended, after these bytes of it had reached the client.
    CutOff { delivered_bytes: u64 },
    /// The response to a request without a valid head, which is complete.
    Malformed { body_bytes: u64 },
}

impl Record {
    /// Begins the exchange of a request whose head is complete. `log`: that of its virtual host.
    pub(super) fn begin(
        log: Option<&AccessLog>,
        client_address: Peer,
        head: &RequestHead<'_>,
        cx: &Context<'_>,
    ) -> Self {
        Self::new(cx.now, log.map(|log| Box::new(log.begin(client_address, head, cx.unix_seconds))), cx)
    }

    /// Begins the exchange of a request without a valid head. `since`: when its head began, as far
    /// as that is known.
    pub(super) fn begin_malformed(
        log: Option<&AccessLog>,
        error: ErrorResponse,
        since: Time,
        cx: &Context<'_>,
    ) -> Self {
        Self::new(since, log.map(|log| Box::new(log.begin_malformed(cx.peer, error, cx.unix_seconds))), cx)
    }

    fn new(since: Time, log_entry: Option<Box<AccessLogEntry>>, cx: &Context<'_>) -> Self {
        cx.counters.begin_exchange();
        Self { since, log_entry, status: NO_RESPONSE, body_at: u64::MAX }
    }

    /// When the request arrived.
    pub(super) const fn since(&self) -> Time {
        self.since
    }

    /// Notes the status of the response.
    pub(super) const fn set_status(&mut self, status: Status) {
        self.status = status.code();
    }

    /// Notes where the body begins: after this number of bytes on the connection.
    pub(super) const fn set_body_at(&mut self, sent_bytes: u64) {
        self.body_at = sent_bytes;
    }

    /// Ends the exchange after a response whose last byte is byte number `sent_bytes` of the
    /// connection.
    pub(super) fn end_at(self, sent_bytes: u64, cx: &Context<'_>) {
        let body_bytes = sent_bytes.saturating_sub(self.body_at);
        self.end(Outcome::Complete { body_bytes }, cx);
    }

    /// Ends the exchange: counts its response and writes its line of the access log.
    pub(super) fn end(self, outcome: Outcome, cx: &Context<'_>) {
        #[cfg(feature = "internals")]
        match planted_bug::strikes() {
            Some(planted_bug::ExchangeBug::Twice) => cx.counters.end_exchange(self.status),
            Some(planted_bug::ExchangeBug::Never) => return,
            None => {}
        }
        let Self { since, log_entry, status, body_at } = self;
        let body_bytes = match outcome {
            Outcome::Complete { body_bytes } | Outcome::Malformed { body_bytes } => body_bytes,
            Outcome::CutOff { delivered_bytes } => delivered_bytes.saturating_sub(body_at),
        };
        if let Outcome::Malformed { .. } = outcome {
            cx.counters.count_error();
        }
        cx.counters.end_exchange(status);
        if let Some(log_entry) = log_entry {
            log_entry.finish(status, body_bytes, cx.now.since(since));
        }
    }
}
