//! The families of the metrics, by subject. The order of the text is that of [`write`].

mod connections;
mod endpoints;
mod files;
mod process;
mod requests;
mod ring;
mod routes;
mod tls;
mod upstreams;

use super::Metrics;
use super::text::Text;

/// Writes all families.
pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    process::write(metrics, text);
    connections::write(metrics, text);
    requests::write(metrics, text);
    routes::write(metrics, text);
    upstreams::write(metrics, text);
    endpoints::write(metrics, text);
    files::write(metrics, text);
    tls::write(metrics, text);
    ring::write(metrics, text);
}
