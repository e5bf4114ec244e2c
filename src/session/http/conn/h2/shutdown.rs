//! How a connection ends: in two steps when the server leaves, so that no request is lost (RFC 9113,
//! 6.8), and at once after an error.

use super::Conn;
use super::stream::StreamEnd;
use crate::buffer::Inbox;
use crate::driver::Time;
use crate::http::h2::{ConnectionError, ErrorCode, StreamId, frame};
use crate::session::http::conn::linger::Linger;
#[cfg(feature = "internals")]
use crate::session::http::stream::planted_bug::{self, Http2Bug};
use crate::session::{CloseReason, Context, Limits};
use crate::transport::Transport;

/// The payload of the PING whose answer says that the client has seen the first GOAWAY.
const DRAIN_PING: [u8; 8] = *b"draining";

/// How far the end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Life {
    /// Requests are accepted.
    Open,
    /// The client knows that it should begin no further stream; those on their way are accepted.
    Announced {
        since: Time,
        /// The client has answered the PING behind the GOAWAY.
        is_seen: bool,
    },
    /// The client knows which stream is the last; it is over when no stream is left.
    Draining,
    /// Nothing more is read. The outbox is sent, then the FIN.
    Finishing(CloseReason),
    /// The FIN is sent; what the client still sends is discarded.
    Lingering(Linger, CloseReason),
}

impl Life {
    /// Whether frames are read.
    pub(super) const fn reads(&self) -> bool {
        matches!(self, Self::Open | Self::Announced { .. } | Self::Draining)
    }

    /// Whether streams may begin.
    pub(super) const fn accepts(&self) -> bool {
        matches!(self, Self::Open | Self::Announced { .. })
    }

    /// When the next step is due.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Time> {
        match self {
            Self::Announced { since, .. } => Some(*since + limits.http.drain_idle_timeout),
            Self::Open | Self::Draining | Self::Finishing(_) | Self::Lingering(..) => None,
        }
    }
}

impl Conn {
    /// Begins to leave: the client gets GOAWAY, and a PING whose answer shows that it has seen it.
    pub(super) fn announce(&mut self, now: Time) {
        if self.life == Life::Open {
            self.push_go_away(StreamId::MAX, ErrorCode::NO_ERROR, "");
            self.flow.outbox.append(&frame::ping(false, DRAIN_PING));
            self.life = Life::Announced { since: now, is_seen: false };
        }
    }

    /// Notes the answer to a PING.
    pub(super) fn on_ping_ack(&mut self, payload: [u8; 8]) {
        if let Life::Announced { is_seen, .. } = &mut self.life
            && payload == DRAIN_PING
        {
            *is_seen = true;
        }
    }

    /// Leaves at once, in order.
    pub(super) fn leave(&mut self, close_reason: CloseReason) {
        if self.life.reads() {
            self.push_go_away(self.last_accepted, ErrorCode::NO_ERROR, "");
            self.finish(close_reason);
        }
    }

    /// Sends what is in the outbox, and then the FIN.
    pub(super) fn finish(&mut self, close_reason: CloseReason) {
        if self.life.reads() {
            self.life = Life::Finishing(close_reason);
        }
    }

    /// Ends the connection after an error of the client.
    #[cold]
    pub(super) fn fail(&mut self, error: ConnectionError, cx: &mut Context<'_>) {
        tracing::debug!(%error, "HTTP/2 connection error");
        let close_reason = CloseReason::Http2(error.code);
        while !self.streams.is_empty() {
            self.end_stream(self.streams.len() - 1, StreamEnd::CutOff(None), close_reason, cx);
        }
        let code = error.code;
        #[cfg(feature = "internals")]
        let code = if planted_bug::strikes(Http2Bug::WrongEnd) { ErrorCode::NO_ERROR } else { code };
        self.push_go_away(self.last_accepted, code, error.reason);
        #[cfg(feature = "internals")]
        if planted_bug::strikes(Http2Bug::GoesOn) {
            return;
        }
        self.finish(close_reason);
    }

    fn push_go_away(&mut self, last_stream: StreamId, code: ErrorCode, debug: &'static str) {
        #[cfg(feature = "internals")]
        let last_stream = match last_stream {
            StreamId::MAX | StreamId::CONNECTION => last_stream,
            _ if planted_bug::strikes(Http2Bug::EarlyGoAway) => StreamId::new(last_stream.get().saturating_sub(2)),
            _ => last_stream,
        };
        let mut frame = Vec::with_capacity(64);
        frame::push_go_away(&mut frame, last_stream, code, debug);
        self.flow.outbox.append(&frame);
    }

    /// Goes on with the end of the connection, as far as it does not depend on what is being sent.
    pub(super) fn advance_life(&mut self, client: &Transport, cx: &Context<'_>) {
        if self.draining_since.is_some() {
            self.announce(cx.now);
        }
        if let Life::Announced { since, is_seen } = self.life
            && (is_seen || since + cx.limits.http.drain_idle_timeout <= cx.now)
        {
            self.push_go_away(self.last_accepted, ErrorCode::NO_ERROR, "");
            self.life = Life::Draining;
        }
        let is_leaving = self.life == Life::Draining || self.is_client_leaving;
        if is_leaving && self.streams.is_empty() && client.can_send() && self.open_block.is_none() {
            self.finish(CloseReason::Done);
        }
    }

    /// Sends the FIN once everything is sent, and lingers. `Some`: the connection is over.
    pub(super) fn finish_life(
        &mut self,
        client: &mut Transport,
        inbox: &mut Inbox,
        cx: &mut Context<'_>,
    ) -> Option<CloseReason> {
        if let Life::Finishing(close_reason) = self.life {
            if self.flow.outbox.is_empty() && client.can_send() {
                client.shutdown(cx.ops);
            }
            if client.is_shut_down() {
                self.life = Life::Lingering(Linger::begin(cx.now), close_reason);
            }
        }
        if let Life::Lingering(linger, close_reason) = &mut self.life {
            if !inbox.is_empty() {
                inbox.clear();
                linger.go_on(cx.now);
            }
            return linger.is_over(client, cx.now).then_some(*close_reason);
        }
        None
    }
}
