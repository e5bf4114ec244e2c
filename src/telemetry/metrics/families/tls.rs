//! TLS: handshakes and certificates.

use super::super::text::{Kind, Text};
use super::super::worker::HANDSHAKES;
use super::super::{CertificateExpiry, Metrics, locked};

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let handshakes = metrics.sum(|cells| &cells.handshakes);
    text.family("xps_tls_handshakes", Kind::Gauge, "TLS handshakes of clients in progress.").value(handshakes);
    let help = "TLS handshakes of clients that are complete, by version and whether they resumed a session.";
    let mut complete = text.family("xps_tls_handshakes_completed_total", Kind::Counter, help);
    for (at, (version, resumed)) in HANDSHAKES.into_iter().enumerate() {
        let count = metrics.sum(|cells| &cells.handshakes_complete[at]);
        complete.sample(&[("version", version), ("resumed", resumed)], count);
    }
    let failed = metrics.sum(|cells| &cells.handshakes_failed);
    let help = "TLS handshakes of clients that failed or were not complete in time.";
    text.family("xps_tls_handshakes_failed_total", Kind::Counter, help).value(failed);
    let displaced = metrics.sum(|cells| &cells.handshakes_displaced);
    let help = "TLS handshakes closed as the oldest of too many.";
    text.family("xps_tls_handshakes_displaced_total", Kind::Counter, help).value(displaced);
    let help = "When the certificate expires, in seconds since 1970.";
    let mut expiries = text.family("xps_tls_certificate_expiry_timestamp_seconds", Kind::Gauge, help);
    for CertificateExpiry { certificate, not_after } in locked(&metrics.certificates).iter() {
        expiries.sample(&[("certificate", certificate)], seconds(*not_after));
    }
    let acme = locked(&metrics.acme);
    let help = "Attempts to obtain a certificate by ACME.";
    let mut attempts = text.family("xps_acme_attempts_total", Kind::Counter, help);
    if !acme.attempts.is_empty() {
        attempts.sample(&[("result", "obtained")], acme.obtained);
        attempts.sample(&[("result", "failed")], acme.failed);
    }
    let help = "When the next attempt to obtain or renew the certificate is due, in seconds since 1970.";
    let mut next = text.family("xps_acme_next_attempt_timestamp_seconds", Kind::Gauge, help);
    for (domain, at) in &acme.attempts {
        next.sample(&[("domain", domain)], seconds(*at));
    }
}

/// A time before 1970 is one that has passed.
fn seconds(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}
