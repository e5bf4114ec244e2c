//! Each exchange begins once and ends once: one line in the access log, one more in the counters, however it ends.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::origin::Origin;
use crate::place::{Place, Service, routes};
use crate::run::leaks::threads;
use crate::run::reload::{proxied, upstream};
use crate::support::client::{read_until_cut, reset};
use crate::support::{Backend, Content, backends, eventually};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";

/// Compressing this takes seconds in a debug build, which the end of the server waits for.
const TEXT_BYTES: usize = 2 << 20;

/// A server of one worker with an access log, these routes, and its metrics.
struct Site {
    _place: Place,
    service: Service,
    log: PathBuf,
}

impl Site {
    #[track_caller]
    fn new(backend: Backend, routes_json: &[Value]) -> Self {
        let place = Place::new(backend);
        place.page("site", "a page");
        let letters = Content::bytes(1, TEXT_BYTES).into_iter().map(|byte| b'a' + byte % 26).collect::<Vec<_>>();
        std::fs::write(place.path("site").join("long.txt"), letters).expect("a temporary file");
        let files = json!({ "req_path": "/", "type": "file_serve", "dir_path": "site", "compression_level": 9 });
        let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
        place.configure_with([routes(HERE, json!([routes_json, &[files, metrics]].concat()))], |document| {
            document["workers"] = json!(1);
            document["access_log"] = json!("log");
            document["access_format"] = json!("json");
        });
        let (service, log) = (place.start(), place.path("log"));
        Self { _place: place, service, log }
    }

    /// The lines for this target, once there is one.
    #[track_caller]
    fn lines(&self, target: &str) -> Vec<Value> {
        eventually("a line in the log", || !self.lines_so_far(target).is_empty());
        self.lines_so_far(target)
    }

    fn lines_so_far(&self, target: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["target"] == target).collect()
    }

    /// How many responses of each class were counted, from 1xx to 5xx. Each call is one more of 2xx.
    #[track_caller]
    fn responses(&self) -> [u64; 5] {
        let mut wire = Wire::to(self.service.address());
        wire.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
        let text = wire.response().text();
        [1, 2, 3, 4, 5].map(|class| {
            let name = format!("xps_http_responses_total{{class=\"{class}xx\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name)).expect("it is shown");
            value.parse().expect("a number")
        })
    }

    /// A client that waits for a long text to be compressed.
    #[track_caller]
    fn client_of_a_look_up(&self) -> Wire {
        let mut wire = Wire::to(self.service.address());
        wire.send("GET /long.txt HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\n\r\n");
        eventually("the text is being compressed", || !threads(&self.service, "xps-compute").is_empty());
        wire
    }
}

backends! {
    fn a_client_that_leaves_during_a_look_up_is_recorded_as_499_and_counted_once(backend) {
        let site = Site::new(backend, &[]);
        let wire = site.client_of_a_look_up();
        assert_eq!(site.lines_so_far("/long.txt"), [Value::Null; 0], "it is not over yet");
        assert_eq!(site.responses(), [0; 5]);
        reset(wire.stream);
        let lines = site.lines("/long.txt");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((&lines[0]["status"], &lines[0]["bytes"]), (&499.into(), &0.into()), "{lines:?}");
        assert!(lines[0]["duration_us"].as_u64().is_some_and(|duration_us| duration_us > 0), "{lines:?}");
        assert_eq!(site.responses(), [0, 1, 0, 1, 0]);
    }

    fn a_switched_connection_is_recorded_at_its_end_with_what_was_sent(backend) {
        let echo = upstream("it echoes after a switch");
        let site = Site::new(backend, &[proxied("/chat", &echo)]);
        for is_reset in [false, true] {
            let mut wire = Wire::to(site.service.address());
            wire.send("GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
            assert_eq!(wire.response().status, 101);
            wire.send("hello");
            assert_eq!(wire.take(5), b"hello");
            let before = usize::from(is_reset);
            assert_eq!(site.lines_so_far("/chat").len(), before, "it is not over yet");
            match is_reset {
                true => reset(wire.stream),
                false => drop(wire),
            }
            eventually("a line in the log", || site.lines_so_far("/chat").len() > before);
            let lines = site.lines("/chat");
            assert_eq!(lines.len(), before + 1, "{lines:?}");
            assert_eq!(lines[before]["status"], 101, "{lines:?}");
            // What a reset has overtaken may not be known to have arrived.
            let bytes = lines[before]["bytes"].as_u64().expect("a number");
            assert!(bytes == 5 || is_reset && bytes < 5, "{lines:?}");
        }
        assert_eq!(site.responses(), [2, 0, 0, 0, 0]);
    }

    fn a_response_that_breaks_off_is_counted_once(backend) {
        let origin = Origin::new();
        let route = json!({
            "req_path": "/half", "type": "reverse_proxy", "upstreams": [origin.address().to_string()],
            "keepalive": { "idle_max": 0 },
        });
        let site = Site::new(backend, &[route]);
        let framings = [("Content-Length: 10\r\n", "half"), ("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n")];
        for (at, (framing, body)) in framings.into_iter().enumerate() {
            let mut wire = Wire::to(site.service.address());
            wire.send("GET /half HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut visit = origin.visit();
            visit.request();
            visit.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}"));
            wire.head_only();
            assert_eq!(wire.take(body.len()), body.as_bytes());
            drop(visit);
            assert!(read_until_cut(&wire.stream).0.is_empty());
            drop(wire);
            eventually("a line in the log", || site.lines_so_far("/half").len() > at);
            let lines = site.lines("/half");
            assert_eq!(lines.len(), at + 1, "{lines:?}");
            // The bytes on the wire, as for every other body.
            assert_eq!((&lines[at]["status"], &lines[at]["bytes"]), (&200.into(), &body.len().into()), "{lines:?}");
        }
        assert_eq!(site.responses(), [0, 2, 0, 0, 0]);
    }
}
