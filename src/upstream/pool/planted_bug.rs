//! Plants one lost wake-up: a stream is not resumed, though something has happened on its
//! connection. So a test can show that this is detected.
//!
//! The plan is that of a thread: a simulated worker runs on one, beside those of other tests.

use std::cell::Cell;

/// How many wake-ups come before the lost one, if one is planned, and whether it has happened.
#[derive(Clone, Copy, Debug)]
struct Plan {
    left: Option<u32>,
    has_struck: bool,
}

impl Plan {
    const NOTHING: Self = Self { left: None, has_struck: false };
}

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::NOTHING) };
}

/// Plans to lose the wake-up after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_lost_wake_up(occasions: u32) {
    PLAN.set(Plan { left: Some(occasions), has_struck: false });
}

/// Drops the plan of this thread. Returns whether a wake-up was lost.
pub fn unplant_lost_wake_up() -> bool {
    PLAN.replace(Plan::NOTHING).has_struck
}

/// Counts a wake-up. Returns whether it is lost.
pub(super) fn strikes() -> bool {
    let Plan { left: Some(left), .. } = PLAN.get() else { return false };
    let is_now = left == 0;
    PLAN.set(Plan { left: left.checked_sub(1), has_struck: is_now });
    is_now
}
