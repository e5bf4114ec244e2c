//! A response that broke off: what there is of it is sent, and then the client is shown that there is no more.

use super::forward::Forward;
use super::{Http, LINGER, LINGER_MAX, State, Step};
use crate::buffer::Chain;
use crate::driver::{Fault, Time};
use crate::session::{CloseReason, Context};
use crate::tcp::Connection;

/// A response that broke off.
#[derive(Debug)]
pub(super) struct TruncatedResponse {
    close_reason: CloseReason,
    /// The response's framing shows it: what there is of it is sent, and the connection ended in order. Otherwise the end
    /// would be that of the response, and only a reset shows it.
    is_framed: bool,
    /// How long the client may go on sending, once it was told of the end, and how long at most.
    linger: Option<(Time, Time)>,
    /// With the line of the access log, to be finished.
    pub(super) forward: Option<Box<Forward>>,
}

impl TruncatedResponse {
    /// Of a response that was being passed on.
    pub(super) fn of(close_reason: CloseReason, forward: Box<Forward>) -> Self {
        Self { close_reason, is_framed: forward.shows_truncation(), linger: None, forward: Some(forward) }
    }

    /// Whether the client was told of the end in order.
    pub(super) const fn is_end_signalled(&self) -> bool {
        self.linger.is_some()
    }

    /// When the client has had long enough to end its side, too.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.linger.map(|(until, _)| until)
    }

    /// How the connection ends, once it does.
    pub(super) fn close_reason(&self, client: &Connection, now: Time) -> Option<CloseReason> {
        match self.linger {
            None if self.is_framed => None,
            Some((until, _)) if client.reader.end().is_none() && now < until => None,
            Some(_) | None => Some(self.close_reason),
        }
    }
}

impl Http {
    /// Sends what there is of a response that broke off, and tells the client that there is no more.
    pub(super) fn end_truncated(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Step {
        let State::Truncated(truncated) = &mut self.state else { return Step::Again };
        if !truncated.is_framed {
            return Step::Wait;
        }
        let has_sent = !self.inbox.is_empty();
        self.inbox.clear();
        match &mut truncated.linger {
            Some((until, latest)) if has_sent => *until = (cx.now + LINGER).min(*latest),
            None if client.writer.is_finished() => truncated.linger = Some((cx.now + LINGER, cx.now + LINGER_MAX)),
            None if client.writer.lacks_file() => client.writer.finish(cx.ops),
            None if self.outbox.is_empty() && client.writer.is_idle() => client.writer.finish(cx.ops),
            Some(_) | None => {}
        }
        Step::Wait
    }

    /// The file that was being sent has become shorter than its response has promised.
    pub(super) fn lose_file(&mut self, fault: Fault, client: &Connection, cx: &Context<'_>) {
        if !matches!(self.state, State::Truncated(_)) {
            self.record_end(client, cx);
            self.outbox = Chain::new();
            let close_reason = CloseReason::FileLost(fault);
            self.state = State::Truncated(Box::new(TruncatedResponse {
                close_reason,
                is_framed: true,
                linger: None,
                forward: None,
            }));
        }
    }
}
