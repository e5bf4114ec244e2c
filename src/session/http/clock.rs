//! How long a client may take for what it is doing: each phase of a connection has a clock of its own.

use std::time::Duration;

use crate::config::HttpLimits;
use crate::driver::Time;
use crate::tcp::Connection;

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

    /// When the phase will have taken too long. `draining_since`: when the server began to stop, if it does.
    ///
    /// A client may be sending its next request at this very moment, so a stop does not close idle connections at once: what
    /// comes a moment later is answered, as the connection's last. Browsers connect in advance, and such a connection must
    /// not hold up the stop either.
    pub(super) fn limit(&self, limits: &HttpLimits, draining_since: Option<Time>) -> Option<Time> {
        let usual = self.usual_limit(limits);
        let at_stop = match self.phase {
            Phase::First | Phase::Idle => {
                draining_since.and_then(|since| after(since.max(self.since), limits.drain_idle_timeout))
            }
            Phase::Head | Phase::Body | Phase::Upload | Phase::Answer | Phase::Ours => None,
        };
        [usual, at_stop].into_iter().flatten().min()
    }

    fn usual_limit(&self, limits: &HttpLimits) -> Option<Time> {
        let allowed = match self.phase {
            Phase::First | Phase::Head => limits.head_timeout,
            Phase::Idle => limits.keep_alive_timeout,
            Phase::Body | Phase::Upload => limits.body_timeout,
            Phase::Answer => limits.send_timeout,
            Phase::Ours => return None,
        };
        after(self.since, allowed)
    }

    /// What it is the clock of.
    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }
}

/// No time is no limit.
fn after(since: Time, allowed: Duration) -> Option<Time> {
    (!allowed.is_zero()).then(|| since + allowed)
}
