//! Encodes a response head as HTTP/1.1 text.
//!
//! [`HeadEncoder`] takes the status and the fields of a response. Its end adds the fields that
//! belong to the connection instead of the response: how the body is delimited, and whether another
//! request may follow.

use crate::http::date::DateLine;
use crate::http::fields::Known;
use crate::http::framing::BodyFraming;
use crate::http::head::Version;
use crate::http::response::{HeadSink, push_decimal};
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::status::Status;

/// Encodes one response head.
///
/// ```
/// use xps::internals::http::{HeadBuilder, HeadEncoder, HeadEnd, ResponseFraming, Status, Version};
///
/// let mut encoder = HeadEncoder::new();
/// HeadBuilder::new(&mut encoder, Status::OK).field("Content-Type", "text/plain");
/// let end = HeadEnd { framing: ResponseFraming::Length(2), keep_alive: true, version: Version::Http11 };
/// let expected = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n";
/// assert_eq!(encoder.end(end), expected);
/// ```
#[derive(Debug, Default)]
pub struct HeadEncoder {
    out: Vec<u8>,
    /// Whether the status forbids a declared length.
    forbids_length: bool,
}

/// What the connection adds to a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadEnd {
    /// The framing to declare; for a response to HEAD, that of the body that GET would have. Chunks
    /// are only for a client of HTTP/1.1, see [`ResponseFraming::for_client`].
    pub framing: ResponseFraming,
    /// Whether the client may send another request. The connection is closed in any case if only
    /// that can end the body.
    pub keep_alive: bool,
    /// The client's version.
    pub version: Version,
}

impl HeadEncoder {
    /// An encoder without memory; the first bytes allocate it.
    pub const fn new() -> Self {
        Self { out: Vec::new(), forbids_length: false }
    }

    /// Ends the head. Adds `Content-Length` or `Transfer-Encoding`, unless the status forbids it,
    /// and `Connection` if the client would otherwise assume the opposite.
    #[must_use]
    pub fn end(mut self, end: HeadEnd) -> Vec<u8> {
        debug_assert!(!self.out.is_empty(), "a head has a status");
        debug_assert!(
            (end.version, end.framing) != (Version::Http10, ResponseFraming::Chunked),
            "there are no chunks in HTTP/1.0"
        );
        match end.framing {
            _ if self.forbids_length => {}
            ResponseFraming::Length(body_bytes) => push_length(&mut self.out, body_bytes),
            ResponseFraming::Chunked => self.out.extend_from_slice(CHUNKED_LINE),
            ResponseFraming::None | ResponseFraming::UntilClose => {}
        }
        let keep_alive = end.keep_alive && end.framing != ResponseFraming::UntilClose;
        self.out.extend_from_slice(connection_line(keep_alive, end.version));
        self.out.extend_from_slice(b"\r\n");
        self.out
    }
}

impl HeadEncoder {
    /// Ends the head of an interim response (1xx), which has neither a body nor an influence on the
    /// connection.
    #[must_use]
    pub fn end_interim(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"\r\n");
        self.out
    }

    /// Ends the head of a 101 response, after which the connection speaks one of these protocols.
    #[must_use]
    pub fn end_switch<'b>(mut self, protocols: impl Iterator<Item = &'b [u8]>) -> Vec<u8> {
        self.out.extend_from_slice(b"Connection: upgrade\r\n");
        for protocol in protocols {
            push_line(&mut self.out, b"Upgrade", protocol);
        }
        self.end_interim()
    }

    /// Ends the head of an upstream's response for a client of version `to`. `keep_alive`: the client
    /// may send another request.
    #[must_use]
    pub fn end_forwarded(self, head: &ResponseHead<'_>, to: Version, keep_alive: bool) -> Vec<u8> {
        if head.status == Status::SWITCHING_PROTOCOLS {
            self.end_switch(head.fields.all_known(Known::Upgrade))
        } else if head.status.is_informational() {
            self.end_interim()
        } else {
            self.end(HeadEnd { framing: head.declared_framing(to), keep_alive, version: to })
        }
    }
}

impl HeadSink for HeadEncoder {
    fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// The status line has the version of this server, whatever the client's (RFC 9110, 6.2).
    fn status(&mut self, status: Status, reason: &[u8]) {
        debug_assert!(self.out.is_empty(), "a head has one status");
        self.forbids_length = status.forbids_length();
        self.out.extend_from_slice(b"HTTP/1.1 ");
        self.out.extend_from_slice(&status.digits());
        self.out.push(b' ');
        self.out.extend_from_slice(reason);
        self.out.extend_from_slice(b"\r\n");
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        push_line(&mut self.out, name, value);
    }

    fn date(&mut self, date: &DateLine) {
        self.out.extend_from_slice(date.as_bytes());
    }
}

/// The field line of a chunked body.
const CHUNKED_LINE: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// Appends `Content-Length`.
fn push_length(out: &mut Vec<u8>, body_bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, body_bytes);
    out.extend_from_slice(b"\r\n");
}

/// The `Connection` line if `keep_alive` is not the default of `version`, the client's version;
/// else empty.
pub(in crate::http) const fn connection_line(keep_alive: bool, version: Version) -> &'static [u8] {
    match (keep_alive, version) {
        (true, Version::Http11) | (_, Version::Http2) => b"",
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, Version::Http10 | Version::Http11) => b"Connection: close\r\n",
    }
}

/// Appends the field that says how the body of a request is delimited; none without a body.
pub(crate) fn push_framing(out: &mut Vec<u8>, framing: BodyFraming) {
    match framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => push_length(out, length),
        BodyFraming::Chunked => out.extend_from_slice(CHUNKED_LINE),
    }
}

/// Appends a field whose name and value are valid.
pub(crate) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: Status, framing: ResponseFraming, keep_alive: bool, version: Version) -> String {
        let mut encoder = HeadEncoder::new();
        encoder.status(status, status.reason().as_bytes());
        let head = encoder.end(HeadEnd { framing, keep_alive, version });
        String::from_utf8(head).unwrap().split_once("\r\n").unwrap().1.to_owned()
    }

    #[test]
    fn row_22_no_length_where_the_status_forbids_it() {
        let framed = |status, framing| ended(status, framing, true, Version::Http11);
        assert_eq!(framed(Status::NO_CONTENT, ResponseFraming::Length(5)), "\r\n");
        assert_eq!(framed(Status::CONTINUE, ResponseFraming::Chunked), "\r\n");
        assert_eq!(framed(Status::NOT_MODIFIED, ResponseFraming::Length(5)), "Content-Length: 5\r\n\r\n");
        assert_eq!(framed(Status::OK, ResponseFraming::Chunked), "Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(framed(Status::OK, ResponseFraming::None), "\r\n");
    }

    #[test]
    fn row_23_connection_says_what_the_version_does_not() {
        let kept = |keep_alive, version| ended(Status::OK, ResponseFraming::None, keep_alive, version);
        assert_eq!(kept(true, Version::Http11), "\r\n");
        assert_eq!(kept(true, Version::Http10), "Connection: keep-alive\r\n\r\n");
        assert_eq!(kept(false, Version::Http10), "Connection: close\r\n\r\n");
        assert_eq!(kept(false, Version::Http11), "Connection: close\r\n\r\n");
        let until_close = ended(Status::OK, ResponseFraming::UntilClose, true, Version::Http10);
        assert_eq!(until_close, "Connection: close\r\n\r\n");
    }
}
