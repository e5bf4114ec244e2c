//! Plants one bug of a transport over TLS in a run, so that a test can show that it is detected.
//!
//! The plan is that of a thread: a simulated worker runs on one, beside those of other tests.

use std::cell::Cell;

/// A bug that a transport over TLS could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBug {
    /// An orderly end without a `close_notify`.
    NoCloseNotify,
    /// The end of a connection without `close_notify` is taken for the end of the stream.
    TruncationIsEnd,
    /// The last records of what was to be sent are dropped.
    LostRecord,
}

/// The planned bug with the number of occasions before it, and whether it has happened.
#[derive(Clone, Copy, Debug)]
struct Plan {
    next: Option<(TlsBug, u32)>,
    has_struck: bool,
}

impl Plan {
    const NOTHING: Self = Self { next: None, has_struck: false };
}

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::NOTHING) };
}

/// Plans a bug for the occasion after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_tls_bug(bug: TlsBug, occasions: u32) {
    PLAN.set(Plan { next: Some((bug, occasions)), has_struck: false });
}

/// Drops the plan of this thread. Returns whether the bug has happened.
pub fn unplant_tls_bug() -> bool {
    PLAN.replace(Plan::NOTHING).has_struck
}

/// Counts an occasion. Returns whether the bug happens now.
pub(crate) fn strikes(occasion: TlsBug) -> bool {
    let plan = PLAN.get();
    let Some((bug, left)) = plan.next.filter(|(bug, _)| *bug == occasion) else { return false };
    PLAN.set(match left.checked_sub(1) {
        Some(left) => Plan { next: Some((bug, left)), ..plan },
        None => Plan { next: None, has_struck: true },
    });
    left == 0
}
