//! Why there was no answer, or only a part of one: one warning each that names the upstream and the reason.

use std::net::SocketAddr;

use crate::http_proxy::gateway::{GET, Gateway, OK, assert_ok};
use crate::origin::{Origin, Visit};
use crate::support::backends;
use crate::support::log::Record;
use crate::support::upstream::{ClosedPort, fill_backlog};

const MESSAGE: &str = "upstream request failed";

/// How an upstream ends.
type End = fn(Visit);

/// The warning after so many others: the upstream, the status, and the reason.
#[track_caller]
fn warning(gateway: &Gateway, earlier: usize) -> (String, Option<u64>, String) {
    let record = gateway.xps.log().wait_until("a warning", |records| {
        let is_one = |record: &&Record| record.level() == "WARN" && record.message() == MESSAGE;
        records.iter().filter(is_one).nth(earlier).cloned()
    });
    let text = |field| record.text(field).unwrap_or_default().to_owned();
    (text("upstream"), record.number("status"), text("cause"))
}

/// The request fails so, and this is what is said of it.
#[track_caller]
fn expect(gateway: &Gateway, upstream: SocketAddr, status: u64, reason: &str) {
    let response = gateway.send(GET).response();
    assert_eq!(u64::from(response.status), status, "{response:?}");
    let (address, told, why) = warning(gateway, 0);
    assert_eq!((address, told), (upstream.to_string(), Some(status)));
    assert!(why.contains(reason), "{why}");
}

backends! {
    fn a_connection_that_is_refused(backend) {
        let nobody = ClosedPort::new();
        let gateway = Gateway::of(backend, &[nobody.address()], &[]);
        expect(&gateway, nobody.address(), 502, "refused");
    }

    fn a_connection_that_does_not_come_about_in_time(backend) {
        let port = ClosedPort::new();
        let address = port.address();
        let _listener = port.listen_with_backlog(0);
        let _waiting = fill_backlog(address);
        let gateway = Gateway::of(backend, &[address], &["--connect-timeout", "100ms"]);
        expect(&gateway, address, 504, "no answer in time");
    }

    fn an_answer_that_does_not_come_in_time(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "100ms"]);
        expect(&gateway, origin.address(), 504, "no response within 100ms");
    }

    fn a_connection_that_ends_before_a_whole_head(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let ends: [(&str, End, &str); 5] = [
            ("", Visit::reset, "connection lost before a response"),
            ("", drop, "connection closed before a response"),
            ("HTTP/1.1 200 OK\r\nX: ", drop, "connection closed in the middle of the response head"),
            ("HTTP/1.1 20x\r\n\r\n", |visit| drop(visit.until_end()), "bad response"),
            (
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                |visit| drop(visit.until_end()),
                "101 without an upgrade request",
            ),
        ];
        for (number, (bytes, end, reason)) in ends.into_iter().enumerate() {
            // What is not idempotent is asked once.
            let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
            let mut visit = origin.visit();
            visit.request();
            visit.send(bytes);
            end(visit);
            assert_eq!(wire.response().status, 502, "{reason}");
            let (upstream, status, why) = warning(&gateway, number);
            assert_eq!((upstream, status), (origin.address().to_string(), Some(502)));
            assert!(why.contains(reason), "{why} is not {reason}");
        }
    }

    fn an_answer_that_breaks_off(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "200ms"]);
        let ends: [(&str, End, &str); 4] = [
            ("Content-Length: 9\r\n\r\npart", drop, "connection closed before the end of the response body"),
            ("Content-Length: 9\r\n\r\npart", Visit::reset, "connection lost before the end of the response body"),
            ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", |visit| drop(visit.until_end()), "malformed response body"),
            ("Content-Length: 9\r\n\r\npart", |visit| drop(visit.until_end()), "silent for 200ms"),
        ];
        for (number, (rest, end, reason)) in ends.into_iter().enumerate() {
            let _wire = gateway.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send(format!("HTTP/1.1 200 OK\r\n{rest}"));
            end(visit);
            let (upstream, status, why) = warning(&gateway, number);
            assert_eq!((upstream, status), (origin.address().to_string(), None));
            assert!(why.contains(reason), "{why} is not {reason}");
        }
    }

    fn what_happens_all_the_time_is_counted(backend) {
        let nobody = ClosedPort::new();
        let gateway = Gateway::of(backend, &[nobody.address()], &[]);
        let is_count = |record: &Record| record.message() == "repeated, and left out";
        let mut asked = 0;
        while !gateway.xps.log().records().iter().any(is_count) {
            let mut wire = gateway.send(GET.repeat(50));
            (0..50).for_each(|_| assert_eq!(wire.response().status, 502));
            asked += 50;
            assert!(asked < 100_000, "every one is told");
        }
        let count = gateway.xps.log().wait_for("a count", is_count);
        assert_eq!(count.text("warning"), Some(MESSAGE));
    }

    fn of_what_goes_well_in_the_end_nothing_is_said(backend) {
        let (nobody, origin) = (ClosedPort::new(), Origin::new());
        let gateway = Gateway::of(backend, &[nobody.address(), origin.address()], &[]);
        for _ in 0..2 {
            let mut wire = gateway.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send(OK);
            assert_ok(&wire.response());
        }
        assert!(gateway.xps.log().records().iter().all(|record| record.message() != MESSAGE));
    }
}
