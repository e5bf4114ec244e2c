//! `xps bench`: asks a server as fast as it can, or at a fixed rate, and reports what it measured.

mod ab;
mod progress;
mod target;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use self::ab::Rivals;
use self::progress::ProgressLine;
use super::Invocation;
use super::args::{BenchOptions, CompareOptions, ExpectOptions, OutputOptions, VerdictOptions};
use super::failure::Failure;
use super::serve::config_of;
use super::top::{Moment, metrics};
use crate::config::{ServerConfig, UpstreamAddress};
use crate::core::StartError;
use crate::driver::probe;
use crate::driver::signals::StopSignals;
use crate::load::find_max::{self, Search};
use crate::load::processor::{ProcessorTime, resident_bytes_max};
use crate::load::report::compare::{self, Side, regressions};
use crate::load::report::html::{self, Named};
use crate::load::report::slo::Slo;
use crate::load::report::{export, table};
use crate::load::{Circumstances, Expect, Plan, Report, RingUse, Run, RunError, ServerUse, Stop};
use crate::telemetry;

/// How often it is looked at what the threads have counted.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Measures, and prints the report.
pub fn run(options: BenchOptions, invocation: &Invocation) -> Result<(), Failure> {
    let setup = telemetry::LogSetup::for_clients(options.log.log_level, invocation.log_format);
    let _log = telemetry::start(setup)?;
    let targets = target::read(&options)?;
    let plan = plan_of(&options, &targets, invocation)?;
    let baseline = options.verdict.baseline.as_deref().map(read_report).transpose()?;
    if options.output.server_metrics.is_some() && options.output.pid.is_none() && options.contest.ab.is_none() {
        return Err(Failure::Usage("--server-metrics needs --pid, the process of the same server".to_owned()));
    }
    let OutputOptions { pid, server_metrics, .. } = &options.output;
    let urls = targets.into_iter().map(|target| target.url).collect();
    let bench = Bench { urls, pid: *pid, metrics: server_metrics.clone(), is_stopped: Cell::new(false) };
    if let Some(ab) = &options.contest.ab {
        let rivals = Rivals::parse(ab, &options.contest.command).map_err(Failure::Usage)?;
        return contest(&options, &plan, &bench, &rivals);
    }
    let report = match &options.verdict.slo {
        Some(slo) if options.verdict.find_max => bench.find_max(plan, slo)?,
        _ => bench.measure(&plan, bench.pid)?,
    };
    write_files(&report, &options.output)?;
    let text = if options.output.json { export::json(&report) } else { table::text(&report) };
    super::print(text.as_bytes())?;
    if report.requests == 0 {
        return Err(Failure::NothingMeasured);
    }
    judge(&report, baseline.as_ref(), &options.verdict)
}

/// Measures two servers in turns, and prints what differs.
fn contest(options: &BenchOptions, plan: &Plan, bench: &Bench, rivals: &Rivals) -> Result<(), Failure> {
    let Some(origin) = plan.origins.first() else { return Err(Failure::NothingMeasured) };
    let contest = rivals.compete(&origin.address, options.contest.rounds, |pid| {
        let report = bench.measure(plan, Some(pid))?;
        // One that was ended early is no half of a pair.
        Ok((!bench.is_stopped.get()).then_some(report))
    })?;
    let text = if options.output.json { format!("{:#}\n", contest.json()) } else { contest.text() };
    super::print(text.as_bytes())
}

/// Whether everything holds that was asked for.
fn judge(report: &Report, baseline: Option<&Report>, wanted: &VerdictOptions) -> Result<(), Failure> {
    let mut wrong: Vec<String> = Vec::new();
    if let Some(slo) = &wanted.slo {
        wrong.extend(slo.evaluate(report).iter().map(|missed| format!("missed {missed}")));
    }
    if let Some(baseline) = baseline {
        let found = regressions(baseline, report, wanted.max_regression, wanted.any_environment);
        let found = found.map_err(|refused| Failure::Usage(refused.to_string()))?;
        wrong.extend(found.iter().map(|regression| format!("regressed {regression}")));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::NotMet(wrong.join("\n"))) }
}

fn write_files(report: &Report, output: &OutputOptions) -> Result<(), Failure> {
    let times = report.response_time.as_ref().or(report.service_time.as_ref());
    let name = report.targets.first().map_or("report", String::as_str);
    let page = output.html.as_ref().map(|_| html::page(&[Named { name, report }]));
    let texts =
        [(&output.csv, Some(export::csv(report))), (&output.hdr, times.map(export::hgrm)), (&output.html, page)];
    for (path, text) in texts {
        if let (Some(path), Some(text)) = (path, text) {
            fs::write(path, text).map_err(|error| Failure::File { path: path.clone(), error })?;
        }
    }
    Ok(())
}

fn read_report(path: &Path) -> Result<Report, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::Config { path: path.to_owned(), error })?;
    export::read(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// `xps compare`: what differs between runs.
pub fn compare(options: &CompareOptions) -> Result<(), Failure> {
    let mut sides = Vec::new();
    for side in &options.sides {
        let reports: Result<Vec<_>, _> = side.split(',').map(|path| read_report(Path::new(path))).collect();
        sides.push((side.as_str(), reports?));
    }
    let sides: Vec<_> = sides.iter().map(|(name, reports)| Side { name, reports: reports.iter().collect() }).collect();
    let comparison = compare::compare(&sides, options.any_environment)
        .map_err(|refused| Failure::Usage(format!("{refused}; --any-environment compares them all the same")))?;
    if let Some(path) = &options.html {
        let named = |(side, report)| Named { name: side, report };
        let all: Vec<_> =
            sides.iter().flat_map(|side| side.reports.iter().map(|report| named((side.name, *report)))).collect();
        fs::write(path, html::page(&all)).map_err(|error| Failure::File { path: path.clone(), error })?;
    }
    super::print(compare::text(&comparison).as_bytes())
}

/// What is to be done.
fn plan_of(options: &BenchOptions, targets: &[target::Target], invocation: &Invocation) -> Result<Plan, Failure> {
    let ServerConfig { backend, uring_off, limits, .. } = config_of(&[&options.backend]);
    invocation.backend.set(backend);
    let load = &options.load;
    // More connections than requests would have nothing to do.
    let requests = load.requests.and_then(|requests| u32::try_from(requests).ok()).unwrap_or(u32::MAX);
    let connections = load.connections.min(requests);
    let threads = load.threads.min(connections);
    let selection = probe::choose(backend, uring_off, threads as usize).map_err(StartError::from)?;
    let ExpectOptions { expect_status, expect_length, expect_sha256, expect_same } = &options.expect;
    let expect = Expect {
        statuses: expect_status.clone(),
        length: *expect_length,
        sha256: *expect_sha256,
        is_same: *expect_same,
    };
    Ok(Plan {
        origins: target::origins(targets, options)?,
        connections,
        idle: load.idle,
        slow: load.slow,
        pipeline: load.pipeline as usize,
        streams: load.streams as usize,
        requests_per_connection: if load.no_keepalive { Some(1) } else { load.requests_per_connection },
        stop: load.requests.map_or(Stop::After(load.duration.0), Stop::Requests),
        warmup: load.warmup.0,
        rate: load.rate,
        timeout: load.timeout.0,
        expect,
        threads,
        selection,
        uring_off,
        pool: limits.pool,
    })
}

/// What was used up to a moment.
#[derive(Clone, Copy)]
struct Meter {
    client: ProcessorTime,
    server: Option<ProcessorTime>,
    ring: Option<RingUse>,
}

/// What the rings of an xps server have done so far.
fn ring_use(server: &UpstreamAddress) -> Result<RingUse, Failure> {
    let count = |moment: &Moment, name: &str| moment.sum(name, &[]) as u64;
    let moment = Moment::parse(&metrics(server)?, Instant::now());
    Ok(RingUse {
        enters: count(&moment, "xps_ring_enters_total"),
        submissions: count(&moment, "xps_ring_submissions_total"),
        completions: count(&moment, "xps_ring_completions_total"),
    })
}

/// What is measured, and of whom.
struct Bench {
    urls: Vec<String>,
    /// The server's process.
    pid: Option<u32>,
    /// Where an xps server tells its metrics.
    metrics: Option<UpstreamAddress>,
    /// A stop signal has come: no further run begins.
    is_stopped: Cell<bool>,
}

impl Bench {
    /// What was used so far.
    fn read_meter(&self, pid: Option<u32>) -> Result<Meter, Failure> {
        let client = ProcessorTime::of(std::process::id()).unwrap_or_default();
        let ring = self.metrics.as_ref().map(ring_use).transpose()?;
        Ok(Meter { client, server: pid.and_then(ProcessorTime::of), ring })
    }

    /// One run. A stop signal ends it early; what was measured until then is reported. `pid`: the server's process.
    fn measure(&self, plan: &Plan, pid: Option<u32>) -> Result<Report, Failure> {
        if let Some(pid) = pid
            && ProcessorTime::of(pid).is_none()
        {
            return Err(Failure::Usage(format!("there is no process {pid}, or its times cannot be read")));
        }
        // For a run that ends before it was seen to begin.
        let mut begun = self.read_meter(pid)?;
        let mut has_begun = false;
        let run = Run::start(plan)?;
        let signals = StopSignals::install(run.waker().clone()).map_err(RunError::Driver)?;
        let mut progress = ProgressLine::new(plan);
        while !run.is_measured() {
            run.wait(PROGRESS_INTERVAL).map_err(RunError::Driver)?;
            if signals.received().is_some() {
                self.is_stopped.set(true);
                run.stop();
            }
            if run.is_measuring() {
                if !std::mem::replace(&mut has_begun, true) {
                    begun = self.read_meter(pid)?;
                }
                progress.show(run.counts());
            }
        }
        let ended = self.read_meter(pid)?;
        progress.clear();
        let outcome = run.join()?;
        let ring = ended.ring.zip(begun.ring).map(|(after, before)| after.since(before));
        let server = match (pid, begun.server, ended.server) {
            (Some(pid), Some(before), Some(after)) => Some(ServerUse {
                pid,
                time: after.since(before),
                resident_bytes_max: resident_bytes_max(pid).unwrap_or_default(),
                ring,
            }),
            _ => None,
        };
        let circumstances = Circumstances {
            targets: self.urls.clone(),
            command: std::env::args().collect(),
            client: ended.client.since(begun.client),
            server,
        };
        Ok(Report::new(plan, &outcome, circumstances))
    }

    /// The run at the highest rate that meets the conditions. Each run has a line on standard error.
    fn find_max(&self, plan: Plan, slo: &Slo) -> Result<Report, Failure> {
        let start = plan.rate.unwrap_or(FIRST_RATE);
        let mut search = Search::new(start, find_max::RUNS_MAX);
        let mut best: Option<Report> = None;
        while let Some(rate) = search.next_rate() {
            let report = self.measure(&Plan { rate: Some(rate), ..plan.clone() }, self.pid)?;
            if self.is_stopped.get() {
                return best.ok_or_else(|| Failure::NotMet(format!("stopped before a rate met {slo}")));
            }
            let missed = slo.evaluate(&report);
            let verdict = missed.first().map_or_else(|| "met".to_owned(), |missed| format!("missed {missed}"));
            super::say(&format!("{rate:.0} requests/s: {verdict}\n"));
            search.on_result(rate, missed.is_empty());
            let is_better = |best: &Report| report.rate >= best.rate;
            if missed.is_empty() && (best.as_ref().is_none_or(is_better) || search.next_rate().is_none()) {
                best = Some(report);
            }
        }
        match (search.outcome(), best) {
            (Some(find_max::Outcome::Found(_) | find_max::Outcome::Unconfirmed(_)), Some(best)) => Ok(best),
            _ => Err(Failure::NotMet(format!("no rate meets {slo}"))),
        }
    }
}

/// The rate at which a search begins, in requests a second, if none is given.
const FIRST_RATE: f64 = 1000.0;
