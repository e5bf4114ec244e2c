//! Plants one bug of HTTP/2 in a run, so that a test can show that it is detected.
//!
//! The plan is that of a thread: a simulated worker runs on one, beside those of other tests.

use std::cell::Cell;

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
}

/// The planned bug with the number of occasions before it, and whether it has happened.
#[derive(Clone, Copy, Debug)]
struct Plan {
    next: Option<(Http2Bug, u32)>,
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
pub fn plant_http2_bug(bug: Http2Bug, occasions: u32) {
    PLAN.set(Plan { next: Some((bug, occasions)), has_struck: false });
}

/// Drops the plan of this thread. Returns whether the bug has happened.
pub fn unplant_http2_bug() -> bool {
    PLAN.replace(Plan::NOTHING).has_struck
}

/// Counts an occasion. Returns whether the bug happens now.
pub(crate) fn strikes(occasion: Http2Bug) -> bool {
    let plan = PLAN.get();
    let Some((bug, left)) = plan.next.filter(|(bug, _)| *bug == occasion) else { return false };
    PLAN.set(match left.checked_sub(1) {
        Some(left) => Plan { next: Some((bug, left)), ..plan },
        None => Plan { next: None, has_struck: true },
    });
    left == 0
}
