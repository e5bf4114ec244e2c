//! A connection's time: slow heads, idle waits, slow readers, the end of the server, and the last answer's safety.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::http::site::{Fate, PROBE_REQUEST, Site, expect_probe};
use crate::support::client::{read_until_cut, reset};
use crate::support::process::Signal;
use crate::support::{Content, backends, connect, eventually, http1_only};
use crate::wire::Wire;

/// What a test sets as a time-out, and what it then allows at least, timers being what they are.
const SHORT: &str = "300ms";
const NOT_BEFORE: Duration = Duration::from_millis(250);

/// A file that no socket's buffers hold.
const LARGE_BYTES: usize = 64 << 20;

/// Runs `act`, which must take about as long as a [`SHORT`] time-out.
#[track_caller]
fn takes_a_short_time(what: &str, act: impl FnOnce()) {
    let since = Instant::now();
    act();
    let took = since.elapsed();
    assert!((NOT_BEFORE..Duration::from_secs(5)).contains(&took), "{what} took {took:?}");
}

backends! {
    /// As after SIGSTOP, a frozen container or a machine that slept: the clients were in time.
    fn what_came_while_the_process_was_stopped_comes_before_the_time_outs(backend) {
        let site = Site::new(backend, &["--keep-alive-timeout", "1s", "--head-timeout", "1s"]);
        for _ in 0..3 {
            let mut idle: Vec<Wire> = (0..8).map(|_| site.wire()).collect();
            idle.iter_mut().for_each(expect_probe);
            let mut begun: Vec<Wire> = (0..8).map(|_| site.wire()).collect();
            begun.iter_mut().for_each(|wire| wire.send("GET /probe HTTP/1.1\r\n"));
            expect_probe(&mut site.wire());
            site.xps.signal(Signal::Stop);
            idle.iter_mut().for_each(|wire| wire.send(PROBE_REQUEST));
            begun.iter_mut().for_each(|wire| wire.send("Host: h\r\n\r\n"));
            std::thread::sleep(Duration::from_millis(1500));
            site.xps.signal(Signal::Continue);
            for wire in idle.iter_mut().chain(&mut begun) {
                let response = wire.response();
                assert_eq!(response.status, 200, "{response:?}");
            }
        }
    }

    fn row_1_a_head_that_does_not_come_in_time_is_answered_with_408(backend) {
        http1_only!("a head that comes in pieces of text");
        let site = Site::new(backend, &["--head-timeout", SHORT]);
        for beginning in ["G", "GET /probe HTTP/1.1\r\nHost: h", "\r\n"] {
            let mut wire = site.wire();
            wire.send(beginning);
            takes_a_short_time(beginning, || {
                let response = wire.response();
                assert!(response.status == 408 && response.is_last(), "{response:?}");
                wire.expect_end();
            });
        }
        // A drip does not help.
        let mut wire = site.wire();
        takes_a_short_time("a drip", || {
            for byte in PROBE_REQUEST.bytes().cycle() {
                if wire.stream.write_all(&[byte]).is_err() || !crate::support::client::stays_silent(&wire.stream, Duration::from_millis(40)) {
                    break;
                }
            }
            assert_eq!(wire.response().status, 408);
        });
        // The second head's time counts from its own beginning.
        let mut wire = site.wire();
        expect_probe(&mut wire);
        std::thread::sleep(NOT_BEFORE);
        takes_a_short_time("the second head", || {
            wire.send("GET");
            assert_eq!(wire.response().status, 408);
        });
        // As far as it goes it is a HEAD, and whoever sent it expects no body.
        let mut wire = site.wire();
        takes_a_short_time("half a HEAD", || {
            wire.send("HEAD /probe HT");
            assert_eq!(wire.response_to_head().status, 408);
            wire.expect_end();
        });
    }

    fn row_1_a_client_that_asks_nothing_is_let_go(backend) {
        let site = Site::new(backend, &["--head-timeout", SHORT]);
        let mut wire = site.wire();
        takes_a_short_time("silence", || wire.expect_end());
    }

    fn row_1_an_idle_connection_is_closed(backend) {
        let site = Site::new(backend, &["--keep-alive-timeout", "2s"]);
        let mut wire = site.wire();
        let since = Instant::now();
        // In all longer than it may be idle, each time much shorter.
        while since.elapsed() < Duration::from_secs(3) {
            expect_probe(&mut wire);
            std::thread::sleep(Duration::from_millis(150));
        }
        expect_probe(&mut wire);
        let since = Instant::now();
        wire.expect_end();
        assert!(since.elapsed() >= Duration::from_millis(1900), "closed after {:?}", since.elapsed());
    }

    fn row_20_a_body_that_drips_is_not_waited_for(backend) {
        http1_only!("what is not wanted of a body is not waited for");
        let site = Site::new(backend, &["--body-timeout", SHORT]);
        let mut wire = site.wire();
        wire.send("POST /probe HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
        assert_eq!(wire.response().status, 405);
        takes_a_short_time("the body", || {
            while crate::support::client::stays_silent(&wire.stream, Duration::from_millis(50)) {
                let _ = wire.stream.write_all(b"x");
            }
        });
    }

    fn row_89_a_reader_that_takes_too_little_is_cut_off_however_steadily(backend) {
        http1_only!("the stream ends, not the connection");
        const SIZE: u64 = 1 << 30;
        let site = Site::new(backend, &["--send-timeout", "500ms", "--send-rate", "256m", "--log-level", "debug"]);
        crate::support::files::write_sparse(&site.path("large"), SIZE);
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        wire.head_only();
        let mut piece = vec![0; 64 << 10];
        let taken = loop {
            match wire.stream.read_exact(&mut piece) {
                // A few MiB a second.
                Ok(()) => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => break error,
            }
        };
        assert_eq!(taken.kind(), std::io::ErrorKind::ConnectionReset, "{taken}");
        let end = site.xps.log().wait_for("the connection's end", |record| record.message() == "connection ended");
        assert_eq!(end.text("close_reason"), Some("client_too_slow"));
    }

    fn rows_72_and_89_a_reader_that_takes_nothing_is_cut_off(backend) {
        let site = Site::new(backend, &["--send-timeout", "3s", "--log-level", "debug"]);
        site.write("large", Content::bytes(1, LARGE_BYTES));
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        site.xps.log().wait_for("the connection's end", |record| record.message() == "connection ended");
        // What was cut off must not look whole.
        let (bytes, end) = read_until_cut(&wire.stream);
        assert!(bytes.len() < LARGE_BYTES && end.is_err(), "{} bytes, {end:?}", bytes.len());
        // Who takes something now and then is served.
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        wire.head_only();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(200));
            wire.take(1 << 20);
        }
        wire.take(LARGE_BYTES - (20 << 20));
        expect_probe(&mut wire);
    }

    fn row_89_requests_of_one_connection_are_capped(backend) {
        let site = Site::new(backend, &["--max-requests", "3"]);
        let mut wire = site.wire();
        wire.send(PROBE_REQUEST.repeat(5));
        for number in 1..=3 {
            assert_eq!(wire.response().is_last(), number == 3);
        }
        wire.expect_end();
    }

    /// A close with unread bytes is a reset, and a reset takes what the client has not read yet with it.
    fn row_20_the_last_answer_survives_a_client_that_still_sends(backend) {
        http1_only!("what is not wanted of a body ends its stream");
        let site = Site::new(backend, &[]);
        for _ in 0..5 {
            let wire = site.wire();
            let mut stream = &wire.stream;
            let body = vec![b'x'; 8 << 20];
            stream.write_all(b"POST /probe HTTP/1.1\r\nHost: h\r\nContent-Length: 8388608\r\n\r\n").expect("it takes the head");
            stream.write_all(&body).expect("the server takes what it throws away");
            let mut wire = wire;
            let response = wire.response();
            assert!(response.status == 405 && response.is_last());
            wire.expect_end();
        }
        let (response, fate) = site.fate(&[b"GARBAGE\r\n\r\n".to_vec(), vec![b'x'; 4 << 20]].concat());
        assert_eq!((response.status, fate), (400, Fate::Closed));
    }

    fn row_20_the_last_answer_survives_a_client_that_sends_for_long(backend) {
        http1_only!("what is not wanted of a body ends its stream");
        let site = Site::new(backend, &[]);
        let mut wire = site.wire();
        wire.send("POST /probe HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n");
        for _ in 0..16 {
            wire.send([b'x'; 10_000]);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(wire.response().status, 405);
        wire.expect_end();
    }

    fn a_client_that_never_ends_its_side_is_not_lingered_for_longer_than_a_moment(backend) {
        let site = Site::new(backend, &["--log-level", "debug"]);
        let before = site.xps.usage().descriptors;
        let mut wire = site.wire();
        wire.send("GET /probe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        wire.response();
        wire.expect_end();
        eventually("the connection's descriptor is closed", || site.xps.usage().descriptors <= before + 1);
        site.xps.log().wait_for("the connection's end", |record| record.message() == "connection ended");
    }

    fn a_stop_closes_idle_connections_and_finishes_downloads(backend) {
        http1_only!("GOAWAY ends an idle connection at once");
        let mut site = Site::of(backend, &["--drain-timeout", "20s", "--drain-idle-timeout", SHORT], |root| {
            std::fs::write(root.join("large"), Content::bytes(2, LARGE_BYTES)).expect("a file");
        });
        let mut idle = site.wire();
        expect_probe(&mut idle);
        let mut download = site.wire();
        download.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = download.head_only();
        assert_eq!(head.length(), Some(LARGE_BYTES as u64));
        site.xps.signal(Signal::Terminate);
        takes_a_short_time("idleness", || idle.expect_end());
        drop(idle);
        let body = download.take(LARGE_BYTES);
        crate::support::assert_same_bytes(&body, &Content::bytes(2, LARGE_BYTES));
        download.expect_end();
        drop(download);
        assert!(site.xps.wait_within(Duration::from_secs(10)).success());
    }

    fn a_request_on_an_idle_connection_that_crosses_the_stop_is_answered_as_the_last(backend) {
        http1_only!("GOAWAY has told the client");
        let mut site = Site::new(backend, &["--drain-timeout", "25s", "--drain-idle-timeout", "25s"]);
        let (mut idle, mut new) = (site.wire(), site.wire());
        expect_probe(&mut idle);
        // Once it has answered that, it has accepted those before it.
        expect_probe(&mut site.wire());
        site.xps.signal(Signal::Terminate);
        site.xps.log().wait_for("the stop", |record| record.message() == "draining");
        eventually("nobody listens", || std::net::TcpStream::connect(site.address()).is_err());
        for wire in [&mut idle, &mut new] {
            wire.send(PROBE_REQUEST);
            let response = wire.response();
            assert!(response.status == 200 && response.is_last(), "{response:?}");
            wire.expect_end();
        }
        drop((idle, new));
        assert!(site.xps.wait_within(Duration::from_secs(10)).success());
    }

    fn a_stop_does_not_wait_for_those_who_never_ask(backend) {
        let mut site = Site::new(backend, &["--drain-timeout", "25s", "--workers", "1"]);
        let mut mute = site.wire();
        expect_probe(&mut site.wire());
        site.xps.signal(Signal::Terminate);
        mute.expect_end();
        drop(mute);
        assert!(site.xps.wait_within(Duration::from_secs(10)).success());
    }

    fn a_request_on_its_way_when_the_stop_comes_is_answered_as_the_last(backend) {
        http1_only!("a head that comes in pieces of text");
        let mut site = Site::new(backend, &[]);
        let mut wire = site.wire();
        expect_probe(&mut wire);
        wire.send("GET /probe HTTP/1.1\r\nHo");
        // The half must have been read before the signal comes: another connection's exchange takes longer.
        expect_probe(&mut site.wire());
        site.xps.signal(Signal::Terminate);
        site.xps.log().wait_for("the stop", |record| record.message() == "draining");
        std::thread::sleep(Duration::from_millis(50));
        wire.send("st: h\r\n\r\n");
        let response = wire.response();
        assert!(response.status == 200 && response.is_last(), "{response:?}");
        wire.expect_end();
        drop(wire);
        assert!(site.xps.wait().success());
    }

    fn row_75_resets_leave_nothing_behind(backend) {
        let site = Site::new(backend, &[]);
        site.write("large", Content::bytes(1, LARGE_BYTES));
        expect_probe(&mut site.wire());
        site.get("/probe");
        let before = site.xps.usage().descriptors;
        for number in 0..300 {
            let mut stream = connect(site.address());
            let request: &[u8] = match number % 5 {
                0 => b"",
                1 => b"GET /pro",
                2 => b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
                3 => b"POST /probe HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nxx",
                _ => b"GARBAGE\r\n\r\n",
            };
            let _ = stream.write_all(request);
            if number % 2 == 0 {
                reset(stream);
            }
        }
        expect_probe(&mut site.wire());
        eventually("every descriptor is closed again", || site.xps.usage().descriptors <= before + 1);
        let warnings = site.xps.log().records().iter().filter(|record| record.level() == "WARN").count();
        assert!(warnings < 10, "{warnings} warnings about clients that went away");
    }
}
