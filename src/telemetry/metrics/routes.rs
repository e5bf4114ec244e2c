//! What is counted of the requests of each route.
//!
//! The series are those of the routes of the configuration, so no client can add one. A series
//! belongs to a host and a route by their names: a reload that keeps both keeps the counts.

use std::sync::Arc;

use super::count::Count;
use super::histogram::{Distribution, Histogram};
use crate::http::Method;

/// What names the series of a route. Routes with the same labels share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteLabels {
    /// The first name of the virtual host; `*` for one without a name.
    pub host: String,
    /// The configured name of the route, or its path prefix with a `/` in front.
    pub route: String,
    /// What responds, in one word.
    pub handler: &'static str,
}

/// The cells of a route, for each worker.
#[derive(Debug)]
pub struct RouteSeries {
    pub(super) labels: RouteLabels,
    workers: Box<[Arc<RouteCells>]>,
}

/// What one worker counts of a route, aligned so that workers do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct RouteCells {
    begun: Count,
    /// By method and by the first digit of the status, 1 to 5.
    ended: [[Count; 5]; MethodClass::ALL.len()],
    first_byte: Histogram,
    duration: Histogram,
    longest_nanos: Count,
    received_bytes: Count,
    sent_bytes: Count,
}

/// A handle to what one worker counts of a route, for this worker alone.
#[derive(Debug, Default)]
pub struct RouteCounters {
    cells: Arc<RouteCells>,
}

/// Classes of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MethodClass {
    /// The safe methods of RFC 9110, 9.2.1.
    Read,
    /// Those that create, replace or remove something.
    Write,
    /// All others, and requests without a valid head.
    Other,
}

impl MethodClass {
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Other];

    /// The class of a method.
    pub const fn of(method: Method<'_>) -> Self {
        match method {
            Method::Get | Method::Head | Method::Options | Method::Trace => Self::Read,
            Method::Post | Method::Put | Method::Patch | Method::Delete => Self::Write,
            _ => Self::Other,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

/// The index of a status's class. What is no status counts as 5xx (RFC 9110, 15).
pub(super) const fn class_of(status: u16) -> usize {
    match status {
        0..200 => 0,
        200..300 => 1,
        300..400 => 2,
        400..500 => 3,
        500.. => 4,
    }
}

/// What is counted of an exchange at its end.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeFacts {
    /// The class of its method.
    pub method: MethodClass,
    /// The status; 499 if the connection ended before a response.
    pub status: u16,
    /// From the request's arrival to the beginning of the response; `None`: there was none.
    pub first_byte_nanos: Option<u64>,
    /// From the request's arrival to the end of the response.
    pub nanos: u64,
    /// Bytes of the request's body that went to an upstream.
    pub received_bytes: u64,
    /// Bytes of the response's body, with the framing of chunks.
    pub sent_bytes: u64,
}

impl RouteCounters {
    /// Counts a request that begins.
    pub fn begin(&self) {
        self.cells.begun.add(1);
    }

    /// Counts a request that ends.
    pub fn end(&self, facts: &ExchangeFacts) {
        self.cells.end(facts);
    }
}

impl RouteCells {
    /// Counts a request that begins and ends at once, as far as routes know.
    pub(super) fn pass(&self, facts: &ExchangeFacts) {
        self.begun.add(1);
        self.end(facts);
    }

    #[inline]
    fn end(&self, facts: &ExchangeFacts) {
        self.ended[facts.method as usize][class_of(facts.status)].add(1);
        if let Some(nanos) = facts.first_byte_nanos {
            self.first_byte.count(nanos);
        }
        self.duration.count(facts.nanos);
        if facts.nanos > self.longest_nanos.get() {
            self.longest_nanos.set(facts.nanos);
        }
        self.received_bytes.add(facts.received_bytes);
        self.sent_bytes.add(facts.sent_bytes);
    }
}

/// The sums of a series over all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteSums {
    begun: u64,
    /// As in [`RouteCells`].
    pub(super) ended: [[u64; 5]; MethodClass::ALL.len()],
    pub(super) first_byte: Distribution,
    pub(super) duration: Distribution,
    pub(super) longest_nanos: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

impl RouteSums {
    pub(super) fn add(&mut self, cells: &RouteCells) {
        // What has ended is read first: it has begun by the time that the beginnings are read.
        for (sums, counts) in self.ended.iter_mut().zip(&cells.ended) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count.get();
            }
        }
        self.begun += cells.begun.get();
        cells.first_byte.add_to(&mut self.first_byte);
        cells.duration.add_to(&mut self.duration);
        self.longest_nanos = self.longest_nanos.max(cells.longest_nanos.get());
        self.received_bytes += cells.received_bytes.get();
        self.sent_bytes += cells.sent_bytes.get();
    }

    /// Requests that have begun.
    pub(super) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Requests that have begun and not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended.iter().flatten().sum())
    }
}

impl RouteSeries {
    pub(super) fn new(labels: RouteLabels, workers: usize) -> Self {
        Self { labels, workers: (0..workers).map(|_| Arc::default()).collect() }
    }

    /// The counters of one worker. Those of a worker that the metrics do not know are not rendered.
    pub fn of_worker(&self, number: usize) -> RouteCounters {
        RouteCounters { cells: self.workers.get(number).map(Arc::clone).unwrap_or_default() }
    }

    pub(super) fn sums(&self) -> RouteSums {
        let mut sums = RouteSums::default();
        self.workers.iter().for_each(|cells| sums.add(cells));
        sums
    }
}
