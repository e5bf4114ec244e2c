//! Sends a response body that is not entirely in memory: ranges of a file, or a listing in pieces.
//!
//! It owns the rest of the body. How that is framed, and when the connection sends it, is up to the
//! stream.

use super::response::Body;
use super::stream::BodySink;
use crate::buffer::Chunk;
use crate::driver::Ops;
use crate::file::listing;
use crate::file::store::Content;
use crate::http::multipart::Piece;

/// A body that is being sent.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    body: Body,
    next_piece: usize,
}

/// How far a body is.
pub(crate) enum Progress {
    /// The stream takes the next piece once it has sent this one.
    Wait,
    /// There is more to do.
    Again,
    /// All of the body is with the stream.
    Over,
}

impl ResponseBody {
    /// A body whose head is with the stream.
    pub(crate) const fn new(body: Body) -> Self {
        Self { body, next_piece: 0 }
    }

    /// A body of which everything is with the stream.
    pub(crate) const fn empty() -> Self {
        Self::new(Body::Empty)
    }

    /// Sends the next piece.
    pub(crate) fn step(&mut self, stream: &mut impl BodySink, ops: &mut Ops) -> Progress {
        if !stream.takes_piece() {
            return Progress::Wait;
        }
        let (resource, span) = match &mut self.body {
            // Sent with the head.
            Body::Empty | Body::Memory(_) | Body::Prepared { .. } => return Progress::Over,
            Body::File(resource, span) if self.next_piece == 0 => (resource, *span),
            Body::File(..) => return Progress::Over,
            Body::Parts(resource, plan) => match plan.piece(self.next_piece) {
                Some(Piece::Text(text)) => {
                    stream.send_data(Chunk::shared(text));
                    self.next_piece += 1;
                    return Progress::Again;
                }
                Some(Piece::File(span)) => (resource, span),
                None => return Progress::Over,
            },
            Body::Listing { first, others } => {
                let mut piece = std::mem::take(first);
                let has_more = !piece.is_empty() || others.write(listing::PIECE_BYTES, &mut piece);
                stream.send_data(Chunk::shared(piece));
                if !has_more {
                    stream.send_end();
                    return Progress::Over;
                }
                return Progress::Wait;
            }
        };
        self.next_piece += 1;
        match &resource.content {
            Content::File(open) => {
                stream.send_file(open.file(), span, ops);
                Progress::Wait
            }
            Content::Memory(bytes) => {
                // A span is always within its content.
                let (start, end) = (span.offset as usize, (span.offset + span.length) as usize);
                if let Some(part) = bytes.get(start..end) {
                    stream.send_data(Chunk::shared(part));
                }
                Progress::Again
            }
            Content::Folder | Content::Special => Progress::Again,
        }
    }
}
