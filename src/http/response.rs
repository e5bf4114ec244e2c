//! The head of a response, appended to a buffer line by line.
//!
//! Whatever it is given, the lines that come out are the lines that were meant: a CR, LF or NUL in a value becomes a space
//! (RFC 9110, 5.5), a field whose name is not a token is left out. What to answer is decided elsewhere.

use super::date::DateLine;
use super::head::Version;
use super::status::Status;
use super::token::is_token;

/// Writes a head.
///
/// ```
/// use xps::http::{ResponseHead, Status, Version};
///
/// let mut out = Vec::new();
/// ResponseHead::new(&mut out, Version::Http11, Status::OK).field("Content-Type", "text/plain").length(2).end();
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n");
/// ```
#[derive(Debug)]
#[must_use = "a head without an end is not one"]
pub struct ResponseHead<'v> {
    out: &'v mut Vec<u8>,
    status: Status,
    without: &'v [String],
}

impl<'v> ResponseHead<'v> {
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
        Self { out, status, without: &[] }
    }

    /// Leaves these fields out from now on. Nothing keeps those back that say where the message ends, and `Date`.
    pub fn without(self, fields: &'v [String]) -> Self {
        Self { without: fields, ..self }
    }

    /// Writes any field, unless it is left out.
    pub fn field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if self.without.iter().any(|field| field.eq_ignore_ascii_case(name)) {
            return self;
        }
        self.extra_field(name, value)
    }

    /// Writes a field also if it is left out: what it stands there in place of.
    pub fn extra_field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
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

    /// Writes `Content-Length`, unless the status forbids one. To HEAD and with 304, that of the body there would be.
    pub fn length(self, body_bytes: u64) -> Self {
        if !self.status.forbids_length() {
            push_length(self.out, body_bytes);
        }
        self
    }

    /// Writes `Transfer-Encoding: chunked`, unless the status forbids it. Never for an HTTP/1.0 client.
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

    /// Writes `Server`, if there is a name.
    pub fn server(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => self.field("Server", name),
            None => self,
        }
    }

    /// Writes `Connection` where what will happen is not what `version`, the client's, takes for granted.
    pub fn connection(self, keep_alive: bool, version: Version) -> Self {
        self.out.extend_from_slice(connection_line(keep_alive, version));
        self
    }

    /// Writes the empty line.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The field that says that the body is chunked.
pub(super) const CHUNKED_LINE: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// Appends `Content-Length`.
pub(super) fn push_length(out: &mut Vec<u8>, body_bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, body_bytes);
    out.extend_from_slice(b"\r\n");
}

/// `Connection` where what will happen is not what `version`, the client's, takes for granted; else nothing.
pub(super) const fn connection_line(keep_alive: bool, version: Version) -> &'static [u8] {
    match (keep_alive, version) {
        (true, Version::Http11) => b"",
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, Version::Http10 | Version::Http11) => b"Connection: close\r\n",
    }
}

/// Appends a field whose name and value are known to be good: they were parsed, or checked when they were configured.
pub(super) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `number` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut left = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Without branches, so that many bytes are looked at at once.
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

    fn written(write: impl FnOnce(ResponseHead<'_>) -> ResponseHead<'_>, status: Status) -> String {
        let mut out = Vec::new();
        write(ResponseHead::new(&mut out, Version::Http11, status)).end();
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
