//! The result of one run, as `--json` writes it and everything else reads it.
//!
//! Times are in milliseconds unless a name says otherwise. What could not be measured is absent, never
//! zero.

pub mod compare;
pub mod export;
pub mod figure;
pub mod html;
mod plot;
#[cfg(any(test, feature = "internals"))]
pub mod sample;
pub mod slo;
pub mod table;
pub mod units;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of this document. It changes when a field is removed or gets another meaning, not when
/// one is added.
pub const REPORT_VERSION: u32 = 1;

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this document: 1.
    pub version: u32,
    /// What was asked: URLs, as given.
    pub targets: Vec<String>,
    /// The protocol that was spoken: `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub protocol: String,
    /// Connections, of all threads.
    pub connections: u32,
    /// Requests in progress on one connection at the same time.
    pub requests_per_connection_max: u32,
    /// Threads of the load generator.
    pub threads: u32,
    /// The rate that was asked for, in requests a second; absent in a closed loop.
    pub rate: Option<f64>,
    /// How long was measured, without warm-up, in seconds.
    pub seconds: f64,
    /// Requests completed with a correct response.
    pub requests: u64,
    /// Requests that failed, by kind.
    pub errors: ErrorCounts,
    /// Correct responses a second.
    pub requests_per_second: f64,
    /// Bytes received: heads, bodies and framing, after decryption.
    pub received_bytes: u64,
    /// Bytes sent, likewise.
    pub sent_bytes: u64,
    /// Complete responses by status code, the incorrect ones too.
    pub statuses: BTreeMap<u16, u64>,
    /// From the moment a request was sent to the end of its response. Absent without a response.
    pub service_time: Option<Distribution>,
    /// From the moment a request should have been sent to the end of its response; in an open loop only.
    pub response_time: Option<Distribution>,
    /// Service time (in an open loop: response time) by class of status: `2xx`, …
    pub by_status_class: BTreeMap<String, Distribution>,
    /// From the beginning of a connection to its end of the TLS handshake, if it has one.
    pub connect_time: Option<Distribution>,
    /// Connections established while measuring, beyond those of the beginning.
    pub connects: u64,
    /// How well the schedule of an open loop was kept.
    pub pacing: Option<Pacing>,
    /// What happened in each interval.
    pub series: Vec<Interval>,
    /// What the server paid.
    pub server: Option<ServerCost>,
    /// What the load generator paid.
    pub client: ClientCost,
    /// Why the figures may be wrong.
    pub warnings: Vec<String>,
    /// Where and how it was measured.
    pub manifest: Manifest,
}

/// Requests without a correct response, by the reason. Each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorCounts {
    /// The connection could not be established.
    pub connect: u64,
    /// The connection was reset or closed before a byte of the response, or it broke.
    pub reset: u64,
    /// No complete response within the time-out.
    pub timeout: u64,
    /// Another status than expected.
    pub status: u64,
    /// The body ended early, or is shorter than expected.
    pub short_body: u64,
    /// The body is another one than expected.
    pub wrong_body: u64,
    /// The response breaks the rules of its protocol.
    pub malformed: u64,
}

/// Values of one kind, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Number of values.
    pub samples: u64,
    /// The least.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The greatest.
    pub max: f64,
    /// From 50 on, those that the number of values supports: at least ten values lie above each.
    pub percentiles: Vec<Percentile>,
    /// For a plot: the value at each of at most 200 quantiles, evenly spread in the logarithm of the part
    /// that lies above.
    pub curve: Vec<Percentile>,
}

/// The value below which this part of the values lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentile {
    /// In percent: 99.9.
    pub percent: f64,
    /// In milliseconds.
    pub value: f64,
}

/// How well the schedule was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pacing {
    /// Delay of the decision to send a request after its time in the schedule.
    pub error: Distribution,
    /// The same without the time for which the thread was ready to run and had no processor; absent if the
    /// kernel does not tell.
    pub error_on_processor: Option<Distribution>,
    /// Requests that were due and never sent: all connections were busy until the end.
    pub unsent: u64,
}

/// What happened in one interval. Intervals are one second long at first. In a long run neighbours are
/// joined, so that there are never more than 600.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Where it begins, in seconds from the start of measuring.
    pub start_seconds: f64,
    /// How long it is.
    pub seconds: f64,
    /// Correct responses.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// The mean time (response time in an open loop); absent without a response.
    pub mean: Option<f64>,
    /// The longest time.
    pub max: Option<f64>,
}

/// What the server paid while it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerCost {
    /// Its process.
    pub pid: u32,
    /// Processor time in its own code, in seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel, in seconds.
    pub system_seconds: f64,
    /// Both, for one request, in microseconds.
    pub microseconds_per_request: f64,
    /// Largest resident memory seen, in bytes.
    pub resident_bytes_max: u64,
    /// What an xps server says of its rings.
    pub ring: Option<RingCost>,
}

/// Calls and entries of a server's rings, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RingCost {
    /// Calls of `io_uring_enter` or `epoll_wait`.
    pub enters_per_request: f64,
    /// Operations submitted.
    pub submissions_per_request: f64,
    /// Completions.
    pub completions_per_request: f64,
}

/// What the load generator paid while it measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientCost {
    /// Processor time in its own code, in seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel, in seconds.
    pub system_seconds: f64,
    /// The part of the time for which its busiest thread ran: 1 is always.
    pub busiest_thread_share: f64,
}

/// Where and how it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The version of xps.
    pub version: String,
    /// When it began, in seconds since 1970.
    pub unix_seconds: u64,
    /// The command line.
    pub command: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: Option<String>,
    /// Processors that the load generator may use.
    pub usable_processors: usize,
    /// The frequency governor of the first of them.
    pub governor: Option<String>,
    /// The kernel's mitigations of processor faults, by name.
    pub mitigations: BTreeMap<String, String>,
    /// Limits of the process by name: descriptors, locked memory.
    pub limits: BTreeMap<String, u64>,
    /// The processors that its control group may use at the same time.
    pub cgroup_processors: Option<f64>,
    /// The back-end of the load generator: `io_uring` or `epoll`.
    pub backend: String,
    /// Why it is this one.
    pub backend_reason: Option<String>,
}

impl Report {
    /// The times that a client would have seen: response times in an open loop, and service times otherwise.
    pub fn times(&self) -> Option<&Distribution> {
        self.response_time.as_ref().or(self.service_time.as_ref())
    }

    /// The part of the requests that failed. `None` without a request.
    pub fn error_share(&self) -> Option<f64> {
        let errors = self.errors.total();
        let all = errors + self.requests;
        (all > 0).then(|| errors as f64 / all as f64)
    }
}

impl ErrorCounts {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.connect + self.reset + self.timeout + self.status + self.short_body + self.wrong_body + self.malformed
    }

    /// Each with its name.
    pub const fn by_name(&self) -> [(&'static str, u64); 7] {
        [
            ("connect", self.connect),
            ("reset", self.reset),
            ("timeout", self.timeout),
            ("status", self.status),
            ("short_body", self.short_body),
            ("wrong_body", self.wrong_body),
            ("malformed", self.malformed),
        ]
    }
}

/// The percentiles of a table.
const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999];

/// Values that must lie above a percentile for it to say something.
const SAMPLES_ABOVE_MIN: f64 = 10.0;

/// Points of a curve.
const CURVE_POINTS: u32 = 200;

impl Distribution {
    /// The distribution of these nanoseconds; `None` without any.
    pub fn of(nanos: &Histogram<u64>) -> Option<Self> {
        let samples = nanos.len();
        if samples == 0 {
            return None;
        }
        let is_supported = |percent: &f64| samples >= samples_needed(*percent);
        let at = |percent: f64| Percentile { percent, value: millis(nanos.value_at_percentile(percent)) };
        Some(Self {
            samples,
            min: millis(nanos.min()),
            mean: nanos.mean() / NANOS_PER_MILLI,
            deviation: nanos.stdev() / NANOS_PER_MILLI,
            max: millis(nanos.max()),
            percentiles: PERCENTILES.into_iter().filter(is_supported).map(at).collect(),
            curve: curve(nanos),
        })
    }

    /// The value at one of the percentiles that are there.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        self.percentiles.iter().find(|at| (at.percent - percent).abs() < 1e-9).map(|at| at.value)
    }

    /// The value at any percentile that the number of values supports: from the curve, if it is not one of
    /// the table.
    pub fn quantile(&self, percent: f64) -> Option<f64> {
        if self.samples < samples_needed(percent) {
            return None;
        }
        self.percentile(percent).or_else(|| {
            let after = self.curve.partition_point(|at| at.percent < percent);
            let above = self.curve.get(after)?;
            let Some(below) = after.checked_sub(1).map(|before| self.curve[before]) else { return Some(above.value) };
            let part = (percent - below.percent) / (above.percent - below.percent);
            Some(below.value + (above.value - below.value) * part)
        })
    }
}

/// The number of values that supports a percentile.
pub(crate) fn samples_needed(percent: f64) -> u64 {
    // What a percentage's fraction lacks in binary does not count.
    let needed = SAMPLES_ABOVE_MIN * 100.0 / (100.0 - percent);
    (needed - needed * 1e-9).ceil() as u64
}

/// The values at quantiles from 0 on, in equal steps of the logarithm of the part above. In one pass.
fn curve(nanos: &Histogram<u64>) -> Vec<Percentile> {
    let samples = nanos.len();
    let decades = (samples as f64).log10();
    let mut recorded = nanos.iter_recorded();
    let (mut value, mut reached) = (0, 0);
    let points = (0..CURVE_POINTS).map(|point| {
        let above = 10f64.powf(-decades * f64::from(point) / f64::from(CURVE_POINTS - 1));
        let wanted = (((1.0 - above) * samples as f64).ceil() as u64).clamp(1, samples);
        while reached < wanted {
            let Some(step) = recorded.next() else { break };
            reached += step.count_since_last_iteration();
            value = step.value_iterated_to();
        }
        Percentile { percent: 100.0 * (1.0 - above), value: millis(value) }
    });
    points.collect()
}

const NANOS_PER_MILLI: f64 = 1e6;

/// Nanoseconds in milliseconds.
fn millis(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_MILLI
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::new_histogram;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Distribution {
        let mut histogram = new_histogram();
        nanos.into_iter().for_each(|nanos| histogram.saturating_record(nanos));
        Distribution::of(&histogram).expect("values")
    }

    #[test]
    fn a_percentile_is_there_if_ten_values_lie_above_it() {
        assert_eq!(Distribution::of(&new_histogram()), None);
        let percents = |count: u64| of(1..=count).percentiles.last().map(|at| at.percent);
        assert_eq!(percents(19), None);
        assert_eq!(percents(20), Some(50.0));
        assert_eq!(percents(999), Some(95.0));
        assert_eq!(percents(1000), Some(99.0));
        assert_eq!(of(1..=1000).percentile(99.0), Some(0.000_99));
        assert_eq!(of(1..=1000).percentile(99.9), None);
        assert_eq!([50.0, 99.0, 99.9, 99.99, 99.999].map(samples_needed), [20, 1000, 10_000, 100_000, 1_000_000]);
    }

    #[test]
    fn the_curve_has_the_values_of_its_quantiles() {
        let mut histogram = new_histogram();
        (0..5000u64).for_each(|index| histogram.saturating_record(1000 + index * index));
        let curve = Distribution::of(&histogram).expect("values").curve;
        assert_eq!(curve.len(), 200);
        for at in curve.iter().filter(|at| at.percent > 0.1) {
            let expected = millis(histogram.value_at_percentile(at.percent));
            // The count that a quantile means may be rounded either way.
            assert!((at.value - expected).abs() <= expected * 0.01, "{at:?}, not {expected}");
        }
        assert!(curve.windows(2).all(|pair| pair[0].percent < pair[1].percent && pair[0].value <= pair[1].value));
        let distribution = of(1..=2000);
        for percent in [10.0, 33.3, 50.0, 97.0, 99.2] {
            let value = distribution.quantile(percent).expect("enough");
            assert!((value * 1e6 - percent * 20.0).abs() <= 2.0, "{percent}: {value}");
        }
        assert_eq!(distribution.quantile(99.6), None);
        assert_eq!(of([7]).curve.last().map(|at| at.value), Some(0.000_007));
    }
}
