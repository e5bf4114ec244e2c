//! Joins a client to a connection to an upstream: two directions that flow, pause and end on their own.
//!
//! ```text
//!            socket                the client's connection and the upstream's
//!   Reaching ──────► Reached ──┬── client ─► to_upstream ─► upstream
//!      │ no address answers    └── client ◄─ to_client ◄─── upstream
//!      ▼
//!   unreachable: over
//! ```
//!
//! An end of input on one side is passed on to the other, and bytes go on flowing the other way
//! (half-close). A side that breaks off is told to the other as a reset, after what it had sent.

use std::rc::Rc;

use super::{Context, Ending, Slot, Task, slot};
use crate::buffer::Buffer;
use crate::config::{Limits, UpstreamAddress};
use crate::driver::{Fault, Outcome, Time};
use crate::table::Key;
use crate::tcp::{Connection, End, Manner, Pipe, Writer, relay};
use crate::upstream::{Connector, Upstream};

#[derive(Debug)]
pub(super) struct Proxy {
    session: Key,
    target: Rc<Upstream>,
    upstream: Side,
    to_upstream: Pipe,
    to_client: Pipe,
}

#[derive(Debug)]
enum Side {
    Reaching(Connector),
    Reached(Connection),
}

impl Proxy {
    pub(super) fn new(session: Key, target: Rc<Upstream>, limits: &Limits) -> Self {
        let tokens = slot::connector_tokens(session);
        let connector = Connector::new(Rc::clone(&target), tokens, limits.connect_timeout);
        Self {
            session,
            target,
            upstream: Side::Reaching(connector),
            to_upstream: Pipe::new(limits.pipe_bytes_max),
            to_client: Pipe::new(limits.pipe_bytes_max),
        }
    }

    /// Turns a connector that has succeeded into the connection it made.
    fn settle(&mut self) {
        if let Side::Reaching(connector) = &mut self.upstream
            && let Some((socket, address)) = connector.take()
        {
            tracing::debug!(%address, "upstream connected");
            self.upstream = Side::Reached(Connection::new(socket, slot::upstream_tokens(self.session)));
        }
    }
}

impl Task for Proxy {
    fn name(&self) -> &'static str {
        "tcp_proxy"
    }

    fn upstream(&self) -> Option<&UpstreamAddress> {
        Some(self.target.address())
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.to_upstream.push(buffer);
    }

    fn on_outcome(&mut self, slot: Slot, outcome: Outcome, now: Time) {
        match (&mut self.upstream, slot) {
            (Side::Reaching(connector), Slot::UpstreamResolve | Slot::UpstreamConnect) => {
                connector.on_outcome(outcome, now);
            }
            (Side::Reached(upstream), Slot::UpstreamRecv) => {
                if let Some(buffer) = upstream.reader.on_outcome(outcome) {
                    self.to_client.push(buffer);
                }
            }
            (Side::Reached(upstream), Slot::UpstreamSend) => upstream.writer.on_outcome(outcome),
            (Side::Reached(upstream), Slot::UpstreamClose) => upstream.on_closed(outcome),
            (side, slot) => {
                tracing::error!(?side, ?slot, outcome = outcome.name(), "unexpected outcome");
                debug_assert!(false, "{side:?} got {outcome:?} for {slot:?}");
            }
        }
    }

    fn pump(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<Ending> {
        if let Side::Reaching(connector) = &mut self.upstream {
            connector.pump(cx.now, cx.ops);
            if let Some(error) = connector.error() {
                return Some(Ending::UpstreamUnreachable(error));
            }
        }
        self.settle();
        let Side::Reached(upstream) = &mut self.upstream else {
            // What the client sends meanwhile is kept, within the bound, and goes out with the connection's first send.
            client.reader.want(self.to_upstream.wants_bytes(client.reader.is_receiving()), cx.ops);
            return match client.reader.end() {
                Some(End::Failed(fault)) => Some(Ending::ClientLost(fault)),
                Some(End::Eof) | None => None,
            };
        };
        if let Some(fault @ Fault::Os(libc::ECONNRESET)) = upstream.writer.fault() {
            // Had its end of input come before the reset, it would have been EPIPE.
            upstream.reader.on_reset(fault);
        }
        if upstream.writer.fault().is_some() {
            // The upstream takes nothing more, but what it has said may still be on its way.
            self.to_upstream.clear();
        }
        relay(&mut client.reader, &mut self.to_upstream, &mut upstream.writer, cx.ops);
        relay(&mut upstream.reader, &mut self.to_client, &mut client.writer, cx.ops);
        ending(client, upstream, &self.to_upstream, &self.to_client)
    }

    fn deadline(&self) -> Option<Time> {
        match &self.upstream {
            Side::Reaching(connector) => connector.deadline(),
            Side::Reached(_) => None,
        }
    }

    fn close(&mut self, manner: Manner, _client_is_closed: bool, cx: &mut Context<'_>) -> bool {
        if let Side::Reaching(connector) = &mut self.upstream {
            connector.cancel(cx.ops);
        }
        self.settle();
        match &mut self.upstream {
            Side::Reaching(connector) => connector.is_at_rest(),
            Side::Reached(upstream) => {
                upstream.close(manner, cx.ops);
                upstream.is_closed()
            }
        }
    }

    fn memory(&self) -> usize {
        self.to_upstream.memory() + self.to_client.memory()
    }
}

/// Whether, and how, the two connections have come to an end.
fn ending(client: &Connection, upstream: &Connection, to_upstream: &Pipe, to_client: &Pipe) -> Option<Ending> {
    if let Some(fault) = client.writer.fault() {
        return Some(Ending::ClientLost(fault));
    }
    if let Some(End::Failed(fault)) = client.reader.end()
        && is_flushed(to_upstream, &upstream.writer)
    {
        return Some(Ending::ClientLost(fault));
    }
    let to_client_is_over = match upstream.reader.end() {
        Some(End::Failed(fault)) if is_flushed(to_client, &client.writer) => return Some(Ending::UpstreamLost(fault)),
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

/// Whether all that had arrived for this writer is out, or never will be.
const fn is_flushed(pipe: &Pipe, writer: &Writer) -> bool {
    writer.is_at_rest() && (pipe.is_empty() || writer.fault().is_some())
}
