//! Makes the [`Report`] of a run from what was counted and what was paid.

use std::collections::BTreeMap;

use super::plan::Plan;
use super::processor::{ProcessorTime, share_one_processor};
use super::report::{ClientCost, Distribution, Manifest, Pacing, REPORT_VERSION, Report, RingCost, ServerCost};
use super::run::Outcome;
use super::tally::{Tally, all_classes};

/// What a run was, besides its plan and what came of it.
#[derive(Debug)]
pub struct Circumstances {
    /// The URLs as they were given.
    pub targets: Vec<String>,
    /// The command line.
    pub command: Vec<String>,
    /// What the load generator used while it measured.
    pub client: ProcessorTime,
    /// What the server used meanwhile.
    pub server: Option<ServerUse>,
}

/// What a server used while it was measured.
#[derive(Clone, Copy, Debug)]
pub struct ServerUse {
    /// Its process.
    pub pid: u32,
    /// Its processor time.
    pub time: ProcessorTime,
    /// Largest resident memory, in bytes.
    pub resident_bytes_max: u64,
    /// What its rings did, if it is xps and tells.
    pub ring: Option<RingUse>,
}

/// What a server's rings did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingUse {
    /// Calls of `io_uring_enter` or `epoll_wait`.
    pub enters: u64,
    /// Operations submitted.
    pub submissions: u64,
    /// Completions.
    pub completions: u64,
}

impl RingUse {
    /// What was done since.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            enters: self.enters.saturating_sub(earlier.enters),
            submissions: self.submissions.saturating_sub(earlier.submissions),
            completions: self.completions.saturating_sub(earlier.completions),
        }
    }
}

/// From this share of its time on, the busiest thread of the load generator counts as the bottleneck.
const BUSY_SHARE: f64 = 0.9;

/// A schedule lags if the 99th percentile of its delays is longer than this, in milliseconds.
const LAG_MILLIS: f64 = 1.0;

impl Report {
    /// The report of a run.
    pub fn new(plan: &Plan, outcome: &Outcome, circumstances: Circumstances) -> Self {
        let Outcome { tally, measured, busiest, protocols } = outcome;
        let Circumstances { targets, command, client, server } = circumstances;
        let seconds = measured.as_secs_f64();
        let is_open_loop = plan.rate.is_some();
        let depth = if protocols.contains("HTTP/2") { plan.streams } else { plan.pipeline };
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let busiest_thread_share = if seconds > 0.0 { busiest.as_secs_f64() / seconds } else { 0.0 };
        let mut report = Self {
            version: REPORT_VERSION,
            targets,
            protocol: protocols.iter().copied().collect::<Vec<_>>().join(", "),
            connections: plan.connections,
            requests_per_connection_max: u32::try_from(depth).unwrap_or(u32::MAX),
            threads: plan.threads,
            rate: plan.rate,
            seconds,
            requests: tally.requests,
            errors: tally.errors,
            requests_per_second: per_second(tally.requests),
            received_bytes: tally.received_bytes,
            sent_bytes: tally.sent_bytes,
            statuses: tally.statuses.clone(),
            service_time: Distribution::of(&all_classes(&tally.service)),
            response_time: is_open_loop.then(|| Distribution::of(&all_classes(&tally.response))).flatten(),
            by_status_class: by_class(tally, is_open_loop),
            connect_time: Distribution::of(&tally.connect_time),
            connects: tally.connect_time.len(),
            pacing: Distribution::of(&tally.pacing).map(|error| Pacing {
                error,
                error_on_processor: Distribution::of(&tally.pacing_on_processor),
                unsent: tally.unsent,
            }),
            series: tally.intervals(seconds),
            server: server.map(|server| server.cost(tally)),
            client: ClientCost {
                user_seconds: client.user.as_secs_f64(),
                system_seconds: client.system.as_secs_f64(),
                busiest_thread_share,
            },
            warnings: Vec::new(),
            manifest: Manifest::of(plan, command),
        };
        report.warnings = report.doubts();
        report
    }

    /// Why the figures may be wrong.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let share = self.client.busiest_thread_share;
        // An open loop is busy with waiting for exact moments; whether it is late shows in its pacing.
        if share > BUSY_SHARE && self.pacing.is_none() {
            doubts.push(format!(
                "the load generator was the bottleneck: a thread ran {:.0} % of the time; use more threads (-t) or another host",
                share * 100.0
            ));
        }
        if self.server.as_ref().is_some_and(|server| share_one_processor(server.pid, std::process::id())) {
            doubts.push("the server and the load generator share one processor".to_owned());
        }
        if let Some(pacing) = &self.pacing {
            if let Some(lag) = pacing.error.percentile(99.0).filter(|lag| *lag > LAG_MILLIS) {
                doubts.push(format!(
                    "the schedule lagged: 1 % of the requests were decided on more than {lag:.1} ms late"
                ));
            }
            if pacing.unsent > 0 {
                doubts.push(format!(
                    "{} requests were due and never sent: the server is slower than the rate, or needs more connections (-c)",
                    pacing.unsent
                ));
            }
        }
        if self.requests == 0 {
            doubts.push("no request got a correct response".to_owned());
        }
        doubts
    }
}

impl ServerUse {
    fn cost(self, tally: &Tally) -> ServerCost {
        let Self { pid, time: ProcessorTime { user, system }, resident_bytes_max, ring } = self;
        // What failed has cost something, too.
        let requests = (tally.requests + tally.errors.total()).max(1) as f64;
        ServerCost {
            pid,
            user_seconds: user.as_secs_f64(),
            system_seconds: system.as_secs_f64(),
            microseconds_per_request: (user + system).as_secs_f64() * 1e6 / requests,
            resident_bytes_max,
            ring: ring.map(|ring| RingCost {
                enters_per_request: ring.enters as f64 / requests,
                submissions_per_request: ring.submissions as f64 / requests,
                completions_per_request: ring.completions as f64 / requests,
            }),
        }
    }
}

fn by_class(tally: &Tally, is_open_loop: bool) -> BTreeMap<String, Distribution> {
    let classes = if is_open_loop { &tally.response } else { &tally.service };
    let named = classes.iter().enumerate().filter_map(|(at, class)| {
        let distribution = Distribution::of(class.as_ref()?)?;
        Some((format!("{}xx", at + 1), distribution))
    });
    named.collect()
}
