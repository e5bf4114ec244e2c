//! Requests and responses, many at once, and how a connection begins and ends.

use std::time::Duration;

use serde_json::json;

use super::rig::{HELD, PAGE, Rig, expect_service};
use crate::origin::Origin;
use crate::place::{Place, routes};
use crate::support::h2::client::{Connection, Fault};
use crate::support::h2::frame::{Frame, code};
use crate::support::h2::hpack;
use crate::support::process::Signal;
use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Content, assert_same_bytes, backends, eventually, patience};
use crate::wire::Wire;

/// A proxy of HTTP/2 in front of an upstream that does what the test says.
#[track_caller]
fn proxy(backend: Backend, origin: &Origin) -> (crate::support::Xps, Connection) {
    let words = ["proxy", "--http", "--listen", "127.0.0.1:0", "--workers", "1", "--access-log", "off", "--upstream"];
    let launch = crate::support::Launch::new(backend, words).flag(origin.address());
    let xps = launch.over(crate::support::bridge::Over::H2c).start();
    let connection = Connection::to(xps.address());
    (xps, connection)
}

backends! {
    fn files_are_served_whole_in_part_and_by_their_heads(backend) {
        let rig = Rig::new(backend);
        let content = Content::bytes(1, 3_000_000);
        rig.write("large", &content);
        let mut connection = rig.connection();
        let whole = connection.get("/files/large");
        let head = connection.request("HEAD", "/files/large", &[]);
        let part = connection.request("GET", "/files/large", &[("range", "bytes=1000000-1999999")]);
        let none = connection.get("/files/none");
        let response = connection.response(whole);
        assert_eq!(response.status, 200);
        assert_same_bytes(&response.body, &content);
        let response = connection.response(head);
        assert_eq!((response.status, response.field("content-length"), response.body.len()), (200, Some("3000000"), 0));
        let response = connection.response(part);
        assert_eq!((response.status, response.field("content-range")), (206, Some("bytes 1000000-1999999/3000000")));
        assert_same_bytes(&response.body, &content[1_000_000..2_000_000]);
        assert_eq!(connection.response(none).status, 404);
        let tag = connection.response(head).field("etag").expect("a tag").to_owned();
        let unmodified = connection.request("GET", "/files/large", &[("if-none-match", &tag)]);
        let response = connection.response(unmodified);
        assert_eq!((response.status, response.body.len()), (304, 0));
        connection.finish();
    }

    fn a_hundred_streams_are_served_at_once(backend) {
        let rig = Rig::new(backend);
        let contents: Vec<Vec<u8>> = (0..10).map(|number| Content::bytes(number, 30_000 * number as usize + 1)).collect();
        for (number, content) in contents.iter().enumerate() {
            rig.write(&format!("file{number}"), content);
        }
        let mut connection = rig.connection();
        for _ in 0..3 {
            let streams: Vec<(usize, u32)> =
                (0..100).map(|number| (number % 10, connection.get(&format!("/files/file{}", number % 10)))).collect();
            for (number, stream) in streams {
                assert_same_bytes(&connection.response(stream).body, &contents[number]);
            }
        }
        connection.finish();
    }

    fn uploads_pass_through_the_proxy_side_by_side(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let held = connection.open("POST", HELD, &[]);
        let streams: Vec<u32> = (0..20).map(|_| connection.open("POST", "/count", &[])).collect();
        let content = Content::bytes(7, 200_000);
        for piece in content.chunks(10_000) {
            for stream in &streams {
                connection.upload(*stream, piece, false);
            }
        }
        for stream in &streams {
            connection.upload(*stream, b"", true);
            assert_eq!(connection.response(*stream).text(), "200000");
        }
        assert!(rig.seen().iter().all(|request| request.body == content));
        assert!(!connection.is_over(held));
        connection.send_frame(&Frame::reset(held, code::CANCEL));
        expect_service(&mut connection);
        connection.finish();
    }

    fn a_body_in_frames_of_one_byte_arrives_whole(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let content = Content::bytes(8, 100_000);
        let stream = connection.open("POST", "/count", &[]);
        for piece in content.chunks(5000) {
            // As much as a window at once.
            while connection.send_room(stream) < piece.len() {
                assert!(connection.read_frame(), "the connection ended: {:?}", connection.goaways);
            }
            connection.send(piece.iter().flat_map(|byte| Frame::data(stream, [*byte], false).bytes()).collect::<Vec<u8>>());
            connection.note_sent(stream, piece.len());
        }
        connection.upload(stream, b"", true);
        assert_eq!(connection.response(stream).text(), "100000");
        assert_same_bytes(&rig.seen()[0].body, &content);
    }

    fn a_slow_body_is_not_the_upstreams_silence(backend) {
        let rig = Rig::with(backend, |document| document["servers"][0]["routes"][2]["response_timeout"] = json!("1s"));
        let mut connection = rig.connection();
        let stream = connection.open("POST", "/count", &[]);
        connection.read_for(Duration::from_millis(1300));
        connection.upload(stream, b"body", true);
        assert_eq!(connection.response(stream).text(), "4");
    }

    fn trailers_pass_both_ways(backend) {
        let origin = Origin::new();
        let (_xps, mut connection) = proxy(backend, &origin);
        let stream = connection.open("POST", "/grpc", &[("te", "trailers")]);
        connection.upload(stream, b"question", false);
        connection.send_frame(&Frame::headers(stream, hpack::encode([("x-sum", "1")]), true));
        let mut visit = origin.visit();
        let head = visit.head();
        assert_eq!(head.values("TE"), ["trailers"], "{head:?}");
        assert_eq!(visit.chunk(), b"question");
        let end = String::from_utf8(visit.take("0\r\nx-sum: 1\r\n\r\n".len())).expect("text");
        assert_eq!(end.to_ascii_lowercase(), "0\r\nx-sum: 1\r\n\r\n");
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status\r\n\r\n6\r\nanswer\r\n0\r\nGrpc-Status: 0\r\n\r\n");
        let response = connection.response(stream);
        assert_eq!((response.status, response.text().as_str()), (200, "answer"));
        assert_eq!(response.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    }

    fn interim_responses_come_before_the_response(backend) {
        let origin = Origin::new();
        let (_xps, mut connection) = proxy(backend, &origin);
        let stream = connection.open("POST", "/", &[("expect", "100-continue"), ("content-length", "4")]);
        let mut visit = origin.visit();
        assert_eq!(visit.head().values("Expect"), ["100-continue"]);
        visit.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        connection.read_until("two of them", |connection| connection.seen(stream).interim == [100, 103]);
        connection.upload(stream, b"body", true);
        assert_eq!(visit.take(4), b"body");
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(connection.response(stream).text(), "ok");
    }

    fn an_early_answer_ends_the_upload_and_not_the_connection(backend) {
        let origin = Origin::new();
        let (_xps, mut connection) = proxy(backend, &origin);
        let stream = connection.open("POST", "/", &[]);
        connection.upload(stream, b"some", false);
        let mut visit = origin.visit();
        visit.head();
        visit.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge");
        let response = connection.response(stream);
        assert_eq!((response.status, response.text().as_str()), (413, "large"));
        // What is on its way is no error.
        connection.send_frame(&Frame::data(stream, "more", false));
        drop(visit);
        let next = connection.get("/");
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(connection.response(next).text(), "ok");
    }

    fn a_body_that_breaks_off_resets_its_stream(backend) {
        let origin = Origin::new();
        let (_xps, mut connection) = proxy(backend, &origin);
        for answer in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz"] {
            let stream = connection.get("/");
            let mut visit = origin.visit();
            visit.request();
            visit.send(format!("HTTP/1.1 200 OK\r\n{answer}"));
            connection.read_until("its beginning", |connection| connection.seen(stream).body == b"half");
            drop(visit);
            assert_eq!(connection.expect_reset(stream), code::INTERNAL_ERROR);
        }
        connection.ping().expect("the connection goes on");
    }

    fn a_client_that_gives_a_request_up_frees_its_upstream(backend) {
        let origin = Origin::new();
        let (_xps, mut connection) = proxy(backend, &origin);
        for body in [false, true] {
            let stream = if body { connection.open("POST", "/", &[]) } else { connection.get("/") };
            let mut visit = origin.visit();
            visit.head();
            connection.send_frame(&Frame::reset(stream, code::CANCEL));
            visit.until_end();
        }
        // And with the connection all of its requests.
        let streams: Vec<u32> = (0..3).map(|_| connection.get("/")).collect();
        let visits: Vec<_> = streams.iter().map(|_| origin.visit()).collect();
        drop(connection);
        visits.into_iter().for_each(|visit| drop(visit.until_end()));
    }

    fn an_upstream_that_is_silent_is_504(backend) {
        let origin = Origin::new();
        let words = ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off", "--response-timeout", "300ms", "--upstream"];
        let launch = crate::support::Launch::new(backend, words).flag(origin.address());
        let xps = launch.over(crate::support::bridge::Over::H2c).start();
        let mut connection = Connection::to(xps.address());
        let streams = [connection.get("/"), connection.get("/")];
        let _visits = [origin.visit(), origin.visit()];
        for stream in streams {
            assert_eq!(connection.response(stream).status, 504);
        }
    }

    fn a_stop_finishes_what_was_begun(backend) {
        let origin = Origin::new();
        let (mut xps, mut connection) = proxy(backend, &origin);
        let mut idle = Connection::to(xps.address());
        idle.ping().expect("it is served");
        let stream = connection.get("/");
        let mut visit = origin.visit();
        visit.request();
        xps.signal(Signal::Terminate);
        let goaway = idle.expect_goaway();
        assert_eq!(goaway.code, code::NO_ERROR, "{goaway:?}");
        connection.read_until("GOAWAY", |connection| !connection.goaways.is_empty());
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(connection.response(stream).text(), "ok");
        let goaway = connection.expect_goaway();
        assert_eq!((goaway.code, goaway.last_stream), (code::NO_ERROR, stream), "{goaway:?}");
        drop((connection, visit));
        assert!(xps.wait_within(patience()).success());
    }

    fn an_idle_connection_is_closed_with_goaway(backend) {
        let rig = Rig::with(backend, |document| document["limits"]["http"]["keep_alive_timeout"] = json!("300ms"));
        let mut connection = rig.connection();
        expect_service(&mut connection);
        let goaway = connection.expect_goaway();
        assert_eq!(goaway.code, code::NO_ERROR);
        // One with a request that waits is not idle.
        let mut connection = rig.connection();
        let stream = connection.get(HELD);
        connection.read_for(Duration::from_secs(1));
        assert!(!connection.is_over(stream) && connection.goaways.is_empty(), "{:?}", connection.goaways);
    }

    fn a_preface_that_does_not_come_is_not_waited_for(backend) {
        let rig = Rig::with(backend, |document| document["limits"]["http"]["head_timeout"] = json!("300ms"));
        let preface = crate::support::h2::frame::PREFACE;
        let begun = [preface, &Frame::settings(&[]).bytes(), &Frame::new(1, 0, 1, [0x82]).bytes()].concat();
        for sent in [preface, &begun] {
            let mut connection = Connection::raw(rig.address());
            connection.new_stream();
            connection.send(sent);
            eventually("its end", || !connection.read_frame());
        }
        // A part of it is not answered, least of all with a response of HTTP/1.1.
        for length in [0, 1, 3, 9, preface.len() - 1] {
            let mut client = Wire::to(rig.address());
            client.send(&preface[..length]);
            client.expect_end();
        }
        // What differs from it is HTTP/1.1.
        let mut client = Wire::to(rig.address());
        client.send("PROPFIND / HTTP/1.1\r\n");
        assert_eq!(client.response().status, 408);
    }

    fn the_listener_speaks_http_1_as_well(backend) {
        let rig = Rig::new(backend);
        let mut wire = Wire::to(rig.address());
        for _ in 0..2 {
            wire.send("GET /files/page HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(wire.response().text(), PAGE);
        }
        // What begins like the preface and is not.
        let mut wire = Wire::to(rig.address());
        wire.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
        assert_eq!(wire.response().status, 400);
    }

    fn without_the_option_prior_knowledge_is_refused(backend) {
        let rig = Rig::with(backend, |document| document["servers"][0]["listeners"][0]["h2c"] = json!(false));
        let mut wire = Wire::to(rig.address());
        wire.send(crate::support::h2::frame::PREFACE);
        let response = wire.response();
        assert!(response.status == 400 && response.text().contains("HTTP/2"), "{response:?}");
    }

    fn over_tls_the_client_chooses(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["localhost", "127.0.0.1"]);
        let place = Place::new(backend);
        place.page("site", PAGE);
        let mut server = routes("127.0.0.1", json!([{ "req_path": "/", "type": "file_serve", "dir_path": "site" }]));
        server["listeners"][0]["tls"] = json!({
            "certificates": [{ "cert": signed.cert, "key": signed.key }],
            "alpn": ["h2", "http/1.1"],
        });
        place.configure([server]);
        let xps = place.launch().start();
        let client = Client::trusting(&authority).offering(&["h2", "http/1.1"]);
        let mut connection = Connection::over_tls(xps.address(), &client, "localhost");
        connection.set_authority("localhost");
        let streams = [connection.get("/page"), connection.get("/page")];
        for stream in streams {
            assert_eq!(connection.response(stream).text(), PAGE);
        }
        connection.finish();
        for offer in [&["http/1.1"][..], &[]] {
            let client = Client::trusting(&authority).offering(offer);
            let mut stream = client.connect(xps.address(), "localhost").expect("a handshake");
            std::io::Write::write_all(&mut stream, b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is sent");
            let response = stream.read_rest().expect("an orderly end");
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&response));
        }
    }

    fn a_client_that_says_it_leaves_gets_its_answers(backend) {
        let rig = Rig::new(backend);
        rig.write("large", Content::bytes(3, 1_000_000));
        let mut connection = rig.connection();
        let stream = connection.get("/files/large");
        connection.send_frame(&Frame::goaway(0, code::NO_ERROR));
        assert_same_bytes(&connection.response(stream).body, &Content::bytes(3, 1_000_000));
        assert_eq!(connection.end(), Fault::End);
    }
}
