//! A complete request head: finds its route, and begins its response.

use std::rc::Rc;

use super::Conn;
use super::guards::Counted;
use super::stream::{LookUp, Stage, Stream};
use crate::http::fields::Field;
use crate::http::forward::upgrade_to_forward;
use crate::http::h2::head::{BadHead, HeadContext, parse};
use crate::http::h2::{ConnectionError, ErrorCode, Priority, StoredHead, StreamId};
use crate::http::{BodyFraming, ErrorResponse, Method, PageType, RequestHead, Status};
use crate::session::Context;
use crate::session::http::conn::deadlines::ClientDeadlines;
use crate::session::http::conn::request::Request;
use crate::session::http::dispatch;
use crate::session::http::exchange::{Outcome, Record};
use crate::session::http::handler::{Answer, Forward, ProxyRoute, error_response};
use crate::session::http::response::Body;
use crate::session::http::response_body::ResponseBody;
use crate::session::http::router::{Route, Router};
use crate::session::http::stream::h2::{Input, Output};
#[cfg(feature = "internals")]
use crate::session::http::stream::planted_bug::{self, Http2Bug};
use crate::session::http::stream::{Http2Response, ResponseEncoder};
use crate::telemetry::metrics::Http2Limit;
use crate::waiter::{self, Waiter};

/// Identifiers of streams that are left when a connection ends because it has used up the others
/// (RFC 9113, 5.1.1): the client may use them until it has seen that.
const STREAMS_LEFT: u32 = 2000;

const METHOD_HEAD: Field<'_> = Field { name: b":method", value: b"HEAD" };

/// What was made of a request, and whether its route keeps the connection open.
type Dispatched = (Begun, bool);

/// What was made of a request.
enum Begun {
    Respond(Record, Http2Response),
    LookUp(Record, Rc<Route>),
    Forward(Box<Forward>),
}

/// What is needed of a head once it is gone.
#[derive(Clone, Copy)]
struct Facts {
    is_head: bool,
    takes_trailers: bool,
    /// An extended CONNECT (RFC 8441).
    is_connect: bool,
    framing: BodyFraming,
    priority: Priority,
}

impl Facts {
    fn of(head: &RequestHead<'_>) -> Self {
        Self {
            is_head: head.method == Method::Head,
            takes_trailers: head.takes_trailers(),
            is_connect: head.protocol.is_some(),
            framing: head.framing,
            priority: head.fields.get("priority").and_then(Priority::parse).unwrap_or_default(),
        }
    }
}

impl Conn {
    /// Begins the exchange of the request whose fields are in the block.
    pub(super) fn on_request(
        &mut self,
        id: StreamId,
        end_stream: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        self.last_stream = id;
        if !self.life.accepts() {
            // The client has been sent the number of the last stream.
            if !end_stream {
                self.note_dropped(id, self.new_window());
            }
            return Ok(());
        }
        self.last_accepted = id;
        cx.counters.count_http2_stream();
        let limits = &cx.limits.http.http2;
        let is_full = self.streams.len() >= limits.streams_max as usize;
        #[cfg(feature = "internals")]
        let is_full = is_full && !planted_bug::strikes(Http2Bug::Overfull);
        if is_full {
            return self.refuse(id, end_stream, Http2Limit::StreamsMax, cx);
        }
        if self.held_heads > limits.held_heads {
            return self.refuse(id, end_stream, Http2Limit::HeldHeads, cx);
        }
        if self.requests == 0 {
            cx.counters.count_http2_connection();
        }
        self.requests = self.requests.saturating_add(1);
        let context = HeadContext { end_stream, connect_protocol: true };
        let router = self.router_cell.router();
        // Used where it is: a head is large.
        let ((begun, stays), facts) = match &parse(self.block.fields(), context, &cx.limits.http.head) {
            Ok(head) => (begin(id, head, &router, self.is_over_limit, cx), Facts::of(head)),
            Err(BadHead::Malformed(error)) => {
                tracing::debug!(stream = id.get(), %error, "malformed request");
                let mut record = Record::begin_malformed(router.access_log(), cx.peer, *error, cx.now, cx);
                record.set_status(error.status);
                record.end(Outcome::Malformed { body_bytes: 0 }, cx);
                self.count(Counted::Glitch, cx)?;
                if !end_stream {
                    self.note_dropped(id, self.new_window());
                }
                self.push_reset(id, ErrorCode::PROTOCOL_ERROR);
                return self.count(Counted::ResetEmitted, cx);
            }
            Err(BadHead::Rejected(error)) => {
                let framing = if end_stream { BodyFraming::None } else { BodyFraming::Chunked };
                // Not even the response to a head that is too large may have a body then.
                let is_head = self.block.fields().iter().any(|field| field == METHOD_HEAD);
                let priority = Priority::default();
                let facts = Facts { is_head, takes_trailers: false, is_connect: false, framing, priority };
                ((reject(*error, is_head, &router, cx), true), facts)
            }
        };
        let Facts { is_head, takes_trailers, is_connect, framing, priority } = facts;
        let limits = &cx.limits.http.http2;
        let stream_window = self.new_window();
        let mut stream = Stream {
            id,
            input: if is_connect {
                Input::of_tunnel(end_stream, stream_window)
            } else {
                Input::new(framing, stream_window)
            },
            output: Output::new(self.settings.initial_window_bytes, is_head, takes_trailers),
            priority,
            stage: Stage::Over,
            has_news: false,
            head_bytes: 0,
            is_held: false,
            is_paused: false,
            deadlines: ClientDeadlines::new(cx.now),
        };
        match begun {
            Begun::Respond(mut record, response) => {
                record.set_status(response.status);
                record.begin_body(0, cx.now);
                tracing::debug!(stream = id.get(), status = response.status.code(), "request");
                match stream.output.begin(id, response, &mut self.flow) {
                    None if stream.output.is_over() => {
                        record.end_at(stream.output.given_bytes, cx);
                        if !stream.input.has_ended {
                            self.note_answered(id, stream.input.window.available(), cx.now);
                        }
                        return self.end_request(stays, cx);
                    }
                    rest => {
                        let body = rest.map_or_else(ResponseBody::empty, ResponseBody::new);
                        stream.stage = Stage::Responding { record, body };
                    }
                }
            }
            Begun::LookUp(record, route) => {
                let head = StoredHead::new(self.block.take(), context);
                let head_limits = cx.limits.http.head;
                stream.stage = Stage::LookingUp(Box::new(LookUp { record, route, head, head_limits }));
            }
            Begun::Forward(forward) => {
                if !end_stream {
                    // Its window is granted with the first body.
                    self.flow.receive_window.set_target(limits.connection_window);
                }
                stream.stage = Stage::Forwarding(forward);
                self.forwarding += 1;
            }
        }
        stream.head_bytes = stream.head_memory();
        self.held_heads += stream.head_bytes;
        let waits = matches!(stream.stage, Stage::LookingUp(_));
        self.streams.push(Box::new(stream));
        if !waits {
            self.wake(self.streams.len() - 1);
        }
        self.end_request(stays, cx)
    }

    /// Announces the end of the connection after its last request.
    fn end_request(&mut self, stays: bool, cx: &Context<'_>) -> Result<(), ConnectionError> {
        let is_last = self.last_stream.get() >= StreamId::MAX.get() - STREAMS_LEFT;
        if is_last || !stays || self.is_over_limit || cx.limits.http.requests_max == self.requests {
            self.announce(cx.now);
        }
        Ok(())
    }

    /// What waits already is as much as may wait.
    fn refuse(
        &mut self,
        id: StreamId,
        end_stream: bool,
        limit: Http2Limit,
        cx: &Context<'_>,
    ) -> Result<(), ConnectionError> {
        cx.counters.count_http2_limit(limit);
        self.push_reset(id, ErrorCode::REFUSED_STREAM);
        if !end_stream {
            self.note_dropped(id, self.new_window());
        }
        self.count(Counted::Glitch, cx)?;
        self.count(Counted::ResetEmitted, cx)
    }
}

/// Dispatches a request.
fn begin(
    id: StreamId,
    head: &RequestHead<'_>,
    router: &Router,
    is_over_limit: bool,
    cx: &mut Context<'_>,
) -> Dispatched {
    let (record, route, client_address) = dispatch::begin(router, head, is_over_limit, cx);
    let waiter = Waiter { session: cx.session, stream: waiter::StreamId(id.get()) };
    let request = Request { head, since: record.since(), waiter };
    let mut encoder = ResponseEncoder::new(head.version, head.method == Method::Head, true);
    let route = match route.and_then(|route| check_connect(head, route)) {
        Ok(route) => route,
        Err(error) => {
            let response = request.respond_error(error, &router.fallback, &mut encoder, cx);
            return (Begun::Respond(record, encoder.finish_http2(response)), true);
        }
    };
    let begun = match request.respond(route, &mut encoder, cx) {
        Answer::Response(response) => Begun::Respond(record, encoder.finish_http2(response)),
        Answer::LookUp => Begun::LookUp(record, Rc::clone(route)),
        Answer::Forward(proxy_route) => {
            let forward = Forward::new(proxy_route, head, client_address, router.scheme, waiter, record, cx);
            Begun::Forward(Box::new(forward))
        }
    };
    (begun, route.keep_alive)
}

/// Checks that an extended CONNECT is for a route that can open a tunnel: any other response with a 2xx
/// would be one into nothing (RFC 8441, 4).
fn check_connect<'r>(head: &RequestHead<'_>, route: &'r Rc<Route>) -> Result<&'r Rc<Route>, ErrorResponse> {
    let may_open = |proxy: &Rc<ProxyRoute>| proxy.upgrades && upgrade_to_forward(head).is_some();
    if head.protocol.is_some() && !route.handler.proxy_route().is_some_and(may_open) {
        return Err(NO_TUNNEL);
    }
    Ok(route)
}

const NO_TUNNEL: ErrorResponse = ErrorResponse::new(Status::NOT_IMPLEMENTED, "no other protocol is spoken here");

/// The error response to a request that is not well-formed for this server.
fn reject(error: ErrorResponse, is_head: bool, router: &Router, cx: &Context<'_>) -> Begun {
    let mut encoder = ResponseEncoder::new(crate::http::Version::Http2, is_head, true);
    let response = error_response(&router.fallback, cx.date, error, PageType::Html, &mut encoder);
    let record = Record::begin_malformed(router.access_log(), cx.peer, error, cx.now, cx);
    debug_assert!(matches!(response.body, Body::Memory(_)), "an error page is in memory");
    Begun::Respond(record, encoder.finish_http2(response))
}
