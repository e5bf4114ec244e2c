//! The fields after a body, both ways.

use crate::http_proxy::gateway::{Gateway, OK, assert_ok, round_trip};
use crate::origin::Origin;
use crate::support::{backends, http1_only};

/// A chunked body with trailers, of which some belong in a head, and one is named by `Connection`.
const BODY: &str = "3\r\none\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nhost: elsewhere\r\nTransfer_Encoding: x\r\n\
    X-Mine: 2\r\nX-Sum:4\r\ngrpc-status: 0\r\n\r\n";

/// What is left of it, in the chunks in which it came.
const FORWARDED: &str = "3\r\none\r\n0\r\nX-Sum: 1\r\nX-Sum: 4\r\ngrpc-status: 0\r\n\r\n";

/// The same for one who wants no trailers.
const WITHOUT: &str = "3\r\none\r\n0\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Mine\r\nTrailer: X-Sum\r\n\r\n";

backends! {
    fn row_18_a_requests_trailers_reach_the_upstream(backend) {
        http1_only!("names in upper case, and Connection");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: X-Mine\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        let mut wire = gateway.send([head, BODY].concat());
        let mut visit = origin.visit();
        let received = visit.head();
        assert_eq!(received.values("Trailer"), ["X-Sum"]);
        assert_eq!((received.values("TE").len(), received.values("Connection").len()), (0, 0));
        assert_eq!(String::from_utf8_lossy(&visit.take(FORWARDED.len())), FORWARDED);
        visit.send(OK);
        assert_ok(&wire.response());
        round_trip(&mut wire, &mut visit);
    }

    fn row_18_an_answers_trailers_reach_a_client_that_wants_them(backend) {
        http1_only!("names in upper case");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut visit = None;
        for (wish, expected) in [("TE: trailers\r\nConnection: TE\r\n", FORWARDED), ("", WITHOUT)] {
            let mut wire = gateway.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{wish}\r\n"));
            let visit = visit.get_or_insert_with(|| origin.visit());
            let received = visit.request();
            let wishes = [received.values("TE"), received.values("Connection")];
            let are_wanted = expected == FORWARDED;
            assert_eq!(wishes, if are_wanted { [vec!["trailers"], vec!["TE"]] } else { [vec![], vec![]] });
            visit.send([ANSWER, BODY].concat());
            let head = wire.head_only();
            assert_eq!(head.field("Trailer"), are_wanted.then_some("X-Sum"));
            assert_eq!(String::from_utf8_lossy(&wire.take(expected.len())), expected);
            round_trip(&mut wire, visit);
        }
    }

    fn row_18_trailers_arrive_byte_by_byte(backend) {
        http1_only!("names in upper case");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send("GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n");
        let mut visit = origin.visit();
        visit.request();
        for byte in format!("{ANSWER}0\r\nX-Sum: {}\r\n\r\n", "x".repeat(100)).bytes() {
            visit.send([byte]);
        }
        wire.head_only();
        let expected = format!("0\r\nX-Sum: {}\r\n\r\n", "x".repeat(100));
        assert_eq!(String::from_utf8_lossy(&wire.take(expected.len())), expected);
        round_trip(&mut wire, &mut visit);
    }

    fn row_18_a_client_of_1_0_gets_no_trailers(backend) {
        http1_only!("trailers of HTTP/1.0");
        let origin = Origin::new();
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send("GET / HTTP/1.0\r\nHost: h\r\nTE: trailers\r\nConnection: keep-alive\r\n\r\n");
        let mut visit = origin.visit();
        assert_eq!(visit.request().values("TE"), [""; 0]);
        visit.send([ANSWER, BODY].concat());
        let response = wire.response();
        assert_eq!((response.text().as_str(), response.field("Trailer")), ("one", None));
        wire.expect_end();
    }

    fn row_18_malformed_trailers_are_a_malformed_body(backend) {
        http1_only!("malformed text");
        let (origin, other_origin) = (Origin::new(), Origin::new());
        let gateway = Gateway::new(backend, &other_origin, &[]);
        let mut wire = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : 1\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.status, response.is_last()), (400, true));
        let gateway = Gateway::new(backend, &origin, &[]);
        let mut wire = gateway.send("GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n");
        let mut visit = origin.visit();
        visit.request();
        visit.send(format!("{ANSWER}3\r\none\r\n0\r\nX : 1\r\n\r\n"));
        wire.head_only();
        assert_eq!(wire.take(8), b"3\r\none\r\n");
        // A body without its last chunk is truncated.
        wire.expect_end();
    }
}
