//! Counting and the text.

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::driver::Counters;
use crate::http::Version;

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
            cache_hits: 4,
            cache_misses: 3,
            compressions: 2,
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
        "xps_http_responses_total{class=\"5xx\"} 2",
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
        "xps_file_cache_lookups_total{result=\"hit\"} 8",
        "xps_file_cache_lookups_total{result=\"miss\"} 6",
        "xps_file_compressions_total 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn certificates_are_there_once_each_with_escaped_names() {
    let metrics = Metrics::new(1);
    assert!(!metrics.text().contains("certificate"));
    let expiry = |certificate: &str, not_after| CertificateExpiry { certificate: certificate.to_owned(), not_after };
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

/// A registry in which each family has a sample.
fn full() -> Arc<Metrics> {
    let metrics = Metrics::new(2);
    metrics.set_backend("epoll", Some("it is \"so\""));
    WorkerCounters::new(Arc::clone(&metrics), 0).note_thread();
    metrics.set_acme_attempts(vec![("a.org".to_owned(), 9)]);
    metrics.set_certificates(vec![CertificateExpiry { certificate: "/a".to_owned(), not_after: 9 }]);
    let series = metrics.set_routes(vec![labels("h", "/"), labels("\"\\\n", "/é")]);
    for (number, series) in series.iter().enumerate() {
        for worker in 0..2 {
            let counters = series.of_worker(worker);
            counters.begin();
            counters.begin();
            counters.end(&facts(200, number as u64 * 20_000_000_000));
        }
    }
    metrics.set_listeners(vec!["127.0.0.1:1".to_owned()]);
    metrics.set_endpoints(vec![endpoint("h/", "a:1"), endpoint("h/", "b:1"), endpoint("h/x", "a:1")]);
    metrics
}

fn labels(host: &str, route: &str) -> RouteLabels {
    RouteLabels { host: host.to_owned(), route: route.to_owned(), handler: "files" }
}

fn facts(status: u16, nanos: u64) -> ExchangeFacts {
    let first_byte_nanos = Some(nanos / 2);
    ExchangeFacts { method: MethodClass::Read, status, first_byte_nanos, nanos, received_bytes: 3, sent_bytes: 5 }
}

/// The value of the sample with this name and these labels.
fn value(metrics: &Metrics, sample: &str) -> Option<f64> {
    let text = metrics.text();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    values.next().map(|value| value.parse().unwrap())
}

#[test]
fn the_text_is_well_formed() {
    let metrics = full();
    let text = metrics.text();
    let (mut family, mut kind, mut families, mut samples) = ("", "", HashSet::new(), HashSet::new());
    let (mut so_far, mut series) = (0.0, String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(families.insert(name) && help.ends_with('.') && !help.contains('\\'), "{line}");
            (family, kind) = (name, "");
            continue;
        }
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, declared) = declared.split_once(' ').unwrap();
            assert!(
                name == family && kind.is_empty() && ["counter", "gauge", "histogram"].contains(&declared),
                "{line}"
            );
            assert_eq!(name.ends_with("_total"), declared == "counter", "{line}");
            kind = declared;
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0 && samples.insert(sample.to_owned()), "{line}");
        let (name, labels) = sample.split_once('{').map_or((sample, ""), |(name, labels)| (name, labels));
        assert!(labels.is_empty() || labels.ends_with("\"}"), "{line}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{line}");
        match name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is in the family {family}")) {
            "" => assert_ne!(kind, "histogram", "{line}"),
            "_bucket" => {
                let (others, _) = labels.split_once("le=\"").unwrap();
                if series != format!("{name}{others}") {
                    (series, so_far) = (format!("{name}{others}"), 0.0);
                }
                assert!(kind == "histogram" && value >= so_far, "{line}");
                so_far = value;
            }
            "_sum" => assert_eq!(kind, "histogram", "{line}"),
            "_count" => assert!(kind == "histogram" && value == so_far, "{line}"),
            _ => panic!("{line} is in the family {family}"),
        }
    }
    assert!(text.ends_with('\n'));
    let named: Vec<&str> = Metrics::families().iter().map(|family| family.name).collect();
    let (named, is_there) = (named.iter().copied().collect::<HashSet<&str>>(), named.len());
    assert_eq!(named.len(), is_there, "a family is there twice");
    assert!(families.is_subset(&named));
    // What only `/proc` knows may be missing.
    let is_optional = |name: &&&str| name.starts_with("process_") || name.contains("cpu_seconds");
    let missing: Vec<_> = named.difference(&families).filter(|name| !is_optional(name)).collect();
    assert!(missing.is_empty(), "the registry of the tests has no sample of {missing:?}");
}

#[test]
fn counts_of_a_route_survive_while_its_host_and_name_stay() {
    let metrics = Metrics::new(2);
    let series = metrics.set_routes(vec![labels("h", "/b"), labels("h", "/a"), labels("h", "/b")]);
    let [first, second, same] = [0, 1, 2].map(|at| Arc::clone(&series[at]));
    assert!(Arc::ptr_eq(&first, &same));
    for (worker, series) in [(0, &first), (1, &first), (0, &second), (7, &first)] {
        let counters = series.of_worker(worker);
        counters.begin();
        counters.end(&facts(404, 700_000));
        counters.begin();
    }
    let ended = |route: &str| {
        let labels = format!("{{host=\"h\",route=\"{route}\",handler=\"files\",method=\"read\",status=\"4xx\"}}");
        value(&metrics, &format!("xps_route_requests_total{labels}"))
    };
    assert_eq!((ended("/b"), ended("/a")), (Some(2.0), Some(1.0)));
    let labels_of_b = "{host=\"h\",route=\"/b\",handler=\"files\"}";
    let of_b = |name: &str| value(&metrics, &format!("{name}{labels_of_b}"));
    assert_eq!(of_b("xps_route_requests"), Some(2.0));
    assert_eq!(of_b("xps_route_sent_bytes_total"), Some(10.0));
    assert_eq!(of_b("xps_route_received_bytes_total"), Some(6.0));
    assert_eq!(of_b("xps_route_duration_seconds_sum"), Some(0.0014));
    assert_eq!(of_b("xps_route_first_byte_seconds_count"), Some(2.0));
    let le = |le: &str| {
        value(
            &metrics,
            &format!("xps_route_first_byte_seconds_bucket{{host=\"h\",route=\"/b\",handler=\"files\",le=\"{le}\"}}"),
        )
    };
    assert_eq!((le("0.0005"), le("0.001")), (Some(2.0), Some(2.0)));
    metrics.set_routes(vec![labels("h", "/b"), labels("other", "/a")]);
    assert_eq!((ended("/b"), ended("/a")), (Some(2.0), None));
    metrics.set_routes(vec![labels("h", "/a")]);
    assert_eq!((ended("/b"), ended("/a")), (None, None), "it begins again");
}

#[test]
fn requests_without_a_route_have_a_series_of_their_own() {
    let metrics = Metrics::new(2);
    WorkerCounters::new(Arc::clone(&metrics), 1)
        .count_unmatched(&ExchangeFacts { method: MethodClass::Write, ..facts(404, 0) });
    let sample = "xps_route_requests_total{host=\"-\",route=\"-\",handler=\"-\",method=\"write\",status=\"4xx\"}";
    assert_eq!(value(&metrics, sample), Some(1.0));
    assert_eq!(value(&metrics, "xps_route_requests{host=\"-\",route=\"-\",handler=\"-\"}"), Some(0.0));
}

#[test]
fn connections_are_counted_by_listener_and_survive_while_the_address_stays() {
    let metrics = Metrics::new(2);
    let address = |name: &str| name.to_owned();
    let series = metrics.set_listeners(vec![address("b:1"), address("a:1")]);
    for worker in 0..2 {
        let counters = series[0].of_worker(worker);
        (0..3).for_each(|_| counters.accept());
        counters.refuse(RefusalKind::Address);
        counters.end("denied", 1, 0);
        counters.end("done", 10, 20);
    }
    let of_b = |name: &str, more: &str| value(&metrics, &format!("{name}{{listener=\"b:1\"{more}}}"));
    for _ in 0..2 {
        assert_eq!(of_b("xps_listener_connections_accepted_total", ""), Some(6.0));
        assert_eq!(of_b("xps_listener_connections", ""), Some(2.0));
        assert_eq!(of_b("xps_listener_connections_refused_total", ",reason=\"address\""), Some(2.0));
        assert_eq!(of_b("xps_listener_connections_refused_total", ",reason=\"limit\""), Some(0.0));
        assert_eq!(of_b("xps_listener_connections_ended_total", ",reason=\"done\""), Some(2.0));
        assert_eq!(of_b("xps_listener_connections_ended_total", ",reason=\"stalled\""), None);
        assert_eq!(of_b("xps_listener_received_bytes_total", ""), Some(22.0));
        assert_eq!(of_b("xps_listener_sent_bytes_total", ""), Some(40.0));
        metrics.set_listeners(vec![address("b:1")]);
    }
    assert_eq!(value(&metrics, "xps_listener_connections_accepted_total{listener=\"a:1\"}"), None);
}

#[test]
fn build_reloads_and_the_driver_are_there() {
    let metrics = full();
    metrics.count_reload(true);
    metrics.count_reload(false);
    metrics.count_reload(false);
    let driver = Counters { enters: 3, overflows: 2, ..Counters::default() };
    (0..2).for_each(|worker| WorkerCounters::new(Arc::clone(&metrics), worker).set_driver(&driver));
    let info = format!(
        "xps_build_info{{version=\"{}\",backend=\"epoll\",reason=\"it is \\\"so\\\"\"}}",
        env!("CARGO_PKG_VERSION")
    );
    for (sample, expected) in [
        (info.as_str(), 1.0),
        ("xps_reloads_total{result=\"ok\"}", 1.0),
        ("xps_reloads_total{result=\"refused\"}", 2.0),
        ("xps_ring_enters_total", 6.0),
        ("xps_ring_overflows_total", 4.0),
        ("xps_ring_rearms_total", 0.0),
    ] {
        assert_eq!(value(&metrics, sample), Some(expected), "{sample}");
    }
    let (started, configured) =
        (value(&metrics, "process_start_time_seconds"), value(&metrics, "xps_configuration_timestamp_seconds"));
    assert!(started.is_some_and(|at| at > 1.7e9) && started <= configured);
}

fn endpoint(group: &str, address: &str) -> EndpointLabels {
    EndpointLabels { group: group.to_owned(), address: address.to_owned() }
}

#[test]
fn endpoints_are_counted_by_group_and_address() {
    let metrics = full();
    let labels = endpoint("h/", "b:1");
    for worker in 0..2 {
        let counters = metrics.endpoint(&labels, worker);
        counters.begin();
        counters.begin();
        counters.end();
        counters.set_up(worker == 0);
        counters.set_idle(3);
        counters.count_retry();
        counters.count_failure(EndpointFailure::ConnectTimeout);
        counters.count_check(worker == 0);
        counters.count_connect(2_000_000);
        counters.count_response(3_000_000);
        metrics.endpoint(&endpoint("h/", "a:1"), worker).change_queued(0, 2);
    }
    metrics.endpoint(&endpoint("h/", "a:1"), 0).change_queued(2, 1);
    metrics.endpoint(&endpoint("h/", "unknown:1"), 0).begin();
    metrics.set_endpoints(vec![labels.clone(), endpoint("h/", "a:1")]);
    let of_b =
        |name: &str, more: &str| value(&metrics, &format!("xps_upstream_{name}{{group=\"h/\",address=\"b:1\"{more}}}"));
    for (name, more, expected) in [
        ("state", ",state=\"up\"", 0.0),
        ("state", ",state=\"mixed\"", 1.0),
        ("state", ",state=\"down\"", 0.0),
        ("requests_total", "", 4.0),
        ("in_flight", "", 2.0),
        ("idle_connections", "", 6.0),
        ("retries_total", "", 2.0),
        ("failures_total", ",reason=\"connect_timeout\"", 2.0),
        ("failures_total", ",reason=\"tls\"", 0.0),
        ("checks_total", ",result=\"passed\"", 1.0),
        ("checks_total", ",result=\"failed\"", 1.0),
        ("connect_seconds_sum", "", 0.004),
        ("response_seconds_count", "", 2.0),
    ] {
        assert_eq!(of_b(name, more), Some(expected), "{name}{more}");
    }
    assert_eq!(value(&metrics, "xps_upstream_queued{group=\"h/\"}"), Some(3.0));
}
