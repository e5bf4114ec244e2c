//! What is counted of the endpoints of each upstream group.
//!
//! The series are those of the configuration, by group and address: a reload that keeps both keeps the
//! counts.

use std::sync::Arc;

use super::count::Count;
use super::histogram::{Distribution, Histogram};

/// What names the series of an endpoint. Endpoints with the same labels share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointLabels {
    /// The name of its group: host and path of the route that forwards to it, or the listener of a TCP proxy.
    pub group: String,
    /// Its configured address.
    pub address: String,
}

/// Why an attempt to use an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndpointFailure {
    /// Its name was not resolved.
    Resolve,
    /// It did not accept the connection.
    Connect,
    /// It did not accept the connection in time, or its name was not resolved in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// It broke off, was too slow or sent something malformed after the connection was there.
    Response,
}

impl EndpointFailure {
    pub(super) const ALL: [Self; 5] = [Self::Resolve, Self::Connect, Self::ConnectTimeout, Self::Tls, Self::Response];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Response => "response",
        }
    }
}

/// What the workers say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointState {
    /// How many of them do not use it without restriction.
    pub workers_down: u64,
    /// Requests and TCP connections in progress.
    pub in_flight: u64,
}

/// The cells of an endpoint, for each worker.
#[derive(Debug)]
pub(super) struct EndpointSeries {
    workers: Box<[Arc<EndpointCells>]>,
}

/// What one worker counts of an endpoint, aligned so that workers do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct EndpointCells {
    /// 1: the worker does not use it without restriction.
    is_down: Count,
    requests: Count,
    in_flight: Count,
    /// Requests that wait for the group. Those of a group are counted at its first endpoint.
    queued: Count,
    idle: Count,
    retries: Count,
    failures: [Count; EndpointFailure::ALL.len()],
    checks_passed: Count,
    checks_failed: Count,
    connect: Histogram,
    response: Histogram,
}

/// A handle to what one worker counts of an endpoint, for this worker alone.
#[derive(Clone, Debug, Default)]
pub struct EndpointCounters {
    cells: Arc<EndpointCells>,
}

impl EndpointCounters {
    /// Whether both count the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cells, &other.cells)
    }

    /// Counts a request that is given to the endpoint.
    pub fn begin(&self) {
        self.cells.requests.add(1);
        self.cells.in_flight.add(1);
    }

    /// Counts a request that has left it.
    pub fn end(&self) {
        self.cells.in_flight.subtract(1);
    }

    /// Sets whether it takes requests without restriction.
    pub fn set_up(&self, is_up: bool) {
        self.cells.is_down.set(u64::from(!is_up));
    }

    /// Notes how the number of requests that wait for its group has changed.
    pub fn change_queued(&self, from: usize, to: usize) {
        self.cells.queued.add(to as u64);
        self.cells.queued.subtract(from as u64);
    }

    /// Sets the number of idle connections to its address.
    pub fn set_idle(&self, idle: usize) {
        self.cells.idle.set(idle as u64);
    }

    /// Counts a request that is tried again after this endpoint.
    pub fn count_retry(&self) {
        self.cells.retries.add(1);
    }

    /// Counts a failure.
    pub fn count_failure(&self, failure: EndpointFailure) {
        self.cells.failures[failure as usize].add(1);
    }

    /// Counts a health check.
    pub fn count_check(&self, has_passed: bool) {
        if has_passed { &self.cells.checks_passed } else { &self.cells.checks_failed }.add(1);
    }

    /// Counts a connection, and how long it took.
    pub fn count_connect(&self, nanos: u64) {
        self.cells.connect.count(nanos);
    }

    /// Counts a response, and how long its head took.
    pub fn count_response(&self, nanos: u64) {
        self.cells.response.count(nanos);
    }
}

/// The sums of a series over all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct EndpointSums {
    pub(super) down: u64,
    pub(super) requests: u64,
    pub(super) in_flight: u64,
    pub(super) queued: u64,
    pub(super) idle: u64,
    pub(super) retries: u64,
    pub(super) failures: [u64; EndpointFailure::ALL.len()],
    pub(super) checks_passed: u64,
    pub(super) checks_failed: u64,
    pub(super) connect: Distribution,
    pub(super) response: Distribution,
}

impl EndpointSeries {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Arc::default()).collect() }
    }

    pub(super) fn of_worker(&self, number: usize) -> Option<EndpointCounters> {
        self.workers.get(number).map(|cells| EndpointCounters { cells: Arc::clone(cells) })
    }

    pub(super) fn state(&self) -> EndpointState {
        let EndpointSums { down, in_flight, .. } = self.sums();
        EndpointState { workers_down: down, in_flight }
    }

    pub(super) fn sums(&self) -> EndpointSums {
        let mut sums = EndpointSums::default();
        for cells in &self.workers {
            sums.down += cells.is_down.get();
            sums.requests += cells.requests.get();
            // Begun before and ended after a reload, both in the same cell: never below 0.
            sums.in_flight = sums.in_flight.wrapping_add(cells.in_flight.get());
            sums.queued = sums.queued.wrapping_add(cells.queued.get());
            sums.idle += cells.idle.get();
            sums.retries += cells.retries.get();
            sums.failures.iter_mut().zip(&cells.failures).for_each(|(sum, count)| *sum += count.get());
            sums.checks_passed += cells.checks_passed.get();
            sums.checks_failed += cells.checks_failed.get();
            cells.connect.add_to(&mut sums.connect);
            cells.response.add_to(&mut sums.response);
        }
        sums
    }
}
