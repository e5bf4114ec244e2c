//! The families of the metrics, by subject. The order of the text is that of [`write`].

mod connections;
mod files;
mod requests;
mod routes;
mod tls;
mod upstreams;

use super::Metrics;
use super::text::{Kind, Text};

/// Writes all families.
pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    text.family("xps_workers", Kind::Gauge, "Worker threads.").value(metrics.workers.len());
    connections::write(metrics, text);
    requests::write(metrics, text);
    routes::write(metrics, text);
    upstreams::write(metrics, text);
    files::write(metrics, text);
    tls::write(metrics, text);
}
