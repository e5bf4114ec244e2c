//! The timeouts of a client: each phase of a connection has its own.

use std::time::Duration;

use crate::driver::Time;
use crate::session::HttpLimits;
use crate::telemetry::metrics::TimeoutKind;

/// The current phase of a connection, and the time of its start or last progress.
#[derive(Debug)]
pub(super) struct ClientDeadlines {
    phase: ClientPhase,
    since: Time,
    /// The bytes that count as progress: bytes received in an upload, otherwise bytes sent.
    moved: u64,
    window: Window,
}

/// The interval over which the transfer rate is averaged: as long as the timeout of the phase.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Time,
    /// Bytes moved by then.
    moved: u64,
}

/// A minimum rate.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Bytes per second.
    rate: u64,
    /// The interval over which it is averaged.
    window: Duration,
}

impl Pace {
    /// Bytes that must move in the window.
    fn bytes_min(self) -> u64 {
        u64::try_from(u128::from(self.rate) * self.window.as_millis() / 1000).unwrap_or(u64::MAX)
    }
}

/// What the client has to do now, and so which timeout applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientPhase {
    /// Begin its first request.
    First,
    /// Begin another request.
    Idle,
    /// Complete a request head.
    Head,
    /// Send a body that is discarded: the timeout is for the whole body, whatever the progress.
    Body,
    /// Send a body that is forwarded: the timeout is for each piece.
    Upload,
    /// The same, while what it has sent is being forwarded: the timeout is suspended.
    Relay,
    /// Read a response.
    Response,
    /// Nothing: the server has to act. Between pieces of a response the timeout is suspended.
    Server,
}

impl ClientPhase {
    /// What the client has not done if the time of this phase is over.
    pub(super) const fn timeout(self) -> TimeoutKind {
        match self {
            Self::First => TimeoutKind::First,
            Self::Idle => TimeoutKind::Idle,
            Self::Head => TimeoutKind::Head,
            Self::Body => TimeoutKind::Body,
            Self::Upload | Self::Relay => TimeoutKind::Upload,
            // While the server has to act, no time runs.
            Self::Response | Self::Server => TimeoutKind::Response,
        }
    }

    /// Whether the client has to send, so that received bytes are its progress.
    pub(super) const fn is_upload(self) -> bool {
        matches!(self, Self::Upload | Self::Relay)
    }

    /// Whether both phases belong to the same transfer, so that one rate window spans both.
    const fn is_paced_with(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Upload | Self::Relay, Self::Upload | Self::Relay)
                | (Self::Response | Self::Server, Self::Response | Self::Server)
        )
    }
}

impl ClientDeadlines {
    /// The deadlines of a connection that begins at `now`.
    pub(super) const fn new(now: Time) -> Self {
        Self { phase: ClientPhase::First, since: now, moved: 0, window: Window { since: now, moved: 0 } }
    }

    /// Notes the current phase. A change of phase and progress restart its timeout. `moved`: what
    /// counts as progress, bytes received in an upload ([`ClientPhase::is_upload`]), otherwise bytes
    /// sent.
    pub(super) fn tick(&mut self, phase: ClientPhase, moved: u64, limits: &HttpLimits, now: Time) {
        // The timeout of the first head runs from the start of the connection, whether or not bytes
        // arrive.
        let is_same = phase == self.phase || (self.phase == ClientPhase::First && phase == ClientPhase::Head);
        let is_same_window = is_same || phase.is_paced_with(self.phase);
        if matches!(self.phase, ClientPhase::Relay | ClientPhase::Server) {
            // The time since the last tick does not count against the client: the window moves
            // along.
            self.window.since = self.window.since + now.since(self.since);
            self.since = now;
        }
        if !is_same || moved != self.moved {
            self.since = now;
        }
        (self.phase, self.moved) = (phase, moved);
        let is_over = || match self.pace(limits) {
            Some(pace) => now >= self.window.since + pace.window && moved - self.window.moved >= pace.bytes_min(),
            None => false,
        };
        if !is_same_window || is_over() {
            self.window = Window { since: now, moved };
        }
    }

    /// The minimum rate of the current phase; `None` if it has none.
    fn pace(&self, limits: &HttpLimits) -> Option<Pace> {
        let (rate, window) = match self.phase {
            ClientPhase::Response => (limits.send_rate_min, limits.send_timeout),
            ClientPhase::Upload => (limits.upload_rate_min, limits.body_timeout),
            ClientPhase::First
            | ClientPhase::Idle
            | ClientPhase::Head
            | ClientPhase::Body
            | ClientPhase::Relay
            | ClientPhase::Server => return None,
        };
        (rate > 0 && !window.is_zero()).then_some(Pace { rate, window })
    }

    /// The deadline of the current phase. `draining_since`: when the server began to stop, if it
    /// has.
    ///
    /// A client may be sending its next request at the moment of a stop, so idle connections stay
    /// open for `drain_idle_timeout`: a request in that time gets a response, as the connection's
    /// last. Browsers connect in advance, and such connections must not delay the stop either.
    pub(super) fn limit(&self, limits: &HttpLimits, draining_since: Option<Time>) -> Option<Time> {
        let at_stop = || draining_since.and_then(|since| after(since.max(self.since), limits.drain_idle_timeout));
        let paced = || self.pace(limits).map(|pace| self.window.since + pace.window);
        let (allowed, other) = match self.phase {
            ClientPhase::First => (limits.head_timeout, at_stop()),
            ClientPhase::Idle => (limits.keep_alive_timeout, at_stop()),
            ClientPhase::Head => (limits.head_timeout, None),
            ClientPhase::Body => (limits.body_timeout, None),
            ClientPhase::Upload => (limits.body_timeout, paced()),
            ClientPhase::Response => (limits.send_timeout, paced()),
            ClientPhase::Relay | ClientPhase::Server => return None,
        };
        Time::earliest(after(self.since, allowed), other)
    }

    /// When the request head began that is not complete yet; on a new connection, when that began.
    /// `None`: the head came in one piece.
    pub(super) fn head_since(&self) -> Option<Time> {
        (self.phase == ClientPhase::Head).then_some(self.since)
    }

    /// The current phase.
    pub(super) const fn phase(&self) -> ClientPhase {
        self.phase
    }
}

/// The end of a timeout; zero: no limit.
fn after(since: Time, allowed: Duration) -> Option<Time> {
    (!allowed.is_zero()).then(|| since + allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> HttpLimits {
        HttpLimits {
            send_timeout: Duration::from_secs(10),
            send_rate_min: 100,
            body_timeout: Duration::from_secs(10),
            upload_rate_min: 100,
            ..HttpLimits::default()
        }
    }

    /// The seconds until the timeout of a client that moves `bytes_of(second)` bytes each second,
    /// at most 1000.
    fn lasts(phase: ClientPhase, limits: &HttpLimits, bytes_of: impl Fn(u64) -> u64) -> u64 {
        let mut deadlines = ClientDeadlines::new(Time::ZERO);
        deadlines.tick(phase, 0, limits, Time::ZERO);
        let mut moved = 0;
        for second in 1..1000 {
            moved += bytes_of(second);
            let now = Time::ZERO + Duration::from_secs(second);
            deadlines.tick(phase, moved, limits, now);
            if deadlines.limit(limits, None).is_some_and(|limit| limit <= now) {
                return second;
            }
        }
        1000
    }

    #[test]
    fn a_client_that_moves_too_little_is_too_slow_however_steadily() {
        for phase in [ClientPhase::Response, ClientPhase::Upload] {
            assert_eq!(lasts(phase, &limits(), |_| 0), 10);
            assert_eq!(lasts(phase, &limits(), |_| 99), 10);
            assert_eq!(lasts(phase, &limits(), |_| 100), 1000);
            // In bursts: the average counts.
            assert_eq!(lasts(phase, &limits(), |second| if second % 5 == 0 { 500 } else { 0 }), 1000);
            // Fast, then slow: the first window does not make up for the second.
            assert_eq!(lasts(phase, &limits(), |second| if second <= 10 { 1000 } else { 1 }), 20);
        }
    }

    /// A forwarded body, and a response in pieces: the minimum rate applies only to the client's
    /// own time.
    #[test]
    fn a_client_s_time_stands_still_while_it_waits_for_us() {
        for (own_phase, other) in
            [(ClientPhase::Upload, ClientPhase::Relay), (ClientPhase::Response, ClientPhase::Server)]
        {
            let (limits, mut deadlines) = (limits(), ClientDeadlines::new(Time::ZERO));
            let (mut now, mut moved, mut own) = (Time::ZERO, 0, 0);
            loop {
                deadlines.tick(own_phase, moved, &limits, now);
                assert!(deadlines.limit(&limits, None).is_some_and(|limit| now < limit), "{own}");
                (now, own, moved) = (now + Duration::from_secs(1), own + 1, moved + 1);
                if deadlines.limit(&limits, None).is_some_and(|limit| limit <= now) {
                    break;
                }
                deadlines.tick(other, moved, &limits, now);
                assert_eq!(deadlines.limit(&limits, None), None);
                now = now + Duration::from_secs(100);
            }
            assert_eq!(own, 10, "{own_phase:?}: one byte a second is too slow");
        }
    }

    #[test]
    fn without_a_rate_only_silence_is_too_slow() {
        let limits = HttpLimits { send_rate_min: 0, upload_rate_min: 0, ..limits() };
        for phase in [ClientPhase::Response, ClientPhase::Upload] {
            assert_eq!(lasts(phase, &limits, |_| 1), 1000);
            assert_eq!(lasts(phase, &limits, |second| u64::from(second < 20)), 29);
        }
    }

    #[test]
    fn nobody_is_to_move_anything_while_we_are_waited_for() {
        for phase in [ClientPhase::Server, ClientPhase::Idle, ClientPhase::Head] {
            let limits = HttpLimits { head_timeout: Duration::ZERO, keep_alive_timeout: Duration::ZERO, ..limits() };
            assert_eq!(lasts(phase, &limits, |_| 0), 1000);
        }
    }
}
