//! Plants one bug in a run, so that a test can show that it is noticed.
//!
//! It stands where outcomes leave the simulation. Without a plan it lets everything pass.

use std::sync::Arc;

use crate::buffer::{BufferId, Pool};
use crate::driver::{Completion, OpId, Outcome};

/// A bug that a driver could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// A final outcome is never delivered.
    LoseFinal,
    /// A final outcome is delivered twice.
    RepeatFinal,
    /// Two buffers that one socket received change places.
    SwapReceived,
    /// A `Recv` stops delivering, but stays in flight.
    ForgetRearm,
    /// A buffer is given back to the pool while it is leased.
    DoubleFree,
    /// A `Flush` is over though not everything has arrived: the reset after it destroys the rest.
    HastyFlush,
    /// The kernel goes on writing to a buffer that is leased.
    OverwriteLeased,
}

/// The plan and how far it is.
#[derive(Debug, Default)]
pub(super) struct BugInjector {
    plan: Option<(PlantedBug, u32)>,
    has_struck: bool,
    /// The `Recv` that delivers no more.
    pub deaf: Option<OpId>,
}

impl BugInjector {
    /// Strikes at the occasion after `occasions` others.
    pub(super) fn plan(&mut self, planted_bug: PlantedBug, occasions: u32) {
        self.plan = Some((planted_bug, occasions));
    }

    pub(super) const fn has_struck(&self) -> bool {
        self.has_struck
    }

    /// Hands an outcome on, or does its worst.
    pub(super) fn pass(&mut self, id: OpId, outcome: Outcome, done: &mut Vec<Completion>) {
        if outcome.is_final() {
            if self.strikes(PlantedBug::LoseFinal) {
                return;
            }
            if self.strikes(PlantedBug::RepeatFinal) {
                done.extend(repeat(&outcome).map(|outcome| Completion { id, outcome }));
            }
        }
        if matches!(outcome, Outcome::Received(_)) && self.strikes(PlantedBug::ForgetRearm) {
            self.deaf = Some(id);
        }
        done.push(Completion { id, outcome });
    }

    /// Called with each buffer that was leased just now.
    pub(super) fn on_lease(&mut self, pool: &Pool, id: BufferId, length: usize) {
        if self.strikes(PlantedBug::DoubleFree) {
            pool.give_back(id);
        } else if self.strikes(PlantedBug::OverwriteLeased) {
            // SAFETY: the buffer exists and is at least this long. No reference to its bytes lives
            // while the driver runs: a lease lends them out only while it is borrowed.
            unsafe { pool.address(id).as_ptr().write_bytes(b'!', length) };
        }
    }

    /// Whether this is the occasion for the planned bug.
    pub(super) fn strikes(&mut self, occasion: PlantedBug) -> bool {
        match &mut self.plan {
            Some((planted_bug, 0)) if *planted_bug == occasion => {
                self.plan = None;
                self.has_struck = true;
                true
            }
            Some((planted_bug, left)) if *planted_bug == occasion => {
                *left -= 1;
                false
            }
            Some(_) | None => false,
        }
    }
}

/// A copy of a final outcome that owns nothing.
fn repeat(outcome: &Outcome) -> Option<Outcome> {
    match outcome {
        Outcome::Eof => Some(Outcome::Eof),
        Outcome::Sent => Some(Outcome::Sent),
        Outcome::Connected(socket) => Some(Outcome::Connected(*socket)),
        Outcome::Resolved(addresses) => Some(Outcome::Resolved(addresses.clone())),
        Outcome::Root(root) => Some(Outcome::Root(Arc::clone(root))),
        Outcome::Opened(file, info) => Some(Outcome::Opened(*file, *info)),
        Outcome::Local(address) => Some(Outcome::Local(*address)),
        Outcome::Written => Some(Outcome::Written),
        Outcome::Done => Some(Outcome::Done),
        Outcome::Reset { lost } => Some(Outcome::Reset { lost: *lost }),
        Outcome::Cancelled => Some(Outcome::Cancelled),
        Outcome::Failed(fault) => Some(Outcome::Failed(*fault)),
        Outcome::Read(bytes) => Some(Outcome::Read(bytes.clone())),
        Outcome::Listed(entries) => Some(Outcome::Listed(entries.clone())),
        Outcome::Computed(bytes) => Some(Outcome::Computed(bytes.clone())),
        Outcome::Accepted { .. } | Outcome::Received(_) | Outcome::Broken(_) | Outcome::Progress(_) => None,
    }
}
