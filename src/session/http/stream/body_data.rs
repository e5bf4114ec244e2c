//! Data of a body on their way to a peer, and the framing that they get.

use crate::buffer::{Chain, Chunk, Inbox, SMALL_PIECE_BYTES};
use crate::http::BodyWriter;
use crate::http::chunked::SizeLine;

/// Data of a body at the front of an inbox. They stay there unless they are moved on.
#[derive(Debug)]
pub(crate) struct BodyData<'i> {
    source: &'i mut Inbox,
    bytes: usize,
}

impl<'i> BodyData<'i> {
    /// The first `bytes` bytes of the first contiguous ones.
    pub(crate) const fn new(source: &'i mut Inbox, bytes: usize) -> Self {
        Self { source, bytes }
    }

    /// Number of bytes; may be 0.
    pub(crate) const fn len(&self) -> usize {
        self.bytes
    }

    /// Moves the data to the end of `chain`, with the writer's framing.
    ///
    /// The sender chooses the size of its pieces. Small ones are copied together with their framing.
    pub(crate) fn push_to(self, chain: &mut Chain, writer: BodyWriter) {
        let Self { source, bytes } = self;
        if bytes == 0 {
            return;
        }
        let line = writer.before(bytes as u64);
        let is_all = source.bytes().len() == bytes;
        if bytes < SMALL_PIECE_BYTES && (line.is_some() || !is_all) {
            chain.append(line.as_ref().map_or(&[], SizeLine::as_bytes));
            chain.append(&source.bytes()[..bytes]);
            chain.append(writer.after());
            source.consume(bytes);
            return;
        }
        if let Some(line) = line {
            chain.append(line.as_bytes());
        }
        chain.push(source.take(bytes));
        chain.push(writer.after());
    }
}

/// Appends data to a chain, with the writer's framing.
pub(crate) fn push_chunk(chain: &mut Chain, writer: BodyWriter, data: Chunk) {
    if data.is_empty() {
        return;
    }
    if let Some(line) = writer.before(data.len() as u64) {
        chain.append(line.as_bytes());
    }
    chain.push(data);
    chain.push(writer.after());
}
