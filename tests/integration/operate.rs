//! What those who operate a server use while it runs: the listener for metrics.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Place, Service, echo, files, wait_for_end};
use crate::support::client::{ping, was_cut};
use crate::support::process::Signal;
use crate::support::{backends, connect, eventually, uninterrupted};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";

/// Metrics on a port that the kernel chooses.
fn metrics() -> Value {
    json!({ "port": 0 })
}

/// Where the listener for metrics is, from the log.
#[track_caller]
pub fn metrics_address(service: &Service) -> SocketAddr {
    let record = service.first.log().wait_for("a listener for metrics", |record| {
        record.message() == "listening for operators" && record.text("role") == Some("metrics")
    });
    record.text("address").expect("its address").parse().expect("an internet address")
}

/// The answer to a request on a connection of its own; `None`: there is none.
fn try_get(address: SocketAddr, target: &str) -> Option<Response> {
    let stream = std::net::TcpStream::connect(address).ok()?;
    let mut wire = Wire::over(stream);
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    uninterrupted(|| wire.stream.write_all(request.as_bytes())).ok()?;
    wire.read(false)
}

#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Response {
    try_get(address, target).unwrap_or_else(|| panic!("no answer to {target}"))
}

backends! {
    fn the_listener_for_metrics_says_how_the_server_is(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| document["metrics"] = metrics());
        let service = place.start();
        let address = metrics_address(&service);
        let status = |target: &str| get(address, target).status;
        let all = ["/livez", "/readyz", "/metrics", "/", "/nothing", "/livez/more"];
        assert_eq!(all.map(status), [200, 200, 200, 200, 404, 404]);
        assert_eq!(get(service.address(), "/page").status, 200);
        // What it serves itself is not counted.
        let text = get(address, "/metrics").text();
        assert!(text.contains("xps_connections_accepted_total 1\n"), "{text}");
        assert!(text.contains("xps_http_responses_total{class=\"2xx\"} 1\n"), "{text}");
        let mut wire = Wire::to(address);
        wire.send("POST /livez HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(wire.response().status, 405);
    }

    fn at_the_connection_limit_metrics_still_answer(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| {
            document["metrics"] = metrics();
            document["max_connections"] = json!(1);
        });
        let service = place.start();
        let client = connect(service.address());
        ping(&client, b"first");
        let mut waiting = connect(service.address());
        waiting.write_all(b"second").expect("the backlog has room");
        // The worker publishes its gauges at the end of a turn.
        let counts_one = || get(metrics_address(&service), "/metrics").text().contains("xps_connections 1\n");
        eventually("the metrics show one connection", counts_one);
    }

    fn who_is_not_allowed_is_refused_by_the_listener_for_metrics_only(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| {
            document["metrics"] = json!({ "port": 0, "allow": ["192.0.2.0/24"] });
        });
        let service = place.start();
        // The reset may come before the connection is seen to be there.
        let stream = std::net::TcpStream::connect(metrics_address(&service));
        assert!(stream.is_err() || stream.is_ok_and(|stream| was_cut(&stream)));
        assert_eq!(get(service.address(), "/page").status, 200);
    }

    fn a_drain_that_waits_for_a_client_can_be_watched(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| document["metrics"] = metrics());
        let mut service = place.start();
        let address = metrics_address(&service);
        let client = connect(service.address());
        ping(&client, b"there");
        service.until_told("draining", || service.signal(Signal::Terminate));
        assert_eq!(get(address, "/livez").status, 200);
        assert_eq!(get(address, "/readyz").status, 503);
        let text = get(address, "/metrics").text();
        assert!(text.contains("xps_connections 1\n"), "{text}");
        // A scraper that keeps its connection does not hold up the end.
        let mut idle = Wire::to(address);
        idle.send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(idle.response().status, 200);
        drop(client);
        assert!(service.first.wait_within(Duration::from_secs(5)).success());
    }

    fn drain_delay_says_not_ready_before_accepting_stops(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| {
            document["metrics"] = metrics();
            document["limits"]["drain_delay"] = json!("1s");
        });
        let mut service = place.start();
        let address = metrics_address(&service);
        let begun = Instant::now();
        service.signal(Signal::Terminate);
        eventually("it is not ready", || get(address, "/readyz").status == 503);
        if begun.elapsed() < Duration::from_millis(800) {
            assert_eq!(get(service.address(), "/page").status, 200, "it still accepts");
        }
        assert!(service.first.wait().success());
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    fn a_second_signal_ends_the_delay_and_the_server(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| document["limits"]["drain_delay"] = json!("1h"));
        let mut service = place.start();
        service.until_told("not ready from now on; draining follows", || service.signal(Signal::Terminate));
        service.signal(Signal::Terminate);
        assert_eq!(service.first.wait().code(), Some(128 + 15));
    }

    fn a_reload_adds_and_removes_the_listener_for_metrics(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        let configure = |metrics: Value| {
            place.configure_with([files(HERE, "site")], |document| document["metrics"] = metrics);
        };
        configure(json!(false));
        let service = place.start();
        configure(metrics());
        service.reload();
        let address = metrics_address(&service);
        assert_eq!(get(address, "/readyz").status, 200);
        configure(json!(false));
        service.reload();
        eventually("nothing listens there", || std::net::TcpStream::connect(address).is_err());
        assert_eq!(get(service.address(), "/page").status, 200);
    }

    fn a_replacement_takes_the_listener_for_metrics_over(backend) {
        let place = Place::new(backend);
        let unix = place.path("metrics.sock");
        let configure = |metrics: Value| {
            place.configure_with([echo(HERE)], |document| document["metrics"] = metrics);
        };
        configure(json!({ "unix": "metrics.sock", "mode": "0620" }));
        let mut service = place.start();
        let old = service.pid();
        assert_eq!(unix.metadata().expect("it is there").permissions().mode() & 0o777, 0o620);
        let client = connect(service.address());
        ping(&client, b"there");
        service.replace();
        // Balancers see no gap.
        for _ in 0..20 {
            let stream = std::os::unix::net::UnixStream::connect(&unix).expect("it listens");
            assert!(ask_unix(stream, "/readyz").starts_with("HTTP/1.1 200 "));
        }
        drop(client);
        wait_for_end(old);
        assert!(unix.exists(), "the file is the new process's");
        let unix_of_last = unix.clone();
        drop(service);
        assert!(!unix_of_last.exists(), "it removes its file");
    }
}

fn ask_unix(mut stream: std::os::unix::net::UnixStream, target: &str) -> String {
    use std::io::Read;
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    answer
}
