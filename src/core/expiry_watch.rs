//! Warnings of certificates that come to expire while the server runs.
//!
//! A start or a reload warns of what it loads. [`ExpiryWatch`] warns of what happens to those certificates
//! later, once a day each. Time is a parameter; the supervisor asks between its signals.

use std::time::Duration;

use crate::telemetry::metrics::CertificateExpiry;
use crate::tls::Notice;

/// Time between two looks at the clock. 1 h. The clock may be set, and a suspended system's timers stand
/// still, so one long wait would not do.
const LOOK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Minimum time between two warnings of one certificate, in seconds. 24 h.
const WARN_INTERVAL_SECONDS: u64 = 24 * 60 * 60;

/// The certificates of all listeners.
#[derive(Debug, Default)]
pub(super) struct ExpiryWatch(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    certificate: CertificateExpiry,
    /// Time of the last warning, in seconds since 1970.
    warned_at: Option<i64>,
}

impl ExpiryWatch {
    /// Certificates that were loaded at `now`, in seconds since 1970. Of those that expire soon, the load
    /// has warned already.
    pub(super) fn new(certificates: &[CertificateExpiry], now: i64) -> Self {
        let mut watched: Vec<Watched> = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            // Several listeners may have the same file.
            if !watched.iter().any(|other| other.certificate == *certificate) {
                let warned_at = notice(certificate, now).map(|_| now);
                watched.push(Watched { certificate: certificate.clone(), warned_at });
            }
        }
        Self(watched)
    }

    /// What to warn of at `now`, in seconds since 1970.
    pub(super) fn due(&mut self, now: i64) -> Vec<Notice> {
        let mut due = Vec::new();
        for Watched { certificate, warned_at } in &mut self.0 {
            // A clock that was set back must not silence it for longer.
            let is_quiet = warned_at.is_some_and(|warned_at| now.abs_diff(warned_at) < WARN_INTERVAL_SECONDS);
            if !is_quiet && let Some(notice) = notice(certificate, now) {
                *warned_at = Some(now);
                due.push(notice);
            }
        }
        due
    }

    /// Time until [`ExpiryWatch::due`] should be called again. `None`: there is nothing to watch.
    pub(super) const fn wait(&self) -> Option<Duration> {
        if self.0.is_empty() { None } else { Some(LOOK_INTERVAL) }
    }
}

fn notice(certificate: &CertificateExpiry, now: i64) -> Option<Notice> {
    Notice::of_expiry(&certificate.certificate, certificate.not_after, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60;
    const DAY: i64 = 24 * HOUR;
    /// 2026-11-29, 00:00 UTC.
    const LOADED: i64 = 1_795_910_400;

    fn watch(days_left: &[i64]) -> ExpiryWatch {
        let certificate =
            |days: &i64| CertificateExpiry { certificate: format!("{days}.pem"), not_after: LOADED + days * DAY };
        ExpiryWatch::new(&days_left.iter().map(certificate).collect::<Vec<_>>(), LOADED)
    }

    /// The warnings of some days, with the hours after the load at which they came, looking every hour.
    fn warnings(watch: &mut ExpiryWatch, hours: std::ops::Range<i64>) -> Vec<(i64, String)> {
        let told = |hour| watch.due(LOADED + hour * HOUR).into_iter().map(move |notice| (hour, notice.to_string()));
        hours.flat_map(told).collect()
    }

    #[test]
    fn a_certificate_is_warned_of_once_a_day_from_14_days_before_its_end_on() {
        let mut watch = watch(&[16, 90, 16]);
        assert_eq!(warnings(&mut watch, 0..49), []);
        let days = |days| format!("the certificate 16.pem expires on 2026-12-15, in {days} days");
        // At 48 hours it is 14 days exactly.
        assert_eq!(warnings(&mut watch, 49..121), [(49, days(13)), (73, days(12)), (97, days(11))]);
        let ended = "the certificate 16.pem expired on 2026-12-15: clients refuse it".to_owned();
        assert_eq!(warnings(&mut watch, 16 * 24 + 1..16 * 24 + 20), [(16 * 24 + 1, ended)]);
    }

    #[test]
    fn what_was_warned_of_at_the_load_is_warned_of_again_a_day_later() {
        let hours: Vec<i64> = warnings(&mut watch(&[3]), 0..50).into_iter().map(|(hour, _)| hour).collect();
        assert_eq!(hours, [24, 48]);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nothing() {
        let mut watch = watch(&[20]);
        assert_eq!(watch.due(LOADED + 19 * DAY).len(), 1);
        assert_eq!(watch.due(LOADED + 10 * DAY).len(), 1);
        assert_eq!(watch.due(LOADED + 10 * DAY + HOUR).len(), 0);
    }

    #[test]
    fn without_certificates_nothing_is_waited_for() {
        assert_eq!(ExpiryWatch::default().wait(), None);
        assert_eq!(watch(&[90]).wait(), Some(LOOK_INTERVAL));
    }
}
