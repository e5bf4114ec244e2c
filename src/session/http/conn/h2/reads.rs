//! Reads the files of responses in pieces, a few at a time for all streams of a connection.
//!
//! A piece of a file is read while the one before is being sent. So the memory for files is bounded for
//! the connection, not for each stream.

use super::stream::Stream;
use crate::buffer::{Chain, Chunk};
use crate::driver::{Fault, Op, OpId, Ops, Outcome};
use crate::http::h2::StreamId;
use crate::session::Slot;
use crate::session::http::response_body::ResponseBody;
use crate::session::http::stream::h2::{FileSource, Source};
#[cfg(feature = "internals")]
use crate::session::http::stream::planted_bug::{self, Http2Bug};
use crate::waiter::SessionKey;

/// Number of reads in flight.
pub(super) const READS_MAX: usize = 4;

/// Streams that hold a piece, or wait for one, at a time.
pub(super) const PIECES_MAX: usize = 2 * READS_MAX;

/// Bytes that are read at a time.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The reads of one connection.
#[derive(Debug, Default)]
pub(super) struct Reads([Option<Read>; READS_MAX]);

/// A read in flight.
#[derive(Debug)]
struct Read {
    id: OpId,
    stream: StreamId,
    /// Bytes asked for.
    wanted: usize,
    /// The body of a stream that has ended: its file must stay open until the outcome.
    orphan: Option<ResponseBody>,
}

impl Reads {
    /// Begins to read the next piece for this stream, if it needs one and a slot is free. Not more than
    /// its window lets it send: a stream whose client takes nothing holds no piece. Returns whether it
    /// does.
    pub(super) fn begin(&mut self, stream: &mut Stream, session: SessionKey, ops: &mut Ops) -> bool {
        let window = stream.output.window.credit() as usize;
        let Source::File(FileSource { file, offset, left, read, is_reading, .. }) = &mut stream.output.source else {
            return false;
        };
        let room = window.saturating_sub(read.len()).min(PIECE_BYTES);
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(room);
        if *is_reading || wanted == 0 || read.len() >= PIECE_BYTES {
            return false;
        }
        let Some((number, slot)) = self.0.iter_mut().enumerate().find(|(_, slot)| slot.is_none()) else {
            return false;
        };
        let token = Slot::read(number).token(session);
        let id = ops.submit(token, Op::Read { file: *file, offset: *offset, length: wanted });
        *is_reading = true;
        *slot = Some(Read { id, stream: stream.id, wanted, orphan: None });
        true
    }

    /// Whether a read could begin.
    pub(super) fn has_free(&self) -> bool {
        self.0.iter().any(Option::is_none)
    }

    /// Takes the outcome of the read in this slot: the stream it was for, and its bytes or what went
    /// wrong. `None`: the stream has ended.
    pub(super) fn end(&mut self, number: usize, outcome: Outcome) -> Option<(StreamId, Result<Chunk, Fault>)> {
        let read = self.0.get_mut(number)?.take()?;
        #[cfg(feature = "internals")]
        if planted_bug::strikes(Http2Bug::LeakedRead) {
            self.0[number] = Some(Read { orphan: None, ..read });
            return None;
        }
        let Read { stream, wanted, orphan, .. } = read;
        if orphan.is_some() {
            return None;
        }
        let bytes = match outcome {
            Outcome::Read(bytes) if bytes.len() == wanted => Ok(bytes),
            Outcome::Read(_) => Err(Fault::FileTruncated),
            Outcome::Failed(fault) => Err(fault),
            _ => Err(Fault::Os(libc::ECANCELED)),
        };
        Some((stream, bytes))
    }

    /// Gives up the read of a stream that ends. Its body is kept until the outcome.
    pub(super) fn orphan(&mut self, stream: StreamId, body: ResponseBody, ops: &mut Ops) {
        if let Some(read) = self.0.iter_mut().flatten().find(|read| read.stream == stream && read.orphan.is_none()) {
            ops.cancel(read.id);
            read.orphan = Some(body);
        }
    }

    /// Gives up all of them.
    pub(super) fn cancel(&self, ops: &mut Ops) {
        self.0.iter().flatten().for_each(|read| ops.cancel(read.id));
    }

    /// The slot of the read for this stream.
    pub(super) fn slot_of(&self, stream: StreamId) -> Option<Slot> {
        let is_for_it = |read: &Read| read.stream == stream && read.orphan.is_none();
        self.0.iter().position(|read| read.as_ref().is_some_and(is_for_it)).map(Slot::read)
    }

    /// Number of those whose streams wait for them.
    pub(super) fn len(&self) -> usize {
        self.0.iter().flatten().filter(|read| read.orphan.is_none()).count()
    }

    /// Whether none is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl FileSource {
    /// Whether it holds a piece, or waits for one.
    pub(super) fn has_piece(&self) -> bool {
        self.is_reading || !self.read.is_empty()
    }

    /// Adds a piece that was read.
    pub(super) fn push(&mut self, bytes: Chunk) {
        self.is_reading = false;
        self.offset += bytes.len() as u64;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.read.is_empty() {
            self.read = Chain::new();
        }
        self.read.push(bytes);
    }

    /// Notes that it cannot be read.
    pub(super) fn lose(&mut self, fault: Fault) {
        self.is_reading = false;
        self.fault = Some(fault);
    }

    /// Why it cannot be read.
    pub(super) const fn fault(&self) -> Option<Fault> {
        self.fault
    }
}
