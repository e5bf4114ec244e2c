//! Which fields go through, which do not, and which are added.

use crate::http_proxy::gateway::{Gateway, OK, assert_ok};
use crate::origin::{Origin, Received};
use crate::support::bridge::Over;
use crate::support::{backends, http1_only};
use crate::wire::Response;

/// What an upstream gets of this request.
#[track_caller]
fn forwarded(gateway: &Gateway, origin: &Origin, request: &str) -> Received {
    let mut wire = gateway.send(request);
    let mut visit = origin.visit();
    let received = visit.request();
    visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_ok(&wire.response());
    received
}

/// What a client gets of this answer.
#[track_caller]
fn answered(gateway: &Gateway, origin: &Origin, answer: &str) -> Response {
    let mut wire = gateway.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut visit = origin.visit();
    visit.request();
    visit.send(answer);
    drop(visit);
    wire.response()
}

fn names(response: &Response) -> Vec<String> {
    response.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

backends! {
    fn row_59_a_requests_hop_by_hop_fields_end_here(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "GET /a?b HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Mine\r\n\
            Connection: x-other\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X-T\r\nProxy-Connection: keep-alive\r\n\
            Proxy-Authorization: Basic eDp5\r\nUpgrade: nothing\r\nX-Mine: 1\r\nX-OTHER: 2\r\nX-Stays: 3\r\n\
            Authorization: Basic eDp5\r\n\r\n");
        assert_eq!(received.line(), "GET /a?b HTTP/1.1");
        for name in ["Keep-Alive", "Trailer", "Proxy-Connection", "Proxy-Authorization", "Upgrade",
            "X-Mine", "X-Other", "Transfer-Encoding"] {
            assert_eq!(received.values(name), [""; 0], "{name}");
        }
        // A wish for trailers is written for the next hop.
        assert_eq!((received.values("Connection"), received.values("TE")), (vec!["TE"], vec!["trailers"]));
        assert_eq!(received.values("X-Stays"), ["3"]);
        assert_eq!(received.values("Authorization"), ["Basic eDp5"]);
    }

    fn row_59_an_answers_hop_by_hop_fields_end_here(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let response = answered(&gateway, &origin, "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nKeep-Alive: timeout=5\r\n\
            Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nUpgrade: h2c\r\nX-Mine: 1\r\nX-Stays: 2\r\nContent-Length: 2\r\n\r\nok");
        assert_ok(&response);
        let names = names(&response);
        for name in ["connection", "keep-alive", "proxy-authenticate", "trailer", "upgrade", "x-mine"] {
            assert!(!names.iter().any(|field| field == name), "{name}: {response:?}");
        }
        assert_eq!(response.field("X-Stays"), Some("2"));
    }

    fn row_60_the_upstream_learns_who_asked_and_through_whom(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "GET / HTTP/1.1\r\nHost: example.org:81\r\nX-Forwarded-For: 10.0.0.1\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=10.0.0.1\r\n\
            X-Real-IP: 10.0.0.1\r\nVia: 1.0 before\r\n\r\n");
        assert_eq!(received.values("Host"), ["example.org:81"]);
        assert_eq!(received.values("X-Forwarded-For"), ["127.0.0.1"]);
        assert_eq!(received.values("X-Forwarded-Proto"), [gateway.scheme()]);
        assert_eq!(received.values("X-Forwarded-Host"), ["example.org:81"]);
        assert_eq!(received.values("Via"), ["1.0 before", if Over::asked().is_http2() { "2.0 xps" } else { "1.1 xps" }]);
        for name in ["X-Forwarded-Port", "X-Real-IP", "Forwarded"] {
            assert_eq!(received.values(name), [""; 0], "a client may not claim {name}");
        }
    }

    fn names_that_applications_take_for_those_of_guarded_fields_do_not_get_through(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "POST / HTTP/1.1\r\nHost: h\r\nX_Real_IP: 10.0.0.1\r\n\
            X_Forwarded_For: 10.0.0.1\r\nx_forwarded_proto: https\r\nTransfer_Encoding: chunked\r\nContent_Length: 1\r\n\
            Content-Length: 3\r\nX_Mine: 1\r\nProxy: http://evil.example\r\nProxy-Status: 2\r\n\r\nabc");
        let names = received.lines.iter().filter_map(|line| Some(line.split_once(": ")?.0));
        let names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
        assert_eq!(names, ["host", "x_mine", "proxy-status", "content-length", "x-forwarded-for", "x-forwarded-proto",
            "x-forwarded-host", "via"]);
        assert_eq!(received.body, b"abc");
    }

    fn options_is_for_the_last_who_may_pass_it_on(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "OPTIONS http://named HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\n\r\n");
        assert_eq!((received.line(), received.values("Host")), ("OPTIONS * HTTP/1.1", vec!["named"]));
        assert_eq!(received.values("Max-Forwards"), ["0"]);
        for target in ["*", "/", "http://named"] {
            let mut wire = gateway.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n"));
            let response = wire.response();
            assert_eq!((response.status, response.is_last()), (204, false), "{response:?}");
            assert!(response.field("Allow").is_some_and(|methods| methods.contains("OPTIONS")), "{response:?}");
        }
        assert_eq!(gateway.send("TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n").response().status, 405);
        origin.expect_no_visit();
    }

    fn row_60_a_request_of_http_1_0_is_forwarded_as_1_1_with_a_host(backend) {
        http1_only!("a request without a host");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "GET /old HTTP/1.0\r\n\r\n");
        assert_eq!(received.line(), "GET /old HTTP/1.1");
        assert_eq!(received.values("Host"), [origin.address().to_string()]);
        assert_eq!(received.values("Via"), ["1.0 xps"]);
    }

    fn row_29_the_authority_of_an_absolute_target_is_the_host(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "GET http://named/p?q HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!(received.line(), "GET /p?q HTTP/1.1");
        assert_eq!(received.values("Host"), ["named"]);
    }

    fn row_33_a_query_is_passed_on_as_it_came(backend) {
        http1_only!("malformed text");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for query in ["q=100%", "q=20%+tax+rate", "q=\u{2019}", "a=%2F&b=%zz?c"] {
            for start in ["", "http://named"] {
                let received =
                    forwarded(&gateway, &origin, &format!("GET {start}/s?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
                assert_eq!(received.line(), format!("GET /s?{query} HTTP/1.1"));
            }
        }
        for target in ["/s?a\u{e9} b", "/s?\u{e9}#x", "/s?\u{e9}\u{7f}", "/\u{e9}?q", "/%?q"] {
            let response = gateway.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).response();
            assert_eq!(response.status, 400, "{target:?}");
        }
        origin.expect_no_visit();
    }

    fn row_26_a_method_that_nobody_knows_is_the_upstreams_affair(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(received.line(), "BREW /pot HTTP/1.1");
        for request in ["TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"] {
            assert_eq!(gateway.send(request).response().status, 405, "{request}");
        }
        origin.expect_no_visit();
    }

    fn row_79_an_answers_own_fields_stay_as_they_are(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let response = answered(&gateway, &origin, "HTTP/1.1 299 Odd But Fine\r\nServer: theirs/1\r\n\
            Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Case: MiXed  two\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(response.status, 299);
        assert_eq!(response.field("Server"), Some("theirs/1"));
        assert_eq!(response.field("Date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(response.field("X-Case"), Some("MiXed  two"));
        assert_eq!(response.field("Via"), None);
        let response = answered(&gateway, &origin, OK);
        assert_eq!(response.field("Server"), None, "an answer is not ours to sign");
        assert!(response.field("Date").is_some(), "RFC 9110, 6.6.1");
    }

    fn row_80_connection_cannot_name_what_must_stay(backend) {
        http1_only!("there is no Connection");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "POST / HTTP/1.1\r\nHost: h\r\nConnection: host, content-length, \
            authorization, x-forwarded-for, cookie, via\r\nContent-Length: 3\r\nAuthorization: Basic eDp5\r\nCookie: a=b\r\n\r\nabc");
        assert_eq!(received.values("Host"), ["h"]);
        assert_eq!(received.values("Authorization"), ["Basic eDp5"]);
        assert_eq!(received.values("X-Forwarded-For"), ["127.0.0.1"]);
        assert_eq!(received.body, b"abc");
        let response = answered(&gateway, &origin, "HTTP/1.1 200 OK\r\nConnection: close, content-length, set-cookie\r\n\
            Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok");
        assert_ok(&response);
        assert_eq!(response.length(), Some(2));
    }

    fn row_81_repeated_fields_stay_apart_and_in_order(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin,
            "GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nCookie: a\r\nX-A: 2\r\nX-B: 3\r\nX-A: 1\r\n\r\n");
        assert_eq!(received.values("X-A"), ["1", "2", "1"]);
        let response = answered(&gateway, &origin, "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT\r\n\
            X-B: 1\r\nSet-Cookie: b=2\r\nSet-Cookie: a=3\r\nContent-Length: 0\r\n\r\n");
        let cookies: Vec<_> = response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie")).map(|(_, value)| value).collect();
        assert_eq!(cookies, ["a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "b=2", "a=3"]);
    }

    fn row_82_encoded_line_ends_stay_encoded(backend) {
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let received = forwarded(&gateway, &origin, "GET /a%0d%0aX-Evil:%201?b%0A%0D HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(received.line(), "GET /a%0d%0aX-Evil:%201?b%0A%0D HTTP/1.1");
        assert_eq!(received.values("X-Evil"), [""; 0]);
    }

    fn rows_3_to_14_and_83_what_is_doubtful_reaches_no_upstream(backend) {
        http1_only!("malformed text");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        for lines in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Length: 3\r\nContent-Length: 4", "Content-Length: +3",
            "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: chunked;x",
            "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding : chunked",
            "X: a\r\n folded", "X: a\rb", "X: a\nb: c",
        ] {
            let mut wire = gateway.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
            let response = wire.response();
            assert!(matches!(response.status, 400 | 501), "{lines:?}: {response:?}");
            wire.expect_end();
        }
        origin.expect_no_visit();
    }
}
