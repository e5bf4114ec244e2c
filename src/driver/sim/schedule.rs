//! The event queue of the virtual clock.
//!
//! The seed decides the order of events that are due at the same time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::network::{Side, WireId};
use super::peers::PeerId;
use crate::driver::{File, OpId, Socket, Time};
use crate::table::Key;

/// A reason to check an object. A spurious event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A peer may continue.
    Peer(PeerId),
    /// A socket may have something to receive.
    Recv(Key<Socket>),
    /// A socket may have buffer space to send.
    Send(Key<Socket>),
    /// A listener may have connections.
    Accept(Key<Socket>),
    /// An operation that is neither a subscription nor a transfer ends.
    Finish(OpId),
    /// A cancel takes effect.
    Cancel(OpId),
    /// A pause takes effect.
    Pause(OpId),
    /// The peer at this end resets the connection.
    Reset(WireId, Side),
    /// A file becomes shorter.
    Truncate(Key<File>),
}

#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Time,
    /// A random number, then the sequence number, so that the order is total.
    tie: (u64, u64),
    event: Event,
}

impl Schedule {
    pub(super) fn add(&mut self, at: Time, tie: u64, event: Event) {
        self.sequence += 1;
        self.entries.push(Reverse(Entry { at, tie: (tie, self.sequence), event }));
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.entries.pop().map(|Reverse(entry)| entry.event)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
