//! What a connection of HTTP/1.1 is doing.
//!
//! The states of an exchange that waits for something:
//!
//! ```text
//!                  result in the store               end of the body
//!   LookingUp ──────────┬─────────► Responding ──────────────────────┐
//!                       │ all of the response is in memory           ▼
//!                       └──────────────────────────────────────────► end
//!                         end of the body, error before a response   ▲ ▲
//!   Forwarding ──────────────────────────────────────────────────────┘ │
//!     │    │ 101                                 connection closed     │
//!     │    └───────► Upgraded ─────────────────────────────────────────┤
//!     │ broken off                                                     │
//!     └─► Truncated ───────────────────────────────────────────────────┘
//! ```
//!
//! The record of an exchange stays on the stack unless the exchange has to wait. If the connection
//! ends first, [`Exchange::abort`] gives up what the exchange holds elsewhere.

use std::rc::Rc;

use super::body_discard::BodyDiscard;
use super::truncated_response::TruncatedResponse;
use crate::http::BodyWriter;
use crate::http::request::HeadLimits;
use crate::session::http::conn::linger::Linger;
use crate::session::http::conn::upgraded::Upgraded;
use crate::session::http::exchange::Record;
use crate::session::http::handler::Forward;
use crate::session::http::response_body::ResponseBody;
use crate::session::http::router::Route;
use crate::session::http::stream::h1::StreamState;
use crate::session::{CloseReason, Context};
use crate::tcp::CloseKind;
use crate::upstream::Release;
use crate::upstream::group::HealthVerdict;

#[derive(Debug)]
pub(super) enum State {
    /// Waits for a request head, or for the rest of one.
    Head,
    /// The head is complete, and its exchange waits for something.
    Exchange(Exchange),
    /// Reads and discards the rest of a request body.
    Discarding(BodyDiscard),
    /// Sends the outbox, then closes the sending side.
    Finishing,
    /// The FIN is sent; what the client still sends is discarded.
    Lingering(Linger),
}

/// What follows a response.
#[derive(Debug)]
pub(super) enum After {
    NextHead,
    Discard(BodyDiscard),
    End,
}

impl After {
    pub(super) fn new(keep_alive: bool, rest: Option<BodyDiscard>) -> Self {
        match rest {
            _ if !keep_alive => Self::End,
            Some(rest) => Self::Discard(rest),
            None => Self::NextHead,
        }
    }
}

/// An exchange that waits for something.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The store looks something up for the response.
    LookingUp(Box<LookUp>),
    /// Sends a body that is not entirely in memory.
    Responding(Box<Responding>),
    /// The request is forwarded to an upstream.
    Forwarding(Box<Forwarding>),
    /// The protocol was upgraded: bytes are relayed both ways.
    Upgraded(Box<Upgraded>),
    /// The response broke off: the connection closes so that the client notices it.
    Truncated(Box<TruncatedResponse>),
}

/// A request whose response waits for the store. Its head stays in the inbox.
#[derive(Debug)]
pub(super) struct LookUp {
    pub(super) record: Record,
    /// The route that was chosen. The router is not held: it may be that of an old configuration.
    pub(super) route: Rc<Route>,
    /// The limits that the head was found to be within.
    pub(super) head_limits: HeadLimits,
    /// Whether the result may be there.
    pub(super) has_come: bool,
}

/// A response of the server's own whose body is being sent.
#[derive(Debug)]
pub(super) struct Responding {
    pub(super) record: Record,
    pub(super) body: ResponseBody,
    /// The framing around the data of the body.
    pub(super) writer: BodyWriter,
    pub(super) after: After,
}

/// A request that is forwarded, and its stream.
#[derive(Debug)]
pub(super) struct Forwarding {
    pub(super) stream: StreamState,
    pub(super) forward: Forward,
}

impl Exchange {
    /// Gives up what the exchange holds outside of its connection, which is closing.
    pub(super) fn abort(&mut self, close_reason: CloseReason, cx: &mut Context<'_>) {
        let (lease, release) = match self {
            Self::Forwarding(forwarding) => {
                let is_orderly = close_reason.close_kind() == CloseKind::Fin;
                let close_kind = if is_orderly { CloseKind::Fin } else { CloseKind::Reset };
                (forwarding.forward.lease_mut(), Release::Close(close_kind))
            }
            Self::Upgraded(upgraded) => (&mut upgraded.lease, close_reason.release(cx.limits.http.send_timeout)),
            // A look-up goes on, for the cache. The upstream of a truncated response is given up
            // already.
            Self::LookingUp(_) | Self::Responding(_) | Self::Truncated(_) => return,
        };
        if !lease.is_over() {
            lease.finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        }
    }

    /// The record, to end the exchange with.
    pub(super) fn into_record(self) -> Record {
        match self {
            Self::LookingUp(look_up) => look_up.record,
            Self::Responding(responding) => responding.record,
            Self::Forwarding(forwarding) => forwarding.forward.into_parts().0,
            Self::Upgraded(upgraded) => upgraded.into_record(),
            Self::Truncated(truncated) => truncated.into_record(),
        }
    }
}
