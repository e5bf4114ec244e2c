//! Encodes a request of HTTP/2 once, to be sent any number of times on any connections.
//!
//! The field block refers to the static table only. So it depends on nothing that was sent before,
//! and sending it again is copying it. No value can add fields or change the framing: strings carry
//! their lengths. What is sent is valid nevertheless, as for [`super::super::Request`]: a CR, LF or
//! NUL in a value becomes a space, a field whose name is not a token is left out, and a byte that
//! cannot be part of a target is escaped.

use super::super::request::push_target;
use crate::buffer::Chunk;
use crate::http::h2::hpack::encoder::{push_exact_or_literal, push_field};
use crate::http::response::without_line_breaks;
use crate::http::token::is_token;
use crate::http::{Method, Scheme, is_own};

/// A request head as a field block, and its body. Clones share the memory.
///
/// ```
/// use xps::internals::client::Http2Request;
/// use xps::internals::http::{Method, Scheme};
///
/// let request = Http2Request::builder(Method::Get, Scheme::Https, "h", "/").field("Vary", "*").end();
/// assert_eq!(&request.block()[..], b"\x82\x87\x01\x01h\x84\x0f\x2c\x01*");
/// ```
#[derive(Clone, Debug)]
pub struct Http2Request {
    block: Chunk,
    /// `None`: there is no body, or an empty one.
    body: Option<Chunk>,
    is_head: bool,
}

/// Writes the head of an [`Http2Request`].
#[derive(Debug)]
#[must_use = "a head without an end is not one"]
pub struct Http2RequestBuilder {
    block: Vec<u8>,
    body: Option<Chunk>,
    is_head: bool,
}

impl Http2Request {
    /// Starts a head with its pseudo-header fields. The method must be a token, and not CONNECT, which
    /// has other ones. `path` is in the origin form, or `*` for OPTIONS.
    pub fn builder(method: Method<'_>, scheme: Scheme, authority: &str, path: &str) -> Http2RequestBuilder {
        debug_assert!(is_token(method.as_str().as_bytes()) && method != Method::Connect, "{method:?}");
        let (mut block, mut target) = (Vec::with_capacity(128), Vec::with_capacity(path.len()));
        push_exact_or_literal(&mut block, b":method", method.as_str().as_bytes());
        push_exact_or_literal(&mut block, b":scheme", scheme.name().as_bytes());
        push_field(&mut block, b":authority", &without_line_breaks(authority.as_bytes()));
        push_target(&mut target, path);
        push_exact_or_literal(&mut block, b":path", &target);
        Http2RequestBuilder { block, body: None, is_head: method == Method::Head }
    }

    /// The field block.
    pub const fn block(&self) -> &Chunk {
        &self.block
    }

    /// The body, if it is not empty.
    pub(super) const fn body(&self) -> Option<&Chunk> {
        self.body.as_ref()
    }

    /// Whether the method is HEAD, so the response has no body.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }
}

impl Http2RequestBuilder {
    /// Writes a field. Its name is sent in lower case. Fields for framing and connection management do
    /// not exist in HTTP/2, or have a method of their own, and are left out here.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        debug_assert!(is_token(name.as_bytes()), "{name:?} is not a field's name");
        debug_assert!(!is_own(name), "{name} has a method of its own");
        if is_token(name.as_bytes()) && !is_own(name) {
            push_field(&mut self.block, name.as_bytes(), without_line_breaks(value.as_ref()).trim_ascii());
        }
        self
    }

    /// Adds a body and its `content-length`. Call it at most once.
    pub fn body(mut self, body: Chunk) -> Self {
        debug_assert!(self.body.is_none(), "a request has one body");
        let mut digits = itoa::Buffer::new();
        push_field(&mut self.block, b"content-length", digits.format(body.len()).as_bytes());
        // It is cloned for each request, which must not copy it.
        let body = if let Chunk::Gathered(_) = body { Chunk::shared(&body[..]) } else { body };
        self.body = Some(body).filter(|body| !body.is_empty());
        self
    }

    /// Ends the head.
    pub fn end(self) -> Http2Request {
        Http2Request { block: Chunk::shared(self.block), body: self.body, is_head: self.is_head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;
    use crate::http::h2::BlockReader;
    use crate::http::h2::head::{HeadContext, parse};
    use crate::http::h2::hpack::Decoder;

    fn fields(request: &Http2Request) -> String {
        let mut reader = BlockReader::new(&HeadLimits::default());
        reader.push(&mut Decoder::new(), request.block(), true).unwrap();
        let block = reader.take();
        let context = HeadContext { end_stream: request.body.is_none(), connect_protocol: false };
        let head = parse(&block, context, &HeadLimits::default()).unwrap();
        assert_eq!(head.method == Method::Head, request.is_head);
        block.iter().map(|field| format!("{field:?}|")).collect()
    }

    #[test]
    fn what_is_written_is_read_as_the_same_request() {
        let request = Http2Request::builder(Method::Put, Scheme::Http, "h:1", "/a?b")
            .field("X-Y", " z ")
            .body(Chunk::owned(b"body".to_vec()))
            .end();
        let expected = ":method: PUT|:scheme: http|:authority: h:1|:path: /a?b|x-y: z|content-length: 4|";
        assert_eq!(fields(&request), expected);
        assert!(matches!(request.body(), Some(Chunk::Shared { .. })), "it is cloned without a copy");
        let empty = Http2Request::builder(Method::Post, Scheme::Https, "h", "/").body(Chunk::Static(b"")).end();
        assert_eq!(fields(&empty), ":method: POST|:scheme: https|:authority: h|:path: /|content-length: 0|");
        assert!(empty.body().is_none());
        fields(&Http2Request::builder(Method::Head, Scheme::Https, "h", "/").end());
    }

    #[test]
    fn no_value_makes_a_request_malformed() {
        let request = Http2Request::builder(Method::Get, Scheme::Http, "h", "/a b\r\nX: y#c\u{e9}").field("Z", "1\n2");
        let expected = ":method: GET|:scheme: http|:authority: h|:path: /a%20b%0D%0AX:%20y%23c%C3%A9|z: 1 2|";
        assert_eq!(fields(&request.end()), expected);
    }
}
