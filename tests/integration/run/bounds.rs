//! What `limits` bounds, as clients notice it.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use serde_json::{Value, json};

use crate::place::{Place, Service, echo, files, routes};
use crate::support::client::{ping, stays_silent};
use crate::support::h2::client::Connection;
use crate::support::process::Signal;
use crate::support::{Backend, Content, ask, assert_same_bytes, backends, connect, read_rest, was_cut};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";

/// A server with these limits, and one worker.
fn start(backend: Backend, server: Value, limits: Value) -> (Place, Service) {
    let place = Place::new(backend);
    place.page("site", "a page");
    place.configure_with([server], |document| {
        document["workers"] = json!(1);
        let all = document["limits"].as_object_mut().expect("an object");
        all.extend(limits.as_object().expect("an object").clone());
    });
    let service = place.start();
    (place, service)
}

#[track_caller]
fn status(service: &Service, request: &str) -> u16 {
    let mut wire = Wire::to(service.address());
    wire.send(request);
    wire.response().status
}

backends! {
    fn what_a_download_takes_of_frames_is_no_overhead(backend) {
        let mut server = files(HERE, "site");
        server["listeners"][0]["h2c"] = json!(true);
        let (place, service) = start(backend, server, json!({ "http2": { "overhead_bytes": "16k" } }));
        let content = Content::bytes(5, 24 << 20);
        place.page("site", &content);
        let mut client = Connection::to(service.address());
        // It grants the windows again for each frame.
        let stream = client.get("/page");
        assert_same_bytes(&client.response(stream).body, &content);
        client.finish();
    }

    fn a_server_without_routes_has_nothing(backend) {
        for server in [routes(HERE, json!([])), json!({ "listeners": [{ "host": HERE, "port": 0 }] })] {
            let (_place, service) = start(backend, server, json!({}));
            assert_eq!(status(&service, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 404);
            assert_eq!(status(&service, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), 404);
        }
    }

    fn heads_are_as_large_as_they_may_be(backend) {
        let limits = json!({ "http": { "head_bytes_max": 400, "request_line_bytes_max": 100, "fields_max": 4 } });
        let (_place, service) = start(backend, files(HERE, "site"), limits);
        let get = |target: &str, fields: &str| {
            status(&service, &format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
        };
        let target = |bytes: usize| format!("/page?{}", "q".repeat(bytes - "GET /page? HTTP/1.1\r\n".len()));
        assert_eq!(get(&target(100), ""), 200);
        assert_eq!(get(&target(101), ""), 414);
        assert_eq!(get("/page", "A: 1\r\nB: 2\r\nC: 3\r\n"), 200);
        assert_eq!(get("/page", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n"), 431);
        assert_eq!(get("/page", &format!("A: {}\r\n", "a".repeat(300))), 200);
        assert_eq!(get("/page", &format!("A: {}\r\n", "a".repeat(400))), 431);
    }

    fn a_connection_has_as_many_requests_as_it_may(backend) {
        let (_place, service) = start(backend, files(HERE, "site"), json!({ "http": { "requests_max": 3 } }));
        let mut wire = Wire::to(service.address());
        for is_last in [false, false, true] {
            wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(wire.response().is_last(), is_last);
        }
        wire.expect_end();
    }

    fn slow_heads_and_idle_connections_end(backend) {
        let limits = json!({ "http": { "head_timeout": "1s", "keep_alive_timeout": "500ms" } });
        let (_place, service) = start(backend, files(HERE, "site"), limits);
        let mut slow = Wire::to(service.address());
        slow.send("GET /page HTTP/1.1\r\nHo");
        let response = slow.response();
        assert_eq!((response.status, response.is_last()), (408, true));
        let mut idle = Wire::to(service.address());
        idle.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(!idle.response().is_last());
        idle.expect_end();
    }

    fn bodies_that_nobody_wants_are_read_up_to_a_length(backend) {
        let (_place, service) = start(backend, files(HERE, "site"), json!({ "http": { "discard_bytes_max": 10 } }));
        for (bytes, is_last) in [(10, false), (11, true)] {
            let mut wire = Wire::to(service.address());
            wire.send(format!("GET /page HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n"));
            wire.send("b".repeat(bytes));
            let response = wire.response();
            assert_eq!((response.status, response.is_last()), (200, is_last), "{bytes}");
        }
    }

    fn a_silent_connection_is_closed(backend) {
        let (_place, service) = start(backend, echo(HERE), json!({ "idle_timeout": "1s" }));
        let stream = connect(service.address());
        ping(&stream, b"hello");
        assert!(was_cut(&stream));
    }

    fn no_more_connections_are_served_at_a_time_than_may_be(backend) {
        let (_place, service) = start(backend, echo(HERE), json!({ "connections_max": 1 }));
        let first = connect(service.address());
        ping(&first, b"first");
        let mut second = connect(service.address());
        second.write_all(b"second").expect("the kernel takes it");
        assert!(stays_silent(&second, Duration::from_millis(200)), "it waits in the kernel");
        drop(first);
        second.shutdown(Shutdown::Write).expect("the connection is there");
        assert_eq!(read_rest(&second), b"second");
    }

    fn lines_are_as_long_as_they_may_be(backend) {
        let server = json!({ "listeners": [{ "host": HERE, "port": 0 }], "protocol": "tcp", "handler": "reverse" });
        let (_place, service) = start(backend, server, json!({ "line_bytes_max": 4 }));
        assert_eq!(ask(service.address(), b"abcd\nabcdef\n"), b"dcba\ndcbafe\n");
    }

    fn a_drain_takes_as_long_as_it_may(backend) {
        let (_place, mut service) = start(backend, echo(HERE), json!({ "drain_timeout": "200ms" }));
        let stream = connect(service.address());
        ping(&stream, b"hello");
        service.signal(Signal::Terminate);
        assert!(was_cut(&stream));
        assert_eq!(service.first.wait().code(), Some(0));
    }
}
