//! Encodes the responses of handlers for a connection.
//!
//! This is the one place that decides how a response is framed, that one to HEAD has no body, and
//! whether the connection stays open. Handlers know none of that: they write a head to a
//! [`ResponseSink`] and return a [`Response`].
//!
//! A response of HTTP/1 is one piece of text, framing included; one of HTTP/2 is a field block, and
//! a body that its stream puts into frames.
//!
//! The responses to the most usual requests for small files are kept with the files, ready to be
//! sent: making one is a fifth of the instructions of such a request.

use std::cell::RefCell;
use std::rc::Rc;

use crate::buffer::{Chain, Chunk};
use crate::file::store::{Content, Resource};
use crate::http::h2::HeadEncoder as BlockEncoder;
use crate::http::validators::EntityTag;
use crate::http::{
    BodyWriter, Coding, DateLine, HeadEncoder, HeadEnd, HeadSink, ResponseFraming, ResponseHead, Status, Version,
};
use crate::session::http::response::{Body, PreparedResponse, Response};

/// Bodies in memory up to this size are sent in one piece with their head. A second piece is an
/// allocation, which costs more than copying that much.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// Where a handler writes the head of a response.
pub(crate) trait ResponseSink: HeadSink {
    /// The response that was made for an equal request earlier in the same second. `tag`: the only
    /// tag in the request's `If-None-Match`; without one, the request is for the whole file.
    fn prepared(&self, file: &Resource, key: &PreparedKey, tag: Option<&[u8]>) -> Option<PreparedResponse>;

    /// Keeps the response that is about to be made for such requests. `tag`: that of a 304.
    fn keep(&mut self, file: &Rc<Resource>, key: PreparedKey, tag: Option<EntityTag>);
}

/// What a prepared response depends on, besides the file and the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreparedKey {
    /// The file route: those of one folder share its files, but their header fields differ.
    pub(crate) route: u64,
    /// The second, since 1970: that of `Date`.
    pub(crate) unix_second: u64,
    /// The `Content-Encoding`: a compressed file may be requested under its own name, and as the
    /// compressed form of another file.
    pub(crate) coding: Option<Coding>,
}

/// A response as the connection sends it.
pub(crate) struct EncodedResponse {
    pub(crate) status: Status,
    /// The head, and a small body in memory.
    bytes: Chunk,
    /// The rest of the body. [`Body::Empty`]: there is none.
    rest: Body,
    /// The framing around the data of the rest.
    pub(crate) writer: BodyWriter,
    /// The size of the body, for the access log; 0 if it is not known yet.
    pub(crate) body_bytes: u64,
    /// Whether the connection stays open after the response.
    pub(crate) keep_alive: bool,
}

/// The head of a forwarded response, and how its body follows it.
pub(crate) struct EncodedHead {
    pub(crate) bytes: Chunk,
    /// The framing around the data of the body.
    pub(crate) writer: BodyWriter,
    /// Whether the client can detect that the body is truncated: it has a length or is chunked.
    pub(crate) is_framed: bool,
    /// Whether the connection stays open after the response.
    pub(crate) keep_alive: bool,
}

/// A response as a stream of HTTP/2 sends it.
pub(crate) struct Http2Response {
    pub(crate) status: Status,
    /// The field block. A body that was kept with it follows in the same memory.
    pub(crate) block: Chunk,
    /// Bytes of the field block.
    pub(crate) block_bytes: usize,
    /// The body, unless it follows the block. [`Body::Empty`]: there is none.
    pub(crate) body: Body,
    /// The length of the body, if it is known.
    pub(crate) body_bytes: Option<u64>,
}

/// The field block of a forwarded response, and what follows it.
pub(crate) struct Http2Head {
    pub(crate) block: Vec<u8>,
    /// The length of the body, if it is known. `Some(0)`: there is none.
    pub(crate) body_bytes: Option<u64>,
}

/// Where the head goes.
#[derive(Debug)]
enum Head {
    Http1(HeadEncoder),
    Http2(BlockEncoder),
}

/// Encodes one response.
#[derive(Debug)]
pub struct ResponseEncoder {
    head: Head,
    version: Version,
    is_head: bool,
    keep_alive: bool,
    /// Boxed, since an encoder is moved several times, and few responses are kept.
    kept: Option<Box<Kept>>,
}

/// Where to keep the response.
#[derive(Debug)]
struct Kept {
    file: Rc<Resource>,
    key: PreparedKey,
    tag: Option<EntityTag>,
}

/// The responses that are kept with a file.
#[derive(Debug, Default)]
struct PreparedResponses {
    /// Complete 200 responses: for a connection that closes afterwards, and for one that stays open.
    whole: RefCell<[Option<(PreparedKey, Chunk)>; 2]>,
    /// A 304 response to a request whose `If-None-Match` is exactly this tag.
    not_modified: RefCell<Option<(EntityTag, PreparedKey, Chunk)>>,
    /// The field block and the body of a 200 response over HTTP/2.
    http2: RefCell<Option<(PreparedKey, PreparedResponse)>>,
}

impl ResponseEncoder {
    /// An encoder of the response to a client of this version. `is_head`: the request is HEAD.
    /// `keep_alive`: another request may follow on the connection.
    pub(crate) const fn new(version: Version, is_head: bool, keep_alive: bool) -> Self {
        let head = match version {
            Version::Http10 | Version::Http11 => Head::Http1(HeadEncoder::new()),
            Version::Http2 => Head::Http2(BlockEncoder::new()),
        };
        Self { head, version, is_head, keep_alive, kept: None }
    }

    /// Ends the head of a response of HTTP/1, and appends the body if it is in memory.
    pub(crate) fn finish(self, response: Response) -> EncodedResponse {
        let Response { status, body, must_close } = response;
        let may_stay = self.keep_alive && !must_close;
        if let Body::Prepared { response: PreparedResponse { bytes, .. }, body_bytes } = body {
            let (rest, writer) = (Body::Empty, BodyWriter::Plain);
            return EncodedResponse { status, bytes, rest, writer, body_bytes, keep_alive: may_stay };
        }
        let body_bytes = body.length();
        let framing = match body_bytes {
            _ if status.forbids_body() => ResponseFraming::None,
            Some(bytes) => ResponseFraming::Length(bytes),
            None => ResponseFraming::Chunked.for_client(self.version),
        };
        let keep_alive = may_stay && framing != ResponseFraming::UntilClose;
        let mut out = self.head.into_http1().end(HeadEnd { framing, keep_alive, version: self.version });
        let body = if self.is_head { Body::Empty } else { body };
        let body_bytes = if self.is_head { 0 } else { body_bytes.unwrap_or_default() };
        let (bytes, rest) = match body {
            Body::Memory(body) if body.len() <= JOINED_BYTES_MAX => {
                out.extend_from_slice(&body);
                (Chunk::shared(out), Body::Empty)
            }
            Body::File(file, span) => match &file.content {
                Content::Memory(bytes) => {
                    // A span is always within its content.
                    let (start, end) = (span.offset as usize, (span.offset + span.length) as usize);
                    out.extend_from_slice(bytes.get(start..end).unwrap_or_default());
                    (Chunk::shared(out), Body::Empty)
                }
                Content::File(_) | Content::Folder | Content::Special => (Chunk::shared(out), Body::File(file, span)),
            },
            rest @ (Body::Empty | Body::Memory(_) | Body::Parts(..) | Body::Listing { .. } | Body::Prepared { .. }) => {
                (Chunk::shared(out), rest)
            }
        };
        if let (Some(kept), Body::Empty) = (self.kept, &rest) {
            kept.store(self.version, keep_alive, &bytes);
        }
        EncodedResponse { status, bytes, rest, writer: framing.into(), body_bytes, keep_alive }
    }

    /// Ends the head of an upstream's final response, or of 101, after [`write_response`] has written
    /// to this sink. The body follows as it arrives.
    ///
    /// [`write_response`]: crate::http::forward::write_response
    pub(crate) fn finish_forwarded(self, head: &ResponseHead<'_>) -> EncodedHead {
        let framing = head.framing.for_client(self.version);
        let is_framed = framing != ResponseFraming::UntilClose;
        let keep_alive = self.keep_alive && is_framed;
        let bytes = Chunk::shared(self.head.into_http1().end_forwarded(head, self.version, keep_alive));
        EncodedHead { bytes, writer: framing.into(), is_framed, keep_alive }
    }

    /// Whether the client may get interim responses (1xx): HTTP/1.0 has none.
    pub(crate) fn can_send_interim(&self) -> bool {
        self.version != Version::Http10
    }

    /// Ends the head of an interim response.
    pub(crate) fn finish_interim(self) -> Vec<u8> {
        debug_assert!(self.can_send_interim(), "HTTP/1.0 has no interim responses");
        match self.head {
            Head::Http1(head) => head.end_interim(),
            Head::Http2(head) => head.end_interim(),
        }
    }

    /// Ends the head of a response of HTTP/2. Whether the connection stays open is not up to one
    /// response.
    pub(crate) fn finish_http2(self, response: Response) -> Http2Response {
        let Response { status, body, must_close: _ } = response;
        if let Body::Prepared { response, body_bytes } = body {
            let PreparedResponse { bytes: block, head_bytes: block_bytes } = response;
            return Http2Response { status, block, block_bytes, body: Body::Empty, body_bytes: Some(body_bytes) };
        }
        let framing = match body.length() {
            _ if status.forbids_body() => ResponseFraming::None,
            Some(bytes) => ResponseFraming::Length(bytes),
            None => ResponseFraming::Chunked,
        };
        let mut block = self.head.into_http2().end(framing);
        let block_bytes = block.len();
        if self.is_head || status.forbids_body() {
            let block = Chunk::owned(block);
            return Http2Response { status, block, block_bytes, body: Body::Empty, body_bytes: Some(0) };
        }
        let body_bytes = body.length();
        if let (Some(kept), Body::File(file, _)) = (self.kept, &body)
            && let (None, Content::Memory(bytes)) = (&kept.tag, &file.content)
            && bytes.len() <= JOINED_BYTES_MAX
        {
            block.extend_from_slice(bytes);
            let response = PreparedResponse { bytes: Chunk::shared(block), head_bytes: block_bytes };
            kept.store_http2(response.clone());
            return Http2Response { status, block: response.bytes, block_bytes, body: Body::Empty, body_bytes };
        }
        Http2Response { status, block: Chunk::owned(block), block_bytes, body, body_bytes }
    }

    /// Ends the head of an upstream's final response for a client of HTTP/2, after
    /// [`write_response`] has written to this sink.
    ///
    /// [`write_response`]: crate::http::forward::write_response
    pub(crate) fn finish_forwarded_http2(self, head: &ResponseHead<'_>) -> Http2Head {
        let body_bytes = match head.framing {
            ResponseFraming::None => Some(0),
            ResponseFraming::Length(bytes) => Some(bytes),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => None,
        };
        Http2Head { block: self.head.into_http2().end_forwarded(head), body_bytes }
    }
}

impl Head {
    /// The encoder of a connection of HTTP/1.
    fn into_http1(self) -> HeadEncoder {
        match self {
            Self::Http1(head) => head,
            Self::Http2(_) => {
                debug_assert!(false, "a response of HTTP/2 on a connection of HTTP/1");
                HeadEncoder::new()
            }
        }
    }

    /// The encoder of a stream of HTTP/2.
    fn into_http2(self) -> BlockEncoder {
        match self {
            Self::Http2(head) => head,
            Self::Http1(_) => {
                debug_assert!(false, "a response of HTTP/1 on a stream of HTTP/2");
                BlockEncoder::new()
            }
        }
    }
}

impl EncodedResponse {
    /// Appends what is in memory to the outbox. Returns the rest of the body, if there is one.
    pub(crate) fn push_to(self, outbox: &mut Chain) -> Option<Body> {
        outbox.push(self.bytes);
        match self.rest {
            Body::Empty => None,
            Body::Memory(body) => {
                outbox.push(body);
                None
            }
            rest => Some(rest),
        }
    }
}

impl HeadSink for ResponseEncoder {
    fn reserve(&mut self, bytes: usize) {
        match &mut self.head {
            Head::Http1(head) => head.reserve(bytes),
            Head::Http2(head) => head.reserve(bytes),
        }
    }

    fn status(&mut self, status: Status, reason: &[u8]) {
        match &mut self.head {
            Head::Http1(head) => head.status(status, reason),
            Head::Http2(head) => head.status(status, reason),
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        match &mut self.head {
            Head::Http1(head) => head.field(name, value),
            Head::Http2(head) => head.field(name, value),
        }
    }

    fn date(&mut self, date: &DateLine) {
        match &mut self.head {
            Head::Http1(head) => head.date(date),
            Head::Http2(head) => head.date(date),
        }
    }
}

impl ResponseSink for ResponseEncoder {
    fn prepared(&self, file: &Resource, key: &PreparedKey, tag: Option<&[u8]>) -> Option<PreparedResponse> {
        let prepared: &PreparedResponses = file.encoded()?;
        let text = |bytes: &Chunk| PreparedResponse { bytes: bytes.clone(), head_bytes: 0 };
        match tag {
            None if self.version == Version::Http2 => {
                let whole = prepared.http2.borrow();
                let (made_for, response) = whole.as_ref()?;
                (made_for == key).then(|| response.clone())
            }
            None if says_nothing_of_connection(self.version, self.keep_alive) => {
                let whole = prepared.whole.borrow();
                let (made_for, response) = whole[usize::from(self.keep_alive)].as_ref()?;
                (made_for == key).then(|| text(response))
            }
            Some(tag) if self.keep_alive && self.version == Version::Http11 => {
                let not_modified = prepared.not_modified.borrow();
                let (made_with, made_for, response) = not_modified.as_ref()?;
                (made_for == key && made_with.as_bytes() == tag).then(|| text(response))
            }
            None | Some(_) => None,
        }
    }

    fn keep(&mut self, file: &Rc<Resource>, key: PreparedKey, tag: Option<EntityTag>) {
        self.kept = Some(Box::new(Kept { file: Rc::clone(file), key, tag }));
    }
}

impl Kept {
    /// Stores a whole response of HTTP/2.
    fn store_http2(self, response: PreparedResponse) {
        let prepared: &PreparedResponses = self.file.encoded_or_default();
        prepared.http2.replace(Some((self.key, response)));
    }

    /// Stores the response, if it suits other clients.
    fn store(self, version: Version, keep_alive: bool, response: &Chunk) {
        let prepared: &PreparedResponses = self.file.encoded_or_default();
        match self.tag {
            None if says_nothing_of_connection(version, keep_alive) => {
                prepared.whole.borrow_mut()[usize::from(keep_alive)] = Some((self.key, response.clone()));
            }
            Some(tag) if keep_alive && version == Version::Http11 => {
                prepared.not_modified.replace(Some((tag, self.key, response.clone())));
            }
            None | Some(_) => {}
        }
    }
}

/// Whether a head depends on nothing of the connection but whether it is kept open: that for a
/// client of HTTP/1.0 says so.
fn says_nothing_of_connection(version: Version, keep_alive: bool) -> bool {
    version != Version::Http10 || !keep_alive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::listing::{Format, Listed, Listing, Options, Sort};
    use crate::http::HeadLimits;
    use crate::http::response_head::{self, Parsed};

    const VERSIONS: [Version; 2] = [Version::Http10, Version::Http11];

    fn listing() -> Body {
        let listing = Listing::new(b"/", Rc::new(Listed::new(vec![])), Sort::default(), Options::default());
        Body::Listing { first: b"first".to_vec(), others: Box::new(listing.stream(Format::Html)) }
    }

    fn encoded(version: Version, is_head: bool, status: Status, body: Body) -> EncodedResponse {
        let mut encoder = ResponseEncoder::new(version, is_head, true);
        encoder.status(status, b"x");
        encoder.finish(Response { status, body, must_close: false })
    }

    /// What is in memory, and the rest.
    fn parts(response: EncodedResponse) -> (Chain, Option<Body>) {
        let mut outbox = Chain::new();
        let rest = response.push_to(&mut outbox);
        (outbox, rest)
    }

    /// The fields and the body, and whether the connection stays open.
    fn text(version: Version, is_head: bool, status: Status, body: Body) -> (String, bool) {
        let response = encoded(version, is_head, status, body);
        let keep_alive = response.keep_alive;
        let text = String::from_utf8(parts(response).0.to_vec()).unwrap();
        let kept = "Connection: keep-alive\r\n";
        assert_eq!(text.contains(kept), keep_alive && version == Version::Http10);
        (text.split_once("\r\n").unwrap().1.replace(kept, ""), keep_alive)
    }

    #[test]
    fn the_body_decides_about_the_framing() {
        for version in VERSIONS {
            let of = |status, body| text(version, false, status, body);
            assert_eq!(of(Status::FOUND, Body::Empty), ("Content-Length: 0\r\n\r\n".to_owned(), true));
            assert_eq!(of(Status::NO_CONTENT, Body::Empty), ("\r\n".to_owned(), true));
            assert_eq!(of(Status::NOT_MODIFIED, Body::Empty), ("\r\n".to_owned(), true));
            let body = Body::Memory(Chunk::from(&b"body"[..]));
            assert_eq!(of(Status::OK, body), ("Content-Length: 4\r\n\r\nbody".to_owned(), true));
        }
    }

    #[test]
    fn a_body_of_unknown_length_is_chunked_or_ends_the_connection() {
        let of = |version| encoded(version, false, Status::OK, listing());
        let (old, new) = (of(Version::Http10), of(Version::Http11));
        assert_eq!((old.writer, old.keep_alive), (BodyWriter::Plain, false));
        assert_eq!((new.writer, new.keep_alive), (BodyWriter::Chunked, true));
        for response in [old, new] {
            let (bytes, rest) = parts(response);
            assert!(bytes.to_vec().ends_with(b"\r\n\r\n"), "the sender adds all pieces");
            assert!(matches!(rest, Some(Body::Listing { .. })));
        }
    }

    #[test]
    fn the_head_for_head_is_that_for_get() {
        let body = || [Body::Empty, Body::Memory(Chunk::from(&b"body"[..])), listing()];
        for version in VERSIONS {
            for (to_head, to_get) in body().into_iter().zip(body()) {
                let head = encoded(version, true, Status::OK, to_head);
                let get = encoded(version, false, Status::OK, to_get);
                assert_eq!((head.keep_alive, head.body_bytes), (get.keep_alive, 0));
                let (head_bytes, rest) = parts(head);
                let head_text = head_bytes.to_vec();
                assert!(head_text.ends_with(b"\r\n\r\n") && parts(get).0.to_vec().starts_with(&head_text));
                assert!(rest.is_none());
            }
        }
    }

    #[test]
    fn small_bodies_join_their_head_and_large_ones_do_not() {
        for (size, chunks) in [(JOINED_BYTES_MAX, 1), (JOINED_BYTES_MAX + 1, 2)] {
            let response = encoded(Version::Http11, false, Status::OK, Body::Memory(Chunk::shared(vec![b'x'; size])));
            assert_eq!(response.body_bytes, size as u64);
            let (bytes, rest) = parts(response);
            assert!(bytes.chunks().len() == chunks && rest.is_none());
        }
    }

    #[test]
    fn a_handler_can_close_the_connection_and_a_status_cannot() {
        let kept = |status, must_close| {
            let mut encoder = ResponseEncoder::new(Version::Http11, false, true);
            encoder.status(status, b"x");
            encoder.finish(Response { status, body: Body::Empty, must_close }).keep_alive
        };
        assert!(!kept(Status::OK, true) && kept(Status::BAD_REQUEST, false));
        let text = b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n";
        let Ok(Parsed::Complete { head, .. }) = response_head::parse(text, false, &HeadLimits::default()) else {
            panic!("a response")
        };
        let mut encoder = ResponseEncoder::new(Version::Http11, false, true);
        encoder.status(head.status, head.reason);
        assert!(encoder.finish_forwarded(&head).keep_alive, "that of an upstream is not about our connection");
    }
}
