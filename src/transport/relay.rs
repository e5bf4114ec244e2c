//! Relays bytes from one transport to another, or back to where they came from.
//!
//! Both sides of most tunnels are plain. [`Pair`] asks once what they are, and what follows is
//! compiled for plain connections, and for all others. The two sides need not be of one kind: a stream
//! on a connection of many can be a [`Side`] as well.

use super::Transport;
use crate::buffer::Chain;
use crate::driver::{Fault, Ops};
use crate::tcp::{Connection, End, Pipe};

/// A client and an upstream between which bytes are relayed.
#[derive(Debug)]
pub enum Pair<'a> {
    /// Both are plain.
    Plain(&'a mut Connection, &'a mut Connection),
    /// At least one is encrypted.
    Encrypted(&'a mut Transport, &'a mut Transport),
}

impl<'a> Pair<'a> {
    /// Asks what the two are.
    #[inline]
    pub const fn of(client: &'a mut Transport, upstream: &'a mut Transport) -> Self {
        match (client, upstream) {
            (Transport::Plain(client), Transport::Plain(upstream)) => Self::Plain(client, upstream),
            (client, upstream) => Self::Encrypted(client, upstream),
        }
    }
}

/// What a relay needs of each side. The methods are those of [`Transport`]. [`Side::sent_bytes`] has to
/// grow while the peer takes bytes, since progress is measured by it.
pub trait Side {
    fn input_end(&self) -> Option<End>;
    fn is_receiving(&self) -> bool;
    fn set_receiving(&mut self, wanted: bool, ops: &mut Ops);
    fn can_send(&self) -> bool;
    fn send(&mut self, chain: Chain, ops: &mut Ops);
    fn shutdown(&mut self, ops: &mut Ops);
    fn is_shut_down(&self) -> bool;
    fn is_sending_at_rest(&self) -> bool;
    fn sent_bytes(&self) -> u64;
    fn send_fault(&self) -> Option<Fault>;
    fn receive_fault(&self) -> Option<Fault>;
    fn is_broken(&self) -> bool;
}

impl Side for Connection {
    fn input_end(&self) -> Option<End> {
        self.reader.end()
    }

    fn is_receiving(&self) -> bool {
        self.reader.is_receiving()
    }

    fn set_receiving(&mut self, wanted: bool, ops: &mut Ops) {
        self.reader.want(wanted, ops);
    }

    fn can_send(&self) -> bool {
        self.writer.is_idle()
    }

    fn send(&mut self, chain: Chain, ops: &mut Ops) {
        self.writer.send(chain, ops);
    }

    fn shutdown(&mut self, ops: &mut Ops) {
        self.writer.finish(ops);
    }

    fn is_shut_down(&self) -> bool {
        self.writer.is_finished()
    }

    fn is_sending_at_rest(&self) -> bool {
        self.writer.is_at_rest()
    }

    fn sent_bytes(&self) -> u64 {
        self.writer.sent_bytes()
    }

    fn send_fault(&self) -> Option<Fault> {
        self.writer.fault()
    }

    fn receive_fault(&self) -> Option<Fault> {
        self.reader.fault()
    }

    fn is_broken(&self) -> bool {
        self.writer.has_failed() || self.reader.is_broken()
    }
}

impl Side for Transport {
    fn input_end(&self) -> Option<End> {
        self.input_end()
    }

    fn is_receiving(&self) -> bool {
        self.is_receiving()
    }

    fn set_receiving(&mut self, wanted: bool, ops: &mut Ops) {
        self.set_receiving(wanted, ops);
    }

    fn can_send(&self) -> bool {
        self.can_send()
    }

    fn send(&mut self, chain: Chain, ops: &mut Ops) {
        self.send(chain, ops);
    }

    fn shutdown(&mut self, ops: &mut Ops) {
        self.shutdown(ops);
    }

    fn is_shut_down(&self) -> bool {
        self.is_shut_down()
    }

    fn is_sending_at_rest(&self) -> bool {
        self.is_sending_at_rest()
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes()
    }

    fn send_fault(&self) -> Option<Fault> {
        self.send_fault()
    }

    fn receive_fault(&self) -> Option<Fault> {
        self.receive_fault()
    }

    fn is_broken(&self) -> bool {
        self.is_broken()
    }
}

/// Moves bytes both ways between a client and an upstream: sends what is queued, forwards the ends of
/// input, and pauses or resumes each side so that its pipe holds at most about `memory_max` bytes.
/// Idempotent; part of a session's pump.
#[inline]
pub fn relay<C: Side, U: Side>(
    (client, to_client): (&mut C, &mut Pipe),
    (upstream, to_upstream): (&mut U, &mut Pipe),
    memory_max: usize,
    ops: &mut Ops,
) {
    drain(to_upstream, upstream, client.input_end(), ops);
    fill(to_upstream, client, memory_max, ops);
    drain(to_client, client, upstream.input_end(), ops);
    fill(to_client, upstream, memory_max, ops);
}

/// Moves bytes back to the peer that they came from, as [`relay`] does.
pub fn relay_back(peer: &mut Transport, pipe: &mut Pipe, memory_max: usize, ops: &mut Ops) {
    let end = peer.input_end();
    drain(pipe, peer, end, ops);
    fill(pipe, peer, memory_max, ops);
}

/// Sends what is queued, and after all of it the end of input.
#[inline]
fn drain(pipe: &mut Pipe, sink: &mut impl Side, source_end: Option<End>, ops: &mut Ops) {
    if sink.can_send() {
        pipe.on_sent();
        if !pipe.is_empty() {
            sink.send(pipe.take(), ops);
        } else if source_end == Some(End::Eof) {
            sink.shutdown(ops);
        }
    }
}

/// Receives while the pipe has room.
#[inline]
fn fill(pipe: &Pipe, source: &mut impl Side, memory_max: usize, ops: &mut Ops) {
    source.set_receiving(pipe.wants_bytes(source.is_receiving(), memory_max), ops);
}
