//! What one thread has counted. Its size does not depend on how long it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::{ErrorCounts, Interval};
use crate::driver::Time;

/// Why a request has no correct response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The connection could not be established.
    Connect,
    /// The connection was reset or closed before a byte of the response, or it broke.
    Reset,
    /// No complete response within the time-out.
    Timeout,
    /// Another status than expected.
    Status,
    /// The body ended early, or is shorter than expected.
    ShortBody,
    /// The body is another one than expected.
    WrongBody,
    /// The response breaks the rules of its protocol.
    Malformed,
}

/// The times of one request that has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it should have been sent. In a closed loop the time at which it was.
    pub intended: Time,
    /// When it was sent.
    pub sent: Time,
    /// When its response was complete.
    pub done: Time,
}

/// What one thread has counted.
#[derive(Debug)]
pub struct Tally {
    start: Time,
    /// Correct responses.
    pub requests: u64,
    /// Requests that failed.
    pub errors: ErrorCounts,
    /// Complete responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// From sending to the end of the response, in nanoseconds, by class of status (index 0: 1xx). Correct
    /// responses and those whose status alone was not the expected one.
    pub service: [Option<Histogram<u64>>; STATUS_CLASSES],
    /// The same from the intended time; in an open loop.
    pub response: [Option<Histogram<u64>>; STATUS_CLASSES],
    /// Whether [`Tally::response`] is kept.
    is_open_loop: bool,
    /// The time that connecting took.
    pub connect_time: Histogram<u64>,
    /// Delay of decisions to send.
    pub pacing: Histogram<u64>,
    /// The same without the time off the processor.
    pub pacing_on_processor: Histogram<u64>,
    /// Requests that were due and never sent.
    pub unsent: u64,
    /// Bytes received, after decryption.
    pub received_bytes: u64,
    /// Bytes sent, before encryption.
    pub sent_bytes: u64,
    series: Series,
}

/// 1xx to 5xx. What is not HTTP counts as 2xx.
pub const STATUS_CLASSES: usize = 5;

impl Tally {
    /// Nothing counted since `start`.
    pub fn new(start: Time, is_open_loop: bool) -> Self {
        Self {
            start,
            requests: 0,
            errors: ErrorCounts::default(),
            statuses: BTreeMap::new(),
            service: Default::default(),
            response: Default::default(),
            is_open_loop,
            connect_time: new_histogram(),
            pacing: new_histogram(),
            pacing_on_processor: new_histogram(),
            unsent: 0,
            received_bytes: 0,
            sent_bytes: 0,
            series: Series::default(),
        }
    }

    /// When it began to count.
    pub const fn start(&self) -> Time {
        self.start
    }

    /// Counts a complete response. `status`: 0 if the protocol has none. `error`: why it is not correct.
    pub fn on_response(&mut self, status: u16, times: Times, error: Option<ErrorKind>) {
        if status != 0 {
            *self.statuses.entry(status).or_default() += 1;
        }
        if let Some(kind) = error {
            self.on_error(kind, times.done);
            if kind != ErrorKind::Status {
                return;
            }
        }
        let class = if status == 0 { 1 } else { usize::from(status / 100).clamp(1, STATUS_CLASSES) - 1 };
        record(self.service[class].get_or_insert_with(new_histogram), times.done.since(times.sent));
        let mut taken = times.done.since(times.sent);
        if self.is_open_loop {
            taken = times.done.since(times.intended);
            record(self.response[class].get_or_insert_with(new_histogram), taken);
        }
        if error.is_none() {
            self.requests += 1;
            self.series.slot(times.done.since(self.start)).on_response(taken);
        }
    }

    /// Counts a request that failed at `now`.
    pub fn on_error(&mut self, kind: ErrorKind, now: Time) {
        let count = match kind {
            ErrorKind::Connect => &mut self.errors.connect,
            ErrorKind::Reset => &mut self.errors.reset,
            ErrorKind::Timeout => &mut self.errors.timeout,
            ErrorKind::Status => &mut self.errors.status,
            ErrorKind::ShortBody => &mut self.errors.short_body,
            ErrorKind::WrongBody => &mut self.errors.wrong_body,
            ErrorKind::Malformed => &mut self.errors.malformed,
        };
        *count += 1;
        self.series.slot(now.since(self.start)).errors += 1;
    }

    /// Adds what another thread has counted from the same start.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        let ErrorCounts { connect, reset, timeout, status, short_body, wrong_body, malformed } = other.errors;
        self.errors.connect += connect;
        self.errors.reset += reset;
        self.errors.timeout += timeout;
        self.errors.status += status;
        self.errors.short_body += short_body;
        self.errors.wrong_body += wrong_body;
        self.errors.malformed += malformed;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        add_classes(&mut self.service, &other.service);
        add_classes(&mut self.response, &other.response);
        add_histogram(&mut self.connect_time, &other.connect_time);
        add_histogram(&mut self.pacing, &other.pacing);
        add_histogram(&mut self.pacing_on_processor, &other.pacing_on_processor);
        self.unsent += other.unsent;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.series.add(&other.series);
    }

    /// The intervals up to `seconds` after the start.
    pub fn intervals(&self, seconds: f64) -> Vec<Interval> {
        self.series.intervals(seconds)
    }
}

/// All classes together.
pub fn all_classes(classes: &[Option<Histogram<u64>>; STATUS_CLASSES]) -> Histogram<u64> {
    let mut all = new_histogram();
    classes.iter().flatten().for_each(|class| add_histogram(&mut all, class));
    all
}

/// Counts a duration.
pub fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

/// The longest time that can be recorded: one hour, in nanoseconds.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// Values to three significant digits, from a nanosecond to an hour: 270 KB.
pub fn new_histogram() -> Histogram<u64> {
    #[expect(
        clippy::expect_used,
        reason = "it fails only if bounds or digits are out of range, and these are constant"
    )]
    Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("constant bounds")
}

fn add_classes(to: &mut [Option<Histogram<u64>>; STATUS_CLASSES], from: &[Option<Histogram<u64>>; STATUS_CLASSES]) {
    for (to, from) in to.iter_mut().zip(from) {
        if let Some(from) = from {
            add_histogram(to.get_or_insert_with(new_histogram), from);
        }
    }
}

fn add_histogram(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    // Both have the same bounds.
    if to.add(from).is_err() {
        debug_assert!(false, "histograms of different bounds");
    }
}

/// What happened over time, in intervals of equal length.
#[derive(Clone, Debug)]
struct Series {
    interval: Duration,
    slots: Vec<Slot>,
}

/// The most intervals. With more, neighbours are joined.
const INTERVALS_MAX: usize = 600;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    errors: u64,
    sum: Duration,
    max: Duration,
}

impl Slot {
    fn on_response(&mut self, taken: Duration) {
        self.requests += 1;
        self.sum += taken;
        self.max = self.max.max(taken);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

impl Default for Series {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), slots: Vec::new() }
    }
}

impl Series {
    /// The slot of a moment after the start.
    fn slot(&mut self, at: Duration) -> &mut Slot {
        let mut index = self.index(at);
        while index >= INTERVALS_MAX {
            self.halve();
            index = self.index(at);
        }
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        &mut self.slots[index]
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.interval.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Joins neighbours.
    fn halve(&mut self) {
        self.interval *= 2;
        let joined = self.slots.chunks(2).map(|pair| {
            let mut slot = pair[0];
            pair.iter().skip(1).for_each(|other| slot.add(other));
            slot
        });
        self.slots = joined.collect();
    }

    fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        while other.interval < self.interval {
            other.halve();
        }
        while self.interval < other.interval {
            self.halve();
        }
        if self.slots.len() < other.slots.len() {
            self.slots.resize(other.slots.len(), Slot::default());
        }
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            slot.add(other);
        }
    }

    fn intervals(&self, seconds: f64) -> Vec<Interval> {
        let length = self.interval.as_secs_f64();
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let intervals = self.slots.iter().enumerate().map(|(index, slot)| {
            let start_seconds = index as f64 * length;
            let has_any = slot.requests > 0;
            Interval {
                start_seconds,
                // What is completed after the end counts for the last interval that was measured.
                seconds: length.min((seconds - start_seconds).max(0.0)),
                requests: slot.requests,
                errors: slot.errors,
                mean: has_any.then(|| millis(slot.sum) / slot.requests as f64),
                max: has_any.then(|| millis(slot.max)),
            }
        });
        intervals.collect()
    }
}
