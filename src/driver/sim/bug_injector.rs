//! Plants one bug in a run, so that a test can show that the bug is detected.
//!
//! All outcomes leave the simulation through it. Without a plan it changes nothing.

use std::sync::Arc;

use crate::buffer::{BufferId, Pool};
use crate::driver::{Completion, OpId, Outcome};

/// A bug that a driver could have, or a transport over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// A final outcome is never delivered.
    LoseFinal,
    /// A final outcome is delivered twice.
    RepeatFinal,
    /// Two buffers that one socket received are swapped.
    SwapReceived,
    /// A `Recv` stops delivering, but stays in flight.
    ForgetRearm,
    /// A buffer is returned to the pool while it is leased.
    DoubleFree,
    /// A `Flush` ends though not everything has arrived: the reset after it destroys the rest.
    HastyFlush,
    /// The last byte is missing before an orderly end, as if it were still kept somewhere: everything
    /// was reported as sent.
    DropLastByte,
    /// The kernel keeps writing to a leased buffer.
    OverwriteLeased,
}

/// The planned bug, and whether it has happened.
#[derive(Debug, Default)]
pub(super) struct BugInjector {
    plan: Option<(PlantedBug, u32)>,
    has_struck: bool,
    /// The `Recv` that stopped delivering.
    pub deaf: Option<OpId>,
}

impl BugInjector {
    /// Plans a bug for the occasion after `occasions` others.
    pub(super) fn plan(&mut self, planted_bug: PlantedBug, occasions: u32) {
        self.plan = Some((planted_bug, occasions));
    }

    pub(super) const fn has_struck(&self) -> bool {
        self.has_struck
    }

    /// Passes an outcome on, or applies the planned bug to it.
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

    /// Called with each buffer right after it was leased.
    pub(super) fn on_lease(&mut self, pool: &Pool, id: BufferId, length: usize) {
        if self.strikes(PlantedBug::DoubleFree) {
            pool.give_back(id);
        } else if self.strikes(PlantedBug::OverwriteLeased) {
            // SAFETY: the buffer exists and is at least this long. A reference to its bytes borrows
            // the lease, and no lease is borrowed while the driver runs.
            unsafe { pool.address(id).as_ptr().write_bytes(b'!', length) };
        }
    }

    /// Counts an occasion. Returns whether the planned bug happens now.
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
        // The result of a function cannot be copied, since its type is not known here.
        Outcome::Computed(_) => None,
        Outcome::Accepted { .. } | Outcome::Received(_) | Outcome::Broken(_) | Outcome::Progress(_) => None,
    }
}
