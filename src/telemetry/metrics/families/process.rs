//! The process: its build, start, reloads, and what the kernel knows of it.

use super::super::text::{Kind, Text};
use super::super::{Metrics, locked, proc};
use crate::telemetry::lines_lost;

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let facts = locked(&metrics.process).clone();
    let help = "Always 1: version, back-end, and why that is not the preferred one (empty: it is).";
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("backend", facts.backend), ("reason", &facts.reason)];
    text.family("xps_build_info", Kind::Gauge, help).sample(&labels, 1);
    text.family("xps_workers", Kind::Gauge, "Worker threads.").value(metrics.workers.len());
    let help = "Processor time of each worker thread, in seconds.";
    let mut workers = text.family("xps_worker_cpu_seconds_total", Kind::Counter, help);
    for (number, seconds) in metrics.worker_cpu_seconds().into_iter().enumerate() {
        if let Some(seconds) = seconds {
            workers.sample(&[("worker", &number.to_string())], seconds);
        }
    }
    let help = "Reloads of the configuration, those that were refused since something was wrong included.";
    let mut reloads = text.family("xps_reloads_total", Kind::Counter, help);
    reloads.sample(&[("result", "ok")], facts.reloads);
    reloads.sample(&[("result", "refused")], facts.reloads_refused);
    let help = "When the configuration in force was applied, in seconds since 1970.";
    text.family("xps_configuration_timestamp_seconds", Kind::Gauge, help).value(facts.configured);
    let help = "Lines that were lost, by log (server, or all access logs): it could not be written, or its reader was too slow.";
    let mut lost = text.family("xps_log_lines_lost_total", Kind::Counter, help);
    lines_lost().into_iter().for_each(|(log, lines)| lost.sample(&[("log", log)], lines));
    let help = "When the process was started, in seconds since 1970.";
    text.family("process_start_time_seconds", Kind::Gauge, help).value(facts.started);
    let help = "Processor time of the process, in seconds.";
    let mut cpu = text.family("process_cpu_seconds_total", Kind::Counter, help);
    proc::cpu_seconds().into_iter().for_each(|seconds| cpu.value(seconds));
    let help = "Memory of the process that is in use, in bytes.";
    let mut resident = text.family("process_resident_memory_bytes", Kind::Gauge, help);
    proc::resident_bytes().into_iter().for_each(|bytes| resident.value(bytes));
    let mut open = text.family("process_open_fds", Kind::Gauge, "Open descriptors of the process.");
    proc::open_descriptors().into_iter().for_each(|count| open.value(count));
    let help = "Descriptors that the process may have open.";
    let mut most = text.family("process_max_fds", Kind::Gauge, help);
    proc::descriptors_max().into_iter().for_each(|count| most.value(count));
}
