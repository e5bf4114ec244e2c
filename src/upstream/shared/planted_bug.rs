//! Plants one change of an endpoint that is not published: the other workers do not learn of it. So a
//! test can show that this is detected.
//!
//! The plan is that of a thread.

use crate::planted::Plan;

thread_local! {
    static PLAN: Plan<()> = const { Plan::new() };
}

/// Plans to keep a change secret after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_secret_change(occasions: u32) {
    PLAN.with(|plan| plan.plant((), occasions));
}

/// Drops the plan of this thread. Returns whether a change was kept secret.
pub fn unplant_secret_change() -> bool {
    PLAN.with(Plan::unplant)
}

/// Counts a change. Returns whether it is kept secret.
pub(super) fn strikes() -> bool {
    PLAN.with(|plan| plan.strike(|()| true)).is_some()
}
