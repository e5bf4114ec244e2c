//! Writes a request head once, to be sent any number of times.
//!
//! No value can add or break lines: a CR, LF or NUL in a value becomes a space (RFC 9110, 5.5), a
//! field whose name is not a token is left out, and a byte that cannot be part of a target is
//! escaped. What the response means is decided elsewhere.

use std::ops::Range;

use crate::buffer::{Chain, Chunk};
use crate::http::h1::head_encoder::{push_framing, push_line};
use crate::http::response::without_line_breaks;
use crate::http::token::is_token;
use crate::http::{BodyFraming, Method, is_own};

/// A request head, and what a connection must know to send its body and to read its response.
/// Clones share the memory. It may be sent to several servers under the name of each, see
/// [`Request::push_head`].
///
/// ```
/// use xps::internals::client::Request;
/// use xps::internals::http::Method;
///
/// let request = Request::builder(Method::Get, "/", "example.org").field("Accept", "*/*").close().end();
/// let head = b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\nConnection: close\r\n\r\n";
/// assert_eq!(&request.head()[..], head);
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    head: Chunk,
    /// Where the value of `Host` is.
    host: Range<usize>,
    facts: RequestFacts,
}

/// What is known of a request besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts {
    /// How its body is delimited.
    pub framing: BodyFraming,
    /// The method is HEAD, so the response has no body.
    pub is_head: bool,
    /// The client sends no further request on the connection.
    pub closes: bool,
    /// The server may switch protocols (101).
    pub upgrades: bool,
}

/// Writes the head of a [`Request`].
#[derive(Debug)]
#[must_use = "a head without an end is not one"]
pub struct RequestBuilder {
    out: Vec<u8>,
    host: Range<usize>,
    facts: RequestFacts,
}

impl Request {
    /// Starts a head with the request line and `Host`. The method must be a token, and not CONNECT,
    /// whose responses have another framing. `target` is in the origin form, or `*` for OPTIONS.
    pub fn builder(method: Method<'_>, target: &str, authority: &str) -> RequestBuilder {
        debug_assert!(is_token(method.as_str().as_bytes()) && method != Method::Connect, "{method:?}");
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(method.as_str().as_bytes());
        out.push(b' ');
        push_target(&mut out, target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        push_field(&mut out, "Host", authority.as_bytes());
        // The field ends with CRLF. Its value is as long as the authority: bytes are replaced one by one.
        let host = out.len() - 2 - authority.len()..out.len() - 2;
        let is_head = method == Method::Head;
        let facts = RequestFacts { framing: BodyFraming::None, is_head, closes: false, upgrades: false };
        RequestBuilder { out, host, facts }
    }

    /// A head that was written elsewhere, of which `facts` are true. `host`: where the value of its
    /// `Host` is.
    pub fn written(head: Vec<u8>, host: Range<usize>, facts: RequestFacts) -> Self {
        debug_assert!(head.get(host.clone()).is_some() && head.ends_with(b"\r\n\r\n"), "a head");
        Self { head: Chunk::shared(head), host, facts }
    }

    /// Appends the head to `out`. `authority`: the `Host` of the server that it is sent to, instead
    /// of the one it was written with.
    pub fn push_head(&self, authority: Option<String>, out: &mut Chain) {
        let Some(authority) = authority else { return out.push(self.head.clone()) };
        out.push(Chunk::shared(&self.head[..self.host.start]));
        out.push(Chunk::shared(authority.into_bytes()));
        out.push(Chunk::shared(&self.head[self.host.end..]));
    }

    /// The bytes of the head.
    pub const fn head(&self) -> &Chunk {
        &self.head
    }

    pub(super) const fn facts(&self) -> RequestFacts {
        self.facts
    }
}

impl RequestBuilder {
    /// Writes a field. Fields for framing and connection management have methods of their own and
    /// are left out here.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        debug_assert!(!is_own(name), "{name} has a method of its own");
        if !is_own(name) {
            push_field(&mut self.out, name, value.as_ref());
        }
        self
    }

    /// Announces a body. Call it at most once.
    pub fn body(mut self, framing: BodyFraming) -> Self {
        debug_assert_eq!(self.facts.framing, BodyFraming::None, "a body is announced once");
        push_framing(&mut self.out, framing);
        self.facts.framing = framing;
        self
    }

    /// Announces that no further request follows on the connection.
    pub fn close(mut self) -> Self {
        push_field(&mut self.out, "Connection", b"close");
        self.facts.closes = true;
        self
    }

    /// Offers to switch to one of these protocols.
    pub fn upgrade(mut self, protocols: &str) -> Self {
        push_field(&mut self.out, "Connection", b"upgrade");
        push_field(&mut self.out, "Upgrade", protocols.as_bytes());
        self.facts.upgrades = true;
        self
    }

    /// Ends the head.
    pub fn end(mut self) -> Request {
        self.out.extend_from_slice(b"\r\n");
        Request { head: Chunk::shared(self.out), host: self.host, facts: self.facts }
    }
}

/// Appends a field. Its value cannot break the line; if its name is not a token, it is left out.
fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(is_token(name.as_bytes()), "{name:?} is not a field's name");
    if is_token(name.as_bytes()) {
        push_line(out, name.as_bytes(), &without_line_breaks(value));
    }
}

/// Appends a target. A byte that would end it or its line is escaped.
pub(super) fn push_target(out: &mut Vec<u8>, target: &str) {
    for &byte in target.as_bytes() {
        if byte.is_ascii_graphic() && byte != b'#' {
            out.push(byte);
        } else {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble & 15)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;
    use crate::http::request::{Parsed, parse};

    #[test]
    fn what_is_written_is_read_as_the_same_request() {
        let request = Request::builder(Method::Put, "/a?b", "h:1")
            .field("X", "y")
            .body(BodyFraming::Length(7))
            .upgrade("websocket")
            .end();
        let Ok(Parsed::Complete { head, length }) = parse(request.head(), &HeadLimits::default()) else { panic!() };
        assert_eq!(length, request.head().len());
        assert_eq!((head.method, head.target.path(), head.host), (Method::Put, Some("/a"), Some("h:1")));
        assert_eq!((head.framing, head.keep_alive), (BodyFraming::Length(7), true));
        assert_eq!((head.upgrade(), head.fields.get("x")), (Some(&b"websocket"[..]), Some(&b"y"[..])));

        let request = Request::builder(Method::Post, "/", "h").body(BodyFraming::Chunked).close().end();
        let Ok(Parsed::Complete { head, .. }) = parse(request.head(), &HeadLimits::default()) else { panic!() };
        assert_eq!((head.framing, head.keep_alive), (BodyFraming::Chunked, false));
    }

    #[test]
    fn a_head_is_sent_under_the_name_of_each_server() {
        let request = Request::builder(Method::Get, "/", "first:1").field("X", "y").end();
        for (authority, expected) in [(None, "first:1"), (Some("other".to_owned()), "other")] {
            let mut out = Chain::new();
            request.push_head(authority, &mut out);
            let expected = format!("GET / HTTP/1.1\r\nHost: {expected}\r\nX: y\r\n\r\n");
            assert_eq!(out.to_vec(), expected.as_bytes());
        }
    }

    #[test]
    fn row_82_no_value_breaks_a_line() {
        let request = Request::builder(Method::Get, "/a b\r\nX: y#c\u{e9}", "h\r\nY: z").field("Z", "1\n2").end();
        let text = String::from_utf8(request.head().to_vec()).unwrap();
        let expected = "GET /a%20b%0D%0AX:%20y%23c%C3%A9 HTTP/1.1\r\nHost: h  Y: z\r\nZ: 1 2\r\n\r\n";
        assert_eq!(text, expected);
    }
}
