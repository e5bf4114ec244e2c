//! Row by row: the result for each kind of response.

use super::*;
use crate::http::fields::Known;

fn parsed(bytes: &[u8]) -> Result<Parsed<'_>, BadResponse> {
    parse(bytes, false, &HeadLimits::default())
}

fn head_for(request_is_head: bool, text: &str) -> ResponseHead<'_> {
    match parse(text.as_bytes(), request_is_head, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, length }) => {
            assert_eq!(length, text.len());
            head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

fn head(text: &str) -> ResponseHead<'_> {
    head_for(false, text)
}

fn framing(status: u16, fields: &str) -> ResponseFraming {
    head(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n")).framing
}

#[track_caller]
fn assert_bad(text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    assert!(parsed(text).is_err(), "\"{}\": {:?}", text.escape_ascii(), parsed(text));
}

fn ok_with(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

#[test]
fn a_usual_answer() {
    let head =
        head("HTTP/1.1 404 Not  Found\r\nserver: x\r\nContent-Length: 9\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n");
    assert_eq!((head.version, head.status, head.reason), (Version::Http11, Status::NOT_FOUND, &b"Not  Found"[..]));
    assert_eq!((head.framing, head.keep_alive), (ResponseFraming::Length(9), true));
    assert_eq!(head.fields.get("Server"), Some(&b"x"[..]));
    assert!(head.fields.all("set-cookie").eq([b"a", b"b"]));
}

#[test]
fn a_head_is_partial_until_its_last_byte_and_what_follows_is_not_looked_at() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\n\0HTTP";
    let length = text.len() - 6;
    for cut in 0..length {
        assert_eq!(parsed(&text[..cut]), Ok(Parsed::Partial), "{cut}");
    }
    for cut in length..=text.len() {
        assert!(matches!(parsed(&text[..cut]), Ok(Parsed::Complete { length: found, .. }) if found == length));
    }
}

#[test]
fn status_lines() {
    let line = |line: &str| format!("{line}\r\n\r\n");
    assert_eq!(head(&line("HTTP/1.1 200")).reason, b"", "the space is often left out");
    assert_eq!(head(&line("HTTP/1.1 200 ")).reason, b"");
    assert_eq!(head(&line("HTTP/1.1 200 a\tb\u{e9}")).reason, "a\tb\u{e9}".as_bytes());
    assert_eq!(head(&line("HTTP/1.0 799 x")).version, Version::Http10);
    assert_eq!(head(&line("HTTP/1.3 200 x")).version, Version::Http11);
    let bad = ["", "200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1  200", "HTTP/1.1\t200", "http/1.1 200"];
    for bad in bad.into_iter().chain(["HTTP/2.0 200", "HTTP/0.9 200", "HTTP/1.1 099 x", "HTTP/1.1 200 a\0", "ICY 200"])
    {
        assert_bad(line(bad));
    }
    assert_bad("\r\nHTTP/1.1 200 OK\r\n\r\n");
    assert_bad("HTTP/1.1 200 a\rb\r\n\r\n");
}

#[test]
fn row_4_lines_may_end_in_lf_alone_and_each_as_it_likes() {
    let lines = ["HTTP/1.1 200 OK", "Content-Length: 2", "X:", ""];
    for ends in 0..1 << lines.len() {
        let end = |number| if ends >> number & 1 == 0 { "\r\n" } else { "\n" };
        let text: String = lines.iter().enumerate().map(|(number, line)| [line, end(number)].concat()).collect();
        let head = head(&text);
        assert_eq!(
            (head.reason, head.framing, head.fields.len()),
            (&b"OK"[..], ResponseFraming::Length(2), 2),
            "{text:?}"
        );
        assert!(head.fields.iter().all(|field| !field.value.contains(&b'\r')));
        for cut in 0..text.len() {
            assert_eq!(parsed(&text.as_bytes()[..cut]), Ok(Parsed::Partial), "{text:?}");
        }
    }
    assert_eq!(head("HTTP/1.1 200\n\n").reason, b"");
    for bad in ["X: y\r\r\n", "X: a\rb\n", "\rX: y\n", "X: y\n\tz\n", "X: y\n\r", "\r\r\n"] {
        assert_bad(format!("HTTP/1.1 200 OK\n{bad}Y: z\n\n"));
    }
    assert_bad("HTTP/1.1 200 OK\r\r\n\r\n");
}

#[test]
fn row_62_the_end_of_a_body_is_told_in_three_ways() {
    assert_eq!(framing(200, "Content-Length: 0\r\n"), ResponseFraming::Length(0));
    assert_eq!(framing(200, "Content-Length: 5\r\ncontent-length: 5, 5\r\n"), ResponseFraming::Length(5));
    assert_eq!(framing(500, "Transfer-Encoding: Chunked\r\n"), ResponseFraming::Chunked);
    assert_eq!(framing(200, ""), ResponseFraming::UntilClose);
}

#[test]
fn row_22_answers_without_a_body_whatever_their_fields_say() {
    for status in [100, 101, 103, 199, 204, 304] {
        for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(framing(status, fields), ResponseFraming::None, "{status} {fields:?}");
        }
    }
    for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let text = ok_with(fields);
        let head = head_for(true, &text);
        assert_eq!((head.framing, head.keep_alive), (ResponseFraming::None, true), "{fields:?}");
    }
    assert_eq!(framing(205, "Content-Length: 5\r\n"), ResponseFraming::Length(5));
}

#[test]
fn row_63_two_framings_or_a_doubtful_one_are_bad() {
    let bad = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "transfer-encoding: chunked\r\nX: y\r\ncontent-length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
    ];
    for bad in bad {
        let text = ok_with(bad);
        assert_bad(&text);
        assert!(parse(text.as_bytes(), true, &HeadLimits::default()).is_err(), "to HEAD: {bad:?}");
    }
    assert_bad("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn row_63_a_head_beyond_a_limit_is_bad() {
    assert_bad(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(40_000)));
    assert_bad(format!("HTTP/1.1 200 {}", "x".repeat(9_000)));
    assert_bad(ok_with(&"x: y\r\n".repeat(101)));
    assert_eq!(head(&ok_with(&"x: y\r\n".repeat(100))).fields.len(), 100);
}

#[test]
fn row_63_limits_are_exact() {
    let text = ok_with("X: y\r\n");
    let limits = HeadLimits { head_bytes_max: text.len(), request_line_bytes_max: 17, fields_max: 1 };
    let parsed = |limits| parse(text.as_bytes(), false, &limits);
    assert!(matches!(parsed(limits), Ok(Parsed::Complete { .. })));
    assert!(parsed(HeadLimits { head_bytes_max: text.len() - 1, ..limits }).is_err());
    assert!(parsed(HeadLimits { request_line_bytes_max: 16, ..limits }).is_err());
    assert!(parsed(HeadLimits { fields_max: 0, ..limits }).is_err());
    let none = HeadLimits { head_bytes_max: usize::MAX, request_line_bytes_max: usize::MAX, fields_max: usize::MAX };
    assert!(matches!(parsed(none), Ok(Parsed::Complete { .. })));
}

#[test]
fn row_83_transfer_encoding_is_exact() {
    for bad in ["\u{b}chunked", "chunked\u{c}", "\u{a0}chunked", "chunked;x", "xchunked", "chunked,", "\"chunked\""] {
        assert_bad(ok_with(&format!("Transfer-Encoding: {bad}\r\n")));
    }
}

#[test]
fn row_86_folded_lines_and_white_space_before_a_colon_are_bad() {
    let bad = ["X: y\r\n z\r\n", "X: y\r\n\tz\r\n", " X: y\r\n", "X : y\r\n", "X\t: y\r\n", "Content-Length : 5\r\n"];
    for bad in bad.into_iter().chain([": y\r\n", "X\r\n", "X y\r\n", "X: \0\r\n", "X: y\n z\n", "X: a\rb\r\n"]) {
        assert_bad(ok_with(bad));
    }
}

#[test]
fn which_connections_can_be_used_again() {
    let keep_alive = |text: &str| head(text).keep_alive;
    assert!(keep_alive(&ok_with("Content-Length: 0\r\n")));
    assert!(keep_alive(&ok_with("Transfer-Encoding: chunked\r\nConnection: x\r\n")));
    assert!(!keep_alive(&ok_with("Content-Length: 0\r\nConnection: x, Close\r\n")));
    assert!(!keep_alive(&ok_with("")), "the body ends with the connection");
    assert!(!keep_alive("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(keep_alive("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keep_alive("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    assert!(keep_alive("HTTP/1.1 304 x\r\n\r\n"));
}

#[test]
fn row_64_what_follows_a_101_is_not_http() {
    let head = head("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    assert_eq!((head.framing, head.keep_alive), (ResponseFraming::None, false));
    assert_eq!(head.fields.known(Known::Upgrade), Some(&b"websocket"[..]));
    assert!(head.connection_tokens().eq([b"Upgrade"]));
}
