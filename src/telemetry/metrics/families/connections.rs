//! Connections of clients.

use std::sync::Arc;

use super::super::listeners::{CLOSE_REASONS, RefusalKind};
use super::super::text::{Kind, Text};
use super::super::{Metrics, TimeoutKind, locked};

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let accepted = metrics.sum(|cells| &cells.connections_accepted);
    text.family("xps_connections_accepted_total", Kind::Counter, "Accepted connections.").value(accepted);
    text.family("xps_connections", Kind::Gauge, "Open client connections.").value(metrics.connections());
    let received = metrics.sum(|cells| &cells.received_bytes);
    let help = "Bytes received from clients; over TLS, bytes of plaintext.";
    text.family("xps_received_bytes_total", Kind::Counter, help).value(received);
    let sent = metrics.sum(|cells| &cells.sent_bytes);
    let help = "Bytes sent to clients; over TLS, bytes of plaintext.";
    text.family("xps_sent_bytes_total", Kind::Counter, help).value(sent);
    let help = "What HTTP clients have not done in time: complete a TLS handshake, begin the first or another request, \
        complete a head, send a body (upload: one that is forwarded), read a response.";
    let mut timeouts = text.family("xps_client_timeouts_total", Kind::Counter, help);
    for kind in TimeoutKind::ALL {
        timeouts.sample(&[("kind", kind.name())], metrics.sum(|cells| &cells.timeouts[kind as usize]));
    }
    let operations = metrics.sum(|cells| &cells.operations);
    text.family("xps_operations", Kind::Gauge, "Operations in flight in the kernel.").value(operations);
    write_listeners(metrics, text);
}

fn write_listeners(metrics: &Metrics, text: &mut Text) {
    let listeners: Vec<_> = locked(&metrics.listeners).values().map(Arc::clone).collect();
    let all: Vec<_> = listeners.iter().map(|series| (("listener", series.address.as_str()), series.sums())).collect();
    let help = "Accepted connections, by listener.";
    let mut accepted = text.family("xps_listener_connections_accepted_total", Kind::Counter, help);
    all.iter().for_each(|(listener, sums)| accepted.sample(&[*listener], sums.accepted));
    let mut open = text.family("xps_listener_connections", Kind::Gauge, "Open connections, by listener.");
    all.iter().for_each(|(listener, sums)| open.sample(&[*listener], sums.open()));
    let help = "Connections that were refused: over a limit of connections, by the access list, or over the limit per address.";
    let mut refused = text.family("xps_listener_connections_refused_total", Kind::Counter, help);
    for (listener, sums) in &all {
        for (kind, count) in RefusalKind::ALL.into_iter().zip(&sums.refused) {
            refused.sample(&[*listener, ("reason", kind.name())], count);
        }
    }
    let help = "Connections that have ended, by the close_reason that the log gives. Reasons without a connection are left out.";
    let mut ended = text.family("xps_listener_connections_ended_total", Kind::Counter, help);
    for (listener, sums) in &all {
        for (reason, count) in CLOSE_REASONS.into_iter().zip(&sums.ended) {
            if *count > 0 || reason == CLOSE_REASONS[0] {
                ended.sample(&[*listener, ("reason", reason)], count);
            }
        }
    }
    let help = "Bytes received on connections that have ended, by listener.";
    let mut received = text.family("xps_listener_received_bytes_total", Kind::Counter, help);
    all.iter().for_each(|(listener, sums)| received.sample(&[*listener], sums.received_bytes));
    let help = "Bytes that reached the clients of connections that have ended, by listener.";
    let mut sent = text.family("xps_listener_sent_bytes_total", Kind::Counter, help);
    all.iter().for_each(|(listener, sums)| sent.sample(&[*listener], sums.sent_bytes));
}
