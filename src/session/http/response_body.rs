//! Sends a response body that is not entirely in memory: ranges of a file, or a listing in pieces.
//!
//! It owns the rest of the body and the pending access log entry.

use super::pending_log_entry::PendingLogEntry;
use super::response::Body;
use super::{After, push_chunk};
use crate::buffer::{Chain, Chunk};
use crate::driver::{Ops, Time};
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
    log_entry: Option<Box<PendingLogEntry>>,
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
    pub(super) const fn new(body: Body, after: After, log_entry: Option<Box<PendingLogEntry>>) -> Self {
        Self { body, next_piece: 0, after, log_entry }
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

    /// Writes the access log entry, unless it is written already. `sent_bytes`: bytes sent on the
    /// connection so far.
    pub(super) fn record_end(&mut self, sent_bytes: u64, now: Time) {
        if let Some(entry) = self.log_entry.take() {
            entry.finish(sent_bytes, now);
        }
    }

    /// What follows the response.
    pub(super) fn into_after(self) -> After {
        self.after
    }
}
