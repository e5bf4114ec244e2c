//! Clients that leave, that are slow, that ask much at once, and many of them.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::http_proxy::gateway::{GET, Gateway, OK, assert_ok, round_trip};
use crate::origin::{Origin, Visit};
use crate::support::client::{flood, read_until_cut, reset};
use crate::support::process::Signal;
use crate::support::{Content, Upstream, assert_same_bytes, backends, eventually, http1_only, patience};

/// How long a client that has ended its side may still be one that only has nothing more to ask.
const GRACE: Duration = Duration::from_millis(1100);

/// Serves requests until the connection ends: each is answered with its own body, after a time that differs.
fn serve(stream: TcpStream, seed: u64) {
    let mut visit = Visit::new(stream);
    let mut random = Content::new(seed);
    while let Some(request) = visit.try_request() {
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(10) as u64));
        }
        let (length, at) = (request.body.len(), random.below(request.body.len()));
        let (first, second) = request.body.split_at(at);
        let is_over = random.below(5) == 0;
        let connection = if is_over { "close" } else { "keep-alive" };
        let answer = match random.below(3) {
            0 => [
                format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
                first,
                second,
            ]
            .concat(),
            1 => [
                format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
                &chunk(first),
                &chunk(second),
                b"0\r\n\r\n",
            ]
            .concat(),
            _ => {
                let _ = visit.stream.write_all(&[b"HTTP/1.1 200 OK\r\n\r\n", first, second].concat());
                return;
            }
        };
        let (first, second) = answer.split_at(random.below(answer.len()));
        if visit.stream.write_all(first).and_then(|()| visit.stream.write_all(second)).is_err() || is_over {
            return;
        }
    }
}

fn chunk(data: &[u8]) -> Vec<u8> {
    // An empty one would be the last.
    if data.is_empty() { Vec::new() } else { [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat() }
}

/// A request whose body nobody else sends, and that body.
fn distinct(client: u64, number: u64, random: &mut Content) -> (Vec<u8>, Vec<u8>) {
    let mut body = format!("{client}/{number}:").into_bytes();
    let length = [10, 1000, 20_000][random.below(3)];
    body.extend(Content::bytes(client << 16 | number, 1 + random.below(length)));
    let head = match random.below(2) {
        0 => format!("POST /{client} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()),
        _ => "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    let framed = if head.contains("chunked") { [&chunk(&body), &b"0\r\n\r\n"[..]].concat() } else { body.clone() };
    ([head.as_bytes(), &framed].concat(), body)
}

backends! {
    fn row_67_a_client_that_breaks_off_takes_its_request_with_it(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        // Before an answer, in the middle of one, and in the middle of a body.
        for (request, answer) in [
            (GET, ""), (GET, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", ""),
        ] {
            let mut wire = gateway.send(request);
            let mut visit = origin.visit();
            visit.head();
            visit.send(answer);
            if !answer.is_empty() {
                wire.head_only();
            }
            reset(wire.stream);
            visit.until_end();
        }
        // Nothing of it is left for the next.
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        assert_ok(&wire.response());
    }

    fn row_67_a_client_that_ends_its_side_in_the_middle_of_its_body_has_left(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "0"]);
        for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n9\r\nhalf"));
            let mut visit = origin.visit();
            visit.head();
            wire.stream.shutdown(Shutdown::Write).expect("it is still there");
            let rest = visit.until_end();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{head}: the upstream takes a part for the whole");
            assert!(read_until_cut(&wire.stream).0.is_empty(), "{head}");
        }
        eventually("every connection to the upstream is closed", || gateway.connections() == 0);
    }

    fn row_67_a_client_that_leaves_later_is_noticed(backend) {
        http1_only!("an end of input within a request");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--response-timeout", "0"]);
        let wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        // The time is what it is about.
        std::thread::sleep(GRACE);
        drop(wire);
        visit.expect_end();
        eventually("every connection is closed", || gateway.connections() == 0);
    }

    fn row_67_a_reset_after_the_clients_end_is_noticed_while_the_answer_is_held_up(backend) {
        http1_only!("an end of input within a request");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--send-timeout", "0", "--response-timeout", "0"]);
        let wire = gateway.send(GET);
        wire.stream.shutdown(Shutdown::Write).expect("it is still there");
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let sent = flood(&visit.stream, &mut Content::new(67), 500_000_000);
        assert!(sent < 500_000_000, "nothing holds it up");
        assert_eq!(gateway.connections(), 2);
        reset(wire.stream);
        visit.until_end();
        eventually("every connection is closed", || gateway.connections() == 0);
    }

    fn row_67_a_client_that_only_has_nothing_more_to_ask_gets_its_answer(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(format!("{GET}POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"));
        wire.stream.shutdown(Shutdown::Write).expect("it is still there");
        let mut visit = origin.visit();
        for _ in 0..2 {
            visit.request();
            visit.send(OK);
            assert_ok(&wire.response());
        }
        wire.expect_end();
    }

    fn row_19_pipelined_requests_are_answered_in_order(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut requests = String::new();
        for number in 0..50 {
            requests += &format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\nPOST /{number} HTTP/1.1\r\nHost: h\r\n\
                Content-Length: 2\r\n\r\n{number:02}PUT /{number} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\n{number:02}\r\n0\r\n\r\n");
        }
        let mut wire = gateway.send(&requests);
        let mut visit = origin.visit();
        for number in 0..50 {
            for (method, body) in [("GET", String::new()), ("POST", format!("{number:02}")), ("PUT", format!("{number:02}"))] {
                let request = visit.request();
                assert_eq!((request.line(), &request.body[..]), (&*format!("{method} /{number} HTTP/1.1"), body.as_bytes()));
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{method:4}{number:5}"));
                assert_eq!(wire.response().text(), format!("{method:4}{number:5}"));
            }
        }
        round_trip(&mut wire, &mut visit);
        origin.expect_no_visit();
    }

    fn row_19_a_pipelined_request_is_forwarded_only_after_the_answer_before_it(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(format!("{GET}{GET}"));
        let mut visit = origin.visit();
        visit.request();
        assert!(visit.is_silent());
        origin.expect_no_visit();
        visit.send(OK);
        visit.request();
        visit.send(OK);
        for _ in 0..2 {
            assert_ok(&wire.response());
        }
    }

    fn row_84_before_an_invalid_request_the_valid_one_is_answered(backend) {
        http1_only!("malformed text");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(format!("{GET}GET / HTTP/1.1\r\nHost: h\r\nbad line\r\n\r\n{GET}"));
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        assert_ok(&wire.response());
        assert_eq!(wire.response().status, 400);
        wire.expect_end();
        assert!(visit.is_silent());
    }

    fn row_70_a_hundred_clients_never_get_each_others_answers(backend) {
        const CLIENTS: u64 = 100;
        const REQUESTS: u64 = 10;
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let upstreams = [1, 2].map(|seed| {
            let counter = Arc::clone(&counter);
            Upstream::new(move |stream, number| {
                counter.fetch_add(1, Ordering::Relaxed);
                serve(stream, seed << 32 | number as u64);
            })
        });
        let gateway = Gateway::of(backend, &[upstreams[0].address(), upstreams[1].address()], &["--workers", "2"]);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let gateway = &gateway;
                scope.spawn(move || {
                    let mut random = Content::new(client);
                    let mut wire = gateway.wire();
                    let mut number = 0;
                    while number < REQUESTS {
                        // One by one, or pipelined.
                        let several = (1 + random.below(3) as u64).min(REQUESTS - number);
                        let (requests, bodies): (Vec<_>, Vec<_>) = (number..number + several)
                            .map(|number| distinct(client, number, &mut random)).unzip();
                        wire.send(requests.concat());
                        for body in bodies {
                            let response = wire.response();
                            assert_eq!(response.status, 200, "{response:?}");
                            assert_same_bytes(&response.body, &body);
                            if response.is_last() {
                                wire = gateway.wire();
                            }
                        }
                        number += several;
                    }
                });
            }
        });
        let connections = connections.load(Ordering::Relaxed) as u64;
        assert!(connections < CLIENTS * REQUESTS, "{connections} connections: none was used again");
    }

    fn row_89_a_body_that_comes_too_slowly_is_given_up(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--body-timeout", "300ms"]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf");
        let mut visit = origin.visit();
        visit.head();
        assert_eq!(visit.take(4), b"half");
        visit.expect_end();
        let (rest, _) = read_until_cut(&wire.stream);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{rest:?}");
        // A slow upstream is not the client's fault.
        wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
        let mut visit = origin.visit();
        visit.request();
        std::thread::sleep(Duration::from_millis(600));
        visit.send(OK);
        assert_ok(&wire.response());
    }

    fn row_89_a_body_that_comes_in_a_trickle_is_given_up(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--body-timeout", "300ms", "--upload-rate", "1m"]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
        let mut visit = origin.visit();
        visit.head();
        let begun = Instant::now();
        while wire.stream.write_all(b"x").is_ok() {
            assert!(begun.elapsed() < patience(), "it goes on for ever");
            std::thread::sleep(Duration::from_millis(20));
        }
        visit.until_end();
    }

    fn row_89_a_client_that_does_not_read_its_answer_is_cut_off(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--send-timeout", "300ms"]);
        for version in ["1.1", "1.0"] {
            let mut wire = gateway.send(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            let mut visit = origin.visit();
            visit.request();
            visit.send("HTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(wire.head_only().status, 200);
            let block = vec![b'x'; 64 << 10];
            while visit.stream.write_all(&block).is_ok() {}
            let (rest, end) = read_until_cut(&wire.stream);
            assert!(end.is_err() && !rest.ends_with(b"0\r\n\r\n"), "HTTP/{version}: {} bytes, then an orderly end", rest.len());
        }
    }

    fn row_89_a_connection_ends_after_the_requests_it_may_ask(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--max-requests", "2"]);
        let mut wire = gateway.send([GET; 3].concat());
        let mut visit = origin.visit();
        for is_last in [false, true] {
            visit.request();
            visit.send(OK);
            assert_eq!(wire.response().is_last(), is_last);
        }
        wire.expect_end();
        assert!(visit.is_silent());
    }

    fn a_download_is_finished_when_the_server_stops(backend) {
        http1_only!("GOAWAY ends the requests that were not begun");
        let origin = Origin::new();
        let mut gateway = Gateway::new(backend, &origin, &[]);
        let mut idle = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        assert_ok(&idle.response());
        let mut wire = gateway.send([GET; 2].concat());
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        assert_eq!(wire.head_only().status, 200);
        gateway.xps.signal(Signal::Terminate);
        gateway.xps.log().wait_for("the drain", |record| record.message() == "draining");
        // Whoever asks nothing is sent away, and nobody new is let in.
        idle.expect_end();
        eventually("it does not listen", || TcpStream::connect(gateway.xps.address()).is_err());
        visit.send("later");
        assert_eq!(wire.take(10), b"firstlater");
        visit.expect_end();
        // The request that had come along is answered still, as the last.
        let mut visit = origin.visit();
        visit.request();
        visit.send(OK);
        let response = wire.response();
        assert_ok(&response);
        assert!(response.is_last());
        wire.expect_end();
        drop((idle, wire));
        visit.expect_end();
        assert_eq!(gateway.xps.wait().code(), Some(0));
    }
}
