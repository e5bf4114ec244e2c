//! How much of what costs the server more than the client is allowed: each kind of frame has a limit
//! (RFC 9113, 10.5).

use crate::driver::Time;
use crate::http::h2::{ConnectionError, ErrorCode};
use crate::session::Http2Limits;
use crate::telemetry::metrics::Http2Limit;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// RST_STREAM of the client.
    Reset,
    /// RST_STREAM of the client before a response began.
    EarlyReset,
    /// RST_STREAM for an error of the client.
    ResetEmitted,
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// DATA without data.
    EmptyData,
    /// What is useless or wrong in another way.
    Glitch,
}

/// The counts of one connection.
#[derive(Debug, Default)]
pub(super) struct Guards {
    buckets: [Bucket; 7],
    /// Bytes of frames that carry neither heads nor bodies.
    overhead_bytes: u64,
}

/// A leaky bucket: what was counted and has not been forgotten.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    level: u32,
    /// When it last leaked.
    since: Option<Time>,
}

impl Bucket {
    /// Counts one. Returns whether that is too many: more than `max`, of which `per_second` are
    /// forgotten each second.
    fn is_exceeded(&mut self, max: u32, per_second: u32, now: Time) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.since(since).as_secs();
        if seconds > 0 {
            let leaked = u64::from(per_second).saturating_mul(seconds);
            self.level = self.level.saturating_sub(u32::try_from(leaked).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        self.level = self.level.saturating_add(1);
        self.level > max
    }
}

impl Counted {
    /// The limit, as it is counted.
    pub(super) const fn exceeded(self) -> Http2Limit {
        match self {
            Self::Reset => Http2Limit::ResetsPerSecond,
            Self::EarlyReset => Http2Limit::EarlyResets,
            Self::ResetEmitted => Http2Limit::ResetsEmitted,
            Self::Ping => Http2Limit::PingsPerSecond,
            Self::Settings => Http2Limit::SettingsPerSecond,
            Self::EmptyData => Http2Limit::EmptyDataPerSecond,
            Self::Glitch => Http2Limit::GlitchesMax,
        }
    }

    /// The limit: how many, how many of them are forgotten each second, and the reason to the client.
    const fn limit(self, limits: &Http2Limits) -> (u32, u32, &'static str) {
        match self {
            Self::Reset => (limits.resets_per_second, limits.resets_per_second, "too many RST_STREAM frames"),
            Self::EarlyReset => (limits.early_resets, 1, "too many requests reset before their responses"),
            Self::ResetEmitted => (limits.resets_emitted, 5, "too many streams in error"),
            Self::Ping => (limits.pings_per_second, limits.pings_per_second, "too many PING frames"),
            Self::Settings => (limits.settings_per_second, limits.settings_per_second, "too many SETTINGS frames"),
            Self::EmptyData => (limits.empty_data_per_second, limits.empty_data_per_second, "too many empty frames"),
            Self::Glitch => (limits.glitches_max, 1, "too many frames that are useless or wrong"),
        }
    }
}

impl Guards {
    /// Counts one. An error: it is one too many.
    pub(super) fn count(&mut self, counted: Counted, limits: &Http2Limits, now: Time) -> Result<(), ConnectionError> {
        let (max, per_second, reason) = counted.limit(limits);
        if self.buckets[counted as usize].is_exceeded(max, per_second, now) { Err(calm(reason)) } else { Ok(()) }
    }

    /// Counts bytes that are neither heads nor bodies. `payload_bytes`: bytes of heads and bodies so
    /// far, both ways.
    pub(super) fn count_overhead(
        &mut self,
        bytes: usize,
        payload_bytes: u64,
        limits: &Http2Limits,
    ) -> Result<(), ConnectionError> {
        self.overhead_bytes += bytes as u64;
        if self.overhead_bytes > limits.overhead_bytes + 8 * payload_bytes {
            return Err(calm("too many bytes are neither heads nor bodies"));
        }
        Ok(())
    }
}

const fn calm(reason: &'static str) -> ConnectionError {
    ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_counted_is_forgotten_in_time() {
        let limits = Http2Limits { early_resets: 3, ..Http2Limits::default() };
        let (mut guards, mut now) = (Guards::default(), Time::ZERO);
        let mut count = |now| guards.count(Counted::EarlyReset, &limits, now);
        for _ in 0..3 {
            assert_eq!(count(now), Ok(()));
        }
        assert!(count(now).is_err_and(|error| error.code == ErrorCode::ENHANCE_YOUR_CALM));
        now = now + Duration::from_secs(2);
        assert_eq!(count(now), Ok(()), "two are forgotten, and one of them was too many");
        assert!(count(now).is_err());
    }

    #[test]
    fn overhead_grows_with_the_bodies() {
        let limits = Http2Limits { overhead_bytes: 100, ..Http2Limits::default() };
        let mut guards = Guards::default();
        assert_eq!(guards.count_overhead(100, 0, &limits), Ok(()));
        assert!(guards.count_overhead(9, 1, &limits).is_err());
        assert_eq!(guards.count_overhead(0, 2, &limits), Ok(()));
    }
}
