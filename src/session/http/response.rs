//! A response as data: what a handler returns, and an encoder turns into bytes.
//!
//! The head goes to a sink beforehand. The version of HTTP, the framing and whether the connection
//! stays open are not known here.

use std::rc::Rc;

use crate::buffer::Chunk;
use crate::file::listing;
use crate::file::store::Resource;
use crate::http::Status;
use crate::http::multipart::Multipart;
use crate::http::range::Span;

/// The response of a handler, whose head is with the sink.
pub struct Response {
    pub(crate) status: Status,
    pub(crate) body: Body,
    /// Whether nothing more can be read from the connection: it is uncertain where the next request
    /// would begin.
    pub(crate) must_close: bool,
}

/// The body of a response to GET. That to HEAD is described by the same value, and not sent.
#[derive(Debug)]
pub enum Body {
    /// There is none, or it has no bytes.
    Empty,
    /// Bytes in memory.
    Memory(Chunk),
    /// One range of a file.
    File(Rc<Resource>, Span),
    /// Several ranges of a file, with the text between them (`multipart/byteranges`).
    Parts(Rc<Resource>, Box<Multipart>),
    /// The listing of a folder, of unknown length: its first piece, and the others.
    Listing { first: Vec<u8>, others: Box<listing::Stream> },
    /// The whole response, from [`ResponseSink::prepared`](super::stream::ResponseSink::prepared); nothing was written to the sink.
    Prepared { response: PreparedResponse, body_bytes: u64 },
}

/// A response that was made earlier.
#[derive(Clone, Debug)]
pub struct PreparedResponse {
    /// Head and body.
    pub(crate) bytes: Chunk,
    /// Bytes of the head, where it has to be separated from the body.
    pub(crate) head_bytes: usize,
}

impl Response {
    /// A response after which the connection may stay open.
    pub(crate) const fn new(status: Status, body: Body) -> Self {
        Self { status, body, must_close: false }
    }
}

impl Body {
    /// Length in bytes; `None` if it is not known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File(_, span) => Some(span.length),
            Self::Parts(_, plan) => Some(plan.content_length()),
            Self::Listing { .. } => None,
            Self::Prepared { body_bytes, .. } => Some(*body_bytes),
        }
    }
}
