//! Row by row: how a forwarded head is changed.

mod properties;

use std::net::IpAddr;

use super::*;
use crate::http::date::DateLine;
use crate::http::framing::BodyFraming;
use crate::http::h1::HeadEncoder;
use crate::http::head::{HeadLimits, Version};
use crate::http::request::{self, RequestHead};
use crate::http::response_head::{self, ResponseHead};
use crate::http::scheme::Scheme;

const CLIENT: &str = "192.0.2.1";

fn request(text: &str) -> RequestHead<'_> {
    match request::parse(text.as_bytes(), &HeadLimits::default()) {
        Ok(request::Parsed::Complete { head, .. }) => head,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn answer(text: &str) -> ResponseHead<'_> {
    match response_head::parse(text.as_bytes(), false, &HeadLimits::default()) {
        Ok(response_head::Parsed::Complete { head, .. }) => head,
        other => panic!("{text:?}: {other:?}"),
    }
}

/// Rules that add nothing.
fn plain() -> RequestRules {
    RequestRules { forwarded: ForwardedRule::Off, ..RequestRules::default() }
}

fn forwarded_from(client: Option<&str>, text: &str, rules: &RequestRules) -> String {
    let head = request(text);
    let context = RequestContext {
        client: client.map(|client| client.parse::<IpAddr>().unwrap()),
        client_is_trusted: true,
        scheme: Scheme::Http,
        client_subject: None,
        upstream_authority: &Authority::new("upstream:3000").unwrap(),
        framing: head.framing,
        upgrade: upgrade_to_forward(&head),
        websocket_key: None,
        request_id: None,
    };
    let mut out = b"before".to_vec();
    let host = write_request(&head, rules, &context, &mut out);
    let before_host = out[..host.start].strip_suffix(b"\r\nHost: ").unwrap();
    assert_eq!(before_host.windows(2).filter(|pair| pair == b"\r\n").count(), 0, "it is the first field");
    assert!(out[host.end..].starts_with(b"\r\n") && !out[host].contains(&b'\r'));
    String::from_utf8(out.split_off(b"before".len())).unwrap()
}

/// The head that the upstream gets for the request `text` of [`CLIENT`].
fn forwarded(text: &str, rules: &RequestRules) -> String {
    forwarded_from(Some(CLIENT), text, rules)
}

/// The same for a GET with these field lines, without the request line and `Host`.
fn lines(fields: &str, rules: &RequestRules) -> String {
    let text = forwarded(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), rules);
    text.strip_prefix("GET / HTTP/1.1\r\nHost: h\r\n").unwrap().strip_suffix("\r\n").unwrap().to_owned()
}

fn responded_to(to: Version, text: &str, rules: &ResponseRules) -> String {
    let head = answer(text);
    let date = DateLine::new(0);
    let mut encoder = HeadEncoder::new();
    write_response(
        &head,
        rules,
        &ResponseContext { date: &date, set_cookie: None, passes_trailers: false },
        &mut encoder,
    );
    String::from_utf8(encoder.end_forwarded(&head, to, true)).unwrap()
}

/// The head that an HTTP/1.1 client gets for the response `text`.
fn answered(text: &str) -> String {
    responded_to(Version::Http11, text, &ResponseRules::default())
}

const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

/// A response with `Date` and these field lines.
fn dated(status: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{DATE}{fields}\r\n")
}

#[test]
fn a_usual_request() {
    let text = "POST /a?b HTTP/1.1\r\nhost: example.org\r\nuser-agent: x\r\nContent-Length: 3\r\nAccept: */*\r\n\r\n";
    let rules = RequestRules { via: Some(Pseudonym::new("xps").unwrap()), ..RequestRules::default() };
    let expected = "POST /a?b HTTP/1.1\r\nHost: example.org\r\nuser-agent: x\r\nAccept: */*\r\nContent-Length: 3\r\n\
        X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: example.org\r\n\
        Via: 1.1 xps\r\n\r\n";
    assert_eq!(forwarded(text, &rules), expected);
}

#[test]
fn row_59_hop_by_hop_fields_stay_here() {
    let fields = "Connection: close, X-Mine , x-other\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\nX-mine: 1\r\n\
        Proxy-Connection: close\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nUpgrade: x\r\nX-Other: 2\r\n\
        X-Third: 3\r\nconnection: X-FOURTH\r\nX-Fourth: 4\r\n";
    assert_eq!(lines(fields, &plain()), "X-Third: 3\r\nConnection: TE\r\nTE: trailers\r\n");
    assert_eq!(
        answered(&dated("200 OK", &format!("Content-Length: 0\r\n{fields}"))),
        dated("200 OK", "X-Third: 3\r\nContent-Length: 0\r\n")
    );
}

#[test]
fn row_18_the_wish_for_trailers_is_written_for_the_next_hop() {
    let wish = "Connection: TE\r\nTE: trailers\r\n";
    assert_eq!(lines("TE: gzip, Trailers\r\nte: x\r\nX: 1\r\n", &plain()), format!("X: 1\r\n{wish}"));
    assert_eq!(lines("TE: gzip;q=0.5\r\nTE: trailers;q=1\r\n", &plain()), "");
    assert_eq!(
        lines("Connection: upgrade\r\nUpgrade: x\r\nTE: trailers\r\n", &plain()),
        "Connection: upgrade, TE\r\nUpgrade: x\r\nTE: trailers\r\n"
    );
    let old = forwarded("GET / HTTP/1.0\r\nHost: h\r\nTE: trailers\r\n\r\n", &plain());
    assert_eq!(old, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
}

#[test]
fn row_18_trailers_are_announced_where_they_can_follow() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_eq!(lines(&format!("Trailer: X\r\n{chunked}"), &plain()), format!("Trailer: X\r\n{chunked}"));
    assert_eq!(lines("Trailer: X\r\nContent-Length: 1\r\n", &plain()), "Content-Length: 1\r\n");
    let text = dated("200 OK", &format!("Trailer: X\r\n{chunked}"));
    for (passes_trailers, expected) in [(true, text.clone()), (false, dated("200 OK", chunked))] {
        let head = answer(&text);
        let mut encoder = HeadEncoder::new();
        let context = ResponseContext { date: &DateLine::new(0), set_cookie: None, passes_trailers };
        write_response(&head, &ResponseRules::default(), &context, &mut encoder);
        assert_eq!(encoder.end_forwarded(&head, Version::Http11, true), expected.as_bytes());
    }
}

#[test]
fn row_59_no_more_connection_options_are_looked_at_than_anyone_needs() {
    let options = "x,".repeat(CONNECTION_OPTIONS_MAX);
    assert_eq!(lines(&format!("Connection: {options}y\r\nX: 1\r\nY: 2\r\n"), &plain()), "Y: 2\r\n");
}

#[test]
fn row_80_connection_cannot_take_away_what_is_meant_for_the_other_end() {
    let kept = "Authorization: a\r\nCookie: c\r\nX-Forwarded-For: f\r\nX-Forwarded-Port: p\r\nX-Real-IP: r\r\n\
        Forwarded: for=x\r\nVia: 1.1 v\r\nX-Forwarded-Host: h\r\n";
    let connection = "Connection: host, content-length, authorization, cookie, x-forwarded-for, x-forwarded-port, \
        x-real-ip, forwarded, via, x-forwarded-host\r\n";
    let text = lines(&format!("Content-Length: 3\r\n{connection}{kept}"), &plain());
    assert_eq!(text, format!("{kept}Content-Length: 3\r\n"));
    let answer =
        dated("200 OK", "Connection: set-cookie, date, content-length\r\nSet-Cookie: x\r\nContent-Length: 0\r\n");
    assert_eq!(answered(&answer), dated("200 OK", "Set-Cookie: x\r\nContent-Length: 0\r\n"));
}

#[test]
fn row_60_forwarded_for_one_line_after_what_trusted_proxies_said() {
    let rules = RequestRules { forwarded: ForwardedRule::Append, ..RequestRules::default() };
    let fields =
        "X-Forwarded-For: a, b\r\nX-Forwarded-Proto: https\r\nX: y\r\nx-forwarded-for: c\r\nX-Forwarded-For:\r\n";
    let expected = "X-Forwarded-Proto: https\r\nX: y\r\nX-Forwarded-For: a, b, c, 192.0.2.1\r\nX-Forwarded-Host: h\r\n";
    assert_eq!(lines(fields, &rules), expected);
    let unix = forwarded_from(None, &format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), &rules);
    assert!(unix.contains("\r\nX-Forwarded-For: a, b, c\r\n"), "{unix}");
    let unix = forwarded_from(None, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", &rules);
    assert!(!unix.contains("X-Forwarded-For"), "{unix}");
}

#[test]
fn row_60_what_others_say_of_their_origin_is_dropped() {
    let fields = "X-Forwarded-For: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nX-FORWARDED-Port: 1\r\n\
        X-Real-IP: a\r\nForwarded: for=a\r\nX-Forwarded: a\r\n";
    let expected = "X-Forwarded: a\r\n\
        X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n";
    assert_eq!(lines(fields, &RequestRules::default()), expected);
    assert_eq!(lines(fields, &plain()), fields, "off");
}

/// What a client says of itself in the field of its certificate's subject is never believed, also if it
/// writes it so that a program behind the proxy takes it for that.
#[test]
fn only_the_proxy_says_who_has_shown_a_certificate() {
    let rules = RequestRules { client_subject: Some(FieldName::new("X-Client-Subject").unwrap()), ..plain() };
    let head = request(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Client-Subject: CN=root\r\nA: b\r\nx_client.subject: CN=root\r\n\
        X-CLIENT-SUBJECT:\r\nConnection: X-Client-Subject\r\nX-Client-Subjects: c\r\n\r\n",
    );
    for (client_subject, line) in [(None, ""), (Some("CN=a\\,b"), "X-Client-Subject: CN=a\\,b\r\n")] {
        let context = RequestContext {
            client: None,
            client_is_trusted: true,
            scheme: Scheme::Https,
            client_subject,
            upstream_authority: &Authority::new("upstream:3000").unwrap(),
            framing: head.framing,
            upgrade: None,
            websocket_key: None,
            request_id: None,
        };
        let mut out = Vec::new();
        write_request(&head, &rules, &context, &mut out);
        let expected = format!("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nX-Client-Subjects: c\r\n{line}\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn row_60_only_trusted_clients_are_believed() {
    let rules = RequestRules { forwarded: ForwardedRule::Append, forwarded_field: true, ..RequestRules::default() };
    let head = request("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: a\r\nForwarded: for=a\r\nX-Real-IP: a\r\n\r\n");
    let context = RequestContext {
        client: CLIENT.parse().ok(),
        client_is_trusted: false,
        scheme: Scheme::Http,
        client_subject: None,
        upstream_authority: &Authority::new("upstream:3000").unwrap(),
        framing: head.framing,
        upgrade: None,
        websocket_key: None,
        request_id: None,
    };
    let mut out = Vec::new();
    write_request(&head, &rules, &context, &mut out);
    let expected = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n\
        X-Forwarded-Host: h\r\nForwarded: for=192.0.2.1;host=\"h\";proto=http\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn row_60_forwarded_in_its_standard_form() {
    let rules = |forwarded| RequestRules { forwarded, forwarded_field: true, ..RequestRules::default() };
    let earlier = "Forwarded: for=\"\r\n";
    let ours = "Forwarded: for=192.0.2.1;host=\"h\";proto=http\r\n";
    assert!(lines(earlier, &rules(ForwardedRule::Append)).starts_with(earlier));
    assert!(lines(earlier, &rules(ForwardedRule::Append)).ends_with(ours));
    assert!(!lines(earlier, &rules(ForwardedRule::Replace)).contains(earlier));
    assert!(lines(earlier, &rules(ForwardedRule::Replace)).ends_with(ours));
    assert_eq!(lines(earlier, &rules(ForwardedRule::Off)), earlier);
    let from = |client| forwarded_from(client, "GET / HTTP/1.0\r\n\r\n", &rules(ForwardedRule::Replace));
    assert!(from(Some("2001:db8::1")).contains("\r\nForwarded: for=\"[2001:db8::1]\";proto=http\r\n"));
    assert!(from(Some("::ffff:192.0.2.1")).contains("\r\nForwarded: for=192.0.2.1;proto=http\r\n"));
    assert!(from(None).contains("\r\nForwarded: for=unknown;proto=http\r\n"));
}

#[test]
fn row_60_via_follows_those_before() {
    let rules = RequestRules { via: Some(Pseudonym::new("xps").unwrap()), ..plain() };
    assert_eq!(lines("Via: 1.0 a, 1.1 b\r\nX: y\r\n", &rules), "Via: 1.0 a, 1.1 b\r\nX: y\r\nVia: 1.1 xps\r\n");
    assert!(forwarded("GET / HTTP/1.0\r\n\r\n", &rules).contains("\r\nVia: 1.0 xps\r\n"));
}

#[test]
fn row_60_host_is_kept_or_set() {
    let host = |text: &str, host| {
        let text = forwarded(text, &RequestRules { host, ..plain() });
        text.lines().nth(1).unwrap().to_owned()
    };
    let usual = "GET / HTTP/1.1\r\nX: y\r\nHost: example.org\r\n\r\n";
    assert_eq!(host(usual, HostRule::Keep), "Host: example.org");
    assert_eq!(host(usual, HostRule::Upstream), "Host: upstream:3000");
    assert_eq!(host(usual, HostRule::Literal(Authority::new("x").unwrap())), "Host: x");
    assert_eq!(host("GET / HTTP/1.0\r\n\r\n", HostRule::Keep), "Host: upstream:3000");
}

#[test]
fn row_29_an_absolute_target_becomes_a_path_and_its_host() {
    let text = forwarded("GET http://a:1?q HTTP/1.1\r\nHost: b\r\n\r\n", &plain());
    assert_eq!(text, "GET /?q HTTP/1.1\r\nHost: a:1\r\n\r\n");
    let text = forwarded("OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", &plain());
    assert_eq!(text, "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n");
}

#[test]
fn row_61_the_body_is_framed_once() {
    assert_eq!(lines("content-length: 5, 5\r\nContent-Length: 5\r\n", &plain()), "Content-Length: 5\r\n");
    assert_eq!(lines("transfer-encoding: Chunked\r\n", &plain()), "Transfer-Encoding: chunked\r\n");
    assert_eq!(lines("Content-Length: 0\r\n", &plain()), "Content-Length: 0\r\n");
    assert_eq!(lines("", &plain()), "");
}

#[test]
fn an_expectation_is_passed_on_unless_the_client_could_not_have_it() {
    assert_eq!(lines("Expect: 100-continue\r\n", &plain()), "Expect: 100-continue\r\n");
    let text = "POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(forwarded(text, &plain()), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
}

#[test]
fn row_64_an_upgrade_is_asked_for_anew() {
    let fields = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    let expected = "Sec-WebSocket-Key: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(lines(fields, &plain()), expected);
    for unfit in ["Upgrade: x\r\n", "Connection: upgrade\r\nUpgrade: x, H2C\r\n", "Connection: upgrade\r\nUpgrade:\r\n"]
    {
        assert_eq!(lines(unfit, &plain()), "", "{unfit:?}");
    }
    assert_eq!(lines("Connection: upgrade\r\nUpgrade: x\r\nUpgrade: h2c\r\n", &plain()), "");
}

#[test]
fn row_81_repeated_fields_keep_their_order_and_lines() {
    let fields = "A: 1\r\nCookie: x\r\na: 2\r\nCookie: y\r\nA: \r\n";
    assert_eq!(lines(fields, &plain()), fields);
    let fields = "Set-Cookie: a=1, b\r\nX: y\r\nset-cookie: c\r\nSet-Cookie: a\r\nContent-Length: 0\r\n";
    assert_eq!(answered(&dated("200 OK", fields)), dated("200 OK", fields));
}

#[test]
fn row_82_an_escaped_line_break_stays_escaped() {
    let strip = PathRule::Strip(PathPrefix::new("/a").unwrap());
    let text =
        forwarded("GET /a/%0d%0aX:%20y?%0a HTTP/1.1\r\nHost: h\r\n\r\n", &RequestRules { path: strip, ..plain() });
    assert_eq!(text, "GET /%0d%0aX:%20y?%0a HTTP/1.1\r\nHost: h\r\n\r\n");
}

#[test]
fn paths_lose_or_change_their_prefix() {
    let prefix = |prefix| PathPrefix::new(prefix).unwrap();
    let target = |path: PathRule, target: &str| {
        let text = forwarded(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), &RequestRules { path, ..plain() });
        text.split(' ').nth(1).unwrap().to_owned()
    };
    let strip = || PathRule::Strip(prefix("/api"));
    for (from, to) in [("/api/x?/api/y", "/x?/api/y"), ("/api", "/"), ("/api?q", "/?q"), ("/api/", "/"), ("/x", "/x")] {
        assert_eq!(target(strip(), from), to, "{from}");
    }
    for (from, to) in [("/apix", "/apix"), ("/api//h", "/h"), ("/api/a%2fb/%7e", "/a%2fb/%7e")] {
        assert_eq!(target(strip(), from), to, "{from}");
    }
    let replace = || PathRule::Replace { prefix: prefix("/api/"), with: prefix("/v2/") };
    for (from, to) in [("/api/x", "/v2/x"), ("/api", "/v2"), ("/api/", "/v2/"), ("/", "/"), ("http://a/api/x", "/v2/x")]
    {
        assert_eq!(target(replace(), from), to, "{from}");
    }
    let under = || PathRule::Replace { prefix: prefix("/"), with: prefix("/v2") };
    assert_eq!(target(under(), "/x"), "/v2/x");
    assert_eq!(target(under(), "/"), "/v2/");
    assert_eq!(target(PathRule::Keep, "/a//b/../%2f?"), "/a//b/../%2f?");
    // The prefix is replaced however the client spells it.
    for (from, to) in [
        ("/%61pi/x", "/x"),
        ("/x/../api/y?q", "/y?q"),
        ("//api/y/", "/y/"),
        ("/./api", "/"),
        ("/api%2fa%20b%2f%2fc", "/a%20b/c"),
        ("/%61pi/%0d%0aX:%20y", "/%0D%0AX:%20y"),
    ] {
        assert_eq!(target(strip(), from), to, "{from}");
    }
    assert_eq!(target(replace(), "/%61pi"), "/v2");
    assert_eq!(target(replace(), "/%61pi/"), "/v2/");
    assert_eq!(target(replace(), "/api/../api/x"), "/v2/x");
    assert_eq!(target(under(), "/%2e%2e"), "/%2e%2e", "a path above the root is not changed");
    // A path that leads out of the prefix is not beneath it.
    for out in ["/api/%2e%2e/x", "/api/../x", "/api/..%2fx"] {
        assert_eq!(target(strip(), out), out);
    }
}

#[test]
fn row_59_what_is_for_proxies_goes_no_further() {
    let fields = "Proxy: http://evil.example\r\nPROXY-Connection: keep-alive\r\nProxy-Authorization: a\r\n\
        proxy-authenticate: a\r\nProxy-Authentication-Info: a\r\n";
    assert_eq!(lines(fields, &plain()), "");
    let others = "Proxied: b\r\nproxy-foo: a\r\nProxy-Status: x; received-status=200\r\nProxy-Features: c\r\n";
    assert_eq!(lines(others, &plain()), others);
    assert_eq!(
        answered(&dated("200 OK", &format!("Content-Length: 0\r\n{others}"))),
        dated("200 OK", &format!("{others}Content-Length: 0\r\n"))
    );
}

#[test]
fn names_that_programs_take_for_those_of_fields_that_are_not_the_clients_are_dropped() {
    let disguised = "X_Real_IP: a\r\nx_forwarded_for: a\r\nX_Forwarded-Proto: https\r\nX-Forwarded_Port: 1\r\n\
        X.Forwarded.Host: a\r\n";
    let framing = "Content_Length: 7\r\ntransfer_encoding: chunked\r\nTransfer-Encoding_: x\r\nProxy_Connection: close\r\n\
        Keep_Alive: a\r\nProxy_Authorization: a\r\n";
    let others = "Transfer-Encoding_: x\r\nUser_Agent: a\r\n_: b\r\nX_Tenant: c\r\nX-Tenant: d\r\nX!Own: e\r\n";
    let added = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n";
    for forwarded in [ForwardedRule::Append, ForwardedRule::Replace] {
        let rules = RequestRules { forwarded, ..RequestRules::default() };
        assert_eq!(
            lines(&format!("{disguised}{framing}{others}"), &rules),
            format!("Transfer-Encoding_: x\r\n{others}{added}")
        );
    }
    // A field that is trusted in its plain spelling need not be dropped in another.
    let kept = format!("{disguised}Transfer-Encoding_: x\r\n{others}");
    assert_eq!(lines(&format!("{disguised}{framing}{others}"), &plain()), kept);

    let fields = FieldRules {
        set: vec![FieldLine::new("X-Tenant", "ours").unwrap()],
        add: vec![],
        remove: vec![FieldName::new("user-agent").unwrap(), FieldName::new("x_own").unwrap()],
    };
    let rules = RequestRules { fields, ..plain() };
    assert_eq!(lines(others, &rules), "Transfer-Encoding_: x\r\n_: b\r\nX-Tenant: ours\r\n");
    let rules = RequestRules { underscores: UnderscoreRule::Drop, ..plain() };
    assert_eq!(lines(others, &rules), "X-Tenant: d\r\nX!Own: e\r\n");
}

#[test]
fn options_is_passed_on_as_often_as_it_may_be() {
    let options = |fields: &str, rules: &RequestRules| {
        let text = forwarded(&format!("OPTIONS / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), rules);
        text.strip_prefix("OPTIONS / HTTP/1.1\r\nHost: h\r\n").unwrap().strip_suffix("\r\n").unwrap().to_owned()
    };
    for (sent, got) in [
        ("Max-Forwards: 10\r\n", "Max-Forwards: 9\r\n"),
        ("max-forwards: 1\r\nMax-Forwards: 5\r\n", "Max-Forwards: 0\r\n"),
        ("Max-Forwards: 99999999999999999999999\r\n", "Max-Forwards: 18446744073709551614\r\n"),
        ("Max-Forwards: -1\r\n", "Max-Forwards: -1\r\n"),
        ("Max-Forwards:\r\n", "Max-Forwards: \r\n"),
    ] {
        assert_eq!(options(sent, &plain()), got);
    }
    assert_eq!(lines("Max-Forwards: 10\r\n", &plain()), "Max-Forwards: 10\r\n", "GET is not counted");
    let fields = FieldRules { remove: vec![FieldName::new("Max-Forwards").unwrap()], ..FieldRules::default() };
    assert_eq!(options("Max-Forwards: 10\r\n", &RequestRules { fields, ..plain() }), "");
    assert!(
        forwarded("OPTIONS http://named HTTP/1.1\r\nHost: h\r\n\r\n", &plain())
            .starts_with("OPTIONS * HTTP/1.1\r\nHost: named\r\n")
    );
    assert!(
        forwarded("OPTIONS http://named?q HTTP/1.1\r\nHost: h\r\n\r\n", &plain())
            .starts_with("OPTIONS /?q HTTP/1.1\r\n")
    );
}

#[test]
fn configured_fields_are_set_added_and_removed() {
    let line = |name, value| FieldLine::new(name, value).unwrap();
    let fields = FieldRules {
        set: vec![line("X-Set", "new"), line("x-forwarded-proto", "https")],
        add: vec![line("X-Add", "more")],
        remove: vec![FieldName::new("cookie").unwrap(), FieldName::new("X-Forwarded-Host").unwrap()],
    };
    let rules = RequestRules { fields: fields.clone(), ..RequestRules::default() };
    let expected = "X-Add: a\r\nX-Forwarded-For: 192.0.2.1\r\n\
        X-Set: new\r\nx-forwarded-proto: https\r\nX-Add: more\r\n";
    assert_eq!(lines("x-set: a\r\nX-Add: a\r\nCookie: a\r\nX-SET: b\r\n", &rules), expected);

    let rules = ResponseRules { fields, via: Some(Pseudonym::new("xps").unwrap()), cors: None, hsts: None };
    let text = responded_to(Version::Http11, &dated("204 x", "X-Set: a\r\nCookie: b\r\n"), &rules);
    let added = "Via: 1.1 xps\r\nX-Set: new\r\nx-forwarded-proto: https\r\nX-Add: more\r\n";
    assert_eq!(text, dated("204 x", added));
    let interim = responded_to(Version::Http11, "HTTP/1.1 103 x\r\nLink: y\r\nX-Set: a\r\n\r\n", &rules);
    assert_eq!(interim, "HTTP/1.1 103 x\r\nLink: y\r\n\r\n");
}

#[test]
fn row_62_answers_are_framed_for_the_clients_version() {
    let to = |to, fields: &str| {
        let text = responded_to(to, &dated("200 OK", fields), &ResponseRules::default());
        text.split_once(DATE).unwrap().1.trim_end().to_owned()
    };
    assert_eq!(to(Version::Http11, "Content-Length: 5\r\n"), "Content-Length: 5");
    assert_eq!(to(Version::Http11, "Transfer-Encoding: chunked\r\n"), "Transfer-Encoding: chunked");
    assert_eq!(to(Version::Http11, ""), "Transfer-Encoding: chunked");
    assert_eq!(to(Version::Http10, "content-length: 5, 5\r\n"), "Content-Length: 5\r\nConnection: keep-alive");
    assert_eq!(to(Version::Http10, "Transfer-Encoding: chunked\r\n"), "Connection: close");
    assert_eq!(to(Version::Http10, ""), "Connection: close");
}

#[test]
fn row_22_the_length_of_a_body_that_is_not_sent_is_kept() {
    let not_modified = dated("304 Not Modified", "ETag: \"x\"\r\nContent-Length: 5\r\n");
    assert_eq!(answered(&not_modified), not_modified);
    assert_eq!(answered(&dated("204 x", "Content-Length: 5\r\n")), dated("204 x", ""));
    let text = dated("200 OK", "Transfer-Encoding: chunked\r\nX: y\r\n");
    let Ok(response_head::Parsed::Complete { head, .. }) =
        response_head::parse(text.as_bytes(), true, &HeadLimits::default())
    else {
        panic!("{text:?}")
    };
    let context = ResponseContext { date: &DateLine::new(0), set_cookie: None, passes_trailers: false };
    let mut encoder = HeadEncoder::new();
    write_response(&head, &ResponseRules::default(), &context, &mut encoder);
    let out = encoder.end_forwarded(&head, Version::Http11, false);
    assert_eq!(String::from_utf8(out).unwrap(), dated("200 OK", "X: y\r\nConnection: close\r\n"));
}

#[test]
fn row_64_interim_answers_and_switches() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    assert_eq!(answered(interim), interim);
    assert_eq!(answered("HTTP/1.1 100 \r\nConnection: close\r\n\r\n"), "HTTP/1.1 100 \r\n\r\n");
    let switch = dated("101 x", "connection: Upgrade\r\nupgrade: websocket\r\nSec-WebSocket-Accept: y\r\n");
    let expected = dated("101 x", "Sec-WebSocket-Accept: y\r\nConnection: upgrade\r\nUpgrade: websocket\r\n");
    assert_eq!(answered(&switch), expected);
}

#[test]
fn row_79_date_and_server_are_the_upstreams() {
    let text = "HTTP/1.1 404 Nope\r\nServer: other\r\ndate: long ago\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answered(text), text);
    assert_eq!(
        answered("HTTP/1.0 200\r\nContent-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 \r\n{DATE}Content-Length: 0\r\n\r\n")
    );
}

#[test]
fn an_added_cookie_is_a_field_of_final_answers_whatever_the_rules() {
    let rules = ResponseRules {
        fields: FieldRules { remove: vec![FieldName::new("Set-Cookie").unwrap()], ..FieldRules::default() },
        ..ResponseRules::default()
    };
    let with_cookie = |text: &str| {
        let head = answer(text);
        let context = ResponseContext { date: &DateLine::new(0), set_cookie: Some("route=a"), passes_trailers: false };
        let mut encoder = HeadEncoder::new();
        write_response(&head, &rules, &context, &mut encoder);
        String::from_utf8(encoder.end_forwarded(&head, Version::Http11, true)).unwrap()
    };
    let text = dated("200 OK", "Set-Cookie: x\r\nContent-Length: 0\r\n");
    assert_eq!(with_cookie(&text), dated("200 OK", "Set-Cookie: route=a\r\nContent-Length: 0\r\n"));
    assert_eq!(with_cookie("HTTP/1.1 103 x\r\n\r\n"), "HTTP/1.1 103 x\r\n\r\n");
}

#[test]
fn hsts_is_added_to_final_responses_that_have_none() {
    let rules = ResponseRules { hsts: Some("max-age=1".to_owned()), ..ResponseRules::default() };
    let with_hsts = |text: &str| {
        let head = answer(text);
        let context = ResponseContext { date: &DateLine::new(0), set_cookie: None, passes_trailers: false };
        let mut encoder = HeadEncoder::new();
        write_response(&head, &rules, &context, &mut encoder);
        String::from_utf8(encoder.end_forwarded(&head, Version::Http11, true)).unwrap()
    };
    let added = dated("200 OK", "Strict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n");
    assert_eq!(with_hsts(&dated("200 OK", "Content-Length: 0\r\n")), added);
    let own = dated("200 OK", "strict-transport-security: max-age=2\r\nContent-Length: 0\r\n");
    assert_eq!(with_hsts(&own), own, "the upstream's own stays");
    assert_eq!(with_hsts("HTTP/1.1 103 x\r\n\r\n"), "HTTP/1.1 103 x\r\n\r\n");
}
