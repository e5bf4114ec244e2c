//! Relays bytes between a client and an upstream; each direction flows, pauses and ends on its own.
//!
//! An end of input on one side is forwarded to the other, and bytes continue to flow the other way
//! (half-close). If one side fails, the other is reset, but only after everything that the failed
//! side had sent was read and forwarded, as long as the receiver keeps reading.

use std::time::Duration;

use super::CloseReason;
use crate::buffer::{Chain, Chunk, Inbox};
use crate::driver::{Fault, Ops, Time};
use crate::tcp::{End, Pipe};
use crate::transport::{Pair, Side, Transport, relay};

/// The data in flight between a client and an upstream.
#[derive(Debug, Default)]
pub struct Tunnel {
    to_upstream: Pipe,
    to_client: Pipe,
    /// While one side is broken: since when the other has taken no byte, and how many bytes it had
    /// taken by then.
    stuck: Option<(Time, u64)>,
    deadline: Option<Time>,
}

/// The limits of one `pump`.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// Bytes of memory that each direction may hold.
    pub hold_max: usize,
    pub now: Time,
    /// How long one side may read nothing of what the other sent before it broke; zero: no limit.
    pub send_timeout: Duration,
}

impl Tunnel {
    pub const fn new() -> Self {
        Self { to_upstream: Pipe::new(), to_client: Pipe::new(), stuck: None, deadline: None }
    }

    /// Queues bytes for the upstream.
    pub fn push_to_upstream(&mut self, chunk: impl Into<Chunk>) {
        self.to_upstream.push(chunk);
    }

    /// Queues bytes for the upstream before all others, none of which is being sent yet.
    pub fn precede_to_upstream(&mut self, chunk: impl Into<Chunk>) {
        let queued = self.to_upstream.take();
        self.to_upstream.on_sent();
        self.to_upstream.push(chunk);
        queued.into_chunks().for_each(|chunk| self.to_upstream.push(chunk));
    }

    /// Queues bytes for the client.
    pub fn push_to_client(&mut self, chunk: impl Into<Chunk>) {
        self.to_client.push(chunk);
    }

    /// Moves what waits for the client out of receive buffers: it may wait for something that has to be
    /// received.
    pub fn settle_to_client(&mut self) {
        self.to_client.settle();
    }

    /// Takes the bytes not yet sent to the client.
    pub fn take_unsent(&mut self) -> Chain {
        self.to_client.take()
    }

    /// Receives from the client while the upstream is not connected. Up to `hold_max` bytes are
    /// kept; the first send to the upstream includes them.
    ///
    /// `leaves_buffers`: what is waited for needs receive buffers, so what is kept is moved out of them. It
    /// is the TLS handshake with the upstream, or a place at it: who has that may have to receive before
    /// leaving it.
    pub fn keep(&mut self, leaves_buffers: bool, client: &mut Transport, hold_max: usize, ops: &mut Ops) {
        if leaves_buffers {
            self.to_upstream.settle();
        }
        client.set_receiving(self.to_upstream.wants_bytes(client.is_receiving(), hold_max), ops);
    }

    /// Moves bytes both ways between two connections. `received`: from the upstream, and not in the
    /// tunnel yet. `Some`: both directions have ended.
    pub fn pump(
        &mut self,
        client: &mut Transport,
        upstream: &mut Transport,
        received: &mut Inbox,
        limits: TunnelLimits,
        ops: &mut Ops,
    ) -> Option<CloseReason> {
        match Pair::of(client, upstream) {
            Pair::Plain(client, upstream) => {
                self.push_received(received);
                self.join(client, upstream, limits, ops)
            }
            Pair::Encrypted(client, upstream) => self.pump_encrypted(client, upstream, received, limits, ops),
        }
    }

    #[cold]
    fn pump_encrypted(
        &mut self,
        client: &mut Transport,
        upstream: &mut Transport,
        received: &mut Inbox,
        limits: TunnelLimits,
        ops: &mut Ops,
    ) -> Option<CloseReason> {
        self.pump_with(client, upstream, received, limits, ops)
    }

    /// The same with a client of any kind.
    #[inline]
    pub fn pump_with<C: Side>(
        &mut self,
        client: &mut C,
        upstream: &mut Transport,
        received: &mut Inbox,
        limits: TunnelLimits,
        ops: &mut Ops,
    ) -> Option<CloseReason> {
        self.push_received(received);
        self.join(client, upstream, limits, ops)
    }

    #[inline]
    fn push_received(&mut self, received: &mut Inbox) {
        while !received.is_empty() {
            let bytes = received.bytes().len();
            self.to_client.push(received.take(bytes));
        }
    }

    #[inline]
    fn join<C: Side, U: Side>(
        &mut self,
        client: &mut C,
        upstream: &mut U,
        limits: TunnelLimits,
        ops: &mut Ops,
    ) -> Option<CloseReason> {
        let (client_fault, upstream_fault) = (fault_of(client), fault_of(upstream));
        // A broken side takes no more data, but data it has sent may still arrive.
        if client_fault.is_some() {
            self.to_client.clear();
        }
        if upstream_fault.is_some() {
            self.to_upstream.clear();
        }
        relay((client, &mut self.to_client), (upstream, &mut self.to_upstream), limits.hold_max, ops);
        let close_reason = match (client_fault, upstream_fault) {
            (Some(fault), Some(_)) => Some(CloseReason::ClientLost(fault)),
            (Some(fault), None) => {
                let is_out = client.input_end().is_some() && is_flushed(&self.to_upstream, upstream);
                is_out.then_some(CloseReason::ClientLost(fault))
            }
            (None, Some(_)) => self.close_reason_without_upstream(client, upstream),
            (None, None) => (client.is_shut_down() && upstream.is_shut_down()).then_some(CloseReason::Done),
        };
        let moved = match (client_fault, upstream_fault) {
            (Some(_), _) => Some((upstream.sent_bytes(), CloseReason::Stalled)),
            (None, Some(_)) => Some((client.sent_bytes(), CloseReason::TooSlow)),
            (None, None) => None,
        };
        close_reason.or_else(|| self.keep_time(moved, limits))
    }

    /// Whether the tunnel has ended after the upstream broke, and why.
    fn close_reason_without_upstream(&self, client: &impl Side, upstream: &impl Side) -> Option<CloseReason> {
        match upstream.input_end() {
            Some(End::Failed(fault)) => is_flushed(&self.to_client, client).then_some(CloseReason::UpstreamLost(fault)),
            // The upstream had finished sending, and then stopped reading.
            Some(End::Eof) => client.is_shut_down().then_some(CloseReason::UpstreamStoppedReading),
            None => None,
        }
    }

    /// Measures how long one side has read nothing of what the broken side had sent.
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

    /// When to pump at the latest.
    pub const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Bytes of memory held, both directions.
    pub const fn memory(&self) -> usize {
        self.to_upstream.memory() + self.to_client.memory()
    }
}

/// Why the connection is broken, if it is.
#[inline]
fn fault_of(connection: &impl Side) -> Option<Fault> {
    if connection.is_broken() { connection.send_fault().or_else(|| connection.receive_fault()) } else { None }
}

/// Whether everything for this sink is sent, or can no longer be sent.
fn is_flushed(pipe: &Pipe, sink: &impl Side) -> bool {
    sink.is_sending_at_rest() && (pipe.is_empty() || sink.send_fault().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Pool, PoolConfig, SizeClass};
    use crate::driver::{Outcome, Socket};
    use crate::session::slot;
    use crate::table::Table;

    /// A client that is not a connection.
    #[derive(Default)]
    struct Stream {
        input_end: Option<End>,
        is_receiving: bool,
        sent: Vec<u8>,
        is_shut_down: bool,
    }

    impl Side for Stream {
        fn input_end(&self) -> Option<End> {
            self.input_end
        }

        fn is_receiving(&self) -> bool {
            self.is_receiving
        }

        fn set_receiving(&mut self, wanted: bool, _: &mut Ops) {
            self.is_receiving = wanted;
        }

        fn can_send(&self) -> bool {
            !self.is_shut_down
        }

        fn send(&mut self, chain: Chain, _: &mut Ops) {
            self.sent.extend(chain.to_vec());
        }

        fn shutdown(&mut self, _: &mut Ops) {
            self.is_shut_down = true;
        }

        fn is_shut_down(&self) -> bool {
            self.is_shut_down
        }

        fn is_sending_at_rest(&self) -> bool {
            true
        }

        fn sent_bytes(&self) -> u64 {
            self.sent.len() as u64
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

    #[test]
    fn the_two_sides_need_not_be_of_one_kind() {
        let limits = TunnelLimits { hold_max: 1 << 20, now: Time::ZERO, send_timeout: Duration::ZERO };
        let socket = Socket::of_key(Table::new().insert(()));
        let mut upstream = Transport::plain(socket, slot::client_tokens(Table::new().insert(())));
        let (mut client, mut received, mut ops) = (Stream::default(), Inbox::default(), Ops::new());
        let fill = |memory: &mut [u8]| {
            memory[..4].copy_from_slice(b"down");
            Ok::<_, std::convert::Infallible>(4)
        };
        received.push(Pool::new(PoolConfig::default()).filled(SizeClass::Small, fill).unwrap().unwrap());
        let mut tunnel = Tunnel::new();
        tunnel.push_to_upstream(&b"upwards"[..]);
        assert_eq!(tunnel.pump_with(&mut client, &mut upstream, &mut received, limits, &mut ops), None);
        assert_eq!((&client.sent[..], upstream.given_bytes()), (&b"down"[..], 7));
        assert!(client.is_receiving && upstream.is_receiving() && received.is_empty());
        upstream.on_received(Outcome::Eof);
        assert_eq!(tunnel.pump_with(&mut client, &mut upstream, &mut received, limits, &mut ops), None);
        assert!(client.is_shut_down && !upstream.is_shut_down(), "the client may go on");
        upstream.on_sent(Outcome::Sent);
        client.input_end = Some(End::Eof);
        tunnel.pump_with(&mut client, &mut upstream, &mut received, limits, &mut ops);
        assert!(!upstream.can_send() && tunnel.memory() == 0, "its end is passed on");
    }
}
