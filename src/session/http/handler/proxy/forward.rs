//! Forwards one request to an upstream, and its response to the client.
//!
//! ```text
//!                connected           response head          end of the body
//!   Connecting ───────────► Requested ───────────► Responding ────────────► over
//!      ▲  │ no upstream      │  │ 101                 │ lost, timeout
//!      │  └──► error ◄───────┤  └──► upgraded         └──► truncated: the client must notice it
//!      └─────────────────────┘
//!        lost, and may be retried
//! ```
//!
//! It joins two streams: the client's, and one of an upstream. Both bodies pass through at the same
//! time, in the buffers they were received in; their framing may change. Data that cannot be sent yet
//! stays in place, and its source is paused. It does not know the connections of the two, nor which
//! version of HTTP they speak. A request is retried only if no byte of a response has arrived, no byte of its body was consumed, and its
//! method is idempotent.

use std::fmt;
use std::rc::Rc;

use super::ProxyRoute;
use super::balance_key::{balance_key_of, sticky_cookie};
use super::forward_step::{Awaited, ForwardStep};
use super::upload::Upload;
use super::upstream_failure::{Lost, error_response_of, reason_of, report};
use crate::buffer::Chunk;
use crate::client::{ClientError, Event, Request, RequestFacts};
use crate::driver::{Peer, Time};
use crate::http::forward::{
    ConnectionNames, HostRule, RequestContext, RequestIdRule, ResponseContext, TunnelSink, WebSocketKey, tunnel_head,
    upgrade_to_forward, write_request, write_response,
};
use crate::http::request_id::{RequestId, request_id};
use crate::http::{
    BodyFraming, DateLine, ErrorResponse, Known, Method, PageType, RequestHead, ResponseFraming, ResponseHead, Scheme,
    Status,
};
use crate::session::http::exchange::Record;
use crate::session::http::handler::error_response;
use crate::session::http::response::Response;
use crate::session::http::stream::{ClientStream, ResponseEncoder};
use crate::session::service::Ends;
use crate::session::{CloseReason, Context, HttpLimits, Limits};
use crate::tcp::End;
use crate::telemetry::access_log::{EndedAt, FailureReason, Forwarded};
use crate::upstream::group::{BalanceKey, HealthVerdict};
use crate::upstream::{LeaseStage, Progress, StreamError, Unreachable, UpstreamLease, UpstreamStream};
use crate::waiter::Waiter;

/// One request that is being forwarded.
#[derive(Debug)]
pub(crate) struct Forward {
    route: Rc<ProxyRoute>,
    lease: UpstreamLease,
    requested: Requested,
    /// The request as sent to the upstream, kept for a retry.
    request: Request,
    upload: Upload,
    /// Trailers of the response with these names are for the upstream's hop only.
    named: ConnectionNames,
    stage: Stage,
    /// For an extended CONNECT, which asks for a tunnel.
    connect: Option<Connect>,
    /// Why the response cannot be passed on.
    refusal: Option<ErrorResponse>,
    /// Interim responses (1xx) so far.
    interim: u32,
    /// The side that has to act next.
    awaited: Awaited,
    /// The upstream takes nothing more of a body that is not complete.
    is_cut: bool,
    /// When the upstream last made progress, and how many bytes had moved by then.
    silence: (Time, u64),
    deadline: Option<Time>,
    /// When the head of the final response came.
    head_at: Option<Time>,
    /// Why there is no response, or not all of one.
    reason: Option<FailureReason>,
    record: Record,
}

/// What is kept of the request.
#[derive(Debug)]
struct Requested {
    is_idempotent: bool,
    /// The hash or sticky endpoint of the request.
    balance_key: BalanceKey,
    /// The format of error pages that the client accepts.
    page_type: PageType,
}

/// What the upstream has to say to an extended CONNECT (RFC 8441) before a tunnel is opened.
#[derive(Clone, Copy, Debug)]
enum Connect {
    /// 101 with the proof that belongs to the key.
    WebSocket(WebSocketKey),
    /// 101.
    Other,
}

impl Connect {
    fn new(protocol: &[u8], cx: &mut Context<'_>) -> Self {
        if protocol.eq_ignore_ascii_case(b"websocket") {
            Self::WebSocket(WebSocketKey::new(cx.boundaries.nonce()))
        } else {
            Self::Other
        }
    }

    const fn key(&self) -> Option<&WebSocketKey> {
        match self {
            Self::WebSocket(key) => Some(key),
            Self::Other => None,
        }
    }

    /// The head for the client if it is not that of the upstream: a tunnel is opened. An error: the client
    /// would take the response for one that opens a tunnel, and it does not.
    fn answer<'b>(&self, head: &ResponseHead<'b>) -> Result<Option<ResponseHead<'b>>, ErrorResponse> {
        if head.status == Status::SWITCHING_PROTOCOLS {
            if self.key().is_some_and(|key| !key.is_accepted_by(head)) {
                return Err(ErrorResponse::new(Status::BAD_GATEWAY, "the upstream did not accept the WebSocket"));
            }
            return Ok(Some(tunnel_head(head)));
        }
        if (200..300).contains(&head.status.code()) {
            return Err(ErrorResponse::new(Status::BAD_GATEWAY, "the upstream did not switch protocols"));
        }
        Ok(None)
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting,
    Requested,
    /// The head of the final response is with the client's stream.
    Responding,
}

impl Forward {
    /// Starts to forward a request that [`ProxyRoute::check`] has passed. Its head may then be consumed from
    /// the inbox. `waiter`: what is resumed when the upstream has news.
    pub(crate) fn new(
        route: &Rc<ProxyRoute>,
        head: &RequestHead<'_>,
        client_address: Peer,
        scheme: Scheme,
        waiter: Waiter,
        mut record: Record,
        cx: &mut Context<'_>,
    ) -> Self {
        let balance_key = balance_key_of(head, client_address.ip(), &route.group);
        let upgrade = if route.upgrades { upgrade_to_forward(head) } else { None };
        let connect = head.protocol.map(|protocol| Connect::new(protocol, cx));
        // What follows an extended CONNECT is for the tunnel.
        let framing = if connect.is_some() { BodyFraming::None } else { head.framing };
        let request_id = match route.request.request_id {
            RequestIdRule::Keep => None,
            RequestIdRule::Add if request_id(head).is_some() => None,
            RequestIdRule::Add | RequestIdRule::Replace => Some(RequestId::new(cx.boundaries.nonce())),
        };
        if let Some(id) = request_id {
            record.set_request_id(id);
        }
        let mut out = Vec::new();
        let context = RequestContext {
            client: cx.peer.ip(),
            client_is_trusted: cx.admission.is_trusted(cx.peer),
            // A proxy in front may speak TLS in its stead.
            scheme: if cx.tls.is_some() { Scheme::Https } else { scheme },
            client_subject: cx.tls.as_ref().and_then(|facts| facts.client_subject()),
            upstream_authority: &route.authority,
            framing,
            upgrade,
            websocket_key: connect.as_ref().and_then(Connect::key).map(WebSocketKey::as_str),
            request_id: request_id.as_ref().map(RequestId::as_str),
        };
        let host = write_request(head, &route.request, &context, &mut out);
        let is_head = head.method == Method::Head;
        let ends = Ends { peer: cx.peer, local: cx.local, tls: cx.tls.as_deref() };
        let announcement = route.group.announces().map(|version| Chunk::shared(ends.header(version)));
        let facts = RequestFacts { framing, is_head, closes: false, upgrades: upgrade.is_some() };
        Self {
            route: Rc::clone(route),
            lease: UpstreamLease::new(Rc::clone(&route.group), waiter, balance_key, route.connect_policy, announcement),
            requested: Requested {
                is_idempotent: head.method.is_idempotent(),
                balance_key,
                page_type: PageType::for_accept(head.fields.known(Known::Accept)),
            },
            request: Request::written(out, host, facts),
            upload: Upload::new(head),
            named: ConnectionNames::default(),
            stage: Stage::Connecting,
            connect,
            refusal: None,
            interim: 0,
            awaited: Awaited::Other,
            is_cut: false,
            silence: (cx.now, 0),
            deadline: None,
            head_at: None,
            reason: None,
            record,
        }
    }

    /// Makes as much progress as possible.
    pub(crate) fn step(&mut self, client: &mut impl ClientStream, cx: &mut Context<'_>) -> ForwardStep {
        if client.has_left(cx.now) {
            return self.truncate(CloseReason::ClientLeft, HealthVerdict::Neutral, cx);
        }
        loop {
            if let Stage::Connecting = self.stage {
                match self.lease.pump(cx.upstream_pool, cx.now, cx.ops) {
                    Progress::Wait => {
                        self.awaited = Awaited::Other;
                        self.deadline = self.lease.deadline(cx.upstream_pool);
                        return ForwardStep::Wait;
                    }
                    Progress::Failed(why) => {
                        let error = error_response_of(why);
                        let upstream = matches!(why, Unreachable::Connect(_)).then(|| self.lease.upstream()).flatten();
                        let reason = reason_of(why);
                        self.reason = Some(reason);
                        report(upstream, Some(error.status), reason, &why);
                        return ForwardStep::Error(error);
                    }
                    Progress::Ready => self.silence = (cx.now, 0),
                }
            }
            match self.exchange(client, cx) {
                // A retry: connects again.
                None => {}
                Some(turn) => return turn,
            }
        }
    }

    /// Relays request and response. `None`: the connection was lost, and the request is retried.
    fn exchange(&mut self, client: &mut impl ClientStream, cx: &mut Context<'_>) -> Option<ForwardStep> {
        let Some(mut upstream) = self.lease.stream(cx.upstream_pool) else { return Some(ForwardStep::Wait) };
        if let Err(error) = self.send_request(&mut upstream, client, cx.now) {
            self.record.note_refused();
            return Some(self.give_up(error, HealthVerdict::Neutral, cx));
        }
        upstream.flush(cx.ops);
        if client.has_left(cx.now) {
            return Some(self.truncate(CloseReason::ClientLeft, HealthVerdict::Neutral, cx));
        }
        let (date, limits, now) = (cx.date, &cx.limits.http, cx.now);
        loop {
            match upstream.next(client.room(), &limits.head, |head| self.pass_head(head, client, date, limits, now)) {
                Ok(Event::Wait) => break,
                Ok(Event::Interim(_)) if self.interim > limits.interim_responses_max => {
                    let error = ErrorResponse::new(Status::BAD_GATEWAY, "the upstream sent too many interim responses");
                    self.fail(Some(error.status), FailureReason::TooManyInterim, &error.reason);
                    return Some(self.give_up(error, HealthVerdict::Failure, cx));
                }
                Ok(Event::Interim(_)) => {}
                Ok(Event::Head(_)) if self.refusal.is_some() => {
                    let error = self.refusal.take()?;
                    self.fail(Some(error.status), FailureReason::UpgradeFailed, &error.reason);
                    return Some(self.give_up(error, HealthVerdict::Neutral, cx));
                }
                Ok(Event::Head(status)) => {
                    self.lease.note_response(cx.upstream_pool, cx.now);
                    self.head_at = Some(cx.now);
                    if status == Status::SWITCHING_PROTOCOLS {
                        return Some(ForwardStep::Upgraded);
                    }
                    let Some(stream) = self.lease.stream(cx.upstream_pool) else { return Some(ForwardStep::Wait) };
                    upstream = stream;
                }
                Ok(Event::Data(data)) => client.send_data(data),
                Ok(Event::End(trailers)) => {
                    let trailers =
                        trailers.and_then(|trailers| self.route.response.pass_trailers(trailers, &self.named));
                    client.send_end(trailers.as_deref());
                    self.lease.complete(self.route.keep_alive, cx.upstream_pool, cx.now);
                    return Some(ForwardStep::Over);
                }
                Err(StreamError::Malformed(error)) => return Some(self.on_malformed(error, cx)),
                Err(StreamError::Lost { end, has_begun }) => return self.on_lost(end, has_begun, cx),
            }
        }
        // While memory is scarce, nothing is received that could not be sent at once.
        if client.awaits_window() {
            upstream.set_aside(cx.hold_max, cx.ops);
        } else if cx.is_scarce && client.has_unsent() {
            upstream.pause(cx.ops);
        } else {
            upstream.receive(cx.hold_max, cx.ops);
        }
        self.is_cut = !client.is_body_done() && upstream.takes_nothing();
        let is_overdue = self.keep_time(&upstream, client, cx.now);
        Some(if is_overdue { self.on_overdue(cx) } else { ForwardStep::Wait })
    }

    /// Gives the upstream the head, and the part of the body that has arrived.
    fn send_request(
        &mut self,
        upstream: &mut UpstreamStream<'_>,
        client: &mut impl ClientStream,
        now: Time,
    ) -> Result<(), ErrorResponse> {
        if upstream.credit() == 0 {
            return Ok(());
        }
        if let Stage::Connecting = self.stage {
            self.stage = Stage::Requested;
            if let Some(header) = self.lease.announcement() {
                upstream.announce(header);
            }
            upstream.send_request(&self.request, self.authority());
        }
        if client.is_body_done() {
            return Ok(());
        }
        self.upload.step(client, upstream, &self.route, now)
    }

    /// The `Host` of the chosen upstream, if the request was not written with it.
    fn authority(&self) -> Option<String> {
        let has_others = self.route.request.host == HostRule::Upstream && self.lease.group().len() > 1;
        let upstream = self.lease.upstream().filter(|_| has_others);
        upstream.map(|upstream| upstream.address().authority())
    }

    /// Passes a response head on to the client, unless it is refused or there are too many interim ones.
    fn pass_head(
        &mut self,
        head: &ResponseHead<'_>,
        client: &mut impl ClientStream,
        date: &DateLine,
        limits: &HttpLimits,
        now: Time,
    ) -> Status {
        if head.is_interim() {
            self.interim += 1;
            if self.interim <= limits.interim_responses_max
                && let Some(mut encoder) = client.begin_interim()
            {
                let context = ResponseContext { date, set_cookie: None, passes_trailers: false };
                write_response(head, &self.route.response, &context, &mut encoder);
                client.send_interim(encoder);
            }
            return head.status;
        }
        let tunnel = match self.connect.as_ref().map_or(Ok(None), |connect| connect.answer(head)) {
            Ok(tunnel) => tunnel,
            Err(error) => {
                self.refusal = Some(error);
                return head.status;
            }
        };
        let set_cookie = self
            .lease
            .endpoint()
            .and_then(|endpoint| sticky_cookie(&self.route.group, self.requested.balance_key, endpoint));
        let mut encoder = client.begin_head();
        let passes_trailers = client.takes_trailers() && head.framing == ResponseFraming::Chunked;
        if passes_trailers {
            self.named = ConnectionNames::of(&head.fields);
        }
        let context = ResponseContext { date, set_cookie: set_cookie.as_deref(), passes_trailers };
        let sent = tunnel.as_ref().unwrap_or(head);
        if tunnel.is_some() {
            write_response(sent, &self.route.response, &context, &mut TunnelSink(&mut encoder));
        } else {
            write_response(sent, &self.route.response, &context, &mut encoder);
        }
        client.send_head(encoder, sent);
        self.record.set_status(sent.status);
        self.record.begin_body(client.given_bytes(), now);
        tracing::debug!(status = head.status.code(), "the upstream answers");
        self.stage = Stage::Responding;
        head.status
    }

    /// Handles a response that cannot be forwarded.
    fn on_malformed(&mut self, error: ClientError, cx: &mut Context<'_>) -> ForwardStep {
        let reason = match error {
            ClientError::Body(reason) => {
                let cause = format_args!("malformed response body: {reason}");
                self.fail(None, FailureReason::MalformedBody, &cause);
                return self.truncate(CloseReason::ResponseTruncated, HealthVerdict::Failure, cx);
            }
            ClientError::Head(bad) => {
                let reason = match bad.is_too_large {
                    true => FailureReason::ResponseTooLarge,
                    false => FailureReason::MalformedResponse,
                };
                self.fail(Some(Status::BAD_GATEWAY), reason, &bad);
                return self.give_up(ErrorResponse::new(Status::BAD_GATEWAY, bad.reason), HealthVerdict::Failure, cx);
            }
            ClientError::Upgrade => "the upstream sent 101 without an upgrade request",
            ClientError::EarlyUpgrade => "the upstream sent 101 before the request's body was complete",
            // The stream reports the end of input by itself, and limits no interim responses.
            ClientError::Unrequested
            | ClientError::Interim
            | ClientError::NoResponse { .. }
            | ClientError::Truncated => "the upstream sent bytes without a request",
        };
        self.fail(Some(Status::BAD_GATEWAY), FailureReason::MalformedResponse, &reason);
        self.give_up(ErrorResponse::new(Status::BAD_GATEWAY, reason), HealthVerdict::Failure, cx)
    }

    /// Handles the loss of the stream before the response was complete. `has_begun`: any byte of it
    /// had arrived. `None`: the request is retried.
    fn on_lost(&mut self, end: End, has_begun: bool, cx: &mut Context<'_>) -> Option<ForwardStep> {
        match self.stage {
            Stage::Responding => {
                let lost = Lost { end, when: "before the end of the response body" };
                self.fail(None, lost.reason(true), &lost);
                Some(match end {
                    End::Eof => self.truncate(CloseReason::ResponseTruncated, HealthVerdict::Failure, cx),
                    End::Failed(fault) => self.truncate(CloseReason::UpstreamLost(fault), HealthVerdict::Failure, cx),
                })
            }
            Stage::Connecting | Stage::Requested => {
                let may_ask_again = !has_begun && !self.upload.has_begun && self.requested.is_idempotent;
                tracing::debug!(?end, may_ask_again, "upstream connection ended before a response");
                if may_ask_again && self.lease.retry(cx.upstream_pool, cx.now) {
                    self.stage = Stage::Connecting;
                    return None;
                }
                let error =
                    ErrorResponse::new(Status::BAD_GATEWAY, "the upstream closed the connection without a response");
                let when = if has_begun { "in the middle of the response head" } else { "before a response" };
                let lost = Lost { end, when };
                self.fail(Some(error.status), lost.reason(false), &lost);
                Some(self.give_up(error, HealthVerdict::Failure, cx))
            }
        }
    }

    /// Measures how long the upstream is silent while it has to act. Returns whether that is longer
    /// than `response_timeout`.
    fn keep_time(&mut self, upstream: &UpstreamStream<'_>, client: &impl ClientStream, now: Time) -> bool {
        let moved = upstream.progress();
        let was_waited_for = self.awaited == Awaited::Upstream;
        self.awaited = match self.stage {
            // Everything that has arrived of the body is sent.
            _ if !client.is_body_done() && !upstream.has_unsent() => Awaited::Client,
            Stage::Connecting | Stage::Requested if !client.has_room() => Awaited::Other,
            Stage::Responding if client.credit() == 0 => Awaited::Other,
            Stage::Connecting | Stage::Requested | Stage::Responding => Awaited::Upstream,
        };
        let is_waited_for = self.awaited == Awaited::Upstream;
        if !is_waited_for || !was_waited_for || moved != self.silence.1 {
            self.silence = (now, moved);
        }
        let timeout = self.route.response_timeout;
        self.deadline = (is_waited_for && !timeout.is_zero()).then(|| self.silence.0 + timeout);
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Handles an upstream that was silent for too long.
    fn on_overdue(&mut self, cx: &mut Context<'_>) -> ForwardStep {
        let timeout = self.route.response_timeout;
        match self.stage {
            Stage::Connecting | Stage::Requested => {
                let error = ErrorResponse::new(Status::GATEWAY_TIMEOUT, "the upstream did not respond in time");
                let reason = format_args!("no response within {timeout:?} (response_timeout)");
                self.fail(Some(error.status), FailureReason::ResponseTimeout, &reason);
                self.give_up(error, HealthVerdict::Failure, cx)
            }
            Stage::Responding => {
                let reason =
                    format_args!("silent for {timeout:?} in the middle of the response body (response_timeout)");
                self.fail(None, FailureReason::ResponseStalled, &reason);
                self.truncate(CloseReason::UpstreamSilent, HealthVerdict::Failure, cx)
            }
        }
    }

    /// Notes and logs a failure of the upstream. `cause`: the reason in words.
    fn fail(&mut self, status: Option<Status>, reason: FailureReason, cause: &dyn fmt::Display) {
        self.reason = Some(reason);
        report(self.lease.upstream(), status, reason, cause);
    }

    /// Ends the forwarding without a response from the upstream.
    fn give_up(&mut self, error: ErrorResponse, verdict: HealthVerdict, cx: &mut Context<'_>) -> ForwardStep {
        if let Stage::Responding = self.stage {
            return self.truncate(CloseReason::ResponseTruncated, verdict, cx);
        }
        self.lease.reset(verdict, cx.upstream_pool, cx.now);
        ForwardStep::Error(error)
    }

    fn truncate(&mut self, close_reason: CloseReason, verdict: HealthVerdict, cx: &mut Context<'_>) -> ForwardStep {
        self.lease.reset(verdict, cx.upstream_pool, cx.now);
        ForwardStep::Truncated(close_reason)
    }

    /// The error response to the client.
    pub(crate) fn error_response(
        &self,
        error: ErrorResponse,
        encoder: &mut ResponseEncoder,
        cx: &Context<'_>,
    ) -> Response {
        error_response(&self.route.file_route, cx.date, error, self.requested.page_type, encoder)
    }

    /// Whether the client has to send more of its body next.
    pub(crate) const fn waits_for_client(&self) -> bool {
        matches!(self.awaited, Awaited::Client)
    }

    /// Whether the request waits in the queue for an upstream that is at its connection limit.
    pub(crate) fn is_queued(&self) -> bool {
        self.lease.is_queued()
    }

    /// Whether what is left of the request's body waits for something that needs receive buffers: a place in the queue of
    /// the upstream, which others free that may have to receive; the TLS handshake; or, since the upstream takes nothing
    /// more, the rest of what it has sent.
    pub(crate) fn holds_up_body(&self) -> bool {
        let is_securing = || self.lease.upstream().is_some_and(|upstream| upstream.address().is_tls());
        match self.stage {
            Stage::Connecting => self.is_queued() || is_securing(),
            Stage::Requested | Stage::Responding => self.is_cut,
        }
    }

    /// The record of the exchange, and the lease of the upstream.
    pub(crate) fn into_parts(self) -> (Record, UpstreamLease) {
        let Self { mut record, lease, route, upload, reason, head_at, .. } = self;
        record.set_received(upload.bytes());
        if record.is_logged() {
            let times = lease.times();
            record.note_forwarded(Forwarded {
                route: Some(Rc::clone(&route.name)),
                upstream: lease.upstream().map(|upstream| Rc::clone(upstream.label())),
                tries: times.tries,
                queue: times.queue,
                connect: times.connect,
                first_byte: head_at.map(|head_at| head_at.since(record.since())),
                request_bytes: upload.bytes(),
                at: match times.stage {
                    LeaseStage::Queued => EndedAt::Queue,
                    LeaseStage::Picking | LeaseStage::Connecting => EndedAt::Connect,
                    LeaseStage::Connected => EndedAt::Head,
                },
                reason,
            });
        }
        (record, lease)
    }

    /// The lease of the upstream.
    pub(crate) const fn lease_mut(&mut self) -> &mut UpstreamLease {
        &mut self.lease
    }

    /// When to pump at the latest.
    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Bytes of memory held here, apart from the bodies.
    pub(crate) fn memory(&self) -> usize {
        self.request.head().memory()
    }

    /// The upper bound of the memory of the bodies, in both directions.
    pub(crate) const fn memory_max(limits: &Limits) -> usize {
        UpstreamStream::memory_max(limits.pipe_bytes_max, limits.http.head.head_bytes_max)
    }
}
