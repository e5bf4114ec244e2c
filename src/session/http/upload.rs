//! A request's body on its way from a client to an upstream.
//!
//! It does not know where either of them is, nor how long they take.

use crate::buffer::{Chain, Chunk, Inbox};
use crate::driver::Time;
use crate::http::{BodyFraming, BodyReader, BodyWriter, Refusal, Status};

/// The request's body on its way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) body: BodyReader,
    writer: BodyWriter,
    bytes: u64,
    /// Something of it has left the inbox, so it cannot be sent again.
    pub(super) has_begun: bool,
    /// When the client was last heard of: something of its body was taken, or it sent something, be it its next request.
    pub(super) latest: Time,
    /// The bytes that it had sent then, on its connection.
    pub(super) received_bytes: u64,
}

/// What a client hears whose body is longer than it may be.
pub(super) const TOO_LARGE: Refusal = Refusal::new(Status::CONTENT_TOO_LARGE, "the body is too large");

impl Upload {
    /// Nothing of it has been taken.
    pub(super) fn new(framing: BodyFraming, now: Time) -> Self {
        Self {
            body: BodyReader::from(framing),
            writer: BodyWriter::from(framing),
            bytes: 0,
            has_begun: false,
            latest: now,
            received_bytes: 0,
        }
    }

    /// Moves what there is of the body to the end of `chain`.
    pub(super) fn fill(
        &mut self,
        chain: &mut Chain,
        inbox: &mut Inbox,
        bytes_max: u64,
        now: Time,
    ) -> Result<(), Refusal> {
        while !self.body.is_done() && !inbox.is_empty() {
            let piece = self.body.next(inbox.bytes())?;
            self.has_begun = true;
            self.latest = now;
            self.bytes += piece.data as u64;
            if bytes_max != 0 && self.bytes > bytes_max {
                return Err(TOO_LARGE);
            }
            inbox.consume(piece.skip);
            push_data(chain, self.writer, inbox, piece.data);
            if piece.is_end {
                chain.push(self.writer.end());
            }
        }
        Ok(())
    }
}

/// Moves `bytes` of data from the front of `source` to the end of `chain`, framed as the writer frames.
pub(super) fn push_data(chain: &mut Chain, writer: BodyWriter, source: &mut Inbox, bytes: usize) {
    if bytes == 0 {
        return;
    }
    if let Some(line) = writer.before(bytes as u64) {
        chain.push(Chunk::shared(line.as_bytes()));
    }
    chain.push(source.take(bytes));
    chain.push(writer.after());
}
