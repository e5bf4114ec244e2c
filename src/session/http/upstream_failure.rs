//! An upstream that failed a request: what the log says of it, and what the client is told.
//!
//! It does not know what follows for the upstream, nor whether another one is asked.

use std::fmt;
use std::rc::Rc;

use crate::http::{ErrorResponse, Status};
use crate::tcp::End;
use crate::upstream::{ConnectError, Unreachable, Upstream};

/// Says in the log why a client gets an error in place of an upstream's response, or only a part of that (then without a
/// status). It is the only place, so that what comes often is counted together and left out (`telemetry/log_rate_limit.rs`).
pub(super) fn report(upstream: Option<&Rc<Upstream>>, status: Option<Status>, reason: &dyn fmt::Display) {
    let upstream = upstream.map(|upstream| tracing::field::display(upstream.address()));
    tracing::warn!(upstream, status = status.map(Status::code), %reason, "upstream request failed");
}

/// How a connection to an upstream ended too early.
pub(super) struct Lost {
    pub(super) end: End,
    /// As the end of a sentence.
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

/// What a client is told when no upstream can be had.
pub(super) fn error_response_of(why: Unreachable) -> ErrorResponse {
    match why {
        Unreachable::Down => ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "no upstream is up"),
        Unreachable::QueueFull | Unreachable::QueueTimedOut => {
            ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "all upstreams are busy; try again")
        }
        Unreachable::Connect(error) if error.is_shortage() => ErrorResponse::new(
            Status::SERVICE_UNAVAILABLE,
            "there is no room for another connection to an upstream; try again",
        ),
        Unreachable::Connect(ConnectError::TimedOut(_) | ConnectError::ResolveTimedOut) => {
            ErrorResponse::new(Status::GATEWAY_TIMEOUT, "no upstream took the connection in time")
        }
        Unreachable::Connect(ConnectError::Refused { .. } | ConnectError::Resolve(_)) => {
            ErrorResponse::new(Status::BAD_GATEWAY, "no upstream took the connection")
        }
    }
}
