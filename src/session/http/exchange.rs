//! An exchange: one request and its response. It begins once and ends once.
//!
//! [`Record`] is what is known of an exchange while it lasts. What the exchange waits for in the
//! meantime is up to its connection (`conn/h1/state.rs`). If the connection ends first, the exchange
//! ends once it is closed: how many bytes the client has received is known only then.
//!
//! Access log entries are finished here and nowhere else, and exchanges are counted here.

#[cfg(feature = "internals")]
pub mod planted_bug;

use std::rc::Rc;

use crate::driver::{Peer, Time};
use crate::http::{ErrorResponse, RequestHead, Status};
use crate::session::Context;
use crate::telemetry::access_log::{AccessLog, AccessLogEntry};
use crate::telemetry::metrics::{ExchangeFacts, MethodClass, RouteCounters};

/// The status of a request whose connection ended before a response, as in nginx.
const NO_RESPONSE: u16 = 499;

/// What is known of an exchange. [`Record::end`] consumes it, so an exchange cannot end twice.
#[must_use = "an exchange ends by `end`"]
#[derive(Debug)]
pub(crate) struct Record {
    since: Time,
    /// `None`: the virtual host has no access log. Boxed, since a record is moved several times.
    log_entry: Option<Box<AccessLogEntry>>,
    /// `None`: no route serves it.
    route: Option<Rc<RouteCounters>>,
    /// When its response began, unless all of that was in memory.
    began: Option<Time>,
    /// Bytes sent on the connection before the first byte of the body.
    body_at: u64,
    /// Bytes of the request's body that went to an upstream.
    received_bytes: u64,
    /// [`NO_RESPONSE`] until a response begins.
    status: u16,
    method: MethodClass,
}

/// How an exchange ends. Bytes of a body are counted as sent, with the framing of chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// The whole response is with the writer or in the outbox.
    Complete { body_bytes: u64 },
    /// The connection has ended, after these bytes of it had reached the client.
    CutOff { delivered_bytes: u64 },
    /// The response to a request without a valid head, which is complete.
    Malformed { body_bytes: u64 },
}

impl Record {
    /// Begins the exchange of a request whose head is complete. `log`: that of its virtual host.
    pub(crate) fn begin(
        log: Option<&AccessLog>,
        client_address: Peer,
        head: &RequestHead<'_>,
        cx: &Context<'_>,
    ) -> Self {
        cx.counters.count_request(head.version);
        Self::new(
            cx.now,
            log.map(|log| Box::new(log.begin(client_address, cx.tls.as_ref(), head, cx.unix_seconds))),
            MethodClass::of(head.method),
            cx,
        )
    }

    /// Begins the exchange of a request without a valid head. `since`: when its head began, as far
    /// as that is known.
    pub(crate) fn begin_malformed(
        log: Option<&AccessLog>,
        peer: Peer,
        error: ErrorResponse,
        since: Time,
        cx: &Context<'_>,
    ) -> Self {
        let begin = |log: &AccessLog| log.begin_malformed(peer, cx.tls.as_ref(), error, cx.unix_seconds);
        Self::new(since, log.map(|log| Box::new(begin(log))), MethodClass::Other, cx)
    }

    fn new(since: Time, log_entry: Option<Box<AccessLogEntry>>, method: MethodClass, cx: &Context<'_>) -> Self {
        cx.counters.begin_exchange();
        Self {
            since,
            log_entry,
            route: None,
            began: None,
            body_at: u64::MAX,
            received_bytes: 0,
            status: NO_RESPONSE,
            method,
        }
    }

    /// Notes which route serves the request.
    pub(crate) fn set_route(&mut self, route: Option<&Rc<RouteCounters>>) {
        self.route = route.map(Rc::clone);
        if let Some(route) = route {
            route.begin();
        }
    }

    /// When the request arrived.
    pub(crate) const fn since(&self) -> Time {
        self.since
    }

    /// Notes the status of the response.
    pub(crate) const fn set_status(&mut self, status: Status) {
        self.status = status.code();
    }

    /// Notes that a response begins, and where its body does: after this number of bytes on the
    /// connection.
    pub(crate) const fn begin_body(&mut self, sent_bytes: u64, now: Time) {
        self.body_at = sent_bytes;
        self.began = Some(now);
    }

    /// Notes how many bytes of the request's body went to an upstream.
    pub(crate) const fn set_received(&mut self, bytes: u64) {
        self.received_bytes = bytes;
    }

    /// Ends the exchange after a response whose last byte is byte number `sent_bytes` of the
    /// connection.
    pub(crate) fn end_at(self, sent_bytes: u64, cx: &Context<'_>) {
        let body_bytes = sent_bytes.saturating_sub(self.body_at);
        self.end(Outcome::Complete { body_bytes }, cx);
    }

    /// Ends the exchange: counts its response and writes its line of the access log.
    pub(crate) fn end(self, outcome: Outcome, cx: &Context<'_>) {
        #[cfg(feature = "internals")]
        match planted_bug::strikes() {
            Some(planted_bug::ExchangeBug::Twice) => cx.counters.end_exchange(self.status),
            Some(planted_bug::ExchangeBug::Never) => return,
            None => {}
        }
        let Self { since, log_entry, route, began, body_at, received_bytes, status, method } = self;
        let body_bytes = match outcome {
            Outcome::Complete { body_bytes } | Outcome::Malformed { body_bytes } => body_bytes,
            Outcome::CutOff { delivered_bytes } => delivered_bytes.saturating_sub(body_at),
        };
        if let Outcome::Malformed { .. } = outcome {
            cx.counters.count_error();
        }
        cx.counters.end_exchange(status);
        let nanos_until = |time: Time| time.as_nanos().saturating_sub(since.as_nanos());
        let has_response = began.is_some() || status != NO_RESPONSE;
        let facts = ExchangeFacts {
            method,
            status,
            first_byte_nanos: has_response.then(|| nanos_until(began.unwrap_or(cx.now))),
            nanos: nanos_until(cx.now),
            received_bytes,
            sent_bytes: body_bytes,
        };
        match &route {
            Some(route) => route.end(&facts),
            None => cx.counters.count_unmatched(&facts),
        }
        if let Some(log_entry) = log_entry {
            log_entry.finish(status, body_bytes, cx.now.since(since));
        }
    }
}
