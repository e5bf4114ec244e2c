//! A line of the access log: what is written when a request arrives, and what at its end.
//!
//! The head of a request is gone when its response ends, so what is logged of it is written to a buffer at
//! once. Buffers are used again: a line costs no allocation.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

use super::{ExchangeEnd, Facts, Forwarded, LineFormat};
use crate::driver::Peer;
use crate::http::date::HttpDate;
use crate::http::error_page::escape_json;
use crate::http::fields::Known;
use crate::http::request_id::request_id;
use crate::http::response::push_decimal;
use crate::http::{ErrorResponse, RequestHead, Target, Version};
use crate::tls::ConnectionFacts;

/// Bytes of a target that are logged, before escaping. 2 KiB.
const TARGET_BYTES_MAX: usize = 2 << 10;

/// Bytes of a field value that are logged, before escaping. 1 KiB.
const FIELD_BYTES_MAX: usize = 1 << 10;

/// Replaces the rest of a truncated text.
const ELLIPSIS: &str = "...";

/// Buffers that a thread keeps for later lines. 64.
const BUFFERS_MAX: usize = 64;

/// Bytes of a buffer that is kept. 4 KiB.
const BUFFER_BYTES_MAX: usize = 4 << 10;

thread_local! {
    /// Empty buffers, to be used again.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A time in both forms that lines have.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    unix_seconds: u64,
    pub(super) local: [u8; 26],
    pub(super) rfc3339: [u8; 20],
}

thread_local! {
    /// The last one: many lines are of the same second.
    static STAMP: Cell<Option<Stamp>> = const { Cell::new(None) };
}

impl Stamp {
    pub(super) fn of(unix_seconds: u64) -> Self {
        if let Some(stamp) = STAMP.get().filter(|stamp| stamp.unix_seconds == unix_seconds) {
            return stamp;
        }
        let date = HttpDate::new(unix_seconds);
        let stamp = Self { unix_seconds, local: date.in_log_form(), rfc3339: date.in_rfc3339() };
        STAMP.set(Some(stamp));
        stamp
    }
}

/// An empty buffer.
fn buffer() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(512))
}

/// Keeps a buffer for a later line.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffers.push(buffer);
        }
    });
}

/// The parts of a line that are known when a request has arrived.
#[derive(Debug)]
pub(super) struct RequestPart {
    /// The line up to the status, then that after the body length; in JSON after the duration. Then the
    /// request id, if there is one.
    text: Vec<u8>,
    /// Where the second part begins.
    after_at: usize,
    /// Where the request id begins.
    id_at: usize,
    /// What the line ends with.
    tls: Option<Rc<ConnectionFacts>>,
}

impl RequestPart {
    pub(super) fn new(
        format: &LineFormat,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        head: &RequestHead<'_>,
        unix_seconds: u64,
    ) -> Self {
        let mut text = buffer();
        let after_at = match format {
            LineFormat::Combined => {
                begin_combined(&mut text, peer, unix_seconds);
                combined(&mut text, head)
            }
            LineFormat::Json => {
                begin_json(&mut text, peer, unix_seconds);
                json(&mut text, head)
            }
            LineFormat::Template(template) => {
                template.begin(&mut text, peer, Some(head), unix_seconds);
                text.len()
            }
        };
        let id_at = text.len();
        if *format != LineFormat::Combined
            && let Some(id) = request_id(head)
        {
            text.extend_from_slice(id);
        }
        Self { text, after_at, id_at, tls: tls.cloned() }
    }

    /// The parts for bytes that could not be parsed as a request.
    pub(super) fn malformed(
        format: &LineFormat,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        error: ErrorResponse,
        unix_seconds: u64,
    ) -> Self {
        let mut text = buffer();
        let after_at;
        match format {
            LineFormat::Combined => {
                begin_combined(&mut text, peer, unix_seconds);
                text.extend_from_slice(b"-\" ");
                after_at = text.len();
                text.extend_from_slice(b" \"-\" \"-\"");
            }
            LineFormat::Json => {
                begin_json(&mut text, peer, unix_seconds);
                text.extend_from_slice(b"\"status\":");
                after_at = text.len();
                text.extend_from_slice(b",\"refused\":\"");
                escape_json(error.reason, &mut text);
                text.push(b'"');
            }
            LineFormat::Template(template) => {
                template.begin(&mut text, peer, None, unix_seconds);
                after_at = text.len();
            }
        }
        let id_at = text.len();
        Self { text, after_at, id_at, tls: tls.cloned() }
    }

    /// Sets the request id, instead of that of the request.
    pub(super) fn set_request_id(&mut self, id: &str) {
        self.text.truncate(self.id_at);
        self.text.extend_from_slice(id.as_bytes());
    }

    /// Ends it without a line.
    pub(super) fn discard(self) {
        give_back(self.text);
    }

    /// The whole line. It is to be given back.
    pub(super) fn line(self, format: &LineFormat, facts: &Facts, end: &ExchangeEnd) -> Vec<u8> {
        let Self { text, after_at, id_at, tls } = self;
        let (head, id) = text.split_at(id_at);
        let (before, after) = head.split_at(after_at);
        let mut line = buffer();
        match format {
            LineFormat::Combined => {
                line.extend_from_slice(before);
                push_decimal(&mut line, u64::from(end.status));
                line.push(b' ');
                push_decimal(&mut line, end.body_bytes);
                line.extend_from_slice(after);
                line.push(b' ');
                push_decimal(&mut line, end.duration.as_millis() as u64);
                if let Some(tls) = tls {
                    combined_tls(&mut line, &tls);
                }
                if let Some(forwarded) = &facts.forwarded {
                    combined_forwarded(&mut line, forwarded, end);
                }
                line.push(b'\n');
            }
            LineFormat::Json => {
                line.extend_from_slice(before);
                push_decimal(&mut line, u64::from(end.status));
                line.extend_from_slice(b",\"bytes\":");
                push_decimal(&mut line, end.body_bytes);
                push_number(&mut line, "duration_us", end.duration.as_micros() as u64);
                line.extend_from_slice(after);
                if let Some(tls) = tls {
                    json_tls(&mut line, &tls);
                }
                if !id.is_empty() {
                    push_word(&mut line, "request_id", id);
                }
                json_facts(&mut line, facts);
                push_word(&mut line, "termination", end.termination.as_str().as_bytes());
                line.extend_from_slice(b"}\n");
            }
            LineFormat::Template(template) => {
                template.finish(&mut line, before, id, tls.as_deref(), facts, end);
                line.push(b'\n');
            }
        }
        give_back(text);
        line
    }
}

/// Writes a line up to the quote before the request line.
fn begin_combined(line: &mut Vec<u8>, peer: Peer, unix_seconds: u64) {
    push_address(line, peer);
    line.extend_from_slice(b" - - [");
    line.extend_from_slice(&Stamp::of(unix_seconds).local);
    line.extend_from_slice(b"] \"");
}

/// Writes the first two members of the object, and the comma after them.
fn begin_json(line: &mut Vec<u8>, peer: Peer, unix_seconds: u64) {
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(&Stamp::of(unix_seconds).rfc3339);
    line.extend_from_slice(b"\",\"peer\":\"");
    push_address(line, peer);
    line.extend_from_slice(b"\",");
}

/// Writes a peer without its port.
pub(super) fn push_address(line: &mut Vec<u8>, peer: Peer) {
    match peer.ip() {
        Some(IpAddr::V4(address)) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    line.push(b'.');
                }
                push_decimal(line, u64::from(octet));
            }
        }
        Some(IpAddr::V6(address)) => {
            // Writing to a vector cannot fail.
            let _ = write!(line, "{address}");
        }
        None => line.push(b'-'),
    }
}

/// Writes what is logged of a head. Returns where the second part begins.
fn combined(line: &mut Vec<u8>, head: &RequestHead<'_>) -> usize {
    line.extend_from_slice(head.method.as_str().as_bytes());
    line.push(b' ');
    push_target(line, &head.target);
    line.push(b' ');
    line.extend_from_slice(protocol(head.version).as_bytes());
    line.extend_from_slice(b"\" ");
    let after_at = line.len();
    for known in [Known::Referer, Known::UserAgent] {
        line.extend_from_slice(b" \"");
        push_cut(line, head.fields.known(known).unwrap_or(b"-"));
        line.push(b'"');
    }
    after_at
}

/// The same as members of the object.
fn json(line: &mut Vec<u8>, head: &RequestHead<'_>) -> usize {
    line.extend_from_slice(b"\"method\":\"");
    escape_json(head.method.as_str(), line);
    line.extend_from_slice(b"\",\"target\":\"");
    for part in target_parts(&head.target) {
        escape_json(&String::from_utf8_lossy(part), line);
    }
    line.extend_from_slice(b"\",\"status\":");
    let after_at = line.len();
    for (name, known) in [("host", Known::Host), ("referer", Known::Referer), ("agent", Known::UserAgent)] {
        if let Some(value) = head.fields.known(known) {
            push_member(line, name, value);
        }
    }
    push_word(line, "protocol", protocol(head.version).as_bytes());
    if let Some(id) = trace_id(head) {
        push_word(line, "trace_id", id);
    }
    after_at
}

/// The version as nginx logs it.
pub(super) const fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
    }
}

/// The trace id of a valid `traceparent` (W3C Trace Context, 3.2): 32 hexadecimal digits.
pub(super) fn trace_id<'b>(head: &RequestHead<'b>) -> Option<&'b [u8]> {
    let value = head.fields.get("traceparent")?;
    let (start, more) = value.split_at_checked(55)?;
    let is_hexadecimal = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = start.split(|byte| *byte == b'-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = [version, trace, parent, flags].map(<[u8]>::len);
    // Later versions may have more behind it.
    let ends = if version == b"00" { more.is_empty() } else { matches!(more, [] | [b'-', ..]) };
    let is_valid = ends
        && lengths == [2, 32, 16, 2]
        && [version, trace, parent, flags].into_iter().all(is_hexadecimal)
        && version != b"ff"
        && [trace, parent].iter().all(|id| id.iter().any(|digit| *digit != b'0'));
    is_valid.then_some(trace)
}

/// Writes what is known of a forwarded request, at the end of a line.
fn combined_forwarded(line: &mut Vec<u8>, forwarded: &Forwarded, end: &ExchangeEnd) {
    line.extend_from_slice(b" upstream=");
    push_quoted(line, forwarded.upstream.as_deref().unwrap_or("-").as_bytes());
    line.extend_from_slice(b" tries=");
    push_decimal(line, u64::from(forwarded.tries));
    line.extend_from_slice(b" first_byte=");
    match forwarded.first_byte {
        Some(first_byte) => push_decimal(line, first_byte.as_millis() as u64),
        None => line.push(b'-'),
    }
    line.extend_from_slice(b" termination=");
    line.extend_from_slice(end.termination.as_str().as_bytes());
    line.extend_from_slice(b" reason=");
    line.extend_from_slice(forwarded.reason.map_or("-", |reason| reason.code()).as_bytes());
}

/// Writes what was noted of an exchange as members of the object. What is missing has none.
fn json_facts(line: &mut Vec<u8>, facts: &Facts) {
    if let Some(cache) = facts.cache {
        push_word(line, "cache", cache.code().as_bytes());
    }
    let Some(forwarded) = &facts.forwarded else { return };
    for (name, value) in [("route", &forwarded.route), ("upstream", &forwarded.upstream)] {
        if let Some(value) = value {
            push_member(line, name, value.as_bytes());
        }
    }
    push_number(line, "tries", u64::from(forwarded.tries));
    push_number(line, "queue_us", forwarded.queue.as_micros() as u64);
    push_number(line, "connect_us", forwarded.connect.as_micros() as u64);
    if let Some(first_byte) = forwarded.first_byte {
        push_number(line, "first_byte_us", first_byte.as_micros() as u64);
    }
    push_number(line, "request_bytes", forwarded.request_bytes);
    if let Some(reason) = forwarded.reason {
        push_word(line, "reason", reason.code().as_bytes());
    }
}

/// Writes a member whose value needs no escapes, and the comma before it.
fn push_word(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":\"");
    line.extend_from_slice(value);
    line.push(b'"');
}

/// Writes a member that is a number, and the comma before it.
fn push_number(line: &mut Vec<u8>, name: &str, value: u64) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    push_decimal(line, value);
}

/// Writes a member of the object, and the comma before it. A long value is truncated.
fn push_member(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":\"");
    let (value, rest) = cut(value, FIELD_BYTES_MAX);
    escape_json(&String::from_utf8_lossy(value), line);
    line.extend_from_slice(rest.as_bytes());
    line.push(b'"');
}

/// Writes what is known of a TLS connection, at the end of a line. What is missing is `-`.
#[cold]
fn combined_tls(line: &mut Vec<u8>, tls: &ConnectionFacts) {
    for word in [&tls.version, &tls.cipher_suite] {
        line.push(b' ');
        push_quoted(line, word.as_bytes());
    }
    let (name, protocol, subject) = (tls.server_name.as_deref(), tls.protocol.as_deref(), tls.client_subject());
    for text in [name.map(str::as_bytes), protocol, subject.map(str::as_bytes)] {
        line.extend_from_slice(b" \"");
        push_cut(line, text.unwrap_or(b"-"));
        line.push(b'"');
    }
}

/// The same as members of the object. What is missing has none.
#[cold]
fn json_tls(line: &mut Vec<u8>, tls: &ConnectionFacts) {
    let (name, protocol, subject) = (tls.server_name.as_deref(), tls.protocol.as_deref(), tls.client_subject());
    for (member, value) in [
        ("tls", Some(tls.version.as_bytes())),
        ("cipher", Some(tls.cipher_suite.as_bytes())),
        ("server_name", name.map(str::as_bytes)),
        ("alpn", protocol),
        ("client_subject", subject.map(str::as_bytes)),
    ] {
        if let Some(value) = value {
            push_member(line, member, value);
        }
    }
}

/// The parts of a target as logged: path, question mark, query, and [`ELLIPSIS`] if truncated.
fn target_parts<'b>(target: &Target<'b>) -> [&'b [u8]; 4] {
    let (path, query) = match *target {
        Target::Asterisk | Target::AsteriskOf(_) => ("*", None),
        Target::Authority(authority) => (authority, None),
        Target::Origin { path, query } | Target::Absolute { path, query, .. } => (path, query),
    };
    let path = path.as_bytes();
    match (cut(path, TARGET_BYTES_MAX), query) {
        ((shown, rest @ ELLIPSIS), _) => [shown, b"", b"", rest.as_bytes()],
        (_, None) => [path, b"", b"", b""],
        (_, Some(query)) => {
            let (shown, rest) = cut(query, TARGET_BYTES_MAX - path.len());
            [path, b"?", shown, rest.as_bytes()]
        }
    }
}

/// Truncates a text. Returns the beginning, and [`ELLIPSIS`] or an empty text.
fn cut(text: &[u8], bytes_max: usize) -> (&[u8], &'static str) {
    match text.split_at_checked(bytes_max) {
        Some((shown, rest)) if !rest.is_empty() => (shown, ELLIPSIS),
        Some(_) | None => (text, ""),
    }
}

/// Writes a target, truncated, with escapes.
pub(super) fn push_target(line: &mut Vec<u8>, target: &Target<'_>) {
    for part in target_parts(target) {
        push_quoted(line, part);
    }
}

/// Writes a text of a client, truncated, with escapes.
pub(super) fn push_cut(line: &mut Vec<u8>, text: &[u8]) {
    let (text, rest) = cut(text, FIELD_BYTES_MAX);
    push_quoted(line, text);
    line.extend_from_slice(rest.as_bytes());
}

/// Writes text with escapes, so that it cannot end the quotes or begin a new line.
fn push_quoted(line: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20 | 0x7f..);
    // Without branches, so that the compiler can vectorise it.
    if !text.iter().fold(false, |found, byte| found | is_special(byte)) {
        return line.extend_from_slice(text);
    }
    let mut rest = text;
    while let Some(at) = rest.iter().position(is_special) {
        let byte = rest[at];
        line.extend_from_slice(&rest[..at]);
        line.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{AccessFormat, CacheState, FailureReason, Template, Termination};
    use super::*;
    use crate::http::request::{HeadLimits, Parsed, parse};

    fn line(format: AccessFormat, request: &str) -> String {
        line_over(format, None, request)
    }

    fn line_over(format: AccessFormat, tls: Option<&Rc<ConnectionFacts>>, request: &str) -> String {
        line_of(format, tls, request, &Facts::default())
    }

    fn line_of(format: AccessFormat, tls: Option<&Rc<ConnectionFacts>>, request: &str, facts: &Facts) -> String {
        let Ok(Parsed::Complete { head, .. }) = parse(request.as_bytes(), &HeadLimits::default()) else {
            panic!("{request:?} is no request");
        };
        let peer = Peer::Inet("192.0.2.7:4711".parse().unwrap());
        let format = LineFormat::from(format);
        let line = RequestPart::new(&format, peer, tls, &head, 784_111_777);
        String::from_utf8(line.line(&format, facts, &END)).unwrap()
    }

    const END: ExchangeEnd = ExchangeEnd {
        status: 200,
        body_bytes: 612,
        duration: Duration::from_micros(1500),
        termination: Termination::COMPLETE,
    };

    #[test]
    fn the_combined_format_is_as_others_write_it() {
        let request = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nUser-Agent: x \"y\"\r\n\r\n";
        assert_eq!(
            line(AccessFormat::Combined, request),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 612 \"-\" \"x \\x22y\\x22\" 1\n"
        );
    }

    /// Otherwise a client could make the server hold 128 KiB per request while a disk stalls.
    #[test]
    fn a_line_is_bounded_whatever_is_asked() {
        let long = "\"".repeat(5000);
        for target in
            [format!("/{long}"), format!("/a?{long}"), format!("/{}?{long}", "b".repeat(TARGET_BYTES_MAX - 1))]
        {
            let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: {long}\r\nReferer: {long}\r\n\r\n");
            let combined = line(AccessFormat::Combined, &request);
            let fields = TARGET_BYTES_MAX + 2 * FIELD_BYTES_MAX;
            assert!(combined.len() < 4 * fields + 200, "{}", combined.len());
            assert_eq!(combined.matches("...").count(), 3);
            let json = line(AccessFormat::Json, &request);
            assert!(json.len() < 6 * fields + 200);
            let entry: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(entry["agent"], format!("{}...", "\"".repeat(FIELD_BYTES_MAX)));
        }
    }

    #[test]
    fn row_33_octets_beyond_ascii_in_a_query_are_escaped() {
        let request = "GET /a?q=\u{2019}% HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(line(AccessFormat::Combined, request).contains("\"GET /a?q=\\xE2\\x80\\x99% HTTP/1.1\""));
        let entry: serde_json::Value = serde_json::from_str(&line(AccessFormat::Json, request)).unwrap();
        assert_eq!(entry["target"], "/a?q=\u{2019}%");
    }

    #[test]
    fn the_json_format_is_json() {
        let request = "GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: x \"y\"\r\n\r\n";
        let entry: serde_json::Value = serde_json::from_str(&line(AccessFormat::Json, request)).unwrap();
        assert_eq!(
            (&entry["target"], &entry["agent"], &entry["status"]),
            (&"/a".into(), &"x \"y\"".into(), &200.into())
        );
        assert_eq!((&entry["time"], &entry["peer"]), (&"1994-11-06T08:49:37Z".into(), &"192.0.2.7".into()));
    }

    #[test]
    fn what_was_noted_is_at_the_end_of_a_line() {
        let request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        let forwarded = Forwarded {
            route: Some("/".into()),
            upstream: Some("127.0.0.1:3000".into()),
            tries: 2,
            queue: Duration::from_micros(10),
            connect: Duration::from_micros(20),
            first_byte: Some(Duration::from_micros(1300)),
            request_bytes: 7,
            reason: Some(FailureReason::ClosedInResponse),
            ..Forwarded::default()
        };
        let plain = line(AccessFormat::Combined, request);
        let mut facts = Facts { forwarded: Some(forwarded.into()), ..Facts::default() };
        let combined = |facts: &Facts| line_of(AccessFormat::Combined, None, request, facts);
        let expected = "upstream=127.0.0.1:3000 tries=2 first_byte=1 termination=-- reason=closed_in_response";
        assert_eq!(combined(&facts), format!("{} {expected}\n", plain.trim_end()));
        let json = |facts: &Facts| -> serde_json::Value {
            serde_json::from_str(&line_of(AccessFormat::Json, None, request, facts)).unwrap()
        };
        let entry = json(&facts);
        let members =
            ["route", "upstream", "tries", "queue_us", "connect_us", "first_byte_us", "request_bytes", "reason"];
        assert_eq!(
            serde_json::Value::from(members.map(|name| entry[name].clone()).to_vec()),
            serde_json::json!(["/", "127.0.0.1:3000", 2, 10, 20, 1300, 7, "closed_in_response"])
        );
        facts.forwarded = Some(Box::default());
        let expected = "upstream=- tries=0 first_byte=- termination=-- reason=-";
        assert_eq!(combined(&facts), format!("{} {expected}\n", plain.trim_end()));
        let entry = json(&facts);
        assert!(["route", "upstream", "first_byte_us", "reason", "cache"].iter().all(|name| entry.get(name).is_none()));
        facts = Facts { cache: Some(CacheState::Miss), ..Facts::default() };
        assert_eq!(combined(&facts), plain, "as others write it");
        let entry = json(&facts);
        assert_eq!((&entry["cache"], &entry["protocol"]), (&"miss".into(), &"HTTP/1.1".into()));
        assert_eq!((&entry["termination"], entry.get("request_id")), (&"--".into(), None));
    }

    #[test]
    fn a_template_shows_what_it_names_with_escapes() {
        let template = "$remote_addr [$time_iso8601] \"$method $target $protocol\" $status $bytes ${duration_us}us \
                        $host $http_x_a $request_id $upstream_addr $tries $first_byte_us $reason $termination \
                        $tls_version $server_name $$";
        let format = LineFormat::Template(Template::new(template).unwrap().into());
        let request = "GET /a\"?b HTTP/1.1\r\nHost: h\r\nX-A: 1 \\\r\nX-Request-Id: 7\r\n\r\n";
        let Ok(Parsed::Complete { head, .. }) = parse(request.as_bytes(), &HeadLimits::default()) else {
            panic!("a request");
        };
        let peer = Peer::Inet("192.0.2.7:4711".parse().unwrap());
        let line = |facts: &Facts, tls: Option<ConnectionFacts>, made: Option<&str>| {
            let mut part = RequestPart::new(&format, peer, tls.map(Rc::new).as_ref(), &head, 784_111_777);
            if let Some(made) = made {
                part.set_request_id(made);
            }
            String::from_utf8(part.line(&format, facts, &END)).unwrap()
        };
        let start = "192.0.2.7 [1994-11-06T08:49:37Z] \"GET /a\\x22?b HTTP/1.1\" 200 612 1500us h 1 \\x5C";
        assert_eq!(line(&Facts::default(), None, None), format!("{start} 7 - - - - -- - - $\n"));
        let upstream = Some("127.0.0.1:3000".into());
        let reason = Some(FailureReason::ConnectRefused);
        let facts = Facts {
            forwarded: Some(Forwarded { upstream, reason, ..Forwarded::default() }.into()),
            ..Facts::default()
        };
        assert_eq!(
            line(&facts, Some(ConnectionFacts::sample()), Some("made")),
            format!("{start} made 127.0.0.1:3000 0 - connect_refused -- TLSv1.3 a.org $\n")
        );
        let error = ErrorResponse::bad_request("no request");
        let part = RequestPart::malformed(&format, peer, None, error, 784_111_777);
        assert_eq!(
            String::from_utf8(part.line(&format, &Facts::default(), &END)).unwrap(),
            "192.0.2.7 [1994-11-06T08:49:37Z] \"- - -\" 200 612 1500us - - - - - - - -- - - $\n"
        );
    }

    #[test]
    fn ids_are_taken_over_if_they_are_valid() {
        let member = |name: &str, field: &str, value: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}: {value}\r\n\r\n");
            let entry: serde_json::Value = serde_json::from_str(&line(AccessFormat::Json, &request)).unwrap();
            entry.get(name).and_then(|id| id.as_str().map(str::to_owned))
        };
        let longest = "x".repeat(128);
        for id in ["7b445ef1-2a3c", "a/b+c=", &longest] {
            assert_eq!(member("request_id", "X-Request-Id", id).as_deref(), Some(id));
        }
        for id in ["", "a b", "a\"b", "a\\b", "\u{e9}", &format!("{longest}x")] {
            assert_eq!(member("request_id", "X-Request-Id", id), None, "{id:?}");
        }
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (start, end) in [("00", "01"), ("cc", "00"), ("cc", "01-what-is-to-come")] {
            let value = format!("{start}-{trace}-00f067aa0ba902b7-{end}");
            assert_eq!(member("trace_id", "traceparent", &value).as_deref(), Some(trace), "{value}");
        }
        for value in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(member("trace_id", "traceparent", value), None, "{value}");
        }
    }

    #[test]
    fn over_tls_a_line_ends_with_what_was_agreed_on() {
        let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut facts = ConnectionFacts::sample();
        let over = |format, facts: &ConnectionFacts| line_over(format, Some(&Rc::new(facts.clone())), request);
        let plain = line(AccessFormat::Combined, request);
        assert_eq!(
            over(AccessFormat::Combined, &facts),
            format!("{} TLSv1.3 TLS_AES_128_GCM_SHA256 \"a.org\" \"h2\" \"CN=a\\x5C\\x22b\"\n", plain.trim_end())
        );
        let entry: serde_json::Value = serde_json::from_str(&over(AccessFormat::Json, &facts)).unwrap();
        let member = |name: &str| entry[name].as_str().unwrap().to_owned();
        assert_eq!(
            ["tls", "cipher", "server_name", "alpn", "client_subject"].map(member),
            ["TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.org", "h2", "CN=a\\\"b"]
        );
        (facts.server_name, facts.certificate, facts.protocol) = (None, None, Some(Box::from(&b"\n\"\xff"[..])));
        let combined = over(AccessFormat::Combined, &facts);
        assert!(combined.ends_with(" \"-\" \"\\x0A\\x22\\xFF\" \"-\"\n"), "{combined}");
        let entry: serde_json::Value = serde_json::from_str(&over(AccessFormat::Json, &facts)).unwrap();
        assert_eq!((&entry["alpn"], entry.get("server_name")), (&"\n\"\u{fffd}".into(), None));
    }
}
