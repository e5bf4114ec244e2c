//! What a forwarded request waits for, and what its connection has to do next.

use crate::http::ErrorResponse;
use crate::session::CloseReason;

/// The side that has to act, and whose timeout runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The client has to send more: everything it has sent so far is forwarded.
    Client,
    /// The upstream has to read the request, or to respond.
    Upstream,
    /// Something else: the connect, or the client reading the response.
    Other,
}

/// What the connection has to do next.
#[derive(Debug)]
pub(crate) enum ForwardStep {
    /// Wait for an outcome or a timeout.
    Wait,
    /// The whole response is with the client's stream.
    Over,
    /// There is no response, and nothing of one was sent to the client.
    Error(ErrorResponse),
    /// The response broke off.
    Truncated(CloseReason),
    /// The protocol was switched (101).
    Upgraded,
}
