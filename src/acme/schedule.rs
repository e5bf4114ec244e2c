//! When a certificate is obtained: at once if there is none, at two thirds of its lifetime if there is
//! one, and later after each failure.
//!
//! Dates of certificates are those of the wall clock, which may jump; what has just been done is
//! remembered by the monotonic clock. A jump can therefore make a renewal early or late, but never
//! repeat it at once.

use std::time::Duration;

/// After the first failure. With twice the time after each further one there are five attempts in the
/// first hour, which is what Let's Encrypt allows for a host name.
const BACKOFF_MIN: Duration = Duration::from_secs(2 * 60);

/// The longest time between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// When to renew a certificate that is valid between these times, in seconds since 1970: at two thirds of
/// its lifetime, and up to a sixtieth of it later. `jitter`, from 0 to 1, spreads the certificates that
/// were obtained together.
pub(super) fn renew_at(not_before: i64, not_after: i64, jitter: f64) -> i64 {
    let lifetime = not_after.saturating_sub(not_before).max(0);
    let late = (lifetime / 60) as f64 * jitter.clamp(0.0, 1.0);
    not_before.saturating_add(lifetime / 3 * 2).saturating_add(late as i64)
}

/// How long to wait after this number of failures in a row, and at least `asked`, which the authority
/// has asked for. `jitter`, from 0 to 1, makes it up to a fifth longer.
pub(super) fn backoff(failures: u32, jitter: f64, asked: Option<Duration>) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let wait = wait.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0);
    wait.max(asked.unwrap_or_default().min(ASKED_MAX))
}

/// What an authority may ask for at most. Let's Encrypt counts over a week.
const ASKED_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The least time between obtaining a certificate and renewing it, whatever the wall clock says: a third
/// of its lifetime.
pub(super) fn rest_after(not_before: i64, not_after: i64) -> Duration {
    let lifetime = u64::try_from(not_after.saturating_sub(not_before)).unwrap_or(0);
    Duration::from_secs(lifetime / 3).max(BACKOFF_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn ninety_days_are_renewed_after_sixty_and_a_little() {
        assert_eq!(renew_at(0, 90 * DAY, 0.0), 60 * DAY);
        assert_eq!(renew_at(0, 90 * DAY, 1.0), 60 * DAY + 90 * DAY / 60);
        assert_eq!(renew_at(0, 90 * DAY, 7.0), renew_at(0, 90 * DAY, 1.0));
        // Six days, and one that was never valid.
        assert_eq!(renew_at(DAY, 7 * DAY, 0.0), 5 * DAY);
        assert_eq!(renew_at(DAY, 0, 1.0), DAY);
    }

    #[test]
    fn failures_double_the_wait_up_to_a_cap() {
        let minutes = |failures| backoff(failures, 0.0, None).as_secs() / 60;
        assert_eq!([1, 2, 3, 4, 5].map(minutes), [2, 4, 8, 16, 32]);
        assert_eq!([8, 9, 100, u32::MAX].map(minutes), [256, 360, 360, 360]);
        let in_first_hour = (1..10).scan(0, |at, failures| {
            *at += minutes(failures);
            Some(*at)
        });
        assert!(in_first_hour.filter(|at| *at < 60).count() < 5, "with the first one");
        assert_eq!(backoff(1, 1.0, None), BACKOFF_MIN.mul_f64(1.2));
    }

    #[test]
    fn what_the_authority_asks_for_is_obeyed_within_reason() {
        let hour = Duration::from_secs(3600);
        assert_eq!(backoff(1, 0.0, Some(hour)), hour);
        assert_eq!(backoff(1, 0.0, Some(Duration::from_secs(1))), BACKOFF_MIN);
        assert_eq!(backoff(1, 0.0, Some(Duration::MAX)), ASKED_MAX);
    }

    /// A clock that is years ahead makes each certificate look expired.
    #[test]
    fn a_certificate_rests_whatever_the_clock_says() {
        assert_eq!(rest_after(0, 90 * DAY), Duration::from_secs(30 * 24 * 60 * 60));
        assert_eq!(rest_after(0, 1), BACKOFF_MIN);
        assert_eq!(rest_after(1, 0), BACKOFF_MIN);
    }
}
