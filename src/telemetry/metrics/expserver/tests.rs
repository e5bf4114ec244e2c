//! Each key, its type and its meaning.

use std::sync::Arc;

use serde_json::Value;

use super::super::{ExchangeFacts, Gauges, MethodClass, RouteLabels, WorkerCounters};
use super::*;
use crate::http::Version;

/// The keys with whole numbers.
const WHOLE: [&str; 23] = [
    "pid",
    "workers",
    "uptime_msec",
    "sys_ram_usage_bytes",
    "sys_ram_total_bytes",
    "workers_ram_usage_bytes",
    "conn_current",
    "conn_accepted",
    "conn_error",
    "conn_timeout",
    "conn_accepted_error",
    "req_current",
    "req_total",
    "req_file_serve",
    "req_reverse_proxy",
    "req_redirect",
    "res_avg_res_time_msec",
    "res_peak_res_time_msec",
    "res_code_2xx",
    "res_code_3xx",
    "res_code_4xx",
    "res_code_5xx",
    "traffic_total_send_bytes",
];

fn object(metrics: &Metrics) -> Value {
    serde_json::from_str(&metrics.api_json()).unwrap()
}

#[test]
fn each_key_is_there_with_its_type_and_no_other() {
    let metrics = Metrics::new(3);
    metrics.set_server_name("a \"server\"");
    let object = object(&metrics);
    let keys = object.as_object().unwrap();
    for key in WHOLE.into_iter().chain(["traffic_total_recv_bytes"]) {
        assert!(keys[key].is_u64(), "{key}: {}", keys[key]);
    }
    assert!(keys["sys_cpu_usage_percent"].is_number());
    let workers = keys["workers_cpu_usage_percent"].as_array().unwrap();
    assert!(workers.len() == 3 && workers.iter().all(Value::is_number), "{workers:?}");
    assert_eq!(keys["server_name"], "a \"server\"");
    assert_eq!(keys["pid"], std::process::id());
    assert_eq!(keys["workers"], 3);
    assert_eq!(keys.len(), WHOLE.len() + 4);
}

#[test]
fn figures_are_sums_over_the_workers() {
    let metrics = Metrics::new(2);
    let handlers = ["files", "proxy", "redirect", "metrics"];
    let labels = |handler| RouteLabels { host: "h".to_owned(), route: "/".to_owned(), handler };
    let series = metrics.set_routes(handlers.map(labels).to_vec());
    for worker in 0..2 {
        let counters = WorkerCounters::new(Arc::clone(&metrics), worker);
        (0..9).for_each(|_| counters.count_accepted());
        for close_reason in ["done", "idle_timeout", "stalled", "client_lost", "upstream_lost", "denied", "tls_failed"]
        {
            counters.count_end(close_reason);
        }
        counters.count_timeout(TimeoutKind::Handshake);
        counters.count_refused();
        counters.set(Gauges { connections: 2, ..Gauges::default() });
        counters.count_received(100);
        counters.count_sent(1000);
        for (number, series) in series.iter().enumerate() {
            for (status, millis) in [(200, 10), (302, 30)] {
                let nanos = millis * 1_000_000 * (1 + number as u64);
                let (first_byte_nanos, received_bytes, sent_bytes) = (Some(nanos), 0, 0);
                let method = MethodClass::Read;
                let route = series.of_worker(worker);
                counters.count_request(Version::Http11);
                counters.begin_exchange();
                route.begin();
                route.end(&ExchangeFacts { method, status, first_byte_nanos, nanos, received_bytes, sent_bytes });
                counters.end_exchange(status);
            }
        }
        counters.begin_exchange();
    }
    let expected = [
        ("conn_current", 4),
        ("conn_accepted", 18),
        ("conn_timeout", 6),
        ("conn_error", 4),
        ("conn_accepted_error", 2),
        ("req_current", 2),
        ("req_total", 18),
        ("req_file_serve", 4),
        ("req_reverse_proxy", 4),
        ("req_redirect", 4),
        // The mean of 10, 30, 20, 60, 30, 90, 40 and 120.
        ("res_avg_res_time_msec", 50),
        ("res_peak_res_time_msec", 120),
        ("res_code_2xx", 8),
        ("res_code_3xx", 8),
        ("res_code_4xx", 0),
        ("res_code_5xx", 0),
        ("traffic_total_recv_bytes", 200),
        ("traffic_total_send_bytes", 2000),
    ];
    // What the configuration no longer has stays in the sums.
    for _ in 0..2 {
        let object = object(&metrics);
        for (key, value) in expected {
            assert_eq!(object[key], value, "{key}");
        }
        metrics.set_routes(vec![labels("files")]);
    }
}

#[test]
fn the_use_of_processors_is_measured_between_two_calls() {
    let mut meter = CpuMeter::new();
    let start = meter.latest.at;
    let sample = |millis, worker: f64, system| CpuSample {
        at: start + Duration::from_millis(millis),
        workers: vec![worker],
        system,
    };
    assert_eq!(meter.measure(sample(1000, 0.25, (10, 100))), (10.0, vec![25.0]));
    assert_eq!(meter.measure(sample(2000, 1.25, (60, 200))), (50.0, vec![100.0]));
    // A second reader just after it measures as long as the first.
    assert_eq!(meter.measure(sample(2001, 1.25, (60, 200))), (50.0, vec![99.9]));
    assert_eq!(meter.measure(sample(3000, 1.25, (60, 300))), (0.0, vec![0.0]));
}
