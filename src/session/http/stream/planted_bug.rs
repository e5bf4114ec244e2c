//! Plants one bug of HTTP/2 in a run, so that a test can show that it is detected.
//!
//! The plan is that of a thread.

use crate::planted::Plan;

/// A bug that a connection of HTTP/2 could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Bug {
    /// A frame has one byte more than a window allows.
    Overrun,
    /// The client is not allowed to send what was consumed.
    LostWindowUpdate,
    /// A frame of a body goes to another stream.
    OtherStream,
    /// The last frame of a body does not say that it is.
    NoEndStream,
    /// A truncated response ends as a complete one does.
    TruncationIsEnd,
    /// A stream is not stepped after something has happened.
    Forgotten,
    /// The last stream of a GOAWAY is not the last that is processed.
    EarlyGoAway,
    /// A read of a file is not noted to be over.
    LeakedRead,
    /// What a stream has received and not passed on is not given back to the connection's window.
    LostRefund,
    /// A stream that has something to put into frames is not noted to wait for its turn.
    LostTurn,
    /// The deadline of a stream is not noted.
    LostDeadline,
    /// A window that others have used up is not lent.
    NotLent,
    /// A stream is reset with another code.
    WrongCode,
    /// A frame for a stream that has ended is not answered.
    SilentError,
    /// The last frame of a connection says that there was no error.
    WrongEnd,
    /// A connection goes on after an error.
    GoesOn,
    /// A stream more than there may be is accepted.
    Overfull,
}

thread_local! {
    static PLAN: Plan<Http2Bug> = const { Plan::new() };
}

/// Plans a bug for the occasion after `occasions` others of this thread, instead of what was planned
/// before.
pub fn plant_http2_bug(bug: Http2Bug, occasions: u32) {
    PLAN.with(|plan| plan.plant(bug, occasions));
}

/// Drops the plan of this thread. Returns whether the bug has happened.
pub fn unplant_http2_bug() -> bool {
    PLAN.with(Plan::unplant)
}

/// Counts an occasion. Returns whether the bug happens now.
pub(crate) fn strikes(occasion: Http2Bug) -> bool {
    PLAN.with(|plan| plan.strike(|bug| bug == occasion)).is_some()
}
