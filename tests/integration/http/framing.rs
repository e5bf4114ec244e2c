//! Heads and bodies: what is refused, what is answered, and what becomes of the connection.

use crate::http::site::{Fate, PROBE_REQUEST, Site, expect_probe};
use crate::support::{backends, connect, http1_only};

use Fate::{Closed, Kept};

/// A request, its answer's status, and what becomes of the connection. `row` is the checklist's.
#[track_caller]
fn check(site: &Site, table: &[(u32, &str, u16, Fate)]) {
    for &(row, request, status, fate) in table {
        let (response, found) = site.fate(request.as_bytes());
        assert_eq!((response.status, found), (status, fate), "row {row}: {request:?}: {response:?}");
        if status >= 400 {
            assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"), "row {row}: {request:?}");
            let has_page = response.text().contains(&status.to_string()) || request.starts_with("HEAD ");
            assert!(has_page, "row {row}: the page does not name the status: {response:?}");
        }
    }
}

backends! {
    fn rows_3_to_9_and_76_a_malformed_head_is_refused(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        check(&site, &[
            (3, "GET /probe HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", 400, Closed),
            (3, "GET /probe\rHTTP/1.1\r\nHost: h\r\n\r\n", 400, Closed),
            (3, "GET /probe HTTP/1.1\r\r\nHost: h\r\n\r\n", 400, Closed),
            (4, "GET /probe HTTP/1.1\nHost: h\n\n", 400, Closed),
            (4, "GET /probe HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", 400, Closed),
            (4, "GET /probe HTTP/1.1\r\nHost: h\r\n\nGET /probe HTTP/1.1\r\n", 400, Closed),
            (5, "GET /probe HTTP/1.1\r\nHost : h\r\n\r\n", 400, Closed),
            (5, "GET /probe HTTP/1.1\r\nHost: h\r\nA\t: b\r\n\r\n", 400, Closed),
            (5, "GET /probe HTTP/1.1\r\n Host: h\r\n\r\n", 400, Closed),
            (6, "GET /probe HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400, Closed),
            (6, "GET /probe HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n", 400, Closed),
            (7, "GET /probe HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400, Closed),
            (7, "GET /probe HTTP/1.1\r\nHost: h\r\nA(: b\r\n\r\n", 400, Closed),
            (7, "GET /probe HTTP/1.1\r\nHost: h\r\nA\u{e9}: b\r\n\r\n", 400, Closed),
            (7, "GET /probe HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", 400, Closed),
            (8, "GET /probe HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", 400, Closed),
            (8, "GET /probe HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n", 400, Closed),
            (9, "\r\nGET /probe HTTP/1.1\r\nHost: h\r\n\r\n", 200, Kept),
            (9, "\r\n\r\n\r\n\r\nGET /probe HTTP/1.1\r\nHost: h\r\n\r\n", 200, Kept),
            (9, "\r\n\r\n\r\n\r\n\r\n\r\nGET /probe HTTP/1.1\r\nHost: h\r\n\r\n", 400, Closed),
            (76, &" ".repeat(100_000), 400, Closed),
        ]);
    }

    fn rows_2_and_76_a_head_that_is_too_large_is_refused_within_its_limits(backend) {
        http1_only!("the size of a list of fields is counted otherwise");
        let site = Site::new(backend, &[]);
        let path = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(length));
        let fields = |count: usize| {
            format!("GET /probe HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1))
        };
        let value = |length: usize| format!("GET /probe HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat(length));
        check(&site, &[
            (2, &path(8 * 1024), 414, Closed),
            (76, &path(1 << 20), 414, Closed),
            (2, &path(8 * 1024 - 40), 404, Kept),
            (2, &fields(100), 200, Kept),
            (2, &fields(101), 431, Closed),
            (76, &fields(10_000), 431, Closed),
            (2, &value(32 * 1024 - 100), 200, Kept),
            (2, &value(32 * 1024), 431, Closed),
            (76, &value(1 << 20), 431, Closed),
        ]);
        let grown = site.xps.usage().rss_bytes;
        for _ in 0..20 {
            site.fate(value(1 << 20).as_bytes());
        }
        let grown = site.xps.usage().rss_bytes.saturating_sub(grown);
        // A worker's first receive buffers for bulk count, too.
        assert!(grown < 16 << 20, "{grown} bytes more memory");
    }

    fn row_2_a_head_may_be_as_large_as_configured(backend) {
        http1_only!("the size of a list of fields is counted otherwise");
        // The most that it can be.
        let site = Site::new(backend, &["--head-size", "64k"]);
        let rest = "GET /probe HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n".len();
        let request = format!("GET /probe HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat((64 << 10) - rest));
        let (response, fate) = site.fate(request.as_bytes());
        assert_eq!((response.status, fate), (200, Kept));
        assert_eq!(site.fate(request.replace("A: ", "A: b").as_bytes()).0.status, 431);
        // In pieces, so that it has to be gathered.
        let mut wire = site.wire();
        for piece in request.as_bytes().chunks(10_000) {
            wire.send(piece);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(wire.response().status, 200);
    }

    fn rows_10_to_18_and_83_framing_has_one_meaning_or_is_refused(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        let post = |lines: &str| format!("POST /probe HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let coded = |coding: &str| post(&format!("Transfer-Encoding: {coding}\r\n"));
        check(&site, &[
            (10, &post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, Closed),
            (10, &post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400, Closed),
            (11, &post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, Closed),
            (11, &post("Content-Length: 5, 6\r\n"), 400, Closed),
            (11, &(post("Content-Length: 5\r\nContent-Length: 5\r\n") + "12345"), 405, Kept),
            (11, &(post("Content-Length: 5, 5\r\n") + "12345"), 405, Kept),
            (12, &post("Content-Length: +5\r\n"), 400, Closed),
            (12, &post("Content-Length: -5\r\n"), 400, Closed),
            (12, &post("Content-Length: 1 2\r\n"), 400, Closed),
            (12, &post("Content-Length: 0x5\r\n"), 400, Closed),
            (12, &post("Content-Length: 5.0\r\n"), 400, Closed),
            (12, &post("Content-Length: \r\n"), 400, Closed),
            (12, &post("Content-Length: 18446744073709551616\r\n"), 400, Closed),
            (13, &coded("gzip"), 400, Closed),
            (13, &coded("chunked, gzip"), 400, Closed),
            (13, &coded("chunked, chunked"), 400, Closed),
            (13, &coded("gzip, chunked"), 501, Closed),
            (13, &coded("identity"), 400, Closed),
            (14, "POST /probe HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, Closed),
            (83, &coded("\x0bchunked"), 400, Closed),
            (83, &coded("\x0cchunked"), 400, Closed),
            (83, &coded("\u{a0}chunked"), 400, Closed),
            (83, &coded("chunked;x"), 400, Closed),
            (83, &coded("xchunked"), 400, Closed),
            (83, &coded(", chunked"), 400, Closed),
            (18, &(coded("chunked") + "3\r\nabc\r\n0\r\nHost: other\r\nContent-Length: 9\r\n\r\n"), 405, Kept),
            (16, &(coded("chunked") + "3;a=b;c=\"d\"\r\nabc\r\n0\r\n\r\n"), 405, Kept),
        ]);
    }

    /// The answer, which needs nothing of the body, is on its way before the body is looked at; what follows a body
    /// without a certain end is never taken for a request.
    fn rows_15_to_18_nothing_is_read_behind_a_malformed_chunked_body(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        let long_extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(8192));
        let many_trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(200));
        let bodies = [
            "x\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n",
            "\r\n0\r\n\r\n", "0\r\nA : b\r\n\r\n", "0\r\nA\r\n\r\n", &long_extension, &many_trailers,
        ];
        for body in bodies {
            let mut wire = site.wire();
            wire.send(format!("POST /probe HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{PROBE_REQUEST}"));
            assert_eq!(wire.response().status, 405, "{body:?}");
            wire.expect_end();
        }
    }

    fn rows_24_to_36_and_85_the_request_line_is_exact(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let version = |version: &str| format!("GET /probe {version}\r\nHost: h\r\n\r\n");
        let host = |lines: &str| format!("GET /probe HTTP/1.1\r\n{lines}\r\n");
        let method = |method: &str| format!("{method} /probe HTTP/1.1\r\nHost: h\r\n\r\n");
        check(&site, &[
            (24, "GET /probe\r\n\r\n", 400, Closed),
            (25, &version("HTTP/2.0"), 505, Closed),
            (25, &version("HTTP/0.9"), 505, Closed),
            (25, &version("HTTX/1.1"), 400, Closed),
            (25, &version("http/1.1"), 400, Closed),
            (25, &version("HTTP/1.10"), 400, Closed),
            (25, &version("HTTP/11"), 400, Closed),
            (25, &version("HTTP/1.2"), 200, Kept),
            (26, &method("BREW"), 400, Closed),
            (26, &method("DELETE"), 405, Kept),
            (26, &method("PROPFIND"), 405, Kept),
            (27, &method("get"), 400, Closed),
            (28, &host(""), 400, Closed),
            (28, &host("Host: a\r\nHost: a\r\n"), 400, Closed),
            (28, &host("Host: a b\r\n"), 400, Closed),
            (28, &host("Host: a/b\r\n"), 400, Closed),
            (28, &host("Host: a:99999\r\n"), 400, Closed),
            (28, &host("Host: a@b\r\n"), 400, Closed),
            (28, &host("Host: [::1]:80\r\n"), 200, Kept),
            (29, &get("http://example.org/probe"), 200, Kept),
            (29, &get("HTTP://example.org:80/probe?x"), 200, Kept),
            (29, &get("http:///probe"), 400, Closed),
            (30, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 405, Kept),
            (30, &get("h:80"), 400, Closed),
            (31, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 204, Kept),
            (31, &get("*"), 400, Closed),
            (32, &get("/probe#x"), 400, Closed),
            (33, &get("/pro%"), 400, Closed),
            (33, &get("/pro%4"), 400, Closed),
            (33, &get("/pro%zz"), 400, Closed),
            (34, &get("/probe%00"), 400, Closed),
            (34, &get("/probe%00.html"), 400, Closed),
            (35, &get("/pr\u{e9}"), 400, Closed),
            (35, &get("/pr\x7f"), 400, Closed),
            (35, &get("/pr\tobe"), 400, Closed),
            (36, "GET  /probe HTTP/1.1\r\nHost: h\r\n\r\n", 400, Closed),
            (36, "GET /probe  HTTP/1.1\r\nHost: h\r\n\r\n", 400, Closed),
            (36, "GET /probe HTTP/1.1 \r\nHost: h\r\n\r\n", 400, Closed),
            (36, " GET /probe HTTP/1.1\r\nHost: h\r\n\r\n", 400, Closed),
            (37, &method("TRACE"), 405, Kept),
            (39, "GET /probe HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200, Kept),
            (80, "GET /probe HTTP/1.1\r\nHost: h\r\nConnection: host, content-length\r\n\r\n", 200, Kept),
            (85, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, Closed),
        ]);
        let allow = site.fate(method("DELETE").as_bytes()).0;
        assert_eq!(allow.field("Allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(site.ask("OPTIONS", "/probe", "").field("Allow"), Some("GET, HEAD, OPTIONS"));
    }

    fn row_85_a_tls_hello_is_refused(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        let hello = [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03][..], &[7; 500]].concat();
        assert_eq!(site.fate(&hello).0.status, 400);
    }

    fn row_19_pipelined_requests_are_answered_in_order_however_they_are_cut(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        site.write("a", "A");
        site.write("b", "BB");
        let requests = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /b HTTP/1.1\r\nHost: h\r\n\r\n\
            POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: x\r\n\r\n\
            GET /none HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
        let expect = |wire: &mut crate::wire::Wire| {
            assert_eq!(wire.response().text(), "A");
            assert_eq!(wire.response_to_head().length(), Some(2));
            assert_eq!(wire.response().status, 405);
            assert_eq!(wire.response().status, 404);
            assert_eq!(wire.response().text(), "BB");
        };
        for cut in 0..=requests.len() {
            let mut wire = site.wire();
            wire.send(&requests[..cut]);
            // A new segment each: nothing announces that the first has been read.
            std::thread::sleep(std::time::Duration::from_millis(2));
            wire.send(&requests[cut..]);
            expect(&mut wire);
            expect_probe(&mut wire);
        }
        let mut wire = site.wire();
        for byte in requests {
            wire.send([*byte]);
        }
        expect(&mut wire);
    }

    /// More than the server keeps unread, cut where it hurts.
    fn row_19_a_flood_of_pipelined_requests_is_answered_to_the_last(backend) {
        let site = Site::new(backend, &[]);
        let count = 20_000;
        let requests = PROBE_REQUEST.repeat(count).into_bytes();
        for piece in [997, 65_537, 300_001] {
            let mut wire = site.wire();
            std::thread::scope(|scope| {
                let mut sink = wire.stream.try_clone().expect("a second handle");
                let requests = &requests;
                scope.spawn(move || {
                    for piece in requests.chunks(piece) {
                        std::io::Write::write_all(&mut sink, piece).expect("the server takes them");
                    }
                });
                for _ in 0..count {
                    assert_eq!(wire.response().status, 200);
                }
            });
        }
    }

    fn row_84_an_invalid_second_request_does_not_cost_the_first_its_answer(backend) {
        http1_only!("malformed text");
        let site = Site::new(backend, &[]);
        for bad in ["GARBAGE\r\n\r\n", "GET /probe HTTP/1.1\r\n\r\n", "GET /probe HTTP/1.1\nHost: h\n\n", "\x16\x03\x01"] {
            let mut wire = site.wire();
            wire.send(format!("{PROBE_REQUEST}{bad}{PROBE_REQUEST}"));
            assert_eq!(wire.response().status, 200, "{bad:?}");
            assert_eq!(wire.response().status, 400, "{bad:?}");
            wire.expect_end();
        }
    }

    fn row_38_an_expectation_is_met_with_the_final_status(backend) {
        http1_only!("whether the connection is kept");
        let site = Site::new(backend, &[]);
        let expect = |lines: &str| format!("POST /probe HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        check(&site, &[
            (38, &expect("Content-Length: 10\r\nExpect: 100-continue\r\n"), 405, Closed),
            (38, &expect("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"), 405, Closed),
            (38, &expect("Expect: 100-continue\r\n"), 405, Kept),
            (38, &expect("Expect: a-miracle\r\n"), 417, Kept),
            (38, "GET /probe HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", 200, Closed),
        ]);
    }

    fn row_20_unread_bodies_are_thrown_away_up_to_a_limit(backend) {
        http1_only!("what is not wanted of a body ends its stream");
        let site = Site::new(backend, &[]);
        let sized = |size: usize| {
            let mut request = format!("POST /probe HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n").into_bytes();
            request.extend(std::iter::repeat_n(b'x', size));
            request
        };
        let chunked = |size: usize| {
            let mut request = b"POST /probe HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..size / 1000 {
                request.extend(b"3e8\r\n");
                request.extend([b'x'; 1000]);
                request.extend(b"\r\n");
            }
            request.extend(b"0\r\n\r\n");
            request
        };
        for size in [1, 1000, 100_000, 250_000] {
            assert_eq!(site.fate(&sized(size)).1, Kept, "{size}");
        }
        for size in [1000, 100_000, 250_000] {
            assert_eq!(site.fate(&chunked(size)).1, Kept, "{size} chunked");
        }
        assert_eq!(site.fate(&sized(262_145)).1, Closed);
        let mut wire = site.wire();
        wire.send(chunked(2_000_000));
        assert_eq!(wire.response().status, 405);
        wire.expect_end();
    }

    /// The body itself looks like requests.
    fn row_20_a_body_is_never_taken_for_a_request(backend) {
        http1_only!("what is not wanted of a body ends its stream");
        let site = Site::new(backend, &[]);
        let body = PROBE_REQUEST.repeat(3);
        let request = format!("POST /probe HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (response, fate) = site.fate(request.as_bytes());
        assert_eq!((response.status, fate), (405, Kept));
        let get = format!("GET /probe HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(site.fate(get.as_bytes()).1, Kept);
    }

    fn row_21_bytes_after_the_last_request_are_not_read(backend) {
        let site = Site::new(backend, &[]);
        for connection in ["close", "Close", "keep-alive, close", "close, x"] {
            let last = format!("GET /probe HTTP/1.1\r\nHost: h\r\nConnection: {connection}\r\n\r\n");
            let mut wire = site.wire();
            wire.send(format!("{last}{PROBE_REQUEST}{PROBE_REQUEST}"));
            let response = wire.response();
            assert!(response.status == 200 && response.is_last(), "{connection}");
            wire.expect_end();
        }
    }

    fn row_22_head_and_304_have_the_fields_of_get_and_no_body(backend) {
        http1_only!("requests without a host");
        let site = Site::new(backend, &[]);
        let get = site.get("/probe");
        let head = site.head("/probe", "");
        let names = |response: &crate::wire::Response| {
            response.fields.iter().filter(|(name, _)| name != "Date").cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(&head), names(&get));
        assert_eq!(head.length(), Some(19));
        let tag = get.field("ETag").expect("a tag");
        let request = format!("GET /probe HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tag}\r\n\r\n");
        let (unmodified, fate) = site.fate(request.as_bytes());
        assert_eq!((unmodified.status, fate, unmodified.body.len()), (304, Kept, 0));
        assert_eq!(unmodified.field("ETag"), Some(tag));
        let large = format!("HEAD / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(40_000));
        for (request, status) in [
            ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200),
            ("HEAD /none HTTP/1.1\r\nHost: h\r\n\r\n", 404),
            // These are refused before they are understood.
            ("HEAD /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("HEAD / HTTP/1.1\r\n\r\n", 400),
            ("\r\n\r\nHEAD / HTTP/1.1\r\n\r\n", 400),
            (&large, 431),
        ] {
            let (response, _) = site.fate(request.as_bytes());
            assert_eq!(response.status, status, "{}", &request[..request.len().min(100)]);
            assert!(response.length().is_some_and(|length| length > 0), "{response:?}");
        }
        // What only looks like HEAD is answered as what it is.
        for request in ["HEADER / HTTP/1.1\r\n\r\n", "head / HTTP/1.1\r\n\r\n"] {
            let (response, _) = site.fate(request.as_bytes());
            assert!(response.text().contains("400 Bad Request"), "{request:?}: {response:?}");
        }
    }

    fn row_23_http_1_0_closes_unless_it_asks_not_to(backend) {
        http1_only!("persistence of HTTP/1.0");
        let site = Site::new(backend, &[]);
        check(&site, &[
            (23, "GET /probe HTTP/1.0\r\n\r\n", 200, Closed),
            (23, "HEAD /probe HTTP/1.0\r\n\r\n", 200, Closed),
            (23, "GET /probe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, Kept),
            (23, "GET /probe HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", 200, Closed),
            (23, "GET /none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 404, Kept),
        ]);
        let (kept, _) = site.fate(b"GET /probe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(kept.field("Connection"), Some("keep-alive"));
    }

    fn half_a_request_is_none_and_a_half_closed_one_is_answered(backend) {
        let site = Site::new(backend, &[]);
        let stream = connect(site.address());
        assert_eq!(crate::support::client::exchange(&stream, b"GET /probe HTTP/1.1\r\nHost: h\r\n"), b"");
        let answers = crate::support::ask(site.address(), PROBE_REQUEST.repeat(3).as_bytes());
        assert_eq!(answers.windows(15).filter(|window| window == b"HTTP/1.1 200 OK").count(), 3);
    }
}
