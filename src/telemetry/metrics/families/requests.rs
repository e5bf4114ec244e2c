//! Requests and responses of HTTP.

use super::super::text::{Kind, Text};
use super::super::worker::VERSIONS;
use super::super::{Http2Limit, Metrics};

/// The values of the label `class`.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let help = "HTTP responses that have ended, by status class; 4xx with those that never began (499).";
    let mut responses = text.family("xps_http_responses_total", Kind::Counter, help);
    for (at, class) in CLASSES.into_iter().enumerate() {
        responses.sample(&[("class", class)], metrics.sum(|cells| &cells.responses[at]));
    }
    let errors = metrics.sum(|cells| &cells.errors);
    text.family("xps_http_errors_total", Kind::Counter, "Requests refused without a valid request head.").value(errors);
    let limited = metrics.sum(|cells| &cells.rate_limited);
    let help = "Requests that exceeded the rate of their client (429).";
    text.family("xps_http_rate_limited_total", Kind::Counter, help).value(limited);
    let help = "HTTP requests with a valid head, by the version that the client speaks.";
    let mut requests = text.family("xps_http_requests_total", Kind::Counter, help);
    for (at, version) in VERSIONS.into_iter().enumerate() {
        requests.sample(&[("version", version)], metrics.sum(|cells| &cells.requests[at]));
    }
    let connections = metrics.sum(|cells| &cells.http2_connections);
    let help = "HTTP/2 connections that have brought a request.";
    text.family("xps_http2_connections_total", Kind::Counter, help).value(connections);
    let streams = metrics.sum(|cells| &cells.http2_streams);
    let help = "HTTP/2 streams that clients have opened.";
    text.family("xps_http2_streams_total", Kind::Counter, help).value(streams);
    let help = "How often HTTP/2 clients exceeded a limit of limits.http2.";
    let mut limits = text.family("xps_http2_limits_total", Kind::Counter, help);
    for (at, limit) in Http2Limit::ALL.into_iter().enumerate() {
        limits.sample(&[("limit", limit.name())], metrics.sum(|cells| &cells.http2_limits[at]));
    }
}
