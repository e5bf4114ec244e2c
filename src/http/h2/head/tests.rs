//! Rule by rule: the head for each list of fields, and the error for the others.

use super::*;
use crate::http::forward::{Authority, ForwardedRule, RequestContext, RequestRules, upgrade_to_forward, write_request};
use crate::http::request::Expect;
use crate::http::scheme::Scheme;

mod properties;

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", "/")];
const END: HeadContext = HeadContext { end_stream: true, connect_protocol: false };
const OPEN: HeadContext = HeadContext { end_stream: false, connect_protocol: true };

fn block(fields: &[(&str, &str)]) -> FieldBlock {
    let mut block = FieldBlock::new(&HeadLimits::default());
    for (name, value) in fields {
        block.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    block.seal();
    block
}

fn checked(fields: &[(&str, &str)], context: HeadContext) -> Result<(), BadHead> {
    parse(&block(fields), context, &HeadLimits::default()).map(|_| ())
}

fn with(more: &[(&str, &str)]) -> Result<(), BadHead> {
    checked(&[&GET[..], more].concat(), END)
}

/// The pseudo-header fields of a GET, with some set to another value, or left out.
fn but(changes: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
    let mut fields: Vec<_> = GET.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in changes {
        fields.retain(|field| field.0 != *name);
        fields.extend(value.map(|value| ((*name).to_owned(), value.to_owned())));
    }
    fields
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn changed(changes: &[(&str, Option<&str>)]) -> Result<(), BadHead> {
    checked(&borrowed(&but(changes)), OPEN)
}

fn is_malformed(result: Result<(), BadHead>) -> bool {
    matches!(result, Err(BadHead::Malformed(_)))
}

/// The status of the response to a request that is not malformed.
fn status(result: Result<(), BadHead>) -> u16 {
    match result {
        Err(BadHead::Rejected(response)) => response.status.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_usual_request() {
    let block = block(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "example.org:8443"),
        (":path", "/a%20b?c=d"),
        ("user-agent", "x y"),
        ("content-length", "5"),
        ("cookie", "a=1"),
        ("te", "trailers"),
        ("cookie", "b=2"),
        ("expect", "100-continue"),
        ("accept", ""),
    ]);
    let head = parse(&block, OPEN, &HeadLimits::default()).unwrap();
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.target, Target::Origin { path: "/a%20b", query: Some(b"c=d") });
    assert_eq!((head.version, head.host), (Version::Http2, Some("example.org:8443")));
    assert_eq!((head.framing, head.keep_alive, head.expect), (BodyFraming::Length(5), true, Expect::Continue));
    assert_eq!(head.fields.known(Known::Cookie), Some(&b"a=1; b=2"[..]));
    assert_eq!(head.fields.known(Known::Host), Some(&b"example.org:8443"[..]), "as in HTTP/1.1");
    assert_eq!(head.fields.get("accept"), Some(&b""[..]));
    assert_eq!((head.fields.len(), head.upgrade()), (7, None));
    assert!(head.fields.iter().all(|field| !field.name.starts_with(b":")));
}

#[test]
fn each_pseudo_header_field_is_there_once() {
    assert_eq!(changed(&[]), Ok(()));
    for name in [":method", ":scheme", ":path"] {
        assert!(is_malformed(changed(&[(name, None)])), "{name}");
        assert!(is_malformed(checked(&[&GET[..], &[(name, "GET")]].concat(), END)), "{name}");
    }
    assert!(is_malformed(checked(&[&GET[..], &[(":authority", "h")]].concat(), END)));
    for name in [":status", ":", ":Path", ":host", ":path "] {
        assert!(is_malformed(checked(&[&[(name, "x")][..], &GET].concat(), END)), "{name}");
    }
}

#[test]
fn pseudo_header_fields_come_first() {
    for place in 0..4 {
        let mut fields = GET.to_vec();
        fields.insert(place, ("a", ""));
        assert!(is_malformed(checked(&fields, END)), "{place}");
    }
    assert!(is_malformed(checked(&[&[("host", "h")][..], &GET].concat(), END)));
    assert_eq!(with(&[("a", "")]), Ok(()));
}

#[test]
fn names_are_tokens_in_lower_case() {
    for byte in 0..=u8::MAX {
        let mut block = block(&GET);
        block.push(&[b'a', byte, b'b'], b"").unwrap();
        let is_good = is_token_byte(byte) && !byte.is_ascii_uppercase();
        assert_eq!(parse(&block, END, &HeadLimits::default()).is_ok(), is_good, "{byte}");
    }
    assert!(is_malformed(with(&[("", "x")])));
    assert!(is_malformed(with(&[("Accept", "x")])));
}

#[test]
fn control_characters_in_values_are_malformed() {
    for byte in 0..=u8::MAX {
        let mut block = block(&GET);
        block.push(b"a", &[b'a', byte, b'b']).unwrap();
        let is_control = byte != b'\t' && byte.is_ascii_control();
        assert_eq!(parse(&block, END, &HeadLimits::default()).is_err(), is_control, "{byte}");
    }
    for bad in [" x", "x ", "\tx", "x\t", " "] {
        assert!(is_malformed(with(&[("a", bad)])), "{bad:?}");
    }
    assert_eq!(with(&[("cookie", "x"), ("cookie", ""), ("cookie", "y")]), Ok(()));
    for bad in [["x ", "y"], ["x", " y"], ["x", "\t"]] {
        assert!(is_malformed(with(&[("cookie", bad[0]), ("cookie", bad[1])])), "{bad:?}");
    }
    assert!(is_malformed(changed(&[(":path", Some("/\r\nx: y"))])));
    assert!(is_malformed(changed(&[(":authority", Some("h\n"))])));
    assert!(is_malformed(changed(&[(":method", Some("GET "))])));
}

#[test]
fn fields_of_the_connection_are_malformed() {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        for value in ["", "close", "chunked", "keep-alive"] {
            assert!(is_malformed(with(&[(name, value)])), "{name}");
        }
    }
    assert_eq!(with(&[("te", "trailers")]), Ok(()));
    for bad in ["", "gzip", "trailers, gzip", "trailers;q=1"] {
        assert!(is_malformed(with(&[("te", bad)])), "{bad}");
    }
}

#[test]
fn the_host_is_one() {
    let host = |authority, hosts: &[&str]| {
        let fields = but(&[(":authority", authority)]);
        let hosts = hosts.iter().map(|host| ("host", *host));
        let fields: Vec<_> = borrowed(&fields).into_iter().chain(hosts).collect();
        let block = block(&fields);
        parse(&block, END, &HeadLimits::default()).map(|head| {
            let host = head.host.map(str::as_bytes);
            assert!(head.fields.all_known(Known::Host).eq(host));
            head.host.unwrap().to_owned()
        })
    };
    assert_eq!(host(Some("h:1"), &[]).as_deref(), Ok("h:1"));
    assert_eq!(host(None, &["h:1"]).as_deref(), Ok("h:1"));
    assert_eq!(host(Some("h"), &["H"]).as_deref(), Ok("h"));
    for (authority, hosts) in [(None, &[][..]), (Some("h"), &["i"]), (Some("h"), &["h:80"]), (Some("h"), &[""])] {
        assert!(matches!(host(authority, hosts), Err(BadHead::Malformed(_))), "{authority:?} {hosts:?}");
    }
    for (authority, hosts) in [
        (Some("h"), &["h", "h"][..]),
        (None, &["h", "h"]),
        (Some(""), &[]),
        (None, &[""]),
        (Some("u@h"), &[]),
        (Some("h/"), &[]),
        (Some("a,b"), &[]),
        (Some("h:x"), &["h:x"]),
    ] {
        assert!(matches!(host(authority, hosts), Err(BadHead::Rejected(_))), "{authority:?} {hosts:?}");
    }
}

#[test]
fn paths_are_as_strict_as_in_http_1() {
    for good in ["/", "/a?b=%", "/%41", "/?\u{2019}"] {
        assert_eq!(changed(&[(":path", Some(good))]), Ok(()), "{good}");
    }
    for bad in ["/a b", "/#", "/\u{e9}", "/%", "/%00", "/%zz"] {
        assert_eq!(status(changed(&[(":path", Some(bad))])), 400, "{bad}");
    }
    for bad in ["", "a", "*", "http://h/", "?"] {
        assert!(is_malformed(changed(&[(":path", Some(bad))])), "{bad}");
    }
    let long = format!("/{}", "x".repeat(9000));
    assert_eq!(status(changed(&[(":path", Some(&long))])), 414);
}

#[test]
fn the_asterisk_is_for_options() {
    let fields = but(&[(":method", Some("OPTIONS")), (":path", Some("*"))]);
    let block = block(&borrowed(&fields));
    assert_eq!(parse(&block, END, &HeadLimits::default()).map(|head| head.target), Ok(Target::Asterisk));
    let rejected = changed(&[(":method", Some("OPTIONS")), (":path", Some("*?x"))]);
    assert!(is_malformed(rejected));
}

#[test]
fn methods_and_schemes() {
    assert_eq!(changed(&[(":method", Some("brew"))]), Ok(()));
    for bad in ["", "G T", "GET/", "G\u{e9}T"] {
        assert!(is_malformed(changed(&[(":method", Some(bad))])), "{bad}");
    }
    assert_eq!(status(changed(&[(":method", Some(&"x".repeat(65)))])), 501);
    assert_eq!(changed(&[(":scheme", Some("HTTP"))]), Ok(()));
    for bad in ["", "ftp", "https:"] {
        assert_eq!(status(changed(&[(":scheme", Some(bad))])), 400, "{bad}");
    }
}

#[test]
fn a_connect_has_an_authority_only() {
    let connect = |more: &[(&str, &str)]| checked(&[&[(":method", "CONNECT")][..], more].concat(), OPEN);
    let fields = [(":method", "CONNECT"), (":authority", "h:443")];
    let block = block(&fields);
    let head = parse(&block, OPEN, &HeadLimits::default()).unwrap();
    assert_eq!((head.target, head.host, head.protocol), (Target::Authority("h:443"), Some("h:443"), None));
    assert!(is_malformed(connect(&[(":authority", "h:443"), (":path", "/")])));
    assert!(is_malformed(connect(&[(":authority", "h:443"), (":scheme", "https")])));
    assert!(is_malformed(connect(&[("host", "h:443")])));
    assert_eq!(status(connect(&[(":authority", "h")])), 400);
}

#[test]
fn an_extended_connect_has_a_path_and_a_protocol() {
    let fields = but(&[(":method", Some("CONNECT")), (":protocol", Some("websocket"))]);
    let block = block(&borrowed(&fields));
    let head = parse(&block, OPEN, &HeadLimits::default()).unwrap();
    assert_eq!((head.method, head.target.path()), (Method::Connect, Some("/")));
    assert_eq!((head.upgrade(), head.framing), (Some(&b"websocket"[..]), BodyFraming::Chunked));
    let not_announced = HeadContext { connect_protocol: false, ..OPEN };
    assert!(is_malformed(parse(&block, not_announced, &HeadLimits::default()).map(|_| ())));
    for missing in [":scheme", ":path", ":authority"] {
        let changes = [(":method", Some("CONNECT")), (":protocol", Some("websocket")), (missing, None)];
        assert!(is_malformed(changed(&changes)), "{missing}");
    }
    assert!(is_malformed(changed(&[(":method", Some("CONNECT")), (":protocol", Some("web socket"))])));
    assert!(is_malformed(changed(&[(":protocol", Some("websocket"))])), "with GET");
}

#[test]
fn an_extended_connect_is_forwarded_as_an_upgrade() {
    let mut fields = but(&[(":method", Some("CONNECT")), (":protocol", Some("websocket"))]);
    fields.push(("sec-websocket-key".into(), "of the client".into()));
    let block = block(&borrowed(&fields));
    let head = parse(&block, OPEN, &HeadLimits::default()).unwrap();
    let upstream = Authority::new("upstream").unwrap();
    let context = RequestContext {
        client: None,
        client_is_trusted: false,
        scheme: Scheme::Https,
        client_subject: None,
        upstream_authority: &upstream,
        framing: BodyFraming::None,
        upgrade: upgrade_to_forward(&head),
        websocket_key: Some("of the proxy"),
        request_id: None,
    };
    let rules = RequestRules { forwarded: ForwardedRule::Off, ..RequestRules::default() };
    let mut out = Vec::new();
    write_request(&head, &rules, &context, &mut out);
    let expected = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: of the proxy\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_stored_head_can_be_had_again() {
    let stored = StoredHead::new(block(&[&GET[..], &[("a", "b")]].concat()), END);
    let first = stored.head(&HeadLimits::default()).unwrap();
    assert_eq!(first.fields.get("a"), Some(&b"b"[..]));
    assert_eq!(stored.head(&HeadLimits::default()), Ok(first));
    let bad = StoredHead::new(block(&GET[1..]), END);
    assert!(matches!(bad.head(&HeadLimits::default()), Err(BadHead::Malformed(_))));
}

#[test]
fn the_length_of_a_body_is_one_number() {
    let framing = |lengths: &[&str], end_stream| {
        let lengths = lengths.iter().map(|length| ("content-length", *length));
        let block = block(&GET.into_iter().chain(lengths).collect::<Vec<_>>());
        let context = HeadContext { end_stream, ..END };
        parse(&block, context, &HeadLimits::default()).map(|head| head.framing)
    };
    assert_eq!(framing(&[], true), Ok(BodyFraming::None));
    assert_eq!(framing(&[], false), Ok(BodyFraming::Chunked));
    assert_eq!(framing(&["5", "5"], false), Ok(BodyFraming::Length(5)));
    assert_eq!(framing(&["0"], true), Ok(BodyFraming::Length(0)));
    for (bad, end_stream) in
        [(&["5"][..], true), (&["5", "6"], false), (&["x"], false), (&["-1"], false), (&[""], true)]
    {
        assert!(matches!(framing(bad, end_stream), Err(BadHead::Malformed(_))), "{bad:?}");
    }
}

#[test]
fn a_body_is_as_long_as_it_was_declared() {
    let received = |framing, pieces: &[u64]| {
        let mut declared = DeclaredLength::new(framing);
        pieces.iter().try_for_each(|piece| declared.receive(*piece)).and_then(|()| declared.end())
    };
    assert_eq!(received(BodyFraming::Length(5), &[2, 0, 3]), Ok(()));
    assert!(is_malformed(received(BodyFraming::Length(5), &[2])));
    assert!(is_malformed(received(BodyFraming::Length(5), &[6])));
    assert!(is_malformed(received(BodyFraming::None, &[1])));
    assert_eq!(received(BodyFraming::Chunked, &[u64::MAX, u64::MAX]), Ok(()));
}

#[test]
fn lists_beyond_a_limit_are_431() {
    let many: Vec<_> = GET.into_iter().chain([("a", "")].repeat(101)).collect();
    assert_eq!(status(checked(&many, END)), 431);
    assert_eq!(checked(&many[..104], END), Ok(()));
    let long = "x".repeat(33 << 10);
    assert_eq!(status(with(&[("a", &long)])), 431);
}

#[test]
fn trailers_have_no_pseudo_header_fields() {
    let trailers = |fields: &[(&str, &str)]| parse_trailers(&block(fields)).map(|fields| fields.len());
    assert_eq!(trailers(&[("grpc-status", "0"), ("a", "")]), Ok(2));
    assert_eq!(trailers(&[]), Ok(0));
    for bad in [(":path", "/"), (":status", "200"), ("A", ""), ("connection", "x"), ("a", "\n")] {
        assert!(matches!(trailers(&[("b", ""), bad]), Err(BadHead::Malformed(_))), "{bad:?}");
    }
    assert!(matches!(trailers(&[(":path", "/")]), Err(BadHead::Malformed(_))));
}
