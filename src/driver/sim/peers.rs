//! The simulated peers: scripted clients, and servers that state machines connect to.
//!
//! A peer reads at every step of its script, unless the script or an injected fault stops it. It
//! keeps what it sent and received, so that the test can check it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Sim;
use super::converse::{Converse, Move};
use super::network::{Readable, Side, Wire, WireId, Writable};
use super::rng::Rng;
use super::schedule::Event;
use crate::driver::{self, Time};

/// Identifies a peer of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(pub(super) usize);

/// One step of a peer's script. After its last step a peer closes its connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends bytes as fast as the connection takes them.
    Send(Vec<u8>),
    /// Sends bytes in pieces with pauses between them.
    SendSlowly {
        /// The bytes.
        bytes: Vec<u8>,
        /// Size of a piece in bytes; at least one.
        piece_bytes: usize,
        /// Pause after each piece.
        every: Duration,
    },
    /// Waits until it has received this many bytes in total, or the end of input.
    Expect(usize),
    /// Waits for the end of input.
    ReadUntilEof,
    /// Sends back all bytes that it receives, until the end of input.
    Echo,
    /// Follows a protocol with the other side, until the end of input.
    Converse(Box<dyn Converse>),
    /// Waits for this long; it still reads.
    Stall(Duration),
    /// Stops reading for this long (`None`: forever) while the script continues.
    StopReading(Option<Duration>),
    /// Waits until all that it sent has arrived, and is no longer lost by a reset.
    Flush,
    /// Waits for the steps of the next [`Sim::instruct`].
    AwaitSteps,
    /// Ends its sending half.
    ShutdownWrite,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
}

/// What happens to a connection to an upstream address.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// It is accepted, and the server follows these steps.
    Serve(Vec<Step>),
    /// It is refused.
    Refuse,
    /// No response, until the kernel's connect timeout.
    Vanish,
}

impl Behaviour {
    /// Sends back all bytes that it receives, then closes.
    pub fn echo() -> Self {
        Self::Serve(vec![Step::Echo])
    }

    /// Sends these bytes at once and ends its sending half; reads to the end.
    pub fn greet(bytes: Vec<u8>) -> Self {
        Self::Serve(vec![Step::Send(bytes), Step::ShutdownWrite, Step::ReadUntilEof])
    }

    /// Reads to the end, then sends these bytes.
    pub fn respond(bytes: Vec<u8>) -> Self {
        Self::Serve(vec![Step::ReadUntilEof, Step::Send(bytes)])
    }

    /// Resets the connection once it has received this many bytes.
    pub fn die_after(bytes: usize) -> Self {
        Self::Serve(vec![Step::Expect(bytes), Step::Reset])
    }

    /// The kernel takes the connection, but the server never accepts it.
    pub fn never_accept() -> Self {
        Self::Serve(vec![Step::StopReading(None), Step::ReadUntilEof])
    }
}

/// How a peer's connection ended, as the peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// It finished its script and closed.
    Closed,
    /// It reset the connection.
    BrokeOff,
    /// The other end reset the connection.
    WasReset,
    /// No listener at the address.
    Refused,
}

/// A peer, with what it sent and received.
#[derive(Debug)]
pub struct Peer {
    pub(super) name: driver::Peer,
    pub(super) wire: Option<(WireId, Side)>,
    pub(super) is_due: bool,
    /// When it is already scheduled to run.
    timer: Option<Time>,
    steps: VecDeque<Step>,
    /// Progress of the current step: bytes sent, or 1 if a stall has begun.
    progress: usize,
    wake_at: Time,
    reading: Reading,
    received: Vec<u8>,
    /// How many of the received bytes a [`Converse`] has consumed.
    heard: usize,
    sent: Vec<u8>,
    saw_eof: bool,
    end: Option<PeerEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Eager,
    Slow { piece_bytes: usize, every: Duration, next_at: Time },
    StoppedUntil(Time),
    Never,
}

/// What a peer's turn changed.
#[derive(Default)]
struct Stirred {
    /// The other end may have something to do.
    other: bool,
    /// When the peer wants to run again.
    wake_at: Option<Time>,
    /// It wrote to a closed end: a reset follows soon.
    bounced: bool,
}

impl Peer {
    pub(super) fn new(name: driver::Peer, steps: Vec<Step>, reading: Reading) -> Self {
        Self {
            name,
            wire: None,
            is_due: false,
            timer: None,
            steps: steps.into(),
            progress: 0,
            wake_at: Time::ZERO,
            reading,
            received: Vec::new(),
            heard: 0,
            sent: Vec::new(),
            saw_eof: false,
            end: None,
        }
    }

    /// The address that the accepting side sees.
    pub const fn name(&self) -> driver::Peer {
        self.name
    }

    /// All bytes that it received, in order.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// All bytes that it sent, in order; some may not have arrived.
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Whether it saw the end of input, and no reset before it.
    pub const fn saw_eof(&self) -> bool {
        self.saw_eof
    }

    /// How its connection ended, if it has.
    pub const fn end(&self) -> Option<PeerEnd> {
        self.end
    }

    /// Whether it will do nothing more on its own: it has ended, never reads again, or waits for
    /// input in a [`Step::Converse`] or for steps.
    pub fn is_done(&self) -> bool {
        let is_waiting = matches!(self.steps.front(), Some(Step::Converse(_) | Step::AwaitSteps));
        self.end.is_some() || self.reading == Reading::Never || is_waiting
    }

    pub(super) fn finish(&mut self, end: PeerEnd) {
        self.end.get_or_insert(end);
    }

    /// Reads what is available, as its reading mode allows. False if the connection was reset.
    fn read(&mut self, wire: &mut Wire, side: Side, now: Time, stirred: &mut Stirred) -> bool {
        if let Reading::StoppedUntil(until) = self.reading {
            if now < until {
                stirred.wake(until);
                return true;
            }
            self.reading = Reading::Eager;
        }
        match (wire.readable(side), &mut self.reading) {
            (Readable::Nothing, _) => {}
            (Readable::Reset, _) => return false,
            (_, Reading::Never | Reading::StoppedUntil(_)) => {}
            (Readable::Eof, Reading::Eager | Reading::Slow { .. }) => self.saw_eof = true,
            (Readable::Bytes(count), Reading::Eager) => {
                self.take(wire, side, count);
                stirred.other = true;
                return self.read(wire, side, now, stirred);
            }
            (Readable::Bytes(count), Reading::Slow { piece_bytes, every, next_at }) => {
                if now >= *next_at {
                    let count = count.min(*piece_bytes);
                    *next_at = now + *every;
                    let next_at = *next_at;
                    self.take(wire, side, count);
                    stirred.other = true;
                    stirred.wake(next_at);
                } else {
                    stirred.wake(*next_at);
                }
            }
        }
        true
    }

    fn take(&mut self, wire: &mut Wire, side: Side, count: usize) {
        let start = self.received.len();
        self.received.resize(start + count, 0);
        wire.read(side, &mut self.received[start..]);
    }

    /// Continues the script as far as possible.
    fn act(&mut self, wire: &mut Wire, side: Side, now: Time, rng: &mut Rng, stirred: &mut Stirred) {
        // Each round either ends a step or returns.
        while self.end.is_none() {
            let Some(step) = self.steps.front_mut() else {
                return self.close(wire, side, false, rng, stirred);
            };
            let is_over = match step {
                Step::Send(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.progress += self.send(&bytes[self.progress..], wire, side, rng, stirred);
                    let is_over = self.progress == bytes.len();
                    self.steps[0] = Step::Send(bytes);
                    is_over
                }
                Step::SendSlowly { bytes, piece_bytes, every } => {
                    if now < self.wake_at {
                        stirred.wake(self.wake_at);
                        return;
                    }
                    let (start, end) = (self.progress, bytes.len().min(self.progress + *piece_bytes));
                    let (piece, is_last, wake_at) = (bytes[start..end].to_vec(), end == bytes.len(), now + *every);
                    let sent = self.send(&piece, wire, side, rng, stirred);
                    // If the buffer is full, it runs again when there is space, not after a time.
                    if sent > 0 {
                        self.progress += sent;
                        self.wake_at = wake_at;
                        stirred.wake(wake_at);
                    }
                    is_last && sent == piece.len()
                }
                Step::Echo => {
                    let (start, end) = (self.progress, self.received.len());
                    let piece = self.received[start..end].to_vec();
                    self.progress += self.send(&piece, wire, side, rng, stirred);
                    self.saw_eof && self.progress == end
                }
                Step::Converse(partner) => match partner.hear(&self.received[self.heard..], self.saw_eof, rng) {
                    Some(Move { taken, steps }) => {
                        debug_assert!(taken > 0 || !steps.is_empty(), "{partner:?} makes no progress");
                        self.heard += taken;
                        steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
                        continue;
                    }
                    None => self.saw_eof,
                },
                Step::Expect(count) => self.saw_eof || self.received.len() >= *count,
                Step::ReadUntilEof => self.saw_eof,
                Step::Stall(duration) => {
                    if self.progress == 0 {
                        self.progress = 1;
                        self.wake_at = now + *duration;
                    }
                    stirred.wake(self.wake_at);
                    now >= self.wake_at
                }
                Step::StopReading(duration) => {
                    self.reading = duration.map_or(Reading::Never, |duration| Reading::StoppedUntil(now + duration));
                    if let Reading::StoppedUntil(until) = self.reading {
                        stirred.wake(until);
                    }
                    true
                }
                Step::Flush => {
                    wire.arrive(side, rng);
                    if wire.may_arrive(side) {
                        continue;
                    }
                    wire.unacknowledged(side) == 0
                }
                Step::AwaitSteps => false,
                Step::ShutdownWrite => {
                    wire.finish(side);
                    stirred.other = true;
                    true
                }
                Step::Reset => return self.close(wire, side, true, rng, stirred),
                Step::Close => return self.close(wire, side, false, rng, stirred),
            };
            if !is_over {
                return;
            }
            self.steps.pop_front();
            self.progress = 0;
        }
    }

    /// Sends as much as the buffer takes. Returns the number of bytes.
    fn send(&mut self, bytes: &[u8], wire: &mut Wire, side: Side, rng: &mut Rng, stirred: &mut Stirred) -> usize {
        let count = match wire.writable(side) {
            Writable::Room(room) => room.min(bytes.len()),
            Writable::Reset | Writable::Broken => {
                // What has arrived before the reset can still be read (tcp(7)), also by one that had
                // stopped reading for a while.
                if let (Readable::Bytes(count), false) = (wire.readable(side), self.reading == Reading::Never) {
                    self.take(wire, side, count);
                }
                self.finish(PeerEnd::WasReset);
                0
            }
        };
        if count > 0 {
            self.sent.extend_from_slice(&bytes[..count]);
            stirred.bounced |= wire.write(side, &bytes[..count], rng);
            stirred.other = true;
        }
        count
    }

    fn close(&mut self, wire: &mut Wire, side: Side, reset: bool, rng: &mut Rng, stirred: &mut Stirred) {
        wire.close(side, reset, rng);
        stirred.other = true;
        self.finish(if reset { PeerEnd::BrokeOff } else { PeerEnd::Closed });
    }
}

impl Stirred {
    fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Sim {
    /// Adds steps at the end of a peer's script, ahead of a last [`Step::AwaitSteps`]. The peer goes on
    /// at once, as far as it can, before the next turn.
    pub fn instruct(&mut self, id: PeerId, steps: impl IntoIterator<Item = Step>) {
        let script = &mut self.peers[id.0].steps;
        let end = script.pop_back_if(|step| matches!(step, Step::AwaitSteps));
        script.extend(steps);
        script.extend(end);
        self.on_peer(id);
    }

    /// Lets a peer read all that comes, from now on, or nothing, whatever its script says.
    pub fn set_reading(&mut self, id: PeerId, reads: bool) {
        self.peers[id.0].reading = if reads { Reading::Eager } else { Reading::Never };
        self.on_peer(id);
    }

    /// Runs a peer.
    pub(super) fn on_peer(&mut self, id: PeerId) {
        let now = self.now;
        let peer = &mut self.peers[id.0];
        peer.is_due = false;
        peer.timer = peer.timer.filter(|at| *at > now);
        if peer.end.is_some() {
            return;
        }
        let Some((wire_id, side)) = peer.wire else {
            return self.connect_client(id);
        };
        let wire = &mut self.wires[wire_id.0];
        let before = (peer.received.len(), peer.sent.len());
        let mut stirred = Stirred::default();
        if peer.read(wire, side, now, &mut stirred) {
            peer.act(wire, side, now, &mut self.rng, &mut stirred);
            if stirred.bounced {
                stirred.wake(now);
            }
        } else {
            peer.finish(PeerEnd::WasReset);
        }
        if peer.end == Some(PeerEnd::WasReset) {
            wire.close(side, false, &mut self.rng);
            stirred.other = true;
        }
        let moved = (peer.received.len() - before.0, peer.sent.len() - before.1);
        if let Some(end) = peer.end {
            self.trace.world(now, end.name(), id.0 as u64, 0);
        }
        if moved != (0, 0) {
            self.trace.world(now, "peer read", id.0 as u64, moved.0 as u64);
            self.trace.world(now, "peer wrote", id.0 as u64, moved.1 as u64);
        }
        if stirred.other {
            self.notify(wire_id, side.other());
        }
        let peer = &mut self.peers[id.0];
        if let Some(at) = stirred.wake_at
            && peer.end.is_none()
            && peer.timer.is_none_or(|earlier| earlier > at)
        {
            peer.timer = Some(at);
            self.schedule_at(at, Event::Peer(id));
        }
    }
}

impl PeerEnd {
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::BrokeOff => "broke off",
            Self::WasReset => "was reset",
            Self::Refused => "refused",
        }
    }
}
