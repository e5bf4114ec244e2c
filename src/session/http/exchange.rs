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
use crate::http::request_id::{RequestId, request_id};
use crate::http::{ErrorResponse, RequestHead, Status};
use crate::session::{CloseReason, Context};
use crate::telemetry::access_log::{
    AccessLog, AccessLogEntry, CacheState, EndedAt, EndedBy, ExchangeEnd, Facts, Forwarded, Termination,
};
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
    CutOff { delivered_bytes: u64, close_reason: CloseReason },
    /// The response to a request without a valid head, which is complete.
    Malformed { body_bytes: u64 },
}

impl Record {
    /// Begins the exchange of a request whose head is complete. `log`: that of its virtual host.
    pub(crate) fn begin(
        log: Option<&AccessLog>,
        client_address: Peer,
        head: &RequestHead<'_>,
        cx: &mut Context<'_>,
    ) -> Self {
        cx.counters.count_request(head.version);
        let log_entry = log.map(|log| {
            let mut entry = Box::new(log.begin(client_address, cx.tls.as_ref(), head, cx.unix_seconds));
            if log.makes_request_ids() && request_id(head).is_none() {
                entry.set_request_id(RequestId::new(cx.boundaries.nonce()).as_str());
            }
            entry
        });
        Self::new(cx.now, log_entry, MethodClass::of(head.method), cx)
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

    /// Whether what is noted of it is used.
    pub(crate) const fn is_logged(&self) -> bool {
        self.log_entry.is_some()
    }

    fn facts(&mut self) -> Option<&mut Facts> {
        self.log_entry.as_mut().map(|entry| entry.facts())
    }

    /// Notes that the request was refused before its handler saw it, or because of its body.
    pub(crate) fn note_refused(&mut self) {
        if let Some(facts) = self.facts() {
            facts.is_refused = true;
        }
    }

    /// Notes whether the response to a request for a file has waited for the disk.
    pub(crate) fn note_cache(&mut self, cache: CacheState) {
        if let Some(facts) = self.facts() {
            facts.cache = Some(cache);
        }
    }

    /// Notes how the request was forwarded.
    pub(crate) fn note_forwarded(&mut self, forwarded: Forwarded) {
        if let Some(facts) = self.facts() {
            facts.forwarded = Some(Box::new(forwarded));
        }
    }

    /// Notes the request id that is passed on, if it is not that of the client.
    pub(crate) fn set_request_id(&mut self, id: RequestId) {
        if let Some(entry) = &mut self.log_entry {
            entry.set_request_id(id.as_str());
        }
    }

    /// Notes the bytes that a client has sent since the protocol was switched.
    pub(crate) fn note_tunnelled(&mut self, bytes: u64) {
        if let Some(Facts { forwarded: Some(forwarded), .. }) = self.facts() {
            forwarded.request_bytes += bytes;
        }
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
            Outcome::CutOff { delivered_bytes, .. } => delivered_bytes.saturating_sub(body_at),
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
        if let Some(mut log_entry) = log_entry {
            let termination = termination(log_entry.facts(), outcome, status);
            log_entry.finish(&ExchangeEnd { status, body_bytes, duration: cx.now.since(since), termination });
        }
    }
}

/// How an exchange ended, for the log. The failure of an upstream goes first: it is the reason of what
/// follows it.
fn termination(facts: &Facts, outcome: Outcome, status: u16) -> Termination {
    let forwarded = facts.forwarded.as_ref();
    if let Some(reason) = forwarded.and_then(|forwarded| forwarded.reason) {
        return reason.termination();
    }
    match outcome {
        Outcome::Complete { .. } if facts.is_refused => Termination::REFUSED,
        Outcome::Complete { .. } => Termination::COMPLETE,
        Outcome::Malformed { .. } if status == Status::REQUEST_TIMEOUT.code() => Termination::LATE_HEAD,
        Outcome::Malformed { .. } => Termination::REFUSED,
        Outcome::CutOff { close_reason, .. } => {
            let at = match status {
                NO_RESPONSE => forwarded.map(|forwarded| forwarded.at).unwrap_or_default(),
                _ => EndedAt::Data,
            };
            ended_by(close_reason).map_or(Termination::COMPLETE, |by| Termination::new(by, at))
        }
    }
}

/// Who has ended a connection, and with it its exchange. `None`: it was complete, as a tunnel that both
/// sides have closed.
const fn ended_by(close_reason: CloseReason) -> Option<EndedBy> {
    Some(match close_reason {
        CloseReason::Done => return None,
        CloseReason::ClientLeft
        | CloseReason::ClientLost(_)
        | CloseReason::Http2(_)
        | CloseReason::TlsFailed(_)
        | CloseReason::NoProxyHeader
        | CloseReason::Denied(_) => EndedBy::Client,
        CloseReason::Idle | CloseReason::Stalled | CloseReason::TooSlow => EndedBy::ClientTimeout,
        CloseReason::UpstreamStoppedReading
        | CloseReason::UpstreamLost(_)
        | CloseReason::UpstreamUnreachable
        | CloseReason::ResponseTruncated => EndedBy::Upstream,
        CloseReason::UpstreamSilent => EndedBy::UpstreamTimeout,
        CloseReason::Drained => EndedBy::Stop,
        CloseReason::FileRefused(_) | CloseReason::FileLost(_) | CloseReason::FileUnwritten(_) => EndedBy::Internal,
    })
}
