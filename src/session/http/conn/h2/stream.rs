//! One request and its response on a connection of HTTP/2.
//!
//! ```text
//!                  result in the store               all of the body is in frames
//!   LookingUp ──────────┬─────────► Responding ─────────────────────────┐
//!                       └── all of it is in frames at once ─────────────┤
//!   Forwarding ─────────────────────────────────────────────────────────┼─► over
//!        └── 101 ──► Tunnel ────────────────────────────────────────────┘
//!        any ── RST_STREAM of either side, end of the connection ─────────► over
//! ```
//!
//! A request that is answered from memory at once never becomes one of these.

use std::rc::Rc;

use super::tunnel::StreamTunnel;
use crate::driver::Time;
use crate::http::h2::{ErrorCode, Priority, StoredHead, StreamId};
use crate::http::request::HeadLimits;
use crate::session::http::conn::deadlines::{ClientDeadlines, ClientPhase};
use crate::session::http::exchange::{Outcome, Record};
use crate::session::http::handler::Forward;
use crate::session::http::response_body::ResponseBody;
use crate::session::http::router::Route;
use crate::session::http::stream::h2::{Flow, Input, Output, Source};
use crate::session::{CloseReason, Context, Limits};
use crate::tcp::CloseKind;
use crate::upstream::Release;
use crate::upstream::group::HealthVerdict;

/// A stream that waits for something.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) priority: Priority,
    pub(super) stage: Stage,
    /// Something has happened since the last step, so that it is in the list of those that are ready.
    pub(super) has_news: bool,
    /// Bytes of memory that its head held when it began to wait.
    pub(super) head_bytes: usize,
    /// It was stepped without credit, and may have more to give.
    pub(super) is_held: bool,
    /// Its upstream is not received from, since memory is scarce and the client had something to take first.
    pub(super) is_paused: bool,
    pub(super) deadlines: ClientDeadlines,
}

/// What a stream waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// The store looks something up for the response.
    LookingUp(Box<LookUp>),
    /// A body is being sent.
    Responding { record: Record, body: ResponseBody },
    /// The request is forwarded to an upstream.
    Forwarding(Box<Forward>),
    /// Bytes are relayed both ways.
    Tunnel(Box<StreamTunnel>),
    /// The record is being ended.
    Over,
}

/// A request whose response waits for the store.
#[derive(Debug)]
pub(super) struct LookUp {
    pub(super) record: Record,
    /// The route that was chosen. The router is not held: it may be that of an old configuration.
    pub(super) route: Rc<Route>,
    pub(super) head: StoredHead,
    /// The limits that the head was found to be within.
    pub(super) head_limits: HeadLimits,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The whole response is in the outbox.
    Complete,
    /// It breaks off. With a code, the client gets RST_STREAM.
    CutOff(Option<ErrorCode>),
}

impl Stage {
    /// Its name, for reports.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::LookingUp(_) => "looking up",
            Self::Responding { .. } => "responding",
            Self::Forwarding(_) => "forwarding",
            Self::Tunnel(_) => "a tunnel",
            Self::Over => "over",
        }
    }
}

impl Stream {
    /// Gives up what the stream holds outside of its connection. `close_reason`: why.
    pub(super) fn abort(&mut self, close_reason: CloseReason, cx: &mut Context<'_>) {
        // A look-up goes on, for the cache.
        if let Stage::Forwarding(forward) = &mut self.stage
            && !forward.lease_mut().is_over()
        {
            let release = match close_reason.release(cx.limits.http.send_timeout) {
                // Its response is no longer needed.
                Release::FlushReset(_) => Release::Close(CloseKind::Reset),
                release => release,
            };
            forward.lease_mut().finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        }
        if let Stage::Tunnel(tunnel) = &mut self.stage {
            tunnel.abort(close_reason, cx);
        }
    }

    /// The record, to end the exchange with.
    pub(super) fn take_record(&mut self) -> Option<Record> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::LookingUp(look_up) => Some(look_up.record),
            Stage::Responding { record, .. } => Some(record),
            Stage::Forwarding(forward) => Some(forward.into_parts().0),
            Stage::Tunnel(tunnel) => Some(tunnel.into_record()),
            Stage::Over => None,
        }
    }

    /// Ends the exchange. `undelivered_bytes`: of the connection.
    pub(super) fn end_record(
        &mut self,
        end: StreamEnd,
        undelivered_bytes: u64,
        close_reason: CloseReason,
        cx: &Context<'_>,
    ) {
        let given_bytes = self.output.given_bytes;
        let Some(record) = self.take_record() else { return };
        match end {
            StreamEnd::Complete => record.end_at(given_bytes, cx),
            StreamEnd::CutOff(_) => {
                let delivered_bytes = given_bytes.saturating_sub(undelivered_bytes);
                record.end(Outcome::CutOff { delivered_bytes, close_reason }, cx);
            }
        }
    }

    /// Whether what the client sends goes to an upstream.
    pub(super) const fn wants_body(&self) -> bool {
        matches!(self.stage, Stage::Forwarding(_) | Stage::Tunnel(_))
    }

    /// Whether it would break off if the connection ended now.
    pub(super) fn is_unfinished(&self) -> bool {
        match &self.stage {
            Stage::Tunnel(tunnel) => tunnel.memory() > 0 || !self.input.body.is_empty(),
            _ => self.output.is_responding(),
        }
    }

    /// The upstream has switched protocols: what follows the heads is relayed as it is.
    pub(super) fn open_tunnel(&mut self, now: Time) {
        if let Stage::Forwarding(forward) = std::mem::replace(&mut self.stage, Stage::Over) {
            (self.is_held, self.is_paused) = (false, false);
            self.stage = Stage::Tunnel(Box::new(StreamTunnel::new(*forward, now)));
        }
    }

    /// Whether its upstream waits for more of the body, or has room for more of a tunnel, which the stream's window
    /// allows.
    pub(super) fn is_starving(&self) -> bool {
        self.waits_for_body() && self.input.window.available() > 0
    }

    /// Whether its upstream takes more than has come of the body, or of a tunnel: whether a client with a tunnel has
    /// something to say is not known, so it always may.
    pub(super) fn waits_for_body(&self) -> bool {
        let waits = match &self.stage {
            Stage::Forwarding(forward) => forward.waits_for_client(),
            Stage::Tunnel(tunnel) => tunnel.is_receiving(),
            Stage::LookingUp(_) | Stage::Responding { .. } | Stage::Over => false,
        };
        waits && self.input.body.is_empty() && !self.input.has_ended
    }

    /// Whether it has something to put into frames, if the windows allow it.
    pub(super) fn wants_turn(&self) -> bool {
        self.output.ready_bytes() > 0 || self.is_held
    }

    /// Notes what the client has to do, for its timeouts.
    pub(super) fn keep_time(&mut self, flow: &Flow, cx: &Context<'_>) {
        let phase = self.phase(flow);
        let moved = if phase.is_upload() { self.input.received_bytes } else { self.output.given_bytes };
        self.deadlines.tick(phase, moved, &cx.limits.http, cx.now);
    }

    fn phase(&self, flow: &Flow) -> ClientPhase {
        if let Stage::Tunnel(_) = self.stage {
            // Either side of a tunnel may rest; it has a timeout of its own.
            return ClientPhase::Server;
        }
        let has_more = self.wants_turn() || matches!(self.output.source, Source::File(_));
        if has_more && self.output.window_credit(flow) == 0 {
            return ClientPhase::Response;
        }
        match &self.stage {
            Stage::Forwarding(forward) if !self.input.is_done() => {
                let may_send = self.input.window.available() > 0 && flow.receive_window.available() > 0;
                if forward.waits_for_client() && self.input.body.is_empty() && may_send {
                    ClientPhase::Upload
                } else {
                    ClientPhase::Relay
                }
            }
            Stage::Forwarding(_) | Stage::Tunnel(_) | Stage::LookingUp(_) | Stage::Responding { .. } | Stage::Over => {
                ClientPhase::Server
            }
        }
    }

    /// When it has to be looked at at the latest.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Time> {
        let client = self.deadlines.limit(&limits.http, None);
        match &self.stage {
            Stage::Forwarding(forward) => Time::earliest(forward.deadline(), client),
            Stage::Tunnel(tunnel) => tunnel.deadline(),
            Stage::LookingUp(_) | Stage::Responding { .. } | Stage::Over => client,
        }
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        match &self.stage {
            // What waits to be put into frames counts as the tunnel's.
            Stage::Tunnel(tunnel) => self.input.body.memory() + tunnel.memory(),
            _ => self.input.body.memory() + self.output.memory() + self.head_memory(),
        }
    }

    /// Bytes of memory that the head of the request holds.
    pub(super) fn head_memory(&self) -> usize {
        match &self.stage {
            Stage::Forwarding(forward) => forward.memory(),
            Stage::LookingUp(look_up) => look_up.head.memory(),
            Stage::Responding { .. } | Stage::Tunnel(_) | Stage::Over => 0,
        }
    }
}
