//! Why an upstream failed: for each way, the access log and the warning have the same word.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http_proxy::gateway::{GET, OK, assert_ok};
use crate::origin::{Origin, Visit};
use crate::place::{Place, Service, routes};
use crate::support::log::Record;
use crate::support::upstream::{ClosedPort, fill_backlog};
use crate::support::{Backend, backends, eventually};
use crate::wire::Wire;

/// What is not idempotent is asked once.
const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxps";

/// How an upstream ends.
type End = fn(Visit);

/// A proxy of one worker that logs into a file.
struct Proxy {
    place: Place,
    service: Service,
}

impl Proxy {
    /// In front of this upstream, with these options of its route.
    #[track_caller]
    fn new(backend: Backend, upstream: &str, options: &Value) -> Self {
        let mut route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": [upstream] });
        for (name, value) in options.as_object().expect("an object") {
            route[name] = value.clone();
        }
        let place = Place::new(backend);
        place.configure_with([routes("127.0.0.1", json!([route]))], |document| {
            document["workers"] = json!(1);
            document["access_log"] = json!("access.log");
            document["access_format"] = json!("json");
        });
        let service = Service::new(place.launch().logging("info").start());
        Self { place, service }
    }

    #[track_caller]
    fn send(&self, request: &str) -> Wire {
        let mut wire = Wire::to(self.service.address());
        wire.send(request);
        wire
    }

    /// The line of the access log after so many others.
    #[track_caller]
    fn entry(&self, earlier: usize) -> Value {
        let path = self.place.path("access.log");
        let read = || fs::read_to_string(&path).unwrap_or_default();
        eventually("a line in the log", || read().lines().count() > earlier);
        serde_json::from_str(read().lines().nth(earlier).expect("a line")).expect("JSON")
    }

    /// The warning after so many others.
    #[track_caller]
    fn warning(&self, earlier: usize) -> Record {
        self.service.first.log().wait_until("a warning", |records| {
            let is_one = |record: &&Record| record.level() == "WARN" && record.message() == "upstream request failed";
            records.iter().filter(is_one).nth(earlier).cloned()
        })
    }

    /// Both say that a request has failed for this reason. Returns the line.
    #[track_caller]
    fn expect(&self, earlier: usize, status: u16, reason: &str, termination: &str) -> Value {
        let (entry, warning) = (self.entry(earlier), self.warning(earlier));
        let found = (&entry["status"], &entry["reason"], &entry["termination"], &entry["route"]);
        assert_eq!(found, (&status.into(), &reason.into(), &termination.into(), &"/".into()), "{entry}");
        assert_eq!(warning.text("reason"), Some(reason), "{warning}");
        assert!(warning.text("cause").is_some_and(|cause| !cause.is_empty()), "{warning}");
        if let Some(upstream) = warning.text("upstream") {
            assert_eq!(entry["upstream"], upstream, "{entry}");
        }
        entry
    }
}

/// The numbers of an entry.
#[track_caller]
fn numbers<const COUNT: usize>(entry: &Value, members: [&str; COUNT]) -> [u64; COUNT] {
    members.map(|member| entry[member].as_u64().unwrap_or_else(|| panic!("{member} of {entry}")))
}

backends! {
    fn a_refused_connection_is_logged_with_its_reason(backend) {
        let nobody = ClosedPort::new();
        let proxy = Proxy::new(backend, &nobody.address().to_string(), &json!({ "tries": 2 }));
        assert_eq!(proxy.send(GET).response().status, 502);
        let entry = proxy.expect(0, 502, "connect_refused", "SC");
        assert_eq!((&entry["upstream"], &entry["tries"]), (&nobody.address().to_string().into(), &2.into()));
        assert!(entry.get("first_byte_us").is_none(), "{entry}");
    }

    fn a_connect_that_times_out_is_logged_with_its_reason(backend) {
        let port = ClosedPort::new();
        let address = port.address();
        let _listener = port.listen_with_backlog(0);
        let _waiting = fill_backlog(address);
        let proxy = Proxy::new(backend, &address.to_string(), &json!({ "connect_timeout": "100ms" }));
        assert_eq!(proxy.send(GET).response().status, 504);
        let entry = proxy.expect(0, 504, "connect_timeout", "sC");
        let [connect_us, duration_us] = numbers(&entry, ["connect_us", "duration_us"]);
        assert!(connect_us >= 100_000 && duration_us >= connect_us, "{entry}");
    }

    fn a_name_that_cannot_be_resolved_is_logged_with_its_reason(backend) {
        let proxy = Proxy::new(backend, "nobody.invalid:80", &json!({}));
        // Without a network the name server may not answer at all.
        match proxy.send(GET).response().status {
            502 => proxy.expect(0, 502, "unresolvable", "SC"),
            status => proxy.expect(0, status, "resolve_timeout", "sC"),
        };
    }

    fn a_missing_socket_is_logged_with_its_reason(backend) {
        let proxy = Proxy::new(backend, "unix:/nowhere/app.sock", &json!({}));
        assert_eq!(proxy.send(GET).response().status, 502);
        let entry = proxy.expect(0, 502, "missing_socket", "SC");
        assert_eq!(entry["upstream"], "unix:/nowhere/app.sock");
    }

    fn a_response_that_times_out_is_logged_with_its_reason(backend) {
        let origin = Origin::new();
        let options = json!({ "response_timeout": "100ms" });
        let proxy = Proxy::new(backend, &origin.address().to_string(), &options);
        let mut wire = proxy.send(POST);
        let mut visit = origin.visit();
        visit.request();
        assert_eq!(wire.response().status, 504);
        let entry = proxy.expect(0, 504, "response_timeout", "sH");
        assert_eq!(entry["request_bytes"], 3, "{entry}");
        drop(visit);
        let mut wire = proxy.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
        assert_eq!(wire.head_only().status, 200);
        let entry = proxy.expect(1, 200, "response_stalled", "sD");
        let [first_byte_us, duration_us, bytes] = numbers(&entry, ["first_byte_us", "duration_us", "bytes"]);
        assert!(first_byte_us + 100_000 <= duration_us && bytes == 4, "{entry}");
    }

    fn a_connection_that_ends_before_a_response_is_logged_with_its_reason(backend) {
        let origin = Origin::new();
        let proxy = Proxy::new(backend, &origin.address().to_string(), &json!({}));
        let ends: [(&str, End, &str); 3] = [
            ("", Visit::reset, "reset_before_response"),
            ("", drop, "closed_before_response"),
            ("HTTP/1.1 200 OK\r\nX: ", drop, "closed_before_response"),
        ];
        for (number, (bytes, end, reason)) in ends.into_iter().enumerate() {
            let mut wire = proxy.send(POST);
            let mut visit = origin.visit();
            visit.request();
            visit.send(bytes);
            end(visit);
            assert_eq!(wire.response().status, 502, "{reason}");
            proxy.expect(number, 502, reason, "SH");
        }
    }

    fn a_connection_that_ends_within_a_response_is_logged_with_its_reason(backend) {
        let origin = Origin::new();
        let proxy = Proxy::new(backend, &origin.address().to_string(), &json!({}));
        let ends: [(End, &str); 2] = [(Visit::reset, "reset_in_response"), (drop, "closed_in_response")];
        for (number, (end, reason)) in ends.into_iter().enumerate() {
            let mut wire = proxy.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
            wire.head_only();
            wire.take(4);
            end(visit);
            let entry = proxy.expect(number, 200, reason, "SD");
            assert_eq!(entry["bytes"], 4, "{entry}");
        }
    }

    fn a_malformed_response_is_logged_with_its_reason(backend) {
        let origin = Origin::new();
        let proxy = Proxy::new(backend, &origin.address().to_string(), &json!({}));
        let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        let many = "HTTP/1.1 103 \r\n\r\n".repeat(1000);
        let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        for (number, (bytes, reason)) in [
            ("HTTP/1.1 20x\r\n\r\n", "malformed_response"),
            (switched, "malformed_response"),
            (&large, "response_too_large"),
            (&many, "too_many_interim"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut wire = proxy.send(POST);
            let mut visit = origin.visit();
            visit.request();
            // It may be cut off before it has sent all of it.
            let _ = visit.stream.write_all(bytes.as_bytes());
            let response = loop {
                let response = wire.response();
                if response.status >= 200 {
                    break response;
                }
            };
            assert_eq!(response.status, 502, "{reason}");
            proxy.expect(number, 502, reason, "PH");
        }
        let mut wire = proxy.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        wire.head_only();
        proxy.expect(4, 200, "malformed_body", "PD");
    }

    fn a_queue_that_is_full_or_too_slow_is_logged_with_its_reason(backend) {
        let origin = Origin::new();
        let upstream = json!({ "address": origin.address().to_string(), "max_connections": 1 });
        let options = json!({ "upstreams": [upstream], "queue": { "max": 1, "timeout": "500ms" } });
        let proxy = Proxy::new(backend, &origin.address().to_string(), &options);
        let mut served = proxy.send(GET);
        let mut visit = origin.visit();
        visit.request();
        // Either of them waits, and the other is refused at once.
        let waiting = [proxy.send(GET), proxy.send(GET)];
        let entry = proxy.expect(0, 503, "queue_full", "RQ");
        assert!(entry.get("upstream").is_none() && entry["tries"] == 0, "{entry}");
        let entry = proxy.expect(1, 503, "queue_timeout", "sQ");
        let [queue_us, duration_us] = numbers(&entry, ["queue_us", "duration_us"]);
        assert!(queue_us >= 500_000 && duration_us >= queue_us, "{entry}");
        visit.send(OK);
        assert_ok(&served.response());
        drop(waiting);
    }

    fn that_all_upstreams_are_down_is_logged(backend) {
        let nobody = ClosedPort::new();
        let active = json!({ "type": "tcp", "interval": "20ms", "timeout": "1s", "fall": 1 });
        let options = json!({ "health_check": { "active": active } });
        let proxy = Proxy::new(backend, &nobody.address().to_string(), &options);
        proxy.service.first.log().wait_for("it is down", |record| record.message().contains("down"));
        assert_eq!(proxy.send(GET).response().status, 503);
        let entry = proxy.expect(0, 503, "all_down", "SC");
        assert!(entry.get("upstream").is_none(), "{entry}");
    }

    fn a_handshake_that_fails_is_logged_with_its_reason(backend) {
        let origin = Origin::new();
        let options = json!({ "upstream_tls": { "verify": false }, "tries": 1 });
        let proxy = Proxy::new(backend, &format!("https://{}", origin.address()), &options);
        let mut wire = proxy.send(GET);
        let mut visit = origin.visit();
        visit.send("HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(wire.response().status, 502);
        proxy.expect(0, 502, "tls_failed", "SC");
    }

    fn a_request_id_is_passed_on_made_or_replaced(backend) {
        let origin = Origin::new();
        for (rule, sent, is_kept) in [
            ("keep", Some("of-the-client"), true),
            ("keep", None, true),
            ("add", Some("of-the-client"), true),
            ("add", None, false),
            ("add", Some("not valid"), false),
            ("replace", Some("of-the-client"), false),
        ] {
            let options = json!({ "request_id": rule });
            let proxy = Proxy::new(backend, &origin.address().to_string(), &options);
            let field = sent.map_or_else(String::new, |id| format!("X-Request-Id: {id}\r\n"));
            let mut wire = proxy.send(&GET.replacen("Host: h\r\n", &format!("Host: h\r\n{field}"), 1));
            let mut visit = origin.visit();
            let request = visit.request();
            visit.send(OK);
            assert_ok(&wire.response());
            let entry = proxy.entry(0);
            let received = request.values("X-Request-Id");
            assert_eq!(received.len(), usize::from(sent.is_some() || !is_kept), "{rule}: {received:?}");
            assert_eq!(entry.get("request_id").and_then(Value::as_str), received.first().copied(), "{rule}");
            match (is_kept, received.first()) {
                (true, received) => assert_eq!(received.copied(), sent),
                (false, Some(id)) => assert!(id.len() == 32 && Some(*id) != sent, "{rule}: {id}"),
                (false, None) => panic!("{rule}: no id was made"),
            }
        }
    }

    fn a_template_shows_what_it_names_and_a_sample_has_every_failure(backend) {
        let nobody = ClosedPort::new();
        let place = Place::new(backend);
        let proxy = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": [nobody.address().to_string()] });
        let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
        place.configure_with([routes("127.0.0.1", json!([proxy, metrics]))], |document| {
            document["workers"] = json!(1);
            let format = "$method $target $status $reason $upstream_addr $termination $request_id";
            document["access_log"] = json!({ "path": "access.log", "format": format, "sample": 0 });
        });
        let service = place.start();
        for (target, status) in [("/metrics", 200), ("/a", 502), ("/metrics", 200)] {
            let mut wire = Wire::to(service.address());
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(wire.response().status, status);
        }
        let read = || fs::read_to_string(place.path("access.log")).unwrap_or_default();
        eventually("a line in the log", || read().ends_with('\n'));
        let line = read();
        let expected = format!("GET /a 502 connect_refused {} SC ", nobody.address());
        let id = line.strip_prefix(&expected).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(id.trim_end().len(), 32, "made for the line: {line}");
    }

    fn what_goes_well_is_logged_with_its_times(backend) {
        const PAUSE: Duration = Duration::from_millis(50);
        let (nobody, origin) = (ClosedPort::new(), Origin::new());
        let upstreams = [nobody.address().to_string(), origin.address().to_string()];
        let proxy = Proxy::new(backend, &upstreams[0], &json!({ "upstreams": upstreams }));
        let mut tries = Vec::new();
        for number in 0..2 {
            let ids = "X-Request-Id: 7\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
            let mut wire = proxy.send(&POST.replacen("Host: h\r\n", &format!("Host: h\r\n{ids}"), 1));
            let mut visit = origin.visit();
            let request = visit.request();
            assert_eq!((request.values("X-Request-Id"), request.values("traceparent").len()), (vec!["7"], 1));
            std::thread::sleep(PAUSE);
            visit.send(format!("{}Connection: close\r\n\r\nok", OK.strip_suffix("\r\nok").expect("a body")));
            assert_ok(&wire.response());
            let entry = proxy.entry(number);
            let texts = ["upstream", "termination", "request_id", "trace_id", "protocol"].map(|name| &entry[name]);
            assert_eq!(texts[..4], [upstreams[1].as_str(), "--", "7", "4bf92f3577b34da6a3ce929d0e0e4736"]);
            assert!(texts[4].as_str().is_some_and(|protocol| protocol.starts_with("HTTP/")), "{entry}");
            let [first_byte_us, duration_us, queue_us, request_bytes] =
                numbers(&entry, ["first_byte_us", "duration_us", "queue_us", "request_bytes"]);
            assert!(first_byte_us >= PAUSE.as_micros() as u64 && first_byte_us <= duration_us, "{entry}");
            assert_eq!((queue_us, request_bytes, entry.get("reason")), (0, 3, None));
            tries.push(numbers(&entry, ["tries"])[0]);
        }
        tries.sort_unstable();
        assert_eq!(tries, [1, 2], "one of them began at the other");
    }
}
