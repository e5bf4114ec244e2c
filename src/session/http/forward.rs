//! One request on its way to an upstream, and the response on its way back.
//!
//! ```text
//!               a connection            a head               the body's end
//!   Connecting ─────────────► Requested ─────────► Responding ──────────────► over
//!      ▲  │ none               │  │ 101                │ lost, silent
//!      │  └──► refused ◄───────┤  └──► upgraded        └──► cut: the client must not take a part for the whole
//!      └───────────────────────┘
//!        lost, and may be asked again
//! ```
//!
//! Bodies pass through, in both directions at once, in the memory they were received in; how they are framed may change on
//! the way. What cannot be sent on yet stays where it is, and its source is paused. A request is sent a second time only if
//! nothing of the first response was heard, nothing of a body was used up, and asking twice means the same as asking once.

use std::rc::Rc;
use std::time::Duration;

use super::OUTBOX_BYTES_MAX;
use super::access_log_entry::NO_RESPONSE;
use super::balance_key::{balance_key_of, sticky_cookie_line};
use super::forward_step::{Awaited, ForwardStep};
use super::response::{AllowedMethods, Client, EncodedResponse, error_response};
use super::router::ProxyRoute;
use super::upload::{TOO_LARGE, Upload, push_data, push_head};
use super::upstream_failure::{Lost, error_response_of, report};
use crate::buffer::{Chain, Chunk, Inbox};
use crate::config::Limits;
use crate::driver::{Peer, Time};
use crate::http::forward::{RequestContext, ResponseContext, upgrade_to_forward, write_request, write_response};
use crate::http::response_head::{self, Parsed, ResponseFraming};
use crate::http::{BodyReader, BodyWriter, ErrorResponse, Known, Method, PageType, RequestHead, Status, Version};
use crate::session::service::Ends;
use crate::session::{CloseReason, Context};
use crate::tcp::{CloseKind, Connection, End, proxy_header};
use crate::telemetry::access_log::AccessLogEntry;
use crate::upstream::group::{BalanceKey, HealthVerdict};
use crate::upstream::{Progress, Release, Unreachable, UpstreamLease};

/// A client that ends its side so soon after its last byte has only said that there is no other request; later, it has left.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// One request that is being forwarded.
#[derive(Debug)]
pub(super) struct Forward {
    route: Rc<ProxyRoute>,
    lease: UpstreamLease,
    requested: Requested,
    /// The request's head as the upstream gets it; kept, since it may have to be sent again.
    head: Chunk,
    upload: Upload,
    stage: Stage,
    /// Whether anything of a response has arrived.
    has_heard: bool,
    /// Interim responses (1xx) so far.
    interim: u32,
    /// Who has to do something before it can go on.
    awaited: Awaited,
    /// Since when the upstream is silent, and how much it had moved then.
    silence: (Time, u64),
    deadline: Option<Time>,
    /// The line of the access log, to be finished.
    log_entry: Option<AccessLogEntry>,
}

/// What must be remembered of the request.
#[derive(Debug)]
struct Requested {
    since: Time,
    version: Version,
    keep_alive: bool,
    is_head: bool,
    is_idempotent: bool,
    /// The upstream that it wanted.
    balance_key: BalanceKey,
    wants_upgrade: bool,
    /// What it would have an error look like.
    page_type: PageType,
    /// The client has ended its side, in time.
    is_half_closed: bool,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Requested,
    Responding {
        body: BodyReader,
        writer: BodyWriter,
        /// The client sees whether it has all of the body.
        is_framed: bool,
        is_reusable: bool,
        keep_alive: bool,
        status: Status,
        bytes: u64,
    },
}

impl Forward {
    /// Takes a request over. Its head may leave the inbox then.
    ///
    /// # Errors
    /// It is not one that can be forwarded.
    pub(super) fn new(
        route: &Rc<ProxyRoute>,
        head: &RequestHead<'_>,
        client_address: Peer,
        keep_alive: bool,
        cx: &Context<'_>,
    ) -> Result<Self, ErrorResponse> {
        check(head, route)?;
        let balance_key = balance_key_of(head, client_address.ip(), &route.group);
        let upgrade = if route.upgrades { upgrade_to_forward(head) } else { None };
        let mut out = Vec::new();
        let context = RequestContext {
            client: cx.peer.ip(),
            client_is_trusted: cx.admission.is_trusted(cx.peer),
            scheme: "http",
            upstream_authority: &route.authority,
            framing: head.framing,
            upgrade,
        };
        write_request(head, &route.request, &context, &mut out);
        Ok(Self {
            route: Rc::clone(route),
            lease: UpstreamLease::new(Rc::clone(&route.group), cx.session, balance_key, route.connect_policy),
            requested: Requested {
                since: cx.now,
                version: head.version,
                keep_alive,
                is_head: head.method == Method::Head,
                is_idempotent: head.method.is_idempotent(),
                balance_key,
                wants_upgrade: upgrade.is_some(),
                page_type: PageType::for_accept(head.fields.known(Known::Accept)),
                is_half_closed: false,
            },
            head: Chunk::shared(out),
            upload: Upload::new(head.framing, cx.now),
            stage: Stage::Connecting,
            has_heard: false,
            interim: 0,
            awaited: Awaited::Other,
            silence: (cx.now, 0),
            deadline: None,
            log_entry: None,
        })
    }

    /// With this line of the access log, to be finished.
    pub(super) fn recorded_in(self, log_entry: Option<AccessLogEntry>) -> Self {
        Self { log_entry, ..self }
    }

    /// Goes on as far as it can.
    pub(super) fn step(
        &mut self,
        client: &mut Connection,
        inbox: &mut Inbox,
        outbox: &mut Chain,
        cx: &mut Context<'_>,
    ) -> ForwardStep {
        if self.client_has_left(client, inbox, cx.now) {
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
            match self.exchange(client, inbox, outbox, cx) {
                // It is asked again.
                None => {}
                Some(turn) => return turn,
            }
        }
    }

    /// Moves both bodies. `None`: the connection was lost, and there may be another one.
    fn exchange(
        &mut self,
        client: &mut Connection,
        inbox: &mut Inbox,
        outbox: &mut Chain,
        cx: &mut Context<'_>,
    ) -> Option<ForwardStep> {
        if let Err(error) = self.send_request(inbox, cx) {
            return Some(self.give_up(error, HealthVerdict::Neutral, cx));
        }
        if self.client_has_left(client, inbox, cx.now) {
            return Some(self.truncate(CloseReason::ClientLeft, HealthVerdict::Neutral, cx));
        }
        loop {
            let turn = match self.stage {
                Stage::Connecting | Stage::Requested => self.read_head(outbox, cx),
                Stage::Responding { .. } => self.read_body(client, outbox, cx),
            };
            match turn {
                Some(ForwardStep::Wait) => break,
                Some(turn) => return Some(turn),
                None => {}
            }
        }
        let has_room = has_room(outbox);
        let end = {
            let (upstream, received) = self.lease.connection(cx.upstream_pool)?;
            let limit = cx.hold_max;
            let held = received.waiting_memory();
            // While memory is scarce, nothing is received that would have to wait.
            let is_sending = !client.writer.is_idle() || !outbox.is_empty();
            let must_wait = limit < cx.limits.pipe_bytes_max && is_sending;
            let has_space = if upstream.reader.is_receiving() { held < limit } else { held <= limit / 2 };
            let wanted = has_space && !must_wait;
            upstream.reader.want(wanted, cx.ops);
            // What has arrived comes first.
            let is_all_read = received.is_empty() || (matches!(self.stage, Stage::Requested) && has_room);
            upstream.reader.end().filter(|_| is_all_read)
        };
        match end {
            Some(end) => self.on_lost(end, outbox, cx),
            None => Some(self.keep_time(client, has_room, cx)),
        }
    }

    /// Sends the head, and what there is of the body.
    fn send_request(&mut self, inbox: &mut Inbox, cx: &mut Context<'_>) -> Result<(), ErrorResponse> {
        let is_first = matches!(self.stage, Stage::Connecting);
        let Some((upstream, _)) = self.lease.connection(cx.upstream_pool) else { return Ok(()) };
        if !upstream.writer.is_idle() {
            return Ok(());
        }
        let mut chain = Chain::new();
        if is_first {
            self.stage = Stage::Requested;
            if let Some(version) = self.route.group.announces() {
                let ends = Ends { peer: cx.peer, local: cx.local };
                chain.push(Chunk::shared(proxy_header::header(version, ends.announced())));
            }
            push_head(&mut chain, &self.head, &self.route.request.host, &self.lease);
        }
        self.upload.fill(&mut chain, inbox, self.route.body_bytes_max, cx.now)?;
        if !chain.is_empty()
            && let Some((upstream, _)) = self.lease.connection(cx.upstream_pool)
        {
            upstream.writer.send(chain, cx.ops);
        }
        Ok(())
    }

    /// Reads the response's head. `None`: there is more to be read.
    fn read_head(&mut self, outbox: &mut Chain, cx: &mut Context<'_>) -> Option<ForwardStep> {
        let date = cx.date;
        let Some((_, received)) = self.lease.connection(cx.upstream_pool) else { return Some(ForwardStep::Wait) };
        // Interim responses may be many: while the client does not take them, the rest waits where it arrived.
        if received.is_empty() || !has_room(outbox) {
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
            if self.requested.version == Version::Http11 {
                let context = ResponseContext { to: Version::Http11, framing: head.framing, keep_alive: true, date };
                let mut out = Vec::new();
                write_response(&head, &self.route.response, &context, &mut out);
                outbox.push(Chunk::shared(out));
            }
            received.consume(length);
            return None;
        }
        if head.status == Status::SWITCHING_PROTOCOLS
            && let Some(reason) = self.objection_to_switch()
        {
            let error = ErrorResponse::new(Status::BAD_GATEWAY, reason);
            report(self.lease.upstream(), Some(error.status), &error.reason);
            return Some(self.give_up(error, HealthVerdict::Failure, cx));
        }
        let to = self.requested.version;
        let framing = head.framing.for_client(to);
        let keep_alive =
            self.requested.keep_alive && self.upload.body.is_done() && framing != ResponseFraming::UntilClose;
        let mut out = Vec::new();
        write_response(&head, &self.route.response, &ResponseContext { to, framing, keep_alive, date }, &mut out);
        if let Some(line) = self
            .lease
            .endpoint()
            .and_then(|endpoint| sticky_cookie_line(&self.route.group, self.requested.balance_key, endpoint))
        {
            // Before the empty line.
            out.truncate(out.len() - 2);
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        outbox.push(Chunk::shared(out));
        let writer = BodyWriter::from(framing);
        let (status, body, is_reusable) = (head.status, BodyReader::from(head.framing), head.keep_alive);
        received.consume(length);
        tracing::debug!(status = status.code(), "the upstream answers");
        self.lease.note_response(cx.upstream_pool, cx.now);
        cx.counters.count_response(status.code());
        let is_framed = framing != ResponseFraming::UntilClose;
        self.stage = Stage::Responding { body, writer, is_framed, is_reusable, keep_alive, status, bytes: 0 };
        if status == Status::SWITCHING_PROTOCOLS {
            self.record(cx);
            return Some(ForwardStep::Upgraded);
        }
        None
    }

    /// Why the protocol cannot be switched, if it cannot.
    const fn objection_to_switch(&self) -> Option<&'static str> {
        if !self.requested.wants_upgrade {
            return Some("the upstream sent 101 without an upgrade request");
        }
        // What is left of the body is framed as HTTP, and would be taken for the other protocol (RFC 9110, 7.8).
        if !self.upload.body.is_done() {
            return Some("the upstream sent 101 before the request's body was complete");
        }
        None
    }

    /// Passes on what there is of the response's body. `None`: there is more.
    fn read_body(&mut self, client: &Connection, outbox: &mut Chain, cx: &mut Context<'_>) -> Option<ForwardStep> {
        let Stage::Responding { body, writer, bytes, .. } = &mut self.stage else { return Some(ForwardStep::Wait) };
        if body.is_done() {
            outbox.push(writer.end());
            return Some(self.finish(cx));
        }
        let Some((_, received)) = self.lease.connection(cx.upstream_pool) else { return Some(ForwardStep::Wait) };
        // While something is being sent, the rest waits where it arrived: that bounds what is held.
        if received.is_empty() || !client.writer.is_idle() {
            return Some(ForwardStep::Wait);
        }
        match body.next(received.bytes()) {
            Ok(piece) => {
                received.consume(piece.skip);
                *bytes += piece.data as u64;
                push_data(outbox, *writer, received, piece.data);
                None
            }
            Err(error) => {
                report(self.lease.upstream(), None, &format_args!("malformed response body: {}", error.reason));
                Some(self.truncate(CloseReason::ResponseTruncated, HealthVerdict::Failure, cx))
            }
        }
    }

    /// The connection ended. `None`: the request may be sent again.
    fn on_lost(&mut self, end: End, outbox: &mut Chain, cx: &mut Context<'_>) -> Option<ForwardStep> {
        match &self.stage {
            Stage::Responding { body, writer, .. } => {
                if end == End::Eof && body.is_complete_at_close() {
                    outbox.push(writer.end());
                    return Some(self.finish(cx));
                }
                report(self.lease.upstream(), None, &Lost { end, when: "before the end of the response body" });
                Some(match end {
                    End::Eof => self.truncate(CloseReason::ResponseTruncated, HealthVerdict::Failure, cx),
                    End::Failed(fault) => self.truncate(CloseReason::UpstreamLost(fault), HealthVerdict::Failure, cx),
                })
            }
            Stage::Connecting | Stage::Requested => {
                let may_ask_again = !self.has_heard && !self.upload.has_begun && self.requested.is_idempotent;
                tracing::debug!(?end, may_ask_again, "the upstream was lost before it answered");
                if may_ask_again && self.lease.retry(cx.upstream_pool, cx.now) {
                    self.stage = Stage::Connecting;
                    return None;
                }
                let error =
                    ErrorResponse::new(Status::BAD_GATEWAY, "the upstream ended the connection without an answer");
                let when = if self.has_heard { "in the middle of the response head" } else { "before a response" };
                report(self.lease.upstream(), Some(error.status), &Lost { end, when });
                Some(self.give_up(error, HealthVerdict::Failure, cx))
            }
        }
    }

    /// Notes for how long the upstream has been silent while it was waited for.
    fn keep_time(&mut self, client: &Connection, has_room: bool, cx: &mut Context<'_>) -> ForwardStep {
        let Some((upstream, _)) = self.lease.connection(cx.upstream_pool) else { return ForwardStep::Wait };
        let moved = match self.stage {
            // Neither an interim response nor a part of a head is the response that is waited for.
            Stage::Connecting | Stage::Requested => upstream.writer.sent_bytes(),
            Stage::Responding { .. } => upstream.reader.received_bytes() + upstream.writer.sent_bytes(),
        };
        self.awaited = match self.stage {
            // What had come of the body would be on its way, else.
            _ if !self.upload.body.is_done() && upstream.writer.is_idle() => Awaited::Client,
            Stage::Connecting | Stage::Requested if !has_room => Awaited::Other,
            Stage::Responding { .. } if !client.writer.is_idle() => Awaited::Other,
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
                let error = ErrorResponse::new(Status::GATEWAY_TIMEOUT, "the upstream did not answer in time");
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

    /// Whether the client has gone, or ended its side in the middle of its request.
    fn client_has_left(&mut self, client: &Connection, inbox: &Inbox, now: Time) -> bool {
        let received_bytes = client.reader.received_bytes();
        // While nothing is received, an end that came in time is not heard.
        let is_deaf = client.reader.end().is_none() && !client.reader.is_receiving();
        if received_bytes != self.upload.received_bytes || is_deaf {
            self.upload.received_bytes = received_bytes;
            self.upload.latest = now;
        }
        if client.reader.end() != Some(End::Eof) {
            return false;
        }
        let is_responding = matches!(self.stage, Stage::Responding { .. });
        if !is_responding && !self.upload.body.is_done() && inbox.is_empty() {
            return true;
        }
        if self.requested.is_half_closed {
            return false;
        }
        self.requested.is_half_closed = true;
        now.since(self.upload.latest) > HALF_CLOSE_GRACE
    }

    /// The response is complete: the connection may serve the next request, of whoever it is.
    fn finish(&mut self, cx: &mut Context<'_>) -> ForwardStep {
        let Stage::Responding { is_reusable, keep_alive, .. } = self.stage else { return ForwardStep::Wait };
        let is_uploaded = self.upload.body.is_done();
        let release = match is_reusable && is_uploaded {
            true => Release::Keep(self.route.keep_alive),
            false if is_uploaded => Release::Close(CloseKind::Fin),
            // What it was promised will not come.
            false => Release::Close(CloseKind::Reset),
        };
        // Its response has spoken for it.
        self.lease.finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        self.record(cx);
        let rest = std::mem::replace(&mut self.upload.body, BodyReader::EMPTY);
        ForwardStep::Over { keep_alive, rest }
    }

    /// There will be no response from an upstream.
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

    fn record(&mut self, cx: &Context<'_>) {
        self.record_end(0, cx.now);
    }

    /// Finishes the line of the access log, if that has not been done. `unsent`: bytes that the client has not taken.
    pub(super) fn record_end(&mut self, unsent: u64, now: Time) {
        let Some(log_entry) = self.log_entry.take() else { return };
        let (status, bytes) = match self.stage {
            Stage::Responding { status, bytes, .. } => (status.code(), bytes.saturating_sub(unsent)),
            Stage::Connecting | Stage::Requested => (NO_RESPONSE, 0),
        };
        log_entry.finish(status, bytes, now.since(self.requested.since));
    }

    /// The response if no upstream gives one.
    pub(super) fn respond_error(&mut self, error: ErrorResponse, cx: &Context<'_>) -> EncodedResponse {
        let Requested { version, is_head, page_type, keep_alive, since, .. } = self.requested;
        let keep_alive = keep_alive && self.upload.body.is_done();
        let client = Client { version, keep_alive, wants_body: !is_head, page_type };
        let response = error_response(&self.route.file_route, cx.date, error, &client);
        if let Some(log_entry) = self.log_entry.take() {
            log_entry.finish(response.status.code(), response.body_bytes, cx.now.since(since));
        }
        response
    }

    /// Whether the next thing to happen is that the client sends more of its body.
    pub(super) const fn waits_for_client(&self) -> bool {
        matches!(self.awaited, Awaited::Client)
    }

    /// Whether it waits for a place at an upstream.
    pub(super) fn is_queued(&self) -> bool {
        self.lease.is_queued()
    }

    /// Whether the client sees that bytes are missing if the connection ends in order now.
    pub(super) const fn shows_truncation(&self) -> bool {
        match self.stage {
            Stage::Responding { is_framed, .. } => is_framed,
            Stage::Connecting | Stage::Requested => true,
        }
    }

    /// Whether the client has a part of its response.
    pub(super) const fn is_responding(&self) -> bool {
        matches!(self.stage, Stage::Responding { .. })
    }

    /// Whether it has taken its request's whole body.
    pub(super) const fn is_uploaded(&self) -> bool {
        self.upload.body.is_done()
    }

    /// The way to the upstream, which the protocol after an upgrade goes on with.
    pub(super) fn into_lease(self) -> UpstreamLease {
        self.lease
    }

    /// The way to the upstream.
    pub(super) const fn lease_mut(&mut self) -> &mut UpstreamLease {
        &mut self.lease
    }

    /// When it wants to be pumped for the time's sake.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Bytes of memory it holds itself.
    pub(super) fn memory(&self) -> usize {
        self.head.memory()
    }

    /// The most that may wait for it in the inbox and in its connection.
    pub(super) const fn memory_max(limits: &Limits) -> usize {
        2 * limits.pipe_bytes_max + Inbox::gathered_memory_max(limits.http.head.head_bytes_max)
    }
}

/// Whether more of a response may be added to what the client has not taken yet.
fn has_room(outbox: &Chain) -> bool {
    outbox.len() < OUTBOX_BYTES_MAX
}

/// Whether a request may be forwarded at all.
pub(super) fn check(head: &RequestHead<'_>, route: &ProxyRoute) -> Result<(), ErrorResponse> {
    AllowedMethods::Upstreams.check(head)?;
    let length = BodyReader::from(head.framing).data_left().unwrap_or(0);
    if route.body_bytes_max != 0 && length > route.body_bytes_max { Err(TOO_LARGE) } else { Ok(()) }
}
