//! Plants one bug in the ends of exchanges, so that a test can show that the bug is detected.
//!
//! The plan is that of a thread.

use crate::planted::Plan;

/// A bug that the end of an exchange could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeBug {
    /// An exchange ends twice.
    Twice,
    /// An exchange never ends, though its connection goes on or is closed.
    Never,
}

thread_local! {
    static PLAN: Plan<ExchangeBug> = const { Plan::new() };
}

/// Plans a bug for the end after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_exchange_bug(bug: ExchangeBug, occasions: u32) {
    PLAN.with(|plan| plan.plant(bug, occasions));
}

/// Drops the plan of this thread. Returns whether the bug has happened.
pub fn unplant_exchange_bug() -> bool {
    PLAN.with(Plan::unplant)
}

/// Counts an end. Returns the bug that happens now.
pub(super) fn strikes() -> Option<ExchangeBug> {
    PLAN.with(|plan| plan.strike(|_| true))
}
