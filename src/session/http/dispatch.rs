//! Dispatches a request: finds its route, and starts the response or the forwarding.

use super::After;
use super::body_discard::BodyDiscard;
use super::file_route::FileRoute;
use super::forward::Forward;
use super::pending_log_entry::PendingLogEntry;
use super::response::{AllowedMethods, Body, EncodedResponse, ResponseBuilder};
use super::router::{Handler, Router, VirtualHost};
use crate::driver::Time;
use crate::file::store::Inquiry;
use crate::http::forward::forwards_left;
use crate::http::redirect::RedirectTemplate;
use crate::http::{BodyReader, ErrorResponse, Expect, Known, RequestHead, Status};
use crate::session::Context;
use crate::telemetry::access_log::{AccessLog, AccessLogEntry};
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

/// What is known of a request besides its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispatch {
    /// When the request was first dispatched.
    pub(super) since: Time,
    /// Whether client and limits allow another request on the connection.
    pub(super) keep_alive: bool,
    /// Whether this is the first dispatch of the request.
    pub(super) is_new: bool,
    /// Whether its connection exceeds the connection limit.
    pub(super) is_over_limit: bool,
}

/// The result of a dispatch.
pub(super) enum DispatchResult {
    /// The store has to look something up; the request is dispatched again after that.
    Wait,
    /// The response, and what follows it.
    Respond(EncodedResponse, After),
    /// The request is forwarded to an upstream.
    Forward(Box<Forward>),
}

/// The kinds of response that the server makes itself.
enum OwnResponse<'a> {
    Files,
    Redirect(Status, &'a RedirectTemplate),
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

impl Dispatch {
    /// Finds the handler of the request, and starts it.
    pub(super) fn dispatch(&self, router: &Router, head: &RequestHead<'_>, cx: &mut Context<'_>) -> DispatchResult {
        let client_address = cx.admission.client_address(cx.peer, head.fields.all_known(Known::XForwardedFor));
        let host = router.host_for(head);
        let log_entry = log_of(router, host).map(|log| log.begin(client_address, head, cx.unix_seconds));
        if self.is_over_limit {
            return self.serve(&router.fallback, &OwnResponse::Error(FULL), head, log_entry, cx);
        }
        if self.is_new && cx.admission.is_too_soon(client_address, cx.now) {
            return self.serve(&router.fallback, &OwnResponse::Error(TOO_SOON), head, log_entry, cx);
        }
        let route = match host.map_or(Ok(None), |host| router.route(host, head, client_address)) {
            Ok(Some(route)) => route,
            Ok(None) => return self.serve(&router.fallback, &OwnResponse::Error(NOTHING), head, log_entry, cx),
            Err(error) => return self.serve(&router.fallback, &OwnResponse::Error(error), head, log_entry, cx),
        };
        let dispatch = Self { keep_alive: self.keep_alive && route.keep_alive, ..*self };
        let own_response = match &route.handler {
            Handler::Files => OwnResponse::Files,
            Handler::Redirect(status, template) => OwnResponse::Redirect(*status, template),
            Handler::Metrics => OwnResponse::Metrics,
            Handler::Forward(_) if forwards_left(head) == Some(0) => OwnResponse::Options,
            Handler::Forward(proxy_route) => {
                match Forward::new(proxy_route, head, client_address, dispatch.keep_alive, cx) {
                    Ok(forward) => return DispatchResult::Forward(Box::new(forward.recorded_in(log_entry))),
                    Err(error) => OwnResponse::Error(error),
                }
            }
        };
        dispatch.serve(&route.file_route, &own_response, head, log_entry, cx)
    }

    /// Builds one of the server's own responses.
    fn serve(
        &self,
        file_route: &FileRoute,
        own_response: &OwnResponse<'_>,
        head: &RequestHead<'_>,
        log_entry: Option<AccessLogEntry>,
        cx: &mut Context<'_>,
    ) -> DispatchResult {
        let body = BodyDiscard::new(BodyReader::from(head.framing), cx.limits.http.discard_bytes_max);
        // A client that waits for 100 (Continue) gets the final response instead. It may or may not
        // send its body then (RFC 9110, 10.1.1).
        let is_body_read = body.as_ref().is_none_or(|body| body.is_short() && head.expect == Expect::None);
        let mut builder = ResponseBuilder {
            file_route,
            head,
            allowed_methods: own_response.allowed_methods(),
            keep_alive: self.keep_alive && is_body_read,
            inquiry: Inquiry { waiter: Waiter::only_stream_of(cx.session), now: cx.now, since: self.since },
            unix_seconds: cx.unix_seconds,
            date: cx.date,
            store: cx.store,
            boundaries: cx.boundaries,
            ops: cx.ops,
        };
        let mut response = match own_response {
            OwnResponse::Files => match builder.build() {
                Some(response) => response,
                None => return DispatchResult::Wait,
            },
            OwnResponse::Redirect(status, template) => builder.redirect(*status, template),
            OwnResponse::Metrics => builder.text(metrics::CONTENT_TYPE, || cx.counters.metrics().text()),
            OwnResponse::Options => builder.options(),
            OwnResponse::Error(error) => builder.respond_error(*error),
        };
        tracing::debug!(method = head.method.as_str(), status = response.status.code(), "request");
        match (log_entry, &response.body) {
            (None, _) => {}
            (Some(log_entry), Body::Sent) => {
                log_entry.finish(response.status.code(), response.body_bytes, cx.now.since(self.since));
            }
            (Some(log_entry), _) => {
                response.log_entry = Some(Box::new(PendingLogEntry::new(log_entry, response.status, self.since)))
            }
        }
        let after = After::new(response.keep_alive, body);
        DispatchResult::Respond(response, after)
    }
}

/// Begins the access log entry of a request, if its host has an access log.
pub(super) fn log_entry(router: &Router, head: &RequestHead<'_>, cx: &Context<'_>) -> Option<AccessLogEntry> {
    let log = log_of(router, router.host_for(head))?;
    let client_address = cx.admission.client_address(cx.peer, head.fields.all_known(Known::XForwardedFor));
    Some(log.begin(client_address, head, cx.unix_seconds))
}

/// The access log of a host; without a host, the one for malformed requests.
fn log_of<'f>(router: &'f Router, host: Option<&'f VirtualHost>) -> Option<&'f AccessLog> {
    host.map_or_else(|| router.access_log(), |host| host.access_log.as_ref())
}
