//! A request has arrived: which route it takes, and what that leads to.

use super::After;
use super::access_log_entry::PendingLogEntry;
use super::body_discard::BodyDiscard;
use super::file_route::FileRoute;
use super::forward::Forward;
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

/// What a client is told who asks too often; that it may do so again in a second goes with the status.
const TOO_SOON: ErrorResponse = ErrorResponse::new(Status::TOO_MANY_REQUESTS, "you ask too often");

/// What a client is told who comes when there are as many as there may be.
pub(super) const FULL: ErrorResponse = ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "too many are here; try again");

/// What a client is told for whose request there is no route.
const NOTHING: ErrorResponse = ErrorResponse::new(Status::NOT_FOUND, "nothing is served here");

/// What is known of a request beside its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispatch {
    /// When it was first looked at.
    pub(super) since: Time,
    /// Whether client and limits allow another request after it.
    pub(super) keep_alive: bool,
    /// Whether it was not looked at before.
    pub(super) is_new: bool,
    /// Whether it came on a connection that is one too many.
    pub(super) is_over_limit: bool,
}

/// What a request leads to.
pub(super) enum DispatchResult {
    /// The store has to look something up; the same request is judged again after that.
    Wait,
    /// A response, and what follows it.
    Respond(EncodedResponse, After),
    /// An upstream answers.
    Forward(Box<Forward>),
}

/// What the worker itself answers with.
enum OwnResponse<'a> {
    Files,
    Redirect(Status, &'a RedirectTemplate),
    Metrics,
    /// What upstreams may be asked for, since they may not be asked themselves.
    Options,
    Error(ErrorResponse),
}

impl OwnResponse<'_> {
    const fn allowed_methods(&self) -> AllowedMethods {
        match self {
            Self::Files | Self::Metrics => AllowedMethods::Reading,
            Self::Redirect(..) => AllowedMethods::Elsewhere,
            // Of what is refused before it is looked at, only what was to be passed on is refused for its method.
            Self::Options | Self::Error(_) => AllowedMethods::Upstreams,
        }
    }
}

impl Dispatch {
    /// Finds what answers the request, and has it answer.
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

    /// Has the worker itself answer.
    fn serve(
        &self,
        file_route: &FileRoute,
        own_response: &OwnResponse<'_>,
        head: &RequestHead<'_>,
        log_entry: Option<AccessLogEntry>,
        cx: &mut Context<'_>,
    ) -> DispatchResult {
        let body = BodyDiscard::new(BodyReader::from(head.framing), cx.limits.http.discard_bytes_max);
        // A client that waits for a go-ahead gets a response instead, and may or may not send its body now.
        let is_body_read = body.as_ref().is_none_or(|body| body.is_short() && head.expect == Expect::None);
        let mut builder = ResponseBuilder {
            file_route,
            head,
            allowed_methods: own_response.allowed_methods(),
            keep_alive: self.keep_alive && is_body_read,
            inquiry: Inquiry { waiter: cx.session, now: cx.now, since: self.since },
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

/// The beginning of the request's line in the access log, if it is to leave one.
pub(super) fn log_entry(router: &Router, head: &RequestHead<'_>, cx: &Context<'_>) -> Option<AccessLogEntry> {
    let log = log_of(router, router.host_for(head))?;
    let client_address = cx.admission.client_address(cx.peer, head.fields.all_known(Known::XForwardedFor));
    Some(log.begin(client_address, head, cx.unix_seconds))
}

/// Where a host's requests are recorded; those for which there is none, where it is recorded what is no request.
fn log_of<'f>(router: &'f Router, host: Option<&'f VirtualHost>) -> Option<&'f AccessLog> {
    host.map_or_else(|| router.access_log(), |host| host.access_log.as_ref())
}
