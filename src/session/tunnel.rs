//! Bytes both ways between a client and an upstream: two directions that flow, pause and end on their own.
//!
//! An end of input on one side is passed on to the other, and bytes go on flowing the other way
//! (half-close). A side that breaks off is told to the other as a reset, after what it had sent: that is read to
//! its end and passed on, for as long as the other side takes it.

use std::time::Duration;

use super::CloseReason;
use crate::buffer::{Chain, Chunk, Inbox};
use crate::driver::{Fault, Ops, Time};
use crate::tcp::{Connection, End, Pipe, Reader, Writer, relay};

/// What is on its way between a client and an upstream.
#[derive(Debug)]
pub(super) struct Tunnel {
    to_upstream: Pipe,
    to_client: Pipe,
    /// Since when one side is broken and the other has not taken a byte of what it had sent, and how many it had then.
    stuck: Option<(Time, u64)>,
    deadline: Option<Time>,
}

/// Under which bounds bytes are moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelLimits {
    /// Bytes of memory that each direction may hold.
    pub(super) hold_max: usize,
    pub(super) now: Time,
    /// How long a side may take nothing of what the other sent before it broke; zero: as long as it likes.
    pub(super) send_timeout: Duration,
}

impl Tunnel {
    /// An empty one.
    pub(super) const fn new() -> Self {
        Self { to_upstream: Pipe::new(), to_client: Pipe::new(), stuck: None, deadline: None }
    }

    /// Takes bytes from the client.
    pub(super) fn push_to_upstream(&mut self, chunk: impl Into<Chunk>) {
        self.to_upstream.push(chunk);
    }

    /// Takes bytes for the client.
    pub(super) fn push_to_client(&mut self, chunk: impl Into<Chunk>) {
        self.to_client.push(chunk);
    }

    /// What waits to be sent to the client.
    pub(super) fn take_unsent(&mut self) -> Chain {
        self.to_client.take()
    }

    /// While there is no connection to the upstream: what the client sends is kept, within the bound, and goes out with
    /// the connection's first send.
    pub(super) fn keep(&self, client: &mut Reader, hold_max: usize, ops: &mut Ops) {
        client.want(self.to_upstream.wants_bytes(client.is_receiving(), hold_max), ops);
    }

    /// Moves bytes both ways. `Some`: both directions have come to an end.
    pub(super) fn pump(
        &mut self,
        client: &mut Connection,
        upstream: &mut Connection,
        received: &mut Inbox,
        limits: TunnelLimits,
        ops: &mut Ops,
    ) -> Option<CloseReason> {
        while !received.is_empty() {
            let bytes = received.bytes().len();
            self.to_client.push(received.take(bytes));
        }
        let (client_fault, upstream_fault) = (fault_of(client), fault_of(upstream));
        // Who is broken takes nothing more, but what it has said may still be on its way.
        if client_fault.is_some() {
            self.to_client.clear();
        }
        if upstream_fault.is_some() {
            self.to_upstream.clear();
        }
        relay(&mut client.reader, &mut self.to_upstream, &mut upstream.writer, limits.hold_max, ops);
        relay(&mut upstream.reader, &mut self.to_client, &mut client.writer, limits.hold_max, ops);
        let close_reason = match (client_fault, upstream_fault) {
            (Some(fault), Some(_)) => Some(CloseReason::ClientLost(fault)),
            (Some(fault), None) => {
                let is_out = client.reader.end().is_some() && is_flushed(&self.to_upstream, &upstream.writer);
                is_out.then_some(CloseReason::ClientLost(fault))
            }
            (None, Some(_)) => self.close_reason_without_upstream(client, upstream),
            (None, None) => (client.writer.is_finished() && upstream.writer.is_finished()).then_some(CloseReason::Done),
        };
        let moved = match (client_fault, upstream_fault) {
            (Some(_), _) => Some((upstream.writer.sent_bytes(), CloseReason::Stalled)),
            (None, Some(_)) => Some((client.writer.sent_bytes(), CloseReason::TooSlow)),
            (None, None) => None,
        };
        close_reason.or_else(|| self.keep_time(moved, limits))
    }

    /// Whether, and how, it has come to an end since the upstream is broken.
    fn close_reason_without_upstream(&self, client: &Connection, upstream: &Connection) -> Option<CloseReason> {
        match upstream.reader.end() {
            Some(End::Failed(fault)) => {
                is_flushed(&self.to_client, &client.writer).then_some(CloseReason::UpstreamLost(fault))
            }
            // It had said all it wanted to say, and did not want to hear the rest.
            Some(End::Eof) => client.writer.is_finished().then_some(CloseReason::UpstreamStoppedReading),
            None => None,
        }
    }

    /// Notes for how long a side has taken nothing of what the broken one had sent.
    fn keep_time(&mut self, moved: Option<(u64, CloseReason)>, limits: TunnelLimits) -> Option<CloseReason> {
        let Some((moved, close_reason)) = moved else {
            (self.stuck, self.deadline) = (None, None);
            return None;
        };
        if self.stuck.is_none_or(|(_, before)| before != moved) {
            self.stuck = Some((limits.now, moved));
        }
        let since = self.stuck.map(|(since, _)| since).filter(|_| !limits.send_timeout.is_zero());
        self.deadline = since.map(|since| since + limits.send_timeout);
        self.deadline.filter(|deadline| *deadline <= limits.now).map(|_| close_reason)
    }

    /// When it wants to be pumped for the time's sake.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Bytes of memory held, both directions.
    pub(super) const fn memory(&self) -> usize {
        self.to_upstream.memory() + self.to_client.memory()
    }
}

/// Why nothing can be sent there any more, if that is known.
fn fault_of(connection: &Connection) -> Option<Fault> {
    connection.writer.fault().or_else(|| connection.reader.fault())
}

/// Whether all that had arrived for this writer is out, or never will be.
const fn is_flushed(pipe: &Pipe, writer: &Writer) -> bool {
    writer.is_at_rest() && (pipe.is_empty() || writer.fault().is_some())
}
