//! A TCP connection in memory: two bounded byte streams, with TCP's behaviour when an end is closed
//! or reset.
//!
//! Bytes that one end wrote and the other has not read are first in transit, then in the other's
//! receive buffer. The moment of arrival is undetermined until something checks it. Bytes that are
//! not known to have arrived may be lost if their sender resets the connection. Bytes that have
//! arrived stay readable in any case (Linux keeps the receive queue after a reset).
//!
//! It knows its ends by name only, and does not schedule reads and writes.

use std::collections::VecDeque;

use super::peers::PeerId;
use super::rng::Rng;
use crate::driver::Socket;
use crate::table::Key;

/// Index of a connection. Connections are kept until the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WireId(pub usize);

/// One of a connection's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The end that connected.
    Caller,
    /// The end that was connected to.
    Callee,
}

/// The owner of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// None yet: the connection waits to be accepted.
    Backlog,
    /// A state machine, through this socket of the driver.
    Socket(Key<Socket>),
    /// A scripted peer.
    Peer(PeerId),
}

#[derive(Debug)]
pub(super) struct Wire {
    ends: [End; 2],
    /// An injected fault hit this connection; bytes may be missing.
    pub faulted: bool,
}

#[derive(Debug)]
struct End {
    owner: Owner,
    /// Bytes that this end wrote and the other has not read yet.
    written: VecDeque<u8>,
    /// How many of them are known to be in the other's receive buffer.
    arrived: usize,
    /// How many bytes the other has read.
    taken: usize,
    /// How many bytes were destroyed before they arrived, because the other end is closed. They are
    /// never acknowledged.
    lost: usize,
    capacity: usize,
    /// This end has ended its sending half.
    is_finished: bool,
    /// The descriptor is closed.
    is_closed: bool,
    reset: Reset,
}

/// Whether an end was reset by the other, and whether the reset was reported to it. Linux reports a
/// reset once: `ECONNRESET` to the first read or write, then end of input to reads and `EPIPE` to
/// writes. If the end of input had arrived before the reset, reads and writes get these two from
/// the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    No,
    Pending,
    Reported,
    AfterEnd,
}

/// What a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// Nothing yet.
    Nothing,
    /// This many bytes, at least one.
    Bytes(usize),
    /// The end of input.
    Eof,
    /// The connection is reset.
    Reset,
}

/// What a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writable {
    /// Buffer space for this many bytes, which may be zero.
    Room(usize),
    /// The connection is reset, and this write is the first to report it.
    Reset,
    /// No reader: the write fails with `EPIPE`.
    Broken,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

impl Wire {
    pub(super) fn new(caller: Owner, callee: Owner, capacity: usize) -> Self {
        let end = |owner| End {
            owner,
            written: VecDeque::new(),
            arrived: 0,
            taken: 0,
            lost: 0,
            capacity,
            is_finished: false,
            is_closed: false,
            reset: Reset::No,
        };
        Self { ends: [end(caller), end(callee)], faulted: false }
    }

    pub(super) const fn owner(&self, side: Side) -> Owner {
        self.end(side).owner
    }

    /// Accepts the connection.
    pub(super) const fn accept(&mut self, socket: Key<Socket>) {
        self.end_mut(Side::Callee).owner = Owner::Socket(socket);
    }

    pub(super) fn readable(&self, side: Side) -> Readable {
        let (own, other) = (self.end(side), self.end(side.other()));
        match own.reset {
            _ if !other.written.is_empty() => Readable::Bytes(other.written.len()),
            Reset::Pending => Readable::Reset,
            Reset::Reported | Reset::AfterEnd => Readable::Eof,
            Reset::No if other.is_finished => Readable::Eof,
            Reset::No => Readable::Nothing,
        }
    }

    /// Reads `memory.len()` bytes, which must be readable.
    pub(super) fn read(&mut self, side: Side, memory: &mut [u8]) {
        let written = &mut self.end_mut(side.other()).written;
        let (front, back) = written.as_slices();
        let from_front = front.len().min(memory.len());
        memory[..from_front].copy_from_slice(&front[..from_front]);
        let rest = memory.len() - from_front;
        memory[from_front..].copy_from_slice(&back[..rest]);
        written.drain(..memory.len());
        let other = self.end_mut(side.other());
        other.arrived = other.arrived.saturating_sub(memory.len());
        other.taken += memory.len();
    }

    /// How many bytes `side` could read.
    pub(super) fn unread_by(&self, side: Side) -> usize {
        self.end(side.other()).written.len()
    }

    /// How many bytes that `side` wrote the other end has read.
    pub(super) const fn taken_from(&self, side: Side) -> usize {
        self.end(side).taken
    }

    /// Lets some of the bytes that `side` wrote arrive, as far as the other's receive buffer has
    /// space. Returns how many.
    pub(super) fn arrive(&mut self, side: Side, rng: &mut Rng) -> usize {
        let may_arrive = self.arrivable(side);
        let count = if rng.coin() { may_arrive } else { rng.below(may_arrive as u64 + 1) as usize };
        self.end_mut(side).arrived += count;
        count
    }

    /// Whether more bytes may arrive before the other end reads.
    pub(super) fn may_arrive(&self, side: Side) -> bool {
        self.arrivable(side) > 0
    }

    /// How many more bytes fit into the other's receive buffer, which is half of the capacity.
    fn arrivable(&self, side: Side) -> usize {
        let end = self.end(side);
        let room = if self.end(side.other()).is_closed { 0 } else { end.capacity.div_ceil(2) };
        room.min(end.written.len()).saturating_sub(end.arrived)
    }

    /// Bytes that `side` wrote and that are not known to have arrived.
    pub(super) fn unacknowledged(&self, side: Side) -> usize {
        let end = self.end(side);
        end.written.len() - end.arrived + end.lost
    }

    pub(super) fn writable(&self, side: Side) -> Writable {
        let (own, other) = (self.end(side), self.end(side.other()));
        match own.reset {
            Reset::Pending => Writable::Reset,
            Reset::Reported | Reset::AfterEnd => Writable::Broken,
            Reset::No if own.is_finished => Writable::Broken,
            // The kernel takes the bytes; the peer replies with a reset.
            Reset::No if other.is_closed => Writable::Room(own.capacity),
            Reset::No => Writable::Room(own.capacity.saturating_sub(own.written.len())),
        }
    }

    /// Writes bytes, for which there is buffer space. Returns true if the other end is closed: the
    /// connection is then reset.
    pub(super) fn write(&mut self, side: Side, bytes: &[u8], rng: &mut Rng) -> bool {
        if self.end(side.other()).is_closed {
            self.end_mut(side).lost += bytes.len();
            self.break_off(side.other(), true, rng);
            return true;
        }
        self.end_mut(side).written.extend(bytes);
        false
    }

    /// Destroys the last byte that `side` wrote, if the other end has not read it.
    pub(super) fn drop_last(&mut self, side: Side) {
        let end = self.end_mut(side);
        end.written.pop_back();
        end.arrived = end.arrived.min(end.written.len());
    }

    /// Ends the sending half of `side`.
    pub(super) const fn finish(&mut self, side: Side) {
        self.end_mut(side).is_finished = true;
    }

    /// The connection's error that was not reported to `side` yet (`SO_ERROR`).
    pub(super) const fn error(&self, side: Side) -> Option<i32> {
        match self.end(side).reset {
            Reset::Pending => Some(libc::ECONNRESET),
            // The end of input had arrived before the reset.
            Reset::AfterEnd => Some(libc::EPIPE),
            Reset::No | Reset::Reported => None,
        }
    }

    /// Records that the reset was reported to `side`.
    pub(super) fn report_reset(&mut self, side: Side) {
        if self.end(side).reset == Reset::Pending {
            self.end_mut(side).reset = Reset::Reported;
        }
    }

    /// Closes the descriptor at `side`. If it had unread bytes, the other end sees a reset instead
    /// of an end (RFC 2525, 2.17). `reset` forces a reset.
    pub(super) fn close(&mut self, side: Side, reset: bool, rng: &mut Rng) {
        let other = self.end_mut(side.other());
        let unread = std::mem::take(&mut other.written);
        other.lost += unread.len() - std::mem::take(&mut other.arrived);
        let own = self.end_mut(side);
        let had_finished = own.is_finished;
        own.is_closed = true;
        own.is_finished = true;
        if (reset || !unread.is_empty()) && own.reset == Reset::No {
            self.break_off(side, had_finished, rng);
        }
    }

    /// `side` resets the other end. That destroys bytes in transit: all, none, or some of the last.
    /// Bytes that have arrived stay. If bytes are lost, the end of input that followed them is lost
    /// too.
    fn break_off(&mut self, side: Side, had_finished: bool, rng: &mut Rng) {
        let end = self.end_mut(side);
        let before = end.written.len();
        let on_its_way = before - end.arrived;
        let kept = match rng.below(3) {
            0 => on_its_way,
            1 => 0,
            _ => rng.below(on_its_way as u64 + 1) as usize,
        };
        end.written.truncate(end.arrived + kept);
        end.arrived = end.written.len();
        let is_end_there = had_finished && end.written.len() == before;
        self.end_mut(side.other()).reset = if is_end_there { Reset::AfterEnd } else { Reset::Pending };
    }

    pub(super) const fn is_closed(&self, side: Side) -> bool {
        self.end(side).is_closed
    }

    /// Whether `side` has been reset by the other.
    pub(super) fn is_reset(&self, side: Side) -> bool {
        self.end(side).reset != Reset::No
    }

    const fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    const fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> (Wire, Rng) {
        (Wire::new(Owner::Backlog, Owner::Backlog, 8), Rng::new(0))
    }

    #[test]
    fn bytes_come_out_in_order_and_room_is_bounded() {
        let (mut wire, mut rng) = wire();
        wire.write(Side::Caller, b"12345678", &mut rng);
        assert_eq!(wire.writable(Side::Caller), Writable::Room(0));
        let mut memory = [0; 5];
        wire.read(Side::Callee, &mut memory);
        wire.write(Side::Caller, b"9abc", &mut rng);
        wire.finish(Side::Caller);
        assert_eq!((&memory, wire.readable(Side::Callee)), (b"12345", Readable::Bytes(7)));
        let mut memory = [0; 7];
        wire.read(Side::Callee, &mut memory);
        assert_eq!((&memory, wire.readable(Side::Callee)), (b"6789abc", Readable::Eof));
    }

    #[test]
    fn a_reset_destroys_what_was_on_its_way_and_nothing_that_has_arrived() {
        let mut least = usize::MAX;
        for seed in 0..50 {
            let (mut wire, mut rng) = (Wire::new(Owner::Backlog, Owner::Backlog, 8), Rng::new(seed));
            wire.write(Side::Caller, b"12345678", &mut rng);
            while wire.may_arrive(Side::Caller) {
                wire.arrive(Side::Caller, &mut rng);
            }
            assert_eq!(wire.unacknowledged(Side::Caller), 4, "the other end does not read");
            wire.close(Side::Caller, true, &mut rng);
            let Readable::Bytes(left) = wire.readable(Side::Callee) else { panic!("all of it is gone") };
            least = least.min(left);
            let mut memory = vec![0; left];
            wire.read(Side::Callee, &mut memory);
            assert_eq!((&memory[..], wire.readable(Side::Callee)), (&b"12345678"[..left], Readable::Reset));
        }
        assert_eq!(least, 4);
    }

    #[test]
    fn what_a_closed_end_did_not_receive_is_never_acknowledged() {
        let (mut wire, mut rng) = wire();
        wire.write(Side::Caller, b"12345678", &mut rng);
        while wire.may_arrive(Side::Caller) {
            wire.arrive(Side::Caller, &mut rng);
        }
        wire.close(Side::Callee, true, &mut rng);
        assert_eq!((wire.unacknowledged(Side::Caller), wire.may_arrive(Side::Caller)), (4, false));
        let (mut wire, mut rng) = self::wire();
        wire.close(Side::Callee, false, &mut rng);
        wire.write(Side::Caller, b"late", &mut rng);
        assert_eq!(wire.unacknowledged(Side::Caller), 4);
    }

    #[test]
    fn closing_with_bytes_unread_resets_the_other_end_which_hears_of_it_once() {
        let (mut wire, mut rng) = wire();
        wire.write(Side::Caller, b"unread", &mut rng);
        wire.close(Side::Callee, false, &mut rng);
        assert_eq!((wire.readable(Side::Caller), wire.writable(Side::Caller)), (Readable::Reset, Writable::Reset));
        wire.report_reset(Side::Caller);
        assert_eq!((wire.readable(Side::Caller), wire.writable(Side::Caller)), (Readable::Eof, Writable::Broken));
    }

    #[test]
    fn writing_to_a_closed_end_succeeds_once_and_comes_back_as_a_reset() {
        let (mut wire, mut rng) = wire();
        wire.close(Side::Callee, false, &mut rng);
        assert_eq!(wire.readable(Side::Caller), Readable::Eof);
        assert!(wire.write(Side::Caller, b"late", &mut rng));
        assert!(wire.is_reset(Side::Caller));
        assert_eq!((wire.readable(Side::Caller), wire.writable(Side::Caller)), (Readable::Eof, Writable::Broken));
    }
}
