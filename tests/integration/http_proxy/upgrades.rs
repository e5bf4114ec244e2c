//! Requests to speak another protocol, such as WebSocket: after 101, bytes pass both ways as they are.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::http_proxy::gateway::{Gateway, OK, assert_ok};
use crate::origin::{Origin, Visit};
use crate::support::client::{read_until_cut, reset, wait_until_acknowledged};
use crate::support::{Content, assert_same_bytes, backends, http1_only, read_rest, uninterrupted};
use crate::wire::Wire;

const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The head of a request to switch that has a body.
fn with_body(framing: &str) -> String {
    let (line, fields) = REQUEST.split_once("\r\n").expect("a request line");
    format!("{}\r\n{framing}\r\n{fields}", line.replace("GET", "POST"))
}

/// A client and an upstream that speak another protocol through the proxy.
#[track_caller]
fn upgraded(gateway: &Gateway, origin: &Origin) -> (Wire, Visit) {
    let mut wire = gateway.send(REQUEST);
    let mut visit = origin.visit();
    let request = visit.request();
    assert_eq!(request.values("Upgrade"), ["websocket"]);
    assert!(request.values("Connection")[0].eq_ignore_ascii_case("upgrade"), "{request:?}");
    assert_eq!(request.values("Sec-WebSocket-Version"), ["13"]);
    visit.send(SWITCH);
    let response = wire.response();
    assert_eq!((response.status, response.field("Upgrade")), (101, Some("websocket")));
    assert!(response.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")), "{response:?}");
    assert_eq!(response.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.length(), None);
    (wire, visit)
}

backends! {
    fn row_64_after_101_bytes_pass_both_ways_until_either_ends(backend) {
        http1_only!("the handshake of WebSocket is another one");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let (mut wire, mut visit) = upgraded(&gateway, &origin);
        for _ in 0..3 {
            wire.send(b"\x81\x85GET / HTTP/1.1\r\n\r\n\0\xff");
            assert_eq!(visit.take(22), b"\x81\x85GET / HTTP/1.1\r\n\r\n\0\xff");
            visit.send(b"\x8aHTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(wire.take(20), b"\x8aHTTP/1.1 200 OK\r\n\r\n");
        }
        // The client has no more to say, but listens.
        wire.stream.shutdown(Shutdown::Write).expect("it is still there");
        assert_eq!(uninterrupted(|| visit.stream.read(&mut [0])).expect("an end"), 0);
        visit.send("the last word");
        drop(visit);
        assert_eq!(wire.take(13), b"the last word");
        wire.expect_end();
    }

    fn row_64_what_comes_with_the_heads_is_not_lost(backend) {
        http1_only!("the handshake of WebSocket is another one");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(format!("{REQUEST}hasty client"));
        let mut visit = origin.visit();
        visit.request();
        visit.send(format!("{SWITCH}hasty upstream"));
        assert_eq!(wire.response().status, 101);
        assert_eq!(wire.take(14), b"hasty upstream");
        assert_eq!(visit.take(12), b"hasty client");
        visit.end();
        wire.expect_end();
        wire.stream.shutdown(Shutdown::Write).expect("it is still there");
        visit.expect_end();
    }

    fn row_64_a_break_on_one_side_is_one_on_the_other(backend) {
        http1_only!("the handshake of WebSocket is another one");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let (wire, visit) = upgraded(&gateway, &origin);
        visit.reset();
        assert!(read_until_cut(&wire.stream).1.is_err());
        let (wire, mut visit) = upgraded(&gateway, &origin);
        reset(wire.stream);
        assert!(uninterrupted(|| visit.stream.read(&mut [0])).is_err());
    }

    fn what_a_client_sent_before_its_reset_reaches_the_upstream(backend) {
        http1_only!("the handshake of WebSocket is another one");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let (wire, visit) = upgraded(&gateway, &origin);
        let content = Content::bytes(3, 1 << 20);
        (&wire.stream).write_all(&content).expect("it takes bytes");
        wait_until_acknowledged(&wire.stream);
        reset(wire.stream);
        // Only time shows that the proxy has noticed it and waits for the upstream.
        std::thread::sleep(Duration::from_millis(300));
        let (bytes, end) = read_until_cut(&visit.stream);
        assert_same_bytes(&bytes, &content);
        assert!(end.is_err(), "a reset, not an end");
    }

    fn row_64_bulk_passes_both_ways_at_once(backend) {
        http1_only!("the handshake of WebSocket is another one");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let (wire, visit) = upgraded(&gateway, &origin);
        const LENGTH: usize = 4 << 20;
        std::thread::scope(|scope| {
            for (number, stream) in [&wire.stream, &visit.stream].into_iter().enumerate() {
                scope.spawn(move || {
                    let mut sink = stream;
                    sink.write_all(&Content::bytes(number as u64, LENGTH)).expect("the proxy takes it");
                    stream.shutdown(Shutdown::Write).expect("it is still there");
                });
                scope.spawn(move || {
                    assert!(read_rest(stream) == Content::bytes(1 - number as u64, LENGTH));
                });
            }
        });
    }

    fn row_64_a_101_before_the_request_is_complete_is_refused(backend) {
        http1_only!("a request to switch has no body");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for (framing, begun, sent, rest) in [
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n", "5\r\nhello\r\n", "5\r\nagain\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "5\r\nhel", "3\r\nhel\r\n", "lo\r\n0\r\n\r\n"),
            ("Content-Length: 10", "hello", "hello", "again"),
        ] {
            let mut wire = gateway.send(with_body(framing));
            wire.send(begun);
            let mut visit = origin.visit();
            visit.head();
            assert_eq!(visit.take(sent.len()), sent.as_bytes());
            visit.send(SWITCH);
            let response = wire.response();
            assert_eq!((response.status, response.is_last()), (502, true), "{framing}, {begun:?}");
            // It may be closed already.
            let _ = wire.stream.write_all(rest.as_bytes());
            assert!(visit.until_end().is_empty(), "nothing of the rest goes where another protocol is spoken");
        }
    }

    fn row_64_a_101_after_a_complete_body_switches_right_behind_it(backend) {
        http1_only!("a request to switch has no body");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for (framing, body) in
            [("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), ("Content-Length: 5", "hello")]
        {
            let mut wire = gateway.send(with_body(framing));
            wire.send(format!("{body}5\r\nhasty"));
            let mut visit = origin.visit();
            assert_eq!(visit.request().body, b"hello");
            visit.send(SWITCH);
            assert_eq!(wire.response().status, 101, "{framing}");
            assert_eq!(visit.take(8), b"5\r\nhasty", "{framing}");
            visit.send("as it is");
            assert_eq!(wire.take(8), b"as it is", "{framing}");
        }
    }

    fn row_64_an_upstream_that_declines_answers_as_ever(backend) {
        http1_only!("the handshake of WebSocket is another one");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(REQUEST);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        let response = wire.response();
        assert_ok(&response);
        assert!(!response.is_last());
        wire.send(REQUEST);
        visit.request();
        visit.send(SWITCH);
        assert_eq!(wire.response().status, 101);
    }

    fn row_64_an_upgrade_that_would_carry_requests_past_the_rules_is_not_asked_for(backend) {
        http1_only!("there is no Upgrade");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for lines in ["Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "Upgrade: websocket\r\n"] {
            let mut wire = gateway.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
            let mut visit = origin.visit();
            let request = visit.request();
            assert_eq!((request.values("Upgrade").len(), request.values("Connection").len()), (0, 0), "{request:?}");
            visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            assert_ok(&wire.response());
        }
    }
}
