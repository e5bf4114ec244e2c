//! Whatever head is received, the forwarded one is valid: it parses again, has one body framing,
//! and has all end-to-end fields unchanged.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http::fields::Field;
use crate::http::response_head::ResponseFraming;
use crate::http::scheme::Scheme;

/// Field names that are handled specially, and some that are not.
const NAMES: &[&str] = &[
    "Accept",
    "Authorization",
    "CONNECTION",
    "Connection",
    "Content_Length",
    "Cookie",
    "Date",
    "Expect",
    "Forwarded",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Server",
    "Set-Cookie",
    "TE",
    "Trailer",
    "Upgrade",
    "Via",
    "X",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Real-IP",
    "X_Forwarded_For",
    "Y",
    "te",
    "x",
    "x-forwarded-for",
    "z",
];

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const TARGETS: &[&str] = &["/", "/a/b?c", "/a", "/ab", "/%0d%0a", "http://x:1/a/b", "http://x?q", "/a//x", "//x"];

/// Framings that a strict parser accepts; at most one of these in a head.
const FRAMINGS: &[&str] = &["", "Content-Length: 0\r\n", "content-length: 7, 7\r\n", "Transfer-Encoding: chunked\r\n"];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(prop::sample::select(NAMES), 0..4).prop_map(|names| names.join(", ").into_bytes()),
        1 => prop::sample::select(&["close", "upgrade, x", "websocket", "h2c", "100-continue", "for=\"", "1.1 a", "trailers"][..])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80u8..], 0..12),
    ]
}

/// Field lines with one framing somewhere among them.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let line = (prop::sample::select(NAMES), value());
    (vec(line, 0..12), prop::sample::select(FRAMINGS), any::<prop::sample::Index>()).prop_map(|(lines, framing, at)| {
        let mut lines: Vec<_> =
            lines.into_iter().map(|(name, value)| [name.as_bytes(), b":", &value, b"\r\n"].concat()).collect();
        lines.insert(at.index(lines.len() + 1), framing.as_bytes().to_vec());
        lines.concat()
    })
}

fn field_rules() -> impl Strategy<Value = FieldRules> {
    let name = || prop::sample::select(&["X", "Via", "X-Forwarded-For", "Cookie", "Date", "New"][..]);
    let line = || name().prop_map(|name| FieldLine::new(name, "ours").unwrap());
    let remove = name().prop_map(|name| FieldName::new(name).unwrap());
    (vec(line(), 0..3), vec(line(), 0..3), vec(remove, 0..3)).prop_map(|(set, add, remove)| FieldRules {
        set,
        add,
        remove,
    })
}

fn request_rules() -> impl Strategy<Value = RequestRules> {
    use ForwardedRule::{Append, Off, Replace};
    let prefix = |text| PathPrefix::new(text).unwrap();
    let paths = [
        PathRule::Keep,
        PathRule::Strip(prefix("/a")),
        PathRule::Strip(prefix("/")),
        PathRule::Replace { prefix: prefix("/a"), with: prefix("/") },
        PathRule::Replace { prefix: prefix("/"), with: prefix("/n/m") },
    ];
    let hosts = [HostRule::Keep, HostRule::Upstream, HostRule::Literal(Authority::new("literal").unwrap())];
    let parts = (
        prop::sample::select(hosts.to_vec()),
        prop::sample::select(vec![Append, Replace, Off]),
        any::<bool>(),
        prop::option::of(Just(Pseudonym::new("xps").unwrap())),
        field_rules(),
        prop::sample::select(paths.to_vec()),
    );
    parts.prop_map(|(host, forwarded, forwarded_field, via, fields, path)| RequestRules {
        host,
        forwarded,
        forwarded_field,
        via,
        client_subject: FieldName::new("X-Subject").ok(),
        fields,
        underscores: UnderscoreRule::Pass,
        request_id: RequestIdRule::default(),
        path,
    })
}

/// The end-to-end fields that no rule changes, computed without the code under test.
fn end_to_end<'b>(fields: &Fields<'b>, others: &[&str]) -> Vec<Field<'b>> {
    let lower = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
    let connection: Vec<String> = fields.all("connection").map(lower).collect();
    let options: Vec<&str> = connection.iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    let is_kept = |field: &Field<'_>| {
        let name = lower(field.name);
        let can_be_named = ["x", "y", "z", "server", "x_forwarded_for"].contains(&&*name);
        let is_named = can_be_named && options.contains(&&*name);
        let is_ours = HOP_BY_HOP.contains(&&*name) || ["host", "content-length", "content_length"].contains(&&*name);
        !is_named && !is_ours && !others.contains(&&*name)
    };
    fields.iter().filter(is_kept).collect()
}

fn hop_by_hop(fields: &Fields<'_>) -> Vec<String> {
    let names = fields.iter().map(|field| String::from_utf8_lossy(field.name).to_lowercase());
    names.filter(|name| HOP_BY_HOP.contains(&&**name)).collect()
}

fn parse_request(bytes: &[u8]) -> Option<RequestHead<'_>> {
    match request::parse(bytes, &HeadLimits::default()) {
        Ok(request::Parsed::Complete { head, length }) if length == bytes.len() => Some(head),
        Ok(request::Parsed::Complete { .. } | request::Parsed::Partial) | Err(_) => None,
    }
}

fn parse_response(bytes: &[u8], to_head: bool) -> Option<ResponseHead<'_>> {
    match response_head::parse(bytes, to_head, &HeadLimits::default()) {
        Ok(response_head::Parsed::Complete { head, length }) if length == bytes.len() => Some(head),
        Ok(response_head::Parsed::Complete { .. } | response_head::Parsed::Partial) | Err(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(
        target in prop::sample::select(TARGETS),
        is_http11 in any::<bool>(),
        fields in fields(),
        rules in request_rules(),
        client in prop::option::of(any::<IpAddr>()),
        client_is_trusted in any::<bool>(),
    ) {
        let version = if is_http11 { "1.1" } else { "1.0" };
        let start = format!("POST {target} HTTP/{version}\r\nHost: original\r\n");
        let bytes = [start.as_bytes(), &fields, b"\r\n"].concat();
        let Some(head) = parse_request(&bytes) else {
            // Two or more framings are not generated; chunks are not valid in HTTP/1.0.
            prop_assert!(!is_http11);
            return Ok(());
        };
        let upgrade = upgrade_to_forward(&head);
        let upstream = Authority::new("upstream").unwrap();
        let context = RequestContext {
            client,
            client_is_trusted,
            scheme: Scheme::Https,
            client_subject: Some("CN=a"),
            upstream_authority: &upstream,
            framing: head.framing,
            upgrade,
            websocket_key: None, request_id: None,
        };
        let mut out = Vec::new();
        write_request(&head, &rules, &context, &mut out);
        let Some(sent) = parse_request(&out) else { panic!("\"{}\"", out.escape_ascii()) };

        prop_assert_eq!((sent.method, sent.version, sent.keep_alive), (head.method, Version::Http11, true));
        prop_assert_eq!((sent.framing, sent.upgrade()), (head.framing, upgrade));
        prop_assert_eq!(sent.target.query(), head.target.query());
        prop_assert_eq!(sent.fields.all("host").count(), 1);
        let mut expected: Vec<&str> = Vec::new();
        if head.framing == BodyFraming::Chunked {
            expected.extend(head.fields.all("trailer").map(|_| "trailer"));
            expected.push("transfer-encoding");
        }
        let wants_trailers = is_http11 && head.fields.all("te").any(|value| value == b"trailers");
        expected.extend((wants_trailers || upgrade.is_some()).then_some("connection"));
        expected.extend(upgrade.map(|_| "upgrade"));
        expected.extend(wants_trailers.then_some("te"));
        prop_assert_eq!(hop_by_hop(&sent.fields), expected);

        let mut others = vec!["via", "forwarded", "x-real-ip", "x-forwarded-for", "x-forwarded-proto"];
        others.extend(["x-forwarded-host", "x-forwarded-port", "new", "date", "cookie", "x_forwarded_for"]);
        others.push("x-subject");
        prop_assert_eq!(sent.fields.all("x-subject").collect::<Vec<_>>(), [b"CN=a"]);
        others.extend((!is_http11).then_some("expect"));
        // Not compared: fields that the proxy writes itself, and `X` if a rule names it.
        others.extend(rules_name(&rules.fields, "X").then_some("x"));
        prop_assert_eq!(end_to_end(&sent.fields, &others), end_to_end(&head.fields, &others));
        prop_assert_eq!(sent.fields.all("content_length").count(), 0);
        if rules.forwarded != ForwardedRule::Off {
            prop_assert_eq!(sent.fields.all("x_forwarded_for").count(), 0);
            prop_assert!(sent.fields.all("x-forwarded-for").count() <= 1 + rules.fields.set.len() + rules.fields.add.len());
        }
    }

    #[test]
    fn requests_without_rules_lose_nothing(fields in fields()) {
        let bytes = [b"POST / HTTP/1.1\r\nHost: h\r\n", &fields[..], b"\r\n"].concat();
        let head = parse_request(&bytes).unwrap();
        let upstream = Authority::new("upstream").unwrap();
        let context =
            RequestContext { client: None, client_is_trusted: false, scheme: Scheme::Http, client_subject: None, upstream_authority: &upstream, framing: head.framing, upgrade: None, websocket_key: None, request_id: None };
        let mut out = Vec::new();
        write_request(&head, &plain(), &context, &mut out);
        let sent = parse_request(&out).unwrap();
        prop_assert_eq!(end_to_end(&sent.fields, &[]), end_to_end(&head.fields, &[]));
    }

    #[test]
    fn answers(
        status in prop::sample::select(vec![100u16, 101, 103, 200, 204, 206, 304, 404, 599]),
        is_http11 in any::<bool>(),
        to in prop::sample::select(vec![Version::Http10, Version::Http11]),
        to_head in any::<bool>(),
        keep_alive in any::<bool>(),
        passes_trailers in any::<bool>(),
        fields in fields(),
        rules in (field_rules(), prop::option::of(Just(Pseudonym::new("xps").unwrap()))),
    ) {
        let version = if is_http11 { "1.1" } else { "1.0" };
        let bytes = [format!("HTTP/{version} {status} Why\r\n").as_bytes(), &fields, b"\r\n"].concat();
        let Some(head) = parse_response(&bytes, to_head) else {
            prop_assert!(!is_http11);
            return Ok(());
        };
        let rules = ResponseRules { fields: rules.0, via: rules.1, cors: None, hsts: None };
        let date = DateLine::new(0);
        let framing = head.framing.for_client(to);
        let mut encoder = HeadEncoder::new();
        write_response(&head, &rules, &ResponseContext { date: &date, set_cookie: None, passes_trailers }, &mut encoder);
        let out = encoder.end_forwarded(&head, to, keep_alive);
        let Some(sent) = parse_response(&out, to_head) else { panic!("\"{}\"", out.escape_ascii()) };

        prop_assert_eq!((sent.status, sent.reason, sent.framing), (head.status, head.reason, framing));
        let is_final = status >= 200;
        if is_final {
            let stays = keep_alive && framing != ResponseFraming::UntilClose;
            prop_assert_eq!(sent.keep_alive, stays);
            prop_assert_eq!(sent.connection_tokens().count(), usize::from(!stays || to == Version::Http10));
        }
        let announcements = if passes_trailers { head.fields.all("trailer").count() } else { 0 };
        prop_assert_eq!(sent.fields.all("trailer").count(), announcements);
        let framings = ["content-length", "transfer-encoding"].map(|name| sent.fields.all(name).count());
        prop_assert!(framings.iter().sum::<usize>() <= 1);
        let mut others = vec!["via", "date", "new", "cookie", "x-forwarded-for"];
        others.extend(rules_name(&rules.fields, "X").then_some("x"));
        prop_assert_eq!(end_to_end(&sent.fields, &others), end_to_end(&head.fields, &others));
        if is_final && !rules_name(&rules.fields, "Date") {
            prop_assert_eq!(sent.fields.all("date").count(), head.fields.all("date").count().max(1));
        }
    }
}

/// Whether a rule removes, sets or adds `name`.
fn rules_name(rules: &FieldRules, name: &str) -> bool {
    let added = rules.set.iter().chain(&rules.add).map(FieldLine::name);
    added.chain(&rules.remove).any(|other| other.as_str() == name)
}
