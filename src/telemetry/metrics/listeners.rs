//! What is counted of the connections of each listener.
//!
//! The series are those of the listeners of the configuration, by their addresses: a reload that
//! keeps an address keeps its counts.

use std::sync::Arc;

use super::count::Count;

/// The values of the label `reason` of connections that have ended: the words of the log's
/// `close_reason`.
pub const CLOSE_REASONS: [&str; 19] = [
    "done",
    "upstream_stopped_reading",
    "denied",
    "no_proxy_header",
    "tls_failed",
    "http2_error",
    "client_lost",
    "upstream_lost",
    "client_left",
    "response_truncated",
    "upstream_timeout",
    "upstream_unreachable",
    "file_refused",
    "file_lost",
    "file_not_written",
    "idle_timeout",
    "client_too_slow",
    "stalled",
    "drain_timeout",
];

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefusalKind {
    /// The server or the worker has as many connections as it may have; HTTP clients got a 503.
    Limit,
    /// The access list denies its address.
    Address,
    /// Its address has as many connections as it may have.
    PerAddress,
}

impl RefusalKind {
    pub(super) const ALL: [Self; 3] = [Self::Limit, Self::Address, Self::PerAddress];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Address => "address",
            Self::PerAddress => "per_address",
        }
    }
}

/// The cells of a listener, for each worker.
#[derive(Debug)]
pub struct ListenerSeries {
    pub(super) address: String,
    workers: Box<[Arc<ListenerCells>]>,
}

/// What one worker counts of a listener, aligned so that workers do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ListenerCells {
    accepted: Count,
    refused: [Count; RefusalKind::ALL.len()],
    /// By reason, in the order of [`CLOSE_REASONS`].
    ended: [Count; CLOSE_REASONS.len()],
    received_bytes: Count,
    sent_bytes: Count,
}

/// A handle to what one worker counts of a listener, for this worker alone.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    cells: Arc<ListenerCells>,
}

impl ListenerCounters {
    /// Counts an accepted connection.
    pub fn accept(&self) {
        self.cells.accepted.add(1);
    }

    /// Counts an accepted connection that is refused. It ends as all others do.
    pub fn refuse(&self, kind: RefusalKind) {
        self.cells.refused[kind as usize].add(1);
    }

    /// Counts a connection that has ended, and its bytes of plaintext. `close_reason`: one of
    /// [`CLOSE_REASONS`].
    pub fn end(&self, close_reason: &str, received_bytes: u64, sent_bytes: u64) {
        let at = CLOSE_REASONS.iter().position(|known| *known == close_reason);
        debug_assert!(at.is_some(), "{close_reason} is no reason that is counted");
        if let Some(ended) = at.and_then(|at| self.cells.ended.get(at)) {
            ended.add(1);
        }
        self.cells.received_bytes.add(received_bytes);
        self.cells.sent_bytes.add(sent_bytes);
    }
}

/// The sums of a series over all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerSums {
    pub(super) accepted: u64,
    pub(super) refused: [u64; RefusalKind::ALL.len()],
    pub(super) ended: [u64; CLOSE_REASONS.len()],
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

impl ListenerSums {
    fn add(&mut self, cells: &ListenerCells) {
        // What has ended is read first: it was accepted by the time that the accepted are read.
        self.ended.iter_mut().zip(&cells.ended).for_each(|(sum, count)| *sum += count.get());
        self.refused.iter_mut().zip(&cells.refused).for_each(|(sum, count)| *sum += count.get());
        self.accepted += cells.accepted.get();
        self.received_bytes += cells.received_bytes.get();
        self.sent_bytes += cells.sent_bytes.get();
    }

    /// Connections that have been accepted and have not ended.
    pub(super) fn open(&self) -> u64 {
        self.accepted.saturating_sub(self.ended.iter().sum())
    }
}

impl ListenerSeries {
    pub(super) fn new(address: String, workers: usize) -> Self {
        Self { address, workers: (0..workers).map(|_| Arc::default()).collect() }
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The counters of one worker. Those of a worker that the metrics do not know are not rendered.
    pub fn of_worker(&self, number: usize) -> ListenerCounters {
        ListenerCounters { cells: self.workers.get(number).map(Arc::clone).unwrap_or_default() }
    }

    pub(super) fn sums(&self) -> ListenerSums {
        let mut sums = ListenerSums::default();
        self.workers.iter().for_each(|cells| sums.add(cells));
        sums
    }
}
