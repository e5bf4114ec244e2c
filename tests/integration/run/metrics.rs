//! Metrics: once it is quiet, the sums over the workers are exactly what the clients saw.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::place::{Place, Service, routes};
use crate::run::reload::{proxied, upstream};
use crate::support::{Backend, backends, connect, eventually};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";

/// What each client asks for, one after the other, and the labels that the request has in the metrics: route, handler,
/// class of the method, class of the status.
const REQUESTS: [(&str, [&str; 4]); 8] = [
    ("GET /site/page", ["pages", "files", "read", "2xx"]),
    ("HEAD /site/page", ["pages", "files", "read", "2xx"]),
    ("GET /site/none", ["pages", "files", "read", "4xx"]),
    ("DELETE /site/page", ["pages", "files", "write", "4xx"]),
    ("POST /up", ["/up", "proxy", "write", "2xx"]),
    ("FETCH /up", ["/up", "proxy", "other", "2xx"]),
    ("GET /old", ["/old", "redirect", "read", "3xx"]),
    ("GET /nowhere", ["-", "-", "read", "4xx"]),
];

/// The body of each POST.
const BODY: &str = "five!";

const CLIENTS: u64 = 12;

/// What one client sent and received.
struct Talk {
    sent_bytes: u64,
    received_bytes: u64,
    /// Bytes of the body of each response.
    bodies: [u64; REQUESTS.len()],
}

#[track_caller]
fn talk(address: SocketAddr) -> Talk {
    let mut stream = connect(address);
    let mut request = String::new();
    for (at, (line, _)) in REQUESTS.into_iter().enumerate() {
        let last = if at + 1 == REQUESTS.len() { "Connection: close\r\n" } else { "" };
        let body = if line.starts_with("POST") { BODY } else { "" };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        request += &format!("{line} HTTP/1.1\r\nHost: h\r\n{length}{last}\r\n{body}");
    }
    stream.write_all(request.as_bytes()).expect("the server takes them");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("responses, and the end");
    let mut rest = String::from_utf8(received.clone()).expect("text");
    let bodies = REQUESTS.map(|(line, [_, _, _, class])| {
        let (head, after) = rest.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {}", &class[..1])), "{line}: {head}");
        let length = head.lines().find_map(|field| field.strip_prefix("Content-Length: ")).expect("a length");
        let length = if line.starts_with("HEAD") { 0 } else { length.parse().expect("a number") };
        rest = after[length..].to_owned();
        length as u64
    });
    assert_eq!(rest, "");
    Talk { sent_bytes: request.len() as u64, received_bytes: received.len() as u64, bodies }
}

/// The metrics, by a listener that the clients do not use.
#[track_caller]
fn scrape(service: &Service) -> String {
    let mut wire = Wire::to(service.address_on(THERE));
    wire.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    wire.response().text()
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    Some(value.parse().expect("a whole number"))
}

fn route_labels([route, handler, ..]: [&str; 4]) -> String {
    let host = if route == "-" { "-" } else { "*" };
    format!("host=\"{host}\",route=\"{route}\",handler=\"{handler}\"")
}

/// Checks everything that the clients of `rounds` equal rounds have seen.
#[track_caller]
fn check(text: &str, listener: SocketAddr, talk: &Talk, rounds: u64) {
    let times = rounds * CLIENTS;
    let at = format!("listener=\"{listener}\"");
    for (sample, expected) in [
        (format!("xps_listener_connections_accepted_total{{{at}}}"), times),
        (format!("xps_listener_connections_ended_total{{{at},reason=\"done\"}}"), times),
        (format!("xps_listener_connections_refused_total{{{at},reason=\"limit\"}}"), 0),
        (format!("xps_listener_received_bytes_total{{{at}}}"), times * talk.sent_bytes),
        (format!("xps_listener_sent_bytes_total{{{at}}}"), times * talk.received_bytes),
    ] {
        assert_eq!(value(text, &sample), Some(expected), "{sample}\n{text}");
    }
    for (_, labels) in REQUESTS {
        let [_, _, method, class] = labels;
        let (of_class, of_route) = (
            REQUESTS.iter().filter(|(_, other)| *other == labels).count() as u64,
            REQUESTS.iter().filter(|(_, other)| other[0] == labels[0]).count() as u64,
        );
        let all = REQUESTS.iter().zip(talk.bodies).filter(|((_, other), _)| other[0] == labels[0]);
        let body_bytes: u64 = all.map(|(_, bytes)| bytes).sum();
        let posted = if labels[0] == "/up" { BODY.len() as u64 } else { 0 };
        let route = route_labels(labels);
        for (sample, expected) in [
            (format!("xps_route_requests_total{{{route},method=\"{method}\",status=\"{class}\"}}"), times * of_class),
            (format!("xps_route_requests{{{route}}}"), 0),
            (format!("xps_route_sent_bytes_total{{{route}}}"), times * body_bytes),
            (format!("xps_route_received_bytes_total{{{route}}}"), times * posted),
            (format!("xps_route_duration_seconds_count{{{route}}}"), times * of_route),
            (format!("xps_route_first_byte_seconds_count{{{route}}}"), times * of_route),
        ] {
            assert_eq!(value(text, &sample), Some(expected), "{sample}\n{text}");
        }
    }
}

fn configure(place: &Place, upstream_route: &Value, more: &[Value]) {
    let pages = json!({ "req_path": "/site", "name": "pages", "type": "file_serve", "dir_path": "site" });
    let old = json!({ "req_path": "/old", "type": "redirect", "redirect_url": "/new" });
    let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
    let api = json!({ "req_path": "/api", "type": "api" });
    let here = routes(HERE, json!([&[pages, old, upstream_route.clone()], more].concat()));
    place.configure_with([here, routes(THERE, json!([metrics, api]))], |document| {
        document["workers"] = json!(3);
        document["server_name"] = json!("counted");
    });
}

backends! {
    fn sums_over_workers_are_what_the_clients_saw_also_over_a_reload(backend) {
        counts(backend);
    }

    fn the_api_has_the_sums_for_pages_of_every_origin(backend) {
        let place = Place::new(backend);
        place.page("site", "a page");
        configure(&place, &json!({ "req_path": "/up", "type": "redirect", "redirect_url": "/new" }), &[]);
        let service = place.start();
        let mut client = Wire::to(service.address_on(HERE));
        for (path, status) in [("/site/page", 200), ("/site/none", 404), ("/old", 302)] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(client.response().status, status);
        }
        let mut wire = Wire::to(service.address_on(THERE));
        wire.send("GET /api HTTP/1.1\r\nHost: h\r\nOrigin: http://elsewhere\r\n\r\n");
        let response = wire.response();
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(response.field("Content-Type"), Some("application/json"));
        let object: Value = serde_json::from_str(&response.text()).expect("JSON");
        for (key, expected) in [
            ("server_name", json!("counted")),
            ("pid", json!(service.pid())),
            ("workers", json!(3)),
            ("conn_accepted", json!(2)),
            ("conn_current", json!(2)),
            ("conn_error", json!(0)),
            // With this one.
            ("req_total", json!(4)),
            ("req_current", json!(1)),
            ("req_file_serve", json!(2)),
            ("req_redirect", json!(1)),
            ("res_code_2xx", json!(1)),
            ("res_code_3xx", json!(1)),
            ("res_code_4xx", json!(1)),
        ] {
            assert_eq!(object[key], expected, "{key}: {object}");
        }
        assert!(object["workers_cpu_usage_percent"].as_array().is_some_and(|workers| workers.len() == 3), "{object}");
        assert!(object["sys_ram_total_bytes"].as_u64() > object["workers_ram_usage_bytes"].as_u64(), "{object}");
        assert!(object["traffic_total_recv_bytes"].as_u64() > Some(90), "{object}");
    }
}

fn counts(backend: Backend) {
    let up = upstream("from the upstream");
    let place = Place::new(backend);
    place.page("site", "a page");
    configure(&place, &proxied("/up", &up), &[]);
    let service = place.start();
    let here = service.address_on(HERE);
    let open = format!("xps_listener_connections{{listener=\"{here}\"}}");
    for round in 1..=2 {
        let talks: Vec<Talk> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| talk(here))).collect();
            clients.into_iter().map(|client| client.join().expect("its responses")).collect()
        });
        let ended = format!("xps_listener_connections_ended_total{{listener=\"{here}\",reason=\"done\"}}");
        eventually("it is quiet", || {
            let text = scrape(&service);
            value(&text, &open) == Some(0) && value(&text, &ended) == Some(round * CLIENTS)
        });
        check(&scrape(&service), here, &talks[0], round);
        // Another route, and a new router for those that stay.
        let more = json!({ "req_path": "/more", "type": "redirect", "redirect_url": "/new" });
        configure(&place, &proxied("/up", &up), &[more]);
        service.reload();
    }
    let text = scrape(&service);
    assert_eq!(value(&text, "xps_reloads_total{result=\"ok\"}"), Some(2));
    place.write("{");
    service.signal(crate::support::process::Signal::Hangup);
    eventually("it is counted", || value(&scrape(&service), "xps_reloads_total{result=\"refused\"}") == Some(1));
    let new = "host=\"*\",route=\"/more\",handler=\"redirect\"";
    assert_eq!(value(&text, &format!("xps_route_requests{{{new}}}")), Some(0));
    assert_eq!(value(&text, "xps_workers"), Some(3));
    assert!(text.contains("xps_build_info{version="), "{text}");
}
