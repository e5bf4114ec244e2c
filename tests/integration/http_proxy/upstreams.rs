//! Upstreams that are not there, fall silent or close, and connections to them that are used again.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::http_proxy::gateway::{GET, Gateway, OK, assert_cut, assert_ok, round_trip};
use crate::origin::{Origin, Visit};
use crate::support::upstream::{ClosedPort, fill_backlog};
use crate::support::{backends, eventually, http1_only, uninterrupted};

/// A first round trip, after which the connection to the upstream is idle.
#[track_caller]
fn idle(gateway: &Gateway, origin: &Origin) -> Visit {
    let mut wire = gateway.send(GET);
    let mut visit = origin.visit();
    visit.request();
    visit.send(OK);
    assert_ok(&wire.response());
    visit
}

const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";

backends! {
    fn row_65_where_connecting_is_refused_the_next_upstream_is_asked(backend) {
        let (nobody, origin) = (ClosedPort::new(), Origin::new());
        for upstreams in [[nobody.address(), origin.address()], [origin.address(), nobody.address()]] {
            let gateway = Gateway::of(backend, &upstreams, &[]);
            for request in [GET, POST, GET, POST] {
                let mut wire = gateway.send(request);
                let mut visit = origin.visit();
                visit.request();
                visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
                assert_ok(&wire.response());
            }
        }
    }

    fn row_65_where_every_upstream_refuses_it_is_502(backend) {
        http1_only!("whether the connection is kept");
        let nobody = [ClosedPort::new(), ClosedPort::new()];
        let gateway = Gateway::of(backend, &[nobody[0].address(), nobody[1].address()], &[]);
        let mut wire = gateway.wire();
        for _ in 0..5 {
            wire.send(GET);
            let response = wire.response();
            assert!(response.status == 502 && !response.is_last(), "{response:?}");
        }
        let mut wire = gateway.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.response_to_head().status, 502);
        wire = gateway.send(POST);
        assert_eq!(wire.response().status, 502);
        wire.expect_end();
    }

    fn row_65_an_upstream_that_takes_no_connection_in_time_is_504(backend) {
        let port = ClosedPort::new();
        let address = port.address();
        let _listener = port.listen_with_backlog(0);
        let _waiting = fill_backlog(address);
        let gateway = Gateway::of(backend, &[address], &["--connect-timeout", "300ms"]);
        let mut wire = gateway.wire();
        for request in [GET, POST] {
            let since = Instant::now();
            wire.send(request);
            let response = wire.response();
            assert_eq!(response.status, 504, "{response:?}");
            assert!(since.elapsed() >= Duration::from_millis(250), "given up after {:?} already", since.elapsed());
            if response.is_last() {
                wire = gateway.wire();
            }
        }
        // Where there is another one, it is asked then.
        let origin = Origin::new();
        let gateway = Gateway::of(backend, &[address, origin.address()], &["--connect-timeout", "300ms"]);
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        assert_ok(&wire.response());
    }

    fn row_65_an_upstream_that_does_not_answer_is_504(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "300ms"]);
        for (request, answer) in [(GET, ""), (POST, ""), (GET, "HTTP/1.1 200 OK\r\nX:")] {
            let since = Instant::now();
            let mut wire = gateway.send(request);
            let mut visit = origin.visit();
            visit.request();
            visit.send(answer);
            assert_eq!(wire.response().status, 504);
            assert!(since.elapsed() >= Duration::from_millis(300));
            visit.expect_end();
        }
    }

    fn row_65_the_time_counts_from_the_last_byte_that_moved(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "1s"]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n");
        let mut visit = origin.visit();
        visit.head();
        // The client is slow, and then the upstream a little: neither for longer than it may.
        std::thread::sleep(Duration::from_millis(1300));
        wire.send("body");
        visit.take(4);
        for piece in ["HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\n", "o", "k"] {
            std::thread::sleep(Duration::from_millis(400));
            visit.send(piece);
        }
        assert_ok(&wire.response());
    }

    fn row_65_silence_in_the_middle_of_an_answer_cuts_it(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "300ms"]);
        for version in ["1.1", "1.0"] {
            let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            let mut visit = origin.visit();
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\n\r\nhalf");
            let head = wire.head_only();
            assert_eq!(head.status, 200);
            assert_cut(&mut wire, &head, "half");
            visit.expect_end();
        }
    }

    fn row_66_a_connection_is_used_again_and_again(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = idle(&gateway, &origin);
        let mut wire = gateway.wire();
        for _ in 0..20 {
            round_trip(&mut wire, &mut visit);
            round_trip(&mut gateway.wire(), &mut visit);
            let mut wire = gateway.send(POST);
            assert_eq!(visit.request().body, b"body");
            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
            assert_ok(&wire.response());
        }
        origin.expect_no_visit();
    }

    fn row_66_requests_at_once_have_connections_of_their_own(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut pairs: Vec<_> = (0..10).map(|_| {
            let wire = gateway.send(GET);
            let mut visit = origin.visit();
            visit.request();
            (wire, visit)
        }).collect();
        // The last one asked is the first one answered.
        for (wire, visit) in pairs.iter_mut().rev() {
            visit.send(OK);
            assert_ok(&wire.response());
        }
        for (wire, _) in &mut pairs {
            wire.send(GET);
        }
        origin.expect_no_visit();
    }

    fn row_66_a_connection_that_the_upstream_ends_is_not_used_again(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for answer in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ] {
            let mut wire = gateway.send(GET);
            let mut visit = origin.visit();
            visit.request();
            visit.send(answer);
            assert_ok(&wire.response());
            visit.expect_end();
        }
        let mut visit = idle(&gateway, &origin);
        visit.end();
        // It is noticed while nobody uses it.
        visit.expect_end();
        idle(&gateway, &origin).reset();
        let mut wire = gateway.wire();
        round_trip(&mut wire, &mut { idle(&gateway, &origin) });
        eventually("the connections that ended are closed", || gateway.connections() <= 1);
    }

    fn row_66_bytes_that_nobody_asked_for_end_an_idle_connection(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = idle(&gateway, &origin);
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
        visit.expect_end();
        let mut visit = idle(&gateway, &origin);
        round_trip(&mut gateway.wire(), &mut visit);
    }

    fn row_66_a_request_on_a_connection_found_dead_is_sent_once_more(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for request in [GET, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n"] {
            let mut visit = idle(&gateway, &origin);
            let mut wire = gateway.send(request);
            let first = visit.request();
            visit.reset();
            // A fresh one, on which the same is asked; when that dies, too, it is over.
            let mut visit = origin.visit();
            assert_eq!(visit.request(), first);
            drop(visit);
            let response = wire.read(request.starts_with("HEAD")).expect("an answer");
            assert_eq!(response.status, 502, "{request}");
            origin.expect_no_visit();
        }
    }

    fn row_66_the_second_time_it_can_succeed(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = idle(&gateway, &origin);
        let mut wire = gateway.send(GET);
        visit.request();
        drop(visit);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        assert_ok(&wire.response());
        round_trip(&mut wire, &mut visit);
    }

    fn row_66_what_may_have_been_done_is_not_done_again(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for request in [
            POST, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "PATCH / HTTP/1.1\r\nHost: h\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        ] {
            let mut visit = idle(&gateway, &origin);
            let mut wire = gateway.send(request);
            visit.request();
            visit.reset();
            assert_eq!(wire.response().status, 502, "{request}");
            origin.expect_no_visit();
        }
    }

    fn row_66_after_the_first_byte_of_an_answer_nothing_is_sent_again(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = idle(&gateway, &origin);
        let mut wire = gateway.send(GET);
        visit.request();
        visit.send("H");
        drop(visit);
        assert_eq!(wire.response().status, 502);
        origin.expect_no_visit();
    }

    fn row_66_many_idle_connections_that_die_at_once_are_forgotten(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut pairs: Vec<_> = (0..20).map(|_| {
            let wire = gateway.send(GET);
            let mut visit = origin.visit();
            visit.request();
            (wire, visit)
        }).collect();
        for (wire, visit) in &mut pairs {
            visit.send(OK);
            assert_ok(&wire.response());
        }
        let (mut wires, visits): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        drop(visits);
        // Whether the proxy has noticed or not: nobody gets an error.
        for wire in &mut wires {
            wire.send(GET);
        }
        for _ in 0..20 {
            let mut visit = origin.visit();
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            let _ = uninterrupted(|| visit.stream.read(&mut [0]));
        }
        for wire in &mut wires {
            assert_ok(&wire.response());
        }
    }
}
