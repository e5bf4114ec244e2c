//! Sends a response body that is not entirely in memory: ranges of a file, or a listing in pieces.
//!
//! It owns the rest of the body and the record of its exchange.

use super::exchange::Record;
use super::response::Body;
use super::{After, push_chunk};
use crate::buffer::{Chain, Chunk};
use crate::driver::Ops;
use crate::file::listing;
use crate::file::store::Content;
use crate::http::chunked;
use crate::http::multipart::Piece;
use crate::transport::Transport;

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    next_piece: usize,
    after: After,
    record: Record,
}

/// How far a body is.
pub(super) enum Progress {
    /// A piece is being sent.
    Wait,
    /// There is more to do.
    Again,
    /// All of the body is with the transport or in the outbox.
    Over,
}

impl ResponseBody {
    /// A body whose head is in the outbox.
    pub(super) const fn new(body: Body, after: After, record: Record) -> Self {
        Self { body, next_piece: 0, after, record }
    }

    /// Sends the outbox and the next piece.
    pub(super) fn step(&mut self, client: &mut Transport, outbox: &mut Chain, ops: &mut Ops) -> Progress {
        if !client.can_send() {
            return Progress::Wait;
        }
        let (resource, span) = match &mut self.body {
            Body::Sent => return Progress::Over,
            Body::Part(resource, span) if self.next_piece == 0 => (resource, *span),
            Body::Part(..) => return Progress::Over,
            Body::Parts(resource, plan) => match plan.piece(self.next_piece) {
                Some(Piece::Text(text)) => {
                    outbox.push(Chunk::shared(text));
                    self.next_piece += 1;
                    return Progress::Again;
                }
                Some(Piece::File(span)) => (resource, span),
                None => return Progress::Over,
            },
            Body::Listing { stream, is_chunked } => {
                let mut piece = Vec::new();
                let has_more = stream.write(listing::PIECE_BYTES, &mut piece);
                match (*is_chunked, has_more) {
                    (true, true) => push_chunk(outbox, piece),
                    (true, false) => {
                        push_chunk(outbox, piece);
                        outbox.push(chunked::LAST_CHUNK);
                    }
                    (false, _) => outbox.push(Chunk::shared(piece)),
                }
                if !has_more {
                    return Progress::Over;
                }
                client.send(outbox.take(), ops);
                return Progress::Wait;
            }
        };
        self.next_piece += 1;
        match &resource.content {
            Content::File(open) => {
                client.send_file(outbox.take(), open.file(), span.offset, span.length, ops);
                Progress::Wait
            }
            Content::Memory(bytes) => {
                // A span is always within its content.
                let (start, end) = (span.offset as usize, (span.offset + span.length) as usize);
                if let Some(part) = bytes.get(start..end) {
                    outbox.push(Chunk::shared(part));
                }
                Progress::Again
            }
            Content::Folder | Content::Special => Progress::Again,
        }
    }

    /// The record, to end the exchange with, and what follows the response.
    pub(super) fn into_parts(self) -> (Record, After) {
        (self.record, self.after)
    }
}
