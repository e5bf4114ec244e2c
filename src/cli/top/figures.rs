//! The figures that are shown: what a span of the metrics says about the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exposition::{Labels, Moment, Span};

const REQUESTS: &str = "xps_route_requests_total";
const DURATION: &str = "xps_route_duration_seconds";

/// What is shown of a server.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) version: String,
    /// The back-end, and why it was chosen.
    pub(super) backend: String,
    pub(super) workers: f64,
    pub(super) uptime: Option<Duration>,
    pub(super) totals: Totals,
    pub(super) routes: Vec<RouteRow>,
    pub(super) upstreams: Vec<UpstreamRow>,
}

/// What is shown of the whole server. Rates are those of a second; times are in seconds.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) requests: f64,
    pub(super) in_flight: f64,
    /// The part of the responses with a status from 500 on; not a number without responses.
    pub(super) failed: f64,
    pub(super) half_within: Option<f64>,
    pub(super) most_within: Option<f64>,
    pub(super) connections: f64,
    pub(super) accepted: f64,
    pub(super) sent_bytes: f64,
    pub(super) received_bytes: f64,
    /// Processors in use.
    pub(super) processors: f64,
    /// Processor time of a request; not a number without requests.
    pub(super) processor_time: f64,
    /// Calls into the ring for a request; not a number without requests.
    pub(super) ring_enters: f64,
    pub(super) memory_bytes: f64,
    pub(super) descriptors: f64,
}

/// What is shown of a route.
#[derive(Debug)]
pub(super) struct RouteRow {
    pub(super) host: String,
    pub(super) route: String,
    pub(super) requests: f64,
    /// Responses since the start, from 2xx to 5xx.
    pub(super) statuses: [f64; 4],
    pub(super) half_within: Option<f64>,
    pub(super) most_within: Option<f64>,
}

/// What is shown of an upstream.
#[derive(Debug)]
pub(super) struct UpstreamRow {
    pub(super) group: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) requests: f64,
    pub(super) in_flight: f64,
    pub(super) idle: f64,
    /// Means; not a number without an observation.
    pub(super) connect: f64,
    pub(super) response: f64,
    pub(super) retries: f64,
    pub(super) failures: f64,
}

impl Figures {
    pub(super) fn new(span: &Span<'_>) -> Self {
        let now = span.now();
        let build = now.family("xps_build_info").first();
        let label = |name: &str| build.map_or("", |build| build.label(name)).to_owned();
        let (backend, reason) = (label("backend"), label("reason"));
        let started = now.sum("process_start_time_seconds", &[]);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: label("version"),
            backend: if reason.is_empty() { backend } else { format!("{backend} ({reason})") },
            workers: now.sum("xps_workers", &[]),
            uptime: (started > 0.0).then(|| since_1970.saturating_sub(Duration::from_secs_f64(started))),
            totals: Totals::new(span),
            routes: kinds(now, REQUESTS, ["host", "route"]).map(|labels| RouteRow::new(span, labels)).collect(),
            upstreams: (kinds(now, "xps_upstream_requests_total", ["group", "address"]))
                .map(|labels| UpstreamRow::new(span, labels))
                .collect(),
        }
    }
}

impl Totals {
    fn new(span: &Span<'_>) -> Self {
        let now = span.now();
        let requests = span.grown(REQUESTS, &[]);
        Self {
            requests: span.rate(REQUESTS, &[]),
            in_flight: now.sum("xps_route_requests", &[]),
            failed: span.grown("xps_http_responses_total", &[("class", "5xx")])
                / span.grown("xps_http_responses_total", &[]),
            half_within: span.quantile(DURATION, 0.5, &[]),
            most_within: span.quantile(DURATION, 0.99, &[]),
            connections: now.sum("xps_connections", &[]),
            accepted: span.rate("xps_connections_accepted_total", &[]),
            sent_bytes: span.rate("xps_sent_bytes_total", &[]),
            received_bytes: span.rate("xps_received_bytes_total", &[]),
            processors: span.rate("process_cpu_seconds_total", &[]),
            processor_time: span.grown("process_cpu_seconds_total", &[]) / requests,
            ring_enters: span.grown("xps_ring_enters_total", &[]) / requests,
            memory_bytes: now.sum("process_resident_memory_bytes", &[]),
            descriptors: now.sum("process_open_fds", &[]),
        }
    }
}

impl RouteRow {
    fn new(span: &Span<'_>, [host, route]: [&str; 2]) -> Self {
        let labels: Labels<'_> = &[("host", host), ("route", route)];
        let responses = |class| span.now().sum(REQUESTS, &[("host", host), ("route", route), ("status", class)]);
        Self {
            host: host.to_owned(),
            route: route.to_owned(),
            requests: span.rate(REQUESTS, labels),
            statuses: ["2xx", "3xx", "4xx", "5xx"].map(responses),
            half_within: span.quantile(DURATION, 0.5, labels),
            most_within: span.quantile(DURATION, 0.99, labels),
        }
    }
}

impl UpstreamRow {
    fn new(span: &Span<'_>, [group, address]: [&str; 2]) -> Self {
        let (now, labels): (_, Labels<'_>) = (span.now(), &[("group", group), ("address", address)]);
        let mean =
            |name: &str| span.grown(&format!("{name}_sum"), labels) / span.grown(&format!("{name}_count"), labels);
        let is_this = |series: &&super::exposition::Series| {
            series.label("group") == group && series.label("address") == address && series.value() > 0.0
        };
        let state = now.family("xps_upstream_state").iter().find(is_this).map_or("", |series| series.label("state"));
        Self {
            group: group.to_owned(),
            address: address.to_owned(),
            state: state.to_owned(),
            requests: span.rate("xps_upstream_requests_total", labels),
            in_flight: now.sum("xps_upstream_in_flight", labels),
            idle: now.sum("xps_upstream_idle_connections", labels),
            connect: mean("xps_upstream_connect_seconds"),
            response: mean("xps_upstream_response_seconds"),
            retries: now.sum("xps_upstream_retries_total", labels),
            failures: now.sum("xps_upstream_failures_total", labels),
        }
    }
}

/// The distinct values of two labels of a family, in the order of the text.
fn kinds<'m>(moment: &'m Moment, family: &str, labels: [&str; 2]) -> impl Iterator<Item = [&'m str; 2]> {
    let mut known: Vec<[&str; 2]> = Vec::new();
    for series in moment.family(family) {
        let values = labels.map(|label| series.label(label));
        if !known.contains(&values) {
            known.push(values);
        }
    }
    known.into_iter()
}
