//! Requests' bodies on their way to the upstream.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::http_proxy::gateway::{Gateway, OK, assert_ok, round_trip};
use crate::origin::Origin;
use crate::support::client::{flood, read_until_cut};
use crate::support::environment::{allow_descriptors, report};
use crate::support::{Content, assert_same_bytes, backends, http1_only, is_wrapped, skip, uninterrupted};

/// The start of a request with a body of chunks.
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What a connection may cost while one side sends and the other does not read: a pipe, and buffers on their way.
const HELD_BYTES_MAX: u64 = 4 << 20;

/// The same of a worker that has carried large bodies before: what it holds for this connection. Up to 1.2 MiB were measured.
const HELD_WHEN_WARM_MAX: u64 = 2 << 20;

/// Connections with bodies in chunks of one byte.
const ONE_BYTE_CHUNKS_COUNT: u64 = 30;

/// What each of them may hold: what one direction of a connection may, and buffers on their way. How many of these there are
/// depends on how fast the program is compared with the test: 0.5 to 1.6 MiB were measured, and 3.2 MiB with the fault that
/// this is about.
const ONE_BYTE_CHUNKS_HELD_MAX: u64 = 5 << 19;

backends! {
    fn row_61_a_sized_body_streams(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n");
        let mut visit = origin.visit();
        assert_eq!(visit.head().values("Content-Length"), ["10"]);
        for piece in ["fi", "rst", "later"] {
            wire.send(piece);
            assert_eq!(visit.take(piece.len()), piece.as_bytes(), "before the rest is there");
        }
        visit.send(OK);
        let response = wire.response();
        assert_ok(&response);
        assert!(!response.is_last());
        round_trip(&mut wire, &mut visit);
    }

    fn row_61_a_chunked_body_streams(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send(CHUNKED);
        let mut visit = origin.visit();
        let head = visit.head();
        assert_eq!((head.values("Content-Length").len(), head.values("Transfer-Encoding")), (0, vec!["chunked"]));
        wire.send("5;name=\"value\"\r\nfirst\r\n");
        assert_eq!(visit.chunk(), b"first");
        wire.send("00000005\r\nlat");
        // A chunk is passed on as it comes.
        assert_eq!(visit.chunk(), b"lat");
        wire.send("er\r\n0\r\nX-T: trailer\r\n\r\n");
        assert_eq!(visit.chunk(), b"er");
        assert_eq!(visit.take(19).to_ascii_lowercase(), b"0\r\nx-t: trailer\r\n\r\n");
        visit.send(OK);
        assert_ok(&wire.response());
        round_trip(&mut wire, &mut visit);
    }

    fn row_61_large_bodies_of_both_framings_arrive_whole(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let content = Content::bytes(61, 3 << 20);
        let mut visit = round_trip_on(&gateway, &origin);
        let mut wire = gateway.wire();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 {
                    assert_same_bytes(&visit.request().body, &content);
                    visit.send(OK);
                }
            });
            wire.send(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", content.len()));
            wire.send(&content);
            assert_ok(&wire.response());
            wire.send(CHUNKED);
            let (mut rest, mut sizes) = (&content[..], Content::new(7));
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(1 + sizes.below(100_000)));
                wire.send([format!("{:x}\r\n", now.len()).as_bytes(), now, b"\r\n"].concat());
                rest = later;
            }
            wire.send("0\r\n\r\n");
            assert_ok(&wire.response());
        });
    }

    fn row_61_an_upload_to_a_slow_upstream_holds_bounded_memory(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let _visit = warmed_up(&gateway, &origin);
        let before = gateway.xps.usage().rss_bytes;
        const LENGTH: u64 = 256 << 20;
        let wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let sent = flood(&wire.stream, &mut Content::new(61), LENGTH);
        assert!(sent < LENGTH, "nothing holds the client back");
        let grown = gateway.xps.usage().rss_bytes.saturating_sub(before);
        report(&format!("an upload that is not read, over {backend:?}: {} KiB, after {} KiB", grown >> 10, sent >> 10));
        assert!(is_wrapped() || grown < HELD_WHEN_WARM_MAX, "{grown} bytes are held");
    }

    fn row_61_a_download_to_a_slow_client_holds_bounded_memory(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = warmed_up(&gateway, &origin);
        let before = gateway.xps.usage().rss_bytes;
        const LENGTH: u64 = 256 << 20;
        let mut wire = gateway.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        visit.request();
        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        assert_eq!(wire.head_only().length(), Some(LENGTH));
        let mut content = Content::new(62);
        let sent = flood(&visit.stream, &mut content, LENGTH);
        assert!(sent < LENGTH, "nothing holds the upstream back");
        let grown = gateway.xps.usage().rss_bytes.saturating_sub(before);
        report(&format!("a download that is not read, over {backend:?}: {} KiB, after {} KiB", grown >> 10, sent >> 10));
        assert!(is_wrapped() || grown < HELD_WHEN_WARM_MAX, "{grown} bytes are held");
        // It goes on where it stopped.
        let mut expected = Content::new(62);
        expected.expect(&wire.take_buffered());
        let mut bytes = vec![0; 64 << 10];
        while expected.position() < sent {
            let got = uninterrupted(|| wire.stream.read(&mut bytes)).expect("more of it");
            assert_ne!(got, 0, "an end after {} bytes", expected.position());
            expected.expect(&bytes[..got]);
        }
    }

    fn row_61_uploads_in_one_byte_chunks_hold_no_more_memory_than_others(backend) {
        if !allow_descriptors(400) {
            return skip("row_61", "too few descriptors are allowed");
        }
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let idle = round_trip_on(&gateway, &origin);
        let before = gateway.xps.usage().rss_bytes;
        let uploads: Vec<_> = (0..ONE_BYTE_CHUNKS_COUNT).map(|_| gateway.send(CHUNKED)).collect();
        // The first has taken the connection that was idle.
        let visits: Vec<_> = uploads.iter().skip(1).map(|_| origin.visit()).collect();
        std::thread::scope(|scope| {
            for upload in &uploads {
                scope.spawn(|| fill_with_one_byte_chunks(&upload.stream));
            }
        });
        let grown = gateway.xps.usage().rss_bytes.saturating_sub(before) / ONE_BYTE_CHUNKS_COUNT;
        report(&format!("an upload in one-byte chunks that is not read, over {backend:?}: {} KiB", grown >> 10));
        assert!(is_wrapped() || grown < ONE_BYTE_CHUNKS_HELD_MAX, "{grown} bytes are held for each upload");
        drop((uploads, visits, idle));
    }

    fn row_61_downloads_in_one_byte_chunks_hold_no_more_memory_than_others(backend) {
        if !allow_descriptors(400) {
            return skip("row_61", "too few descriptors are allowed");
        }
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let before = gateway.xps.usage().rss_bytes;
        let downloads: Vec<_> =
            (0..ONE_BYTE_CHUNKS_COUNT).map(|_| gateway.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
        let mut visits: Vec<_> = downloads.iter().map(|_| origin.visit()).collect();
        std::thread::scope(|scope| {
            for visit in &mut visits {
                scope.spawn(|| {
                    visit.request();
                    visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    fill_with_one_byte_chunks(&visit.stream);
                });
            }
        });
        let grown = gateway.xps.usage().rss_bytes.saturating_sub(before) / ONE_BYTE_CHUNKS_COUNT;
        report(&format!("a download in one-byte chunks that is not read, over {backend:?}: {} KiB", grown >> 10));
        assert!(is_wrapped() || grown < ONE_BYTE_CHUNKS_HELD_MAX, "{grown} bytes are held for each download");
    }

    fn row_61_bodies_in_one_byte_chunks_arrive_whole(backend) {
        const LENGTH: usize = 100_000;
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let content = Content::bytes(612, LENGTH);
        let chunks: Vec<u8> =
            content.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).chain(*b"0\r\n\r\n").collect();
        let mut wire = gateway.send(CHUNKED);
        let mut sink = wire.stream.try_clone().expect("a descriptor");
        let chunks = chunks.as_slice();
        std::thread::scope(|scope| {
            scope.spawn(move || sink.write_all(chunks).expect("it is taken"));
            let mut visit = origin.visit();
            assert_same_bytes(&visit.request().body, &content);
            scope.spawn(move || {
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                visit.send(chunks);
            });
            assert_same_bytes(&wire.response().body, &content);
        });
    }

    fn row_61_interim_answers_without_end_hold_bounded_memory(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = round_trip_on(&gateway, &origin);
        let before = gateway.xps.usage().rss_bytes;
        let _wire = gateway.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        visit.request();
        let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(30_000)).repeat(64);
        visit.stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).expect("not zero");
        let is_held_back = (0..1000).any(|_| visit.stream.write_all(hints.as_bytes()).is_err());
        assert!(is_held_back, "2 GiB of interim answers to a client that reads nothing");
        let grown = gateway.xps.usage().rss_bytes.saturating_sub(before);
        assert!(is_wrapped() || grown < HELD_BYTES_MAX, "{grown} bytes are held");
    }

    fn row_89_an_upload_that_the_upstream_is_slow_to_take_is_not_the_clients_delay(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &["--body-timeout", "300ms"]);
        const LENGTH: usize = 16 << 20;
        let mut wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let mut sender = wire.stream.try_clone().expect("a descriptor");
        std::thread::scope(|scope| {
            let mut visit = origin.visit();
            visit.head();
            let upload = scope.spawn(move || sender.write_all(&vec![0; LENGTH]));
            // All that is in between has long been full by then.
            std::thread::sleep(Duration::from_millis(1200));
            visit.take(LENGTH);
            visit.send(OK);
            upload.join().expect("no panic").expect("the proxy takes all of it");
        });
        assert_ok(&wire.response());
    }

    fn row_68_a_client_that_owes_its_body_is_not_the_upstreams_silence(backend) {
        let origins = [Origin::new(), Origin::new()];
        let upstreams = [origins[0].address(), origins[1].address()];
        let gateway = Gateway::of(backend, &upstreams, &["--response-timeout", "300ms", "--body-timeout", "1s"]);
        // More than the failures in a row that would take an upstream down.
        let pairs: Vec<_> = (0..8).map(|number| {
            let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
            let mut visit = origins[number % 2].visit();
            visit.head();
            visit.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            assert_eq!(wire.head_only().status, 200);
            (wire, visit, Instant::now())
        }).collect();
        for (wire, _visit, since) in &pairs {
            let (_, end) = read_until_cut(&wire.stream);
            assert!(end.is_err(), "an orderly end in the middle of an answer");
            assert!(since.elapsed() >= Duration::from_millis(900), "the client's time is another one");
        }
        assert_eq!(gateway.xps.log().records().iter().filter(|record| record.message().contains("upstream down")).count(), 0);
    }

    fn row_38_a_client_that_waits_for_a_go_ahead_gets_the_upstreams(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let request = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let mut wire = gateway.send(request);
        let mut visit = origin.visit();
        assert_eq!(visit.head().values("Expect"), ["100-continue"]);
        visit.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(wire.response().status, 100);
        wire.send("body");
        assert_eq!(visit.take(4), b"body");
        visit.send(OK);
        assert_ok(&wire.response());
        // Without a go-ahead there is no body, and nobody knows whether one comes.
        wire.send(request);
        visit.head();
        visit.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.status, response.is_last()), (413, true));
        wire.expect_end();
        visit.expect_end();
    }

    fn row_38_an_expectation_that_nobody_knows_is_refused(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(wire.response().status, 417);
        origin.expect_no_visit();
    }

    fn row_68_an_answer_before_the_body_is_read_arrives(backend) {
        http1_only!("whether the connection is kept");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
            let mut wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n5\r\nfirst"));
            let mut visit = origin.visit();
            visit.head();
            visit.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge");
            let response = wire.response();
            assert_eq!((response.status, response.text().as_str()), (413, "large"), "{head}");
            assert!(response.is_last(), "{head}: where the next request begins is not known");
            // A client may be sending still.
            wire.send("\r\n6\r\nsecond\r\n");
            wire.expect_end();
            visit.until_end();
        }
    }

    fn row_68_an_early_answer_and_the_rest_of_the_body_pass_each_other(backend) {
        http1_only!("whether the connection is kept");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\none ");
        let mut visit = origin.visit();
        visit.head();
        assert_eq!(visit.take(4), b"one ");
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
        assert_eq!(wire.head_only().status, 200);
        wire.send("two ");
        assert_eq!(visit.take(4), b"two ");
        visit.send("answered");
        assert_eq!(wire.take(8), b"answered");
        wire.expect_end();
        // The upstream's connection has nothing amiss.
        round_trip(&mut gateway.wire(), &mut visit);
    }

    fn row_68_an_early_answer_with_a_close_arrives_while_the_client_floods(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        const LENGTH: usize = 64 << 20;
        let mut wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let sender = wire.stream.try_clone().expect("a descriptor");
        std::thread::scope(|scope| {
            // The proxy need not take all of it.
            scope.spawn(|| drop((&sender).write_all(&vec![0; LENGTH])));
            let mut visit = origin.visit();
            visit.head();
            visit.take(1 << 20);
            visit.send("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
            // Most of what came is unread: this is a reset, after the answer.
            drop(visit);
            let response = wire.response();
            assert_eq!((response.status, response.text().as_str()), (403, "no"));
            let _ = sender.shutdown(Shutdown::Both);
        });
    }

    fn rows_15_to_17_a_body_that_breaks_its_framing_is_refused(backend) {
        http1_only!("malformed text");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for bad in ["x\r\n", "-4\r\nbody\r\n", "0x4\r\nbody\r\n", "4\r\nbodyX\r\n", "4\nbody\n", "fffffffffffffffff\r\n"] {
            let mut wire = gateway.send(CHUNKED);
            let mut visit = origin.visit();
            visit.head();
            wire.send("2\r\nok\r\n");
            assert_eq!(visit.chunk(), b"ok");
            wire.send(bad);
            let response = wire.response();
            assert_eq!((response.status, response.is_last()), (400, true), "{bad:?}");
            wire.expect_end();
            let rest = visit.until_end();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{bad:?}: the upstream takes a part for the whole: {rest:?}");
        }
    }
}

/// A first round trip, after which the proxy has all it needs; the upstream's end of the connection.
#[track_caller]
fn round_trip_on(gateway: &Gateway, origin: &Origin) -> crate::origin::Visit {
    let mut wire = gateway.send(crate::http_proxy::gateway::GET);
    let mut visit = origin.visit();
    visit.request();
    visit.send(OK);
    assert_ok(&wire.response());
    visit
}

/// The same after large bodies in both directions, so that what a worker keeps for its next connections is in memory: over
/// io_uring 8 receive buffers of 256 KiB and 128 of 16 KiB are with the kernel, which fills them in turn, whichever
/// connection it is for. HTTP/2 touches more of them than HTTP/1.1, since updates of windows come in small ones meanwhile.
#[track_caller]
fn warmed_up(gateway: &Gateway, origin: &Origin) -> crate::origin::Visit {
    const LENGTH: usize = 8 << 20;
    let mut wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n"));
    let mut sink = wire.stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || sink.write_all(&vec![0; LENGTH]).expect("it is taken"));
        let mut visit = origin.visit();
        scope.spawn(move || {
            assert_eq!(visit.request().body.len(), LENGTH);
            visit.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n"));
            visit.send(vec![0; LENGTH]);
        });
        assert_eq!(wire.response().body.len(), LENGTH);
    });
    drop(wire);
    round_trip_on(gateway, origin)
}

/// Sends chunks of one byte until the other end takes nothing more for a while.
fn fill_with_one_byte_chunks(mut stream: &TcpStream) {
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("not zero");
    let chunks = b"1\r\nx\r\n".repeat(10_000);
    // What was written of a piece is not known when it fails: nothing is sent after that.
    let is_held_back = (0..1000).any(|_| stream.write_all(&chunks).is_err());
    assert!(is_held_back, "60 MB were taken");
}
