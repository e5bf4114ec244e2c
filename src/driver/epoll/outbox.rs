//! The queue of outcomes, and the location of each operation in flight.
//!
//! One type holds both because of guarantee 1: an operation is forgotten at the moment its final
//! outcome is queued.

use crate::driver::offload::TaskHandle;
use crate::driver::outcome::hand_out;
use crate::driver::{Completion, OpId, Outcome, Socket};
use crate::table::Key;

/// Where an operation in flight is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// In the receiving direction of this socket.
    Input(Key<Socket>),
    /// In the sending direction of this socket.
    Output(Key<Socket>),
    /// On another thread, or in the queue for one.
    Offloaded(TaskHandle),
    /// Among the connects that wait because the server's backlog is full.
    UnixConnectRetry,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    completions: Vec<Completion>,
    /// By [`OpId::index`], which is dense.
    in_flight: Vec<Option<(OpId, Location)>>,
}

impl Outbox {
    /// Records where an operation is kept until [`Outbox::finish`].
    pub(super) fn enter(&mut self, id: OpId, location: Location) {
        if self.in_flight.len() <= id.index() {
            self.in_flight.resize(id.index() + 1, None);
        }
        debug_assert!(self.in_flight[id.index()].is_none(), "operation {id} starts twice");
        self.in_flight[id.index()] = Some((id, location));
    }

    /// Where an operation is kept; `None` if it has ended, or completed at once.
    pub(super) fn location_of(&self, id: OpId) -> Option<Location> {
        match self.in_flight.get(id.index()) {
            Some(Some((owner, location))) if *owner == id => Some(*location),
            _ => None,
        }
    }

    /// Removes the location of an operation, which is about to get another one, or to end.
    pub(super) fn leave(&mut self, id: OpId) {
        debug_assert!(self.location_of(id).is_some(), "operation {id} has no location to remove");
        if let Some(entry) = self.in_flight.get_mut(id.index()) {
            *entry = None;
        }
    }

    /// Ends an operation that has a location.
    pub(super) fn finish(&mut self, id: OpId, outcome: Outcome) {
        debug_assert!(outcome.is_final() && self.location_of(id).is_some(), "operation {id} ends twice");
        self.leave(id);
        self.push(id, outcome);
    }

    /// Queues an outcome that is not final, or the final one of an operation without a location.
    pub(super) fn push(&mut self, id: OpId, outcome: Outcome) {
        debug_assert!(
            !outcome.is_final() || self.location_of(id).is_none(),
            "operation {id} ends but keeps its location"
        );
        self.completions.push(Completion { id, outcome });
    }

    /// Moves the oldest outcomes to `done`, at most `count_max`; returns how many.
    pub(super) fn hand_out(&mut self, done: &mut Vec<Completion>, count_max: usize) -> usize {
        hand_out(&mut self.completions, done, count_max)
    }

    pub(super) fn len(&self) -> usize {
        self.completions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.completions.is_empty()
    }
}
