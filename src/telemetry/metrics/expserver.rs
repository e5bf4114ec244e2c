//! The metrics as the JSON object of eXpServer, which its page polls.
//!
//! Each key has the type and the meaning that eXpServer gives it, with two differences: the mean and the
//! longest response time are those of all workers together, and a request for a file is not counted as
//! a forwarded one, too. A figure that the kernel does not tell is 0.

use std::time::{Duration, Instant};

use serde_json::json;

use super::histogram::Distribution;
use super::{Metrics, TimeoutKind, locked, proc};

/// The media type of [`Metrics::api_json`].
pub const API_CONTENT_TYPE: &str = "application/json";

/// The shortest time over which the use of processors is measured. The page asks once a second; a second
/// reader must not shorten it.
const CPU_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Close reasons of connections that ended because their peer took too long.
const TIMED_OUT: [&str; 4] = ["idle_timeout", "client_too_slow", "stalled", "upstream_timeout"];

/// Close reasons of connections that ended in order, or because the server wanted it. What is neither
/// here nor in [`TIMED_OUT`] is an error.
const ORDERLY: [&str; 5] = ["done", "upstream_stopped_reading", "denied", "client_left", "drain_timeout"];

/// What the routes have counted that the configuration no longer has.
#[derive(Clone, Debug, Default)]
pub(super) struct Retired {
    begun: Begun,
    duration: Distribution,
    longest_nanos: u64,
}

/// Requests by what responds to them.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    files: u64,
    proxy: u64,
    redirect: u64,
}

impl Begun {
    fn add(&mut self, handler: &str, requests: u64) {
        match handler {
            "files" => self.files += requests,
            "proxy" => self.proxy += requests,
            "redirect" => self.redirect += requests,
            _ => {}
        }
    }
}

impl Retired {
    /// Adds the sums of a series.
    pub(super) fn add(&mut self, handler: &str, sums: &super::routes::RouteSums) {
        self.begun.add(handler, sums.begun());
        self.duration.add(&sums.duration);
        self.longest_nanos = self.longest_nanos.max(sums.longest_nanos);
    }
}

/// The use of processors between two moments.
#[derive(Debug)]
pub(super) struct CpuMeter {
    previous: CpuSample,
    latest: CpuSample,
}

#[derive(Clone, Debug)]
struct CpuSample {
    at: Instant,
    /// Processor time of each worker, in seconds.
    workers: Vec<f64>,
    /// Of the system, in ticks: in use, and all.
    system: (u64, u64),
}

impl CpuMeter {
    /// A meter that measures from now on; the system from its start, until it was asked twice.
    pub(super) fn new() -> Self {
        let first = CpuSample { at: Instant::now(), workers: Vec::new(), system: (0, 0) };
        Self { previous: first.clone(), latest: first }
    }

    /// The use of the system, and of each worker's processor, in percent, since an earlier call.
    fn measure(&mut self, now: CpuSample) -> (f64, Vec<f64>) {
        if now.at.duration_since(self.latest.at) >= CPU_INTERVAL_MIN {
            self.previous = std::mem::replace(&mut self.latest, now.clone());
        }
        let seconds = now.at.duration_since(self.previous.at).as_secs_f64();
        let before = self.previous.workers.iter().copied().chain(std::iter::repeat(0.0));
        let workers = now.workers.iter().zip(before).map(|(now, before)| percent(now - before, seconds)).collect();
        let (used, all) = (self.previous.system.0, self.previous.system.1);
        let (used, all) = (now.system.0.saturating_sub(used), now.system.1.saturating_sub(all));
        (percent(used as f64, all as f64), workers)
    }
}

/// A part of a whole in percent, to two digits.
fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part.max(0.0) / whole * 1e4).round() / 1e2 } else { 0.0 }
}

impl Metrics {
    /// The JSON object of eXpServer.
    pub fn api_json(&self) -> String {
        let now = CpuSample {
            at: Instant::now(),
            workers: self.worker_cpu_seconds().into_iter().map(Option::unwrap_or_default).collect(),
            system: proc::system_ticks().unwrap_or_default(),
        };
        let (system_cpu, workers_cpu) = locked(&self.cpu).measure(now);
        let (ram_used, ram_all) = proc::system_memory().unwrap_or_default();
        let process = locked(&self.process).clone();
        let mut sums = locked(&self.retired).clone();
        for series in locked(&self.routes).values() {
            sums.add(series.labels.handler, &series.sums());
        }
        let mut unmatched = super::routes::RouteSums::default();
        self.workers.iter().for_each(|cells| unmatched.add(&cells.unmatched));
        sums.add("", &unmatched);
        let Retired { begun, duration, longest_nanos } = sums;
        let timeouts = self.ended(|reason| TIMED_OUT.contains(&reason));
        let handshakes_late = self.sum(|cells| &cells.timeouts[TimeoutKind::Handshake as usize]);
        let ended_in_order = self.ended(|reason| ORDERLY.contains(&reason));
        let ended = self.ended(|_| true);
        let responses: Vec<u64> = (0..5).map(|class| self.sum(|cells| &cells.responses[class])).collect();
        let refused = self.sum(|cells| &cells.refused);
        let exchanges = self.sum(|cells| &cells.exchanges);
        json!({
            "server_name": process.server_name,
            "pid": std::process::id(),
            "workers": self.workers.len(),
            "uptime_msec": process.since.elapsed().as_millis() as u64,
            "sys_cpu_usage_percent": system_cpu,
            "sys_ram_usage_bytes": ram_used,
            "sys_ram_total_bytes": ram_all,
            "workers_cpu_usage_percent": workers_cpu,
            "workers_ram_usage_bytes": proc::resident_bytes().unwrap_or(0),
            "conn_current": self.connections(),
            "conn_accepted": self.sum(|cells| &cells.connections_accepted),
            "conn_error": ended.saturating_sub(ended_in_order + timeouts + handshakes_late),
            "conn_timeout": timeouts + handshakes_late,
            "conn_accepted_error": refused,
            "req_current": u64::try_from(exchanges.cast_signed()).unwrap_or(0),
            "req_total": responses.iter().sum::<u64>() + exchanges,
            "req_file_serve": begun.files,
            "req_reverse_proxy": begun.proxy,
            "req_redirect": begun.redirect,
            "res_avg_res_time_msec": (duration.nanos / 1_000_000).checked_div(duration.count()).unwrap_or(0),
            "res_peak_res_time_msec": longest_nanos / 1_000_000,
            "res_code_2xx": responses[1],
            "res_code_3xx": responses[2],
            "res_code_4xx": responses[3],
            "res_code_5xx": responses[4],
            "traffic_total_send_bytes": self.sum(|cells| &cells.sent_bytes),
            "traffic_total_recv_bytes": self.sum(|cells| &cells.received_bytes),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests;
