//! Whatever is accepted is a request of HTTP/1.1 too, and stays the same one when it is forwarded
//! as such: nothing is smuggled in a list of fields.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::http::forward::{Authority, RequestContext, RequestRules, write_request};
use crate::http::request::{self, Parsed};
use crate::http::scheme::Scheme;

const METHODS: &[&str] = &["GET", "POST", "OPTIONS", "CONNECT", "brew", "G T", "GET / HTTP/1.1\r\nX:", "PRI", ""];
const AUTHORITIES: &[&str] = &["h", "h:1", "h:x", "[::1]", "u@h", "h\r\nx: y", "h, i", "", "H"];
const PATHS: &[&str] =
    &["/", "/a?b", "*", "/ HTTP/1.1\r\nX: y", "/%00", "/a b", "//x", "a", "http://x/", "/#", "/?\u{e9}", "/\u{e9}", ""];

/// Field names that are handled specially, some that are not, and some that are none.
const NAMES: &[&str] = &[
    "accept",
    "cookie",
    "Accept",
    "connection",
    "content-length",
    "content_length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x",
    "x-forwarded-for",
    "x:",
    ":path",
    "x\r\ny",
    "x y",
    "",
];

const VALUES: &[&str] =
    &["5", "h", "", "0", "5, 5", "trailers", "100-continue", "H", "a\r\nb: c", " a", "a\0", "\u{e9}", "chunked"];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => one_of(VALUES).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(prop_oneof![b' '..=b'~', any::<u8>()], 0..6),
    ]
}

/// Mostly good ones.
fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(values[0]), 2 => Just(values[1]), 2 => select(values)]
}

fn parsed_as_http1(bytes: &[u8]) -> Option<RequestHead<'_>> {
    match request::parse(bytes, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, length }) if length == bytes.len() => Some(head),
        Ok(Parsed::Complete { .. } | Parsed::Partial) | Err(_) => None,
    }
}

/// The same request as text, with nothing checked.
fn as_text(head: &RequestHead<'_>, path: &str) -> Vec<u8> {
    let target = if head.method == Method::Connect { head.host.unwrap_or_default() } else { path };
    let mut text = format!("{} {target} HTTP/1.1\r\n", head.method.as_str()).into_bytes();
    for field in head.fields.iter() {
        text.extend_from_slice(&[field.name, b": ", field.value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_is_the_same_request_in_http_1(
        (method, authority, path) in (one_of(METHODS), prop::option::weighted(0.8, one_of(AUTHORITIES)), one_of(PATHS)),
        fields in vec((one_of(NAMES), value()), 0..6),
        end_stream in any::<bool>(),
    ) {
        let mut block = FieldBlock::new(&HeadLimits::default());
        block.push(b":method", method.as_bytes()).unwrap();
        if method != "CONNECT" {
            block.push(b":scheme", b"https").unwrap();
            block.push(b":path", path.as_bytes()).unwrap();
        }
        if let Some(authority) = authority {
            block.push(b":authority", authority.as_bytes()).unwrap();
        }
        for (name, value) in &fields {
            block.push(name.as_bytes(), value).unwrap();
        }
        block.seal();
        let context = HeadContext { end_stream, connect_protocol: false };
        let Ok(head) = parse(&block, context, &HeadLimits::default()) else { return Ok(()) };

        let text = as_text(&head, path);
        let Some(same) = parsed_as_http1(&text) else { panic!("\"{}\"", text.escape_ascii()) };
        prop_assert_eq!((same.method, same.target, same.host), (head.method, head.target, head.host));
        prop_assert_eq!((&same.fields, same.expect), (&head.fields, head.expect));
        if let BodyFraming::Length(_) = head.framing {
            prop_assert_eq!(same.framing, head.framing);
        }

        let upstream = Authority::new("upstream").unwrap();
        let context = RequestContext {
            client: None,
            client_is_trusted: false,
            scheme: Scheme::Https,
            client_subject: None,
            upstream_authority: &upstream,
            framing: head.framing,
            upgrade: None,
            websocket_key: None, request_id: None,
        };
        let mut out = Vec::new();
        write_request(&head, &RequestRules::default(), &context, &mut out);
        let Some(sent) = parsed_as_http1(&out) else { panic!("\"{}\"", out.escape_ascii()) };
        prop_assert_eq!((sent.method, sent.host, sent.framing), (head.method, head.host, head.framing));
        prop_assert_eq!((sent.target, sent.upgrade()), (head.target, None));
        prop_assert_eq!(sent.fields.all_known(Known::Host).count(), 1);
        prop_assert_eq!(sent.fields.all_known(Known::Cookie).count(), head.fields.known(Known::Cookie).iter().count());
    }
}
