//! What the options of a `reverse_proxy` route do: the head that the upstream gets, the head that the client gets, and
//! which bodies are too large.

use serde_json::{Value, json};

use crate::origin::{Origin, Visit};
use crate::place::{Place, Service, routes};
use crate::support::{Backend, backends};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What is not asked about is left out of the heads. Connections are not kept, so that each request is a visit.
fn base(path: &str, origin: &Origin, options: &Value) -> Value {
    let mut route = json!({
        "req_path": path,
        "type": "reverse_proxy",
        "upstreams": [origin.address().to_string()],
        "keepalive": { "idle_max": 0 },
        "forwarded": "off",
        "via": "off",
    });
    route.as_object_mut().expect("an object").extend(options.as_object().expect("an object").clone());
    route
}

fn start(backend: Backend, routes_json: Vec<Value>) -> (Place, Service) {
    let place = Place::new(backend);
    place.configure_with([routes(HERE, json!(routes_json))], |document| document["trusted_proxies"] = json!([HERE]));
    let service = place.start();
    (place, service)
}

/// Options, what follows the route's path, further lines of the request, and the lines that the upstream gets. There,
/// `PATH` is the route's path, and `UPSTREAM` the upstream's address.
struct Case {
    options: Value,
    rest: &'static str,
    lines: &'static str,
    expected: &'static [&'static str],
}

fn case(options: Value, rest: &'static str, lines: &'static str, expected: &'static [&'static str]) -> Case {
    Case { options, rest, lines, expected }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
const TOLD: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\nForwarded: for=192.0.2.1\r\n";

fn cases() -> Vec<Case> {
    vec![
        case(
            json!({}),
            "/x?q",
            "A: 1\r\nProxy: evil\r\nTE: trailers\r\n",
            &["GET PATH/x?q HTTP/1.1", "Host: example.org", "A: 1", "Connection: TE", "TE: trailers"],
        ),
        case(
            json!({ "forwarded": "append", "via": "xps" }),
            "",
            "",
            &[
                "GET PATH HTTP/1.1",
                "Host: example.org",
                "X-Forwarded-For: 127.0.0.1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: example.org",
                "Via: 1.1 xps",
            ],
        ),
        case(json!({ "strip_prefix": "PATH" }), "/x?q", "", &["GET /x?q HTTP/1.1", "Host: example.org"]),
        case(json!({ "strip_prefix": "PATH" }), "", "", &["GET / HTTP/1.1", "Host: example.org"]),
        case(json!({ "strip_prefix": "PATH" }), "/../PATH/%78//y", "", &["GET /x/y HTTP/1.1", "Host: example.org"]),
        case(json!({ "strip_prefix": "PATH/in" }), "/in/x", "", &["GET /x HTTP/1.1", "Host: example.org"]),
        case(json!({ "strip_prefix": "PATH/in" }), "/out/x", "", &["GET PATH/out/x HTTP/1.1", "Host: example.org"]),
        case(json!({ "replace_prefix": "/v2" }), "/a%2Fb", "", &["GET /v2/a%2Fb HTTP/1.1", "Host: example.org"]),
        case(json!({ "replace_prefix": "/gr\u{fc}n/" }), "/x", "", &["GET /gr%C3%BCn/x HTTP/1.1", "Host: example.org"]),
        case(
            json!({ "strip_prefix": "PATH/in", "replace_prefix": "/out" }),
            "/in/x",
            "",
            &["GET /out/x HTTP/1.1", "Host: example.org"],
        ),
        case(
            json!({ "request_headers": {
                "remove": ["cookie"],
                "set": { "X-Set": "new", "X-More": ["1", "2"] },
                "add": { "X-Add": "ours" },
            } }),
            "/x",
            "x-set: old\r\nCookie: a=b\r\nX-Add: theirs\r\n",
            &[
                "GET PATH/x HTTP/1.1",
                "Host: example.org",
                "X-Add: theirs",
                "X-More: 1",
                "X-More: 2",
                "X-Set: new",
                "X-Add: ours",
            ],
        ),
        case(
            json!({ "forwarded": "append" }),
            "/x",
            TOLD,
            &[
                "GET PATH/x HTTP/1.1",
                "Host: example.org",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Host: a.example",
                "Forwarded: for=192.0.2.1",
                "X-Forwarded-For: 192.0.2.1, 127.0.0.1",
            ],
        ),
        case(
            json!({ "forwarded": "replace" }),
            "/x",
            TOLD,
            &[
                "GET PATH/x HTTP/1.1",
                "Host: example.org",
                "X-Forwarded-For: 127.0.0.1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: example.org",
            ],
        ),
        case(
            json!({ "forwarded": "off", "forwarded_field": true }),
            "/x",
            TOLD,
            &[
                "GET PATH/x HTTP/1.1",
                "Host: example.org",
                "X-Forwarded-For: 192.0.2.1",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Host: a.example",
                "Forwarded: for=192.0.2.1",
            ],
        ),
        case(
            json!({ "forwarded": "replace", "forwarded_field": true }),
            "/x",
            "",
            &[
                "GET PATH/x HTTP/1.1",
                "Host: example.org",
                "X-Forwarded-For: 127.0.0.1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: example.org",
                "Forwarded: for=127.0.0.1;host=\"example.org\";proto=http",
            ],
        ),
        case(json!({ "host": "keep" }), "/x", "", &["GET PATH/x HTTP/1.1", "Host: example.org"]),
        case(json!({ "host": "upstream" }), "/x", "", &["GET PATH/x HTTP/1.1", "Host: UPSTREAM"]),
        case(json!({ "host": "inner.example:81" }), "/x", "", &["GET PATH/x HTTP/1.1", "Host: inner.example:81"]),
        case(
            json!({ "via": "edge" }),
            "/x",
            "Via: 1.0 before\r\n",
            &["GET PATH/x HTTP/1.1", "Host: example.org", "Via: 1.0 before", "Via: 1.1 edge"],
        ),
        case(
            json!({ "upgrade": false }),
            "/x",
            UPGRADE,
            &["GET PATH/x HTTP/1.1", "Host: example.org", "Sec-WebSocket-Key: k"],
        ),
        case(
            json!({}),
            "/x",
            UPGRADE,
            &[
                "GET PATH/x HTTP/1.1",
                "Host: example.org",
                "Sec-WebSocket-Key: k",
                "Connection: upgrade",
                "Upgrade: websocket",
            ],
        ),
    ]
}

/// Answers a request whose head was read, and waits until the client has that.
#[track_caller]
fn finish(visit: &mut Visit, client: &mut Wire) {
    visit.send(OK);
    assert_eq!(client.response().text(), "ok");
}

backends! {
    fn each_option_changes_the_head_that_the_upstream_gets(backend) {
        let origin = Origin::new();
        let cases = cases();
        let path = |number: usize| format!("/route-{number}");
        let fill = |text: &str, number: usize| {
            text.replace("PATH", &path(number)).replace("UPSTREAM", &origin.address().to_string())
        };
        let routes = cases.iter().enumerate().map(|(number, case)| {
            let options = fill(&case.options.to_string(), number).replace("//", "/");
            base(&path(number), &origin, &serde_json::from_str(&options).expect("JSON"))
        });
        let (_place, service) = start(backend, routes.collect());
        let mut differences = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let target = format!("{}{}", path(number), fill(case.rest, number));
            let mut client = Wire::to(service.address());
            client.send(format!("GET {target} HTTP/1.1\r\nHost: example.org\r\n{}\r\n", case.lines));
            let mut visit = origin.visit();
            let received = visit.head().lines;
            let expected: Vec<String> = case.expected.iter().map(|line| fill(line, number)).collect();
            if received != expected {
                differences.push(format!("{}: {target}: {received:#?} instead of {expected:#?}", case.options));
            }
            finish(&mut visit, &mut client);
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    fn who_is_not_trusted_is_not_believed(backend) {
        let origin = Origin::new();
        let place = Place::new(backend);
        place.configure([routes(HERE, json!([base("/", &origin, &json!({ "forwarded": "append" }))]))]);
        let service = place.start();
        let mut client = Wire::to(service.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{TOLD}\r\n"));
        let mut visit = origin.visit();
        let received = visit.head();
        assert_eq!(received.values("X-Forwarded-For"), [HERE]);
        assert_eq!(received.values("X-Forwarded-Host"), ["h"]);
        assert!(received.values("Forwarded").is_empty());
        finish(&mut visit, &mut client);
    }

    fn rules_change_the_head_that_the_client_gets(backend) {
        let origin = Origin::new();
        let rules = json!({ "response_headers": {
            "remove": ["X-Inner"],
            "set": { "Cache-Control": "no-store" },
            "add": { "X-Add": ["1", "2"] },
        } });
        let (_place, service) = start(backend, vec![base("/", &origin, &rules)]);
        let mut client = Wire::to(service.address());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut visit = origin.visit();
        visit.head();
        visit.send("HTTP/1.1 200 OK\r\nX-Inner: secret\r\nCache-Control: public\r\nX-Add: 0\r\nContent-Length: 0\r\n\r\n");
        let response = client.response();
        assert_eq!(response.field("X-Inner"), None);
        assert_eq!(response.field("Cache-Control"), Some("no-store"));
        let added = response.fields.iter().filter(|(name, _)| name == "X-Add").map(|(_, value)| value.as_str());
        assert_eq!(added.collect::<Vec<_>>(), ["0", "1", "2"]);
    }

    fn row_55_a_vary_that_is_set_keeps_that_codings_vary(backend) {
        let origin = Origin::new();
        let rules = json!({ "response_headers": { "set": { "Vary": "Origin" } } });
        let (_place, service) = start(backend, vec![base("/", &origin, &rules)]);
        for (lines, expected) in [
            ("Vary: accept-encoding, Cookie\r\n", &["Accept-Encoding", "Origin"][..]),
            ("Vary: Cookie\r\n", &["Origin"]),
            ("", &["Origin"]),
        ] {
            let mut client = Wire::to(service.address());
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut visit = origin.visit();
            visit.head();
            visit.send(format!("HTTP/1.1 200 OK\r\n{lines}Connection: close\r\nContent-Length: 0\r\n\r\n"));
            let response = client.response();
            let vary = response.fields.iter().filter(|(name, _)| name == "Vary").map(|(_, value)| value.as_str());
            assert_eq!(vary.collect::<Vec<_>>(), expected, "{lines:?}");
        }
    }

    fn a_body_that_says_it_is_too_large_reaches_no_upstream(backend) {
        let origin = Origin::new();
        let (_place, service) = start(backend, vec![base("/", &origin, &json!({ "max_body_size": 10 }))]);
        let mut client = Wire::to(service.address());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n01234567890");
        assert_eq!(client.response().status, 413);
        origin.expect_no_visit();
        let mut client = Wire::to(service.address());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789");
        let mut visit = origin.visit();
        assert_eq!(visit.request().body, b"0123456789");
        finish(&mut visit, &mut client);
    }

    fn a_body_that_turns_out_to_be_too_large_is_broken_off(backend) {
        let origin = Origin::new();
        let (_place, service) = start(backend, vec![base("/", &origin, &json!({ "max_body_size": 10 }))]);
        let mut client = Wire::to(service.address());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n");
        let mut visit = origin.visit();
        visit.head();
        assert_eq!(visit.chunk(), b"012345");
        client.send("6\r\n678901\r\n");
        let response = client.response();
        assert_eq!((response.status, response.is_last()), (413, true));
        let rest = visit.until_end();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the upstream must not take a part for the whole");
        // As many as may be are not too many.
        let mut client = Wire::to(service.address());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n4\r\n6789\r\n0\r\n\r\n");
        let mut visit = origin.visit();
        assert_eq!(visit.request().body, b"0123456789");
        finish(&mut visit, &mut client);
    }

    fn who_asks_first_whether_a_body_is_wanted_is_told_that_it_is_too_large(backend) {
        let origin = Origin::new();
        let (_place, service) = start(backend, vec![base("/", &origin, &json!({ "max_body_size": 10 }))]);
        let mut client = Wire::to(service.address());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.is_last()), (413, true), "no 100, and no body is waited for");
        origin.expect_no_visit();
        // Whose body has no length is asked for it by the upstream, and finds out then.
        let mut client = Wire::to(service.address());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut visit = origin.visit();
        assert_eq!(visit.head().values("Expect"), ["100-continue"]);
        visit.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.response().status, 100);
        client.send("b\r\n01234567890\r\n0\r\n\r\n");
        assert_eq!(client.response().status, 413);
        let rest = visit.until_end();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the upstream must not take a part for the whole");
    }
}
