//! The drivers: what they ask of the kernel, and what the kernel cannot give.

use super::super::Metrics;
use super::super::text::{Kind, Text};
use super::super::worker::DRIVER_COUNTERS;

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    for (at, (name, help, _)) in DRIVER_COUNTERS.into_iter().enumerate() {
        text.family(name, Kind::Counter, help).value(metrics.sum(|cells| &cells.driver[at]));
    }
}
