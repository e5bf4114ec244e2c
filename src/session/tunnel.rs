//! Bytes both ways between a client and an upstream: two directions that flow, pause and end on their own.
//!
//! An end of input on one side is passed on to the other, and bytes go on flowing the other way
//! (half-close). A side that breaks off is told to the other as a reset, after what it had sent.

use super::Ending;
use crate::buffer::{Chunk, Inbox};
use crate::driver::Ops;
use crate::tcp::{Connection, End, Pipe, Reader, Writer, relay};

/// What is on its way between a client and an upstream.
#[derive(Debug)]
pub(super) struct Tunnel {
    to_upstream: Pipe,
    to_client: Pipe,
}

impl Tunnel {
    /// An empty one.
    pub(super) const fn new() -> Self {
        Self { to_upstream: Pipe::new(), to_client: Pipe::new() }
    }

    /// Takes bytes from the client.
    pub(super) fn push_to_upstream(&mut self, chunk: impl Into<Chunk>) {
        self.to_upstream.push(chunk);
    }

    /// Takes bytes for the client.
    pub(super) fn push_to_client(&mut self, chunk: impl Into<Chunk>) {
        self.to_client.push(chunk);
    }

    /// While there is no connection to the upstream: what the client sends is kept, within the bound, and goes out with
    /// the connection's first send.
    pub(super) fn keep(&self, client: &mut Reader, hold_max: usize, ops: &mut Ops) {
        client.want(self.to_upstream.wants_bytes(client.is_receiving(), hold_max), ops);
    }

    /// Moves bytes both ways, and holds about `hold_max` bytes of each at most. `Some`: both directions have come to an end.
    pub(super) fn pump(
        &mut self,
        client: &mut Connection,
        upstream: &mut Connection,
        received: &mut Inbox,
        hold_max: usize,
        ops: &mut Ops,
    ) -> Option<Ending> {
        while !received.is_empty() {
            let bytes = received.bytes().len();
            self.to_client.push(received.take(bytes));
        }
        if upstream.writer.fault().is_some() {
            // The upstream takes nothing more, but what it has said may still be on its way.
            self.to_upstream.clear();
        }
        relay(&mut client.reader, &mut self.to_upstream, &mut upstream.writer, hold_max, ops);
        relay(&mut upstream.reader, &mut self.to_client, &mut client.writer, hold_max, ops);
        self.ending(client, upstream)
    }

    /// Whether, and how, the two connections have come to an end.
    fn ending(&self, client: &Connection, upstream: &Connection) -> Option<Ending> {
        if let Some(fault) = client.writer.fault() {
            return Some(Ending::ClientLost(fault));
        }
        if let Some(End::Failed(fault)) = client.reader.end()
            && is_flushed(&self.to_upstream, &upstream.writer)
        {
            return Some(Ending::ClientLost(fault));
        }
        let to_client_is_over = match upstream.reader.end() {
            Some(End::Failed(fault)) if is_flushed(&self.to_client, &client.writer) => {
                return Some(Ending::UpstreamLost(fault));
            }
            Some(End::Eof) => client.writer.is_finished(),
            Some(End::Failed(_)) | None => false,
        };
        if to_client_is_over {
            if upstream.writer.is_finished() {
                return Some(Ending::Done);
            }
            // It had said all it wanted to say, and did not want to hear the rest.
            return upstream.writer.fault().map(|_| Ending::Done);
        }
        None
    }

    /// Bytes of memory held, both directions.
    pub(super) const fn memory(&self) -> usize {
        self.to_upstream.memory() + self.to_client.memory()
    }
}

/// Whether all that had arrived for this writer is out, or never will be.
const fn is_flushed(pipe: &Pipe, writer: &Writer) -> bool {
    writer.is_at_rest() && (pipe.is_empty() || writer.fault().is_some())
}
