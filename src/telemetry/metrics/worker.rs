//! What one worker counts for itself.

use std::sync::{Arc, OnceLock};

use super::count::Count;
use super::routes::{RouteCells, class_of};
use super::{CLOSE_REASONS, ExchangeFacts, Http2Limit, Metrics, TimeoutKind, proc};
use crate::driver::Counters;
use crate::http::Version;

/// The cells of one worker, aligned to 128 bytes so that workers do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct WorkerCells {
    /// Its thread, if that is known.
    pub(super) thread: OnceLock<String>,
    pub(super) connections_accepted: Count,
    pub(super) connections: Count,
    pub(super) handshakes: Count,
    pub(super) handshakes_displaced: Count,
    pub(super) upstream_connections: Count,
    pub(super) upstream_connections_idle: Count,
    pub(super) operations: Count,
    /// Of clients, plaintext.
    pub(super) received_bytes: Count,
    pub(super) sent_bytes: Count,
    /// By kind, in the order of [`TimeoutKind::ALL`].
    pub(super) timeouts: [Count; TimeoutKind::ALL.len()],
    pub(super) rate_limited: Count,
    /// Connections that were refused.
    pub(super) refused: Count,
    /// Connections that have ended, in the order of [`CLOSE_REASONS`].
    pub(super) ended: [Count; CLOSE_REASONS.len()],
    /// TLS 1.3 and resumed, in the order of [`HANDSHAKES`].
    pub(super) handshakes_complete: [Count; HANDSHAKES.len()],
    pub(super) handshakes_failed: Count,
    pub(super) cache_hits: Count,
    pub(super) cache_misses: Count,
    pub(super) compressions: Count,
    /// In the order of [`DRIVER_COUNTERS`].
    pub(super) driver: [Count; DRIVER_COUNTERS.len()],
    /// By the first digit of the status, 1 to 5.
    pub(super) responses: [Count; 5],
    /// Requests that no route serves.
    pub(super) unmatched: RouteCells,
    pub(super) errors: Count,
    /// By version, in the order of [`VERSIONS`].
    pub(super) requests: [Count; VERSIONS.len()],
    pub(super) http2_connections: Count,
    pub(super) http2_streams: Count,
    /// By limit, in the order of [`Http2Limit::ALL`].
    pub(super) http2_limits: [Count; Http2Limit::ALL.len()],
    /// HTTP exchanges that have begun, less those that have ended.
    pub(super) exchanges: Count,
    pub(super) upstreams_up: Count,
    pub(super) upstreams_down: Count,
    pub(super) checks_passed: Count,
    pub(super) checks_failed: Count,
}

/// A family of the driver's totals: its name, its help, and the total.
type DriverCounter = (&'static str, &'static str, fn(&Counters) -> u64);

/// The families of the driver's totals.
pub(super) const DRIVER_COUNTERS: [DriverCounter; 9] = [
    ("xps_ring_enters_total", "Calls of io_uring_enter or epoll_wait.", |of| of.enters),
    (
        "xps_ring_submissions_total",
        "Ring entries submitted; with epoll, operations started and system calls attempted.",
        |of| of.submissions,
    ),
    ("xps_ring_completions_total", "Outcomes of operations.", |of| of.completions),
    ("xps_ring_rearms_total", "Multishot operations armed again after the kernel had ended them.", |of| of.rearms),
    ("xps_ring_buffers_exhausted_total", "Receives that found no buffer and had to wait.", |of| of.buffers_exhausted),
    ("xps_ring_accept_pauses_total", "Pauses of accepting, for lack of descriptors or memory.", |of| of.accept_pauses),
    ("xps_ring_short_sends_total", "Sends of which the kernel took only a part.", |of| of.short_sends),
    ("xps_ring_promotions_total", "Sockets that were switched to large receive buffers.", |of| of.promotions),
    (
        "xps_ring_overflows_total",
        "Calls of io_uring_enter that left completions in kernel memory, because the completion queue was full.",
        |of| of.overflows,
    ),
];

/// The values of the labels `version` and `resumed` of TLS handshakes.
pub(super) const HANDSHAKES: [(&str, &str); 4] =
    [("TLSv1.2", "no"), ("TLSv1.2", "yes"), ("TLSv1.3", "no"), ("TLSv1.3", "yes")];

/// The values of the label `version`.
pub(super) const VERSIONS: [&str; 3] = ["1.0", "1.1", "2.0"];

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
    /// Upstreams that this worker checks and has found up.
    pub upstreams_up: usize,
    /// Upstreams that this worker checks and has found down.
    pub upstreams_down: usize,
    /// Look-ups in the file cache that found a valid result, since the start.
    pub cache_hits: u64,
    /// Those that did not.
    pub cache_misses: u64,
    /// Files that were compressed, since the start.
    pub compressions: u64,
}

/// A handle to the cells of one worker, for this worker alone.
#[derive(Clone, Debug)]
pub struct WorkerCounters {
    metrics: Arc<Metrics>,
    cells: Arc<WorkerCells>,
}

impl WorkerCounters {
    /// A handle to the cells of this worker. What a worker counts that the metrics do not know is not
    /// rendered.
    pub fn new(metrics: Arc<Metrics>, worker: usize) -> Self {
        let cells = metrics.workers.get(worker).map(Arc::clone).unwrap_or_default();
        Self { metrics, cells }
    }

    /// A handle that shows these metrics and counts nothing: for requests of those who operate the server.
    pub fn observing(metrics: Arc<Metrics>) -> Self {
        Self::new(metrics, usize::MAX)
    }

    /// Counters of a single worker outside a server, as for a client or a test.
    pub fn standalone() -> Self {
        Self::new(Metrics::new(1), 0)
    }

    /// Notes that the calling thread is that of the worker.
    pub fn note_thread(&self) {
        if let Some(thread) = proc::this_thread() {
            // A worker has one thread.
            let _ = self.cells.thread.set(thread);
        }
    }

    /// Stores the driver's totals.
    pub fn set_driver(&self, counters: &Counters) {
        for (cell, (_, _, total)) in self.cells.driver.iter().zip(DRIVER_COUNTERS) {
            cell.set(total(counters));
        }
    }

    /// The metrics of all workers.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Counts an accepted connection.
    pub fn count_accepted(&self) {
        self.cells.connections_accepted.add(1);
    }

    /// Counts a connection that is refused. It ends as all others do.
    pub fn count_refused(&self) {
        self.cells.refused.add(1);
    }

    /// Counts a connection that has ended. `close_reason`: one of [`CLOSE_REASONS`].
    pub fn count_end(&self, close_reason: &str) {
        let at = CLOSE_REASONS.iter().position(|known| *known == close_reason);
        if let Some(ended) = at.and_then(|at| self.cells.ended.get(at)) {
            ended.add(1);
        }
    }

    /// Counts a TLS handshake that is closed for another one.
    pub fn count_displaced(&self) {
        self.cells.handshakes_displaced.add(1);
    }

    /// Counts a TLS handshake of a client that is complete. `version`: as `TLSv1.3`.
    pub fn count_handshake(&self, version: &str, is_resumed: bool) {
        let resumed = if is_resumed { "yes" } else { "no" };
        if let Some(at) = HANDSHAKES.iter().position(|labels| *labels == (version, resumed)) {
            self.cells.handshakes_complete[at].add(1);
        }
    }

    /// Counts a TLS handshake of a client that fails, or is not complete in time.
    pub fn count_handshake_failed(&self) {
        self.cells.handshakes_failed.add(1);
    }

    /// Counts bytes of plaintext from a client.
    pub fn count_received(&self, bytes: u64) {
        self.cells.received_bytes.add(bytes);
    }

    /// Counts bytes of plaintext that the kernel has taken for a client.
    pub fn count_sent(&self, bytes: u64) {
        self.cells.sent_bytes.add(bytes);
    }

    /// Counts a client that has not done something in time.
    pub fn count_timeout(&self, kind: TimeoutKind) {
        self.cells.timeouts[kind as usize].add(1);
    }

    /// Counts a request that exceeds the rate of its client.
    pub fn count_rate_limited(&self) {
        self.cells.rate_limited.add(1);
    }

    /// Counts an HTTP exchange that begins.
    pub fn begin_exchange(&self) {
        self.cells.exchanges.add(1);
    }

    /// Counts an HTTP exchange that ends with this status; 499 if its connection ended before a
    /// response.
    pub fn end_exchange(&self, status: u16) {
        self.cells.exchanges.subtract(1);
        self.cells.responses[class_of(status)].add(1);
    }

    /// Counts an exchange that ends and that no route has served.
    pub fn count_unmatched(&self, facts: &ExchangeFacts) {
        self.cells.unmatched.pass(facts);
    }

    /// HTTP exchanges that have begun, less those that have ended.
    pub fn exchanges(&self) -> i64 {
        self.cells.exchanges.get().cast_signed()
    }

    /// Counts a request with a valid head.
    pub fn count_request(&self, version: Version) {
        let at = match version {
            Version::Http10 => 0,
            Version::Http11 => 1,
            Version::Http2 => 2,
        };
        self.cells.requests[at].add(1);
    }

    /// Counts an HTTP/2 connection whose preface has come.
    pub fn count_http2_connection(&self) {
        self.cells.http2_connections.add(1);
    }

    /// Counts an HTTP/2 stream that a client opens.
    pub fn count_http2_stream(&self) {
        self.cells.http2_streams.add(1);
    }

    /// Counts that an HTTP/2 client exceeds a limit.
    pub fn count_http2_limit(&self, limit: Http2Limit) {
        if let Some(counter) = self.cells.http2_limits.get(limit as usize) {
            counter.add(1);
        }
    }

    /// Counts a request that is refused without a valid head.
    pub fn count_error(&self) {
        self.cells.errors.add(1);
    }

    /// Counts a health check of an upstream.
    pub fn count_check(&self, has_passed: bool) {
        if has_passed { &self.cells.checks_passed } else { &self.cells.checks_failed }.add(1);
    }

    /// Stores the current gauges.
    pub fn set(&self, gauges: Gauges) {
        let cells = &self.cells;
        cells.connections.set(gauges.connections as u64);
        cells.handshakes.set(gauges.handshakes as u64);
        cells.upstream_connections.set(gauges.upstream_connections as u64);
        cells.upstream_connections_idle.set(gauges.upstream_connections_idle as u64);
        cells.operations.set(gauges.operations as u64);
        cells.upstreams_up.set(gauges.upstreams_up as u64);
        cells.upstreams_down.set(gauges.upstreams_down as u64);
        cells.cache_hits.set(gauges.cache_hits);
        cells.cache_misses.set(gauges.cache_misses);
        cells.compressions.set(gauges.compressions);
    }
}
