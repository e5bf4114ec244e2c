//! Failed upstream requests: the reason, the log record, and the error response to the client.
//!
//! The health of the upstream and retries are handled elsewhere.

use std::fmt;
use std::rc::Rc;

use crate::driver::{Fault, TlsFault};
use crate::http::{ErrorResponse, Status};
use crate::tcp::End;
use crate::telemetry::access_log::FailureReason;
use crate::upstream::{ConnectError, Unreachable, Upstream};

/// Logs why a client gets an error instead of an upstream's response, or a truncated response (then
/// without a status). Every such record is written here, so that the log rate limit
/// (`telemetry/log_rate_limit.rs`) counts them together. `cause`: the reason in words.
pub(super) fn report(
    upstream: Option<&Rc<Upstream>>,
    status: Option<Status>,
    reason: FailureReason,
    cause: &dyn fmt::Display,
) {
    let upstream = upstream.map(|upstream| tracing::field::display(upstream.label()));
    tracing::warn!(upstream, status = status.map(Status::code), %reason, %cause, "upstream request failed");
}

/// An upstream connection that ended too early.
pub(super) struct Lost {
    pub(super) end: End,
    /// When it ended, as the end of a sentence.
    pub(super) when: &'static str,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Eof => write!(f, "connection closed {}", self.when),
            End::Failed(fault) => write!(f, "connection lost {}: {fault}", self.when),
        }
    }
}

impl Lost {
    /// The reason. `is_body`: the response head had been complete.
    pub(super) const fn reason(&self, is_body: bool) -> FailureReason {
        match (self.end, is_body) {
            (End::Eof, false) => FailureReason::ClosedBeforeResponse,
            (End::Eof, true) => FailureReason::ClosedInResponse,
            (End::Failed(_), false) => FailureReason::ResetBeforeResponse,
            (End::Failed(_), true) => FailureReason::ResetInResponse,
        }
    }
}

/// The reason if no upstream can be connected.
pub(super) const fn reason_of(why: Unreachable) -> FailureReason {
    match why {
        Unreachable::Down => FailureReason::AllDown,
        Unreachable::QueueFull => FailureReason::QueueFull,
        Unreachable::QueueTimedOut => FailureReason::QueueTimeout,
        Unreachable::Connect(error) if error.is_shortage() => FailureReason::NoResources,
        Unreachable::Connect(ConnectError::Resolve(_)) => FailureReason::Unresolvable,
        Unreachable::Connect(ConnectError::ResolveTimedOut) => FailureReason::ResolveTimeout,
        Unreachable::Connect(ConnectError::TimedOut(_)) => FailureReason::ConnectTimeout,
        Unreachable::Connect(ConnectError::Tls { fault: TlsFault::TooSlow, .. }) => FailureReason::TlsTimeout,
        Unreachable::Connect(ConnectError::Tls { .. }) => FailureReason::TlsFailed,
        Unreachable::Connect(ConnectError::Refused { address, fault }) => match (address, fault) {
            (_, Fault::Os(libc::ECONNREFUSED)) => FailureReason::ConnectRefused,
            (None, Fault::Os(libc::ENOENT)) => FailureReason::MissingSocket,
            _ => FailureReason::ConnectFailed,
        },
    }
}

/// The error response if no upstream can be connected.
pub(super) fn error_response_of(why: Unreachable) -> ErrorResponse {
    match why {
        Unreachable::Down => ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "no upstream is up"),
        Unreachable::QueueFull | Unreachable::QueueTimedOut => {
            ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "all upstreams are busy; retry later")
        }
        Unreachable::Connect(error) if error.is_shortage() => ErrorResponse::new(
            Status::SERVICE_UNAVAILABLE,
            "out of resources for another upstream connection; retry later",
        ),
        Unreachable::Connect(ConnectError::TimedOut(_) | ConnectError::ResolveTimedOut) => {
            ErrorResponse::new(Status::GATEWAY_TIMEOUT, "no upstream accepted the connection in time")
        }
        Unreachable::Connect(ConnectError::Tls { .. }) => {
            ErrorResponse::new(Status::BAD_GATEWAY, "the TLS handshake with the upstream failed")
        }
        Unreachable::Connect(ConnectError::Refused { .. } | ConnectError::Resolve(_)) => {
            ErrorResponse::new(Status::BAD_GATEWAY, "no upstream accepted the connection")
        }
    }
}
