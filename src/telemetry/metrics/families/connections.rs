//! Connections of clients.

use super::super::Metrics;
use super::super::text::{Kind, Text};

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let accepted = metrics.sum(|cells| &cells.connections_accepted);
    text.family("xps_connections_accepted_total", Kind::Counter, "Accepted connections.").value(accepted);
    text.family("xps_connections", Kind::Gauge, "Open client connections.").value(metrics.connections());
    let operations = metrics.sum(|cells| &cells.operations);
    text.family("xps_operations", Kind::Gauge, "Operations in flight in the kernel.").value(operations);
}
