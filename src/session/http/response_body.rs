//! Sends a response body that is not entirely in memory: ranges of a file, or a listing in pieces.
//!
//! It owns the rest of the body and the record of its exchange.

use super::After;
use super::exchange::Record;
use super::response::Body;
use crate::buffer::{Chain, Chunk};
use crate::driver::Ops;
use crate::file::listing;
use crate::file::store::Content;
use crate::http::BodyWriter;
use crate::http::chunked::SizeLine;
use crate::http::multipart::Piece;
use crate::transport::Transport;

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    /// The framing around the data of the body.
    writer: BodyWriter,
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
    pub(super) const fn new(body: Body, writer: BodyWriter, after: After, record: Record) -> Self {
        Self { body, writer, next_piece: 0, after, record }
    }

    /// Sends the outbox and the next piece.
    pub(super) fn step(&mut self, client: &mut Transport, outbox: &mut Chain, ops: &mut Ops) -> Progress {
        if !client.can_send() {
            return Progress::Wait;
        }
        let (resource, span) = match &mut self.body {
            // Sent with the head.
            Body::Empty | Body::Memory(_) | Body::Prepared { .. } => return Progress::Over,
            Body::File(resource, span) if self.next_piece == 0 => (resource, *span),
            Body::File(..) => return Progress::Over,
            Body::Parts(resource, plan) => match plan.piece(self.next_piece) {
                Some(Piece::Text(text)) => {
                    outbox.push(Chunk::shared(text));
                    self.next_piece += 1;
                    return Progress::Again;
                }
                Some(Piece::File(span)) => (resource, span),
                None => return Progress::Over,
            },
            Body::Listing { first, others } => {
                let mut piece = std::mem::take(first);
                let has_more = !piece.is_empty() || others.write(listing::PIECE_BYTES, &mut piece);
                push_piece(outbox, self.writer, piece);
                if !has_more {
                    outbox.push(self.writer.end());
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

/// Appends a piece of a body, with the framing around it.
fn push_piece(chain: &mut Chain, writer: BodyWriter, piece: Vec<u8>) {
    if piece.is_empty() {
        return;
    }
    if let Some(line) = writer.before(piece.len() as u64) {
        chain.append(SizeLine::as_bytes(&line));
    }
    chain.push(Chunk::shared(piece));
    chain.push(writer.after());
}
