//! Requests by host and route.

use std::sync::Arc;

use super::super::routes::{MethodClass, RouteLabels, RouteSums};
use super::super::text::{Kind, Text};
use super::super::{Metrics, locked};
use super::requests::CLASSES;

/// The labels of the requests that no route has served. Neither a host name nor a route can be that.
const UNMATCHED: [(&str, &str); 3] = [("host", "-"), ("route", "-"), ("handler", "-")];

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let routes = locked(&metrics.routes).values().map(Arc::clone).collect::<Vec<_>>();
    let mut unmatched = RouteSums::default();
    metrics.workers.iter().for_each(|cells| unmatched.add(&cells.unmatched));
    let mut all: Vec<([(&str, &str); 3], RouteSums)> = vec![(UNMATCHED, unmatched)];
    all.extend(routes.iter().map(|series| {
        let RouteLabels { host, route, handler } = &series.labels;
        ([("host", host.as_str()), ("route", route), ("handler", handler)], series.sums())
    }));
    let help = "Requests that have ended, by host, route, class of the method (read: GET, HEAD, OPTIONS, TRACE; \
        write: POST, PUT, PATCH, DELETE) and of the status; the host and route - are those that no route has served. \
        Classes without a request are left out.";
    let mut requests = text.family("xps_route_requests_total", Kind::Counter, help);
    for (labels, sums) in &all {
        let [host, route, handler] = *labels;
        for (method, counts) in MethodClass::ALL.into_iter().zip(&sums.ended) {
            for (class, count) in CLASSES.into_iter().zip(counts) {
                // One is always there, so that a rate has a beginning.
                if *count > 0 || (method, class) == (MethodClass::Read, "2xx") {
                    requests.sample(&[host, route, handler, ("method", method.name()), ("status", class)], count);
                }
            }
        }
    }
    let mut in_flight = text.family("xps_route_requests", Kind::Gauge, "Requests in progress.");
    all.iter().for_each(|(labels, sums)| in_flight.sample(labels, sums.in_flight()));
    let help =
        "From the arrival of a request to the first byte of its response. Both are as exact as a turn of the loop.";
    let mut first_byte = text.family("xps_route_first_byte_seconds", Kind::Histogram, help);
    all.iter().for_each(|(labels, sums)| first_byte.distribution(labels, &sums.first_byte));
    let help = "From the arrival of a request to the end of its response, or of the tunnel that it opened.";
    let mut duration = text.family("xps_route_duration_seconds", Kind::Histogram, help);
    all.iter().for_each(|(labels, sums)| duration.distribution(labels, &sums.duration));
    let help = "Bytes of request bodies that went to an upstream.";
    let mut received = text.family("xps_route_received_bytes_total", Kind::Counter, help);
    all.iter().for_each(|(labels, sums)| received.sample(labels, sums.received_bytes));
    let help = "Bytes of response bodies that clients were sent, with the framing of chunks.";
    let mut sent = text.family("xps_route_sent_bytes_total", Kind::Counter, help);
    all.iter().for_each(|(labels, sums)| sent.sample(labels, sums.sent_bytes));
}
