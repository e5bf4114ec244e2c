//! Reports for tests: of runs that did not take place.

use std::collections::BTreeMap;

use super::{
    ClientCost, Distribution, ErrorCounts, Interval, Manifest, Pacing, REPORT_VERSION, Report, RingCost, ServerCost,
};
use crate::load::tally::new_histogram;

/// A closed loop of 200,000 requests, with a few errors.
pub fn closed() -> Report {
    let service = distribution(200_000, 90_000, 40);
    Report {
        version: REPORT_VERSION,
        targets: vec!["http://127.0.0.1:8080/index.html".to_owned()],
        protocol: "HTTP/1.1".to_owned(),
        connections: 64,
        requests_per_connection_max: 1,
        threads: 2,
        rate: None,
        seconds: 10.0,
        requests: 199_990,
        errors: ErrorCounts { reset: 2, timeout: 1, ..ErrorCounts::default() },
        requests_per_second: 19_999.0,
        received_bytes: 180_000_000,
        sent_bytes: 12_000_000,
        statuses: BTreeMap::from([(200, 199_990), (503, 10)]),
        by_status_class: service.iter().map(|all| ("2xx".to_owned(), all.clone())).collect(),
        service_time: service,
        response_time: None,
        connect_time: distribution(64, 60_000, 3),
        connects: 3,
        pacing: None,
        series: series(),
        server: Some(ServerCost {
            pid: 4711,
            user_seconds: 0.9,
            system_seconds: 2.1,
            microseconds_per_request: 15.0,
            resident_bytes_max: 12_345_678,
            ring: Some(RingCost {
                enters_per_request: 0.12,
                submissions_per_request: 2.0,
                completions_per_request: 3.01,
            }),
        }),
        client: ClientCost { user_seconds: 3.2, system_seconds: 5.1, busiest_thread_share: 0.62 },
        warnings: Vec::new(),
        manifest: manifest(),
    }
}

/// An open loop of the same, with a server that paused.
pub fn open() -> Report {
    let service = distribution(100_000, 80_000, 400);
    let response = distribution(100_000, 95_000, 4000);
    Report {
        rate: Some(10_000.0),
        requests: 100_000,
        requests_per_second: 10_000.0,
        errors: ErrorCounts::default(),
        statuses: BTreeMap::from([(200, 100_000)]),
        by_status_class: response.iter().map(|all| ("2xx".to_owned(), all.clone())).collect(),
        service_time: service,
        response_time: response,
        pacing: distribution(100_000, 1_500, 20).map(|error| Pacing {
            error,
            error_on_processor: distribution(100_000, 900, 5),
            unsent: 12,
        }),
        server: closed().server.map(|server| ServerCost { microseconds_per_request: 30.0, ..server }),
        warnings: vec![
            "the busiest thread of the load generator ran for 97 % of the time: the figures may be its limits \
             and not the server's; use more threads"
                .to_owned(),
        ],
        ..closed()
    }
}

/// Nothing but errors.
pub fn failed() -> Report {
    Report {
        requests: 0,
        requests_per_second: 0.0,
        errors: ErrorCounts { connect: 1000, ..ErrorCounts::default() },
        received_bytes: 0,
        sent_bytes: 0,
        statuses: BTreeMap::new(),
        service_time: None,
        by_status_class: BTreeMap::new(),
        connect_time: None,
        connects: 0,
        series: vec![Interval { start_seconds: 0.0, seconds: 1.0, requests: 0, errors: 1000, mean: None, max: None }],
        server: None,
        ..closed()
    }
}

/// A distribution with a tail: its median is `median_nanos`, and its greatest value about `tail` times
/// that.
pub fn distribution(samples: u32, median_nanos: u64, tail: u64) -> Option<Distribution> {
    /// Values that are counted one by one; of the others below them, a hundred are equal.
    const TAIL: u32 = 1000;
    let mut histogram = new_histogram();
    let mut index = 0;
    while index < samples {
        let count = if samples - index >= TAIL + 100 { 100 } else { 1 };
        let part = (f64::from(index) + f64::from(count) / 2.0) / f64::from(samples);
        // The median at one half, and what grows with the number of nines from there on.
        let nines = -(2.0 * (1.0 - part)).log10();
        let decades = f64::from(samples).log10();
        let times = 1.0 + 0.5 * (part - 0.5) + (tail - 1) as f64 * (nines.max(0.0) / decades).powi(4);
        histogram.saturating_record_n((median_nanos as f64 * times) as u64, u64::from(count));
        index += count;
    }
    Distribution::of(&histogram)
}

fn series() -> Vec<Interval> {
    let interval = |index: u32| {
        let is_pause = index == 6;
        Interval {
            start_seconds: f64::from(index),
            seconds: 1.0,
            requests: if is_pause { 9_000 } else { 20_000 + u64::from(index) * 150 },
            errors: if is_pause { 3 } else { 0 },
            mean: Some(if is_pause { 0.4 } else { 0.1 }),
            max: Some(if is_pause { 61.0 } else { 3.0 + f64::from(index) / 10.0 }),
        }
    };
    (0..10).map(interval).collect()
}

/// The manifest of a machine that does not exist.
pub fn manifest() -> Manifest {
    Manifest {
        version: "0.1.0".to_owned(),
        unix_seconds: 1_790_000_000,
        command: ["xps", "bench", "http://127.0.0.1:8080/index.html"].map(str::to_owned).to_vec(),
        kernel: "6.12.1".to_owned(),
        processor: Some("Example 3000 (8 cores)".to_owned()),
        usable_processors: 8,
        governor: Some("performance".to_owned()),
        mitigations: BTreeMap::from([("spectre_v2".to_owned(), "Mitigation: Retpolines".to_owned())]),
        limits: BTreeMap::from([("descriptors".to_owned(), 1_048_576)]),
        cgroup_processors: Some(4.0),
        backend: "io_uring".to_owned(),
        backend_reason: Some("the kernel has all of it".to_owned()),
    }
}
