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
//! Both bodies stream through at the same time, in the buffers they were received in; their framing
//! may change. Data that cannot be sent yet stays in place, and its source is paused. A request is
//! retried only if no byte of a response has arrived, no byte of its body was consumed, and its
//! method is idempotent.

use std::rc::Rc;

use super::ProxyRoute;
use super::balance_key::{balance_key_of, sticky_cookie};
use super::forward_step::{Awaited, ForwardStep};
use super::upload::{Upload, UpstreamHead};
use super::upstream_failure::{Lost, error_response_of, report};
use crate::buffer::{Chain, Chunk, Inbox};
use crate::driver::{Peer, Time};
use crate::http::forward::{RequestContext, ResponseContext, upgrade_to_forward, write_request, write_response};
use crate::http::response_head::{self, Parsed};
use crate::http::{BodyReader, ErrorResponse, Known, Method, PageType, RequestHead, Scheme, Status};
use crate::session::Limits;
use crate::session::http::exchange::Record;
use crate::session::http::handler::error_response;
use crate::session::http::stream::{BodyData, ClientStream, EncodedResponse, ResponseEncoder};
use crate::session::service::Ends;
use crate::session::{CloseReason, Context};
use crate::tcp::{CloseKind, End, proxy_header};
use crate::upstream::group::{BalanceKey, HealthVerdict};
use crate::upstream::{Progress, Release, Unreachable, UpstreamLease};
use crate::waiter::Waiter;

/// One request that is being forwarded.
#[derive(Debug)]
pub(crate) struct Forward {
    route: Rc<ProxyRoute>,
    lease: UpstreamLease,
    requested: Requested,
    /// The request head as sent to the upstream, kept for a retry.
    head: UpstreamHead,
    upload: Upload,
    stage: Stage,
    /// Whether any byte of a response has arrived.
    has_heard: bool,
    /// Interim responses (1xx) so far.
    interim: u32,
    /// The side that has to act next.
    awaited: Awaited,
    /// When the upstream last made progress, and how many bytes had moved by then.
    silence: (Time, u64),
    deadline: Option<Time>,
    record: Record,
}

/// What is kept of the request.
#[derive(Debug)]
struct Requested {
    is_head: bool,
    is_idempotent: bool,
    /// The hash or sticky endpoint of the request.
    balance_key: BalanceKey,
    wants_upgrade: bool,
    /// The format of error pages that the client accepts.
    page_type: PageType,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Requested,
    Responding {
        body: BodyReader,
        /// Whether the upstream keeps the connection open.
        is_reusable: bool,
    },
}

impl Forward {
    /// Starts to forward a request that [`ProxyRoute::check`] has passed. Its head may then be consumed from
    /// the inbox.
    pub(crate) fn new(
        route: &Rc<ProxyRoute>,
        head: &RequestHead<'_>,
        client_address: Peer,
        scheme: Scheme,
        record: Record,
        cx: &Context<'_>,
    ) -> Self {
        let balance_key = balance_key_of(head, client_address.ip(), &route.group);
        let upgrade = if route.upgrades { upgrade_to_forward(head) } else { None };
        let mut out = Vec::new();
        let context = RequestContext {
            client: cx.peer.ip(),
            client_is_trusted: cx.admission.is_trusted(cx.peer),
            scheme,
            upstream_authority: &route.authority,
            framing: head.framing,
            upgrade,
        };
        let host = write_request(head, &route.request, &context, &mut out);
        Self {
            route: Rc::clone(route),
            lease: UpstreamLease::new(
                Rc::clone(&route.group),
                Waiter::only_stream_of(cx.session),
                balance_key,
                route.connect_policy,
            ),
            requested: Requested {
                is_head: head.method == Method::Head,
                is_idempotent: head.method.is_idempotent(),
                balance_key,
                wants_upgrade: upgrade.is_some(),
                page_type: PageType::for_accept(head.fields.known(Known::Accept)),
            },
            head: UpstreamHead { bytes: Chunk::shared(out), host },
            upload: Upload::new(head.framing),
            stage: Stage::Connecting,
            has_heard: false,
            interim: 0,
            awaited: Awaited::Other,
            silence: (cx.now, 0),
            deadline: None,
            record,
        }
    }

    /// Makes as much progress as possible.
    pub(crate) fn step(&mut self, stream: &mut ClientStream<'_>, cx: &mut Context<'_>) -> ForwardStep {
        if stream.has_left(cx.now) {
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
                        report(upstream, Some(error.status), &why);
                        return ForwardStep::Error(error);
                    }
                    Progress::Ready => self.silence = (cx.now, 0),
                }
            }
            match self.exchange(stream, cx) {
                // A retry: connects again.
                None => {}
                Some(turn) => return turn,
            }
        }
    }

    /// Relays request and response. `None`: the connection was lost, and the request is retried.
    fn exchange(&mut self, stream: &mut ClientStream<'_>, cx: &mut Context<'_>) -> Option<ForwardStep> {
        if let Err(error) = self.send_request(stream, cx) {
            return Some(self.give_up(error, HealthVerdict::Neutral, cx));
        }
        if stream.has_left(cx.now) {
            return Some(self.truncate(CloseReason::ClientLeft, HealthVerdict::Neutral, cx));
        }
        loop {
            let turn = match self.stage {
                Stage::Connecting | Stage::Requested => self.read_head(stream, cx),
                Stage::Responding { .. } => self.read_body(stream, cx),
            };
            match turn {
                Some(ForwardStep::Wait) => break,
                Some(turn) => return Some(turn),
                None => {}
            }
        }
        let has_room = stream.has_room();
        let end = {
            let (upstream, received) = self.lease.connection(cx.upstream_pool)?;
            let limit = cx.hold_max;
            let held = received.waiting_memory();
            // While memory is scarce, nothing is received that could not be sent at once.
            let must_wait = limit < cx.limits.pipe_bytes_max && stream.has_unsent();
            let has_space = if upstream.is_receiving() { held < limit } else { held <= limit / 2 };
            let wanted = has_space && !must_wait;
            upstream.set_receiving(wanted, cx.ops);
            // Data that has arrived is handled before the end of input.
            let is_all_read = received.is_empty() || (matches!(self.stage, Stage::Requested) && has_room);
            upstream.input_end().filter(|_| is_all_read)
        };
        match end {
            Some(end) => self.on_lost(end, stream, cx),
            None => Some(self.keep_time(stream, cx)),
        }
    }

    /// Sends the head, and the part of the body that has arrived.
    fn send_request(&mut self, stream: &mut ClientStream<'_>, cx: &mut Context<'_>) -> Result<(), ErrorResponse> {
        let is_first = matches!(self.stage, Stage::Connecting);
        let Some((upstream, _)) = self.lease.connection(cx.upstream_pool) else { return Ok(()) };
        if !upstream.can_send() {
            return Ok(());
        }
        let mut chain = Chain::new();
        if is_first {
            self.stage = Stage::Requested;
            if let Some(version) = self.route.group.announces() {
                let ends = Ends { peer: cx.peer, local: cx.local };
                chain.push(Chunk::shared(proxy_header::header(version, ends.announced())));
            }
            self.head.push_to(&mut chain, &self.route.request.host, &self.lease);
        }
        self.upload.fill(&mut chain, stream.body(), self.route.body_bytes_max, cx.now)?;
        if !chain.is_empty()
            && let Some((upstream, _)) = self.lease.connection(cx.upstream_pool)
        {
            upstream.send(chain, cx.ops);
        }
        Ok(())
    }

    /// Reads the response head. `None`: call again, there may be more to read.
    fn read_head(&mut self, stream: &mut ClientStream<'_>, cx: &mut Context<'_>) -> Option<ForwardStep> {
        let date = cx.date;
        let Some((_, received)) = self.lease.connection(cx.upstream_pool) else { return Some(ForwardStep::Wait) };
        // There may be many interim responses: without room, the rest stays in the inbox.
        if received.is_empty() || !stream.has_room() {
            return Some(ForwardStep::Wait);
        }
        self.has_heard = true;
        if !received.may_hold_head() {
            return Some(ForwardStep::Wait);
        }
        let parsed = match response_head::parse(received.bytes(), self.requested.is_head, &cx.limits.http.head) {
            Ok(parsed) => parsed,
            Err(bad) => {
                report(self.lease.upstream(), Some(Status::BAD_GATEWAY), &bad);
                return Some(self.give_up(
                    ErrorResponse::new(Status::BAD_GATEWAY, bad.reason),
                    HealthVerdict::Failure,
                    cx,
                ));
            }
        };
        let Parsed::Complete { head, length } = parsed else {
            return if received.gather() { None } else { Some(ForwardStep::Wait) };
        };
        let is_interim = head.status.is_informational() && head.status != Status::SWITCHING_PROTOCOLS;
        if is_interim {
            self.interim += 1;
            if self.interim > cx.limits.http.interim_responses_max {
                let error = ErrorResponse::new(Status::BAD_GATEWAY, "the upstream sent too many interim responses");
                report(self.lease.upstream(), Some(error.status), &error.reason);
                return Some(self.give_up(error, HealthVerdict::Failure, cx));
            }
            if let Some(mut encoder) = stream.begin_interim() {
                let context = ResponseContext { date, set_cookie: None };
                write_response(&head, &self.route.response, &context, &mut encoder);
                stream.send_interim(encoder);
            }
            received.consume(length);
            return None;
        }
        if head.status == Status::SWITCHING_PROTOCOLS
            && let Some(reason) = self.objection_to_switch(stream)
        {
            let error = ErrorResponse::new(Status::BAD_GATEWAY, reason);
            report(self.lease.upstream(), Some(error.status), &error.reason);
            return Some(self.give_up(error, HealthVerdict::Failure, cx));
        }
        let set_cookie = self
            .lease
            .endpoint()
            .and_then(|endpoint| sticky_cookie(&self.route.group, self.requested.balance_key, endpoint));
        let mut encoder = stream.begin_head();
        let context = ResponseContext { date, set_cookie: set_cookie.as_deref() };
        write_response(&head, &self.route.response, &context, &mut encoder);
        stream.send_head(encoder, &head);
        self.record.set_status(head.status);
        self.record.set_body_at(stream.given_bytes());
        let (status, body, is_reusable) = (head.status, BodyReader::from(head.framing), head.keep_alive);
        received.consume(length);
        tracing::debug!(status = status.code(), "the upstream answers");
        self.lease.note_response(cx.upstream_pool, cx.now);
        self.stage = Stage::Responding { body, is_reusable };
        (status == Status::SWITCHING_PROTOCOLS).then_some(ForwardStep::Upgraded)
    }

    /// Why a 101 response is an error; `None` if the protocol can be switched.
    const fn objection_to_switch(&self, stream: &ClientStream<'_>) -> Option<&'static str> {
        if !self.requested.wants_upgrade {
            return Some("the upstream sent 101 without an upgrade request");
        }
        // The rest of the body is framed as HTTP; the upstream would read it as the new protocol
        // (RFC 9110, 7.8).
        if !stream.is_body_done() {
            return Some("the upstream sent 101 before the request's body was complete");
        }
        None
    }

    /// Forwards the part of the response body that has arrived. `None`: call again, there may be
    /// more.
    fn read_body(&mut self, stream: &mut ClientStream<'_>, cx: &mut Context<'_>) -> Option<ForwardStep> {
        let Stage::Responding { body, .. } = &mut self.stage else { return Some(ForwardStep::Wait) };
        if body.is_done() {
            stream.send_end();
            return Some(self.finish(stream, cx));
        }
        let Some((_, received)) = self.lease.connection(cx.upstream_pool) else { return Some(ForwardStep::Wait) };
        let credit = stream.credit();
        if received.is_empty() || credit == 0 {
            return Some(ForwardStep::Wait);
        }
        let bytes = received.bytes();
        match body.next(&bytes[..bytes.len().min(credit)]) {
            Ok(piece) => {
                received.consume(piece.skip);
                stream.send_data(BodyData::new(received, piece.data));
                None
            }
            Err(error) => {
                report(self.lease.upstream(), None, &format_args!("malformed response body: {}", error.reason));
                Some(self.truncate(CloseReason::ResponseTruncated, HealthVerdict::Failure, cx))
            }
        }
    }

    /// Handles the end of the upstream connection. `None`: the request is retried.
    fn on_lost(&mut self, end: End, stream: &mut ClientStream<'_>, cx: &mut Context<'_>) -> Option<ForwardStep> {
        match &self.stage {
            Stage::Responding { body, .. } => {
                if end == End::Eof && body.is_complete_at_close() {
                    stream.send_end();
                    return Some(self.finish(stream, cx));
                }
                report(self.lease.upstream(), None, &Lost { end, when: "before the end of the response body" });
                Some(match end {
                    End::Eof => self.truncate(CloseReason::ResponseTruncated, HealthVerdict::Failure, cx),
                    End::Failed(fault) => self.truncate(CloseReason::UpstreamLost(fault), HealthVerdict::Failure, cx),
                })
            }
            Stage::Connecting | Stage::Requested => {
                let may_ask_again = !self.has_heard && !self.upload.has_begun && self.requested.is_idempotent;
                tracing::debug!(?end, may_ask_again, "upstream connection ended before a response");
                if may_ask_again && self.lease.retry(cx.upstream_pool, cx.now) {
                    self.stage = Stage::Connecting;
                    return None;
                }
                let error =
                    ErrorResponse::new(Status::BAD_GATEWAY, "the upstream closed the connection without a response");
                let when = if self.has_heard { "in the middle of the response head" } else { "before a response" };
                report(self.lease.upstream(), Some(error.status), &Lost { end, when });
                Some(self.give_up(error, HealthVerdict::Failure, cx))
            }
        }
    }

    /// Measures how long the upstream is silent while it has to act, and applies
    /// `response_timeout`.
    fn keep_time(&mut self, stream: &ClientStream<'_>, cx: &mut Context<'_>) -> ForwardStep {
        let Some((upstream, _)) = self.lease.connection(cx.upstream_pool) else { return ForwardStep::Wait };
        let moved = match self.stage {
            // Interim responses and parts of a head are not progress: the final response is
            // awaited.
            Stage::Connecting | Stage::Requested => upstream.sent_bytes(),
            Stage::Responding { .. } => upstream.received_bytes() + upstream.sent_bytes(),
        };
        self.awaited = match self.stage {
            // The writer is idle, so everything that has arrived of the body is sent.
            _ if !stream.is_body_done() && upstream.can_send() => Awaited::Client,
            Stage::Connecting | Stage::Requested if !stream.has_room() => Awaited::Other,
            Stage::Responding { .. } if stream.credit() == 0 => Awaited::Other,
            Stage::Connecting | Stage::Requested | Stage::Responding { .. } => Awaited::Upstream,
        };
        let is_waited_for = self.awaited == Awaited::Upstream;
        if !is_waited_for || moved != self.silence.1 {
            self.silence = (cx.now, moved);
        }
        let timeout = self.route.response_timeout;
        self.deadline = (is_waited_for && !timeout.is_zero()).then(|| self.silence.0 + timeout);
        if self.deadline.is_none_or(|deadline| cx.now < deadline) {
            return ForwardStep::Wait;
        }
        match self.stage {
            Stage::Connecting | Stage::Requested => {
                let error = ErrorResponse::new(Status::GATEWAY_TIMEOUT, "the upstream did not respond in time");
                let reason = format_args!("no response within {timeout:?} (response_timeout)");
                report(self.lease.upstream(), Some(error.status), &reason);
                self.give_up(error, HealthVerdict::Failure, cx)
            }
            Stage::Responding { .. } => {
                let reason =
                    format_args!("silent for {timeout:?} in the middle of the response body (response_timeout)");
                report(self.lease.upstream(), None, &reason);
                self.truncate(CloseReason::UpstreamSilent, HealthVerdict::Failure, cx)
            }
        }
    }

    /// The response is complete: the upstream connection may be reused for any request.
    fn finish(&mut self, stream: &ClientStream<'_>, cx: &mut Context<'_>) -> ForwardStep {
        let Stage::Responding { is_reusable, .. } = self.stage else { return ForwardStep::Wait };
        let is_uploaded = stream.is_body_done();
        let release = match is_reusable && is_uploaded {
            true => Release::Keep(self.route.keep_alive),
            false if is_uploaded => Release::Close(CloseKind::Fin),
            // The rest of the request body will not be sent.
            false => Release::Close(CloseKind::Reset),
        };
        // `note_response` has already counted the success.
        self.lease.finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        ForwardStep::Over
    }

    /// Ends the forwarding without a response from the upstream.
    fn give_up(&mut self, error: ErrorResponse, verdict: HealthVerdict, cx: &mut Context<'_>) -> ForwardStep {
        if let Stage::Responding { .. } = self.stage {
            return self.truncate(CloseReason::ResponseTruncated, verdict, cx);
        }
        self.lease.finish(Release::Close(CloseKind::Reset), verdict, cx.upstream_pool, cx.now);
        ForwardStep::Error(error)
    }

    fn truncate(&mut self, close_reason: CloseReason, verdict: HealthVerdict, cx: &mut Context<'_>) -> ForwardStep {
        self.lease.finish(Release::Close(CloseKind::Reset), verdict, cx.upstream_pool, cx.now);
        ForwardStep::Truncated(close_reason)
    }

    /// The error response to the client.
    pub(crate) fn error_response(
        &self,
        error: ErrorResponse,
        mut encoder: ResponseEncoder,
        cx: &Context<'_>,
    ) -> EncodedResponse {
        let page_type = self.requested.page_type;
        let response = error_response(&self.route.file_route, cx.date, error, page_type, &mut encoder);
        encoder.finish(response)
    }

    /// Whether the client has to send more of its body next.
    pub(crate) const fn waits_for_client(&self) -> bool {
        matches!(self.awaited, Awaited::Client)
    }

    /// Whether the request waits in the queue for an upstream that is at its connection limit.
    pub(crate) fn is_queued(&self) -> bool {
        self.lease.is_queued()
    }

    /// The record of the exchange, and the lease of the upstream.
    pub(crate) fn into_parts(self) -> (Record, UpstreamLease) {
        (self.record, self.lease)
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
        self.head.bytes.memory()
    }

    /// The upper bound of the memory of the bodies, in both directions.
    pub(crate) const fn memory_max(limits: &Limits) -> usize {
        2 * limits.pipe_bytes_max + Inbox::gathered_memory_max(limits.http.head.head_bytes_max)
    }
}
