//! Answers that are malformed, or break off: a client must never take a part for the whole, nor one answer for another.

use std::net::Shutdown;

use crate::http_proxy::gateway::{GET, Gateway, OK, assert_cut, assert_ok};
use crate::origin::Origin;
use crate::support::client::read_until_cut;
use crate::support::{Backend, backends};

/// Has GET answered with these bytes and an end, and expects 502, and that the client can go on.
#[track_caller]
fn expect_bad_gateway(gateway: &Gateway, origin: &Origin, answer: &[u8]) {
    let what = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
    let mut wire = gateway.send(GET);
    let mut visit = origin.visit();
    visit.request();
    // The proxy may have given up before all of it is out.
    let _ = std::io::Write::write_all(&mut visit.stream, answer);
    let _ = visit.stream.shutdown(Shutdown::Write);
    let response = wire.response();
    assert_eq!(response.status, 502, "{what}: {response:?}");
    visit.until_end();
    if !response.is_last() {
        wire.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        assert_ok(&wire.response());
    }
}

/// How an upstream breaks off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Break {
    End,
    Reset,
}

/// Has a request answered with these bytes and a break, and expects the client to get them and to see that something is
/// missing: by the framing, and an end in order, or where there is none, by a reset.
#[track_caller]
fn expect_cut(backend: Backend, version: &str, answer: &str, end: Break) {
    let origin = Origin::new();
    let gateway = Gateway::new(backend, &origin, &[]);
    let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
    let mut visit = origin.visit();
    visit.request();
    visit.send(answer);
    // Only what has begun to arrive can be cut.
    let head = wire.head_only();
    assert_eq!(head.status, 200);
    match end {
        Break::End => drop(visit),
        Break::Reset => visit.reset(),
    }
    assert_cut(&mut wire, &head, answer);
}

backends! {
    fn rows_63_and_86_what_is_no_proper_answer_is_502(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for answer in [
            "", "H", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            "SSH-2.0-OpenSSH\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nX: a\rb\nContent-Length: 0\n\n", "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ] {
            expect_bad_gateway(&gateway, &origin, answer.as_bytes());
        }
    }

    fn row_63_the_log_says_why_an_answer_was_refused(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for (lines, reason) in [
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "chunked is applied more than once"),
            ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "there are both Transfer-Encoding and Content-Length"),
        ] {
            expect_bad_gateway(&gateway, &origin, format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes());
            gateway.xps.log().wait_for(reason, |record| record.level() == "WARN" && format!("{record:?}").contains(reason));
        }
    }

    fn row_63_a_head_beyond_the_limits_is_502(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--head-size", "8k"]);
        let long = "x".repeat(9 << 10);
        let many = "X: 1\r\n".repeat(1000);
        let endless = "X: 1\r\n".repeat(100_000);
        for lines in [format!("X: {long}\r\n"), format!("{long}: 1\r\n"), many, endless] {
            expect_bad_gateway(&gateway, &origin, format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok").as_bytes());
        }
        expect_bad_gateway(&gateway, &origin, format!("HTTP/1.1 200 {long}\r\nContent-Length: 2\r\n\r\nok").as_bytes());
    }

    fn row_63_a_head_within_the_limits_passes_however_small_the_pipe(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--pipe-size", "4k", "--response-timeout", "5s"]);
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        let long = "x".repeat(30 << 10);
        visit.send(format!("HTTP/1.1 200 OK\r\nX-Long: {}", &long[..15 << 10]));
        visit.send(format!("{}\r\nContent-Length: 2\r\n\r\nok", &long[15 << 10..]));
        let response = wire.response();
        assert_ok(&response);
        assert_eq!(response.field("X-Long"), Some(long.as_str()));
    }

    fn row_63_an_interim_answer_and_then_nothing_is_502(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(wire.response().status, 103);
        drop(visit);
        assert_eq!(wire.response().status, 502);
        origin.expect_no_visit();
    }

    fn row_63_an_answer_of_known_length_that_breaks_off_is_cut(backend) {
        for end in [Break::End, Break::Reset] {
            expect_cut(backend, "1.1", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", end);
            expect_cut(backend, "1.0", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", end);
        }
    }

    fn row_63_a_chunked_answer_that_breaks_off_is_cut(backend) {
        for end in [Break::End, Break::Reset] {
            for version in ["1.1", "1.0"] {
                for body in ["", "4\r\n", "4\r\nhalf", "4\r\nhalf\r\n", "4\r\nhalf\r\n0\r\n", "4\r\nhalf\r\n0\r\nX-T: 1\r\n"] {
                    expect_cut(backend, version, &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), end);
                }
            }
        }
    }

    fn row_63_an_answer_until_close_that_is_reset_is_cut(backend) {
        for version in ["1.1", "1.0"] {
            expect_cut(backend, version, "HTTP/1.1 200 OK\r\n\r\nhalf of it", Break::Reset);
        }
    }

    fn row_63_chunks_that_are_none_cut_the_answer(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for bad in ["x\r\n", "-1\r\n", "0x4\r\nhalf\r\n", "4\r\nhalfX\r\n", "4\nhalf\n", "fffffffffffffffff\r\n", " 4\r\nhalf\r\n"] {
            for version in ["1.1", "1.0"] {
                let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
                let mut visit = origin.visit();
                visit.request();
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
                let head = wire.head_only();
                assert_eq!(head.status, 200);
                visit.send(bad);
                // Of a chunk that is none, nothing may be passed on.
                assert_cut(&mut wire, &head, &bad.replace("half", ""));
                visit.until_end();
            }
        }
    }

    fn row_63_an_idle_time_out_in_the_middle_of_an_answer_cuts_it(backend) {
        for (version, framing) in [("1.0", ""), ("1.0", "Transfer-Encoding: chunked\r\n"), ("1.1", "")] {
            let origin = Origin::new();
            let gateway = Gateway::new(backend, &origin, &["--idle-timeout", "300ms", "--response-timeout", "0"]);
            let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            let mut visit = origin.visit();
            visit.request();
            visit.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n4\r\nhalf\r\n"));
            assert_eq!(wire.head_only().status, 200);
            let (rest, end) = read_until_cut(&wire.stream);
            assert!(end.is_err() && !rest.ends_with(b"0\r\n\r\n"), "HTTP/{version}, {framing}: an orderly end");
        }
    }

    fn row_69_what_follows_a_complete_answer_reaches_nobody(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
        for (request, answer) in [
            (GET, format!("{OK}{forged}")),
            (GET, format!("{OK}x")),
            (GET, format!("HTTP/1.1 204 No Content\r\n\r\n{forged}")),
            (GET, format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n{forged}")),
            (GET, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{forged}")),
            ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", forged.to_owned()),
        ] {
            let mut wire = gateway.send(request);
            let mut visit = origin.visit();
            visit.request();
            visit.send(&answer);
            let response = wire.read(request.starts_with("HEAD")).expect("an answer");
            assert!(matches!(response.status, 200 | 204 | 304));
            visit.expect_end();
            // The client goes on, with another connection to the upstream.
            wire.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            assert_ok(&wire.response());
        }
    }
}
