//! Dispatches a request: begins its exchange and finds its route, once, and builds the server's own
//! responses, again after each look-up.

use std::rc::Rc;

use super::After;
use super::body_discard::BodyDiscard;
use super::exchange::Record;
use super::file_route::FileRoute;
use super::response::{AllowedMethods, ResponseBuilder};
use super::response_encoder::{EncodedResponse, ResponseEncoder};
use super::router::{Handler, ProxyRoute, Route, Router};
use crate::driver::{Peer, Time};
use crate::file::store::Inquiry;
use crate::http::forward::forwards_left;
use crate::http::redirect::RedirectTemplate;
use crate::http::{BodyReader, ErrorResponse, Expect, Known, Method, RequestHead, Status};
use crate::session::Context;
use crate::telemetry::metrics;
use crate::waiter::Waiter;

/// Body of a 429 response. `Retry-After` is added with the status.
const TOO_SOON: ErrorResponse =
    ErrorResponse::new(Status::TOO_MANY_REQUESTS, "request rate limit exceeded; retry later");

/// Body of a 503 response over the connection limit.
pub(super) const FULL: ErrorResponse =
    ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "server is at its connection limit; retry later");

/// Body of a 404 response if no route matches.
const NOTHING: ErrorResponse = ErrorResponse::new(Status::NOT_FOUND, "no route matches this request");

/// What responds to a request.
pub(super) struct Choice<'r> {
    pub(super) responder: Responder<'r>,
    /// The settings of the server's own responses.
    pub(super) file_route: &'r Rc<FileRoute>,
    /// Whether the route keeps the client's connection open.
    pub(super) keep_alive: bool,
}

/// The server itself, or an upstream.
pub(super) enum Responder<'r> {
    Own(OwnResponse<'r>),
    Upstream { route: &'r Rc<ProxyRoute>, client_address: Peer },
}

/// The kinds of response that the server makes itself.
pub(super) enum OwnResponse<'r> {
    Files,
    Redirect(Status, &'r RedirectTemplate),
    Metrics,
    /// The methods of a proxy route: `Max-Forwards` is 0, so the request is not forwarded.
    Options,
    Error(ErrorResponse),
}

impl OwnResponse<'_> {
    const fn allowed_methods(&self) -> AllowedMethods {
        match self {
            Self::Files | Self::Metrics => AllowedMethods::Reading,
            Self::Redirect(..) => AllowedMethods::Elsewhere,
            // Of the errors before a look-up, only those of forwarding are about the method.
            Self::Options | Self::Error(_) => AllowedMethods::Upstreams,
        }
    }
}

/// Begins the exchange of a request, and finds what responds to it. `is_over_limit`: its connection
/// exceeds the connection limit.
pub(super) fn begin<'r>(
    router: &'r Router,
    head: &RequestHead<'_>,
    is_over_limit: bool,
    cx: &Context<'_>,
) -> (Record, Choice<'r>) {
    let client_address = cx.admission.client_address(cx.peer, head.fields.all_known(Known::XForwardedFor));
    let host = router.host_for(head);
    // Without a host, the log for malformed requests.
    let log = host.map_or_else(|| router.access_log(), |host| host.access_log.as_ref());
    let record = Record::begin(log, client_address, head, cx);
    let error = if is_over_limit {
        FULL
    } else if cx.admission.is_too_soon(client_address, cx.now) {
        TOO_SOON
    } else {
        match host.map_or(Ok(None), |host| router.route(host, head, client_address)) {
            Ok(Some(route)) => return (record, choose(route, head, client_address)),
            Ok(None) => NOTHING,
            Err(error) => error,
        }
    };
    let responder = Responder::Own(OwnResponse::Error(error));
    (record, Choice { responder, file_route: &router.fallback, keep_alive: true })
}

/// What responds to the requests of a route.
fn choose<'r>(route: &'r Route, head: &RequestHead<'_>, client_address: Peer) -> Choice<'r> {
    let own_response = match &route.handler {
        Handler::Files => OwnResponse::Files,
        Handler::Redirect(status, template) => OwnResponse::Redirect(*status, template),
        Handler::Metrics => OwnResponse::Metrics,
        Handler::Forward(_) if forwards_left(head) == Some(0) => OwnResponse::Options,
        Handler::Forward(proxy_route) => match proxy_route.check(head) {
            Ok(()) => {
                let responder = Responder::Upstream { route: proxy_route, client_address };
                return Choice { responder, file_route: &route.file_route, keep_alive: route.keep_alive };
            }
            Err(error) => OwnResponse::Error(error),
        },
    };
    let responder = Responder::Own(own_response);
    Choice { responder, file_route: &route.file_route, keep_alive: route.keep_alive }
}

/// Makes the server's own response to a request. May be repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serve {
    /// When the exchange began.
    pub(super) since: Time,
    /// Whether client, route and limits allow another request on the connection.
    pub(super) keep_alive: bool,
}

impl Serve {
    /// Builds the response, and says what follows it. `None`: the store has to look something up,
    /// and the response is to be built again after that.
    pub(super) fn respond(
        self,
        file_route: &FileRoute,
        own_response: &OwnResponse<'_>,
        head: &RequestHead<'_>,
        cx: &mut Context<'_>,
    ) -> Option<(EncodedResponse, After)> {
        let body = BodyDiscard::new(BodyReader::from(head.framing), cx.limits.http.discard_bytes_max);
        // A client that waits for 100 (Continue) gets the final response instead. It may or may not
        // send its body then (RFC 9110, 10.1.1).
        let is_body_read = body.as_ref().is_none_or(|body| body.is_short() && head.expect == Expect::None);
        let mut builder = ResponseBuilder {
            file_route,
            head,
            allowed_methods: own_response.allowed_methods(),
            inquiry: Inquiry { waiter: Waiter::only_stream_of(cx.session), now: cx.now, since: self.since },
            unix_seconds: cx.unix_seconds,
            date: cx.date,
            store: cx.store,
            boundaries: cx.boundaries,
            ops: cx.ops,
        };
        let is_head = head.method == Method::Head;
        let mut encoder = ResponseEncoder::new(head.version, is_head, self.keep_alive && is_body_read);
        let sink = &mut encoder;
        let response = match own_response {
            OwnResponse::Files => builder.build(sink)?,
            OwnResponse::Redirect(status, template) => builder.redirect(*status, template, sink),
            OwnResponse::Metrics => builder.text(metrics::CONTENT_TYPE, || cx.counters.metrics().text(), sink),
            OwnResponse::Options => builder.options(sink),
            OwnResponse::Error(error) => builder.respond_error(*error, sink),
        };
        let response = encoder.finish(response);
        tracing::debug!(method = head.method.as_str(), status = response.status.code(), "request");
        let after = After::new(response.keep_alive, body);
        Some((response, after))
    }
}
