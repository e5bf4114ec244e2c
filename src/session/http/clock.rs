//! How long a client may take for what it is doing: each phase of a connection has a clock of its own.

use std::time::Duration;

use crate::config::HttpLimits;
use crate::driver::Time;
use crate::tcp::Connection;

/// How old a connection must be for a stop to take it for one that will never ask.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Since when the connection is in its present phase, or made progress in it.
#[derive(Debug)]
pub(super) struct Clock {
    phase: Phase,
    since: Time,
    /// What counts as progress: bytes sent, of an upload bytes received.
    moved: u64,
}

/// What a connection may be too slow in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Beginning its first request.
    First,
    /// Beginning another.
    Idle,
    /// Finishing a head.
    Head,
    /// Sending a body that nobody wants: all of it, however steadily it drips.
    Body,
    /// Sending a body that is passed on: each piece of it.
    Upload,
    /// Taking an answer.
    Answer,
    /// Nothing: it waits for us.
    Ours,
}

impl Clock {
    /// Of a connection that begins now.
    pub(super) const fn new(now: Time) -> Self {
        Self { phase: Phase::First, since: now, moved: 0 }
    }

    /// Starts anew with each phase, and with progress.
    pub(super) fn tick(&mut self, phase: Phase, client: &Connection, now: Time) {
        let moved = match phase {
            Phase::Upload => client.reader.received_bytes(),
            Phase::First | Phase::Idle | Phase::Head | Phase::Body | Phase::Answer | Phase::Ours => {
                client.writer.sent_bytes()
            }
        };
        // A head's time counts from the connection's start if it is the first, whether its bytes come or not.
        let is_same = phase == self.phase || (self.phase == Phase::First && phase == Phase::Head);
        if !is_same || moved != self.moved {
            self.since = now;
        }
        (self.phase, self.moved) = (phase, moved);
    }

    /// When the phase will have taken too long.
    pub(super) fn limit(&self, limits: &HttpLimits, is_draining: bool) -> Option<Time> {
        let allowed = match self.phase {
            // Browsers connect in advance; such a connection must not hold up a stop.
            Phase::First if is_draining => FIRST_REQUEST_GRACE,
            Phase::First | Phase::Head => limits.head_timeout,
            Phase::Idle => limits.keep_alive_timeout,
            Phase::Body | Phase::Upload => limits.body_timeout,
            Phase::Answer => limits.send_timeout,
            Phase::Ours => return None,
        };
        (!allowed.is_zero()).then(|| self.since + allowed)
    }

    /// What it is the clock of.
    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }
}
