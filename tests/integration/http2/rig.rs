//! A server of HTTP/2 with files, metrics, and an upstream that answers some requests and never the others.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::origin::{Received, Visit};
use crate::place::{Place, routes};
pub use crate::support::h2::attack::HELD;
use crate::support::h2::client::Connection;
use crate::support::process::Usage;
use crate::support::{Backend, Upstream, Xps};

/// A running server of one worker: `/files` is a folder, `/metrics` the metrics, and everything else is forwarded.
#[derive(Debug)]
pub struct Rig {
    pub xps: Xps,
    pub place: Place,
    _upstream: Upstream,
    seen: Arc<Mutex<Vec<Received>>>,
}

impl Rig {
    #[track_caller]
    pub fn new(backend: Backend) -> Self {
        Self::with(backend, |_| {})
    }

    /// With this configuration.
    #[track_caller]
    pub fn with(backend: Backend, change: impl FnOnce(&mut Value)) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        let held = Mutex::new(Vec::new());
        let upstream = Upstream::new(move |stream, _| serve(stream, &requests, &held));
        let place = Place::new(backend);
        place.page("site", PAGE);
        let mut server = routes(
            "127.0.0.1",
            json!([
                { "req_path": "/files", "type": "file_serve", "dir_path": "site" },
                { "req_path": "/metrics", "type": "metrics" },
                { "req_path": "/", "type": "reverse_proxy", "upstreams": [upstream.address().to_string()] },
            ]),
        );
        server["listeners"][0]["h2c"] = json!(true);
        place.configure_with([server], |document| {
            document["workers"] = json!(1);
            change(document);
        });
        let xps = place.launch().start();
        Self { xps, place, _upstream: upstream, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.xps.address()
    }

    /// A connection on which the preface is sent.
    #[track_caller]
    pub fn connection(&self) -> Connection {
        Connection::to(self.address())
    }

    /// Writes a file that is served below `/files`.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.place.path("site").join(name), content).expect("a temporary file");
    }

    /// The requests that the upstream has got and answers, in their order.
    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().expect("no panic in it").clone()
    }

    /// How often a limit of HTTP/2 was exceeded.
    #[track_caller]
    pub fn exceeded(&self, limit: &str) -> u64 {
        let mut connection = self.connection();
        let stream = connection.get("/metrics");
        let text = connection.response(stream).text();
        let name = format!("xps_http2_limits_total{{limit=\"{limit}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    #[track_caller]
    pub fn usage(&self) -> Usage {
        self.xps.usage()
    }
}

/// What `/files/page` holds.
pub const PAGE: &str = "a page";

/// Reads nothing but its head of a request whose path begins with [`HELD`], and never answers it. Anything else is answered with how many bytes of a body came.
fn serve(stream: TcpStream, seen: &Mutex<Vec<Received>>, held: &Mutex<Vec<Visit>>) {
    let mut visit = Visit::new(stream);
    let mut first = [0; 64];
    loop {
        let Ok(got @ 1..) = visit.stream.peek(&mut first) else { return };
        let line = String::from_utf8_lossy(&first[..got]).into_owned();
        if line.split(' ').nth(1).is_some_and(|target| target.starts_with(HELD)) {
            return held.lock().expect("no panic in it").push(visit);
        }
        // An upload that the client gives up is cut.
        let Ok(request) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| visit.request())) else { return };
        let body = request.body.len().to_string();
        let is_head = request.line().starts_with("HEAD");
        seen.lock().expect("no panic in it").push(request);
        let body_sent = if is_head { "" } else { body.as_str() };
        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body_sent}", body.len()));
    }
}

/// Checks that the connection still serves.
#[track_caller]
pub fn expect_service(connection: &mut Connection) {
    let stream = connection.get("/probe");
    let response = connection.response(stream);
    assert_eq!((response.status, response.text().as_str()), (200, "0"));
    let stream = connection.get("/files/page");
    let response = connection.response(stream);
    assert_eq!((response.status, response.text().as_str()), (200, PAGE));
}
