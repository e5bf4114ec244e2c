//! WebSockets over HTTP/2: an extended CONNECT (RFC 8441) of the client is an upgrade towards the upstream.

use std::io::{Read, Write};

use crate::http_proxy::gateway::Gateway;
use crate::origin::{Origin, Visit};
use crate::support::bridge::Over;
use crate::support::h2::client::Connection;
use crate::support::h2::frame::{Frame, code, setting};
use crate::support::{Backend, Content, Launch, assert_same_bytes, backends, read_rest, uninterrupted};

/// A proxy that speaks HTTP/2 without TLS.
#[track_caller]
fn proxy(backend: Backend, origin: &Origin) -> Gateway {
    Gateway::over_http2(backend, Over::H2c, origin.address(), &[])
}

/// Without TLS and over it.
pub const BOTH: [Over; 2] = [Over::H2c, Over::H2];

/// The fields of a request for a WebSocket, without TLS.
const FIELDS: [(&str, &str); 7] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "h"),
    (":path", "/chat"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Begins a request for a WebSocket.
#[track_caller]
pub fn open(client: &mut Connection) -> u32 {
    let mut fields = FIELDS;
    (fields[2].1, fields[3].1) = (client.scheme, client.authority);
    client.request_of(&fields, false)
}

/// The answer to a request, as `accept` makes it of the key.
#[track_caller]
pub fn switch(visit: &mut Visit, rest: &str) {
    let request = visit.request();
    assert_eq!(request.line(), "GET /chat HTTP/1.1");
    assert_eq!((request.values("Upgrade"), request.values("Connection")), (vec!["websocket"], vec!["upgrade"]));
    assert_eq!(request.values("Sec-WebSocket-Version"), ["13"]);
    assert_eq!((request.values("Transfer-Encoding").len(), request.values("Content-Length").len()), (0, 0));
    let keys = request.values("Sec-WebSocket-Key");
    assert!(keys.len() == 1 && keys[0].len() == 24 && keys[0] != FIELDS[6].1, "{keys:?}");
    let accept = accept(keys[0]);
    visit.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n{rest}"
    ));
}

/// The proof that belongs to a key (RFC 6455, 4.2.2).
fn accept(key: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let mut accept = String::new();
    for group in hash.as_ref().chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).for_each(|at| accept.push(char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63])));
    }
    accept + "="
}

/// A client and an upstream with a tunnel between them.
#[track_caller]
fn opened(gateway: &Gateway, origin: &Origin) -> (Connection, u32, Visit) {
    let mut client = gateway.connection();
    let (stream, visit) = opened_on(&mut client, origin);
    (client, stream, visit)
}

/// A stream of this client and an upstream with a tunnel between them.
#[track_caller]
pub fn opened_on(client: &mut Connection, origin: &Origin) -> (u32, Visit) {
    let stream = open(client);
    let mut visit = origin.visit();
    switch(&mut visit, "");
    let response = client.head(stream);
    assert_eq!((response.status, response.field("sec-websocket-protocol")), (200, Some("chat")));
    assert_eq!((response.field("sec-websocket-accept"), response.field("content-length")), (None, None));
    assert!(client.settings.contains(&(setting::ENABLE_CONNECT_PROTOCOL, 1)));
    (stream, visit)
}

/// Waits for this many bytes of the tunnel.
#[track_caller]
pub fn wait_for(client: &mut Connection, stream: u32, bytes: usize) {
    client.read_until("bytes of the tunnel", |client| client.seen(stream).body.len() >= bytes);
}

backends! {
    fn bytes_pass_both_ways_and_each_ends_on_its_own(backend) {
        for over in BOTH {
            let origin = Origin::new();
            let gateway = Gateway::over_http2(backend, over, origin.address(), &[]);
            let (mut client, stream, mut visit) = opened(&gateway, &origin);
            for round in 1..=3 {
                client.upload(stream, b"\x81\x85hello", false);
                assert_eq!(visit.take(7), b"\x81\x85hello");
                visit.send("\u{1}answer");
                wait_for(&mut client, stream, round * 7);
            }
            // The client has no more to say, but listens.
            client.upload(stream, b"bye", true);
            assert_eq!(visit.take(3), b"bye");
            assert_eq!(uninterrupted(|| visit.stream.read(&mut [0])).expect("an end"), 0);
            visit.send("the last word");
            visit.end();
            let response = client.response(stream);
            assert!(response.body.ends_with(b"the last word"), "{response:?}");
            client.finish();
        }
    }

    fn the_upstream_may_end_first(backend) {
        for over in BOTH {
            let origin = Origin::new();
            let gateway = Gateway::over_http2(backend, over, origin.address(), &[]);
            let (mut client, stream, mut visit) = opened(&gateway, &origin);
            visit.send("all of it");
            visit.end();
            assert_eq!(client.response(stream).body, b"all of it");
            client.upload(stream, b"an answer to it", true);
            assert_eq!(visit.until_end(), b"an answer to it");
            assert_eq!(client.reset_of(stream), None);
            client.finish();
        }
    }

    fn what_comes_with_the_heads_is_not_lost(backend) {
        let origin = Origin::new();
        let gateway = proxy(backend, &origin);
        let mut client = Connection::to(gateway.xps.address());
        let stream = client.request_of(&FIELDS, false);
        client.upload(stream, b"hasty client", false);
        let mut visit = origin.visit();
        switch(&mut visit, "hasty upstream");
        wait_for(&mut client, stream, 14);
        assert_eq!(client.seen(stream).body, b"hasty upstream");
        assert_eq!(visit.take(12), b"hasty client");
    }

    fn a_break_on_one_side_is_one_on_the_other(backend) {
        for over in BOTH {
            let origin = Origin::new();
            let gateway = Gateway::over_http2(backend, over, origin.address(), &[]);
            let (mut client, stream, mut visit) = opened(&gateway, &origin);
            client.send_frame(&Frame::reset(stream, code::CANCEL));
            assert!(uninterrupted(|| visit.stream.read(&mut [0])).is_err());
            client.ping().expect("the connection goes on");
            let (mut client, stream, visit) = opened(&gateway, &origin);
            visit.reset();
            assert_eq!(client.expect_reset(stream), code::CANCEL);
            client.ping().expect("the connection goes on");
            // A client that leaves altogether.
            let (client, _, visit) = opened(&gateway, &origin);
            drop(client);
            visit.expect_end();
        }
    }

    fn trailers_are_not_of_a_tunnel(backend) {
        let origin = Origin::new();
        let gateway = proxy(backend, &origin);
        let (mut client, stream, visit) = opened(&gateway, &origin);
        client.send_frame(&Frame::headers(stream, [], true));
        assert_eq!(client.expect_reset(stream), code::PROTOCOL_ERROR);
        visit.expect_end();
    }

    fn bulk_passes_both_ways_within_the_windows(backend) {
        const LENGTH: usize = 3 << 20;
        for over in BOTH {
            let origin = Origin::new();
            let gateway = Gateway::over_http2(backend, over, origin.address(), &[]);
            let (mut client, stream, visit) = opened(&gateway, &origin);
            std::thread::scope(|scope| {
                let mut sink = &visit.stream;
                scope.spawn(move || {
                    sink.write_all(&Content::bytes(1, LENGTH)).expect("the proxy takes it");
                    sink.shutdown(std::net::Shutdown::Write).expect("it is still there");
                });
                let source = &visit.stream;
                scope.spawn(move || assert_same_bytes(&read_rest(source), &Content::bytes(2, LENGTH)));
                client.upload(stream, &Content::bytes(2, LENGTH), true);
                assert_same_bytes(&client.response(stream).body, &Content::bytes(1, LENGTH));
            });
            client.finish();
        }
    }

    fn a_client_that_takes_little_holds_the_upstream_back(backend) {
        let origin = Origin::new();
        let gateway = proxy(backend, &origin);
        const LENGTH: usize = 24 << 20;
        let mut client = Connection::with_settings(gateway.xps.address(), &[(setting::INITIAL_WINDOW_SIZE, 100)]);
        client.hold_windows();
        let stream = client.request_of(&FIELDS, false);
        let mut visit = origin.visit();
        switch(&mut visit, "");
        assert_eq!(client.head(stream).status, 200);
        std::thread::scope(|scope| {
            let mut sink = &visit.stream;
            let writer = scope.spawn(move || sink.write_all(&Content::bytes(1, LENGTH)));
            wait_for(&mut client, stream, 100);
            client.read_for(std::time::Duration::from_millis(300));
            assert_eq!(client.seen(stream).body.len(), 100);
            assert!(!writer.is_finished(), "someone holds {LENGTH} bytes");
            client.grant(stream, 1000);
            wait_for(&mut client, stream, 1100);
            client.send_frame(&Frame::reset(stream, code::CANCEL));
            assert!(writer.join().expect("no panic").is_err(), "the upstream is reset");
        });
        client.ping().expect("the connection goes on");
    }

    fn an_upstream_has_to_prove_that_it_switches(backend) {
        let origin = Origin::new();
        let gateway = proxy(backend, &origin);
        let mut client = Connection::to(gateway.xps.address());
        for (answer, status) in [
            ("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
            ("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n", 502),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502),
            ("HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", 403),
            ("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", 302),
        ] {
            let stream = client.request_of(&FIELDS, false);
            let mut visit = origin.visit();
            visit.request();
            visit.send(answer);
            assert_eq!(client.response(stream).status, status, "{answer:?}");
        }
    }

    fn other_protocols_have_no_key(backend) {
        let origin = Origin::new();
        let gateway = proxy(backend, &origin);
        let mut client = Connection::to(gateway.xps.address());
        let mut fields = FIELDS[..5].to_vec();
        fields[1].1 = "other";
        let stream = client.request_of(&fields, false);
        let mut visit = origin.visit();
        let request = visit.request();
        assert_eq!((request.values("Upgrade"), request.values("Sec-WebSocket-Key").len()), (vec!["other"], 0));
        visit.send("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n");
        assert_eq!(client.head(stream).status, 200);
        fields[1].1 = "h2c";
        let stream = client.request_of(&fields, false);
        assert_eq!(client.response(stream).status, 501);
    }

    fn what_is_no_proxy_opens_no_tunnel(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("chat"), "a file").expect("a file is written");
        let folder_flag = folder.path().display().to_string();
        let xps = Launch::new(backend, ["serve", &folder_flag, "--listen", "127.0.0.1:0", "--h2c"]).start();
        let mut client = Connection::to(xps.address());
        let stream = client.request_of(&FIELDS, false);
        assert_eq!(client.response(stream).status, 501);
        let stream = client.request_of(&[(":method", "CONNECT"), (":authority", "h:80")], false);
        assert_eq!(client.response(stream).status, 405);
        let stream = client.get("/chat");
        assert_eq!(client.response(stream).text(), "a file");
    }
}
