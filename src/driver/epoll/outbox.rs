//! Outcomes on their way out, and where each operation in flight is to be found.
//!
//! The two are one thing because promise 1 ties them: an operation is forgotten in the moment
//! its final outcome is written down.

use std::collections::VecDeque;

use crate::driver::offload::TaskHandle;
use crate::driver::{Completion, OpId, Outcome};
use crate::table::Key;

/// Where an operation in flight lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// In the receiving direction of this socket.
    Input(Key),
    /// In the sending direction of this socket.
    Output(Key),
    /// On another thread, or in the queue for one.
    Offloaded(TaskHandle),
    /// Among the connects that wait for room in a backlog.
    UnixConnectRetry,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    completions: VecDeque<Completion>,
    /// By [`OpId::index`], which is dense.
    in_flight: Vec<Option<(OpId, Location)>>,
}

impl Outbox {
    /// Notes where an operation lives until [`Outbox::finish`].
    pub(super) fn enter(&mut self, id: OpId, location: Location) {
        if self.in_flight.len() <= id.index() {
            self.in_flight.resize(id.index() + 1, None);
        }
        debug_assert!(self.in_flight[id.index()].is_none(), "operation {id} starts twice");
        self.in_flight[id.index()] = Some((id, location));
    }

    /// Where an operation lives; `None` if it has ended, or never needed a place.
    pub(super) fn location_of(&self, id: OpId) -> Option<Location> {
        match self.in_flight.get(id.index()) {
            Some(Some((owner, location))) if *owner == id => Some(*location),
            _ => None,
        }
    }

    /// Forgets the place of an operation that is about to get another one, or to end.
    pub(super) fn leave(&mut self, id: OpId) {
        debug_assert!(self.location_of(id).is_some(), "operation {id} has no place to leave");
        if let Some(entry) = self.in_flight.get_mut(id.index()) {
            *entry = None;
        }
    }

    /// Ends an operation that has a place.
    pub(super) fn finish(&mut self, id: OpId, outcome: Outcome) {
        debug_assert!(outcome.is_final() && self.location_of(id).is_some(), "operation {id} ends twice");
        self.leave(id);
        self.push(id, outcome);
    }

    /// Adds an outcome that is not final, or the final one of an operation that never had a place.
    pub(super) fn push(&mut self, id: OpId, outcome: Outcome) {
        debug_assert!(!outcome.is_final() || self.location_of(id).is_none(), "operation {id} ends but keeps its place");
        self.completions.push_back(Completion { id, outcome });
    }

    /// Moves the oldest outcomes to `done`, at most `count_max`; returns how many.
    pub(super) fn hand_out(&mut self, done: &mut Vec<Completion>, count_max: usize) -> usize {
        let count = self.completions.len().min(count_max);
        done.extend(self.completions.drain(..count));
        count
    }

    pub(super) fn len(&self) -> usize {
        self.completions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.completions.is_empty()
    }
}
