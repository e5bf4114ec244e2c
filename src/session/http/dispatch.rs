//! Dispatches a request: begins its exchange, checks the client's limits and finds the route, once. What
//! is no request for this listener is refused at once.

use std::rc::Rc;

use super::exchange::{Outcome, Record};
use super::router::{Route, Router, VirtualHost};
use crate::driver::Peer;
use crate::http::error_page::{self, PageType};
use crate::http::{ErrorResponse, Known, RequestHead, Status};
use crate::session::Context;
use crate::telemetry::access_log::CacheState;

/// Body of a 429 response. `Retry-After` is added with the status.
const TOO_SOON: ErrorResponse =
    ErrorResponse::new(Status::TOO_MANY_REQUESTS, "request rate limit exceeded; retry later");

/// Body of a 503 response over the connection limit.
pub(super) const FULL: ErrorResponse =
    ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "server is at its connection limit; retry later");

/// Body of a 421 response.
const MISDIRECTED: ErrorResponse = ErrorResponse::new(
    Status::MISDIRECTED_REQUEST,
    "this TLS connection is for another host; requests for this one need a connection of their own",
);

/// Body of the response to an HTTP request without TLS.
const PLAIN: ErrorResponse =
    ErrorResponse::bad_request("This port expects HTTPS: the address has to begin with https://.");

/// Body of a 404 response if no route matches.
const NOTHING: ErrorResponse = ErrorResponse::new(Status::NOT_FOUND, "no route matches this request");

/// Begins the exchange of a request, and finds its route and the client's address. An error: the
/// request has no route, or may not use it. `is_over_limit`: its connection exceeds the connection
/// limit.
pub(super) fn begin<'r>(
    router: &'r Router,
    head: &RequestHead<'_>,
    is_over_limit: bool,
    cx: &mut Context<'_>,
) -> (Record, Result<&'r Rc<Route>, ErrorResponse>, Peer) {
    let client_address = cx.admission.client_address(cx.peer, head.fields.all_known(Known::XForwardedFor));
    let host = router.host_for(head);
    // Without a host, the log for malformed requests.
    let log = host.map_or_else(|| router.access_log(), |host| host.access_log.as_ref());
    let mut record = Record::begin(log, client_address, head, cx);
    let error = if is_over_limit {
        FULL
    } else if cx.admission.is_too_soon(client_address, cx.now) {
        cx.counters.count_rate_limited();
        TOO_SOON
    } else if let Some(route) = router.challenge(head) {
        return (record, Ok(route), client_address);
    } else if is_misdirected(router, head, host, cx) {
        MISDIRECTED
    } else {
        match host.map_or(Ok(None), |host| router.route(host, head, client_address)) {
            Ok(Some(route)) => {
                record.set_route(route.counters.as_ref());
                if record.is_logged() && route.serves_files() {
                    // Unless it has to wait.
                    record.note_cache(CacheState::Hit);
                }
                return (record, Ok(route), client_address);
            }
            Ok(None) => NOTHING,
            Err(error) => error,
        }
    };
    record.note_refused();
    (record, Err(error), client_address)
}

/// Whether the client has to use another connection for this request. `host`: what it leads to.
#[inline]
fn is_misdirected(router: &Router, head: &RequestHead<'_>, host: Option<&VirtualHost>, cx: &Context<'_>) -> bool {
    let Some(facts) = &cx.tls else { return false };
    let same = |name: &str| match (router.host_named(Some(name)), host) {
        (Some(named), Some(host)) => std::ptr::eq(named, host),
        (named, host) => named.is_none() && host.is_none(),
    };
    facts.is_misdirected(head.host, same)
}

/// The response to an HTTP request without TLS from this client, on a listener that expects it. Its
/// exchange begins and ends here.
pub(in crate::session) fn refuse_plain(router: &Router, peer: Peer, cx: &Context<'_>) -> Vec<u8> {
    let mut record = Record::begin_malformed(router.access_log(), peer, PLAIN, cx.now, cx);
    record.set_status(PLAIN.status);
    let mut page = Vec::new();
    error_page::write(&mut page, PLAIN.status, Some(PLAIN.reason), PageType::Html);
    record.end(Outcome::Malformed { body_bytes: page.len() as u64 }, cx);
    let mut response = Vec::with_capacity(page.len() + 200);
    response.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n");
    response.extend_from_slice(cx.date.as_bytes());
    let content_type = PageType::Html.content_type();
    let fields = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", page.len());
    response.extend_from_slice(fields.as_bytes());
    response.extend_from_slice(&page);
    response
}
