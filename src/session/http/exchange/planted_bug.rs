//! Plants one bug in the ends of exchanges, so that a test can show that the bug is detected.
//!
//! The plan is that of a thread: a simulated worker runs on one, beside those of other tests.

use std::cell::Cell;

/// A bug that the end of an exchange could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeBug {
    /// An exchange ends twice.
    Twice,
    /// An exchange never ends, though its connection goes on or is closed.
    Never,
}

/// The planned bug, how many ends come before it, and whether it has happened.
#[derive(Clone, Copy, Debug)]
struct Plan {
    bug: Option<ExchangeBug>,
    left: u32,
    has_struck: bool,
}

impl Plan {
    const NOTHING: Self = Self { bug: None, left: 0, has_struck: false };
}

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::NOTHING) };
}

/// Plans a bug for the end after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_exchange_bug(bug: ExchangeBug, occasions: u32) {
    PLAN.set(Plan { bug: Some(bug), left: occasions, has_struck: false });
}

/// Drops the plan of this thread. Returns whether the bug has happened.
pub fn unplant_exchange_bug() -> bool {
    PLAN.replace(Plan::NOTHING).has_struck
}

/// Counts an end. Returns the bug that happens now.
pub(super) fn strikes() -> Option<ExchangeBug> {
    let Plan { bug, left, .. } = PLAN.get();
    let bug = bug?;
    if left > 0 {
        PLAN.set(Plan { bug: Some(bug), left: left - 1, has_struck: false });
        return None;
    }
    PLAN.set(Plan { bug: None, left: 0, has_struck: true });
    Some(bug)
}
