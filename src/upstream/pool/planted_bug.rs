//! Plants one lost wake-up: a stream is not resumed, though something has happened on its
//! connection. So a test can show that this is detected.
//!
//! The plan is that of a thread.

use crate::planted::Plan;

thread_local! {
    static PLAN: Plan<()> = const { Plan::new() };
}

/// Plans to lose the wake-up after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_lost_wake_up(occasions: u32) {
    PLAN.with(|plan| plan.plant((), occasions));
}

/// Drops the plan of this thread. Returns whether a wake-up was lost.
pub fn unplant_lost_wake_up() -> bool {
    PLAN.with(Plan::unplant)
}

/// Counts a wake-up. Returns whether it is lost.
pub(super) fn strikes() -> bool {
    PLAN.with(|plan| plan.strike(|()| true)).is_some()
}
