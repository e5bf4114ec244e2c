//! A stream whose upstream has switched protocols: a WebSocket over HTTP/2 (RFC 8441).
//!
//! ```text
//!   DATA of the client ──► Input ──────► Tunnel ──────► upstream        while there is room in it
//!   DATA to the client ◄── Output ◄───── Tunnel ◄────── upstream        within both windows
//!        END_STREAM ◄─────────────────────────────────► end of input    each way on its own
//!        RST_STREAM ◄─────────────────────────────────► reset
//! ```
//!
//! The client's window is granted again as the tunnel takes bytes. What a connection of HTTP/1.1 has
//! after a 101 is the same, with a transport in place of the stream. Unlike there, what waits for the
//! client holds no receive buffers, since the update of a window may need one.

use crate::buffer::{Chain, Chunk};
use crate::driver::{Fault, Ops, Time};
use crate::http::h2::StreamId;
use crate::session::http::conn::upgraded::Upgraded;
use crate::session::http::exchange::Record;
use crate::session::http::handler::Forward;
use crate::session::http::stream::h2::{Flow, Input, Output};
use crate::session::{CloseReason, Context};
use crate::tcp::End;
use crate::transport::Side;
use crate::upstream::group::HealthVerdict;

/// What the tunnel of a stream holds.
#[derive(Debug)]
pub(super) struct StreamTunnel {
    upgraded: Upgraded,
    /// Whether it has room for more of the client.
    is_receiving: bool,
    /// When bytes last passed, and how many had by then.
    moved: (Time, u64),
    deadline: Option<Time>,
}

impl StreamTunnel {
    /// The tunnel of a request whose upstream has switched protocols.
    pub(super) fn new(forward: Forward, now: Time) -> Self {
        let (record, lease) = forward.into_parts();
        let upgraded = Upgraded::new(record, lease, Chain::new());
        Self { upgraded, is_receiving: true, moved: (now, 0), deadline: None }
    }

    /// Moves bytes both ways. `Some`: it is over.
    pub(super) fn pump(
        &mut self,
        id: StreamId,
        input: &mut Input,
        output: &mut Output,
        flow: &mut Flow,
        cx: &mut Context<'_>,
    ) -> Option<CloseReason> {
        let Self { upgraded: Upgraded { lease, tunnel, client_bytes, .. }, is_receiving, .. } = self;
        let limits = cx.tunnel_limits();
        loop {
            if *is_receiving {
                while let Some(bytes) = input.take(flow) {
                    *client_bytes += bytes.len() as u64;
                    tunnel.push_to_upstream(bytes);
                }
            }
            let (upstream, received) = lease.bytes(cx.upstream_pool)?;
            let mut client = StreamSide { id, input, output, flow, is_receiving };
            if let Some(close_reason) = tunnel.pump_with(&mut client, upstream, received, limits, cx.ops) {
                return Some(close_reason);
            }
            tunnel.settle_to_client();
            if !*is_receiving || input.body.is_empty() {
                break;
            }
        }
        let moved = input.received_bytes + output.given_bytes;
        self.keep_time(moved, cx)
    }

    /// Measures how long nothing has passed. The session measures that of the connection only.
    fn keep_time(&mut self, moved: u64, cx: &Context<'_>) -> Option<CloseReason> {
        if moved != self.moved.1 {
            self.moved = (cx.now, moved);
        }
        let tunnel = &self.upgraded.tunnel;
        let timeout = cx.limits.idle_timeout;
        let idle = (!timeout.is_zero()).then(|| self.moved.0 + timeout);
        self.deadline = Time::earliest(tunnel.deadline(), idle);
        let is_idle = idle.is_some_and(|idle| idle <= cx.now);
        is_idle.then_some(if tunnel.memory() > 0 { CloseReason::Stalled } else { CloseReason::Idle })
    }

    /// Gives up the upstream.
    pub(super) fn abort(&mut self, close_reason: CloseReason, cx: &mut Context<'_>) {
        let lease = &mut self.upgraded.lease;
        if !lease.is_over() {
            let release = close_reason.release(cx.limits.http.send_timeout);
            lease.finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        }
    }

    /// The record, to end the exchange with.
    pub(super) fn into_record(self) -> Record {
        self.upgraded.into_record()
    }

    /// Whether it has room for more of the client.
    pub(super) const fn is_receiving(&self) -> bool {
        self.is_receiving
    }

    /// When to pump at the latest.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Bytes of memory held, what waits to be put into frames included.
    pub(super) const fn memory(&self) -> usize {
        self.upgraded.tunnel.memory()
    }
}

/// The client's side of a tunnel. It never breaks: after an RST_STREAM there is no stream.
struct StreamSide<'c> {
    id: StreamId,
    input: &'c mut Input,
    output: &'c mut Output,
    flow: &'c mut Flow,
    is_receiving: &'c mut bool,
}

impl Side for StreamSide<'_> {
    /// The end comes after all bytes were taken.
    fn input_end(&self) -> Option<End> {
        (self.input.has_ended && self.input.body.is_empty()).then_some(End::Eof)
    }

    fn is_receiving(&self) -> bool {
        *self.is_receiving
    }

    fn set_receiving(&mut self, wanted: bool, _: &mut Ops) {
        *self.is_receiving = wanted;
    }

    fn can_send(&self) -> bool {
        self.output.takes_bytes()
    }

    fn send(&mut self, chain: Chain, _: &mut Ops) {
        // They may wait for a window, whose update needs a receive buffer.
        self.output.give_bytes(Chain::from(Chunk::owned(chain.to_vec())));
    }

    fn shutdown(&mut self, _: &mut Ops) {
        self.output.end(self.id, self.flow);
    }

    fn is_shut_down(&self) -> bool {
        self.output.is_over()
    }

    fn is_sending_at_rest(&self) -> bool {
        self.output.ready_bytes() == 0
    }

    fn sent_bytes(&self) -> u64 {
        self.output.given_bytes
    }

    fn send_fault(&self) -> Option<Fault> {
        None
    }

    fn receive_fault(&self) -> Option<Fault> {
        None
    }

    fn is_broken(&self) -> bool {
        false
    }
}
