//! Plants one bug of a transport over TLS in a run, so that a test can show that it is detected.
//!
//! The plan is that of a thread.

use crate::planted::Plan;

/// A bug that a transport over TLS could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBug {
    /// An orderly end without a `close_notify`.
    NoCloseNotify,
    /// The end of a connection without `close_notify` is taken for the end of the stream.
    TruncationIsEnd,
    /// The last records of what was to be sent are dropped.
    LostRecord,
    /// The certificate that a client has shown is forgotten.
    LostCertificate,
    /// A connection to an upstream begins without the header that has to precede TLS.
    NoPreamble,
}

thread_local! {
    static PLAN: Plan<TlsBug> = const { Plan::new() };
}

/// Plans a bug for the occasion after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_tls_bug(bug: TlsBug, occasions: u32) {
    PLAN.with(|plan| plan.plant(bug, occasions));
}

/// Drops the plan of this thread. Returns whether the bug has happened.
pub fn unplant_tls_bug() -> bool {
    PLAN.with(Plan::unplant)
}

/// Counts an occasion. Returns whether the bug happens now.
pub(crate) fn strikes(occasion: TlsBug) -> bool {
    PLAN.with(|plan| plan.strike(|bug| bug == occasion)).is_some()
}
