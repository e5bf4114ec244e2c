//! The simulated peers: scripted clients, and servers that state machines connect to.
//!
//! A peer reads at every step of its script, unless the script or an injected fault stops it. It
//! keeps what it sent and received, so that the test can check it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Sim;
use super::converse::{Converse, Move};
use super::layer::{Cut, Layer, LayerInput, Layered};
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
    /// The connection ended, but not the stream of its [`Layer`].
    Truncated,
    /// The other end's layer reported an error.
    Alerted,
    /// Its layer could not decrypt what arrived.
    Garbled,
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
    pub(super) layered: Option<Layered>,
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
            layered: None,
        }
    }

    /// The same peer over a layer.
    pub(super) fn over(self, layer: Option<Box<dyn Layer>>) -> Self {
        Self { layered: layer.map(Layered::new), ..self }
    }

    /// The address that the accepting side sees.
    pub const fn name(&self) -> driver::Peer {
        self.name
    }

    /// All bytes that it received, in order: plaintext.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Bytes that it received and that its partner in a conversation has not taken.
    pub fn unheard_bytes(&self) -> usize {
        self.received.len() - self.heard
    }

    /// All bytes that it sent, in order: plaintext. Some may not have arrived.
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Whether it saw the end of input, and no reset before it. Over a layer, the end of its stream.
    pub const fn saw_eof(&self) -> bool {
        self.saw_eof
    }

    /// How its connection ended, if it has.
    pub const fn end(&self) -> Option<PeerEnd> {
        self.end
    }

    /// Whether it will do nothing more on its own: it has ended, never reads again, or waits for
    /// input in a [`Step::Converse`] that is owed nothing, or for steps.
    pub fn is_done(&self) -> bool {
        let is_waiting = match self.steps.front() {
            Some(Step::Converse(partner)) => !partner.is_owed(),
            Some(step) => matches!(step, Step::AwaitSteps),
            None => false,
        };
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
            // The stream of its layer has ended before.
            (Readable::Reset, _) if self.saw_eof && self.layered.is_some() => {}
            (Readable::Reset, _) => return false,
            (_, Reading::Never | Reading::StoppedUntil(_)) => {}
            (Readable::Eof, Reading::Eager | Reading::Slow { .. }) if self.layered.is_some() && !self.saw_eof => {
                self.finish(PeerEnd::Truncated);
            }
            (Readable::Eof, Reading::Eager | Reading::Slow { .. }) => self.saw_eof = true,
            (Readable::Bytes(count), Reading::Eager) => {
                self.take(wire, side, count);
                stirred.other = true;
                return self.end.is_some() || self.read(wire, side, now, stirred);
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
        if let Some(layered) = &mut self.layered {
            let mut bytes = vec![0; count];
            wire.read(side, &mut bytes);
            layered.layer.hear(&bytes, &mut self.received);
            match layered.layer.input() {
                LayerInput::Open => {}
                LayerInput::Ended => self.saw_eof = true,
                LayerInput::Failed(end) => self.finish(end),
            }
            return;
        }
        let start = self.received.len();
        self.received.resize(start + count, 0);
        wire.read(side, &mut self.received[start..]);
    }

    /// Continues the script as far as possible.
    fn act(&mut self, wire: &mut Wire, side: Side, now: Time, rng: &mut Rng, stirred: &mut Stirred) {
        // Each round either ends a step or returns.
        loop {
            let is_flushed = self.flush(wire, side, rng, stirred);
            if self.end.is_some() {
                return;
            }
            let Some(step) = self.steps.front_mut() else {
                return self.close_in_order(wire, side, rng, stirred);
            };
            if !is_flushed && step.needs_output() {
                return;
            }
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
                    if !self.say_end(wire, side, rng, stirred) {
                        return;
                    }
                    if self.layered.as_ref().is_none_or(|layered| !layered.layer.stays_open()) {
                        wire.finish(side);
                    }
                    stirred.other = true;
                    true
                }
                Step::Reset => return self.close(wire, side, true, rng, stirred),
                Step::Close => return self.close_in_order(wire, side, rng, stirred),
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
        if self.layered.is_some() {
            return self.send_layered(bytes, wire, side, rng, stirred);
        }
        let count = match wire.writable(side) {
            Writable::Room(room) => room.min(bytes.len()),
            Writable::Reset | Writable::Broken => {
                self.hear_of_reset(wire, side);
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

    /// A write has shown that the connection is reset.
    fn hear_of_reset(&mut self, wire: &mut Wire, side: Side) {
        // What has arrived before the reset can still be read (tcp(7)), also by one that had stopped
        // reading for a while.
        if let (Readable::Bytes(count), false) = (wire.readable(side), self.reading == Reading::Never) {
            self.take(wire, side, count);
        }
        self.finish(PeerEnd::WasReset);
    }

    /// Encrypts and sends as much as the buffer takes. Returns the number of bytes.
    fn send_layered(
        &mut self,
        bytes: &[u8],
        wire: &mut Wire,
        side: Side,
        rng: &mut Rng,
        stirred: &mut Stirred,
    ) -> usize {
        let mut count = 0;
        while self.flush(wire, side, rng, stirred)
            && count < bytes.len()
            && let Some(layered) = &mut self.layered
        {
            let said = layered.layer.say(&bytes[count..], rng);
            if said == 0 {
                break;
            }
            self.sent.extend_from_slice(&bytes[count..count + said]);
            count += said;
        }
        count
    }

    /// Writes the output of the layer. Returns whether nothing is left of it.
    fn flush(&mut self, wire: &mut Wire, side: Side, rng: &mut Rng, stirred: &mut Stirred) -> bool {
        while let Some(layered) = &mut self.layered
            && !layered.is_over
        {
            let cut = layered.layer.cut();
            let left = cut.map_or(usize::MAX, |(at, _)| at.saturating_sub(layered.written));
            if let (0, Some((_, cut))) = (left, cut) {
                self.cut_off(cut, wire, side, rng, stirred);
                return false;
            }
            let output = layered.layer.output();
            if output.is_empty() {
                layered.is_over = layered.has_ended;
                break;
            }
            match wire.writable(side) {
                Writable::Room(0) => return false,
                Writable::Room(room) => {
                    let count = room.min(output.len()).min(left);
                    let bytes: Vec<u8> = output.drain(..count).collect();
                    layered.written += count;
                    stirred.bounced |= wire.write(side, &bytes, rng);
                    stirred.other = true;
                }
                Writable::Reset | Writable::Broken => {
                    self.hear_of_reset(wire, side);
                    return false;
                }
            }
        }
        true
    }

    fn cut_off(&mut self, cut: Cut, wire: &mut Wire, side: Side, rng: &mut Rng, stirred: &mut Stirred) {
        match cut {
            Cut::Reset => self.close(wire, side, true, rng, stirred),
            Cut::Close => {
                self.finish(PeerEnd::BrokeOff);
                self.close(wire, side, false, rng, stirred);
            }
            Cut::Silence => self.reading = Reading::Never,
        }
    }

    /// Ends the stream of the layer, if there is one. False: it cannot yet.
    fn say_end(&mut self, wire: &mut Wire, side: Side, rng: &mut Rng, stirred: &mut Stirred) -> bool {
        if let Some(layered) = &mut self.layered {
            layered.has_ended = layered.has_ended || layered.layer.end();
            if !layered.has_ended {
                return false;
            }
        }
        self.flush(wire, side, rng, stirred)
    }

    /// Closes, after the end of the layer's stream if that has begun.
    fn close_in_order(&mut self, wire: &mut Wire, side: Side, rng: &mut Rng, stirred: &mut Stirred) {
        let is_open = self.layered.as_ref().is_some_and(|layered| !layered.layer.is_opening());
        if !is_open || self.say_end(wire, side, rng, stirred) {
            self.close(wire, side, false, rng, stirred);
        }
    }

    fn close(&mut self, wire: &mut Wire, side: Side, reset: bool, rng: &mut Rng, stirred: &mut Stirred) {
        wire.close(side, reset, rng);
        stirred.other = true;
        let breaks_off = self.layered.as_ref().is_some_and(|layered| !layered.layer.ends_in_order());
        self.finish(if reset || breaks_off { PeerEnd::BrokeOff } else { PeerEnd::Closed });
    }
}

impl Step {
    /// Whether it has to wait until what its peer's layer has to send is sent.
    const fn needs_output(&self) -> bool {
        match self {
            Self::Send(_)
            | Self::SendSlowly { .. }
            | Self::Echo
            | Self::Converse(_)
            | Self::Flush
            | Self::ShutdownWrite => true,
            Self::Expect(_)
            | Self::ReadUntilEof
            | Self::Stall(_)
            | Self::StopReading(_)
            | Self::AwaitSteps
            | Self::Reset
            | Self::Close => false,
        }
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
        if peer.end.is_some_and(PeerEnd::is_by_the_other) {
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
    /// Whether the peer closes because of what came from the other end.
    const fn is_by_the_other(self) -> bool {
        matches!(self, Self::WasReset | Self::Truncated | Self::Alerted | Self::Garbled)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::BrokeOff => "broke off",
            Self::WasReset => "was reset",
            Self::Refused => "refused",
            Self::Truncated => "truncated",
            Self::Alerted => "alerted",
            Self::Garbled => "garbled",
        }
    }
}
