//! Request heads that are malformed, or are refused as in HTTP/1.1 (RFC 9113, 8).

use super::rig::{HELD, Rig, expect_service};
use crate::support::backends;
use crate::support::h2::client::{Connection, Fault};
use crate::support::h2::frame::{Frame, code};
use crate::support::h2::hpack;

type Fields = Vec<(&'static str, &'static str)>;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "h");
const PATH: (&str, &str) = (":path", "/none");

/// A good head, and these fields.
fn and(fields: &[(&'static str, &'static str)]) -> Fields {
    [&[METHOD, SCHEME, AUTHORITY, PATH], fields].concat()
}

fn malformed() -> Vec<(&'static str, Fields)> {
    vec![
        ("8.2.1: upper case", and(&[("X-Upper", "1")])),
        ("8.2.1: an empty name", and(&[("", "1")])),
        ("8.2.1: a space in a name", and(&[("x y", "1")])),
        ("8.2.1: a space behind a name", and(&[("x ", "1")])),
        ("8.2.1: a colon in a name", and(&[("x:y", "1")])),
        ("8.2.1: a line's end in a name", and(&[("x\r\ny", "1")])),
        ("8.2.1: a control character in a name", and(&[("x\u{1}", "1")])),
        ("8.2.1: NUL in a value", and(&[("x", "a\0b")])),
        ("8.2.1: CR in a value", and(&[("x", "a\rb")])),
        ("8.2.1: LF in a value", and(&[("x", "a\nb: c")])),
        ("8.2.1: a space before a value", and(&[("x", " a")])),
        ("8.2.1: a tab behind a value", and(&[("x", "a\t")])),
        ("8.2.2: Connection", and(&[("connection", "close")])),
        ("8.2.2: Keep-Alive", and(&[("keep-alive", "5")])),
        ("8.2.2: Proxy-Connection", and(&[("proxy-connection", "close")])),
        ("8.2.2: Transfer-Encoding", and(&[("transfer-encoding", "chunked")])),
        ("8.2.2: Upgrade", and(&[("upgrade", "h2c")])),
        ("8.2.2: TE that is not trailers", and(&[("te", "gzip")])),
        ("8.2.2: TE that is not trailers alone", and(&[("te", "trailers, gzip")])),
        ("8.3: an unknown one", and(&[]).into_iter().chain([(":what", "1")]).collect()),
        ("8.3: one of responses", and(&[(":status", "200")])),
        ("8.3: one behind a field", vec![METHOD, SCHEME, AUTHORITY, ("x", "1"), PATH]),
        ("8.3: one twice", and(&[PATH])),
        ("8.3.1: no method", vec![SCHEME, AUTHORITY, PATH]),
        ("8.3.1: no scheme", vec![METHOD, AUTHORITY, PATH]),
        ("8.3.1: no path", vec![METHOD, SCHEME, AUTHORITY]),
        ("8.3.1: an empty path", vec![METHOD, SCHEME, AUTHORITY, (":path", "")]),
        ("8.3.1: a path without a slash", vec![METHOD, SCHEME, AUTHORITY, (":path", "none")]),
        ("8.3.1: a path of OPTIONS for GET", vec![METHOD, SCHEME, AUTHORITY, (":path", "*")]),
        ("8.3.1: a whole URL as the path", vec![METHOD, SCHEME, AUTHORITY, (":path", "http://h/none")]),
        ("8.3.1: Host that differs", and(&[("host", "other")])),
        ("8.3.1: neither authority nor Host", vec![METHOD, SCHEME, PATH]),
        ("8.3.1: a space in the method", vec![(":method", "GET /x"), SCHEME, AUTHORITY, PATH]),
        ("8.5: CONNECT with a path", vec![(":method", "CONNECT"), SCHEME, AUTHORITY, PATH]),
        ("8.5: CONNECT without an authority", vec![(":method", "CONNECT")]),
        ("RFC 8441: a protocol without CONNECT", and(&[]).into_iter().chain([(":protocol", "websocket")]).collect()),
        ("8.1.1: a length of a body that does not come", and(&[("content-length", "4")])),
        ("8.1.1: two lengths", and(&[("content-length", "0"), ("content-length", "4")])),
        ("8.1.1: no number as the length", and(&[("content-length", "-4")])),
        ("8.1.1: a list as the length", and(&[("content-length", "4, 5")])),
    ]
}

fn refused() -> Vec<(u16, Fields)> {
    vec![
        (400, vec![METHOD, SCHEME, (":authority", "h h"), PATH]),
        (400, vec![METHOD, SCHEME, (":authority", "user@h"), PATH]),
        (400, vec![METHOD, SCHEME, (":authority", ""), PATH]),
        (400, vec![METHOD, SCHEME, AUTHORITY, (":path", "/a b")]),
        (400, vec![METHOD, SCHEME, AUTHORITY, (":path", "/a HTTP/1.1")]),
        (400, vec![METHOD, SCHEME, AUTHORITY, (":path", "/a#b")]),
        (400, vec![METHOD, (":scheme", "ftp"), AUTHORITY, PATH]),
        (405, vec![(":method", "CONNECT"), (":authority", "h:1")]),
        (417, and(&[("expect", "miracles")])),
    ]
}

/// Sends a head without a body.
#[track_caller]
fn send(connection: &mut Connection, fields: &Fields) -> u32 {
    connection.request_of(fields, true)
}

backends! {
    fn a_malformed_head_is_an_error_of_its_stream(backend) {
        let rig = Rig::new(backend);
        for (what, fields) in malformed() {
            let mut connection = rig.connection();
            let stream = send(&mut connection, &fields);
            match connection.try_response(stream) {
                Err(Fault::Stream(code::PROTOCOL_ERROR)) => {}
                // It may be answered before (8.1.1).
                Ok(response) if response.status == 400 => {}
                other => panic!("{what}: {other:?}"),
            }
            expect_service(&mut connection);
        }
        assert!(rig.seen().iter().all(|request| request.line() == "GET /probe HTTP/1.1"), "{:?}", rig.seen());
    }

    fn a_head_that_is_refused_in_http_1_is_refused_alike(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        for (status, fields) in refused() {
            let stream = send(&mut connection, &fields);
            assert_eq!(connection.response(stream).status, status, "{fields:?}");
        }
        expect_service(&mut connection);
    }

    fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let long = "x".repeat(40 << 10);
        let stream = connection.new_stream();
        let fields = [METHOD, SCHEME, AUTHORITY, PATH].map(|(name, value)| (name, value.to_owned()));
        let block = hpack::encode(fields.into_iter().chain([("x-long", long.clone())]));
        send_block(&mut connection, stream, &block);
        assert_eq!(connection.response(stream).status, 431);
        let path = format!("/{}", &long[..20 << 10]);
        let stream = connection.new_stream();
        let block = hpack::encode([METHOD, SCHEME, AUTHORITY, (":path", path.as_str())]);
        send_block(&mut connection, stream, &block);
        assert_eq!(connection.response(stream).status, 414);
        expect_service(&mut connection);
    }

    fn a_body_of_another_length_than_declared_is_an_error_of_its_stream(backend) {
        let rig = Rig::new(backend);
        for (body, is_end) in [("fivee", true), ("fivee", false), ("thr", true), ("", true)] {
            let mut connection = rig.connection();
            let stream = connection.open("POST", HELD, &[("content-length", "4")]);
            connection.send_frame(&Frame::data(stream, body, is_end));
            assert_eq!(connection.expect_reset(stream), code::PROTOCOL_ERROR, "{body} {is_end}");
            expect_service(&mut connection);
        }
    }

    fn the_upstream_gets_one_head_of_http_1(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let fields = and(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("host", "H"), ("cookie", "c=3"), ("te", "trailers")]);
        let stream = send(&mut connection, &fields);
        assert_eq!(connection.response(stream).status, 200);
        let request = rig.seen().pop().expect("it has come");
        assert_eq!(request.line(), "GET /none HTTP/1.1");
        assert_eq!(request.values("Host"), ["h"]);
        assert_eq!(request.values("Cookie"), ["a=1; b=2; c=3"]);
        assert_eq!(request.values("X"), ["1"]);
        assert!(request.lines.iter().all(|line| !line.starts_with(':')), "{request:?}");
        // An authority by its older name.
        let stream = send(&mut connection, &vec![METHOD, SCHEME, PATH, ("host", "h")]);
        assert_eq!(connection.response(stream).status, 200);
        assert_eq!(rig.seen().pop().expect("it has come").values("Host"), ["h"]);
    }
}

/// A block in as many frames as it takes.
#[track_caller]
fn send_block(connection: &mut Connection, stream: u32, block: &[u8]) {
    let mut parts = block.chunks(16 << 10).peekable();
    let first = parts.next().unwrap_or_default();
    let mut head = Frame::headers(stream, first, true);
    if parts.peek().is_some() {
        head.flags &= !crate::support::h2::frame::flag::END_HEADERS;
    }
    connection.send_frame(&head);
    while let Some(part) = parts.next() {
        connection.send_frame(&Frame::continuation(stream, part, parts.peek().is_none()));
    }
}
