//! Truncated responses: sends the rest, then closes so that the client detects the truncation.

use super::state::{Exchange, State};
use super::{Http, Step};
use crate::buffer::Chain;
use crate::driver::{Fault, Time};
use crate::session::http::conn::linger::Linger;
use crate::session::http::exchange::Record;
use crate::session::{CloseReason, Context};
use crate::transport::Transport;

/// The end of a truncated response.
#[derive(Debug)]
pub(super) struct TruncatedResponse {
    close_reason: CloseReason,
    /// The framing shows the truncation: the rest of the data is sent, then a FIN. Otherwise the
    /// FIN would mark the end of the response, so the connection is reset.
    is_framed: bool,
    /// After the FIN.
    linger: Option<Linger>,
    record: Record,
}

impl TruncatedResponse {
    /// A response was truncated. `is_framed`: the client can detect it.
    pub(super) const fn new(close_reason: CloseReason, is_framed: bool, record: Record) -> Self {
        Self { close_reason, is_framed, linger: None, record }
    }

    /// The record, to end the exchange with.
    pub(super) fn into_record(self) -> Record {
        self.record
    }

    /// Whether the FIN is sent.
    pub(super) const fn is_end_signalled(&self) -> bool {
        self.linger.is_some()
    }

    /// When the lingering ends.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.linger.map(|linger| linger.deadline())
    }

    /// The close reason, once the connection ends.
    pub(super) fn close_reason(&self, client: &Transport, now: Time) -> Option<CloseReason> {
        match self.linger {
            None if self.is_framed => None,
            Some(linger) if !linger.is_over(client, now) => None,
            Some(_) | None => Some(self.close_reason),
        }
    }
}

impl Http {
    /// Sends the data of a truncated response that is left, then closes the sending side.
    pub(super) fn end_truncated(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Step {
        let State::Exchange(Exchange::Truncated(truncated)) = &mut self.state else { return Step::Again };
        if !truncated.is_framed {
            return Step::Wait;
        }
        let has_sent = !self.inbox.is_empty();
        self.inbox.clear();
        match &mut truncated.linger {
            Some(linger) if has_sent => linger.go_on(cx.now),
            None if client.is_shut_down() => truncated.linger = Some(Linger::begin(cx.now)),
            None if client.lacks_file() => client.shutdown(cx.ops),
            None if self.outbox.is_empty() && client.can_send() => client.shutdown(cx.ops),
            Some(_) | None => {}
        }
        Step::Wait
    }

    /// The file became shorter than the announced length while it was being sent.
    pub(super) fn lose_file(&mut self, fault: Fault) {
        if let State::Exchange(Exchange::Responding(_)) = self.state
            && let Some(record) = self.take_record()
        {
            self.outbox = Chain::new();
            let truncated = TruncatedResponse::new(CloseReason::FileLost(fault), true, record);
            self.state = State::Exchange(Exchange::Truncated(Box::new(truncated)));
        }
    }
}
