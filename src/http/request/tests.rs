//! Row by row: the result for each kind of head.

use super::*;
use crate::http::head::FIELDS_USUAL;

const REST: &str = " HTTP/1.1\r\nHost: h\r\n\r\n";

fn parsed(bytes: &[u8]) -> Result<Parsed<'_>, ErrorResponse> {
    parse(bytes, &HeadLimits::default())
}

fn head(text: &str) -> RequestHead<'_> {
    match parsed(text.as_bytes()) {
        Ok(Parsed::Complete { head, length }) => {
            assert_eq!(length, text.len());
            head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

/// The status with which `bytes` are rejected.
fn refused(bytes: impl AsRef<[u8]>) -> u16 {
    let bytes = bytes.as_ref();
    match parsed(bytes) {
        Err(error) => error.status.code(),
        other => panic!("\"{}\": {other:?}", bytes.escape_ascii()),
    }
}

fn with_fields(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn with_target(target: &str) -> String {
    format!("GET {target}{REST}")
}

#[test]
fn a_usual_request() {
    let head = head("GET /a%20b?c=d HTTP/1.1\r\nHost: example.org:8080\r\nuser-agent:\tx y \t\r\nAccept:\r\n\r\n");
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.target, Target::Origin { path: "/a%20b", query: Some(b"c=d") });
    assert_eq!((head.version, head.host), (Version::Http11, Some("example.org:8080")));
    assert_eq!((head.framing, head.keep_alive, head.expect), (BodyFraming::None, true, Expect::None));
    assert_eq!(head.fields.known(Known::UserAgent), Some(&b"x y"[..]));
    assert_eq!(head.fields.get("accept"), Some(&b""[..]));
    assert_eq!(head.fields.get("absent"), None);
    assert_eq!(head.upgrade(), None);
}

#[test]
fn row_2_a_head_beyond_a_limit_is_431() {
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(40_000));
    assert_eq!(refused(&long), 431, "not complete");
    assert_eq!(refused(format!("{long}\r\n\r\n")), 431, "complete");
    let many = |count| with_fields(&"x: y\r\n".repeat(count));
    assert!(parsed(many(99).as_bytes()).is_ok());
    assert_eq!(refused(many(100)), 431);
}

#[test]
fn row_2_limits_are_exact() {
    let text = with_fields("");
    let limits = HeadLimits { head_bytes_max: text.len(), request_line_bytes_max: 16, fields_max: 1 };
    assert!(matches!(parse(text.as_bytes(), &limits), Ok(Parsed::Complete { .. })));
    let tight = |limits| parse(text.as_bytes(), &limits).unwrap_err().status.code();
    assert_eq!(tight(HeadLimits { head_bytes_max: text.len() - 1, ..limits }), 431);
    assert_eq!(tight(HeadLimits { request_line_bytes_max: 15, ..limits }), 414);
    assert_eq!(tight(HeadLimits { fields_max: 0, ..limits }), 431);
}

#[test]
fn row_2_limits_larger_than_the_ceilings_mean_the_ceilings() {
    let limits = HeadLimits { head_bytes_max: usize::MAX, request_line_bytes_max: usize::MAX, fields_max: usize::MAX };
    let longest = HEAD_BYTES_CEILING - with_fields("X: \r\n").len();
    let fits = with_fields(&format!("X: {}\r\n", "x".repeat(longest)));
    let Ok(Parsed::Complete { head, .. }) = parse(fits.as_bytes(), &limits) else { panic!("refused") };
    assert_eq!(head.fields.get("x").map(<[u8]>::len), Some(longest));
    let too_long = with_fields(&format!("X: {}\r\n", "x".repeat(longest + 1)));
    assert_eq!(parse(too_long.as_bytes(), &limits).unwrap_err().status.code(), 431);
    let too_many = with_fields(&"x: y\r\n".repeat(100));
    assert_eq!(parse(too_many.as_bytes(), &limits).unwrap_err().status.code(), 431);
}

#[test]
fn row_2_a_request_line_beyond_its_limit_is_414() {
    assert_eq!(refused(with_target(&format!("/{}", "x".repeat(9000)))), 414);
    assert_eq!(refused(format!("GET /{}", "x".repeat(9000))), 414, "not complete");
}

#[test]
fn row_3_a_bare_cr_is_refused() {
    for bad in ["GET / HTTP/1.1\rHost: h\r\n\r\n", "GET /\r HTTP/1.1\r\n", "\rGET / HTTP/1.1\r\n"] {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
    for bad in ["X: a\rb\r\n", "X: a\r\r\n", "\rX: a\r\n", "X\r: a\r\n", "X:\r a\r\n"] {
        assert_eq!(refused(with_fields(bad)), 400, "{bad:?}");
    }
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: h\r\n\rX"), 400);
}

#[test]
fn row_4_a_bare_lf_is_refused() {
    for bad in ["GET / HTTP/1.1\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\n"]
    {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
    for bad in ["\nGET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n\nHost: h\r\n\r\n", "GET /\nHost: h\n\n", "GET /\n"] {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: h\nX: y"), 400, "without waiting for the end");
    assert_eq!(refused(with_fields("X:\n")), 400);
    assert_eq!(refused(with_fields("X: y \n")), 400);
}

#[test]
fn row_5_white_space_before_a_colon_is_refused() {
    for bad in ["X : y\r\n", "X\t: y\r\n", "Content-Length : 5\r\n"] {
        assert_eq!(refused(with_fields(bad)), 400, "{bad:?}");
    }
}

#[test]
fn row_6_folded_lines_are_refused() {
    for bad in ["X: y\r\n z\r\n", "X: y\r\n\tz\r\n", "X:\r\n z\r\n", " X: y\r\n"] {
        assert_eq!(refused(with_fields(bad)), 400, "{bad:?}");
    }
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), 400);
}

#[test]
fn row_7_field_names_are_tokens() {
    for byte in (0..=u8::MAX).filter(|byte| *byte != b':') {
        let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\na", &[byte][..], b"b: c\r\n\r\n"].concat();
        assert_eq!(parsed(&bytes).is_ok(), is_token_byte(byte), "{byte}");
    }
    for bad in [": y\r\n", "X\r\n", "X y\r\n"] {
        assert_eq!(refused(with_fields(bad)), 400, "{bad:?}");
    }
}

#[test]
fn row_8_control_characters_in_values_are_refused() {
    for byte in 0..=u8::MAX {
        let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat();
        let is_control = byte != b'\t' && byte.is_ascii_control();
        assert_eq!(parsed(&bytes).is_err(), is_control, "{byte}");
    }
}

#[test]
fn row_9_leading_empty_lines_are_skipped_and_counted() {
    let text = format!("\r\n\r\n{}", with_fields(""));
    assert_eq!(head(&text).host, Some("h"));
    assert!(parsed(format!("{}{}", "\r\n".repeat(LEADING_LINES_MAX), with_fields("")).as_bytes()).is_ok());
    assert_eq!(refused("\r\n".repeat(LEADING_LINES_MAX + 1)), 400);
    for partial in ["", "\r", "\r\n", "\r\n\r"] {
        assert_eq!(parsed(partial.as_bytes()), Ok(Parsed::Partial), "{partial:?}");
    }
}

#[test]
fn row_10_both_framings_are_refused() {
    assert_eq!(refused(with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")), 400);
    assert_eq!(refused(with_fields("transfer-encoding: chunked\r\ncontent-length: 5\r\n")), 400);
}

#[test]
fn row_11_12_content_length() {
    assert_eq!(head(&with_fields("Content-Length: 5\r\ncontent-length: 5\r\n")).framing, BodyFraming::Length(5));
    assert_eq!(head(&with_fields("Content-Length: 0\r\n")).framing, BodyFraming::Length(0));
    for bad in ["Content-Length: 5\r\nX: y\r\nContent-Length: 6\r\n", "Content-Length: +5\r\n", "Content-Length:\r\n"] {
        assert_eq!(refused(with_fields(bad)), 400, "{bad:?}");
    }
}

#[test]
fn row_13_transfer_encoding() {
    assert_eq!(head(&with_fields("Transfer-Encoding: Chunked\r\n")).framing, BodyFraming::Chunked);
    assert_eq!(refused(with_fields("Transfer-Encoding: gzip\r\n")), 400);
    assert_eq!(refused(with_fields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")), 501);
    assert_eq!(refused(with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")), 400);
    assert_eq!(refused(with_fields("Transfer-Encoding:\r\n")), 400);
}

#[test]
fn row_14_transfer_encoding_in_http_1_0_is_refused() {
    assert_eq!(refused("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn row_19_what_follows_a_head_is_not_looked_at() {
    for rest in ["", "\n", "\0", "GET", "\r\r", " x"] {
        let first = with_fields("");
        let text = format!("{first}{rest}");
        let Ok(Parsed::Complete { length, .. }) = parsed(text.as_bytes()) else { panic!("{rest:?}") };
        assert_eq!(length, first.len());
    }
}

#[test]
fn row_21_23_keep_alive() {
    assert!(!head(&with_fields("Connection: close\r\n")).keep_alive);
    assert!(!head(&with_fields("Connection: x, CLOSE , y\r\n")).keep_alive);
    assert!(!head(&with_fields("Connection: x\r\nConnection: close\r\n")).keep_alive);
    assert!(head(&with_fields("Connection: closed\r\n")).keep_alive);
    let http10 = |fields| format!("GET / HTTP/1.0\r\n{fields}\r\n");
    assert!(!head(&http10("")).keep_alive);
    assert!(head(&http10("Connection: Keep-Alive\r\n")).keep_alive);
    assert!(!head(&http10("Connection: keep-alive, close\r\n")).keep_alive);
}

#[test]
fn row_24_a_missing_version_is_refused() {
    for bad in ["GET /x\r\n", "GET /x\r\n\r\n", "GET\r\n\r\n", "GET /x \r\n\r\n", "GET \r\n"] {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
}

#[test]
fn row_25_versions() {
    let version = |version: &str| format!("GET / {version}\r\nHost: h\r\n\r\n");
    for bad in ["HTTX/1.1", "HTTP/1.10", "http/1.1", "HTTP/1", "HTTP/11", "HTTP/x.1", "HTTP/1.1 ", "HTTP/-1.1", "1.1"] {
        assert_eq!(refused(version(bad)), 400, "{bad}");
    }
    for other in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.1"] {
        assert_eq!(refused(version(other)), 505, "{other}");
    }
    assert_eq!(head(&version("HTTP/1.0")).version, Version::Http10);
    assert_eq!(head(&version("HTTP/1.2")).version, Version::Http11, "RFC 9110, 2.5");
}

#[test]
fn row_26_27_any_token_is_a_method_and_case_matters() {
    assert_eq!(head("BREW / HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Other("BREW"));
    assert_eq!(head("get / HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Other("get"));
    assert_eq!(head("LOCK / HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Lock);
    assert_eq!(refused(format!("{} /", "M".repeat(METHOD_BYTES_MAX + 1))), 501);
    for bad in ["G(T /", " GET /", "GET\t/", "\"", "{", "<html>", "GE\x7fT"] {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
}

#[test]
fn row_28_host() {
    for bad in
        ["", "Host: a\r\nHost: a\r\n", "Host:\r\n", "Host: a b\r\n", "Host: a,b\r\n", "Host: a/b\r\n", "Host: u@h\r\n"]
    {
        assert_eq!(refused(format!("GET / HTTP/1.1\r\n{bad}\r\n")), 400, "{bad:?}");
    }
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").host, None);
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(refused("GET http://h/ HTTP/1.1\r\n\r\n"), 400, "needed beside an absolute target too");
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: h\u{e9}\r\n\r\n"), 400);
}

#[test]
fn row_29_the_authority_of_an_absolute_target_replaces_host() {
    assert_eq!(head("GET http://a/p HTTP/1.1\r\nHost: b\r\n\r\n").host, Some("a"));
    assert_eq!(refused("GET http://a/p HTTP/1.1\r\nHost: b b\r\n\r\n"), 400);
}

#[test]
fn row_30_31_forms_that_need_their_method() {
    assert_eq!(head("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n").target, Target::Authority("h:1"));
    assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").target, Target::Asterisk);
    assert_eq!(refused(with_target("h:1")), 400);
    assert_eq!(refused(with_target("*")), 400);
    assert_eq!(refused(format!("CONNECT /{REST}")), 400);
}

#[test]
fn row_32_33_34_35_targets() {
    let bad = ["/a#b", "/%", "/%zz", "/%00", "/a\tb", "/\u{e9}", "/a\x7f", "/a\0", "http://h/#", "a", "\\"];
    for bad in bad {
        assert_eq!(refused(with_target(bad)), 400, "{bad:?}");
    }
    assert_eq!(refused("GET /\u{e9}"), 400, "without waiting for the end");
    assert_eq!(refused(b"GET /\xff HTTP/1.1\r\n"), 400);
    assert_eq!(head(&with_target("/a|b[c]^`{}\\?\"<>")).target.path(), Some("/a|b[c]^`{}\\"));
}

#[test]
fn row_36_extra_spaces_are_refused() {
    for bad in [
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        " GET / HTTP/1.1\r\n",
        "GET / x HTTP/1.1\r\n",
    ] {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
}

#[test]
fn row_38_expect() {
    assert_eq!(head(&with_fields("Expect: 100-Continue\r\n")).expect, Expect::Continue);
    assert_eq!(head(&with_fields("Expect: 200-ok\r\n")).expect, Expect::Unknown);
    assert_eq!(head(&with_fields("Expect: 100-continue, x\r\n")).expect, Expect::Unknown);
    assert_eq!(head(&with_fields("Expect: x\r\nExpect: 100-continue\r\n")).expect, Expect::Unknown);
    assert_eq!(head("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect, Expect::None);
}

#[test]
fn row_39_upgrade_is_told_only_if_connection_names_it() {
    assert_eq!(
        head(&with_fields("Upgrade: websocket\r\nConnection: x, Upgrade\r\n")).upgrade(),
        Some(&b"websocket"[..])
    );
    assert_eq!(head(&with_fields("Upgrade: websocket\r\n")).upgrade(), None);
    assert_eq!(head("GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").upgrade(), None);
}

#[test]
fn row_76_floods_are_refused_within_the_limits() {
    assert_eq!(refused(with_fields(&"a: b\r\n".repeat(10_000))), 431);
    assert_eq!(refused(with_target(&format!("/{}", "x".repeat(1 << 20)))), 414);
    assert_eq!(refused(" ".repeat(1 << 20)), 400);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\nX:{}", " ".repeat(1 << 20))), 431);
    assert_eq!(refused("\r\n".repeat(1 << 20)), 400);
}

#[test]
fn row_80_connection_tokens_do_not_change_what_was_read() {
    let text = with_fields("Content-Length: 3\r\nConnection: host, , content-length\r\nConnection: authorization\r\n");
    let head = head(&text);
    assert_eq!((head.framing, head.host), (BodyFraming::Length(3), Some("h")));
    let tokens: Vec<_> = head.connection_tokens().collect();
    assert_eq!(tokens, [&b"host"[..], b"content-length", b"authorization"]);
}

#[test]
fn row_83_transfer_encoding_is_exact() {
    for bad in ["\u{b}chunked", "chunked\u{c}", "\u{a0}chunked", "chunked;x", "xchunked", "chunked,", "\"chunked\""] {
        assert_eq!(refused(with_fields(&format!("Transfer-Encoding: {bad}\r\n"))), 400, "{bad:?}");
    }
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \xa0chunked\r\n\r\n"), 400);
}

#[test]
fn row_85_tls_and_http_2_are_recognised_at_once() {
    let reason = |bytes: &[u8]| parsed(bytes).unwrap_err().reason;
    assert!(reason(&[0x16]).contains("TLS"));
    assert!(reason(b"\x16\x03\x01\x02\x00\x01").contains("TLS"));
    assert!(reason(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").contains("off without TLS on this listener"));
    assert_eq!(refused("PRI * HTTP/2.0\r\n"), 400);
}

#[test]
fn garbage_is_refused_at_its_first_wrong_byte() {
    for bad in ["\0", "\x7f", "\u{e9}", "(", "GET /\0", "GET / X", "GET / HTTP/1.1x", "GET / HTTP/1.1\r\n:"] {
        assert_eq!(refused(bad), 400, "{bad:?}");
    }
}

#[test]
fn more_fields_than_usual_are_read_in_a_second_attempt() {
    let text = with_fields(&"x: y\r\n".repeat(FIELDS_USUAL));
    assert_eq!(head(&text).fields.len(), FIELDS_USUAL + 1);
}
