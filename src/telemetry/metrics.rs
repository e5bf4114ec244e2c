//! Metrics of a server, in the text format of Prometheus.
//!
//! Each worker has its own counters, so counting costs one addition and needs no lock. A scrape sums
//! them; the values of the workers are read at slightly different moments.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::Version;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of all workers of a server.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[WorkerMetrics]>,
    /// Certificates of the listeners. Locked only by a reload, a renewal and a scrape.
    certificates: Mutex<Vec<CertificateExpiry>>,
    /// Locked as seldom.
    acme: Mutex<AcmeMetrics>,
}

/// Certificates that are obtained by ACME.
#[derive(Debug, Default)]
struct AcmeMetrics {
    obtained: u64,
    failed: u64,
    /// Host names, and when the next attempt for each is, in seconds since 1970.
    attempts: Vec<(String, i64)>,
}

/// When a certificate expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// Its file.
    pub certificate: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// The counters of one worker, aligned to 128 bytes so that workers do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    connections_accepted: AtomicU64,
    connections: AtomicU64,
    handshakes: AtomicU64,
    handshakes_displaced: AtomicU64,
    upstream_connections: AtomicU64,
    upstream_connections_idle: AtomicU64,
    operations: AtomicU64,
    /// By the first digit of the status, 1 to 5.
    responses: [AtomicU64; 5],
    errors: AtomicU64,
    /// By version, in the order of [`VERSIONS`].
    requests: [AtomicU64; VERSIONS.len()],
    http2_connections: AtomicU64,
    http2_streams: AtomicU64,
    /// By limit, in the order of [`Http2Limit::ALL`].
    http2_limits: [AtomicU64; Http2Limit::ALL.len()],
    /// HTTP exchanges that have begun, less those that have ended.
    exchanges: AtomicU64,
    upstreams_up: AtomicU64,
    upstreams_down: AtomicU64,
    checks_passed: AtomicU64,
    checks_failed: AtomicU64,
}

/// The values of the label `version`.
const VERSIONS: [&str; 3] = ["1.0", "1.1", "2.0"];

/// A limit of HTTP/2 connections, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Http2Limit {
    /// More concurrent streams than the client may open.
    StreamsMax,
    /// More of all bodies than the client may send.
    ConnectionWindow,
    /// More of one body than the client may send.
    StreamWindow,
    /// Too many RST_STREAM frames a second.
    ResetsPerSecond,
    /// Too many streams reset before their responses began.
    EarlyResets,
    /// Too many streams that the server had to reset.
    ResetsEmitted,
    /// Too many CONTINUATION frames of a head.
    ContinuationsMax,
    /// Too many PING frames a second.
    PingsPerSecond,
    /// Too many SETTINGS frames a second.
    SettingsPerSecond,
    /// Too many empty DATA frames a second.
    EmptyDataPerSecond,
    /// Too many useless or wrong frames.
    GlitchesMax,
    /// Too many bytes that are neither heads nor bodies.
    OverheadBytes,
    /// Too many bytes of heads that wait.
    HeldHeads,
}

impl Http2Limit {
    /// All limits, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::StreamsMax,
        Self::ConnectionWindow,
        Self::StreamWindow,
        Self::ResetsPerSecond,
        Self::EarlyResets,
        Self::ResetsEmitted,
        Self::ContinuationsMax,
        Self::PingsPerSecond,
        Self::SettingsPerSecond,
        Self::EmptyDataPerSecond,
        Self::GlitchesMax,
        Self::OverheadBytes,
        Self::HeldHeads,
    ];

    /// The value of the label `limit`: its key in `limits.http2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StreamsMax => "streams_max",
            Self::ConnectionWindow => "connection_window",
            Self::StreamWindow => "stream_window",
            Self::ResetsPerSecond => "resets_per_second",
            Self::EarlyResets => "early_resets",
            Self::ResetsEmitted => "resets_emitted",
            Self::ContinuationsMax => "continuations_max",
            Self::PingsPerSecond => "pings_per_second",
            Self::SettingsPerSecond => "settings_per_second",
            Self::EmptyDataPerSecond => "empty_data_per_second",
            Self::GlitchesMax => "glitches_max",
            Self::OverheadBytes => "overhead_bytes",
            Self::HeldHeads => "held_heads",
        }
    }
}

/// Values of a worker at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Open client connections.
    pub connections: usize,
    /// Those of them whose TLS handshake is in progress.
    pub handshakes: usize,
    /// Connections to upstreams, including idle ones.
    pub upstream_connections: usize,
    /// Idle connections to upstreams, kept for reuse.
    pub upstream_connections_idle: usize,
    /// Operations in flight.
    pub operations: usize,
    /// Upstreams with health checks that are up.
    pub upstreams_up: usize,
    /// Upstreams with health checks that are down.
    pub upstreams_down: usize,
}

/// A handle to the counters of one worker.
#[derive(Clone, Debug)]
pub struct WorkerCounters {
    metrics: Arc<Metrics>,
    worker: usize,
}

impl Metrics {
    /// Metrics for this number of workers, at least one.
    pub fn new(workers: usize) -> Arc<Self> {
        let workers = (0..workers.max(1)).map(|_| WorkerMetrics::default()).collect();
        Arc::new(Self { workers, certificates: Mutex::default(), acme: Mutex::default() })
    }

    /// Sets the certificates that the listeners serve from now on.
    pub fn set_certificates(&self, mut certificates: Vec<CertificateExpiry>) {
        // A file that several listeners name is one sample: a scraper refuses two with the same label.
        certificates.sort_by(|a, b| a.certificate.cmp(&b.certificate).then(a.not_after.cmp(&b.not_after)));
        certificates.dedup_by(|a, b| a.certificate == b.certificate);
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = certificates;
    }

    /// Adds a certificate that the listeners serve from now on, or replaces the one of this name.
    pub fn set_certificate(&self, expiry: CertificateExpiry) {
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.retain(|known| known.certificate != expiry.certificate);
        certificates.push(expiry);
        certificates.sort_by(|a, b| a.certificate.cmp(&b.certificate));
    }

    /// Counts an attempt to obtain a certificate by ACME.
    pub fn count_acme(&self, is_obtained: bool) {
        let mut acme = self.acme.lock().unwrap_or_else(PoisonError::into_inner);
        *(if is_obtained { &mut acme.obtained } else { &mut acme.failed }) += 1;
    }

    /// Sets the host names whose certificates are obtained by ACME, and when the next attempt for each is,
    /// in seconds since 1970.
    pub fn set_acme_attempts(&self, mut attempts: Vec<(String, i64)>) {
        // A name that several authorities certify is one sample: the one that is due first.
        attempts.sort();
        attempts.dedup_by(|a, b| a.0 == b.0);
        self.acme.lock().unwrap_or_else(PoisonError::into_inner).attempts = attempts;
    }

    /// Open client connections of all workers.
    pub fn connections(&self) -> u64 {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).sum()
    }

    /// All metrics, in the text format of Prometheus.
    pub fn text(&self) -> String {
        let sum = |counter: fn(&WorkerMetrics) -> &AtomicU64| -> u64 {
            self.workers.iter().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
        };
        let mut text = String::with_capacity(2048);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        family("xps_workers", "gauge", "Worker threads.", &[("", self.workers.len() as u64)]);
        let accepted = sum(|worker| &worker.connections_accepted);
        family("xps_connections_accepted_total", "counter", "Accepted connections.", &[("", accepted)]);
        family("xps_connections", "gauge", "Open client connections.", &[("", sum(|worker| &worker.connections))]);
        let handshakes = sum(|worker| &worker.handshakes);
        family("xps_tls_handshakes", "gauge", "TLS handshakes of clients in progress.", &[("", handshakes)]);
        let displaced = sum(|worker| &worker.handshakes_displaced);
        let help = "TLS handshakes closed as the oldest of too many.";
        family("xps_tls_handshakes_displaced_total", "counter", help, &[("", displaced)]);
        let responses: Vec<(String, u64)> = (1..=5)
            .map(|class: usize| {
                let count = self.workers.iter().map(|worker| worker.responses[class - 1].load(Ordering::Relaxed)).sum();
                (format!("{{class=\"{class}xx\"}}"), count)
            })
            .collect();
        let responses: Vec<(&str, u64)> = responses.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
        family(
            "xps_http_responses_total",
            "counter",
            "HTTP responses that have ended, by status class; 4xx with those that never began (499).",
            &responses,
        );
        let errors = sum(|worker| &worker.errors);
        family("xps_http_errors_total", "counter", "Requests refused without a valid request head.", &[("", errors)]);
        let requests: Vec<(String, u64)> = (VERSIONS.iter().enumerate())
            .map(|(at, version)| {
                let count = self.workers.iter().map(|worker| worker.requests[at].load(Ordering::Relaxed)).sum();
                (format!("{{version=\"{version}\"}}"), count)
            })
            .collect();
        let requests: Vec<(&str, u64)> = requests.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
        let help = "HTTP requests with a valid head, by the version that the client speaks.";
        family("xps_http_requests_total", "counter", help, &requests);
        let connections = sum(|worker| &worker.http2_connections);
        family(
            "xps_http2_connections_total",
            "counter",
            "HTTP/2 connections that have brought a request.",
            &[("", connections)],
        );
        let streams = sum(|worker| &worker.http2_streams);
        family("xps_http2_streams_total", "counter", "HTTP/2 streams that clients have opened.", &[("", streams)]);
        let limits: Vec<(String, u64)> = (Http2Limit::ALL.iter().enumerate())
            .map(|(at, limit)| {
                let count = self.workers.iter().map(|worker| worker.http2_limits[at].load(Ordering::Relaxed)).sum();
                (format!("{{limit=\"{}\"}}", limit.name()), count)
            })
            .collect();
        let limits: Vec<(&str, u64)> = limits.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
        let help = "How often HTTP/2 clients exceeded a limit of limits.http2.";
        family("xps_http2_limits_total", "counter", help, &limits);
        let all = sum(|worker| &worker.upstream_connections);
        let idle = sum(|worker| &worker.upstream_connections_idle);
        let samples = [("{state=\"used\"}", all.saturating_sub(idle)), ("{state=\"idle\"}", idle)];
        family("xps_upstream_connections", "gauge", "Connections to upstreams.", &samples);
        let states = [
            ("{state=\"up\"}", sum(|worker| &worker.upstreams_up)),
            ("{state=\"down\"}", sum(|worker| &worker.upstreams_down)),
        ];
        family("xps_upstreams", "gauge", "Upstreams with health checks, summed over workers.", &states);
        let results = [
            ("{result=\"passed\"}", sum(|worker| &worker.checks_passed)),
            ("{result=\"failed\"}", sum(|worker| &worker.checks_failed)),
        ];
        family("xps_health_checks_total", "counter", "Health checks of upstreams.", &results);
        let operations = sum(|worker| &worker.operations);
        family("xps_operations", "gauge", "Operations in flight in the kernel.", &[("", operations)]);
        let certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let expiries: Vec<(String, u64)> = certificates
            .iter()
            .map(|CertificateExpiry { certificate, not_after }| {
                (format!("{{certificate=\"{}\"}}", escaped(certificate)), u64::try_from(*not_after).unwrap_or(0))
            })
            .collect();
        if !expiries.is_empty() {
            let samples: Vec<(&str, u64)> = expiries.iter().map(|(labels, at)| (labels.as_str(), *at)).collect();
            let help = "When the certificate expires, in seconds since 1970.";
            family("xps_tls_certificate_expiry_timestamp_seconds", "gauge", help, &samples);
        }
        let acme = self.acme.lock().unwrap_or_else(PoisonError::into_inner);
        if !acme.attempts.is_empty() {
            let results = [("{result=\"obtained\"}", acme.obtained), ("{result=\"failed\"}", acme.failed)];
            family("xps_acme_attempts_total", "counter", "Attempts to obtain a certificate by ACME.", &results);
            let attempts: Vec<(String, u64)> = (acme.attempts.iter())
                .map(|(domain, at)| (format!("{{domain=\"{}\"}}", escaped(domain)), u64::try_from(*at).unwrap_or(0)))
                .collect();
            let samples: Vec<(&str, u64)> = attempts.iter().map(|(labels, at)| (labels.as_str(), *at)).collect();
            let help = "When the next attempt to obtain or renew the certificate is due, in seconds since 1970.";
            family("xps_acme_next_attempt_timestamp_seconds", "gauge", help, &samples);
        }
        text
    }
}

/// A value of a label (Prometheus, exposition formats: text).
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl WorkerCounters {
    /// A handle to the counters of this worker.
    pub const fn new(metrics: Arc<Metrics>, worker: usize) -> Self {
        Self { metrics, worker }
    }

    /// Counters of a single worker outside a server, as for a client or a test.
    pub fn standalone() -> Self {
        Self { metrics: Metrics::new(1), worker: 0 }
    }

    /// The metrics of all workers.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn own(&self) -> Option<&WorkerMetrics> {
        self.metrics.workers.get(self.worker)
    }

    /// Counts an accepted connection.
    pub fn count_accepted(&self) {
        if let Some(own) = self.own() {
            add(&own.connections_accepted, 1);
        }
    }

    /// Counts a TLS handshake that is closed for another one.
    pub fn count_displaced(&self) {
        if let Some(own) = self.own() {
            add(&own.handshakes_displaced, 1);
        }
    }

    /// Counts an HTTP exchange that begins.
    pub fn begin_exchange(&self) {
        if let Some(own) = self.own() {
            add(&own.exchanges, 1);
        }
    }

    /// Counts an HTTP exchange that ends with this status; 499 if its connection ended before a
    /// response.
    pub fn end_exchange(&self, status: u16) {
        let Some(own) = self.own() else { return };
        add(&own.exchanges, u64::MAX);
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = own.responses.get(class) {
            add(counter, 1);
        }
    }

    /// HTTP exchanges that have begun, less those that have ended.
    pub fn exchanges(&self) -> i64 {
        self.own().map_or(0, |own| own.exchanges.load(Ordering::Relaxed) as i64)
    }

    /// Counts a request with a valid head.
    pub fn count_request(&self, version: Version) {
        let Some(own) = self.own() else { return };
        let at = match version {
            Version::Http10 => 0,
            Version::Http11 => 1,
            Version::Http2 => 2,
        };
        add(&own.requests[at], 1);
    }

    /// Counts an HTTP/2 connection whose preface has come.
    pub fn count_http2_connection(&self) {
        if let Some(own) = self.own() {
            add(&own.http2_connections, 1);
        }
    }

    /// Counts an HTTP/2 stream that a client opens.
    pub fn count_http2_stream(&self) {
        if let Some(own) = self.own() {
            add(&own.http2_streams, 1);
        }
    }

    /// Counts that an HTTP/2 client exceeds a limit.
    pub fn count_http2_limit(&self, limit: Http2Limit) {
        if let Some(counter) = self.own().and_then(|own| own.http2_limits.get(limit as usize)) {
            add(counter, 1);
        }
    }

    /// Counts a request that is refused without a valid head.
    pub fn count_error(&self) {
        if let Some(own) = self.own() {
            add(&own.errors, 1);
        }
    }

    /// Counts a health check of an upstream.
    pub fn count_check(&self, has_passed: bool) {
        if let Some(own) = self.own() {
            add(if has_passed { &own.checks_passed } else { &own.checks_failed }, 1);
        }
    }

    /// Stores the current gauges.
    pub fn set(&self, gauges: Gauges) {
        if let Some(own) = self.own() {
            own.connections.store(gauges.connections as u64, Ordering::Relaxed);
            own.handshakes.store(gauges.handshakes as u64, Ordering::Relaxed);
            own.upstream_connections.store(gauges.upstream_connections as u64, Ordering::Relaxed);
            own.upstream_connections_idle.store(gauges.upstream_connections_idle as u64, Ordering::Relaxed);
            own.operations.store(gauges.operations as u64, Ordering::Relaxed);
            own.upstreams_up.store(gauges.upstreams_up as u64, Ordering::Relaxed);
            own.upstreams_down.store(gauges.upstreams_down as u64, Ordering::Relaxed);
        }
    }
}

/// Adds without a read-modify-write: only its own worker writes to a counter. `u64::MAX` is -1.
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let metrics = Metrics::new(2);
        for worker in 0..2 {
            let counters = WorkerCounters::new(Arc::clone(&metrics), worker);
            counters.count_accepted();
            for status in [200, 404, 999] {
                counters.begin_exchange();
                assert_eq!(counters.exchanges(), 1);
                counters.end_exchange(status);
            }
            counters.end_exchange(404);
            assert_eq!(counters.exchanges(), -1);
            counters.set(Gauges {
                connections: 3,
                handshakes: 2,
                upstream_connections: 5,
                upstream_connections_idle: 1,
                operations: 7,
                upstreams_up: 2,
                upstreams_down: 1,
            });
            counters.count_check(true);
            counters.count_check(false);
            counters.count_displaced();
            for version in [Version::Http10, Version::Http11, Version::Http11, Version::Http2] {
                counters.count_request(version);
            }
            counters.count_http2_connection();
            counters.count_http2_stream();
            Http2Limit::ALL.into_iter().for_each(|limit| counters.count_http2_limit(limit));
            counters.count_http2_limit(Http2Limit::EarlyResets);
        }
        let text = metrics.text();
        for line in [
            "xps_workers 2",
            "xps_connections_accepted_total 2",
            "xps_connections 6",
            "xps_tls_handshakes 4",
            "xps_tls_handshakes_displaced_total 2",
            "xps_http_responses_total{class=\"2xx\"} 2",
            "xps_http_responses_total{class=\"4xx\"} 4",
            "xps_http_responses_total{class=\"5xx\"} 0",
            "xps_http_requests_total{version=\"1.0\"} 2",
            "xps_http_requests_total{version=\"1.1\"} 4",
            "xps_http_requests_total{version=\"2.0\"} 2",
            "xps_http2_connections_total 2",
            "xps_http2_streams_total 2",
            "xps_http2_limits_total{limit=\"streams_max\"} 2",
            "xps_http2_limits_total{limit=\"early_resets\"} 4",
            "xps_http2_limits_total{limit=\"held_heads\"} 2",
            "xps_upstream_connections{state=\"used\"} 8",
            "xps_operations 14",
            "xps_upstreams{state=\"up\"} 4",
            "xps_upstreams{state=\"down\"} 2",
            "xps_health_checks_total{result=\"passed\"} 2",
            "xps_health_checks_total{result=\"failed\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn certificates_are_there_once_each_with_escaped_names() {
        let metrics = Metrics::new(1);
        assert!(!metrics.text().contains("certificate"));
        let expiry =
            |certificate: &str, not_after| CertificateExpiry { certificate: certificate.to_owned(), not_after };
        metrics.set_certificates(vec![expiry("/b", 7), expiry("/a\"\\\n", 9), expiry("/b", 8)]);
        let text = metrics.text();
        let samples: Vec<&str> = text.lines().filter(|line| line.starts_with("xps_tls_certificate")).collect();
        let name = "xps_tls_certificate_expiry_timestamp_seconds";
        let expected = [format!(r#"{name}{{certificate="/a\"\\\n"}} 9"#), format!(r#"{name}{{certificate="/b"}} 7"#)];
        assert_eq!(samples, expected);
    }

    #[test]
    fn attempts_by_acme_are_counted_once_there_is_a_name() {
        let metrics = Metrics::new(1);
        metrics.count_acme(true);
        assert!(!metrics.text().contains("acme"));
        metrics.count_acme(false);
        metrics.count_acme(false);
        metrics.set_acme_attempts(vec![("b.org".to_owned(), 9), ("a.org".to_owned(), 7), ("b.org".to_owned(), 8)]);
        let expiry = |not_after| CertificateExpiry { certificate: "/a".to_owned(), not_after };
        metrics.set_certificate(expiry(1));
        metrics.set_certificate(expiry(2));
        let text = metrics.text();
        let samples: Vec<&str> = text.lines().filter(|line| line.contains("acme") && !line.starts_with('#')).collect();
        let expected = [
            "xps_acme_attempts_total{result=\"obtained\"} 1",
            "xps_acme_attempts_total{result=\"failed\"} 2",
            "xps_acme_next_attempt_timestamp_seconds{domain=\"a.org\"} 7",
            "xps_acme_next_attempt_timestamp_seconds{domain=\"b.org\"} 8",
        ];
        assert_eq!(samples, expected);
        assert_eq!(text.lines().filter(|line| line.starts_with("xps_tls_certificate_")).count(), 1);
    }
}
