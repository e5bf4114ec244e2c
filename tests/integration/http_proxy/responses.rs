//! How answers are framed on their way to the client.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::http_proxy::gateway::{GET, Gateway, OK, assert_ok, round_trip};
use crate::origin::{Origin, Visit};
use crate::support::{Content, assert_same_bytes, backends, http1_only};
use crate::wire::Wire;

/// How an upstream may frame the body `one two`, and how it ends the connection.
const FRAMINGS: [(&str, &str); 5] = [
    ("Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\none two"),
    ("the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\none two"),
    (
        "chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\none \r\n3\r\ntwo\r\n0\r\nX-T: trailer\r\n\r\n",
    ),
    ("until close", "HTTP/1.1 200 OK\r\n\r\none two"),
    ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\none two"),
];

/// Sends a request, and answers it with these bytes and an end.
#[track_caller]
fn ask(gateway: &Gateway, origin: &Origin, request: &str, answer: &str) -> Wire {
    let wire = gateway.send(request);
    let mut visit = origin.visit();
    visit.request();
    visit.send(answer);
    wire
}

/// Sends bytes one by one.
#[track_caller]
fn drip(visit: &mut Visit, bytes: &str) {
    for byte in bytes.as_bytes() {
        visit.send([*byte]);
    }
}

backends! {
    fn row_62_every_framing_reaches_a_client_of_1_1_with_an_end_it_can_see(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for (name, answer) in FRAMINGS {
            let mut wire = ask(&gateway, &origin, GET, answer);
            let response = wire.response();
            assert_eq!((response.status, response.text().as_str()), (200, "one two"), "{name}");
            let is_sized = answer.contains("Content-Length");
            assert_eq!(response.length().is_some(), is_sized, "{name}: {response:?}");
            assert_eq!(response.field("Transfer-Encoding").is_some(), !is_sized, "{name}: {response:?}");
            assert!(!response.is_last(), "{name}: whatever the upstream does, this connection can go on");
            // It does go on.
            wire.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            assert_ok(&wire.response());
        }
    }

    fn row_62_every_framing_reaches_a_client_of_1_0_without_chunks(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for (name, answer) in FRAMINGS {
            let mut wire = ask(&gateway, &origin, "GET / HTTP/1.0\r\nHost: h\r\n\r\n", answer);
            let response = wire.response();
            assert_eq!((response.status, response.text().as_str()), (200, "one two"), "{name}");
            assert_eq!(response.field("Transfer-Encoding"), None, "{name}");
            assert!(response.is_last() || response.field("Connection").is_none(), "{name}: {response:?}");
            wire.expect_end();
        }
    }

    fn row_23_a_client_of_1_0_may_keep_its_connection_where_the_length_is_known(backend) {
        http1_only!("persistence of HTTP/1.0");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let request = "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n";
        let mut wire = gateway.send(request);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        let response = wire.response();
        assert_eq!(response.field("Connection"), Some("keep-alive"));
        wire.send(request);
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        let response = wire.response();
        assert_ok(&response);
        assert!(response.is_last(), "only the close ends it");
        wire.expect_end();
    }

    fn row_62_an_answer_may_come_byte_by_byte(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        for (name, answer) in FRAMINGS {
            visit.request();
            drip(&mut visit, answer);
            let is_over = !answer.starts_with("HTTP/1.1") || !answer.contains(": ");
            if is_over {
                visit.stream.shutdown(Shutdown::Both).expect("it is still there");
            }
            assert_eq!(wire.response().text(), "one two", "{name}");
            wire.send(GET);
            if is_over {
                visit = origin.visit();
            }
        }
    }

    fn row_62_a_body_is_passed_on_before_it_is_complete(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for head in ["Content-Length: 10", "Transfer-Encoding: chunked", "X-Until: close"] {
            let mut wire = gateway.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{head}\r\n\r\n"));
            let response = wire.head_only();
            assert_eq!(response.status, 200, "{head}: the head comes before the body");
            let is_chunked = response.field("Transfer-Encoding").is_some();
            for piece in ["first", "later"] {
                let [to, from] = [head.contains("chunked"), is_chunked].map(|is_chunked| match is_chunked {
                    true => format!("5\r\n{piece}\r\n"),
                    false => piece.to_owned(),
                });
                visit.send(to);
                assert_eq!(wire.take(from.len()), from.as_bytes(), "{head}");
            }
            if head.contains("chunked") {
                visit.send("0\r\n\r\n");
            }
            drop(visit);
            if is_chunked {
                assert_eq!(wire.take(5), b"0\r\n\r\n");
            }
        }
    }

    fn row_62_large_bodies_of_every_framing_arrive_whole(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let content = Content::bytes(62, 3 << 20);
        for head in ["Content-Length: 3145728", "Transfer-Encoding: chunked", "X-Until: close"] {
            let mut wire = gateway.send(GET);
            let mut visit = origin.visit();
            let response = std::thread::scope(|scope| {
                scope.spawn(|| {
                    visit.request();
                    visit.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{head}\r\n\r\n"));
                    if !head.contains("chunked") {
                        visit.send(&content);
                        return drop(visit);
                    }
                    let (mut rest, mut sizes) = (&content[..], Content::new(7));
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at(rest.len().min(1 + sizes.below(100_000)));
                        visit.send(format!("{:X}\r\n", now.len()));
                        visit.send(now);
                        visit.send("\r\n");
                        rest = later;
                    }
                    visit.send("000\r\n\r\n");
                });
                wire.response()
            });
            assert_same_bytes(&response.body, &content);
        }
    }

    fn rows_4_and_15_what_only_a_request_may_not_have_reaches_the_client_in_proper_form(backend) {
        http1_only!("malformed text");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for (version, chunked) in [("1.1", true), ("1.0", false)] {
            for answer in [
                "HTTP/1.1 200 OK\nX: y\nTransfer-Encoding: chunked\n\n2 \r\non\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nX: y\nTransfer-Encoding: chunked\r\n\n2\t \r\non\r\n0 \r\n\r\n",
                "HTTP/1.1 200\nX: y\r\nContent-Length: 2\n\r\non",
            ] {
                for is_dripped in [false, true] {
                    let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
                    let mut visit = origin.visit();
                    visit.request();
                    if is_dripped { drip(&mut visit, answer) } else { visit.send(answer) }
                    // The client of the tests knows no other line ends, nor blanks after a size.
                    let response = wire.response();
                    assert_eq!((response.status, response.text().as_str()), (200, "on"), "{answer:?}");
                    assert_eq!(response.field("X"), Some("y"));
                    let is_chunked = response.field("Transfer-Encoding").is_some();
                    assert_eq!(is_chunked, chunked && answer.contains("chunked"), "{answer:?}");
                    drop((wire, visit));
                }
            }
        }
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\non\r\n");
        assert_eq!(wire.response().status, 400, "a request may not have them");
        assert_eq!(gateway.send("GET / HTTP/1.1\nHost: h\n\n").response().status, 400);
    }

    fn row_22_answers_without_a_body_end_with_their_head(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        assert_ok(&wire.response());
        for (method, answer, length) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Some(1000)),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
            ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n", Some(1000)),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", None),
        ] {
            wire.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert!(visit.request().line().starts_with(method));
            visit.send(answer);
            let response = wire.read(method == "HEAD").expect("an answer");
            assert_eq!((response.length(), response.is_last()), (length, false), "{method}, {answer:?}");
            // Neither connection waits for a body that will not come.
            round_trip(&mut wire, &mut visit);
        }
        origin.expect_no_visit();
    }

    fn row_64_interim_answers_are_bounded_in_number(backend) {
        http1_only!("interim responses to HTTP/1.0");
        const MOST: usize = 100;
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let interim = "HTTP/1.1 102 Processing\r\n\r\n";
        for (version, count) in [("1.1", MOST), ("1.0", MOST), ("1.1", MOST + 1), ("1.0", MOST + 1)] {
            let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            let mut visit = origin.visit();
            visit.request();
            visit.send(interim.repeat(count));
            if count <= MOST {
                visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            }
            let passed = if version == "1.1" { MOST } else { 0 };
            assert!((0..passed).all(|_| wire.response().status == 102), "HTTP/{version}, {count}");
            let response = wire.response();
            assert_eq!(response.status, if count <= MOST { 200 } else { 502 }, "HTTP/{version}, {count}");
            visit.until_end();
        }
    }

    fn row_64_interim_answers_do_not_put_the_answer_off(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "500ms"]);
        for (version, piece) in [
            ("1.1", "HTTP/1.1 102 Processing\r\n\r\n"),
            ("1.0", "HTTP/1.1 102 Processing\r\n\r\n"),
            // Nor does a head that comes byte by byte.
            ("1.1", "H"),
        ] {
            let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            let mut visit = origin.visit();
            visit.request();
            let dripping = std::thread::spawn(move || {
                let mut head = "HTTP/1.1 200 OK\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
                for _ in 0..90 {
                    let next = [head.next().unwrap_or(b'x')];
                    let piece = if piece.len() == 1 { &next[..] } else { piece.as_bytes() };
                    if visit.stream.write_all(piece).is_err() {
                        return;
                    }
                    // Well below the time-out, and far from the most that there may be in it.
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
            let last = (0..90).map(|_| wire.response().status).find(|status| *status != 102);
            assert_eq!(last, Some(504), "HTTP/{version}, {piece:?}");
            dripping.join().expect("no panic");
        }
    }

    fn row_64_interim_answers_reach_clients_of_1_1_only(backend) {
        http1_only!("interim responses to HTTP/1.0");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: x-mine\r\nX-Mine: 1\r\n\r\n";
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send(hints);
        // It arrives before the answer is known.
        let response = wire.response();
        assert_eq!((response.status, response.field("Link")), (103, Some("</a>; rel=preload")));
        assert_eq!(response.field("X-Mine"), None);
        assert_eq!(response.length(), None);
        visit.send(format!("HTTP/1.1 102 Processing\r\n\r\n{hints}{OK}"));
        assert_eq!([102, 103].map(|_| wire.response().status), [102, 103]);
        assert_ok(&wire.response());

        let mut wire = gateway.send("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
        visit.request();
        visit.send(format!("{hints}{OK}"));
        assert_ok(&wire.response());
        wire.expect_end();
    }
}
