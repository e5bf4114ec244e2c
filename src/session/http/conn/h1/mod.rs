//! HTTP/1.1 server on one connection: reads requests and sends responses in the same order.
//!
//! ```text
//!             head               all of the response is in memory
//!   ┌─► Head ──────► (dispatch) ──────────────────────────────────► outbox ────────┐
//!   │    │ │             │ look-up, body to send, upstream            ▲            │
//!   │    │ │             └────────────────────────────► Exchange ─────┘            │
//!   │    │ │                                               └─► over: broken off, 101
//!   │    │ └ error, last request, timeout ──► Finishing ──► Lingering ──► over     │
//!   │    └ idle timeout, end of input ──────────▲                                  │
//!   └────── Discarding (the rest of the request body) ◄────────────────────────────┘
//! ```
//!
//! The states of an exchange that waits for something are in `state.rs`. After a response that
//! broke off, and after a protocol upgrade, the connection ends with its exchange.
//!
//! The outbox is sent whenever the transport can send, so the responses to pipelined requests are
//! sent together. A head stays in the inbox until there is a response: nothing is copied while the store
//! looks something up, and the head is parsed again afterwards. Its route is not looked for again.

mod body_discard;
mod respond;
mod state;
mod truncated_response;

use std::rc::Rc;

use self::body_discard::BodyDiscard;
use self::respond::{Answered, Respond};
use self::state::{After, Exchange, Forwarding, LookUp, Responding, State};
use self::truncated_response::TruncatedResponse;
use super::deadlines::{ClientDeadlines, ClientPhase};
use super::linger::Linger;
use super::request::Request;
use crate::buffer::{Buffer, Chain, Inbox};
use crate::driver::{Fault, Time, TlsFault};
use crate::file::listing;
use crate::http::request::{self, Parsed};
use crate::http::{BodyReader, ErrorResponse, PageType, Status, Version};
use crate::session::http::conn::upgraded::Upgraded;
use crate::session::http::dispatch;
use crate::session::http::exchange::{Outcome, Record};
use crate::session::http::handler::{Forward, ForwardStep, error_response};
use crate::session::http::response_body::{self, ResponseBody};
use crate::session::http::router::RouterCell;
use crate::session::http::stream::h1::{Http1BodySink, Http1Stream, StreamState};
use crate::session::http::stream::{EncodedResponse, OUTBOX_BYTES_MAX, ResponseEncoder};
use crate::session::{CloseReason, Context, Limits, Task};
use crate::telemetry::access_log::CacheState;
use crate::transport::Transport;
use crate::waiter::{StreamId, Waiter};

/// Every idle connection has one of these.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Http>() <= 176);

/// Limit of the inbox, apart from an incomplete head: receiving pauses while unread bytes occupy
/// this much memory.
const INBOX_BYTES_MAX: usize = 64 << 10;

/// The task of one HTTP connection.
#[derive(Debug)]
pub struct Http {
    /// The source of the router of each request. No router is held between requests: it would keep
    /// an old configuration alive.
    router_cell: Rc<RouterCell>,
    inbox: Inbox,
    outbox: Chain,
    state: State,
    requests: u32,
    /// The connection exceeds the connection limit: every request gets a 503.
    is_over_limit: bool,
    /// The client has announced that the current request is its last, and the request has no body:
    /// there is no need to linger.
    has_said_last: bool,
    draining_since: Option<Time>,
    deadlines: ClientDeadlines,
}

/// Whether to step again at once, or to wait for an outcome or a timeout.
enum Step {
    Again,
    Wait,
}

impl Http {
    pub(in crate::session) fn new(router_cell: Rc<RouterCell>, is_over_limit: bool, now: Time) -> Self {
        Self {
            router_cell,
            inbox: Inbox::default(),
            outbox: Chain::new(),
            state: State::Head,
            requests: 0,
            is_over_limit,
            has_said_last: false,
            draining_since: None,
            deadlines: ClientDeadlines::new(now),
        }
    }

    fn step(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Step {
        match &mut self.state {
            State::Head => self.read_head(client, cx),
            State::Exchange(Exchange::LookingUp(_)) => self.look_again(client, cx),
            State::Exchange(Exchange::Responding(_)) => self.send_body(client, cx),
            State::Exchange(Exchange::Forwarding(_)) => self.forward(client, cx),
            State::Exchange(Exchange::Upgraded(_)) => Step::Wait,
            State::Exchange(Exchange::Truncated(_)) => self.end_truncated(client, cx),
            State::Discarding(_) => self.discard(client),
            State::Finishing => self.end(client, cx),
            State::Lingering(linger) => {
                if !self.inbox.is_empty() {
                    self.inbox.clear();
                    linger.go_on(cx.now);
                }
                Step::Wait
            }
        }
    }

    /// Begins the exchange of the request whose head is in the inbox, if the head is complete.
    fn read_head(&mut self, client: &Transport, cx: &mut Context<'_>) -> Step {
        if self.outbox.len() >= OUTBOX_BYTES_MAX {
            return Step::Wait;
        }
        if self.inbox.is_empty() {
            if client.input_end().is_some() {
                self.state = State::Finishing;
                return Step::Again;
            }
            return Step::Wait;
        }
        if !self.inbox.may_hold_head() {
            return self.on_partial_head(client);
        }
        // Used where it is: a head is large.
        match &request::parse(self.inbox.bytes(), &cx.limits.http.head) {
            Ok(Parsed::Partial) => {
                if self.inbox.gather() {
                    return Step::Again;
                }
                self.on_partial_head(client)
            }
            Ok(Parsed::Complete { head, length }) => {
                self.requests = self.requests.saturating_add(1);
                self.has_said_last = !head.keep_alive && BodyReader::from(head.framing).is_done();
                let router = self.router_cell.router();
                let (record, route, client_address) = dispatch::begin(&router, head, self.is_over_limit, cx);
                let may_stay = head.keep_alive && !self.is_last_request(cx);
                let waiter = Waiter::only_stream_of(cx.session);
                let request = Respond { request: Request { head, since: record.since(), waiter }, may_stay };
                let answered = match route {
                    Ok(route) => request.respond(route, cx),
                    Err(error) => request.respond_error(error, &router.fallback, cx),
                };
                match answered {
                    Answered::Response(response, after) => {
                        self.inbox.consume(*length);
                        self.respond(record, response, after, client, cx);
                        Step::Again
                    }
                    Answered::LookUp(route) => {
                        let head_limits = cx.limits.http.head;
                        let look_up = LookUp { record, route, head_limits, has_come: false };
                        self.state = State::Exchange(Exchange::LookingUp(Box::new(look_up)));
                        Step::Wait
                    }
                    Answered::Forward { proxy_route, keep_alive } => {
                        let forwarding = Box::new(Forwarding {
                            stream: StreamState::new(head, keep_alive, cx.now),
                            forward: Forward::new(proxy_route, head, client_address, router.scheme, waiter, record, cx),
                        });
                        self.inbox.consume(*length);
                        self.state = State::Exchange(Exchange::Forwarding(forwarding));
                        Step::Again
                    }
                }
            }
            Err(error) => {
                self.respond_error(*error, cx);
                Step::Again
            }
        }
    }

    /// Whether the current request is the last that gets a response on this connection.
    fn is_last_request(&self, cx: &Context<'_>) -> bool {
        cx.limits.http.requests_max == self.requests || self.draining_since.is_some() || self.is_over_limit
    }

    /// Builds the response again after a look-up.
    fn look_again(&mut self, client: &Transport, cx: &mut Context<'_>) -> Step {
        let is_last = self.is_last_request(cx);
        let State::Exchange(Exchange::LookingUp(look_up)) = &mut self.state else { return Step::Again };
        if !std::mem::replace(&mut look_up.has_come, false) {
            return Step::Wait;
        }
        let Ok(Parsed::Complete { head, length }) = request::parse(self.inbox.bytes(), &look_up.head_limits) else {
            debug_assert!(false, "the head of {look_up:?} has changed");
            self.cut_off(CloseReason::ClientLeft, client, cx);
            return Step::Again;
        };
        let may_stay = head.keep_alive && !is_last;
        let waiter = Waiter::only_stream_of(cx.session);
        let request = Request { head: &head, since: look_up.record.since(), waiter };
        let request = Respond { request, may_stay };
        let answered = request.respond(&look_up.route, cx);
        match answered {
            Answered::Response(response, after) => {
                self.inbox.consume(length);
                if let Some(mut record) = self.take_record() {
                    record.note_cache(CacheState::Miss);
                    self.respond(record, response, after, client, cx);
                }
                Step::Again
            }
            // It waits for the next result.
            Answered::LookUp(_) => Step::Wait,
            Answered::Forward { .. } => {
                debug_assert!(false, "a request to be forwarded was looked up");
                self.cut_off(CloseReason::ClientLeft, client, cx);
                Step::Again
            }
        }
    }

    /// Waits for the rest of a head, unless the input has ended.
    fn on_partial_head(&mut self, client: &Transport) -> Step {
        if client.input_end().is_some() {
            // An incomplete request gets no response.
            self.state = State::Finishing;
            return Step::Again;
        }
        Step::Wait
    }

    /// Continues to forward the current request.
    fn forward(&mut self, client: &Transport, cx: &mut Context<'_>) -> Step {
        let State::Exchange(Exchange::Forwarding(forwarding)) = &mut self.state else { return Step::Again };
        let Forwarding { stream, forward } = &mut **forwarding;
        match forward.step(&mut Http1Stream::new(stream, client, &mut self.inbox, &mut self.outbox), cx) {
            ForwardStep::Wait => return Step::Wait,
            ForwardStep::Over => {
                let (keep_alive, rest) = stream.end();
                let rest = BodyDiscard::new(rest, cx.limits.http.discard_bytes_max);
                let sent_bytes = self.given_bytes(client);
                if let Some(record) = self.take_record() {
                    record.end_at(sent_bytes, cx);
                }
                self.go_on(After::new(keep_alive, rest));
            }
            ForwardStep::Error(error) => {
                tracing::debug!(%error, "forwarding failed");
                let mut encoder = stream.encoder();
                let response = forward.error_response(error, &mut encoder, cx);
                let response = encoder.finish(response);
                let after = After::new(response.keep_alive, None);
                if let Some(record) = self.take_record() {
                    self.respond(record, response, after, client, cx);
                }
            }
            ForwardStep::Truncated(close_reason) => {
                let is_framed = stream.shows_truncation();
                if let Some(record) = self.take_record() {
                    let truncated = TruncatedResponse::new(close_reason, is_framed, record);
                    self.state = State::Exchange(Exchange::Truncated(Box::new(truncated)));
                }
            }
            ForwardStep::Upgraded => {
                let State::Exchange(Exchange::Forwarding(forwarding)) =
                    std::mem::replace(&mut self.state, State::Finishing)
                else {
                    return Step::Again;
                };
                let (record, lease) = forwarding.forward.into_parts();
                let upgraded = Upgraded::new(record, lease, self.outbox.take());
                self.state = State::Exchange(Exchange::Upgraded(Box::new(upgraded)));
            }
        }
        Step::Again
    }

    /// Relays the bytes of an upgraded connection.
    fn tunnel(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        let State::Exchange(Exchange::Upgraded(upgraded)) = &mut self.state else { return None };
        let Upgraded { lease, tunnel, client_bytes, .. } = &mut **upgraded;
        while !self.inbox.is_empty() {
            let bytes = self.inbox.bytes().len();
            *client_bytes += bytes as u64;
            tunnel.push_to_upstream(self.inbox.take(bytes));
        }
        let tunnel_limits = cx.tunnel_limits();
        let (upstream, received) = lease.bytes(cx.upstream_pool)?;
        tunnel.pump(client, upstream, received, tunnel_limits, cx.ops)
    }

    /// Sends the error response to a malformed or late request; nothing after it is read. Over the
    /// connection limit, the response is the 503.
    fn respond_error(&mut self, error: ErrorResponse, cx: &Context<'_>) {
        let error = if self.is_over_limit { dispatch::FULL } else { error };
        tracing::debug!(%error, "error response");
        // The request may be of any version, and nothing after it is read.
        let is_head = request::begins_as_head(self.inbox.bytes());
        let mut encoder = ResponseEncoder::new(Version::Http11, is_head, false);
        let router = self.router_cell.router();
        let response = error_response(&router.fallback, cx.date, error, PageType::Html, &mut encoder);
        let response = encoder.finish(response);
        let since = self.deadlines.head_since().unwrap_or(cx.now);
        let mut record = Record::begin_malformed(router.access_log(), cx.peer, error, since, cx);
        record.set_status(response.status);
        record.end(Outcome::Malformed { body_bytes: response.body_bytes }, cx);
        let rest = response.push_to(&mut self.outbox);
        debug_assert!(rest.is_none(), "an error page is in memory");
        self.state = State::Finishing;
    }

    /// Sends one of the server's own responses. If all of it is in memory, that ends the exchange.
    fn respond(
        &mut self,
        mut record: Record,
        response: EncodedResponse,
        after: After,
        client: &Transport,
        cx: &Context<'_>,
    ) {
        record.set_status(response.status);
        let (body_bytes, writer) = (response.body_bytes, response.writer);
        if let Some(rest) = response.push_to(&mut self.outbox) {
            // What is in memory is the head.
            record.begin_body(self.given_bytes(client), cx.now);
            let responding = Responding { record, body: ResponseBody::new(rest), writer, after };
            self.state = State::Exchange(Exchange::Responding(Box::new(responding)));
        } else {
            record.end(Outcome::Complete { body_bytes }, cx);
            self.go_on(after);
        }
    }

    /// Bytes of responses so far, those in the outbox included.
    fn given_bytes(&self, client: &Transport) -> u64 {
        client.given_bytes() + self.outbox.len() as u64
    }

    /// Leaves the exchange: its record, to end it with.
    fn take_record(&mut self) -> Option<Record> {
        match std::mem::replace(&mut self.state, State::Finishing) {
            State::Exchange(exchange) => Some(exchange.into_record()),
            State::Head | State::Discarding(_) | State::Finishing | State::Lingering(_) => None,
        }
    }

    /// Ends the exchange, if there is one, together with its connection. Releases the file that was
    /// being sent; the last user of a file closes it.
    fn cut_off(&mut self, close_reason: CloseReason, client: &Transport, cx: &Context<'_>) {
        if let Some(record) = self.take_record() {
            record.end(Outcome::CutOff { delivered_bytes: client.delivered_bytes(), close_reason }, cx);
        }
    }

    fn go_on(&mut self, after: After) {
        self.state = match after {
            After::NextHead => State::Head,
            After::Discard(body) => State::Discarding(body),
            After::End => State::Finishing,
        };
    }

    /// Sends the next piece of a body.
    fn send_body(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Step {
        let State::Exchange(Exchange::Responding(responding)) = &mut self.state else { return Step::Again };
        let mut stream = Http1BodySink::new(responding.writer, client, &mut self.outbox);
        match responding.body.step(&mut stream, cx.ops) {
            response_body::Progress::Wait => return Step::Wait,
            response_body::Progress::Again => return Step::Again,
            response_body::Progress::Over => {}
        }
        if let State::Exchange(Exchange::Responding(responding)) = std::mem::replace(&mut self.state, State::Finishing)
        {
            let Responding { record, after, .. } = *responding;
            record.end_at(self.given_bytes(client), cx);
            self.go_on(after);
        }
        Step::Again
    }

    /// Discards the bytes of the request body that have arrived.
    fn discard(&mut self, client: &Transport) -> Step {
        let State::Discarding(body) = &mut self.state else { return Step::Again };
        if self.inbox.is_empty() {
            if client.input_end().is_some() {
                self.state = State::Finishing;
                return Step::Again;
            }
            return Step::Wait;
        }
        let bytes = self.inbox.bytes();
        match body.discard(bytes) {
            Ok((count, is_over)) => {
                self.inbox.consume(count);
                if is_over {
                    self.state = State::Head;
                }
            }
            Err(_) => self.state = State::Finishing,
        }
        Step::Again
    }

    /// Closes the sending side once everything is sent.
    fn end(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Step {
        if self.is_leaving(client) {
            return Step::Wait;
        }
        if !self.inbox.is_empty() {
            // It sends more all the same.
            self.has_said_last = false;
            self.inbox.clear();
        }
        if self.outbox.is_empty() && client.can_send() {
            client.shutdown(cx.ops);
        }
        if client.is_shut_down() {
            self.state = State::Lingering(Linger::begin(cx.now));
        }
        Step::Wait
    }

    /// Whether the connection can close as soon as everything is sent, without lingering: the
    /// client sends nothing more that would make the close a reset. Over TLS it may do so, since its end is a
    /// message (`close_notify`), and ours has to tell the end of a response that ends with the connection.
    fn is_leaving(&self, client: &Transport) -> bool {
        matches!(self.state, State::Finishing) && self.has_no_more_requests() && !client.is_encrypted()
    }

    /// Whether nothing but the end of its side may follow from the client.
    fn has_no_more_requests(&self) -> bool {
        self.has_said_last && self.inbox.is_empty()
    }

    /// Bytes of memory that unread input occupies.
    ///
    /// Requests pipelined behind a forwarded one are moved out of their receive buffers. They are
    /// read only after its response, and the response needs a free buffer: otherwise neither could
    /// continue. The same holds for a body that its upstream does not take before something was received.
    fn held_back(&mut self) -> usize {
        match &self.state {
            State::Exchange(Exchange::Forwarding(forwarding))
                if forwarding.stream.is_body_done() || forwarding.forward.holds_up_body() =>
            {
                self.inbox.settle();
                self.inbox.memory()
            }
            _ => self.inbox.waiting_memory(),
        }
    }

    /// The phase that decides which timeout of the client applies.
    fn phase(&self, client: &Transport) -> ClientPhase {
        let is_sending = !client.is_sending_at_rest();
        match &self.state {
            State::Head if is_sending => ClientPhase::Response,
            State::Head if !self.inbox.is_empty() => ClientPhase::Head,
            State::Head if self.requests == 0 => ClientPhase::First,
            State::Head => ClientPhase::Idle,
            State::Exchange(exchange) => match exchange {
                Exchange::Forwarding(_) if is_sending => ClientPhase::Response,
                // If the inbox holds data, the upstream has to read first, so the client is not
                // waited for.
                Exchange::Forwarding(forwarding) if forwarding.forward.waits_for_client() && self.inbox.is_empty() => {
                    ClientPhase::Upload
                }
                Exchange::Forwarding(forwarding) if !forwarding.stream.is_body_done() => ClientPhase::Relay,
                Exchange::Responding(_) => ClientPhase::Response,
                Exchange::Truncated(truncated) if !truncated.is_end_signalled() => ClientPhase::Response,
                Exchange::LookingUp(_) | Exchange::Forwarding(_) | Exchange::Upgraded(_) | Exchange::Truncated(_) => {
                    ClientPhase::Server
                }
            },
            State::Finishing => ClientPhase::Response,
            State::Discarding(_) => ClientPhase::Body,
            State::Lingering(_) => ClientPhase::Server,
        }
    }

    /// Handles a fault of the client's connection.
    #[cold]
    fn on_broken(&mut self, client: &Transport) -> Option<CloseReason> {
        if let State::Exchange(Exchange::Upgraded(_)) = self.state {
            // What the client has sent before may still be there for the upstream.
            return None;
        }
        let has_truncated = client.receive_fault() == Some(Fault::Tls(TlsFault::Truncated));
        let has_truncated = has_truncated && self.owes_nothing(client);
        if has_truncated || client.is_encrypted() && self.is_served(client) {
            return Some(CloseReason::Done);
        }
        match client.send_fault() {
            Some(fault @ Fault::FileTruncated) => self.lose_file(fault),
            Some(fault @ (Fault::Os(_) | Fault::RootLost(_) | Fault::Resolver(_) | Fault::Tls(_))) => {
                return Some(CloseReason::ClientLost(fault));
            }
            None => {}
        }
        client.receive_fault().map(CloseReason::ClientLost)
    }

    /// Whether the connection is between two requests, or lingers after the last. Many clients end TLS
    /// there without a `close_notify`; nothing can be truncated by it (RFC 9112, 9.8).
    fn owes_nothing(&self, client: &Transport) -> bool {
        let is_between = matches!(self.state, State::Head | State::Lingering(_));
        is_between && self.inbox.is_empty() && self.has_sent_all(client)
    }

    /// Whether the client has all that it wanted. It may be gone before its side has ended in order.
    fn is_served(&self, client: &Transport) -> bool {
        let is_ending = matches!(self.state, State::Finishing | State::Lingering(_));
        is_ending && self.has_no_more_requests() && self.has_sent_all(client)
    }

    fn has_sent_all(&self, client: &Transport) -> bool {
        self.outbox.is_empty() && client.undelivered_bytes() == 0
    }

    /// Handles the timeout of a phase.
    fn on_too_slow(&mut self, cx: &Context<'_>) -> Option<CloseReason> {
        if self.draining_since.is_none() {
            cx.counters.count_timeout(self.deadlines.phase().timeout());
        }
        match self.deadlines.phase() {
            ClientPhase::Head => {
                self.respond_error(ErrorResponse::new(Status::REQUEST_TIMEOUT, "the request took too long"), cx);
                None
            }
            // A reset, so that the client does not take the truncated response for complete.
            ClientPhase::Response => Some(CloseReason::TooSlow),
            ClientPhase::First
            | ClientPhase::Idle
            | ClientPhase::Body
            | ClientPhase::Upload
            | ClientPhase::Relay
            | ClientPhase::Server => Some(CloseReason::Idle),
        }
    }
}

impl Task for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn is_in_access_log(&self) -> bool {
        true
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.inbox.push(buffer);
    }

    fn on_ready(&mut self, _: StreamId) {
        if let State::Exchange(Exchange::LookingUp(look_up)) = &mut self.state {
            look_up.has_come = true;
        }
    }

    fn drain(&mut self, now: Time) {
        self.draining_since = Some(now);
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        if client.is_broken()
            && let Some(close_reason) = self.on_broken(client)
        {
            return Some(close_reason);
        }
        loop {
            while let Step::Again = self.step(client, cx) {}
            if client.can_send() && !self.outbox.is_empty() {
                client.send(self.outbox.take(), cx.ops);
            }
            let phase = self.phase(client);
            let moved = if phase.is_upload() { client.received_bytes() } else { client.sent_bytes() };
            self.deadlines.tick(phase, moved, &cx.limits.http, cx.now);
            let deadline = self.deadlines.limit(&cx.limits.http, self.draining_since);
            if deadline.is_none_or(|deadline| cx.now < deadline) {
                break;
            }
            if let Some(close_reason) = self.on_too_slow(cx) {
                return Some(close_reason);
            }
        }
        if let State::Exchange(Exchange::Upgraded(_)) = self.state {
            return self.tunnel(client, cx);
        }
        let is_leaving = self.is_leaving(client);
        if is_leaving {
            client.stop_receiving(cx.ops);
        } else {
            client.set_receiving(self.held_back() < INBOX_BYTES_MAX.min(cx.hold_max), cx.ops);
        }
        match self.state {
            State::Finishing if is_leaving && (client.can_send() || client.is_shut_down()) => Some(CloseReason::Done),
            State::Lingering(linger) if linger.is_over(client, cx.now) => Some(CloseReason::Done),
            State::Exchange(Exchange::Truncated(ref truncated)) => truncated.close_reason(client, cx.now),
            _ => None,
        }
    }

    fn deadline(&self, limits: &Limits) -> Option<Time> {
        let client = self.deadlines.limit(&limits.http, self.draining_since);
        match self.state {
            State::Lingering(linger) => Some(linger.deadline()),
            State::Exchange(Exchange::Truncated(ref truncated)) => truncated.deadline().or(client),
            State::Exchange(Exchange::Upgraded(ref upgraded)) => upgraded.tunnel.deadline(),
            State::Exchange(Exchange::Forwarding(ref forwarding)) => {
                Time::earliest(forwarding.forward.deadline(), client)
            }
            _ => client,
        }
    }

    fn is_queued(&self) -> bool {
        matches!(&self.state, State::Exchange(Exchange::Forwarding(forwarding)) if forwarding.forward.is_queued())
    }

    fn exchanges(&self) -> usize {
        usize::from(matches!(self.state, State::Exchange(_)))
    }

    fn is_unfinished(&self) -> bool {
        match &self.state {
            State::Exchange(Exchange::Forwarding(forwarding)) => {
                forwarding.stream.is_responding() || !self.outbox.is_empty()
            }
            State::Exchange(Exchange::Upgraded(upgraded)) => upgraded.tunnel.memory() > 0,
            State::Exchange(Exchange::Responding(_) | Exchange::Truncated(_)) => true,
            State::Exchange(Exchange::LookingUp(_))
            | State::Head
            | State::Discarding(_)
            | State::Finishing
            | State::Lingering(_) => !self.outbox.is_empty(),
        }
    }

    fn take_unsent(&mut self) -> Chain {
        match &mut self.state {
            State::Exchange(Exchange::Upgraded(upgraded)) => upgraded.tunnel.take_unsent(),
            _ => self.outbox.take(),
        }
    }

    fn is_end_signalled(&self) -> bool {
        matches!(&self.state, State::Exchange(Exchange::Truncated(truncated)) if truncated.is_end_signalled())
    }

    fn close(&mut self, close_reason: CloseReason, client: &Transport, cx: &mut Context<'_>) -> bool {
        if let State::Exchange(exchange) = &mut self.state {
            exchange.abort(close_reason, cx);
        }
        if client.is_closed() {
            self.cut_off(close_reason, client, cx);
        }
        client.is_closed()
    }

    fn memory(&self) -> usize {
        let passing = match &self.state {
            State::Exchange(Exchange::Forwarding(forwarding)) => {
                forwarding.forward.memory() + forwarding.stream.memory()
            }
            State::Exchange(Exchange::Upgraded(upgraded)) => upgraded.tunnel.memory(),
            _ => 0,
        };
        self.inbox.memory() + self.outbox.memory() + passing
    }

    fn memory_max(&self, limits: &Limits) -> usize {
        // The outbox may exceed its limit by the last response: a small file, or a piece of a
        // listing.
        let response = (limits.store.small_bytes_max as usize).max(listing::PIECE_BYTES);
        inbox_memory_max(limits) + OUTBOX_BYTES_MAX + response.max(Forward::memory_max(limits))
    }
}

/// The largest size of the inbox: unread buffers, and beside them gathered bytes of a head or of
/// requests behind a forwarded one.
const fn inbox_memory_max(limits: &Limits) -> usize {
    INBOX_BYTES_MAX + Inbox::gathered_memory_max(limits.http.head.head_bytes_max + INBOX_BYTES_MAX)
}
