//! Upstreams: their connections and their health.

use super::super::Metrics;
use super::super::text::{Kind, Text};

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let all = metrics.sum(|cells| &cells.upstream_connections);
    let idle = metrics.sum(|cells| &cells.upstream_connections_idle);
    let mut connections = text.family("xps_upstream_connections", Kind::Gauge, "Connections to upstreams.");
    connections.sample(&[("state", "used")], all.saturating_sub(idle));
    connections.sample(&[("state", "idle")], idle);
    let help = "Upstreams with health checks, each once: workers share what checks find.";
    let mut states = text.family("xps_upstreams", Kind::Gauge, help);
    states.sample(&[("state", "up")], metrics.sum(|cells| &cells.upstreams_up));
    states.sample(&[("state", "down")], metrics.sum(|cells| &cells.upstreams_down));
    let help = "Health checks of upstreams. One worker makes those of an upstream.";
    let mut checks = text.family("xps_health_checks_total", Kind::Counter, help);
    checks.sample(&[("result", "passed")], metrics.sum(|cells| &cells.checks_passed));
    checks.sample(&[("result", "failed")], metrics.sum(|cells| &cells.checks_failed));
}
