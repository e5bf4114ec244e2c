//! What a request that is being forwarded waits for, and what its connection has to do next.

use crate::http::{BodyReader, ErrorResponse};
use crate::session::CloseReason;

/// Whose time is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The client's: all that it has sent is out, and more is to come.
    Client,
    /// The upstream's: it takes what it is sent, or answers.
    Upstream,
    /// Another's: a connection comes about, or the client takes what it was sent.
    Other,
}

/// What the connection has to do next.
#[derive(Debug)]
pub(super) enum ForwardStep {
    /// Something has to happen first.
    Wait,
    /// The response is in the outbox, to its end.
    Over {
        /// Whether another request may follow.
        keep_alive: bool,
        /// What the client has not sent yet of this one.
        rest: BodyReader,
    },
    /// There is no response, and the client has seen nothing of one.
    Error(ErrorResponse),
    /// The response broke off.
    Truncated(CloseReason),
    /// Both sides speak another protocol from now on.
    Upgraded,
}
