//! Writes a response head to a buffer, line by line.
//!
//! No value can add or break lines: a CR, LF or NUL in a value becomes a space (RFC 9110, 5.5), and
//! a field whose name is not a token is left out. The content of a response is decided elsewhere.

use super::date::DateLine;
use super::head::Version;
use super::status::Status;
use super::token::{is_token, list};

/// Writes a response head.
///
/// ```
/// use xps::internals::http::{ResponseHeadWriter, Status, Version};
///
/// let mut out = Vec::new();
/// ResponseHeadWriter::new(&mut out, Version::Http11, Status::OK).field("Content-Type", "text/plain").length(2).end();
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n");
/// ```
#[derive(Debug)]
#[must_use = "a head without an end is not one"]
pub struct ResponseHeadWriter<'v> {
    out: &'v mut Vec<u8>,
    status: Status,
    without: &'v [String],
    /// The `Vary` member of this server, to be merged into a configured `Vary` that replaces it.
    vary: &'static str,
    /// Bit set of the `OWN_FIELDS` that were written.
    own: u8,
}

/// Fields that describe the body or explain the status. If [`ResponseHeadWriter::own_field`] wrote
/// one, a configured one in its place would change the meaning of the response.
const OWN_FIELDS: [&str; 5] = ["Allow", "Content-Encoding", "Content-Range", "Content-Type", "Location"];

impl<'v> ResponseHeadWriter<'v> {
    /// Writes the status line.
    pub fn new(out: &'v mut Vec<u8>, version: Version, status: Status) -> Self {
        out.extend_from_slice(match version {
            Version::Http10 => b"HTTP/1.0 ",
            Version::Http11 => b"HTTP/1.1 ",
        });
        out.extend_from_slice(&status.digits());
        out.push(b' ');
        out.extend_from_slice(status.reason().as_bytes());
        out.extend_from_slice(b"\r\n");
        Self { out, status, without: &[], vary: "", own: 0 }
    }

    /// Leaves these fields out from now on, except framing fields and `Date`, which are always
    /// written.
    pub fn without(self, fields: &'v [String]) -> Self {
        Self { without: fields, ..self }
    }

    /// Writes a field, unless it is to be left out.
    pub fn field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if self.leaves_out(name) { self } else { self.write(name, value.as_ref()) }
    }

    /// Writes one of `OWN_FIELDS`, even if it is to be left out. Later fields of that name are not
    /// written.
    pub fn own_field(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        debug_assert_ne!(own_bit(name), 0, "{name} is not one of them");
        self.own |= own_bit(name);
        self.write(name, value.as_ref())
    }

    /// Writes `Vary` with this member. If `Vary` is to be left out because one is configured, the
    /// member is added to that one.
    pub fn vary(self, member: &'static str) -> Self {
        if self.leaves_out("Vary") { Self { vary: member, ..self } } else { self.write("Vary", member.as_bytes()) }
    }

    fn leaves_out(&self, name: &str) -> bool {
        self.without.iter().any(|field| field.eq_ignore_ascii_case(name))
    }

    /// Writes a configured field, even if its name is to be left out: it is the replacement.
    pub fn extra_field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        if self.own != 0 && self.own & own_bit(name) != 0 {
            return self;
        }
        if !self.vary.is_empty() && name.eq_ignore_ascii_case("Vary") {
            let member = std::mem::take(&mut self.vary);
            if !names_member(value, member) {
                return self.write(name, &[value, b", ", member.as_bytes()].concat());
            }
        }
        self.write(name, value)
    }

    fn write(self, name: &str, value: &[u8]) -> Self {
        debug_assert!(is_token(name.as_bytes()), "{name:?} is not a field's name");
        if is_token(name.as_bytes()) {
            let value_at = self.out.len() + name.len() + 2;
            push_line(self.out, name.as_bytes(), value);
            if breaks_lines(value) {
                blank_line_breaks(&mut self.out[value_at..][..value.len()]);
            }
        }
        self
    }

    /// Writes `Content-Length`, unless the status forbids it. For HEAD and 304, it is the length of
    /// the body that GET would have.
    pub fn length(self, body_bytes: u64) -> Self {
        if !self.status.forbids_length() {
            push_length(self.out, body_bytes);
        }
        self
    }

    /// Writes `Transfer-Encoding: chunked`, unless the status forbids it. Must not be used for an
    /// HTTP/1.0 client.
    pub fn chunked(self) -> Self {
        if !self.status.forbids_length() {
            self.out.extend_from_slice(CHUNKED_LINE);
        }
        self
    }

    /// Writes `Date`.
    pub fn date(self, date: &DateLine) -> Self {
        self.out.extend_from_slice(date.as_bytes());
        self
    }

    /// Writes `Server`, if a name is given.
    pub fn server(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => self.field("Server", name),
            None => self,
        }
    }

    /// Writes `Connection` if `keep_alive` is not the default of `version`, the client's version.
    pub fn connection(self, keep_alive: bool, version: Version) -> Self {
        self.out.extend_from_slice(connection_line(keep_alive, version));
        self
    }

    /// Writes the empty line.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The bit of one of `OWN_FIELDS`; 0 for other names.
fn own_bit(name: &str) -> u8 {
    OWN_FIELDS.iter().position(|own| own.eq_ignore_ascii_case(name)).map_or(0, |index| 1 << index)
}

/// Whether a `Vary` value names this field or `*`.
pub(super) fn names_member(vary: &[u8], member: &str) -> bool {
    list(vary).any(|name| name == b"*" || name.eq_ignore_ascii_case(member.as_bytes()))
}

/// The field line of a chunked body.
pub(super) const CHUNKED_LINE: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// Appends `Content-Length`.
pub(super) fn push_length(out: &mut Vec<u8>, body_bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, body_bytes);
    out.extend_from_slice(b"\r\n");
}

/// The `Connection` line if `keep_alive` is not the default of `version`, the client's version;
/// else empty.
pub(super) const fn connection_line(keep_alive: bool, version: Version) -> &'static [u8] {
    match (keep_alive, version) {
        (true, Version::Http11) => b"",
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, Version::Http10 | Version::Http11) => b"Connection: close\r\n",
    }
}

/// Appends a field whose name and value are valid: they were parsed, or checked with the
/// configuration.
pub(super) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `number` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Without branches, so that the compiler can vectorise it.
fn breaks_lines(value: &[u8]) -> bool {
    value.iter().fold(false, |found, &byte| found | is_line_break(byte))
}

fn blank_line_breaks(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| is_line_break(**byte)) {
        *byte = b' ';
    }
}

const fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(ResponseHeadWriter<'_>) -> ResponseHeadWriter<'_>, status: Status) -> String {
        let mut out = Vec::new();
        write(ResponseHeadWriter::new(&mut out, Version::Http11, status)).end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_whole_head() {
        let date = DateLine::new(0);
        let head = written(
            |head| head.date(&date).server(Some("xps")).length(0).connection(false, Version::Http11),
            Status::NOT_FOUND,
        );
        let expected = "HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: xps\r\n\
            Content-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[test]
    fn row_22_no_length_where_the_status_forbids_it() {
        assert_eq!(written(|head| head.length(5), Status::NO_CONTENT), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(written(|head| head.chunked(), Status::CONTINUE), "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(written(|head| head.length(5), Status::NOT_MODIFIED).contains("Content-Length: 5"));
    }

    #[test]
    fn row_23_connection_says_what_the_version_does_not() {
        let connection = |keep_alive, version| written(|head| head.connection(keep_alive, version), Status::OK);
        assert_eq!(connection(true, Version::Http11), "HTTP/1.1 200 OK\r\n\r\n");
        assert!(connection(true, Version::Http10).contains("\r\nConnection: keep-alive\r\n"));
        assert!(connection(false, Version::Http10).contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn row_55_a_configured_vary_takes_our_member_in() {
        let replaced = ["vary".to_owned()];
        let with = |configured: &[&str]| {
            let head = |head: ResponseHeadWriter<'_>| {
                let mut head = head.without(&replaced).vary("Accept-Encoding");
                for value in configured {
                    head = head.extra_field("Vary", value);
                }
                // The writer borrows the list, so the closure cannot return it.
                head.end();
            };
            let mut out = Vec::new();
            head(ResponseHeadWriter::new(&mut out, Version::Http11, Status::OK));
            String::from_utf8(out).unwrap().replace("HTTP/1.1 200 OK\r\n", "").replace("\r\n", "|")
        };
        assert_eq!(with(&["Origin"]), "Vary: Origin, Accept-Encoding||");
        assert_eq!(with(&["accept-encoding, Origin"]), "Vary: accept-encoding, Origin||");
        assert_eq!(with(&["*"]), "Vary: *||");
        assert_eq!(with(&["A", "B"]), "Vary: A, Accept-Encoding|Vary: B||");
        assert_eq!(with(&[]), "|", "it was left out for good");
        assert_eq!(written(|head| head.vary("Accept"), Status::OK), "HTTP/1.1 200 OK\r\nVary: Accept\r\n\r\n");
    }

    #[test]
    fn what_says_what_the_body_is_cannot_be_replaced() {
        let replaced = ["content-encoding".to_owned(), "X".to_owned()];
        let mut out = Vec::new();
        ResponseHeadWriter::new(&mut out, Version::Http11, Status::OK)
            .without(&replaced)
            .own_field("Content-Encoding", "gzip")
            .extra_field("content-encoding", "x")
            .extra_field("Content-Type", "a/b")
            .end();
        let head = String::from_utf8(out).unwrap();
        assert_eq!(head, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: a/b\r\n\r\n");
    }

    #[test]
    fn row_82_no_value_breaks_a_line() {
        let head = written(|head| head.field("Location", "/a\r\nSet-Cookie: x\0"), Status::FOUND);
        assert_eq!(head, "HTTP/1.1 302 Found\r\nLocation: /a  Set-Cookie: x \r\n\r\n");
        assert_eq!(written(|head| head.server(Some("a\nb")), Status::OK), "HTTP/1.1 200 OK\r\nServer: a b\r\n\r\n");
    }

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 612, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
